//! A model of the modern engine in the same file: its records, by key.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use super::Lmdb;
use super::record;
use super::transaction::{Fault, Reading, Writing};
use crate::Error;
use crate::modern::Digest;
use crate::store::Durability;
use crate::store::model::{Bytes, ModelChanges, ModelStore, ModelView};

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
            false => look(&Nothing(&self.path)),
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
            Some(page) => writing.put_bytes(&key, page)?,
            None => writing.delete(&key)?,
        }
    }
    for (time, digest) in &changes.expire {
        writing.delete(&record::entry_key(digest))?;
        writing.delete(&record::age_key(*time, digest))?;
    }
    for (time, digest, entry) in &changes.enter {
        let len = (entry.len() as u32).to_le_bytes();
        writing.put_bytes(&record::entry_key(digest), entry)?;
        writing.put_bytes(&record::age_key(*time, digest), &len)?;
    }
    Ok(())
}

impl ModelView for Reading<'_> {
    fn state(&self) -> Result<Option<Bytes<'_>>, Error> {
        self.model_record(|reading| Ok(reading.bytes(record::STATE_KEY)?.map(Cow::Borrowed)))
    }

    fn pages(&self, numbers: Range<u32>) -> Result<Vec<(u32, Bytes<'_>)>, Error> {
        self.model_record(|reading| {
            let mut pages = Vec::new();
            let keys = record::page_key(numbers.start)..record::page_key(numbers.end);
            reading.each_within(&keys, |key, page| {
                if let Some(number) = record::parse_page_key(key) {
                    pages.push((number, Cow::Borrowed(page)));
                }
                true
            })?;
            Ok(pages)
        })
    }

    fn entry(&self, digest: &Digest) -> Result<Option<Bytes<'_>>, Error> {
        self.model_record(|reading| {
            let entry = reading.bytes(&record::entry_key(digest))?;
            Ok(entry.map(Cow::Borrowed))
        })
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
struct Nothing<'a>(&'a Path);

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

    fn path(&self) -> &Path {
        self.0
    }
}
