//! The user's database as `bmf` uses it.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Config, Format, Mode};
use crate::store::lmdb::{self, Access, FaultGuard, Lmdb};
use crate::store::{Durability, Text, TokenStore};
use crate::{Changes, Error, import};

/// An opened database.
///
/// Work on it goes through [`Database::run`], so that a fault in the midst of
/// it, which a damaged LMDB file can cause, is an error and not the end of the
/// process. After an error it must not be used again.
#[derive(Clone)]
pub(super) struct Database {
    store: Arc<RwLock<Box<dyn TokenStore + Send + Sync>>>,
    guard: Option<FaultGuard>,
}

impl Database {
    /// Opens what `config` names, and makes it where `bmf` is to learn and
    /// there is none.
    pub(super) fn open(config: &Config, note: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        match config.format {
            Format::Text => {
                let mut store = Text::open(&config.dir, config.lock_wait)?;
                if !config.syncs {
                    store = store.without_sync();
                }
                Ok(Self {
                    store: Arc::new(RwLock::new(Box::new(store))),
                    guard: None,
                })
            }
            Format::Db => Self::open_lmdb(config, note),
            Format::MySql => Err(Error::NotOffered {
                what: "the mysql format",
                instead: "export it with bmf's own `bmfconv -e -f mysql`, import the lists with `bmfconv -i`, and use `-f db`",
            }),
        }
    }

    fn open_lmdb(config: &Config, note: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let guard = FaultGuard::new(&Lmdb::path(&config.dir))?;
        let dir = config.dir.clone();
        let options = lmdb::Options {
            access: match config.mode {
                Mode::Test => Access::ReadOnly,
                _ => Access::ReadWrite,
            },
            lock_wait: config.lock_wait,
            syncs: config.syncs,
            ..lmdb::Options::default()
        };
        let opened = guard.run(move || import::open(&dir, &options))?;
        if let Some(lists) = opened.imported {
            note(&format!("imported {lists}, which are left as they are"));
        }
        Ok(Self {
            store: Arc::new(RwLock::new(opened.store)),
            guard: Some(guard),
        })
    }

    /// Runs `work` on the database, from any thread.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn TokenStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        self.guarded(move || {
            let store = store.read().unwrap_or_else(PoisonError::into_inner);
            work(&**store)
        })
    }

    /// Applies what was learned.
    pub(super) fn apply(&self, changes: Changes, durability: Durability) -> Result<(), Error> {
        let store = Arc::clone(&self.store);
        self.guarded(move || {
            let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
            store.apply(&changes, durability)
        })
    }

    fn guarded<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match &self.guard {
            Some(guard) => guard.run(work),
            None => work(),
        }
    }
}
