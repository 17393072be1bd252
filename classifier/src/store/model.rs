//! Where a model of the modern engine lives: pages of buckets, a small state,
//! and the ledger of what each message added.
//!
//! A store knows none of these bytes; `modern` writes and reads them. What it
//! promises is that a look sees one state, and that a change is planned
//! against the state that it is applied to, wholly or not at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::Durability;
use crate::Error;
use crate::modern::{
    Base, Digest, Explanation, Features, Judge, Near, Params, Reading, Stored, Verdict, Weights,
    score,
};

/// A record: where it lies, if that is memory, or a copy.
pub type Bytes<'a> = Cow<'a, [u8]>;

/// One state of a model, borrowed from a store for as long as one looks.
pub trait ModelView {
    /// The state record; `None` in a new store.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn state(&self) -> Result<Option<Bytes<'_>>, Error>;

    /// The pages of these numbers that there are, ascending. Where the store
    /// is memory-mapped none of them is read by this.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn pages(&self, numbers: Range<u32>) -> Result<Vec<(u32, Bytes<'_>)>, Error>;

    /// The ledger's entry of a message.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn entry(&self, digest: &Digest) -> Result<Option<Bytes<'_>>, Error>;

    /// Calls `visit` with time, digest and length of entries, oldest first,
    /// until it returns false.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn entries_by_age(&self, visit: &mut dyn FnMut(u64, &Digest, u32) -> bool)
    -> Result<(), Error>;

    /// The model as it was read before, where that is in memory, so that it
    /// need not be read again.
    fn held(&self) -> Option<Stored<Bytes<'_>>> {
        None
    }

    /// By how much the store takes more than it may, in bytes, so that as many
    /// of the ledger's have to go.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn n_bytes_too_many(&self) -> Result<u64, Error> {
        Ok(0)
    }

    /// What the user's sums are added to; `None`: nothing.
    fn base(&self) -> Option<&Arc<Base>> {
        None
    }

    /// What error messages name.
    fn path(&self) -> &Path;
}

/// A change of a model as plain data. What is not named stays.
#[derive(Clone, Debug, Default)]
pub struct ModelChanges {
    /// The new state record.
    pub state: Option<Vec<u8>>,
    /// Pages by number; `None` removes one.
    pub pages: BTreeMap<u32, Option<Vec<u8>>>,
    /// Entries that leave the ledger, with the time that they were entered
    /// under. Done before `enter`.
    pub expire: Vec<(u64, Digest)>,
    /// Entries that the ledger gets, with their time. There is none of the
    /// same digest that does not leave.
    pub enter: Vec<(u64, Digest, Vec<u8>)>,
}

impl ModelChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        let Self {
            state,
            pages,
            expire,
            enter,
        } = self;
        state.is_none() && pages.is_empty() && expire.is_empty() && enter.is_empty()
    }
}

/// A model of one user.
pub trait ModelStore {
    /// Calls `look` with one state; again, from the beginning, where a writer
    /// came too near.
    ///
    /// # Errors
    /// When the store cannot be read, or the error of `look`.
    fn look(&self, look: &mut dyn FnMut(&dyn ModelView) -> Result<(), Error>) -> Result<(), Error>;

    /// Calls `plan` with the state that nobody else can change meanwhile, and
    /// applies what it returns, wholly or, on an error, not at all. `plan` may
    /// be called again, from the beginning.
    ///
    /// # Errors
    /// When the store cannot be read or written, or is locked for too long, or
    /// the error of `plan`.
    fn change(
        &mut self,
        durability: Durability,
        plan: &mut dyn FnMut(&dyn ModelView) -> Result<ModelChanges, Error>,
    ) -> Result<(), Error>;

    /// Judges messages in one state of the model. A store that keeps models
    /// in memory reads nothing for it.
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    fn judge(&self, messages: &[Features], params: &Params) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::new();
        self.look(&mut |view| {
            verdicts = judge_by(&Stored::open(view)?, messages, params);
            Ok(())
        })?;
        Ok(verdicts)
    }

    /// The verdict of a message and its reasons, at most `n` each way, as
    /// [`judge`](Self::judge).
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    fn explain(
        &self,
        reading: &Reading<'_>,
        params: &Params,
        n: usize,
    ) -> Result<(Verdict, Explanation), Error> {
        let mut explained = None;
        self.look(&mut |view| {
            explained = Some(explain_by(&Stored::open(view)?, reading, params, n));
            Ok(())
        })?;
        Ok(explained.expect("a store shows one state"))
    }
}

/// The verdicts of `weights`, in order.
pub fn judge_by(weights: &impl Weights, messages: &[Features], params: &Params) -> Vec<Verdict> {
    let judge = Judge::new(weights, params);
    messages
        .iter()
        .map(|message| judge.score(message))
        .collect()
}

/// The verdict of `weights` and its reasons; none where nothing was compared.
pub fn explain_by(
    weights: &impl Weights,
    reading: &Reading<'_>,
    params: &Params,
    n: usize,
) -> (Verdict, Explanation) {
    let weights = &Near::new(reading.features(), weights);
    let verdict = score(reading.features(), weights, params);
    let explanation = match verdict.views == [0.0; 3] {
        true => Explanation::default(),
        false => reading.explain(weights, n),
    };
    (verdict, explanation)
}

/// A model that ends with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryModel {
    state: Option<Vec<u8>>,
    pages: BTreeMap<u32, Vec<u8>>,
    entries: BTreeMap<Digest, Vec<u8>>,
    by_age: BTreeSet<(u64, Digest)>,
    base: Option<Arc<Base>>,
}

impl MemoryModel {
    /// A new model that begins with what `base` knows.
    pub fn over(base: Arc<Base>) -> Self {
        Self {
            base: Some(base),
            ..Self::default()
        }
    }
}

impl ModelView for MemoryModel {
    fn state(&self) -> Result<Option<Bytes<'_>>, Error> {
        Ok(self.state.as_deref().map(Cow::Borrowed))
    }

    fn pages(&self, numbers: Range<u32>) -> Result<Vec<(u32, Bytes<'_>)>, Error> {
        let pages = self.pages.range(numbers);
        Ok(pages.map(|(n, page)| (*n, page.into())).collect())
    }

    fn entry(&self, digest: &Digest) -> Result<Option<Bytes<'_>>, Error> {
        Ok(self.entries.get(digest).map(Cow::from))
    }

    fn entries_by_age(
        &self,
        visit: &mut dyn FnMut(u64, &Digest, u32) -> bool,
    ) -> Result<(), Error> {
        for (time, digest) in &self.by_age {
            let len = self.entries.get(digest).map_or(0, Vec::len);
            if !visit(*time, digest, len as u32) {
                break;
            }
        }
        Ok(())
    }

    fn base(&self) -> Option<&Arc<Base>> {
        self.base.as_ref()
    }

    fn path(&self) -> &Path {
        Path::new("memory")
    }
}

impl ModelStore for MemoryModel {
    fn look(&self, look: &mut dyn FnMut(&dyn ModelView) -> Result<(), Error>) -> Result<(), Error> {
        look(self)
    }

    fn change(
        &mut self,
        _: Durability,
        plan: &mut dyn FnMut(&dyn ModelView) -> Result<ModelChanges, Error>,
    ) -> Result<(), Error> {
        let changes = plan(self)?;
        if changes.state.is_some() {
            self.state = changes.state;
        }
        for (number, page) in changes.pages {
            match page {
                Some(page) => self.pages.insert(number, page),
                None => self.pages.remove(&number),
            };
        }
        for (time, digest) in changes.expire {
            self.by_age.remove(&(time, digest));
            self.entries.remove(&digest);
        }
        for (time, digest, entry) in changes.enter {
            self.by_age.insert((time, digest));
            self.entries.insert(digest, entry);
        }
        Ok(())
    }
}
