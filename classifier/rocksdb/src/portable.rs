//! One user as a stream of bytes: counts, model and ledgers, out of one host
//! and into another.
//!
//! # Stream
//!
//! `postern user` and LF; 4 bytes, [`layout::VERSION`]; then the user's
//! records, ascending by key: 4 bytes, length of what follows the owner in the
//! key; 4 bytes, length of the value; both; and at the end twice 4 bytes 0xff
//! and 8 bytes, the number of records. Numbers are big-endian. Counts stand
//! there as they are after all their changes.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;

use classifier::Error;
use classifier::store::Durability;
use rocksdb::{ReadOptions, WriteBatch};

use crate::HostStore;
use crate::error::damaged;
use crate::host::{Shared, delete_owned};
use crate::layout::{self, UserId};
use crate::user::BATCH_BYTES;

const MAGIC: &[u8] = b"postern user\n";
const END: u32 = u32::MAX;
/// Longer keys and values are not read: the longest are some KiB.
const MAX_LEN: u32 = 64 << 20;

impl HostStore {
    /// Writes all of the user `name`, in one state, to `out`; `false` when
    /// there is no such user.
    ///
    /// # Errors
    /// When the database cannot be read, or `out` not be written.
    pub fn export(&self, name: &str, out: &mut dyn Write) -> Result<bool, Error> {
        let shared = &self.shared;
        let failed = || Error::io("write", EXPORT);
        let snapshot = shared.db.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        let Some(id) = shared.user_id_at(name, &options)? else {
            return Ok(false);
        };
        // An export must not drive what everybody needs out of the cache.
        options.fill_cache(false);
        let head = [MAGIC, &layout::VERSION.to_be_bytes()].concat();
        out.write_all(&head).map_err(failed())?;
        let (from, to) = layout::owned_range(id);
        let mut n_records = 0u64;
        shared.each((from.into(), to.into()), options, |key, value| {
            n_records += 1;
            let key = key.get(layout::OWNER_LEN..).unwrap_or_default();
            write_record(out, key, value).map_err(failed())?;
            Ok(true)
        })?;
        let end = [END.to_be_bytes(), END.to_be_bytes()].concat();
        let written = out.write_all(&end);
        let written = written.and_then(|()| out.write_all(&n_records.to_be_bytes()));
        written.and_then(|()| out.flush()).map_err(failed())?;
        Ok(true)
    }

    /// Makes what [`export`](Self::export) wrote the user `name`, wholly or
    /// not at all, synced; `false` when there is a user of that name, who is
    /// left alone.
    ///
    /// # Errors
    /// When `input` cannot be read or is something else, is newer than this
    /// program, or the database cannot be written.
    pub fn import(&self, name: &str, input: &mut dyn Read) -> Result<bool, Error> {
        let shared = &*self.shared;
        let id = shared.begin_filling()?;
        let outcome = fill(shared, id, input).and_then(|mut batch| {
            let _names = shared.lock_names();
            if shared.user_id(name)?.is_some() {
                return Ok(false);
            }
            batch.put(layout::user_key(name), id.to_record());
            batch.delete(layout::filling_key(id));
            // Also syncs the batches before it, since they stand before it in
            // the log.
            shared.write(batch, Durability::Synced).map(|()| true)
        });
        if !matches!(outcome, Ok(true)) {
            // Else the next opening does it.
            let mut batch = WriteBatch::default();
            delete_owned(&mut batch, id);
            batch.delete(layout::filling_key(id));
            shared.write(batch, Durability::Relaxed)?;
        }
        outcome
    }
}

/// Writes all records under `id` but the last ones, which are returned.
fn fill(shared: &Shared, id: UserId, input: &mut dyn Read) -> Result<WriteBatch, Error> {
    check_head(input)?;
    let mut batch = WriteBatch::default();
    let mut n_records = 0u64;
    loop {
        let [key_len, value_len] = [read_u32(input)?, read_u32(input)?];
        if key_len == END && value_len == END {
            break;
        }
        let (key, value) = (read_bytes(input, key_len)?, read_bytes(input, value_len)?);
        if !key.first().is_some_and(|kind| layout::is_of_user(*kind)) {
            return Err(no_sense("a record is of no known kind"));
        }
        batch.put([&id.to_record()[..], &key].concat(), value);
        n_records += 1;
        if batch.size_in_bytes() >= BATCH_BYTES {
            shared.write(mem::take(&mut batch), Durability::Relaxed)?;
        }
    }
    let [high, low] = [read_u32(input)?, read_u32(input)?].map(u64::from);
    if high << 32 | low != n_records {
        return Err(no_sense("records are missing"));
    }
    Ok(batch)
}

/// What errors name: the stream has no path.
const EXPORT: &str = "the export of a user";

fn no_sense(detail: &str) -> Error {
    damaged(EXPORT.as_ref(), detail)
}

fn write_record(out: &mut dyn Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    for bytes in [key, value] {
        let len = u32::try_from(bytes.len()).unwrap_or(END);
        if len > MAX_LEN {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "a record is too long",
            ));
        }
        out.write_all(&len.to_be_bytes())?;
    }
    out.write_all(key)?;
    out.write_all(value)
}

fn check_head(input: &mut dyn Read) -> Result<(), Error> {
    if read_bytes(input, MAGIC.len() as u32)? != MAGIC {
        return Err(no_sense("it does not begin as one"));
    }
    match read_u32(input)? {
        layout::VERSION => Ok(()),
        found if found > layout::VERSION => Err(Error::NewerFormat {
            path: EXPORT.into(),
            found,
            newest: layout::VERSION,
        }),
        found => Err(no_sense(&format!("no export ever was of version {found}"))),
    }
}

fn read_u32(input: &mut dyn Read) -> Result<u32, Error> {
    let bytes = read_bytes(input, 4)?;
    Ok(bytes.first_chunk().map_or(0, |n| u32::from_be_bytes(*n)))
}

fn read_bytes(input: &mut dyn Read, len: u32) -> Result<Vec<u8>, Error> {
    if len > MAX_LEN {
        return Err(no_sense("a record is too long"));
    }
    let mut bytes = Vec::new();
    let read = input.take(len.into()).read_to_end(&mut bytes);
    let n_read = read.map_err(Error::io("read", EXPORT))?;
    match n_read == len as usize {
        true => Ok(bytes),
        false => Err(no_sense("it is cut short")),
    }
}
