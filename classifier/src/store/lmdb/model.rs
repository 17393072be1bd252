//! A model of the modern engine in the same file: its records, by key.

use std::path::Path;

use super::Lmdb;
use super::record;
use super::transaction::{Fault, Reading, Writing};
use crate::Error;
use crate::modern::Digest;
use crate::store::Durability;
use crate::store::model::{ModelChanges, ModelStore, ModelView};

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
    fn state(&self) -> Result<Option<&[u8]>, Error> {
        self.model_record(|reading| reading.bytes(record::STATE_KEY))
    }

    fn pages(&self) -> Result<Vec<(u32, &[u8])>, Error> {
        self.model_record(|reading| {
            let mut pages = Vec::new();
            reading.each_from(record::PAGE_PREFIX, |key, page| {
                if let Some(number) = record::parse_page_key(key) {
                    pages.push((number, page));
                }
                true
            })?;
            Ok(pages)
        })
    }

    fn entry(&self, digest: &Digest) -> Result<Option<&[u8]>, Error> {
        self.model_record(|reading| reading.bytes(&record::entry_key(digest)))
    }

    fn entries_by_age(
        &self,
        visit: &mut dyn FnMut(u64, &Digest, u32) -> bool,
    ) -> Result<(), Error> {
        self.model_record(|reading| {
            reading.each_from(record::AGE_PREFIX, |key, len| {
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
    fn state(&self) -> Result<Option<&[u8]>, Error> {
        Ok(None)
    }

    fn pages(&self) -> Result<Vec<(u32, &[u8])>, Error> {
        Ok(Vec::new())
    }

    fn entry(&self, _: &Digest) -> Result<Option<&[u8]>, Error> {
        Ok(None)
    }

    fn entries_by_age(&self, _: &mut dyn FnMut(u64, &Digest, u32) -> bool) -> Result<(), Error> {
        Ok(())
    }

    fn path(&self) -> &Path {
        self.0
    }
}
