//! The user's database as `bmf` uses it.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Config, Engine, Format, Mode, client};
use crate::Error;
use crate::import::{self, Lists};
use crate::modern::Base;
use crate::store::lmdb::{self, Access, FaultGuard, Lmdb};
use crate::store::{Text, TokenStore};

/// An opened database of either engine.
pub(super) enum Database {
    Classic(Guarded<Box<dyn TokenStore + Send + Sync>>),
    Modern(Guarded<Lmdb>),
    /// The daemon owns it.
    Daemon(client::Daemon),
    /// The daemon owns it, and does not answer.
    Copy(Arc<client::Copy>),
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
                let store: Box<dyn TokenStore + Send + Sync> = Box::new(store);
                Ok(Self::Classic(Guarded::new(store, None)))
            }
            Format::Db => client::open(config, note),
            Format::MySql => Err(Error::NotOffered {
                what: "the mysql format",
                instead: "export it with bmf's own `bmfconv -e -f mysql`, import the lists with `bmfconv -i`, and use `-f db`",
            }),
        }
    }

    /// Opens the database in the folder that `config` names.
    pub(super) fn open_lmdb(config: &Config, note: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let guard = FaultGuard::new(&Lmdb::path(&config.dir))?;
        let dir = config.dir.clone();
        let options = lmdb::Options {
            access: match config.mode {
                Mode::Test => Access::ReadOnly,
                _ => Access::ReadWrite,
            },
            lock_wait: config.lock_wait,
            syncs: config.syncs,
            engine: config.engine.unwrap_or_else(|| of_new(&config.dir)).name(),
            other_engines: match config.engine {
                None => &["classic", "modern"],
                Some(_) => &[],
            },
        };
        let for_worker = guard.clone();
        let base = config.base.clone();
        let (database, imported) = guard.run(move || {
            let mut lmdb = Lmdb::open(&dir, &options)?;
            if lmdb.engine() == Engine::Modern.name() {
                if let Some(base) = base {
                    lmdb.set_base(Arc::new(Base::open(&base)?));
                }
                return Ok((Self::Modern(Guarded::new(lmdb, Some(for_worker))), None));
            }
            let opened = import::into(lmdb, &dir, &options)?;
            let store = Guarded::new(opened.store, Some(for_worker));
            Ok((Self::Classic(store), opened.imported))
        })?;
        if let Some(lists) = imported {
            note(&format!("imported {lists}, which are left as they are"));
        }
        Ok(database)
    }
}

/// The engine of a database that is made in `dir` when nobody names one. bmf's
/// lists are taken over by the engine that made them.
fn of_new(dir: &Path) -> Engine {
    match Lists::exist(dir) {
        true => Engine::Classic,
        false => Engine::Modern,
    }
}

/// A store of which work goes through [`Guarded::run`], so that a fault in the
/// midst of it, which a damaged LMDB file can cause, is an error and not the
/// end of the process. After an error it must not be used again.
pub(super) struct Guarded<S> {
    store: Arc<RwLock<S>>,
    guard: Option<FaultGuard>,
}

impl<S> Clone for Guarded<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            guard: self.guard.clone(),
        }
    }
}

impl<S: Send + Sync + 'static> Guarded<S> {
    fn new(store: S, guard: Option<FaultGuard>) -> Self {
        Self {
            store: Arc::new(RwLock::new(store)),
            guard,
        }
    }

    /// Runs `work` on the store, from any thread.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        self.guarded(move || work(&store.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// As [`Self::run`], alone, to change the store.
    pub(super) fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        self.guarded(move || work(&mut store.write().unwrap_or_else(PoisonError::into_inner)))
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
