//! Group commit: sessions that wait for the same folder's sync share one.
//!
//! A sync helps whoever changed the folder before it began. So the first who
//! comes syncs, those who come meanwhile wait for it to end, and one of them
//! then syncs for all.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Shares the syncs of one folder.
#[derive(Debug, Default)]
pub(super) struct Group {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many syncs have begun, and how many of them ended.
    begun: u64,
    ended: u64,
    /// Those that failed, for whoever waits for them.
    failed: Vec<(u64, io::ErrorKind)>,
}

impl Group {
    /// Returns when a sync that began after this call has ended.
    pub(super) fn sync(&self, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        let wanted = state.begun + 1;
        loop {
            if state.ended >= wanted {
                let failed = state.failed.iter().find(|(number, _)| *number == wanted);
                return failed.map_or(Ok(()), |(_, kind)| Err((*kind).into()));
            }
            if state.begun == state.ended {
                state.begun += 1;
                drop(state);
                let result = sync();
                state = self.lock();
                state.ended = state.begun;
                if let Err(error) = &result {
                    let number = state.ended;
                    state.failed.push((number, error.kind()));
                    // Nobody waits for one so long ago.
                    state.failed.retain(|(failed, _)| failed + 1_000 > number);
                }
                self.ended.notify_all();
                return result;
            }
            state = self
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    /// Each thread changes something and syncs; what it changed must be seen
    /// by a sync that begins later. A sync takes as long as one of a disk, so
    /// that the others come meanwhile.
    #[test]
    fn many_share_few_syncs_and_none_is_forgotten() {
        let (group, changes, n_syncs) = (Group::default(), AtomicU64::new(0), AtomicU64::new(0));
        let synced = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let mine = changes.fetch_add(1, Ordering::SeqCst) + 1;
                        group
                            .sync(|| {
                                n_syncs.fetch_add(1, Ordering::SeqCst);
                                let seen = changes.load(Ordering::SeqCst);
                                thread::sleep(Duration::from_millis(1));
                                synced.fetch_max(seen, Ordering::SeqCst);
                                Ok(())
                            })
                            .unwrap();
                        assert!(synced.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        // Alone each would sync 400 times.
        assert!(n_syncs.load(Ordering::SeqCst) <= 200, "{n_syncs:?}");
    }

    #[test]
    fn whoever_shares_a_failed_sync_learns_of_it() {
        let group = Group::default();
        assert!(
            group
                .sync(|| Err(io::ErrorKind::StorageFull.into()))
                .is_err()
        );
        assert!(group.sync(|| Ok(())).is_ok());
        let n_failed = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let sync = || Err(io::ErrorKind::StorageFull.into());
                    n_failed.fetch_add(u64::from(group.sync(sync).is_err()), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(n_failed.load(Ordering::SeqCst), 4);
    }
}
