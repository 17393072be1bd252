//! When the next attempt is due, when the sender is warned, and when it is
//! given up: all functions of times in seconds since 1970.

use std::time::Duration;

/// How long and how often is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// After this age an attempt that fails is the last one. Default: 5 days,
    /// the upper end of what RFC 5321 §4.5.4.1 asks for.
    pub lifetime: Duration,
    /// After this age the sender is told, once, that it takes long. Default:
    /// 4 hours.
    pub warn_after: Duration,
    /// The longest time between two attempts. Default: 4 hours.
    pub longest_pause: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(5 * 24 * 3600),
            warn_after: Duration::from_secs(4 * 3600),
            longest_pause: Duration::from_secs(4 * 3600),
        }
    }
}

/// Whose attempts: qmail's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// To a user of ours.
    Local,
    /// To another host.
    Remote,
}

impl Schedule {
    /// When an attempt that failed at `now` is repeated: at
    /// `arrived + (floor(sqrt(age)) + c)^2`, with c = 10 for local and 20 for
    /// remote deliveries.
    ///
    /// Source: qmail-send(8); 400, 1600, 3600 seconds after arrival and so on.
    pub fn next_attempt(&self, channel: Channel, arrived: u64, now: u64) -> u64 {
        let age = now.saturating_sub(arrived);
        let c = match channel {
            Channel::Local => 10,
            Channel::Remote => 20,
        };
        let due = arrived.saturating_add((age.isqrt() + c).saturating_pow(2));
        due.min(now.saturating_add(self.longest_pause.as_secs()))
            .max(now + 1)
    }

    /// Whether an attempt at `now` that fails is the last one.
    pub fn is_last(&self, arrived: u64, now: u64) -> bool {
        now.saturating_sub(arrived) >= self.lifetime.as_secs()
    }

    /// Whether the sender should be warned at `now`.
    pub fn is_late(&self, arrived: u64, now: u64) -> bool {
        now.saturating_sub(arrived) >= self.warn_after.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_those_of_qmail() {
        let schedule = Schedule {
            longest_pause: Duration::MAX,
            ..Schedule::default()
        };
        for (channel, expected) in [
            (Channel::Local, [100, 400, 900, 1600]),
            (Channel::Remote, [400, 1600, 3600, 6400]),
        ] {
            let mut now = 1_000_000;
            for age in expected {
                now = schedule.next_attempt(channel, 1_000_000, now);
                assert_eq!(now - 1_000_000, age);
            }
        }
    }

    #[test]
    fn any_times_give_a_later_one() {
        let schedule = Schedule::default();
        for (arrived, now) in [(0, 0), (10, 5), (0, u64::MAX / 4), (5, 5), (0, 432_000)] {
            let next = schedule.next_attempt(Channel::Remote, arrived, now);
            assert!(
                next > now && next <= now + 4 * 3600,
                "{arrived} {now} {next}"
            );
        }
        assert!(schedule.is_last(0, 432_000) && !schedule.is_last(0, 431_999));
        assert!(schedule.is_late(0, 14_400) && !schedule.is_late(20, 0));
    }
}
