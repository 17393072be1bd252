//! A model as it lies in a store, for scoring and for changing.

use std::path::Path;

use super::calibration::Calibration;
use super::encode::State;
use super::model::{Bucket, Model, Weights};
use super::page::{N_PAGES, PAGE_BUCKETS, Page, encode};
use crate::store::model::{ModelChanges, ModelView};
use crate::{Error, TrainedMessages};

/// The model of a store, read where it lies.
pub struct Stored<'a> {
    pages: Vec<Option<Page<'a>>>,
    state: State,
}

impl<'a> Stored<'a> {
    /// The model that `view` shows; a new one where nothing was learned yet.
    /// Cost: a look at the first byte of each page.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was written by a newer program.
    pub fn open(view: &'a dyn ModelView) -> Result<Self, Error> {
        let state = match view.state()? {
            Some(bytes) => State::parse(bytes, view.path())?,
            None => State::default(),
        };
        let mut pages = vec![None; N_PAGES as usize];
        for (number, bytes) in view.pages()? {
            let page = Page::parse(bytes);
            let place = pages.get_mut(number as usize);
            let (Some(page), Some(place)) = (page, place) else {
                return Err(damaged(
                    view.path(),
                    &format!("page {number} of its model makes no sense"),
                ));
            };
            *place = Some(page);
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
        for (page, buckets) in self
            .pages
            .iter()
            .zip(model.buckets.chunks_mut(PAGE_BUCKETS))
        {
            if let Some(page) = page {
                page.decode(buckets);
            }
        }
        model
    }
}

impl Weights for Stored<'_> {
    fn bucket(&self, index: u32) -> Bucket {
        let (page, at) = (index as usize / PAGE_BUCKETS, index as usize % PAGE_BUCKETS);
        match self.pages.get(page) {
            Some(Some(page)) => page.bucket(at),
            _ => Bucket::default(),
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
    let mut before = view.pages()?.into_iter().peekable();
    for (number, buckets) in (0..).zip(model.buckets.chunks(PAGE_BUCKETS)) {
        let stored = before.next_if(|(n, _)| *n == number).map(|(_, page)| page);
        let page = encode(buckets);
        if page.as_deref() != stored {
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
