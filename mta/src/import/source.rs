//! The old host's files, which are only read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::Error;

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// What stands in it.
    pub bytes: Vec<u8>,
    /// Its rights.
    pub mode: u32,
}

/// Where files are read from.
pub trait Source {
    /// The file at `path`, as the old host calls it; `None` when there is
    /// none. What is no regular file is none.
    ///
    /// # Errors
    /// When it cannot be read: it is not known then what the old host did.
    fn read(&self, path: &Path) -> Result<Option<Content>, Error>;

    /// The names in a folder, sorted; none when it is missing. Names that are
    /// no UTF-8 are given as far as they are.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn list(&self, folder: &Path) -> Result<Vec<String>, Error>;

    /// Whether there is such a folder.
    fn is_folder(&self, path: &Path) -> bool;

    /// Whose a folder is, by number; `None` when it is none.
    fn owner(&self, folder: &Path) -> Option<u32>;
}

/// The disk, or a copy of the old host's below a folder.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
}

/// Files of configuration are small; what is larger is something else.
const MAX_BYTES: u64 = 16 << 20;

impl Disk {
    /// What the old host called `/` is `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a path of the old host is now.
    pub fn place(&self, path: &Path) -> PathBuf {
        let parts = path.components();
        let inside = parts.filter(|part| matches!(part, Component::Normal(_)));
        self.root.join(inside.collect::<PathBuf>())
    }
}

impl Source for Disk {
    fn read(&self, path: &Path) -> Result<Option<Content>, Error> {
        let path = self.place(path);
        let mut options = File::options();
        // A pipe without a writer must not hold everything up.
        options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32);
        let file = match options.open(&path) {
            Err(error) if is_absent(&error) => return Ok(None),
            opened => opened.map_err(Error::io("open", &path))?,
        };
        let metadata = file.metadata().map_err(Error::io("examine", &path))?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(Error::io("read", &path))?;
        if bytes.len() as u64 > MAX_BYTES {
            let reason = io::Error::other("it is too large for what it should be");
            return Err(Error::io("use", path)(reason));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        Ok(Some(Content { bytes, mode }))
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let folder = self.place(folder);
        let entries = match fs::read_dir(&folder) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", &folder))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &folder))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.place(path).is_dir()
    }

    fn owner(&self, folder: &Path) -> Option<u32> {
        let found = fs::metadata(self.place(folder)).ok()?;
        found.is_dir().then(|| found.uid())
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

/// Whose folders in memory are.
const MEMORY_OWNER: u32 = 1000;

/// Files in memory.
impl Source for BTreeMap<PathBuf, Content> {
    fn read(&self, path: &Path) -> Result<Option<Content>, Error> {
        Ok(self.get(path).cloned())
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let below = self
            .keys()
            .filter_map(|path| path.strip_prefix(folder).ok());
        let mut names: Vec<String> = below
            .filter_map(|path| Some(path.components().next()?.as_os_str()))
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn is_folder(&self, path: &Path) -> bool {
        let mut all = self.keys();
        all.any(|file| file != path && file.starts_with(path))
    }

    fn owner(&self, folder: &Path) -> Option<u32> {
        self.is_folder(folder).then_some(MEMORY_OWNER)
    }
}
