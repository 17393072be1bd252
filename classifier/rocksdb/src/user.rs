//! One user's part of the database.

use std::mem;
use std::sync::Arc;

use classifier::store::{Durability, Entry, TokenLookup, TokenStore};
use classifier::{Changes, Error, Listed, Token, TokenCounts, TrainedMessages};
use rocksdb::{ReadOptions, WriteBatch};

use crate::host::{Shared, delete_owned};
use crate::layout::{self, UserId};

/// The token counts of one user of a [`HostStore`](crate::HostStore).
///
/// Any number may be used at the same time, for the same user or others.
/// Readers see each change wholly or not at all, and wait for nobody.
#[derive(Clone)]
pub struct UserStore {
    pub(crate) shared: Arc<Shared>,
    name: Box<str>,
}

impl UserStore {
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

    /// Gives `write` the user's id while that stays the user's.
    pub(crate) fn with_id(
        &self,
        write: impl FnOnce(UserId, WriteBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        {
            let _names = self.shared.hold_names();
            if let Some(id) = self.shared.user_id(&self.name)? {
                return write(id, WriteBatch::default());
            }
        }
        let _names = self.shared.lock_names();
        let mut batch = WriteBatch::default();
        let id = match self.shared.user_id(&self.name)? {
            Some(id) => id,
            None => {
                let id = self.shared.new_id(&mut batch)?;
                batch.put(layout::user_key(&self.name), id.to_record());
                id
            }
        };
        write(id, batch)
    }

    fn trained(&self, id: UserId, options: &ReadOptions) -> Result<TrainedMessages, Error> {
        let value = self.shared.get(&layout::messages_key(id), options)?;
        let TokenCounts { ham, spam } = self.counts(value.as_deref())?;
        Ok(TrainedMessages { ham, spam })
    }

    fn counts(&self, value: Option<&[u8]>) -> Result<TokenCounts, Error> {
        Ok(match value {
            Some(value) => self.decode(value)?.counts(),
            None => TokenCounts::default(),
        })
    }

    fn decode(&self, value: &[u8]) -> Result<Listed, Error> {
        layout::decode_counts(value).ok_or_else(|| self.shared.damaged("a count is no count"))
    }
}

impl UserStore {
    /// What the daemon has noted of the user under `name`. It goes with the
    /// user, where that one is deleted, renamed or exported.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(id) = self.shared.user_id(&self.name)? else {
            return Ok(None);
        };
        let key = layout::note_key(id, name);
        let value = self.shared.get(&key, &ReadOptions::default())?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Notes something under `name`, in place of what was noted there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_note(&self, name: &str, value: &[u8], durability: Durability) -> Result<(), Error> {
        self.with_id(|id, mut batch| {
            batch.put(layout::note_key(id, name), value);
            self.shared.write(batch, durability)
        })
    }
}

impl TokenLookup for UserStore {
    fn lookup(
        &self,
        tokens: &[Token],
        counts: &mut Vec<TokenCounts>,
    ) -> Result<TrainedMessages, Error> {
        counts.clear();
        let snapshot = self.shared.db.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        let Some(id) = self.shared.user_id_at(&self.name, &options)? else {
            counts.resize(tokens.len(), TokenCounts::default());
            return Ok(TrainedMessages::default());
        };
        let keys: Vec<_> = tokens
            .iter()
            .map(|token| layout::token_key(id, token.as_bytes()))
            .collect();
        let values =
            self.shared
                .db
                .batched_multi_get_cf_opt(self.shared.family(), &keys, false, &options);
        for value in values {
            let value = value.map_err(|e| self.shared.convert("read", e))?;
            counts.push(self.counts(value.as_deref())?);
        }
        self.trained(id, &options)
    }
}

impl TokenStore for UserStore {
    fn apply(&mut self, changes: &Changes, durability: Durability) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.with_id(|id, mut batch| {
            note(&mut batch, id, changes);
            self.shared.write(batch, durability)
        })
    }

    fn entries(
        &self,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Error>,
    ) -> Result<TrainedMessages, Error> {
        let snapshot = self.shared.db.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        let Some(id) = self.shared.user_id_at(&self.name, &options)? else {
            return Ok(TrainedMessages::default());
        };
        let trained = self.trained(id, &options)?;

        // An export must not drive what everybody looks up out of the cache.
        options.fill_cache(false);
        let tokens = layout::token_range(id);
        self.shared.each_record(tokens, options, |token, counts| {
            let listed = self.decode(counts)?;
            if !listed.is_unlisted() {
                visit(listed.entry(token))?;
            }
            Ok(true)
        })?;
        Ok(trained)
    }

    /// The ledger, which would tell of other counts, is empty afterwards.
    ///
    /// Writes the entries under a new id, in as many batches as they need,
    /// and then gives the user that id, in one.
    fn replace(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), Error> {
        let shared = &*self.shared;
        let id = shared.begin_filling()?;
        let mut batch = WriteBatch::default();
        for entry in entries {
            let key = layout::token_key(id, entry.token);
            batch.put(key, layout::encode_counts(entry.into()));
            if batch.size_in_bytes() >= BATCH_BYTES {
                shared.write(mem::take(&mut batch), Durability::Relaxed)?;
            }
        }
        let messages = Listed {
            ham: Some(trained.ham),
            spam: Some(trained.spam),
        };
        batch.put(layout::messages_key(id), layout::encode_counts(messages));

        let _names = shared.lock_names();
        if let Some(old) = shared.user_id(&self.name)? {
            delete_owned(&mut batch, old);
        }
        batch.put(layout::user_key(&self.name), id.to_record());
        batch.delete(layout::filling_key(id));
        // Also syncs the batches before it, since they stand before it in
        // the log.
        shared.write(batch, Durability::Synced)
    }
}

pub(crate) fn note(batch: &mut WriteBatch, id: UserId, changes: &Changes) {
    if changes.is_empty() {
        return;
    }
    let messages = layout::encode_change(&changes.messages());
    batch.merge(layout::messages_key(id), messages);
    for (token, change) in changes.tokens_sorted() {
        let change = layout::encode_change(&change);
        batch.merge(layout::token_key(id, token.as_bytes()), change);
    }
}

/// What a replacement holds in memory before it writes.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
