//! A model as it lies in a store, for scoring and for changing.
//!
//! A message's features are spread over the whole table, so that a change
//! written to the pages would rewrite them all. Instead its moves are written
//! behind each other to a log, which readers add to what the pages hold, and
//! with each so many slots that are logged one group of pages after another is
//! brought up to date. A record of the log that all groups hold is deleted.
//!
//! Records of the log are pages to the store, numbered from [`LOG_FIRST`].

use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use super::base::Base;
use super::calibration::Calibration;
use super::decoded::{trained_with_base, with_base};
use super::encode::{Group, LogState, N_GROUPS, State};
use super::model::{Model, aged_gradient, aged_squares, saturate};
use super::page::{N_PAGES, PAGE_BUCKETS, Page, Sums, encode, is_stored, opened};
use super::recent::{GROUP_BUCKETS, Recent, group_of};
use super::record::Delta;
use super::weights::{Bucket, Weights};
use crate::store::model::{Bytes, ModelChanges, ModelView};
use crate::{Error, TrainedMessages};

/// Number of the first record of the log, among those of pages.
pub(super) const LOG_FIRST: u32 = 1 << 16;

/// The model of a store, read where it lies. `B` is what holds the bytes of
/// a page.
#[derive(Clone, Debug)]
pub struct Stored<B> {
    /// By number; each can be parsed.
    pub(super) pages: Vec<Option<B>>,
    /// Records of the log by number.
    pub(super) log: BTreeMap<u32, B>,
    pub(super) state: State,
    /// Shared by copies until one of them learns.
    pub(super) recent: Arc<Recent>,
    pub(super) base: Option<Arc<Base>>,
}

impl<'a> Stored<Bytes<'a>> {
    /// The model that `view` shows; a new one where nothing was learned yet.
    /// Cost: a look at the first byte of each page, and reading the log.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was written by a newer program.
    pub fn open(view: &'a dyn ModelView) -> Result<Self, Error> {
        match view.held() {
            Some(held) => Ok(held),
            None => Self::hold(view, |_, page| page),
        }
    }
}

impl Stored<Arc<[u8]>> {
    /// A copy that outlives `view`, with pages that are read faster.
    ///
    /// # Errors
    /// As [`open`](Stored::open).
    pub fn load(view: &dyn ModelView) -> Result<Self, Error> {
        Self::hold(view, kept)
    }

    /// The same model, whose pages lie here.
    pub fn borrowed(&self) -> Stored<Bytes<'_>> {
        let pages = self.pages.iter();
        let log = self.log.iter();
        Stored {
            pages: pages
                .map(|page| page.as_deref().map(Bytes::Borrowed))
                .collect(),
            log: log
                .map(|(number, record)| (*number, Bytes::Borrowed(&**record)))
                .collect(),
            state: self.state.clone(),
            recent: Arc::clone(&self.recent),
            base: self.base.clone(),
        }
    }

    /// The pages of these numbers, as [`ModelView::pages`] gives them, but in
    /// the form that is only for memory.
    pub fn pages(&self, numbers: Range<u32>) -> Vec<(u32, Bytes<'_>)> {
        let pages = (0..).zip(&self.pages);
        let pages = pages.filter_map(|(number, page)| Some((number, page.as_ref()?)));
        let log = self.log.iter().map(|(n, record)| (LOG_FIRST + n, record));
        pages
            .chain(log)
            .filter(|(number, _)| numbers.contains(number))
            .map(|(number, page)| (number, Bytes::Borrowed(&**page)))
            .collect()
    }

    /// What this becomes by `changes`; pages that do not change are shared.
    ///
    /// # Errors
    /// When the changes make no sense; errors name `path`.
    pub fn changed(&self, changes: &ModelChanges, path: &Path) -> Result<Self, Error> {
        let mut changed = Self {
            pages: self.pages.clone(),
            log: self.log.clone(),
            state: self.state.clone(),
            recent: Arc::default(),
            base: self.base.clone(),
        };
        for (number, page) in &changes.pages {
            let page = page.as_deref().map(Bytes::Borrowed);
            changed.put(*number, page, kept, path)?;
        }
        if let Some(state) = &changes.state {
            changed.state = State::parse(state, path)?;
        }
        changed.recent = Recent::of(&changed.log, &changed.state.log, path)?.into();
        Ok(changed)
    }

    /// What this takes in memory.
    pub fn n_bytes(&self) -> usize {
        // Two counts before the bytes, and what the allocator adds.
        const PAGE_OVERHEAD: usize = 32;
        let records = self.pages.iter().flatten().chain(self.log.values());
        let records: usize = records.map(|page| page.len() + PAGE_OVERHEAD).sum();
        records
            + size_of::<Self>()
            + self.pages.len() * size_of::<Option<Arc<[u8]>>>()
            + self.recent.n_bytes()
    }
}

impl<B: Deref<Target = [u8]>> Stored<B> {
    fn hold<'v>(
        view: &'v dyn ModelView,
        held: impl Fn(u32, Bytes<'v>) -> B,
    ) -> Result<Self, Error> {
        let state = match view.state()? {
            Some(bytes) => State::parse(&bytes, view.path())?,
            None => State::default(),
        };
        let mut stored = Self {
            pages: (0..N_PAGES).map(|_| None).collect(),
            log: BTreeMap::new(),
            state,
            recent: Arc::default(),
            base: view.base().cloned(),
        };
        for (number, bytes) in view.pages(0..u32::MAX)? {
            stored.put(number, Some(bytes), &held, view.path())?;
        }
        stored.recent = Recent::of(&stored.log, &stored.state.log, view.path())?.into();
        Ok(stored)
    }

    /// Puts what `held` makes of a store's page or record of the log in its
    /// place, or removes it.
    fn put<'v>(
        &mut self,
        number: u32,
        bytes: Option<Bytes<'v>>,
        held: impl Fn(u32, Bytes<'v>) -> B,
        path: &Path,
    ) -> Result<(), Error> {
        let no_sense = || damaged(path, &format!("page {number} of its model makes no sense"));
        if number < LOG_FIRST && bytes.as_deref().is_some_and(|page| !is_stored(page)) {
            return Err(no_sense());
        }
        let bytes = bytes.map(|bytes| held(number, bytes));
        match (number.checked_sub(LOG_FIRST), bytes) {
            (Some(number), Some(record)) => drop(self.log.insert(number, record)),
            (Some(number), None) => drop(self.log.remove(&number)),
            (None, page) => {
                let place = self.pages.get_mut(number as usize);
                *place.ok_or_else(no_sense)? = page;
            }
        }
        Ok(())
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Messages that people taught: what was learned, and what waits for some of
    /// the other class. What the base knows is not among them.
    pub fn taught(&self) -> TrainedMessages {
        let State {
            trained, waiting, ..
        } = self.state;
        TrainedMessages {
            ham: trained.ham.saturating_add(waiting.ham),
            spam: trained.spam.saturating_add(waiting.spam),
        }
    }

    /// A copy in memory of what the user's messages made, without a base.
    pub fn to_model(&self) -> Model {
        let mut model = Model {
            trained: self.state.trained,
            calibration: self.state.calibration.clone(),
            age: self.state.age,
            ..Model::default()
        };
        let pages = model.buckets.chunks_mut(PAGE_BUCKETS);
        for (number, buckets) in (0..N_PAGES).zip(pages) {
            self.read_page(number, buckets);
        }
        self.catch_up(0, &mut model.buckets);
        model
    }

    /// Writes what a page holds to `buckets`, which hold zeroes.
    pub(super) fn read_page(&self, number: u32, buckets: &mut [Sums]) {
        if let Some(page) = &self.pages[number as usize]
            && let Some(page) = Page::parse(page)
        {
            page.decode(buckets);
        }
    }

    /// Makes of what the pages of groups hold, from this one on, what the log
    /// makes of it.
    pub(super) fn catch_up(&self, first: usize, buckets: &mut [Sums]) {
        let mut groups: Vec<_> = (buckets.chunks_mut(GROUP_BUCKETS))
            .zip(&self.state.log.groups[first..])
            .map(|(buckets, group)| (buckets, group.age))
            .collect();
        for (then, deltas) in &self.recent.0 {
            for (buckets, age) in &mut groups {
                grow_older(buckets, age, *then);
            }
            for (bucket, delta) in deltas {
                let group = group_of(*bucket).wrapping_sub(first);
                if let Some((buckets, _)) = groups.get_mut(group) {
                    add(&mut buckets[*bucket as usize % GROUP_BUCKETS], delta);
                }
            }
        }
        for (buckets, age) in &mut groups {
            grow_older(buckets, age, self.state.age);
        }
    }
}

/// Makes sums of this age as old as that.
fn grow_older(buckets: &mut [Sums], age: &mut u32, until: u32) {
    let ageings = until.saturating_sub(*age);
    *age = until.max(*age);
    if ageings > 0 {
        for (z, q) in buckets.iter_mut() {
            (*z, *q) = (aged_gradient(*z, ageings), aged_squares(*q, ageings));
        }
    }
}

fn add((z, q): &mut Sums, delta: &Delta) {
    *z = saturate(i32::from(*z) + delta.gradient);
    *q = saturate(i32::from(*q) + delta.squares);
}

impl<B: Deref<Target = [u8]>> Stored<B> {
    /// The sums of one bucket that the user's messages made.
    #[inline]
    pub(super) fn own(&self, index: u32) -> Bucket {
        let (page, at) = (index as usize / PAGE_BUCKETS, index as usize % PAGE_BUCKETS);
        let bytes = self.pages.get(page).and_then(Option::as_deref);
        let sums = bytes.and_then(Page::parse).map(|page| page.bucket(at));
        let group = &self.state.log.groups[group_of(index)];
        self.recent
            .bucket(index, sums.unwrap_or_default(), group.age, self.state.age)
    }
}

impl<B: Deref<Target = [u8]>> Weights for Stored<B> {
    fn bucket(&self, index: u32) -> Bucket {
        with_base(self.own(index), self.base.as_deref(), index)
    }

    fn trained(&self) -> TrainedMessages {
        trained_with_base(self.state.trained, self.base.as_deref())
    }

    fn calibration(&self) -> &Calibration {
        &self.state.calibration
    }
}

/// What a copy in memory keeps of a record.
fn kept(number: u32, bytes: Bytes<'_>) -> Arc<[u8]> {
    match number < LOG_FIRST {
        true => opened(&bytes).into(),
        false => bytes.into(),
    }
}

/// Notes in `changes` what makes `model`, with what `kept` says besides, of what
/// `view` shows.
pub(super) fn note_model(
    view: &dyn ModelView,
    model: &Model,
    kept: State,
    changes: &mut ModelChanges,
) -> Result<(), Error> {
    for (number, _) in view.pages(0..u32::MAX)? {
        changes.pages.insert(number, None);
    }
    for (number, buckets) in (0..).zip(model.buckets.chunks(PAGE_BUCKETS)) {
        if let Some(page) = encode(buckets) {
            changes.pages.insert(number, Some(page));
        }
    }
    let group = Group {
        from: 0,
        age: model.age,
    };
    let state = State {
        age: model.age,
        trained: model.trained,
        calibration: model.calibration.clone(),
        log: LogState {
            groups: [group; N_GROUPS],
            ..LogState::default()
        },
        ..kept
    };
    let state = state.to_bytes();
    // What was read from text may hold numbers that no model has.
    State::parse(&state, view.path())?;
    changes.state = Some(state);
    Ok(())
}

pub(super) fn damaged(path: &Path, detail: &str) -> Error {
    Error::Damaged {
        path: path.into(),
        detail: detail.into(),
    }
}
