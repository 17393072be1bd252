//! Training with a ledger: each message counts once, under one label, and is
//! taken back exactly.
//!
//! A message's entry says what its training added. It is kept until the ledger
//! is full; then the oldest leave. No clock makes it forget. A message without
//! an entry that a person corrects was learned either never or too long ago to
//! be taken back; then it is trained until the verdict is the person's.

use std::collections::BTreeMap;

use super::canonical::{Canonical, Digest};
use super::changing::Changing;
use super::encode::{Entry, State};
use super::model::Learner;
use super::record::Record;
use super::stored::damaged;
use super::{Class, Features, Params, Verdict, features, score};
use crate::store::Durability;
use crate::store::model::{ModelChanges, ModelStore, ModelView};
use crate::{Error, Label, TrainedMessages};
use waiting::Waiting;

mod earlier;
#[cfg(test)]
mod tests;
mod waiting;

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A person says what it is. If it was learned under the other label,
    /// that is taken back; under the same, nothing changes.
    Learn(Label),
    /// As `Learn`, and a person says that it went wrong: where what was
    /// learned can no longer be taken back it is outweighed.
    Correct(Label),
    /// It is learned under its own verdict, if that is sure and nothing was
    /// learned from it yet. It has no say in the cutoffs, since a verdict
    /// cannot confirm itself.
    OwnVerdict,
    /// What was learned from it is taken back.
    Forget,
    /// Nothing is learned: the ledger notes that the filter filed it as spam,
    /// unless it knows more of it.
    NoteFiled,
}

/// A message and what is to be done with it.
#[derive(Clone, Debug)]
pub struct Lesson {
    features: Features,
    digest: Digest,
    act: Act,
}

impl Lesson {
    /// Reads a message, any bytes.
    pub fn new(raw: &[u8], act: Act) -> Self {
        Self {
            features: features(raw),
            digest: Canonical::new(raw).digest(),
            act,
        }
    }
}

/// How much the ledger keeps of what it takes to undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Most bytes of all entries, as they take them on disk.
    pub bytes: u64,
}

impl Default for Keep {
    /// 16 MiB.
    fn default() -> Self {
        Self { bytes: 16 << 20 }
    }
}

/// Most steps with which a correction outweighs what cannot be taken back.
const MAX_STEPS: usize = 16;

/// What was learned of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Under which label.
    pub label: Label,
    /// It is the filter's own verdict, by [`Act::OwnVerdict`]; no person has
    /// said so.
    pub own_verdict: bool,
}

/// What `view`'s ledger says of a message; `None` when it was not learned, or
/// so long ago that its entry is gone.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub fn learned(view: &dyn ModelView, digest: &Digest) -> Result<Option<Learned>, Error> {
    let Some(bytes) = view.entry(digest)? else {
        return Ok(None);
    };
    let entry = parse(&bytes, view)?;
    Ok(entry.records.first().map(|first| Learned {
        label: first.label(),
        own_verdict: first.bin.is_none() && !first.is_waiting(),
    }))
}

/// Whether `view`'s ledger says that the filter filed a message as spam and
/// nothing was learned of it.
///
/// # Errors
/// As [`learned`].
pub fn is_filed(view: &dyn ModelView, digest: &Digest) -> Result<bool, Error> {
    let Some(bytes) = view.entry(digest)? else {
        return Ok(false);
    };
    Ok(parse(&bytes, view)?.records.is_empty())
}

/// Whether `view`'s ledger has let go of entries of messages that were learned.
///
/// # Errors
/// As [`learned`].
pub fn has_forgotten(view: &dyn ModelView) -> Result<bool, Error> {
    let Some(state) = view.state()? else {
        return Ok(false);
    };
    Ok(State::parse(&state, view.path())?.n_expired > 0)
}

fn parse(entry: &[u8], view: &dyn ModelView) -> Result<Entry, Error> {
    Entry::parse(entry).ok_or_else(|| damaged(view.path(), "an entry of its ledger makes no sense"))
}

/// Does what `lessons` say, in order and in one change of `store`. `now` is in
/// seconds since 1970. Returns the verdicts that came first, for
/// [`Act::OwnVerdict`] only.
///
/// # Errors
/// When the store cannot be read or written; then nothing was learned.
pub fn learn(
    store: &mut dyn ModelStore,
    lessons: &[Lesson],
    now: u64,
    keep: &Keep,
    durability: Durability,
) -> Result<Vec<Option<Verdict>>, Error> {
    let mut verdicts = Vec::new();
    store.change(durability, &mut |view| {
        let mut learning = Learning::begin(view, now)?;
        verdicts = lessons
            .iter()
            .map(|lesson| learning.take(lesson))
            .collect::<Result<_, _>>()?;
        learning.end(keep)
    })?;
    Ok(verdicts)
}

/// One change in the making.
struct Learning<'v> {
    view: &'v dyn ModelView,
    now: u64,
    model: Changing<'v>,
    /// What becomes of the entries of messages that were worked on.
    touched: BTreeMap<Digest, Touched>,
    /// Messages of which something was learned before, ordered by digest; `None`
    /// until they are asked for.
    earlier: Option<Vec<Digest>>,
    /// The messages that wait; `None` until they are asked for.
    waiting: Option<Waiting>,
    /// How many there were before this change.
    waited_before: TrainedMessages,
}

struct Touched {
    /// Time and cost of the stored entry.
    stored: Option<(u64, u64)>,
    /// `None`: there will be none.
    entry: Option<Entry>,
    is_changed: bool,
}

impl<'v> Learning<'v> {
    fn begin(view: &'v dyn ModelView, now: u64) -> Result<Self, Error> {
        let mut model = Changing::begin(view)?;
        let waited_before = model.state_mut().waiting;
        Ok(Self {
            view,
            now,
            model,
            touched: BTreeMap::new(),
            earlier: None,
            waiting: None,
            waited_before,
        })
    }

    fn take(&mut self, lesson: &Lesson) -> Result<Option<Verdict>, Error> {
        let Lesson {
            features,
            digest,
            act,
        } = lesson;
        let known = self.known(digest)?;
        match act {
            Act::Forget => {
                if let Some(entry) = known {
                    self.take_back(&entry);
                    self.enter(digest, None);
                }
            }
            Act::NoteFiled => {
                if known.is_none() {
                    let entry = Entry {
                        time: self.now,
                        records: Vec::new(),
                    };
                    self.enter(digest, Some(entry));
                }
            }
            Act::OwnVerdict => {
                let verdict = score(features, &self.model, &Params::default());
                if let (None, Some(label)) = (known, sure_label(&verdict)) {
                    let record = Record::new(features, label, &self.model);
                    let entry = self.add(record.uncalibrated());
                    self.enter(digest, Some(entry));
                    self.learn_waiting(label)?;
                    self.learn_overdue(label)?;
                }
                return Ok(Some(verdict));
            }
            Act::Learn(label) | Act::Correct(label) => {
                if known.as_ref().and_then(Entry::label) == Some(*label) {
                    return Ok(None);
                }
                let has_expired = self.model.state_mut().n_expired > 0;
                let outweighs = known.is_none() && has_expired && matches!(act, Act::Correct(_));
                if let Some(entry) = &known {
                    self.take_back(entry);
                }
                let is_new = known.as_ref().and_then(Entry::label).is_none();
                if self.must_wait(*label, is_new && !outweighs) {
                    self.wait(Record::waiting(features, *label), digest);
                } else {
                    if is_new {
                        self.learn_again()?;
                    }
                    let mut entry = self.add(Record::new(features, *label, &self.model));
                    if outweighs {
                        self.outweigh(features, *label, &mut entry);
                    }
                    self.enter(digest, Some(entry));
                    self.learn_waiting(*label)?;
                }
                self.learn_overdue(*label)?;
            }
        }
        Ok(None)
    }

    /// The entry of a message, as it is by now.
    fn known(&mut self, digest: &Digest) -> Result<Option<Entry>, Error> {
        if let Some(touched) = self.touched.get(digest) {
            return Ok(touched.entry.clone());
        }
        let bytes = self.view.entry(digest)?;
        let entry = match &bytes {
            None => None,
            Some(bytes) => Some(parse(bytes, self.view)?),
        };
        let len = bytes.map_or(0, |bytes| bytes.len() as u64);
        let touched = Touched {
            stored: entry.as_ref().map(|entry| (entry.time, cost(len))),
            entry: entry.clone(),
            is_changed: false,
        };
        self.touched.insert(*digest, touched);
        Ok(entry)
    }

    fn add(&mut self, mut record: Record) -> Entry {
        self.model.add(&mut record);
        Entry {
            time: self.now,
            records: vec![record],
        }
    }

    fn take_back(&mut self, entry: &Entry) {
        if let Some(label) = entry.waiting_label() {
            let n_waiting = self.model.state_mut().waiting.get_mut(label);
            *n_waiting = n_waiting.saturating_sub(1);
        }
        for record in &entry.records {
            self.model.take_back(record);
        }
    }

    /// Trains until the verdict is `label`.
    fn outweigh(&mut self, features: &Features, label: Label, entry: &mut Entry) {
        while entry.records.len() < MAX_STEPS {
            let verdict = score(features, &self.model, &Params::default());
            if verdict.views == [0.0; 3] || sure_label(&verdict) == Some(label) {
                return;
            }
            let mut record = Record::new(features, label, &self.model).uncalibrated();
            self.model.add(&mut record);
            entry.records.push(record);
        }
    }

    /// Replaces the entry of a message that is known.
    fn enter(&mut self, digest: &Digest, entry: Option<Entry>) {
        if let Some(waiting) = &mut self.waiting {
            waiting.note(digest, entry.as_ref());
        }
        if let Some(earlier) = &mut self.earlier {
            let is_learned = entry.as_ref().and_then(Entry::label).is_some();
            match earlier.binary_search(digest) {
                Ok(at) if !is_learned => drop(earlier.remove(at)),
                Err(at) if is_learned => earlier.insert(at, *digest),
                _ => {}
            }
        }
        if let Some(touched) = self.touched.get_mut(digest) {
            touched.entry = entry;
            touched.is_changed = true;
        }
    }

    /// What the store is to do.
    fn end(mut self, keep: &Keep) -> Result<ModelChanges, Error> {
        let mut changes = ModelChanges::default();
        self.touched.retain(|_, touched| touched.is_changed);
        if self.touched.is_empty() {
            return Ok(changes);
        }
        let entry_bytes = &mut self.model.state_mut().entry_bytes;
        for (digest, Touched { stored, entry, .. }) in &self.touched {
            if let Some((time, cost)) = stored {
                changes.expire.push((*time, *digest));
                *entry_bytes = entry_bytes.saturating_sub(*cost);
            }
            if let Some(entry) = entry {
                let bytes = entry.to_bytes();
                *entry_bytes += cost(bytes.len() as u64);
                changes.enter.push((entry.time, *digest, bytes));
            }
        }
        self.expire(keep, &mut changes)?;
        self.model.note(&mut changes)?;
        Ok(changes)
    }

    /// Lets go of the oldest entries where there are too many.
    fn expire(&mut self, keep: &Keep, changes: &mut ModelChanges) -> Result<(), Error> {
        let Self {
            view,
            model,
            touched,
            ..
        } = self;
        let state = model.state_mut();
        let mut too_many = view.n_bytes_too_many()?;
        let mut gone = Vec::new();
        view.entries_by_age(&mut |time, digest, len| {
            if state.entry_bytes <= keep.bytes && too_many == 0 {
                return false;
            }
            if !touched.contains_key(digest) {
                changes.expire.push((time, *digest));
                let cost = cost(u64::from(len));
                state.entry_bytes = state.entry_bytes.saturating_sub(cost);
                too_many = too_many.saturating_sub(cost);
                // A note is nothing that could be taken back.
                state.n_expired += u64::from(len > Entry::EMPTY_LEN);
                gone.push(*digest);
            }
            true
        })?;
        for digest in gone {
            if state.waiting == TrainedMessages::default() {
                break;
            }
            if let Some(label) = view.entry(&digest)?.as_deref().and_then(Entry::waits_as) {
                let n_waiting = state.waiting.get_mut(label);
                *n_waiting = n_waiting.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// What an entry of so many bytes takes on disk, as the dearest store keeps
/// it, LMDB: whole parts have pages of their own, and so has the rest unless
/// it shares one that is two thirds full. Its place in the order of age comes
/// on top.
pub(super) fn cost(bytes: u64) -> u64 {
    const PART: u64 = 4_080;
    const PAGE: u64 = 4_096;
    const LONGEST_SHORT: u64 = 2_000;
    const KEY: u64 = 32;
    const PLACE: u64 = 72;
    let rest = match bytes % PART {
        rest @ ..=LONGEST_SHORT => (rest + KEY) * 3 / 2,
        _ => PAGE + KEY * 3 / 2,
    };
    PLACE + bytes / PART * (PAGE + KEY * 3 / 2) + rest
}

fn sure_label(verdict: &Verdict) -> Option<Label> {
    match verdict.class {
        Class::Ham => Some(Label::Ham),
        Class::Unsure => None,
        Class::Spam => Some(Label::Spam),
    }
}
