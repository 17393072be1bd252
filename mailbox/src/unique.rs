//! Names that no other delivery uses: `seconds.MmicroPpidQcount.host`.
//!
//! Source: D. J. Bernstein, "Using maildir format", section "Unique names".

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Makes the unique names of one process; all its threads share it.
#[derive(Debug)]
pub struct UniqueNames {
    host: String,
    count: AtomicU64,
}

impl UniqueNames {
    /// For deliveries of this process on `host`, whose name must differ from
    /// those of other machines that deliver to the same file system.
    pub fn new(host: &str) -> Self {
        // The first two escapes are Bernstein's; a comma would begin a hint.
        let mut escaped = String::with_capacity(host.len());
        for c in host.chars() {
            match c {
                '/' => escaped.push_str("\\057"),
                ':' => escaped.push_str("\\072"),
                ',' => escaped.push_str("\\054"),
                c if c.is_ascii_graphic() => escaped.push(c),
                _ => escaped.push('_'),
            }
        }
        Self {
            host: escaped,
            count: AtomicU64::new(0),
        }
    }

    /// A new name at each call, also within one microsecond. Begins with the
    /// seconds since 1970, so that names sort by delivery.
    pub(crate) fn next(&self, now: SystemTime) -> String {
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let (seconds, micros, pid) = (since.as_secs(), since.subsec_micros(), process::id());
        format!("{seconds}.M{micros}P{pid}Q{count}.{}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageName;

    #[test]
    fn names_differ_and_hold_no_marks() {
        let names = UniqueNames::new("a/b:2,S\n");
        let now = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5_000);
        let (one, two) = (names.next(now), names.next(now));
        assert_ne!(one, two);
        let expected = format!("1700000000.M5P{}Q0.a\\057b\\0722\\054S_", process::id());
        assert_eq!(one, expected);
        let parsed = MessageName::parse(one.as_bytes()).unwrap();
        assert_eq!(parsed.base(), one.as_bytes());
    }
}
