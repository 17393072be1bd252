//! What one user taught, whichever engine holds it: what watching folders asks
//! of its ledger, and tells it.
//!
//! A user has one model. Whether that is the classic engine's counts or the
//! modern engine's is settled when it begins ([`engine`]).

use std::fmt;

use classifier::Error;
use classifier::classic::{Params, Scorer};
use classifier::cli::Engine;
use classifier::modern::{self, Act, Class, Digest, Keep, Learned, Lesson, features};
use classifier::store::{Durability, MemoryModel, ModelStore};
use classifier_rocksdb::{HostStore, UserModel, UserStore};

/// See the module.
#[derive(Clone)]
pub enum Taught {
    /// In memory, where there is no database yet.
    Memory(MemoryModel),
    /// A model of the modern engine.
    Modern(UserModel),
    /// Counts of the classic engine, and their ledger.
    Classic(UserStore),
}

/// What a ledger says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The filter filed it as spam, and nothing was learned of it.
    Filed,
    /// It was learned.
    Learned(Learned),
}

/// How far back a ledger goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// When its oldest entry was made, in seconds since 1970; `None`: there is
    /// none.
    pub oldest: Option<u64>,
    /// Something was learned that it knows nothing of, or no more.
    pub has_forgotten: bool,
}

/// 2026-01-01, before there was a bmfd. An older entry was made while the clock
/// was wrong, as it is while a machine without a battery starts, and says
/// nothing of how far back the ledger goes.
const EARLIEST: u64 = 1_767_225_600;

/// Under which the daemon notes that a user's model is of the classic engine.
const ENGINE: &str = "engine";

/// The engine of a user's model; `None`: there is no model yet.
///
/// # Errors
/// When the database cannot be read.
pub fn engine(host: &HostStore, user: &str) -> Result<Option<Engine>, Error> {
    if host.user(user).note(ENGINE)?.is_some() {
        return Ok(Some(Engine::Classic));
    }
    let engines = host.engines(user)?;
    Ok(engines.contains(&"modern").then_some(Engine::Modern))
}

/// Makes a user's model one of the classic engine, from now on.
///
/// # Errors
/// When the database cannot be written.
pub fn make_classic(host: &HostStore, user: &str) -> Result<(), Error> {
    host.user(user)
        .put_note(ENGINE, b"classic", Durability::Synced)
}

impl Taught {
    /// What `user` taught. Who has no model yet begins with the modern engine.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn of(host: &HostStore, user: &str) -> Result<Self, Error> {
        Ok(match engine(host, user)? {
            Some(Engine::Classic) => Self::Classic(host.user(user)),
            _ => Self::Modern(host.model(user)),
        })
    }

    fn model(&self) -> Result<&dyn ModelStore, &UserStore> {
        match self {
            Self::Memory(model) => Ok(model),
            Self::Modern(model) => Ok(model),
            Self::Classic(store) => Err(store),
        }
    }

    /// What the ledger says of each of some messages; `None`: nothing, or no
    /// more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entries(&self, digests: &[Digest]) -> Result<Vec<Option<Entry>>, Error> {
        let mut entries = Vec::with_capacity(digests.len());
        match self.model() {
            Ok(_) if digests.is_empty() => {}
            Ok(model) => model.look(&mut |view| {
                entries.clear();
                for digest in digests {
                    let learned = modern::learned(view, digest)?;
                    let is_filed = || modern::is_filed(view, digest);
                    entries.push(entry(learned, is_filed)?);
                }
                Ok(())
            })?,
            Err(store) => {
                for digest in digests {
                    let learned = store.learned(digest)?;
                    entries.push(entry(learned, || store.is_filed(digest))?);
                }
            }
        }
        Ok(entries)
    }

    /// How far back the ledger goes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reach(&self) -> Result<Reach, Error> {
        let model = match self.model() {
            Ok(model) => model,
            Err(store) => {
                return Ok(Reach {
                    oldest: store.oldest_entry(EARLIEST)?,
                    has_forgotten: store.has_unrecorded()?,
                });
            }
        };
        let mut reach = Reach::default();
        model.look(&mut |view| {
            reach.has_forgotten = modern::has_forgotten(view)?;
            view.entries_by_age(&mut |time, _, _| {
                reach.oldest = Some(time).filter(|time| *time >= EARLIEST);
                reach.oldest.is_none()
            })
        })?;
        Ok(reach)
    }

    /// Does what is to be done with each message, in order and in one change,
    /// on disk when it returns. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When the store fails; then nothing was learned.
    pub fn learn(&mut self, lessons: &[(Vec<u8>, Act)], now: u64) -> Result<(), Error> {
        let keep = Keep::default();
        let model: &mut dyn ModelStore = match self {
            Self::Memory(model) => model,
            Self::Modern(model) => model,
            Self::Classic(store) => {
                let lessons: Vec<_> = lessons.iter().map(|(raw, act)| (&**raw, *act)).collect();
                return store
                    .learn(&lessons, now, &keep, Durability::Synced)
                    .map(drop);
            }
        };
        let lessons = lessons.iter().map(|(raw, act)| Lesson::new(raw, *act));
        let lessons: Vec<_> = lessons.collect();
        modern::learn(model, &lessons, now, &keep, Durability::Synced).map(drop)
    }

    /// Whether a message is ham without doubt. The classic engine has no word
    /// for doubt: it is as far from spam as spam is from ham.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_surely_ham(&self, raw: &[u8]) -> Result<bool, Error> {
        match self.model() {
            Ok(model) => {
                let verdicts = model.judge(&[features(raw)], &modern::Params::default())?;
                Ok(verdicts.iter().all(|verdict| verdict.class == Class::Ham))
            }
            Err(store) => {
                let params = Params::bmf();
                let score = Scorer::default().score(raw, store, &params)?;
                Ok(score.hits <= 1.0 - params.spam_cutoff)
            }
        }
    }
}

fn entry(
    learned: Option<Learned>,
    is_filed: impl FnOnce() -> Result<bool, Error>,
) -> Result<Option<Entry>, Error> {
    Ok(match learned {
        Some(learned) => Some(Entry::Learned(learned)),
        None => is_filed()?.then_some(Entry::Filed),
    })
}

impl fmt::Debug for Taught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(model) => model.fmt(f),
            Self::Modern(_) => f.write_str("Modern"),
            Self::Classic(_) => f.write_str("Classic"),
        }
    }
}

#[cfg(test)]
mod tests {
    use classifier::Label;
    use classifier::modern::Canonical;

    use super::*;

    fn mail(n: u32, words: &str) -> Vec<u8> {
        format!("Subject: {words} {n}\n\n{words} of {n}\n").into_bytes()
    }

    #[test]
    fn either_engine_has_a_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostStore::open(dir.path(), &Default::default()).unwrap();
        make_classic(&host, "bert").unwrap();
        for (user, is_classic) in [("anna", false), ("bert", true)] {
            let mut taught = Taught::of(&host, user).unwrap();
            assert_eq!(matches!(taught, Taught::Classic(_)), is_classic);
            let mut lessons = vec![(mail(99, "filed"), Act::NoteFiled)];
            for n in 0..30 {
                for (words, label) in [("lunch", Label::Ham), ("pills", Label::Spam)] {
                    lessons.push((mail(n, words), Act::Learn(label)));
                }
            }
            for now in [1, 2] {
                taught.learn(&lessons, now).unwrap();
            }
            let digest = |raw: &[u8]| Canonical::new(raw).digest();
            let asked = [
                digest(&mail(99, "filed")),
                digest(&mail(1, "pills")),
                digest(&mail(1, "other")),
            ];
            let learned = Learned {
                label: Label::Spam,
                own_verdict: false,
            };
            assert_eq!(
                taught.entries(&asked).unwrap(),
                [Some(Entry::Filed), Some(Entry::Learned(learned)), None]
            );
            assert!(taught.is_surely_ham(&mail(50, "lunch")).unwrap(), "{user}");
            assert!(!taught.is_surely_ham(&mail(50, "pills")).unwrap(), "{user}");
        }
        assert_eq!(engine(&host, "anna").unwrap(), Some(Engine::Modern));
        assert_eq!(engine(&host, "bert").unwrap(), Some(Engine::Classic));
        assert_eq!(engine(&host, "carl").unwrap(), None);
    }
}
