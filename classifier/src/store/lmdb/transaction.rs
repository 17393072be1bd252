//! One transaction: the records as one process sees them at one moment.

use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{Database, MdbError, PutFlags, RoTxn, RwTxn};

use super::environment::{self, Environment};
use super::fault;
use super::record;
use crate::modern::Base;
use crate::store::Durability;
use crate::{Error, Listed, TrainedMessages};

/// Why a transaction did not come to its end.
pub(super) enum Fault {
    /// What we write no longer fits the map.
    MapFull,
    /// Another process made the file larger than our map.
    MapTooSmall,
    /// More readers than the table has room for.
    ReadersFull,
    Lmdb(heed::Error),
    Store(Error),
}

impl From<heed::Error> for Fault {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Self::MapFull,
            heed::Error::Mdb(MdbError::MapResized) => Self::MapTooSmall,
            heed::Error::Mdb(MdbError::ReadersFull) => Self::ReadersFull,
            error => Self::Lmdb(error),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// For those faults that are not to be tried again.
    pub(super) fn into_error(self, action: &'static str, path: &Path) -> Error {
        let detail = match self {
            Self::Store(error) => return error,
            Self::Lmdb(heed::Error::Io(error)) => {
                return Error::io(action, path)(environment::named(error, path));
            }
            Self::Lmdb(error) => error.to_string(),
            Self::MapFull => MdbError::MapFull.to_string(),
            Self::MapTooSmall => MdbError::MapResized.to_string(),
            Self::ReadersFull => MdbError::ReadersFull.to_string(),
        };
        damaged(path, detail)
    }
}

fn damaged(path: &Path, detail: impl Into<String>) -> Error {
    Error::Damaged {
        path: path.into(),
        detail: detail.into(),
    }
}

type Table = Database<Bytes, Bytes>;

/// Calls `look` in one state of the database. `None`: a writer may have
/// disturbed it, so that the answer is worth nothing.
pub(super) fn read<T>(
    environment: &Environment,
    path: &Path,
    base: Option<&Arc<Base>>,
    look: impl FnOnce(&Reading<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let env = &environment.env;
    let txn = match env.read_txn() {
        Err(heed::Error::Mdb(MdbError::ReadersFull)) => {
            env.clear_stale_readers()?;
            env.read_txn()?
        }
        outcome => outcome?,
    };
    // A writer that does not know of us reuses, in the transaction that is
    // the third after ours, the pages that only our state still holds, and
    // overwrites our header page in the second. So nothing was disturbed if
    // at the start nobody was beyond our state, and at the end at most one
    // transaction is complete.
    let newer = || env.info().last_txn_id.saturating_sub(txn.id());
    if !environment.is_shared && newer() > 0 {
        return Ok(None);
    }
    fault::set_certain(environment.is_shared);
    let answer = look(&Reading {
        table: environment.table,
        txn: &txn,
        path,
        base,
        is_certain: environment.is_shared,
    });
    fault::set_certain(true);
    if !environment.is_shared && newer() > 1 {
        return Ok(None);
    }
    answer.map(Some)
}

/// The records, for looking.
pub(super) struct Reading<'t> {
    table: Table,
    txn: &'t RoTxn<'t>,
    path: &'t Path,
    base: Option<&'t Arc<Base>>,
    is_certain: bool,
}

impl Reading<'_> {
    /// Whether no writer can disturb what is read.
    pub(super) fn is_certain(&self) -> bool {
        self.is_certain
    }

    /// What a model begins with.
    pub(super) fn base(&self) -> Option<&Arc<Base>> {
        self.base
    }

    /// The database's file.
    pub(super) fn file(&self) -> &Path {
        self.path
    }

    /// Bytes of all pages that hold records.
    pub(super) fn n_bytes_in_use(&self) -> Result<u64, Fault> {
        let stat = self.table.stat(self.txn)?;
        Ok(environment::n_pages(&stat) as u64 * u64::from(stat.page_size))
    }

    /// The value of any key.
    pub(super) fn bytes(&self, key: &[u8]) -> Result<Option<&[u8]>, Fault> {
        Ok(self.table.get(self.txn, key)?)
    }

    /// Calls `visit` for each record of these keys, in ascending order, until
    /// it returns false.
    pub(super) fn each_within<'a>(
        &'a self,
        keys: &Range<Vec<u8>>,
        mut visit: impl FnMut(&'a [u8], &'a [u8]) -> bool,
    ) -> Result<(), Fault> {
        let keys = (
            Bound::Included(keys.start.as_slice()),
            Bound::Excluded(keys.end.as_slice()),
        );
        for record in self.table.range(self.txn, &keys)? {
            let (key, value) = record?;
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    /// The engine that the database was made for. `None`: it was not made
    /// yet.
    pub(super) fn engine(&self) -> Result<Option<&str>, Fault> {
        let value = self.table.get(self.txn, record::FORMAT_KEY)?;
        Ok(value
            .and_then(record::parse_format)
            .map(|(_, engine)| engine))
    }

    /// Whether the database was made at all, and if so for `engine`.
    pub(super) fn is_made_for(&self, engine: &str) -> Result<bool, Fault> {
        let Some(value) = self.table.get(self.txn, record::FORMAT_KEY)? else {
            if self.table.is_empty(self.txn)? {
                return Ok(false);
            }
            return Err(damaged(self.path, "it is an LMDB file of another program").into());
        };
        let path = self.path.into();
        let newest = record::FORMAT_VERSION;
        Err(Fault::Store(match record::parse_format(value) {
            Some((record::FORMAT_VERSION, found)) if found == engine => return Ok(true),
            Some((record::FORMAT_VERSION, found)) => Error::OtherEngine {
                path,
                found: found.into(),
                wanted: engine.into(),
            },
            Some((found, _)) if found > newest => Error::NewerFormat {
                path,
                found,
                newest,
            },
            _ => damaged(self.path, "its format record makes no sense"),
        }))
    }

    pub(super) fn trained(&self) -> Result<TrainedMessages, Fault> {
        let Some(value) = self.table.get(self.txn, record::MESSAGES_KEY)? else {
            return Ok(TrainedMessages::default());
        };
        record::parse_messages(value)
            .ok_or_else(|| damaged(self.path, "its message counts make no sense").into())
    }

    pub(super) fn listed(&self, token: &[u8]) -> Result<Listed, Fault> {
        match self.table.get(self.txn, token)? {
            None => Ok(Listed::default()),
            Some(value) => self.parse(token, value),
        }
    }

    /// Calls `visit` for each token in ascending order.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(&[u8], Listed) -> Result<(), Error>,
    ) -> Result<(), Fault> {
        for record in self.table.iter(self.txn)? {
            let (token, value) = record?;
            if record::check_token(token).is_ok() {
                visit(token, self.parse(token, value)?)?;
            }
        }
        Ok(())
    }

    fn parse(&self, token: &[u8], value: &[u8]) -> Result<Listed, Fault> {
        record::parse_listed(value).ok_or_else(|| {
            let token = token.escape_ascii();
            damaged(self.path, format!("the counts of '{token}' make no sense")).into()
        })
    }
}

/// What is written to.
pub(super) struct Target<'a> {
    pub(super) environment: &'a Environment,
    pub(super) path: &'a Path,
    /// What a model begins with.
    pub(super) base: Option<&'a Arc<Base>>,
    /// The engine that writes.
    pub(super) engine: &'a str,
    /// Whether the folder is synced before a new database is first committed.
    pub(super) syncs_folder: bool,
}

impl Target<'_> {
    /// Calls `change` in one transaction and commits it.
    pub(super) fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Writing<'_, '_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Environment { env, table, .. } = self.environment;
        // Readers that were killed would keep their pages from being reused
        // for ever, and the file would grow with every change.
        env.clear_stale_readers()?;
        self.environment
            .set_relaxed(durability == Durability::Relaxed)?;
        let mut txn = env.write_txn()?;
        let mut writing = Writing {
            table: *table,
            txn: &mut txn,
            target: self,
            is_first: false,
        };
        if !writing.reading().is_made_for(self.engine)? {
            writing.is_first = true;
            writing.put_format()?;
            if self.syncs_folder {
                environment::sync_folder(self.path)?;
            }
        }
        let answer = change(&mut writing)?;
        txn.commit()?;
        Ok(answer)
    }
}

/// The records, for changing.
pub(super) struct Writing<'t, 'e> {
    table: Table,
    txn: &'t mut RwTxn<'e>,
    target: &'t Target<'t>,
    is_first: bool,
}

impl Writing<'_, '_> {
    /// Whether nothing was ever written before.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn reading(&self) -> Reading<'_> {
        Reading {
            table: self.table,
            txn: self.txn,
            path: self.target.path,
            base: self.target.base,
            is_certain: true,
        }
    }

    /// Leaves only the format record.
    pub(super) fn clear(&mut self) -> Result<(), Fault> {
        self.table.clear(self.txn)?;
        self.put_format()
    }

    fn put_format(&mut self) -> Result<(), Fault> {
        let value = record::format(self.target.engine);
        Ok(self.table.put(self.txn, record::FORMAT_KEY, &value)?)
    }

    pub(super) fn put_trained(&mut self, trained: TrainedMessages) -> Result<(), Fault> {
        let value = record::messages(trained);
        Ok(self.table.put(self.txn, record::MESSAGES_KEY, &value)?)
    }

    pub(super) fn put(&mut self, token: &[u8], listed: Listed) -> Result<(), Fault> {
        Ok(self.table.put(self.txn, token, &record::listed(listed))?)
    }

    pub(super) fn put_bytes(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        Ok(self.table.put(self.txn, key, value)?)
    }

    pub(super) fn delete(&mut self, key: &[u8]) -> Result<(), Fault> {
        self.table.delete(self.txn, key)?;
        Ok(())
    }

    /// As [`Self::put`], for a token that is greater than all before it.
    pub(super) fn append(&mut self, token: &[u8], listed: Listed) -> Result<(), Fault> {
        let (flags, value) = (PutFlags::APPEND, record::listed(listed));
        Ok(self.table.put_with_flags(self.txn, flags, token, &value)?)
    }
}
