//! The messages of a Maildir with its folders, of a folder of files such as a
//! spool, or of an mbox.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use classifier::classic::{Layout, MessageReader};

/// What is done with a message: its name, its folder, its bytes.
pub type Visit<'a> = dyn FnMut(&str, Option<&str>, &[u8]) -> anyhow::Result<()> + 'a;

/// Calls `visit` with each message, its name, and the folder of a Maildir that
/// it lies in: "" is the inbox. Links are not followed.
///
/// # Errors
/// That of `visit`, or when something cannot be read.
pub fn each(path: &Path, visit: &mut Visit<'_>) -> anyhow::Result<()> {
    let mut open: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let found = fs::symlink_metadata(&path)
            .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
        if found.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(&path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()?;
            // What is being written is no message.
            inside.retain(|path| path.file_name().is_some_and(|name| name != "tmp"));
            inside.sort_unstable();
            open.extend(inside.into_iter().rev());
        } else if found.is_file() {
            one(&path, visit)?;
        }
    }
    Ok(())
}

fn one(path: &Path, visit: &mut Visit<'_>) -> anyhow::Result<()> {
    let half = path.parent();
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let is_maildir = half.is_some_and(|half| ["cur", "new"].contains(&&*name(half)));
    let folder = half.and_then(Path::parent).filter(|_| is_maildir);
    let folder = folder.map(|folder| {
        let name = name(folder);
        name.strip_prefix('.').unwrap_or_default().to_owned()
    });
    let beside = path
        .parent()
        .is_some_and(|folder| folder.join("cur").is_dir());
    if beside && !is_maildir {
        // What servers keep in a Maildir beside its mail.
        return Ok(());
    }
    let mut reader = MessageReader::new(File::open(path)?)?;
    let is_mbox = reader.layout() == Layout::Mbox;
    let mut n = 0;
    while let Some(message) = reader.next_message()? {
        n += 1;
        let shown = path.display().to_string();
        if is_mbox {
            let end = memchr::memchr(b'\n', &message).map_or(message.len(), |at| at + 1);
            visit(&format!("{shown}:{n}"), None, &message[end..])?;
        } else {
            visit(&shown, folder.as_deref(), &message)?;
        }
    }
    Ok(())
}
