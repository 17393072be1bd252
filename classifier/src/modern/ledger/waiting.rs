//! Messages that wait. People teach a folder of spam, then a folder of ham; what
//! has little to be compared with would claim for its class all that mail has in
//! common. So it is noted, and learned when some of the other class is known.

use std::collections::BTreeMap;

use super::{Digest, Entry, Learning};
use crate::modern::model::Learner;
use crate::modern::record::Record;
use crate::modern::weights::Weights as _;
use crate::store::model::ModelView;
use crate::{Error, Label};

/// A class is far ahead when so many times more of it were learned.
const FAR_AHEAD: u32 = 8;
/// Messages that make a run long in any case.
const LONG_RUN: u32 = 16;
/// A run is long when it is so many times as long as runs were before.
const LONGER: u32 = 4;
/// While no more of the other class are known, two that wait are learned with
/// each.
const FEW: u32 = 32;
/// What came so many seconds ago does not wait for the other class any longer.
const LONGEST_WAIT: u64 = 24 * 60 * 60;
/// Most messages that are learned with another one of their class for having
/// waited too long.
const AT_ONCE: usize = 16;

/// The messages of each class that wait, with the times of their entries.
/// Ordered by digest: whose turn it is must not depend on the clock, nor on how
/// many messages come in one second.
#[derive(Default)]
pub(super) struct Waiting {
    ham: BTreeMap<Digest, u64>,
    spam: BTreeMap<Digest, u64>,
}

impl Waiting {
    /// Those `n` that wait in `view`.
    pub(super) fn read(view: &dyn ModelView, n: u32) -> Result<Self, Error> {
        let mut waiting = Self::default();
        if n == 0 {
            return Ok(waiting);
        }
        let mut found = Ok(());
        view.entries_by_age(&mut |time, digest, _| {
            let entry = view.entry(digest);
            found = entry.map(|bytes| {
                if let Some(label) = bytes.as_deref().and_then(Entry::waits_as) {
                    waiting.of(label).insert(*digest, time);
                }
            });
            found.is_ok() && waiting.n() < n
        })?;
        found.map(|()| waiting)
    }

    fn of(&mut self, label: Label) -> &mut BTreeMap<Digest, u64> {
        match label {
            Label::Ham => &mut self.ham,
            Label::Spam => &mut self.spam,
        }
    }

    /// How many there are.
    pub(super) fn n(&self) -> u32 {
        (self.ham.len() + self.spam.len()) as u32
    }

    /// A message waits no longer. Returns its label, if it did.
    pub(super) fn leave(&mut self, digest: &Digest) -> Option<Label> {
        let left = |label| self.of(label).remove(digest).map(|_| label);
        [Label::Ham, Label::Spam].into_iter().find_map(left)
    }
}

impl Learning<'_> {
    /// How many of a class were learned, and do not wait.
    fn n_learned(&mut self, label: Label) -> u32 {
        let known = self.model.trained();
        let known = match label {
            Label::Ham => known.ham,
            Label::Spam => known.spam,
        };
        known.saturating_sub(self.waiting.of(label).len() as u32)
    }

    /// Whether a message of this class is to wait: there is nothing to compare it
    /// with, or its class is far ahead and this is one of a long run. In mail that
    /// is mixed, however unevenly, runs are not that long.
    pub(super) fn must_wait(&mut self, label: Label, is_new: bool) -> bool {
        if !self.waiting.of(label.other()).is_empty() {
            return false;
        }
        let (own, other) = (self.n_learned(label), self.n_learned(label.other()));
        if other == 0 {
            return true;
        }
        let run = self.model.state_mut().run.of(label);
        let earlier_run = own.saturating_sub(run) / other;
        let is_long = run >= earlier_run.saturating_mul(LONGER).saturating_add(LONG_RUN);
        is_new && is_long && own >= other.saturating_mul(FAR_AHEAD)
    }

    /// Notes that a message waits.
    pub(super) fn wait(&mut self, record: Record, digest: &Digest) {
        self.waiting.of(record.label()).insert(*digest, self.now);
        let entry = self.add(record);
        self.enter(digest, Some(entry));
    }

    /// Learns some that wait, now that one of class `label` was learned: one in
    /// its turn, so that a folder of spam and then a folder of ham teach what they
    /// would have taught mixed. Two with each would leave too many of that class
    /// alone at the end, and its verdict to all mail.
    pub(super) fn learn_waiting(&mut self, label: Label) -> Result<(), Error> {
        self.model.state_mut().run.count(label);
        let n = if self.n_learned(label) <= FEW { 2 } else { 1 };
        for _ in 0..n {
            let Some((digest, _)) = self.waiting.of(label.other()).pop_first() else {
                break;
            };
            self.learn_now(&digest)?;
        }
        Ok(())
    }

    /// Learns some that waited too long, now that one more of class `label` came:
    /// who teaches nothing but spam, day by day, is not to wait for ham. Only
    /// where there is some to compare with.
    pub(super) fn learn_overdue(&mut self, label: Label) -> Result<(), Error> {
        if self.n_learned(label.other()) == 0 {
            return Ok(());
        }
        let due = self.now.saturating_sub(LONGEST_WAIT);
        let waiting = self.waiting.of(label);
        let overdue = waiting.iter().filter(|(_, since)| **since < due);
        let overdue: Vec<_> = overdue.map(|(digest, _)| *digest).take(AT_ONCE).collect();
        for digest in overdue {
            self.waiting.leave(&digest);
            self.learn_now(&digest)?;
        }
        Ok(())
    }

    /// Learns one that waited. Its entry keeps its time.
    fn learn_now(&mut self, digest: &Digest) -> Result<(), Error> {
        let Some(mut entry) = self.known(digest)? else {
            return Ok(());
        };
        for record in &mut entry.records {
            self.model.take_back(record);
            *record = record.clone().again(&self.model);
            self.model.add(record);
            self.model.state_mut().run.count(record.label());
        }
        self.enter(digest, Some(entry));
        Ok(())
    }
}
