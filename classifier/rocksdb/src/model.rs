//! One user's model of the modern engine.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use classifier::Error;
use classifier::modern::{Base, Digest, Explanation, Features, Params, Reading, Stored, Verdict};
use classifier::store::Durability;
use classifier::store::model::{Bytes, ModelChanges, ModelStore, ModelView, explain_by, judge_by};
use rocksdb::{ReadOptions, Snapshot, WriteBatch};

use crate::cache::Held;
use crate::host::Shared;
use crate::layout::{self, UserId};

/// The model of one user of a [`HostStore`](crate::HostStore), and its ledger.
///
/// Any number may be used at the same time. Changes of one user's model come
/// one after another, those of different users side by side; a change is
/// planned in memory and written as one batch. Judging reads nothing while
/// the model is among those in memory, and waits for nobody.
#[derive(Clone)]
pub struct UserModel {
    shared: Arc<Shared>,
    name: Box<str>,
}

impl UserModel {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        Self {
            shared,
            name: name.into(),
        }
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model as it is now, from memory if it is there. It stays as it is
    /// while others change it.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn model(&self) -> Result<Arc<Stored<Arc<[u8]>>>, Error> {
        match self.shared.user_id(&self.name)? {
            Some(id) => self.shared.model(id),
            None => self.nobody().map(Arc::new),
        }
    }

    fn nobody(&self) -> Result<Held, Error> {
        Stored::load(&Nobody(&self.shared))
    }

    /// As [`ModelStore::change`] for a user whom the host does not know yet.
    /// `None`: by now it does.
    fn begin(
        &self,
        durability: Durability,
        plan: &mut dyn FnMut(&dyn ModelView) -> Result<ModelChanges, Error>,
    ) -> Result<Option<()>, Error> {
        let changes = plan(&Nobody(&self.shared))?;
        if changes.is_empty() {
            return Ok(Some(()));
        }
        let _names = self.shared.lock_names();
        if self.shared.user_id(&self.name)?.is_some() {
            return Ok(None);
        }
        let mut batch = WriteBatch::default();
        let id = self.shared.new_id(&mut batch)?;
        batch.put(layout::user_key(&self.name), id.to_record());
        note(&mut batch, id, &changes);
        self.shared.write(batch, durability).map(Some)
    }
}

impl ModelStore for UserModel {
    fn look(&self, look: &mut dyn FnMut(&dyn ModelView) -> Result<(), Error>) -> Result<(), Error> {
        let snapshot = self.shared.db.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        match self.shared.user_id_at(&self.name, &options)? {
            Some(id) => look(&OnDisk {
                shared: &self.shared,
                id,
                snapshot: Some(&snapshot),
            }),
            None => look(&Nobody(&self.shared)),
        }
    }

    fn change(
        &mut self,
        durability: Durability,
        plan: &mut dyn FnMut(&dyn ModelView) -> Result<ModelChanges, Error>,
    ) -> Result<(), Error> {
        loop {
            {
                let _names = self.shared.hold_names();
                if let Some(id) = self.shared.user_id(&self.name)? {
                    let locks = &self.shared.locks;
                    return locks.alone(id, || self.shared.change_model(id, durability, plan));
                }
            }
            if let Some(()) = self.begin(durability, plan)? {
                return Ok(());
            }
        }
    }

    fn judge(&self, messages: &[Features], params: &Params) -> Result<Vec<Verdict>, Error> {
        Ok(judge_by(&*self.model()?, messages, params))
    }

    fn explain(
        &self,
        reading: &Reading<'_>,
        params: &Params,
        n: usize,
    ) -> Result<(Verdict, Explanation), Error> {
        Ok(explain_by(&*self.model()?, reading, params, n))
    }
}

impl Shared {
    fn model(&self, id: UserId) -> Result<Arc<Held>, Error> {
        match self.cache.get(id) {
            Some(model) => Ok(model),
            None => self.locks.alone(id, || self.load(id)),
        }
    }

    /// Under the user's lock.
    fn load(&self, id: UserId) -> Result<Arc<Held>, Error> {
        let now = self.now(id);
        let model = Arc::new(Stored::load(&now)?);
        self.cache.put(id, Arc::clone(&model));
        Ok(model)
    }

    /// Under the user's lock, while names stay as they are.
    fn change_model(
        &self,
        id: UserId,
        durability: Durability,
        plan: &mut dyn FnMut(&dyn ModelView) -> Result<ModelChanges, Error>,
    ) -> Result<(), Error> {
        let model = match self.cache.get(id) {
            Some(model) => model,
            None => self.load(id)?,
        };
        let changes = plan(&Warm {
            model: &model,
            ledger: self.now(id),
        })?;
        if changes.is_empty() {
            return Ok(());
        }
        let after = model.changed(&changes, self.path())?;
        let mut batch = WriteBatch::default();
        note(&mut batch, id, &changes);
        // Should the write fail, nobody knows what it left on disk.
        self.cache.forget(id);
        self.write(batch, durability)?;
        self.cache.put(id, Arc::new(after));
        Ok(())
    }

    fn now(&self, id: UserId) -> OnDisk<'_> {
        OnDisk {
            shared: self,
            id,
            snapshot: None,
        }
    }
}

fn note(batch: &mut WriteBatch, id: UserId, changes: &ModelChanges) {
    if let Some(state) = &changes.state {
        batch.put(layout::state_key(id), state);
    }
    for (number, page) in &changes.pages {
        let key = layout::page_key(id, *number);
        match page {
            Some(page) => batch.put(key, page),
            None => batch.delete(key),
        }
    }
    for (time, digest) in &changes.expire {
        batch.delete(layout::entry_key(id, digest));
        batch.delete(layout::age_key(id, *time, digest));
    }
    for (time, digest, entry) in &changes.enter {
        batch.put(layout::entry_key(id, digest), entry);
        let len = (entry.len() as u32).to_be_bytes();
        batch.put(layout::age_key(id, *time, digest), len);
    }
}

/// A model in the database, in a snapshot or, without, as it is now.
struct OnDisk<'s> {
    shared: &'s Shared,
    id: UserId,
    snapshot: Option<&'s Snapshot<'s>>,
}

impl OnDisk<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes<'_>>, Error> {
        let value = self.shared.get(key, &self.options())?;
        Ok(value.map(|value| Cow::Owned(value.to_vec())))
    }
}

impl ModelView for OnDisk<'_> {
    fn state(&self) -> Result<Option<Bytes<'_>>, Error> {
        self.get(&layout::state_key(self.id))
    }

    fn pages(&self, numbers: Range<u32>) -> Result<Vec<(u32, Bytes<'_>)>, Error> {
        let key = |number| layout::page_key(self.id, number);
        let keys = (key(numbers.start), key(numbers.end));
        let mut pages = Vec::new();
        self.shared
            .each_record(keys, self.options(), |number, page| {
                let number = layout::parse_page(number);
                let number = number.ok_or_else(|| self.shared.damaged("a page has no number"))?;
                pages.push((number, Cow::Owned(page.to_vec())));
                Ok(true)
            })?;
        Ok(pages)
    }

    fn entry(&self, digest: &Digest) -> Result<Option<Bytes<'_>>, Error> {
        self.get(&layout::entry_key(self.id, digest))
    }

    fn entries_by_age(
        &self,
        visit: &mut dyn FnMut(u64, &Digest, u32) -> bool,
    ) -> Result<(), Error> {
        let keys = layout::age_range(self.id);
        self.shared.each_record(keys, self.options(), |age, len| {
            let age = layout::parse_age(age);
            let (time, digest) = age.ok_or_else(|| self.shared.damaged("an entry has no age"))?;
            let len = len.first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
            Ok(visit(time, &digest, len))
        })
    }

    fn base(&self) -> Option<&Arc<Base>> {
        self.shared.base.as_ref()
    }

    fn path(&self) -> &Path {
        self.shared.path()
    }
}

/// A model in memory, whose ledger lies in the database.
struct Warm<'s> {
    model: &'s Held,
    ledger: OnDisk<'s>,
}

impl ModelView for Warm<'_> {
    fn state(&self) -> Result<Option<Bytes<'_>>, Error> {
        self.ledger.state()
    }

    fn held(&self) -> Option<Stored<Bytes<'_>>> {
        Some(self.model.borrowed())
    }

    fn pages(&self, numbers: Range<u32>) -> Result<Vec<(u32, Bytes<'_>)>, Error> {
        Ok(self.model.pages(numbers))
    }

    fn entry(&self, digest: &Digest) -> Result<Option<Bytes<'_>>, Error> {
        self.ledger.entry(digest)
    }

    fn entries_by_age(
        &self,
        visit: &mut dyn FnMut(u64, &Digest, u32) -> bool,
    ) -> Result<(), Error> {
        self.ledger.entries_by_age(visit)
    }

    fn base(&self) -> Option<&Arc<Base>> {
        self.ledger.base()
    }

    fn path(&self) -> &Path {
        self.ledger.path()
    }
}

/// The model of a user whom the host does not know.
struct Nobody<'a>(&'a Shared);

impl ModelView for Nobody<'_> {
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
        self.0.base.as_ref()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
