//! What a run that was killed leaves, and how the next one knows it.
//!
//! | name | is there |
//! | --- | --- |
//! | `CONFIG.unfinished` | from before the first change until the last, which renames it to CONFIG; locked while the run lasts |
//! | `DATA/unfinished`, a link to CONFIG | from before anything else in DATA until after the last change |
//!
//! DATA was empty before the link was made. So where both are there and name
//! each other, all that lies in DATA is of a run that did not end, and nobody
//! has used it yet: the next one removes it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::fs::OFlags;

use super::key;

/// The link's name.
const MARK: &str = "unfinished";

/// A run that has begun, and whose configuration nobody finds yet.
pub(super) struct Unfinished {
    pub(super) path: PathBuf,
    file: File,
}

/// Whether anything lies in `data`, which may hold the configuration too.
pub(super) fn is_used(config: &Path, data: &Path) -> bool {
    fs::read_dir(data).is_ok_and(|entries| {
        let mut others = entries.flatten().filter(|one| one.path() != beside(config));
        others.next().is_some()
    })
}

/// Whether what lies in `data` is of a run for the same configuration that was
/// killed.
pub(super) fn is_left(config: &Path, data: &Path) -> bool {
    let text = fs::read_to_string(beside(config)).unwrap_or_default();
    let line = key("data", &data.display().to_string());
    text.lines().any(|said| said == line)
        && fs::read_link(data.join(MARK)).is_ok_and(|named| named == config)
}

/// Marks `data`, which is empty.
///
/// # Errors
/// When that cannot be written.
pub(super) fn mark(config: &Path, data: &Path) -> anyhow::Result<PathBuf> {
    let path = data.join(MARK);
    symlink(config, &path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// What lies in `data` may be used. A mark that stays does no harm without the
/// other name.
pub(super) fn unmark(data: &Path) {
    let _ = fs::remove_file(data.join(MARK));
}

impl Unfinished {
    /// Begins, and removes what a run that was killed has left in `data`.
    ///
    /// # Errors
    /// When another run is at work, or the disk refuses.
    pub(super) fn begin(config: &Path, data: &Path) -> anyhow::Result<Self> {
        let path = beside(config);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        // One that ended meanwhile has given the file its other name.
        let is_ours = file.try_lock().is_ok()
            && fs::symlink_metadata(&path)
                .is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino()));
        ensure!(
            is_ours,
            "another run is making {}; wait for its end",
            config.display()
        );
        if is_left(config, data) {
            clear(config, data).with_context(|| format!("cannot empty {}", data.display()))?;
        }
        Ok(Self { path, file })
    }

    /// Keeps the configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| sync_folder(&self.path));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Everything is made: the configuration gets its name.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(super) fn finish(&self, config: &Path) -> anyhow::Result<()> {
        fs::rename(&self.path, config)
            .and_then(|()| sync_folder(config))
            .with_context(|| format!("cannot write {}", config.display()))
    }
}

/// Removes what lies in a folder, the mark last.
fn clear(config: &Path, data: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name() == MARK || entry.path() == beside(config) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_file(data.join(MARK))
}

fn beside(config: &Path) -> PathBuf {
    let mut name = config.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    file.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
