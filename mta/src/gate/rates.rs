//! How often a network or an account may do something: a bucket each, which
//! fills steadily.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets by key, a network or an account.
#[derive(Debug)]
pub struct Rates<K> {
    most: f64,
    time: Duration,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// As many are remembered; further ones are not limited.
const MAX_BUCKETS: usize = 100_000;
pub(super) const MINUTE: Duration = Duration::from_secs(60);

impl<K: Eq + Hash> Rates<K> {
    /// So often within `time`, and no more than that at once.
    pub fn new(most: u32, time: Duration) -> Self {
        Self {
            most: f64::from(most),
            time,
            buckets: Mutex::default(),
        }
    }

    /// Whether `key` may once more at `now`; if so, it is counted.
    pub fn admit(&self, key: K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            // A full bucket is as good as none.
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < self.time);
            if buckets.len() >= MAX_BUCKETS {
                return true;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            left: self.most,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at);
        let filled = passed.as_secs_f64() / self.time.as_secs_f64() * self.most;
        bucket.left = (bucket.left + filled).min(self.most);
        bucket.at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_steadily() {
        let rates = Rates::new(60, MINUTE);
        let begin = Instant::now();
        let admitted = |key, at| (0..100).filter(|_| rates.admit(key, at)).count();
        assert_eq!(admitted(1, begin), 60);
        assert_eq!(admitted(2, begin), 60, "another one's");
        assert_eq!(admitted(1, begin + Duration::from_secs(10)), 10);
        assert_eq!(admitted(1, begin + Duration::from_secs(600)), 60);
    }

    #[test]
    fn memory_is_bounded() {
        let rates = Rates::new(1, MINUTE);
        let begin = Instant::now();
        for n in 0..MAX_BUCKETS {
            assert!(rates.admit(n, begin));
        }
        assert!(
            rates.admit(MAX_BUCKETS, begin),
            "one that nothing is known of"
        );
        assert!(!rates.admit(0, begin));
        assert!(rates.admit(MAX_BUCKETS, begin + MINUTE));
        let n = rates.buckets.lock().unwrap().len();
        assert_eq!(n, 1);
    }
}
