//! Greylisting: a client that is not known asks for a recipient, is told to
//! come again, and is known once it did.
//!
//! What is remembered is (network, sender, recipient) as a hash, and each
//! network that came again and brought a message, in an SQLite file of its
//! own. Nothing of it is synced at once: a power cut costs seconds of memory,
//! and a message comes later.
//!
//! | of | kept for |
//! | --- | --- |
//! | a first attempt | [`FIRST`] |
//! | a success | [`Settings::keep`] after the last one |

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::config::network::Network;
use crate::whole;

/// How greylisting works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose clients are greylisted.
    pub whom: Whom,
    /// How soon a client may come again.
    pub wait: Duration,
    /// How long one is known after its last message.
    pub keep: Duration,
}

/// Whose clients are greylisted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whom {
    /// Nobody.
    Nobody,
    /// Those that something speaks against.
    #[default]
    Suspects,
    /// All that are not known.
    All,
}

/// What is remembered of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is here for the first time, or too early; when it may come again.
    Early {
        /// Seconds from now.
        seconds: u64,
    },
    /// It has come again.
    CameAgain,
    /// Its network has brought mail before.
    Known,
    /// Too much is remembered already; it passes.
    Full,
}

/// What is remembered.
#[derive(Debug)]
pub struct Greylist {
    connection: Mutex<Connection>,
    path: PathBuf,
    entries: AtomicU64,
}

/// How long somebody who tried has for coming again: RFC 5321 §4.5.4.1 gives
/// up after four or five days at the earliest, and tries often on the first.
pub const FIRST: Duration = Duration::from_secs(2 * 24 * 3600);
/// Some 200 MB on disk.
const MAX_ENTRIES: u64 = 4_000_000;
/// How exactly it is known when somebody came last.
const DAY: u64 = 24 * 3600;

/// SQLite's name for a file that there is not.
pub const IN_MEMORY: &str = ":memory:";

/// 16 bytes of SHA-256.
type Key = [u8; 16];

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS attempt (
    key BLOB PRIMARY KEY,
    first INTEGER NOT NULL,
    -- When it came last; null until it came again.
    passed INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS network (
    key BLOB PRIMARY KEY,
    passed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// SQLite's `user_version`; files of before it was set have 0 and the same
/// tables.
const VERSION: u32 = 1;

impl Default for Settings {
    fn default() -> Self {
        Self {
            whom: Whom::default(),
            wait: Duration::from_secs(300),
            keep: Duration::from_secs(36 * DAY),
        }
    }
}

impl Greylist {
    /// Opens the file at `path`, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path != Path::new(IN_MEMORY) {
            whole::make_private(path).map_err(Error::io("make", path))?;
        }
        let opened = || -> rusqlite::Result<(Connection, u64, u32)> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "normal")?;
            let version: u32 =
                connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version > VERSION {
                return Ok((connection, 0, version));
            }
            connection.execute_batch(SCHEMA)?;
            if version < VERSION {
                connection.pragma_update(None, "user_version", VERSION)?;
            }
            let count = "SELECT count(*) FROM attempt";
            let entries: i64 = connection.query_row(count, [], |row| row.get(0))?;
            Ok((connection, entries.unsigned_abs(), VERSION))
        };
        let (connection, entries, version) = opened().map_err(|source| failed(path, source))?;
        if version > VERSION {
            return Err(Error::newer(path, version.into(), VERSION.into()));
        }
        Ok(Self {
            connection: Mutex::new(connection),
            path: path.to_owned(),
            entries: AtomicU64::new(entries),
        })
    }

    /// What is remembered of a client that brings mail from `sender` to
    /// `recipient` at `now`, in seconds since 1970. That it came is noted.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn ask(
        &self,
        settings: &Settings,
        client: (IpAddr, &str, &str),
        now: u64,
    ) -> Result<Standing, Error> {
        self.known(settings, client, now, true)
    }

    /// The same, and nothing is noted.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn look(
        &self,
        settings: &Settings,
        client: (IpAddr, &str, &str),
        now: u64,
    ) -> Result<Standing, Error> {
        self.known(settings, client, now, false)
    }

    /// A client that had come again has brought its message: its network is
    /// known from now on.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn succeeded(&self, client: IpAddr, now: u64) -> Result<(), Error> {
        let sql = "INSERT INTO network VALUES (?1, ?2) ON CONFLICT (key) \
                   DO UPDATE SET passed = ?2 WHERE passed < ?3";
        let (day, now) = (clamp(now.saturating_sub(DAY)), clamp(now));
        self.run(|connection| {
            let key = hash(&[&Network::of_client(client).to_string()]);
            connection
                .prepare_cached(sql)?
                .execute(params![key, now, day])
        })?;
        Ok(())
    }

    /// Forgets what is too old.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn tidy(&self, settings: &Settings, now: u64) -> Result<(), Error> {
        let first = clamp(now.saturating_sub(FIRST.as_secs()));
        let last = clamp(now.saturating_sub(settings.keep.as_secs()));
        let sql = "DELETE FROM attempt WHERE passed < ?1 OR passed IS NULL AND first < ?2";
        let gone = self.run(|connection| {
            connection.execute("DELETE FROM network WHERE passed < ?1", [last])?;
            connection.execute(sql, [last, first])
        })?;
        self.entries.fetch_sub(gone as u64, Ordering::Relaxed);
        Ok(())
    }

    fn known(
        &self,
        settings: &Settings,
        (client, sender, recipient): (IpAddr, &str, &str),
        now: u64,
        is_noted: bool,
    ) -> Result<Standing, Error> {
        let network = Network::of_client(client).to_string();
        let alive = |passed: u64| passed + settings.keep.as_secs() >= now;
        let key = hash(&[
            &network,
            &without_numbers(sender),
            &recipient.to_lowercase(),
        ]);
        let wait = settings.wait.as_secs();
        self.run(|connection| {
            let sql = "SELECT passed FROM network WHERE key = ?1";
            let passed: Option<i64> = connection
                .prepare_cached(sql)?
                .query_row([hash(&[&network])], |row| row.get(0))
                .optional()?;
            if passed.is_some_and(|passed| alive(passed.unsigned_abs())) {
                return Ok(Standing::Known);
            }
            let sql = "SELECT first, passed FROM attempt WHERE key = ?1";
            let attempt: Option<(i64, Option<i64>)> = connection
                .prepare_cached(sql)?
                .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let attempt = attempt
                .map(|(first, passed)| (first.unsigned_abs(), passed.map(i64::unsigned_abs)));
            let note = |first: u64, passed: Option<u64>| {
                let sql = "INSERT INTO attempt VALUES (?1, ?2, ?3) \
                           ON CONFLICT (key) DO UPDATE SET first = ?2, passed = ?3";
                let values = params![key, clamp(first), passed.map(clamp)];
                match is_noted {
                    true => connection.prepare_cached(sql)?.execute(values),
                    false => Ok(0),
                }
            };
            match attempt {
                Some((first, Some(passed))) if alive(passed) => {
                    if passed + DAY < now {
                        note(first, Some(now))?;
                    }
                    Ok(Standing::CameAgain)
                }
                Some((first, None)) if first + FIRST.as_secs() >= now => {
                    let seconds = (first + wait).saturating_sub(now);
                    if seconds > 0 {
                        return Ok(Standing::Early { seconds });
                    }
                    note(first, Some(now))?;
                    Ok(Standing::CameAgain)
                }
                None if self.entries.load(Ordering::Relaxed) >= MAX_ENTRIES => Ok(Standing::Full),
                old => {
                    note(now, None)?;
                    if old.is_none() && is_noted {
                        self.entries.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Standing::Early { seconds: wait })
                }
            }
        })
    }

    fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let connection = self.connection();
        work(&connection).map_err(|source| failed(&self.path, source))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // Each statement is whole by itself.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(path: &Path, source: rusqlite::Error) -> Error {
    Error::Greylist {
        path: path.to_owned(),
        source,
    }
}

fn hash(parts: &[&str]) -> Key {
    let mut digest = Sha256::new();
    for part in parts {
        // No part holds a 0: addresses have no control characters.
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&digest.finalize()[..16]);
    key
}

/// Lists put a number into each sender, which must not be a new one each time:
/// `bounce-123+anna=x@example.net` counts as `bounce-#@example.net`.
fn without_numbers(sender: &str) -> String {
    let sender = sender.to_lowercase();
    let (local, domain) = sender.rsplit_once('@').unwrap_or((&sender, ""));
    let local = local.split('+').next().unwrap_or_default();
    let mut short = String::with_capacity(sender.len());
    for c in local.chars() {
        match c {
            '0'..='9' if short.ends_with('#') => {}
            '0'..='9' => short.push('#'),
            c => short.push(c),
        }
    }
    format!("{short}@{domain}")
}

/// SQLite's numbers have a sign.
fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn open(dir: &tempfile::TempDir) -> Greylist {
        Greylist::open(&dir.path().join("greylist.db")).unwrap()
    }

    #[test]
    fn only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let _open = open(&dir);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn who_comes_again_is_known_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let ask = |ip: &str, from: &str, to: &str, now| {
            let client = (ip.parse().unwrap(), from, to);
            // Each time as after a restart.
            open(&dir).ask(&settings, client, now).unwrap()
        };
        let early = |seconds| Standing::Early { seconds };
        let (ip, x, anna) = ("192.0.2.7", "x@example.net", "anna@example.org");
        assert_eq!(ask(ip, x, anna, NOW), early(300));
        assert_eq!(ask(ip, x, anna, NOW + 299), early(1));
        // The same network; but another network, sender or recipient.
        assert_eq!(
            ask("192.0.2.99", "X@Example.net", "Anna@example.org", NOW + 300),
            Standing::CameAgain
        );
        assert_eq!(ask("192.0.3.7", x, anna, NOW + 300), early(300));
        assert_eq!(ask(ip, "y@example.net", anna, NOW + 300), early(300));
        assert_eq!(ask(ip, x, "bob@example.org", NOW + 300), early(300));
        assert_eq!(ask(ip, x, anna, NOW + 301), Standing::CameAgain);
        // Only a message that came makes the network known.
        open(&dir)
            .succeeded(ip.parse().unwrap(), NOW + 302)
            .unwrap();
        assert_eq!(
            ask("192.0.2.1", "z@example.net", "bob@example.org", NOW + 303),
            Standing::Known
        );
        let keep = settings.keep.as_secs();
        assert_eq!(
            ask(ip, "z@example.net", anna, NOW + 302 + keep),
            Standing::Known
        );
        assert_eq!(ask(ip, "z@example.net", anna, NOW + 303 + keep), early(300));
    }

    #[test]
    fn a_first_attempt_counts_for_two_days() {
        let dir = tempfile::tempdir().unwrap();
        let greylist = open(&dir);
        let settings = Settings::default();
        let client = ("2001:db8::1".parse().unwrap(), "", "anna@example.org");
        let ask = |now| greylist.ask(&settings, client, now).unwrap();
        assert_eq!(ask(NOW), Standing::Early { seconds: 300 });
        let late = NOW + FIRST.as_secs() + 1;
        assert_eq!(ask(late), Standing::Early { seconds: 300 });
        assert_eq!(ask(late + 300), Standing::CameAgain);
    }

    #[test]
    fn looking_changes_nothing_and_old_entries_go() {
        let dir = tempfile::tempdir().unwrap();
        let greylist = open(&dir);
        let settings = Settings::default();
        let client = (
            "192.0.2.7".parse().unwrap(),
            "x@example.net",
            "a@example.org",
        );
        for now in [NOW, NOW + 1_000] {
            let standing = greylist.look(&settings, client, now).unwrap();
            assert_eq!(standing, Standing::Early { seconds: 300 });
        }
        assert_eq!(greylist.entries.load(Ordering::Relaxed), 0);
        greylist.ask(&settings, client, NOW).unwrap();
        greylist.tidy(&settings, NOW + FIRST.as_secs()).unwrap();
        assert_eq!(greylist.entries.load(Ordering::Relaxed), 1);
        greylist.tidy(&settings, NOW + FIRST.as_secs() + 1).unwrap();
        assert_eq!(greylist.entries.load(Ordering::Relaxed), 0);
        let standing = greylist.ask(&settings, client, NOW + 1_000).unwrap();
        assert_eq!(standing, Standing::Early { seconds: 300 });
    }

    #[test]
    fn numbers_of_lists_make_no_new_sender() {
        for (sender, expected) in [
            (
                "Bounce-123-45@lists.example.net",
                "bounce-#-#@lists.example.net",
            ),
            ("news+anna=example.org@example.net", "news@example.net"),
            ("", "@"),
            ("x@9.example.net", "x@9.example.net"),
        ] {
            assert_eq!(without_numbers(sender), expected);
        }
    }
}
