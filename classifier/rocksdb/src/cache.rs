//! The models of users at work, kept in memory up to a bound.
//!
//! A model lies here as in the database, page by page, so that a young one
//! takes a quarter of a full one. The one that was asked least recently goes
//! first. Who loads or changes a user's model holds that user's lock
//! meanwhile ([`Locks`]); who only judges asks for an [`Arc`] and waits for
//! nobody.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use classifier::modern::Stored;

use crate::layout::UserId;

/// A model in memory.
pub(crate) type Held = Stored<Arc<[u8]>>;

/// What is kept, and what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// Models in memory.
    pub n_models: usize,
    /// Bytes that they take.
    pub n_bytes: usize,
    /// How often a model was there when it was asked for.
    pub n_hits: u64,
    /// How often it had to be read.
    pub n_misses: u64,
}

/// Models by user, at most `limit` bytes of them.
pub(crate) struct Cache {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    models: HashMap<UserId, Entry>,
    /// By when they were asked for, which no two were at the same moment.
    by_use: BTreeMap<u64, UserId>,
    moment: u64,
    now: CacheUse,
}

struct Entry {
    model: Arc<Held>,
    n_bytes: usize,
    used: u64,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn in_use(&self) -> CacheUse {
        self.lock().now
    }

    pub(crate) fn get(&self, id: UserId) -> Option<Arc<Held>> {
        let mut kept = self.lock();
        let model = kept.used_now(id);
        match model {
            Some(_) => kept.now.n_hits += 1,
            None => kept.now.n_misses += 1,
        }
        model
    }

    /// Only under the user's lock, so that no older state replaces a newer.
    pub(crate) fn put(&self, id: UserId, model: Arc<Held>) {
        let n_bytes = model.n_bytes();
        let mut kept = self.lock();
        kept.forget(id);
        if n_bytes > self.limit {
            return;
        }
        while kept.now.n_bytes + n_bytes > self.limit {
            let Some((_, oldest)) = kept.by_use.first_key_value() else {
                break;
            };
            let oldest = *oldest;
            kept.forget(oldest);
        }
        kept.now.n_bytes += n_bytes;
        kept.now.n_models += 1;
        let entry = Entry {
            model,
            n_bytes,
            used: 0,
        };
        kept.models.insert(id, entry);
        kept.used_now(id);
    }

    pub(crate) fn forget(&self, id: UserId) {
        self.lock().forget(id);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing here can panic half-way through.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn used_now(&mut self, id: UserId) -> Option<Arc<Held>> {
        let entry = self.models.get_mut(&id)?;
        self.moment += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.moment;
        self.by_use.insert(entry.used, id);
        Some(Arc::clone(&entry.model))
    }

    fn forget(&mut self, id: UserId) {
        if let Some(entry) = self.models.remove(&id) {
            self.by_use.remove(&entry.used);
            self.now.n_models -= 1;
            self.now.n_bytes -= entry.n_bytes;
        }
    }
}

/// One lock for each user whose model is being loaded or changed.
#[derive(Default)]
pub(crate) struct Locks(Mutex<HashMap<UserId, Arc<Mutex<()>>>>);

impl Locks {
    /// Calls `work` while nobody else works on the same user.
    pub(crate) fn alone<T>(&self, id: UserId, work: impl FnOnce() -> T) -> T {
        let lock = Arc::clone(self.lock().entry(id).or_default());
        // The lock guards no data that a panic could leave half changed.
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work();
        drop(guard);
        let mut locks = self.lock();
        // This one and the map's: nobody waits.
        if Arc::strong_count(&lock) == 2 {
            locks.remove(&id);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Arc<Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use classifier::store::MemoryModel;

    use super::*;

    fn new_model() -> Arc<Held> {
        Arc::new(Stored::load(&MemoryModel::default()).unwrap())
    }

    #[test]
    fn the_least_recently_asked_goes_first() {
        let n_bytes = new_model().n_bytes();
        let cache = Cache::new(3 * n_bytes);
        for id in 1..=3 {
            cache.put(UserId(id), new_model());
        }
        assert!(cache.get(UserId(1)).is_some());
        cache.put(UserId(4), new_model());
        cache.put(UserId(4), new_model());
        let has = |id| cache.get(UserId(id)).is_some();
        assert_eq!([1, 2, 3, 4].map(has), [true, false, true, true]);
        let CacheUse {
            n_models,
            n_hits,
            n_misses,
            ..
        } = cache.in_use();
        assert_eq!((n_models, n_hits, n_misses), (3, 4, 1));
        assert_eq!(cache.in_use().n_bytes, 3 * n_bytes);
        for id in 1..=4 {
            cache.forget(UserId(id));
        }
        assert_eq!(cache.in_use().n_bytes, 0);
    }

    #[test]
    fn what_is_larger_than_the_bound_is_not_kept() {
        let cache = Cache::new(100);
        cache.put(UserId(1), new_model());
        assert!(cache.get(UserId(1)).is_none());
    }

    #[test]
    fn locks_are_given_back() {
        let locks = Locks::default();
        let nested = locks.alone(UserId(1), || locks.alone(UserId(2), || locks.lock().len()));
        assert_eq!(nested, 2);
        assert!(locks.lock().is_empty());
    }
}
