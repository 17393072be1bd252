//! A lock on a whole file that is waited for no longer than agreed.
//!
//! The lock is the kernel's (`flock`): it ends with its holder, however that
//! one dies, and those who wait get it in the order in which they came. LMDB's
//! own writer lock is a mutex in shared memory that can only be waited for
//! for ever, so that ours is taken first and LMDB's is then free.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Locks `file`, which gives the lock back when it is dropped. `None`: it was
/// not to be had within `wait`.
pub(crate) fn within(wait: Duration, file: File) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) if wait.is_zero() => return Ok(None),
        Err(TryLockError::WouldBlock) => {}
    }
    // A thread that stands in the kernel's queue, rather than asking again
    // and again: asking is unfair, and with many writers somebody starves.
    // Over a channel without room a lock that comes too late finds nobody, is
    // dropped with its file, and thereby given back.
    let (sender, receiver) = mpsc::sync_channel(0);
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let locked = lock(&file).map(|()| file);
            drop(sender.send(locked));
        })?;
    receiver
        .recv_timeout(wait)
        .map_or(Ok(None), |locked| locked.map(Some))
}

/// Enough for one system call, since mail systems limit address space.
const STACK_BYTES: usize = 64 * 1024;

fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_no_longer_than_agreed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let open = || File::create(&path).unwrap();
        let held = within(Duration::ZERO, open()).unwrap();
        assert!(held.is_some());
        assert!(within(Duration::ZERO, open()).unwrap().is_none());
        assert!(within(Duration::from_millis(50), open()).unwrap().is_none());
        drop(held);
        // The one that came too late gives it back as soon as it gets it.
        assert!(within(Duration::from_secs(60), open()).unwrap().is_some());
    }

    #[test]
    fn gets_it_when_the_holder_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = within(Duration::ZERO, File::create(&path).unwrap()).unwrap();
        let waiting = thread::spawn({
            let path = path.clone();
            move || within(Duration::from_secs(60), File::create(path).unwrap())
        });
        drop(held);
        assert!(waiting.join().unwrap().unwrap().is_some());
    }
}
