//! A model of the modern engine in the same file: its records, by key.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::Lmdb;
use super::record::{self, PART_BYTES};
use super::transaction::{Fault, Reading, Writing};
use crate::Error;
use crate::modern::{Base, Digest};
use crate::store::Durability;
use crate::store::model::{Bytes, ModelChanges, ModelStore, ModelView};

/// What a model and its ledger may take of the file: with what changes leave free
/// 20 MiB, 4 for the model and 16 for the ledger.
const MOST_BYTES: u64 = 17 << 20;

impl ModelStore for Lmdb {
    fn look(&self, look: &mut dyn FnMut(&dyn ModelView) -> Result<(), Error>) -> Result<(), Error> {
        let mut was_called = false;
        self.read(|reading| {
            was_called = true;
            Ok(look(reading)?)
        })?;
        // There is no file yet.
        match was_called {
            true => Ok(()),
            false => look(&Nothing {
                path: &self.path,
                base: self.base.as_ref(),
            }),
        }
    }

    fn change(
        &mut self,
        durability: Durability,
        plan: &mut dyn FnMut(&dyn ModelView) -> Result<ModelChanges, Error>,
    ) -> Result<(), Error> {
        self.write(durability, |writing| {
            let changes = plan(&writing.reading())?;
            apply(writing, &changes)
        })
    }
}

fn apply(writing: &mut Writing<'_, '_>, changes: &ModelChanges) -> Result<(), Fault> {
    if let Some(state) = &changes.state {
        writing.put_bytes(record::STATE_KEY, state)?;
    }
    for (number, page) in &changes.pages {
        let key = record::page_key(*number);
        match page {
            Some(page) => put_long(writing, &key, page)?,
            None => delete_long(writing, &key)?,
        }
    }
    for (time, digest) in &changes.expire {
        delete_long(writing, &record::entry_key(digest))?;
        writing.delete(&record::age_key(*time, digest))?;
    }
    for (time, digest, entry) in &changes.enter {
        let len = (entry.len() as u32).to_le_bytes();
        put_long(writing, &record::entry_key(digest), entry)?;
        writing.put_bytes(&record::age_key(*time, digest), &len)?;
    }
    Ok(())
}

/// Writes a value in as many parts as it needs, in place of any other.
fn put_long(writing: &mut Writing<'_, '_>, key: &[u8], value: &[u8]) -> Result<(), Fault> {
    let mut next = 0;
    for part in value.chunks(PART_BYTES) {
        writing.put_bytes(&record::part_key(key, next), part)?;
        next += 1;
    }
    delete_parts(writing, key, next)
}

fn delete_long(writing: &mut Writing<'_, '_>, key: &[u8]) -> Result<(), Fault> {
    delete_parts(writing, key, 0)
}

fn delete_parts(writing: &mut Writing<'_, '_>, key: &[u8], from: u16) -> Result<(), Fault> {
    for n in from..=u16::MAX {
        let key = record::part_key(key, n);
        let len = writing.reading().bytes(&key)?.map(<[u8]>::len);
        if len.is_some() {
            writing.delete(&key)?;
        }
        if len != Some(PART_BYTES) {
            break;
        }
    }
    Ok(())
}

/// Where a value lies, or its parts put together.
fn long<'a>(reading: &'a Reading<'_>, key: &[u8]) -> Result<Option<Bytes<'a>>, Fault> {
    let Some(first) = reading.bytes(key)? else {
        return Ok(None);
    };
    let mut value = Cow::Borrowed(first);
    let mut len = first.len();
    for n in 1..=u16::MAX {
        if len != PART_BYTES {
            break;
        }
        let part = reading
            .bytes(&record::part_key(key, n))?
            .unwrap_or_default();
        if !part.is_empty() {
            value.to_mut().extend_from_slice(part);
        }
        len = part.len();
    }
    Ok(Some(value))
}

impl ModelView for Reading<'_> {
    fn state(&self) -> Result<Option<Bytes<'_>>, Error> {
        self.model_record(|reading| Ok(reading.bytes(record::STATE_KEY)?.map(Cow::Borrowed)))
    }

    fn pages(&self, numbers: Range<u32>) -> Result<Vec<(u32, Bytes<'_>)>, Error> {
        self.model_record(|reading| {
            let mut pages: Vec<(u32, Bytes<'_>)> = Vec::new();
            let keys = record::page_key(numbers.start)..record::page_key(numbers.end);
            reading.each_within(&keys, |key, page| {
                match (record::parse_page_key(key), pages.last_mut()) {
                    (Some(number), Some((last, pages))) if number == *last => {
                        pages.to_mut().extend_from_slice(page);
                    }
                    (Some(number), _) => pages.push((number, Cow::Borrowed(page))),
                    (None, _) => {}
                }
                true
            })?;
            Ok(pages)
        })
    }

    fn entry(&self, digest: &Digest) -> Result<Option<Bytes<'_>>, Error> {
        self.model_record(|reading| long(reading, &record::entry_key(digest)))
    }

    fn entries_by_age(
        &self,
        visit: &mut dyn FnMut(u64, &Digest, u32) -> bool,
    ) -> Result<(), Error> {
        self.model_record(|reading| {
            let keys = record::AGE_PREFIX.to_vec()..record::age_end();
            reading.each_within(&keys, |key, len| {
                let len = len.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
                record::parse_age_key(key).is_none_or(|(time, digest)| visit(time, &digest, len))
            })
        })
    }

    fn n_bytes_too_many(&self) -> Result<u64, Error> {
        let used = self.model_record(Self::n_bytes_in_use)?;
        Ok(used.saturating_sub(MOST_BYTES))
    }

    fn base(&self) -> Option<&Arc<Base>> {
        Reading::base(self)
    }

    fn path(&self) -> &Path {
        self.file()
    }
}

impl Reading<'_> {
    fn model_record<'a, T>(
        &'a self,
        read: impl FnOnce(&'a Self) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        read(self).map_err(|fault| fault.into_error("read", self.file()))
    }
}

/// What a database that is not there holds.
struct Nothing<'a> {
    path: &'a Path,
    base: Option<&'a Arc<Base>>,
}

impl ModelView for Nothing<'_> {
    fn state(&self) -> Result<Option<Bytes<'_>>, Error> {
        Ok(None)
    }

    fn pages(&self, _: Range<u32>) -> Result<Vec<(u32, Bytes<'_>)>, Error> {
        Ok(Vec::new())
    }

    fn entry(&self, _: &Digest) -> Result<Option<Bytes<'_>>, Error> {
        Ok(None)
    }

    fn entries_by_age(&self, _: &mut dyn FnMut(u64, &Digest, u32) -> bool) -> Result<(), Error> {
        Ok(())
    }

    fn base(&self) -> Option<&Arc<Base>> {
        self.base
    }

    fn path(&self) -> &Path {
        self.path
    }
}
