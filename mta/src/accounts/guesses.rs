//! How long somebody who guesses passwords has to wait.
//!
//! Each attempt is charged to its account and to its network (/24 of IPv4, /64
//! of IPv6) before it is looked at, and taken off again when it was right, so
//! that many at once are no way around. The first few cost nothing; then each
//! waits twice as long as the one before, and above a limit none is looked at.
//! One is forgiven every ten minutes.
//!
//! Whoever guesses at an account must not lock its user out: where the user has
//! logged in before, the guesses of others do not count. Programs of this
//! machine, such as a webmail, speak for everybody, so that loopback has no
//! count of its own.
//!
//! Time comes from outside, and memory is bounded: when there are too many, the
//! half that was heard of longest ago is forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Address;
use crate::config::network::Network;

/// What is remembered of attempts.
#[derive(Debug, Default)]
pub struct Guesses {
    counts: HashMap<Key, Count>,
}

/// Too many attempts have failed: this one is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Account(Address),
    Network(Network),
    /// Where a user has logged in; its count is that of others' failures
    /// there.
    Known(Address, Network),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failed: u32,
    /// When the last was charged or forgiven.
    since: Instant,
}

/// So many fail for nothing: people mistype.
const FREE: u32 = 3;
/// The longest that an attempt waits.
const MAX_WAIT: Duration = Duration::from_secs(16);
const MAX_OF_ACCOUNT: u32 = 30;
const MAX_OF_NETWORK: u32 = 100;
/// After so long one failure is forgiven.
const FORGIVEN: Duration = Duration::from_secs(600);
/// Some 20 MiB.
const MAX_COUNTS: usize = 100_000;

impl Guesses {
    /// Charges an attempt to log in as `account` (`None` for a name that no
    /// account can have) from `address`, and says how long it is to wait
    /// before it is looked at.
    ///
    /// # Errors
    /// When it is not to be looked at.
    pub fn charge(
        &mut self,
        account: Option<&Address>,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Duration, TooMany> {
        let keys = self.keys(account, address);
        let mut wait = Duration::ZERO;
        for key in &keys {
            let failed = self.failed(key, now);
            let max = match key {
                Key::Network(_) => MAX_OF_NETWORK,
                Key::Account(_) | Key::Known(..) => MAX_OF_ACCOUNT,
            };
            if failed >= max {
                return Err(TooMany);
            }
            if let Some(n) = failed.checked_sub(FREE) {
                wait = wait.max(Duration::from_secs(1 << n.min(5)).min(MAX_WAIT));
            }
        }
        for key in keys {
            let count = self.counts.entry(key).or_insert(Count {
                failed: 0,
                since: now,
            });
            count.failed += 1;
        }
        self.forget();
        Ok(wait)
    }

    /// The attempt was not wrong: it is taken off again. One that was right
    /// makes its network known to the account.
    pub fn give_back(
        &mut self,
        account: Option<&Address>,
        address: Option<IpAddr>,
        was_right: bool,
        now: Instant,
    ) {
        for key in self.keys(account, address) {
            if let Some(count) = self.counts.get_mut(&key) {
                count.failed = count.failed.saturating_sub(1);
            }
        }
        if let (true, Some(account), Some(network)) = (was_right, account, network(address)) {
            let known = Key::Known(account.clone(), network);
            let count = self.counts.entry(known).or_insert(Count {
                failed: 0,
                since: now,
            });
            count.since = now;
            self.forget();
        }
    }

    fn keys(&self, account: Option<&Address>, address: Option<IpAddr>) -> Vec<Key> {
        let network = network(address);
        let of_network = network.map(Key::Network);
        let of_account = account.map(|account| {
            let known = network.map(|network| Key::Known(account.clone(), network));
            known
                .filter(|known| self.counts.contains_key(known))
                .unwrap_or_else(|| Key::Account(account.clone()))
        });
        of_network.into_iter().chain(of_account).collect()
    }

    /// How many have failed and are not forgiven.
    fn failed(&mut self, key: &Key, now: Instant) -> u32 {
        let Some(count) = self.counts.get_mut(key) else {
            return 0;
        };
        let passed = now.saturating_duration_since(count.since).as_secs() / FORGIVEN.as_secs();
        let forgiven = u32::try_from(passed).unwrap_or(u32::MAX);
        if count.failed == 0 {
            count.since = now;
        } else if forgiven > 0 {
            count.failed = count.failed.saturating_sub(forgiven);
            count.since += FORGIVEN * forgiven;
        }
        count.failed
    }

    /// Keeps memory within its bound.
    fn forget(&mut self) {
        if self.counts.len() <= MAX_COUNTS {
            return;
        }
        let mut times: Vec<Instant> = self.counts.values().map(|count| count.since).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let mut kept = 0;
        self.counts.retain(|_, count| {
            let keep = count.since >= median && kept < MAX_COUNTS / 2;
            kept += usize::from(keep);
            keep
        });
    }
}

/// The network that counts as one; `None` for this machine.
fn network(address: Option<IpAddr>) -> Option<Network> {
    let address = address?.to_canonical();
    (!address.is_loopback()).then(|| Network::of_client(address))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn anna() -> Address {
        Address::new("anna", "example.org")
    }

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    /// Seconds that each of `n` failing attempts waits, until they are too
    /// many.
    fn waits(
        guesses: &mut Guesses,
        n: u32,
        mut one: impl FnMut(u32) -> (Option<Address>, Option<IpAddr>),
        now: Instant,
    ) -> Vec<u64> {
        let charged = (0..n).map_while(|n| {
            let (account, address) = one(n);
            guesses.charge(account.as_ref(), address, now).ok()
        });
        charged.map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn each_waits_longer_and_then_none_is_looked_at() {
        let now = Instant::now();
        // One account from everywhere.
        let mut guesses = Guesses::default();
        let from = |n: u32| IpAddr::from(Ipv4Addr::from_bits((n << 8) | 0x0a00_0001));
        let found = waits(&mut guesses, 200, |n| (Some(anna()), Some(from(n))), now);
        assert_eq!(found[..9], [0, 0, 0, 1, 2, 4, 8, 16, 16]);
        assert_eq!(found.len(), 30);
        // Many accounts from one network.
        for (one, other) in [
            ("192.0.2.1", "192.0.2.255"),
            ("::ffff:192.0.2.1", "192.0.2.9"),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
        ] {
            let mut guesses = Guesses::default();
            let account = |n: u32| Some(Address::new(&n.to_string(), "example.org"));
            let from = |n: u32| ip(if n < 50 { one } else { other });
            let found = waits(&mut guesses, 200, |n| (account(n), from(n)), now);
            assert_eq!(found.len(), 100, "{one}");
            let next = ip("192.0.3.1");
            assert_eq!(guesses.charge(Some(&anna()), next, now), Ok(Duration::ZERO));
        }
        // A webmail has many users.
        let mut guesses = Guesses::default();
        let account = |n: u32| Some(Address::new(&n.to_string(), "example.org"));
        let found = waits(&mut guesses, 200, |n| (account(n), ip("127.0.0.1")), now);
        assert_eq!(found, [0; 200]);
    }

    #[test]
    fn time_forgives() {
        let now = Instant::now();
        let mut guesses = Guesses::default();
        let local = |_| (Some(anna()), ip("127.0.0.1"));
        assert_eq!(waits(&mut guesses, 99, local, now).len(), 30);
        assert_eq!(waits(&mut guesses, 99, local, now + FORGIVEN * 5), [16; 5]);
        let next = now + FORGIVEN * 100;
        assert_eq!(waits(&mut guesses, 4, local, next), [0, 0, 0, 1]);
    }

    #[test]
    fn who_guesses_does_not_lock_the_user_out() {
        let now = Instant::now();
        let mut guesses = Guesses::default();
        let (home, elsewhere) = (ip("192.0.2.1"), ip("198.51.100.1"));
        let account = anna();
        for _ in 0..50 {
            assert_eq!(
                guesses.charge(Some(&account), home, now),
                Ok(Duration::ZERO)
            );
            guesses.give_back(Some(&account), home, true, now);
        }
        waits(&mut guesses, 99, |_| (Some(anna()), elsewhere), now);
        assert_eq!(guesses.charge(Some(&account), elsewhere, now), Err(TooMany));
        assert_eq!(
            guesses.charge(Some(&account), home, now),
            Ok(Duration::ZERO)
        );
        // Who guesses there is bounded as well.
        let found = waits(&mut guesses, 99, |_| (Some(anna()), home), now);
        assert_eq!(found.len(), 29);
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut guesses = Guesses::default();
        for n in 0..250_000_u32 {
            let address = IpAddr::from(Ipv4Addr::from_bits(n << 8));
            let at = now + Duration::from_millis(n.into());
            let account = Address::new(&n.to_string(), "example.org");
            let _ = guesses.charge(Some(&account), Some(address), at);
            assert!(guesses.counts.len() <= MAX_COUNTS);
        }
        assert!(guesses.counts.len() >= MAX_COUNTS / 2 - 2);
        // What is new stays.
        let last = Key::Account(Address::new("249999", "example.org"));
        assert!(guesses.counts.contains_key(&last));
    }
}
