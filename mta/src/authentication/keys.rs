//! The keys by which mail of our domains is signed: their files, and their
//! lives.
//!
//! ```text
//! dkim/example.org/keys.toml              what is known of each key
//! dkim/example.org/20261130-rsa.pem       a private key: PKCS#8, mode 0600
//! dkim/example.org/20261130-ed25519.pem
//! ```
//!
//! `keys.toml` begins with `version = 1`; a later version is refused. A key is
//! a table `[[key]]` with `selector`, `algorithm` (`rsa-sha256` or
//! `ed25519-sha256`), `state`, `since` (seconds since 1970) and `public`, the
//! base64 of its record. The file is replaced as a whole and synced; a private
//! key is written before it is named there, and deleted after its key has
//! retired. What a crash leaves is a file that nothing names.
//!
//! | state | its record is in the DNS | it signs |
//! | --- | --- | --- |
//! | `published` | should be, so that receivers know it in time | no |
//! | `signing` | yes | yes |
//! | `retired` | yes: mail that it has signed is still on its way | no |
//!
//! Each domain signs with two keys side by side: everybody verifies
//! rsa-sha256, and ed25519-sha256 (RFC 8463) is what comes after it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::newer_toml;
use crate::smtp::trace::{calendar_day, seconds};
use crate::whole;

mod generate;
mod record;

pub use record::Record;
pub(crate) use record::quoted;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RFC 6376 §3.3.2, with 2048 bits: RFC 8301 §3.2.
    #[serde(rename = "rsa-sha256")]
    RsaSha256,
    /// RFC 8463.
    #[serde(rename = "ed25519-sha256")]
    Ed25519Sha256,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Receivers get to know it; it does not sign.
    Published,
    /// It signs.
    Signing,
    /// It signs no more; its record stays for what it has signed.
    Retired,
}

/// What is known of a key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its name below `_domainkey`: `20261130-rsa`.
    pub selector: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// Where it is in its life.
    pub state: State,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The `p=` of its record.
    pub public: String,
}

/// The keys of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    domain: String,
    folder: PathBuf,
    /// In the order in which they were made.
    pub keys: Vec<Key>,
}

/// What `keys.toml` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    #[serde(default)]
    key: Vec<Key>,
}

const VERSION: u32 = 1;

/// How long the record of a retired key stays: mail waits in queues for days
/// (RFC 5321 §4.5.4.1), and may be read some more days later.
pub const OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);

impl Algorithm {
    /// As it stands in signatures.
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    /// As it stands in records (RFC 6376 §3.6.1) and selectors.
    fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa",
            Self::Ed25519Sha256 => "ed25519",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Retired => "retired",
        })
    }
}

impl Keys {
    /// Those of `domain`, perhaps none, in the host's folder `data`.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(data: &Path, domain: &str) -> Result<Self, Error> {
        let path = file(data, domain);
        let keys = match fs::read_to_string(&path) {
            Ok(text) => parse(&text, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        Ok(Self {
            domain: domain.to_owned(),
            folder: folder(data).join(domain),
            keys,
        })
    }

    /// Whose they are.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What should be in the DNS now.
    pub fn records(&self) -> Vec<Record> {
        let keys = self.keys.iter();
        keys.map(|key| key.record(&self.domain)).collect()
    }

    /// Those in `state`.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.state == state)
    }

    /// Makes a pair of keys: the first of a domain signs at once, for no other
    /// can; later ones are published first. Takes up to some seconds.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn make(&mut self, now: SystemTime) -> Result<(), Error> {
        make_folder(&self.folder)?;
        let state = match self.in_state(State::Signing).next() {
            None => State::Signing,
            Some(_) => State::Published,
        };
        let date = self.free_date(now);
        for algorithm in [Algorithm::RsaSha256, Algorithm::Ed25519Sha256] {
            let selector = format!("{date}-{}", algorithm.key_type());
            let (private, public) = generate::pair(algorithm)
                .map_err(|reason| Error::io("make a key in", &self.folder)(reason))?;
            write_new(&self.private(&selector), private.as_bytes())?;
            self.keys.push(Key {
                selector,
                algorithm,
                state,
                since: seconds(now),
                public,
            });
        }
        self.write()
    }

    /// From now on those that are published sign, and those that signed are
    /// retired; their private keys are deleted.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn advance(&mut self, now: SystemTime) -> Result<(), Error> {
        for key in &mut self.keys {
            key.state = match key.state {
                State::Published => State::Signing,
                State::Signing => State::Retired,
                State::Retired => continue,
            };
            key.since = seconds(now);
        }
        self.write()?;
        for key in self.in_state(State::Retired) {
            remove(&self.private(&key.selector))?;
        }
        Ok(())
    }

    /// Forgets those that have been retired for `at_least`, and returns them:
    /// their records can go.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn forget(&mut self, at_least: Duration, now: SystemTime) -> Result<Vec<Key>, Error> {
        let until = seconds(now).saturating_sub(at_least.as_secs());
        let is_gone = |key: &mut Key| key.state == State::Retired && key.since <= until;
        let gone: Vec<Key> = self.keys.extract_if(.., is_gone).collect();
        if !gone.is_empty() {
            self.write()?;
        }
        Ok(gone)
    }

    /// The private key of `selector`, as PEM.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn private_key(&self, selector: &str) -> Result<String, Error> {
        let path = self.private(selector);
        fs::read_to_string(&path).map_err(Error::io("read", path))
    }

    fn private(&self, selector: &str) -> PathBuf {
        self.folder.join(pem(selector))
    }

    /// The day, with a letter when keys were made on it before.
    fn free_date(&self, now: SystemTime) -> String {
        let day = calendar_day(now);
        let is_taken = |date: &str| {
            let mut keys = self.keys.iter();
            keys.any(|key| key.selector.split('-').next() == Some(date))
        };
        let letters = ('b'..='z').map(|letter| format!("{day}{letter}"));
        let mut dates = std::iter::once(day.clone()).chain(letters);
        let free = dates.find(|date| !is_taken(date));
        free.unwrap_or(format!("{day}x{}", seconds(now)))
    }

    fn write(&self) -> Result<(), Error> {
        let path = self.folder.join(FILE);
        let written = Written {
            version: VERSION,
            key: self.keys.clone(),
        };
        let text = toml::to_string(&written).expect("numbers and words are TOML");
        whole::replace(&path, |file| file.write_all(text.as_bytes()))
            .map_err(Error::io("replace", &path))
    }
}

/// Where the keys of all domains are, in the host's folder `data`.
pub fn folder(data: &Path) -> PathBuf {
    data.join("dkim")
}

/// The file of `domain` in it.
pub(super) fn file(data: &Path, domain: &str) -> PathBuf {
    folder(data).join(domain).join(FILE)
}

const FILE: &str = "keys.toml";

fn parse(text: &str, path: &Path) -> Result<Vec<Key>, Error> {
    let wrong = |reason: String| Error::Config {
        path: path.to_owned(),
        line: 1,
        reason,
    };
    if let Some(reason) = newer_toml(text, VERSION) {
        return Err(wrong(reason));
    }
    let written: Written = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    // They are names of files.
    let is_plain = |key: &Key| {
        let mut bytes = key.selector.bytes();
        bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-') && !key.selector.is_empty()
    };
    match written.key.iter().find(|key| !is_plain(key)) {
        Some(key) => Err(wrong(format!("{:?} is no selector", key.selector))),
        None => Ok(written.key),
    }
}

fn pem(selector: &str) -> String {
    format!("{selector}.pem")
}

/// The folder of a domain, synced into `dkim`, and that into the host's.
fn make_folder(folder: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.map_err(Error::io("make", folder))?;
    let mut above = folder.ancestors().skip(1).take(2);
    above.try_for_each(|above| {
        let synced = File::open(above).and_then(|opened| opened.sync_all());
        synced.map_err(Error::io("sync", above))
    })
}

/// A new file for its owner alone, synced.
fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(Error::io("write", path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn states(keys: &Keys) -> Vec<String> {
        let shown = |key: &Key| format!("{} {}", key.selector, key.state);
        keys.keys.iter().map(shown).collect()
    }

    #[test]
    fn keys_live_from_publishing_to_the_end_of_the_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Keys::read(dir.path(), "example.org").unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_000_000);
        let mut keys = read();
        assert!(keys.keys.is_empty() && !folder(dir.path()).exists());
        keys.make(now).unwrap();
        assert_eq!(read(), keys);
        assert_eq!(
            states(&keys),
            ["20261130-rsa signing", "20261130-ed25519 signing"]
        );
        keys.make(now).unwrap();
        keys.advance(now + DAY).unwrap();
        assert_eq!(
            states(&read()),
            [
                "20261130-rsa retired",
                "20261130-ed25519 retired",
                "20261130b-rsa signing",
                "20261130b-ed25519 signing"
            ]
        );
        assert!(keys.private_key("20261130-rsa").is_err());
        assert!(keys.private_key("20261130b-rsa").is_ok());
        // All four stay in the DNS until the overlap is over.
        assert_eq!(keys.records().len(), 4);
        assert!(keys.forget(OVERLAP, now + DAY * 7).unwrap().is_empty());
        assert_eq!(keys.forget(OVERLAP, now + DAY * 8).unwrap().len(), 2);
        assert_eq!(states(&read()).len(), 2);
    }

    #[test]
    fn nobody_else_may_read_them_and_records_fit_into_a_zone() {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = Keys::read(dir.path(), "example.org").unwrap();
        keys.make(SystemTime::now()).unwrap();
        let folder = folder(dir.path()).join("example.org");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for entry in fs::read_dir(&folder).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
        for record in keys.records() {
            let line = record.to_string();
            let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            assert_eq!(strings.concat(), record.text);
            assert!(strings.iter().all(|string| string.len() <= 255), "{line}");
            assert!(line.contains("._domainkey.example.org. TXT \"v=DKIM1; k="));
        }
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused() {
        for (text, expected) in [
            ("", "missing field `version`"),
            ("version = 2\nring = 1\n", "has format version 2"),
            ("version = 1\nx = 1\n", "unknown field `x`"),
            (
                "version = 1\n[[key]]\nselector = '../x'\nalgorithm = 'rsa-sha256'\n\
                 state = 'signing'\nsince = 1\npublic = ''\n",
                "\"../x\" is no selector",
            ),
        ] {
            let error = parse(text, Path::new("keys.toml")).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
