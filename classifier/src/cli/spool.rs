//! What there is to learn while the daemon does not answer: one file for each
//! message in a folder of the user's, until the next `bmf` that finds the
//! daemon hands them over, in the order in which they came.
//!
//! A file holds the request as it would have been sent ([`super::wire`]). It
//! goes when the daemon has said that it is done. A kill in between hands it
//! over twice, which the daemon's ledger counts once.
//!
//! The folder is locked (`flock`) by who hands over, so that no older request
//! comes after a newer one.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::NamedTempFile;

use crate::Error;
use crate::store::lock;

/// The folder in that of a database.
pub(super) struct Spool(PathBuf);

/// What has become of a request.
pub(super) enum HandedOver {
    /// The daemon has done it.
    Done,
    /// The daemon will never do it.
    Refused,
    /// It is of another version, and waits for that.
    Waits,
}

impl Spool {
    pub(super) fn of(database: &Path) -> Self {
        Self(database.join("spool"))
    }

    /// Keeps the parts of a request, on disk when it returns.
    pub(super) fn put(&self, request: &[&[u8]]) -> Result<(), Error> {
        let cannot = |error| Error::io("write", &self.0)(error);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.0).map_err(cannot)?;
        if self.names().map_err(cannot)?.len() >= MAX_FILES {
            let full = format!("{MAX_FILES} messages wait for bmfd already");
            return Err(cannot(io::Error::new(ErrorKind::QuotaExceeded, full)));
        }
        self.write(request).map_err(cannot)
    }

    fn write(&self, request: &[&[u8]]) -> io::Result<()> {
        static N: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let name = format!(
            "{:011}.{:09}.{}.{:06}",
            since.as_secs(),
            since.subsec_nanos(),
            process::id(),
            N.fetch_add(1, Ordering::Relaxed)
        );
        let mut file = NamedTempFile::with_prefix_in(".", &self.0)?;
        for part in request {
            file.write_all(part)?;
        }
        file.as_file().sync_all()?;
        let kept = file.persist_noclobber(self.0.join(name));
        kept.map_err(|error| error.error)?;
        File::open(&self.0)?.sync_all()
    }

    /// Calls `hand_over` with each request, oldest first, and removes it when
    /// that has succeeded. Returns how many were done. Costs one system call
    /// where there is no such folder.
    pub(super) fn drain<E: From<Error>>(
        &self,
        lock_wait: Duration,
        mut hand_over: impl FnMut(&[u8]) -> Result<HandedOver, E>,
    ) -> Result<usize, E> {
        let cannot = |error| Error::io("read", &self.0)(error);
        let folder = match File::open(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            folder => folder.map_err(cannot)?,
        };
        if self.names().map_err(cannot)?.is_empty() {
            return Ok(0);
        }
        let Some(_locked) = lock::within(lock_wait, folder).map_err(cannot)? else {
            return Ok(0);
        };
        let mut n_done = 0;
        for name in self.names().map_err(cannot)? {
            let path = self.0.join(&name);
            let request = fs::read(&path).map_err(Error::io("read", &path))?;
            match hand_over(&request)? {
                HandedOver::Done => {
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                    n_done += 1;
                }
                HandedOver::Waits => {}
                // It stays for its owner to look at, and is asked no more.
                HandedOver::Refused => {
                    let aside = self.0.join(format!(".refused.{name}"));
                    fs::rename(&path, aside).map_err(Error::io("rename", &path))?;
                }
            }
        }
        Ok(n_done)
    }

    /// In the order in which they came.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            if let Ok(name) = entry?.file_name().into_string()
                && !name.starts_with('.')
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Some weeks of a person's mail.
const MAX_FILES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::of(&dir.path().join("bmf"));
        (dir, spool)
    }

    fn drained(spool: &Spool, fails_at: usize) -> Result<Vec<Vec<u8>>, Vec<Vec<u8>>> {
        let mut seen = Vec::new();
        let outcome = spool.drain(Duration::ZERO, |request| {
            seen.push(request.to_vec());
            match seen.len() > fails_at {
                true => Err(Error::HandedOver { path: "x".into() }),
                false => Ok(HandedOver::Done),
            }
        });
        outcome.map(|_| seen.clone()).map_err(|_| seen)
    }

    #[test]
    fn keeps_order_and_what_was_not_handed_over() {
        let (_dir, spool) = spool();
        assert_eq!(drained(&spool, 9), Ok(vec![]));
        for n in [b"1", b"2", b"3"] {
            spool.put(&[b"request ", n]).unwrap();
        }
        let all: Vec<_> = [b"1", b"2", b"3"]
            .map(|n| [b"request ", &n[..]].concat())
            .into();
        // The daemon goes away at the second one.
        assert_eq!(drained(&spool, 1), Err(all[..2].to_vec()));
        assert_eq!(drained(&spool, 9), Ok(all[1..].to_vec()));
        assert_eq!(drained(&spool, 9), Ok(vec![]));
    }

    #[test]
    fn what_is_refused_is_kept_and_not_asked_again() {
        let (_dir, spool) = spool();
        spool.put(&[b"bad"]).unwrap();
        let drain = || spool.drain(Duration::ZERO, |_| Ok::<_, Error>(HandedOver::Refused));
        assert_eq!(drain().unwrap(), 0);
        assert_eq!(drained(&spool, 9), Ok(vec![]));
        assert_eq!(fs::read_dir(&spool.0).unwrap().count(), 1);
    }

    #[test]
    fn what_waits_holds_nothing_up() {
        let (_dir, spool) = spool();
        spool.put(&[b"later"]).unwrap();
        spool.put(&[b"now"]).unwrap();
        let drain = || {
            spool.drain(Duration::ZERO, |request| {
                Ok::<_, Error>(match request {
                    b"later" => HandedOver::Waits,
                    _ => HandedOver::Done,
                })
            })
        };
        assert_eq!(drain().unwrap(), 1);
        assert_eq!(drained(&spool, 9), Ok(vec![b"later".to_vec()]));
    }

    #[test]
    fn nobody_hands_over_at_the_same_time() {
        let (_dir, spool) = spool();
        spool.put(&[b"x"]).unwrap();
        let held = File::open(&spool.0).unwrap();
        held.lock().unwrap();
        assert_eq!(drained(&spool, 9), Ok(vec![]));
        drop(held);
        assert_eq!(drained(&spool, 9), Ok(vec![b"x".to_vec()]));
    }
}
