//! A model as it lies in a store, for scoring and for changing.

use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use super::calibration::Calibration;
use super::encode::State;
use super::model::{Bucket, Model, Weights};
use super::page::{N_PAGES, PAGE_BUCKETS, Page, encode};
use crate::store::model::{Bytes, ModelChanges, ModelView};
use crate::{Error, TrainedMessages};

/// The model of a store, read where it lies. `B` is what holds the bytes of
/// a page.
#[derive(Clone, Debug)]
pub struct Stored<B> {
    /// By number; each can be parsed.
    pages: Vec<Option<B>>,
    state: State,
}

impl<'a> Stored<Bytes<'a>> {
    /// The model that `view` shows; a new one where nothing was learned yet.
    /// Cost: a look at the first byte of each page.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was written by a newer program.
    pub fn open(view: &'a dyn ModelView) -> Result<Self, Error> {
        Self::hold(view, |page| page)
    }
}

impl Stored<Arc<[u8]>> {
    /// A copy that outlives `view`.
    ///
    /// # Errors
    /// As [`open`](Stored::open).
    pub fn load(view: &dyn ModelView) -> Result<Self, Error> {
        Self::hold(view, |page| page.into())
    }

    /// The pages of these numbers, as [`ModelView::pages`] gives them.
    pub fn pages(&self, numbers: Range<u32>) -> Vec<(u32, Bytes<'_>)> {
        let places = numbers.start as usize..self.pages.len().min(numbers.end as usize);
        let pages = self.pages.get(places).unwrap_or_default();
        let pages = (numbers.start..).zip(pages);
        pages
            .filter_map(|(number, page)| Some((number, Bytes::Borrowed(&**page.as_ref()?))))
            .collect()
    }

    /// What this becomes by `changes`; pages that do not change are shared.
    ///
    /// # Errors
    /// When the changes make no sense; errors name `path`.
    pub fn changed(&self, changes: &ModelChanges, path: &Path) -> Result<Self, Error> {
        let mut changed = self.clone();
        for (number, page) in &changes.pages {
            let page = page.as_deref();
            let page = page.map(|page| parsed(*number, page, path).map(|()| page.into()));
            let place = changed.pages.get_mut(*number as usize);
            *place.ok_or_else(|| no_page(*number, path))? = page.transpose()?;
        }
        if let Some(state) = &changes.state {
            changed.state = State::parse(state, path)?;
        }
        Ok(changed)
    }

    /// What this takes in memory.
    pub fn n_bytes(&self) -> usize {
        // Two counts before the bytes, and what the allocator adds.
        const PAGE_OVERHEAD: usize = 32;
        let pages = self.pages.iter().flatten();
        let pages: usize = pages.map(|page| page.len() + PAGE_OVERHEAD).sum();
        pages + size_of::<Self>() + self.pages.len() * size_of::<Option<Arc<[u8]>>>()
    }
}

impl<B: Deref<Target = [u8]>> Stored<B> {
    fn hold<'v>(view: &'v dyn ModelView, held: impl Fn(Bytes<'v>) -> B) -> Result<Self, Error> {
        let state = match view.state()? {
            Some(bytes) => State::parse(&bytes, view.path())?,
            None => State::default(),
        };
        let mut pages: Vec<_> = (0..N_PAGES).map(|_| None).collect();
        for (number, bytes) in view.pages(0..u32::MAX)? {
            parsed(number, &bytes, view.path())?;
            let place = pages.get_mut(number as usize);
            *place.ok_or_else(|| no_page(number, view.path()))? = Some(held(bytes));
        }
        Ok(Self { pages, state })
    }

    /// How many bytes the ledger's entries take, and how many have expired.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// A copy to change.
    pub fn to_model(&self) -> Model {
        let mut model = Model {
            trained: self.state.trained,
            calibration: self.state.calibration.clone(),
            age: self.state.age,
            ..Model::default()
        };
        let buckets = model.buckets.chunks_mut(PAGE_BUCKETS);
        for (page, buckets) in self.pages.iter().zip(buckets) {
            if let Some(page) = page.as_deref().and_then(Page::parse) {
                page.decode(buckets);
            }
        }
        model
    }
}

fn parsed(number: u32, page: &[u8], path: &Path) -> Result<(), Error> {
    match Page::parse(page) {
        Some(_) => Ok(()),
        None => Err(no_page(number, path)),
    }
}

fn no_page(number: u32, path: &Path) -> Error {
    damaged(path, &format!("page {number} of its model makes no sense"))
}

impl<B: Deref<Target = [u8]>> Weights for Stored<B> {
    fn bucket(&self, index: u32) -> Bucket {
        let (page, at) = (index as usize / PAGE_BUCKETS, index as usize % PAGE_BUCKETS);
        let page = self.pages.get(page).and_then(Option::as_deref);
        match page.and_then(Page::parse) {
            Some(page) => page.bucket(at),
            None => Bucket::default(),
        }
    }

    fn trained(&self) -> TrainedMessages {
        self.state.trained
    }

    fn calibration(&self) -> &Calibration {
        &self.state.calibration
    }
}

/// Notes in `changes` what makes `model` of what `view` shows: the pages that
/// differ, and the state with what the ledger will be.
pub(super) fn note_model(
    view: &dyn ModelView,
    model: &Model,
    entry_bytes: u64,
    n_expired: u64,
    changes: &mut ModelChanges,
) -> Result<(), Error> {
    let mut before = view.pages(0..u32::MAX)?.into_iter().peekable();
    for (number, buckets) in (0..).zip(model.buckets.chunks(PAGE_BUCKETS)) {
        let stored = before.next_if(|(n, _)| *n == number).map(|(_, page)| page);
        let page = encode(buckets);
        if page.as_deref() != stored.as_deref() {
            changes.pages.insert(number, page);
        }
    }
    let state = State {
        age: model.age,
        trained: model.trained,
        calibration: model.calibration.clone(),
        entry_bytes,
        n_expired,
    };
    changes.state = Some(state.to_bytes());
    Ok(())
}

pub(super) fn damaged(path: &Path, detail: &str) -> Error {
    Error::Damaged {
        path: path.into(),
        detail: detail.into(),
    }
}
