//! A person's database that a daemon has taken over, or is about to.
//!
//! The mark is set under the lock that writers queue for, and each writer
//! looks for it when it has the lock: so from that moment on the database
//! stays as it is, whatever happens to the process that hands it over.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Lmdb;
use crate::Error;
use crate::mark::MarkKey;
use crate::store::lock;

/// Since when nobody writes to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Seconds since 1970.
    pub since: u64,
    /// Whether the daemon has said that it holds all of it.
    pub is_done: bool,
    /// With what the daemon marks this user's mail, once it has said so.
    pub mark_key: Option<MarkKey>,
}

impl Moved {
    /// The mark of the database in `dir`, whether there is a database or not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn in_dir(dir: &Path) -> Result<Option<Self>, Error> {
        Self::of(&Lmdb::path(dir))
    }

    pub(super) fn of(database: &Path) -> Result<Option<Self>, Error> {
        let path = mark(database);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => {
                let text = text.map_err(Error::io("read", &path))?;
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                let version = rest.trim_end().strip_prefix("version ");
                let version = version.and_then(|version| version.parse().ok());
                if let Some(found) = version.filter(|version| *version > VERSION) {
                    return Err(Error::NewerFormat {
                        path,
                        found,
                        newest: VERSION,
                    });
                }
                // Whatever it says, somebody has put it there.
                let mut words = first.split_ascii_whitespace();
                let is_done = words.next() == Some("moved");
                let since = words.next().and_then(|since| since.parse().ok());
                Ok(Some(Self {
                    since: since.unwrap_or(0),
                    is_done,
                    mark_key: words.next().and_then(MarkKey::from_hex),
                }))
            }
        }
    }

    /// Marks the database in `dir` as about to be taken over, if it has no
    /// mark yet, and makes the folder if there is none. `now` is in seconds
    /// since 1970.
    ///
    /// # Errors
    /// When the folder cannot be written, or somebody else writes to the
    /// database for longer than `lock_wait`.
    pub fn begin(dir: &Path, now: u64, lock_wait: Duration) -> Result<Self, Error> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(dir);
        made.map_err(Error::io("make", dir))?;
        let database = Lmdb::path(dir);
        let path = database.with_extension("mdb-writer");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let _locked = lock::within(lock_wait, lock)
            .map_err(Error::io("lock", &path))?
            .ok_or_else(|| Error::Locked {
                path: database.clone(),
                waited: lock_wait,
                owner: None,
            })?;
        if let Some(moved) = Self::of(&database)? {
            return Ok(moved);
        }
        let moved = Self {
            since: now,
            is_done: false,
            mark_key: None,
        };
        moved.write(dir)?;
        Ok(moved)
    }

    /// Notes that the daemon holds all of the database in `dir`, and marks its
    /// user's mail with this key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn done(self, dir: &Path, mark_key: MarkKey) -> Result<(), Error> {
        let moved = Self {
            is_done: true,
            mark_key: Some(mark_key),
            ..self
        };
        moved.write(dir)
    }

    fn write(&self, dir: &Path) -> Result<(), Error> {
        let state = if self.is_done { "moved" } else { "moving" };
        let key = self.mark_key.as_ref();
        let key = key.map_or_else(String::new, |key| format!(" {}", key.to_hex()));
        let text = format!("{state} {}{key}\nversion {VERSION}\n", self.since);
        let path = mark(&Lmdb::path(dir));
        write_synced(dir, &path, text.as_bytes()).map_err(Error::io("write", path))
    }

    pub(super) fn refusal(self, database: &Path) -> Error {
        Error::HandedOver {
            path: database.into(),
        }
    }
}

/// Of the mark; one without is of version 1.
const VERSION: u32 = 1;

fn mark(database: &Path) -> PathBuf {
    database.with_extension("mdb-moved")
}

fn write_synced(dir: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modern::{Act, Keep, Lesson, learn};
    use crate::store::Durability;
    use crate::store::lmdb::Options;

    fn train(dir: &Path) -> Result<(), Error> {
        let options = Options {
            engine: "modern",
            ..Options::default()
        };
        let lesson = Lesson::new(b"Subject: x\n\nwords", Act::Learn(crate::Label::Spam));
        let mut store = Lmdb::open(dir, &options)?;
        let keep = Keep::default();
        learn(&mut store, &[lesson], 1, &keep, Durability::Relaxed).map(drop)
    }

    #[test]
    fn a_marked_database_is_read_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        train(dir.path()).unwrap();
        assert_eq!(Moved::in_dir(dir.path()).unwrap(), None);
        let begun = Moved::begin(dir.path(), 7, Duration::ZERO).unwrap();
        assert_eq!((begun.since, begun.is_done), (7, false));
        assert!(matches!(train(dir.path()), Err(Error::HandedOver { .. })));
        // Beginning again keeps the time.
        let again = Moved::begin(dir.path(), 9, Duration::ZERO).unwrap();
        assert_eq!(again, begun);
        let key = MarkKey::of_user(&[1; 32], "anna");
        begun.done(dir.path(), key.clone()).unwrap();
        let done = Moved::in_dir(dir.path()).unwrap();
        assert_eq!(
            done,
            Some(Moved {
                is_done: true,
                mark_key: Some(key),
                ..again
            })
        );
        Lmdb::open(
            dir.path(),
            &Options {
                engine: "modern",
                ..Options::read_only()
            },
        )
        .unwrap();
    }

    #[test]
    fn a_mark_says_its_version_and_one_without_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let key = MarkKey::of_user(&[1; 32], "anna");
        let begun = Moved::begin(dir.path(), 7, Duration::ZERO).unwrap();
        begun.done(dir.path(), key).unwrap();
        let path = mark(&Lmdb::path(dir.path()));
        let text = fs::read_to_string(&path).unwrap();
        let (first, version) = text.split_once('\n').unwrap();
        assert_eq!(version, "version 1\n");
        let done = Moved::in_dir(dir.path()).unwrap();
        fs::write(&path, format!("{first}\n")).unwrap();
        assert_eq!(Moved::in_dir(dir.path()).unwrap(), done);
        fs::write(&path, format!("gone {first}\nversion 2\n")).unwrap();
        let refused = Moved::in_dir(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("has format version 2"), "{refused}");
    }

    #[test]
    fn waits_for_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let lock = File::create(dir.path().join("bmf.mdb-writer")).unwrap();
        lock.lock().unwrap();
        let begun = Moved::begin(dir.path(), 1, Duration::ZERO);
        assert!(matches!(begun, Err(Error::Locked { .. })));
    }
}
