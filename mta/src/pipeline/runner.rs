//! When which message is tried: what is due runs, a bounded number at once.
//!
//! The queue on disk is the truth. This is only a list of what is due when,
//! made anew at each start and whenever somebody touches the queue from
//! outside, which is looked for once a second by the folder's and the marker's
//! times.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::attempt::{Next, attempt};
use super::{Inner, Postern, seconds};

/// So many messages are worked on at once. One destination takes no more than
/// 40 of them.
const MAX_ATTEMPTS: usize = 200;
/// How often it is looked whether another program changed the queue.
const LOOK: Duration = Duration::from_secs(1);
/// After trouble of our own with a message.
const PAUSE: u64 = 60;

/// What is due when.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    by_time: BTreeSet<(u64, String)>,
    times: HashMap<String, u64>,
    /// Being worked on.
    busy: HashSet<String>,
}

impl Agenda {
    /// Notes when a message is due, instead of when it was.
    pub(super) fn add(&self, due: u64, id: &str) {
        self.state().put(due, id);
        self.changed.notify_one();
    }

    /// Takes what is due; or says when something will be.
    fn next(&self, now: u64) -> Result<String, Option<u64>> {
        let mut state = self.state();
        let Some((due, _)) = state.by_time.first() else {
            return Err(None);
        };
        if *due > now {
            return Err(Some(*due));
        }
        let (_, id) = state.by_time.pop_first().ok_or(None)?;
        state.times.remove(&id);
        state.busy.insert(id.clone());
        Ok(id)
    }

    /// It is worked on no more.
    fn done(&self, id: &str, due: Option<u64>) {
        let mut state = self.state();
        state.busy.remove(id);
        if let Some(due) = due {
            state.put(due, id);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, due: u64, id: &str) {
        if self.busy.contains(id) {
            return;
        }
        if let Some(before) = self.times.insert(id.to_owned(), due) {
            self.by_time.remove(&(before, id.to_owned()));
        }
        self.by_time.insert((due, id.to_owned()));
    }
}

impl Inner {
    /// Makes the agenda of what lies in the queue.
    pub(super) fn reload(&self) -> io::Result<()> {
        for id in self.queue.ids()? {
            match self.queue.look(&id) {
                Ok(Some(found)) => {
                    if let Some(due) = found.entry.next_attempt() {
                        self.agenda.add(due, &id);
                    }
                }
                Ok(None) => {}
                Err(error) => error!(queue_id = id, %error, "a queue file cannot be read"),
            }
        }
        Ok(())
    }

    /// When the queue was last changed by whomever.
    fn queue_time(&self) -> Option<SystemTime> {
        let folder = self.queue.disk().path();
        let time = |path| {
            fs::metadata(path)
                .and_then(|metadata| metadata.modified())
                .ok()
        };
        time(folder.join(crate::queue::MARKER))
    }
}

impl Postern {
    /// Works through the queue until `stop` says so; then what is being worked
    /// on is finished.
    pub async fn run_queue(&self, stop: Arc<Notify>) {
        let permits = Arc::new(Semaphore::new(MAX_ATTEMPTS));
        let mut seen = self.inner.queue_time();
        loop {
            let now = seconds(SystemTime::now());
            let wait = match self.inner.agenda.next(now) {
                Ok(id) => {
                    self.spawn_attempt(id, &permits).await;
                    continue;
                }
                Err(due) => due
                    .map_or(LOOK, |due| Duration::from_secs(due - now))
                    .min(LOOK),
            };
            tokio::select! {
                () = stop.notified() => break,
                () = self.inner.agenda.changed.notified() => {}
                () = sleep(wait) => {}
            }
            let changed = self.inner.queue_time();
            if changed != seen {
                seen = changed;
                let inner = Arc::clone(&self.inner);
                let reloaded = tokio::task::spawn_blocking(move || inner.reload()).await;
                if let Ok(Err(error)) = reloaded {
                    error!(%error, "the queue cannot be read");
                }
            }
        }
        let all = u32::try_from(MAX_ATTEMPTS).unwrap_or(u32::MAX);
        if timeout(Duration::from_secs(30), permits.acquire_many(all))
            .await
            .is_err()
        {
            warn!("deliveries were not finished in time; they will be tried again");
        }
    }

    /// Works on what is due, one message after the other, until nothing is.
    pub async fn run_due(&self) {
        while let Ok(id) = self.inner.agenda.next(seconds(SystemTime::now())) {
            let Next { due, room } = try_once(&self.inner, &id).await;
            if let Some(room) = room {
                room.await;
            }
            self.inner.agenda.done(&id, due);
        }
    }

    async fn spawn_attempt(&self, id: String, permits: &Arc<Semaphore>) {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            return;
        };
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let Next { due, room } = try_once(&inner, &id).await;
            drop(permit);
            // Without holding up what goes elsewhere.
            if let Some(room) = room {
                room.await;
            }
            inner.agenda.done(&id, due);
        });
    }
}

/// An attempt, and when the next one is due.
async fn try_once(inner: &Arc<Inner>, id: &str) -> Next {
    attempt(inner, id).await.unwrap_or_else(|error| {
        error!(queue_id = id, %error, "an attempt came to nothing");
        Next {
            due: Some(seconds(SystemTime::now()) + PAUSE),
            room: None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_once() {
        let agenda = Agenda::default();
        assert_eq!(agenda.next(100), Err(None));
        for (due, id) in [(50, "b"), (40, "a"), (200, "c"), (60, "a")] {
            agenda.add(due, id);
        }
        assert_eq!(agenda.next(100).as_deref(), Ok("b"));
        // While it is worked on nobody else gets it.
        agenda.add(1, "b");
        assert_eq!(agenda.next(100).as_deref(), Ok("a"));
        assert_eq!(agenda.next(100), Err(Some(200)));
        agenda.done("b", Some(70));
        agenda.done("a", None);
        assert_eq!(agenda.next(100).as_deref(), Ok("b"));
        assert_eq!(agenda.next(100), Err(Some(200)));
    }
}
