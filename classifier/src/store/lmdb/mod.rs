//! A person's own database: one LMDB file, opened by one short process for
//! each message, by any number of them at once.
//!
//! Readers wait for nobody and see one state. Writers queue for a lock that
//! the kernel gives back however its holder dies, wait no longer than
//! [`Options::lock_wait`], and a change is there wholly or not at all. The
//! file grows by itself. Where the folder or the file cannot be written a
//! reader does without LMDB's locks and looks afterwards whether a writer
//! came too near; should three changes be committed during one look, it may
//! also end in an error that says to try again.
//!
//! LMDB maps its file and trusts it. [`FaultGuard`] turns what a damaged file
//! does to the process into an error.
//!
//! # Files
//!
//! In the folder that is given to [`Lmdb::open`]; all made with mode 0600:
//!
//! | file | what it is |
//! | --- | --- |
//! | `bmf.mdb` | the database |
//! | `bmf.mdb-lock` | LMDB's table of readers; may be deleted when no process runs |
//! | `bmf.mdb-writer` | locked (`flock`) by the one process that writes; holds the number of the last one |
//! | `bmf.mdb-new` | a smaller copy in the making, to take the place of `bmf.mdb`; what a killed process leaves is removed by the next one that makes it |
//! | `bmf.mdb-moved` | the daemon has taken the database over, and nobody writes here any more: `moving` or `moved`, a blank, seconds since 1970, and after `moved` a blank and the user's [`MarkKey`](crate::mark::MarkKey) in hexadecimal digits, LF; then `version 1`, LF, which marks of before lack |
//!
//! # Layout, version 1
//!
//! LMDB data file of version 1 with all records in its unnamed database, in
//! ascending order of the keys' bytes. Numbers are little-endian; LMDB's own
//! structures are those of the machine, so that a copy for another kind of
//! machine goes through the text format.
//!
//! | key | value |
//! | --- | --- |
//! | NUL `bmf` | bytes 0-3: version; from 4: name of the engine (`classic`), ASCII, to the end |
//! | NUL `messages` | bytes 0-3: messages registered as ham; 4-7: as spam |
//! | a token | byte 0: bit 0 set, in the ham list; bit 1 set, in the spam list; bytes 1-4: count in ham; 5-8: in spam; the count of a list that it is not in is 0 |
//!
//! Under the engine `modern` (docs/modern-engine.md says what is in the values):
//!
//! | key | value |
//! | --- | --- |
//! | NUL `model` | the state of the model |
//! | NUL `page`, 4 bytes: number, big-endian | a page of buckets |
//! | NUL `entry`, 16 bytes: digest of a message | what it added |
//! | NUL `age`, 8 bytes: seconds since 1970, big-endian, 16 bytes: digest | length of its entry, 4 bytes |
//!
//! Of a page or an entry longer than 4,080 bytes these are the first ones; the
//! next ones are under the same key and 2 bytes, number of the part from 1 on,
//! big-endian, until one is shorter.
//!
//! A token is 1 to 511 bytes and does not begin with NUL, so that the two
//! records about the database come first and collide with no token.
//!
//! *Upgrades.* A change that an older program would misread raises the
//! version; it then refuses the file with [`Error::NewerFormat`] and leaves
//! it alone. A newer program reads all older versions and rewrites a database
//! in the newest one with its first change, in one transaction. A file
//! without the first record is new, or, if it holds anything, not ours.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{process, thread};

use self::environment::Environment;
use self::transaction::{Fault, Reading, Writing};
use super::{Durability, Entry, TokenLookup, TokenStore, lock};
use crate::modern::Base;
use crate::{Changes, Error, Listed, Token, TokenCounts, TrainedMessages};

mod environment;
mod fault;
mod model;
mod moved;
mod record;
mod transaction;

pub use self::fault::FaultGuard;
pub use self::moved::Moved;

/// What a process wants of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looks up only, makes no database, and reads a missing one as empty.
    ReadOnly,
    /// Changes it too, and makes it when it is missing.
    ReadWrite,
}

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// Default: [`Access::ReadWrite`].
    pub access: Access,
    /// For how long to wait for another process that writes. Default: 60 s.
    pub lock_wait: Duration,
    /// Name of the engine whose records these are. A new database is made for
    /// it, one of another engine is refused. Default: `classic`.
    pub engine: &'static str,
    /// Engines whose existing database is opened as theirs instead of being
    /// refused. Default: none.
    pub other_engines: &'static [&'static str],
    /// Whether [`Durability`] is kept. Without, all writing back is left to
    /// the system: a killed process still damages nothing, a power failure
    /// may damage the whole database. For benches, and for imports that can
    /// be repeated. Default: true.
    pub syncs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            access: Access::ReadWrite,
            lock_wait: Duration::from_secs(60),
            engine: "classic",
            other_engines: &[],
            syncs: true,
        }
    }
}

impl Options {
    /// For scoring: [`Access::ReadOnly`].
    pub fn read_only() -> Self {
        Self {
            access: Access::ReadOnly,
            ..Self::default()
        }
    }
}

/// More than a message of ordinary length leaves free, which the next one uses:
/// mostly 3 MiB.
const MOST_FREE_PAGES: usize = 768;

/// Token counts of one person in a file.
#[derive(Debug)]
pub struct Lmdb {
    path: PathBuf,
    options: Options,
    /// Locked exclusively only to map a file anew that outgrew its map.
    /// `None`: there is no database, and we may not make one.
    environment: RwLock<Option<Environment>>,
    base: Option<Arc<Base>>,
}

impl Lmdb {
    /// The database's file in `dir`, whether it exists or not.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("bmf.mdb")
    }

    /// Opens the database in the folder `dir`, which is made with mode 0700
    /// if it is missing and `options` allow to write.
    ///
    /// A process can have the same database open only once at a time.
    ///
    /// # Errors
    /// When it cannot be opened with that access, is damaged, was written by
    /// a newer program, or belongs to another engine.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        if options.access == Access::ReadWrite {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(dir);
            made.map_err(Error::io("make", dir))?;
        }
        let path = Self::path(dir);
        let environment = Environment::open(&path, options, 0)?;
        let mut store = Self {
            path,
            options: options.clone(),
            environment: RwLock::new(environment),
            base: None,
        };
        if !options.other_engines.is_empty() {
            store.options.engine = store
                .read(|reading| {
                    let found = reading.engine()?;
                    let others = options.other_engines.iter();
                    Ok(others.copied().find(|other| Some(*other) == found))
                })?
                .unwrap_or(options.engine);
        }
        store.is_new()?;
        Ok(store)
    }

    /// Lets the model begin with what `base` knows.
    pub fn set_base(&mut self, base: Arc<Base>) {
        self.base = Some(base);
    }

    /// The engine that the database was made for, or will be.
    pub fn engine(&self) -> &'static str {
        self.options.engine
    }

    /// Whether nothing was ever written to the database.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn is_new(&self) -> Result<bool, Error> {
        let is_made = self.read(|reading| reading.is_made_for(self.options.engine))?;
        Ok(!is_made)
    }

    /// As [`TokenStore::replace`], unless something was written before, by
    /// whomever: of many processes that import the same lists at the same
    /// time one does. Returns whether this one did.
    ///
    /// # Errors
    /// As `replace`.
    pub fn import(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<bool, Error> {
        self.fill(trained, entries, true)
    }

    fn fill(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
        only_if_new: bool,
    ) -> Result<bool, Error> {
        let records = self.collect(entries)?;
        self.write(Durability::Synced, |writing| {
            if only_if_new && !writing.is_first() {
                return Ok(false);
            }
            writing.clear()?;
            writing.put_trained(trained)?;
            for (token, listed) in &records {
                writing.append(token, *listed)?;
            }
            Ok(true)
        })
    }

    /// In order, so that pages are filled one after another, and in memory,
    /// since a transaction may have to be made again in a larger map.
    fn collect(
        &self,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<BTreeMap<Box<[u8]>, Listed>, Error> {
        let record = |entry: Entry<'_>| {
            record::check_token(entry.token)?;
            Ok((entry.token.into(), Listed::from(entry)))
        };
        entries
            .map(record)
            .filter(|record| !matches!(record, Ok((_, listed)) if listed.is_unlisted()))
            .collect::<Result<_, _>>()
            .map_err(Error::io("write", &self.path))
    }

    /// Calls `look` in one state of the database, with the default answer if
    /// there is none, and again when a writer came too near.
    fn read<T: Default>(
        &self,
        mut look: impl FnMut(&Reading<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        loop {
            let outcome = {
                let environment = self.environment.read();
                match &*environment.unwrap_or_else(PoisonError::into_inner) {
                    None => return Ok(T::default()),
                    Some(environment) => {
                        let base = self.base.as_ref();
                        transaction::read(environment, &self.path, base, &mut look)
                    }
                }
            };
            match outcome {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(Fault::MapTooSmall) => self.map_anew(0)?,
                Err(Fault::ReadersFull) => thread::sleep(Duration::from_millis(1)),
                Err(fault) => return Err(fault.into_error("read", &self.path)),
            }
            if started.elapsed() > self.options.lock_wait {
                return Err(self.locked(None));
            }
        }
    }

    /// Calls `change` in one write transaction and commits it; again from the
    /// beginning if the file outgrew its map.
    fn write<T>(
        &mut self,
        durability: Durability,
        mut change: impl FnMut(&mut Writing<'_, '_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let refused = |kind| Err(Error::io("write", &self.path)(io::Error::from(kind)));
        if self.options.access == Access::ReadOnly {
            return refused(ErrorKind::PermissionDenied);
        }
        let _writer = self.lock_writer(self.options.lock_wait)?;
        if let Some(moved) = Moved::of(&self.path)? {
            return Err(moved.refusal(&self.path));
        }
        loop {
            let (outcome, grown) = {
                let environment = self.environment.read();
                let environment = &*environment.unwrap_or_else(PoisonError::into_inner);
                let Some(environment) = environment else {
                    return refused(ErrorKind::NotFound);
                };
                let target = transaction::Target {
                    environment,
                    path: &self.path,
                    base: self.base.as_ref(),
                    engine: self.options.engine,
                    syncs_folder: self.options.syncs,
                };
                (
                    target.write(durability, &mut change),
                    environment.grown_map_bytes(),
                )
            };
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(Fault::MapFull) => self.map_anew(grown)?,
                Err(Fault::MapTooSmall) => self.map_anew(0)?,
                Err(fault) => return Err(fault.into_error("write", &self.path)),
            }
        }
    }

    /// Opens anew with a map of at least `map_bytes` and of the file's size.
    fn map_anew(&self, map_bytes: u64) -> Result<(), Error> {
        let environment = self.environment.write();
        let mut environment = environment.unwrap_or_else(PoisonError::into_inner);
        // LMDB can resize an open map too, but is left without any, and
        // crashes, if that fails.
        *environment = None;
        *environment = Environment::open(&self.path, &self.options, map_bytes)?;
        Ok(())
    }

    /// Gives back to the system what the file takes beyond what is in use, where
    /// that is much: what changes freed is used again by later ones, but a run
    /// that makes many large ones leaves some 10 MB. Returns whether it did; not
    /// while somebody else has the database open, nor where a copy would not be
    /// the same to its owner. For the end of a run, after its answers.
    ///
    /// # Errors
    /// When the database cannot be read, or the copy not be written. It is as it
    /// was then.
    pub fn trim(&mut self) -> Result<bool, Error> {
        let writes = self.options.access == Access::ReadWrite;
        if !writes || !self.is_loose()? {
            return Ok(false);
        }
        let _writer = match self.lock_writer(Duration::ZERO) {
            Err(Error::Locked { .. }) => return Ok(false),
            locked => locked?,
        };
        // What others wrote meanwhile may have filled it.
        if !self.is_loose()? || Moved::of(&self.path)?.is_some() {
            return Ok(false);
        }
        let copy = self.path.with_extension("mdb-new");
        let environment = self.environment.get_mut();
        let environment = environment.unwrap_or_else(PoisonError::into_inner);
        *environment = None;
        let replaced = environment::replace(&self.path, &copy, self.options.syncs);
        if !matches!(replaced, Ok(true)) {
            drop(fs::remove_file(&copy));
        }
        *environment = Environment::open(&self.path, &self.options, 0)?;
        replaced
    }

    /// Whether much of the file is not in use.
    fn is_loose(&self) -> Result<bool, Error> {
        let environment = self.environment.read();
        let environment = &*environment.unwrap_or_else(PoisonError::into_inner);
        let Some(environment) = environment else {
            return Ok(false);
        };
        let counts = environment.used_and_free();
        let (used, free) = counts.map_err(|e| Fault::from(e).into_error("read", &self.path))?;
        Ok(free > MOST_FREE_PAGES.max(used / 6))
    }

    /// Waits for the lock that writers queue for, held until it is dropped.
    fn lock_writer(&self, wait: Duration) -> Result<fs::File, Error> {
        let path = self.path.with_extension("mdb-writer");
        let file = fs::metadata(&self.path)
            .and_then(|data| environment::create_like(&data, &path))
            .map_err(Error::io("open", &path))?;
        let ours = file.try_clone().map_err(Error::io("open", &path))?;
        match lock::within(wait, ours).map_err(Error::io("lock", &path))? {
            Some(locked) => {
                // For the error message of those who wait in vain; without it
                // they wait the same.
                let id = format!("{:<10}\n", process::id());
                drop(locked.write_all_at(id.as_bytes(), 0));
                Ok(locked)
            }
            None => Err(self.locked(Some(&file))),
        }
    }

    fn locked(&self, lock: Option<&fs::File>) -> Error {
        let owner = lock.and_then(|lock| {
            let mut id = [0; 10];
            lock.read_exact_at(&mut id, 0).ok()?;
            let id: u32 = str::from_utf8(&id).ok()?.trim().parse().ok()?;
            Some(format!("process {id}"))
        });
        Error::Locked {
            path: self.path.clone(),
            waited: self.options.lock_wait,
            owner,
        }
    }
}

impl TokenLookup for Lmdb {
    fn lookup(
        &self,
        tokens: &[Token],
        counts: &mut Vec<TokenCounts>,
    ) -> Result<TrainedMessages, Error> {
        counts.clear();
        counts.resize(tokens.len(), TokenCounts::default());
        self.read(|reading| {
            for (token, counts) in tokens.iter().zip(counts.iter_mut()) {
                *counts = reading.listed(token.as_bytes())?.counts();
            }
            reading.trained()
        })
    }
}

impl TokenStore for Lmdb {
    fn apply(&mut self, changes: &Changes, durability: Durability) -> Result<(), Error> {
        let tokens = changes.tokens_sorted();
        self.write(durability, |writing| {
            let trained = writing.reading().trained()?;
            writing.put_trained(record::adjust_trained(trained, &changes.messages()))?;
            for (token, change) in &tokens {
                let before = writing.reading().listed(token.as_bytes())?;
                let after = before.adjusted(change);
                if after != before {
                    writing.put(token.as_bytes(), after)?;
                }
            }
            Ok(())
        })
    }

    fn entries(
        &self,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Error>,
    ) -> Result<TrainedMessages, Error> {
        // What a writer may have disturbed is visited when it is certain.
        let mut uncertain: Vec<(Box<[u8]>, Listed)> = Vec::new();
        let trained = self.read(|reading| {
            uncertain.clear();
            reading.each(|token, listed| {
                if reading.is_certain() {
                    return visit(listed.entry(token));
                }
                uncertain.push((token.into(), listed));
                Ok(())
            })?;
            reading.trained()
        })?;
        for (token, listed) in &uncertain {
            visit(listed.entry(token))?;
        }
        Ok(trained)
    }

    fn replace(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), Error> {
        self.fill(trained, entries, false).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{self, Listing};

    #[test]
    fn behaves_like_memory() {
        let options = Options {
            syncs: false,
            ..Options::default()
        };
        conformance::check(200, Listing::WhenAdded, |dir| {
            Lmdb::open(dir, &options).unwrap()
        });
    }

    #[test]
    fn keeps_models_as_memory_does() {
        let options = Options {
            syncs: false,
            engine: "modern",
            ..Options::default()
        };
        conformance::check_model(48, |dir| Lmdb::open(dir, &options).unwrap());
    }
}
