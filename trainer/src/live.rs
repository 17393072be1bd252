//! What `bmfd serve` sees of each mailbox at present, for the status and the
//! metrics. Bounded by the number of mailboxes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// All mailboxes that are looked after: by user, then by place.
#[derive(Debug, Default)]
pub struct Live {
    mailboxes: Mutex<BTreeMap<String, BTreeMap<String, Seen>>>,
    learned: AtomicU64,
    rotated: AtomicU64,
}

/// One mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Where it lies.
    pub place: String,
    /// How changes of it are noticed.
    pub noticed: Noticed,
    /// Messages that wait to be moved on.
    pub pending: usize,
    /// When it was last looked at, in seconds since 1970.
    pub looked: u64,
    /// Why it could not be looked at.
    pub error: Option<String>,
}

/// How changes of a mailbox are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noticed {
    /// At once, by inotify.
    AtOnce,
    /// By looking again and again.
    ByPolling,
    /// Likewise, since the system has no more watches for it.
    ByPollingForWantOfWatches,
}

/// How many mailboxes there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// All.
    pub mailboxes: usize,
    /// Those that are polled.
    pub polled: usize,
    /// Of these, those for which there are no watches.
    pub without_watches: usize,
    /// Those that could not be looked at.
    pub failing: usize,
    /// Messages that wait to be moved on.
    pub pending: usize,
    /// Messages learned from folders since the start.
    #[serde(default)]
    pub learned: u64,
    /// Messages that have made room in their folders since the start.
    #[serde(default)]
    pub rotated: u64,
}

impl Live {
    /// So many messages more were learned from folders, and have made room.
    pub fn count(&self, learned: u64, rotated: u64) {
        self.learned.fetch_add(learned, Ordering::Relaxed);
        self.rotated.fetch_add(rotated, Ordering::Relaxed);
    }

    /// Keeps what is `seen` of a mailbox of `user`.
    pub fn note(&self, user: &str, seen: Seen) {
        let mut all = self.lock();
        let places = all.entry(user.to_owned()).or_default();
        places.insert(seen.place.clone(), seen);
    }

    /// A mailbox is no longer looked after.
    pub fn leave(&self, user: &str, place: &str) {
        let mut all = self.lock();
        if let Some(places) = all.get_mut(user) {
            places.remove(place);
            if places.is_empty() {
                all.remove(user);
            }
        }
    }

    /// Who has a mailbox, ascending.
    pub fn users(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The mailboxes of `user`.
    pub fn of(&self, user: &str) -> Vec<Seen> {
        let all = self.lock();
        let places = all.get(user).map(|places| places.values().cloned());
        places.into_iter().flatten().collect()
    }

    /// All together.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            learned: self.learned.load(Ordering::Relaxed),
            rotated: self.rotated.load(Ordering::Relaxed),
            ..Totals::default()
        };
        for seen in self.lock().values().flat_map(BTreeMap::values) {
            totals.mailboxes += 1;
            totals.polled += usize::from(seen.noticed != Noticed::AtOnce);
            let without = seen.noticed == Noticed::ByPollingForWantOfWatches;
            totals.without_watches += usize::from(without);
            totals.failing += usize::from(seen.error.is_some());
            totals.pending += seen.pending;
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Seen>>> {
        // Each entry is set as a whole.
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_come_change_and_go() {
        let live = Live::default();
        let seen = |place: &str, noticed, pending| Seen {
            place: place.into(),
            noticed,
            pending,
            looked: 1,
            error: None,
        };
        live.note("anna", seen("/a", Noticed::AtOnce, 3));
        live.note("anna", seen("/a", Noticed::AtOnce, 2));
        live.note("bert", seen("/b", Noticed::ByPollingForWantOfWatches, 1));
        assert_eq!(live.users(), ["anna", "bert"]);
        assert_eq!(live.of("anna"), [seen("/a", Noticed::AtOnce, 2)]);
        let totals = Totals {
            mailboxes: 2,
            polled: 1,
            without_watches: 1,
            failing: 0,
            pending: 3,
            learned: 2,
            rotated: 5,
        };
        live.count(2, 5);
        assert_eq!(live.totals(), totals);
        live.leave("bert", "/b");
        live.leave("carl", "/c");
        assert_eq!(live.users(), ["anna"]);
        assert_eq!(live.of("bert"), []);
    }
}
