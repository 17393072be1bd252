//! RocksDB's failures as the classifier's.

use std::io;
use std::path::Path;
use std::time::Duration;

use classifier::Error;
use rocksdb::ErrorKind;

use crate::owner;

/// `error`, met while doing `action` to the database at `path`.
///
/// RocksDB hands over a kind and a text. The text names the file concerned.
pub(crate) fn convert(action: &'static str, path: &Path, error: rocksdb::Error) -> Error {
    let text: &str = error.as_ref();
    if is_lock(text) {
        return locked(path);
    }
    match error.kind() {
        ErrorKind::IOError if !text.contains("No such file or directory") => Error::Io {
            action,
            path: path.into(),
            source: io::Error::other(error),
        },
        // A file that the database itself names is gone, or one was found
        // that it did not write.
        ErrorKind::IOError
        | ErrorKind::Corruption
        | ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::NotSupported
        | ErrorKind::Unknown => damaged(path, text),
        _ => Error::Io {
            action,
            path: path.into(),
            source: io::Error::other(error),
        },
    }
}

pub(crate) fn damaged(path: &Path, detail: impl Into<String>) -> Error {
    Error::Damaged {
        path: path.into(),
        detail: detail.into(),
    }
}

/// Somebody has the database at `path` open.
pub(crate) fn locked(path: &Path) -> Error {
    Error::Locked {
        path: path.into(),
        waited: Duration::ZERO,
        owner: owner::of(&path.join("LOCK")),
    }
}

/// Taken by another process, or by this one.
fn is_lock(text: &str) -> bool {
    text.contains("While lock file") && text.contains("temporarily unavailable")
        || text.contains("lock hold by current process")
}

#[cfg(test)]
mod tests {
    #[test]
    fn knows_a_lock_from_other_failures() {
        for (text, expected) in [
            (
                "IO error: While lock file: /x/LOCK: Resource temporarily unavailable",
                true,
            ),
            (
                "IO error: lock hold by current process, acquire time 1: /x/LOCK",
                true,
            ),
            (
                "IO error: While lock file: /x/LOCK: No locks available",
                false,
            ),
            (
                "IO error: while open a file for lock: /x/LOCK: Permission denied",
                false,
            ),
        ] {
            assert_eq!(super::is_lock(text), expected, "{text}");
        }
    }
}
