//! What lies in a folder, to see whether anything has changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Of each path its rights, when it changed, and its bytes.
pub type Snapshot = BTreeMap<PathBuf, (u32, Option<(i64, i64)>, Vec<u8>)>;

/// Everything below a folder.
pub fn snapshot(folder: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let mut bytes = Vec::new();
        if found.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            open.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            bytes = fs::read(&path).unwrap();
        }
        let time = (found.mtime(), found.mtime_nsec());
        all.insert(path, (found.mode(), Some(time), bytes));
    }
    all
}

/// The same of a host, but not when folders changed: SQLite's own files come
/// and go while its database is read.
pub fn snapshot_of_host(folder: &Path) -> Snapshot {
    let mut all = snapshot(folder);
    for (path, (_, time, _)) in &mut all {
        if path.is_dir() {
            *time = None;
        }
    }
    all
}
