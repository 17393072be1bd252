//! Messages that wait. People teach a folder of spam, then a folder of ham; what
//! has little to be compared with would claim for its class all that mail has in
//! common. So it is noted, and learned when some of the other class is known.

use std::collections::BTreeMap;

use super::{Digest, Entry, Learning};
use crate::modern::model::Learner as _;
use crate::modern::record::Record;
use crate::modern::weights::Weights as _;
use crate::store::model::ModelView;
use crate::{Error, Label, TrainedMessages};

/// A class is far ahead when so many times more of it were learned.
const FAR_AHEAD: u32 = 8;
/// A run is long when it is so many times as long as runs were before, and so
/// many messages longer.
const LONGER: u32 = 4;
const LONGER_BY: u32 = 16;
/// While no more of the other class are known, two that wait are learned with
/// each.
const FEW: u32 = 32;
/// Where there is something to compare with, so many of a class wait at most:
/// they take up to a third of the ledger.
const MOST: u32 = 1_000;
/// What came longer ago, in seconds, does not wait for the other class.
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
    fn read(view: &dyn ModelView, n: u32) -> Result<Self, Error> {
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
            let n_found = (waiting.ham.len() + waiting.spam.len()) as u32;
            found.is_ok() && n_found < n
        })?;
        found.map(|()| waiting)
    }

    fn of(&mut self, label: Label) -> &mut BTreeMap<Digest, u64> {
        match label {
            Label::Ham => &mut self.ham,
            Label::Spam => &mut self.spam,
        }
    }

    /// What a message's entry is by now.
    pub(super) fn note(&mut self, digest: &Digest, entry: Option<&Entry>) {
        self.ham.remove(digest);
        self.spam.remove(digest);
        if let Some(entry) = entry
            && let Some(label) = entry.waiting_label()
        {
            self.of(label).insert(*digest, entry.time);
        }
    }
}

impl Learning<'_> {
    /// Which messages wait, as it is by now.
    fn waiting(&mut self) -> Result<&mut Waiting, Error> {
        let waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => {
                let TrainedMessages { ham, spam } = self.waited_before;
                let mut waiting = Waiting::read(self.view, ham.saturating_add(spam))?;
                for (digest, touched) in self.touched.iter().filter(|(_, t)| t.is_changed) {
                    waiting.note(digest, touched.entry.as_ref());
                }
                waiting
            }
        };
        Ok(self.waiting.insert(waiting))
    }

    fn n_waiting(&mut self, label: Label) -> u32 {
        self.model.state_mut().waiting.get(label)
    }

    /// Whether a message of this class is to wait: there is nothing to compare it
    /// with, or its class is far ahead and this is one of a long run. In mail that
    /// is mixed, however unevenly, runs are not that long.
    pub(super) fn must_wait(&mut self, label: Label, is_new: bool) -> bool {
        if self.n_waiting(label.other()) > 0 {
            return false;
        }
        let learned = self.model.trained();
        let (own, other) = (learned.get(label), learned.get(label.other()));
        if other == 0 {
            return true;
        }
        let run = self.model.state_mut().run.of(label);
        let earlier_run = own.saturating_sub(run) / other;
        let is_long = run >= earlier_run.saturating_mul(LONGER).saturating_add(LONGER_BY);
        let is_far_ahead = own >= other.saturating_mul(FAR_AHEAD);
        is_new && is_long && is_far_ahead && self.n_waiting(label) < MOST
    }

    /// Notes that a message waits.
    pub(super) fn wait(&mut self, record: Record, digest: &Digest) {
        *self.model.state_mut().waiting.get_mut(record.label()) += 1;
        let entry = self.add(record);
        self.enter(digest, Some(entry));
    }

    /// Learns some that wait, now that one of class `label` was learned: one in
    /// its turn, so that a folder of spam and then a folder of ham teach what they
    /// would have taught mixed. Two with each would leave too many of that class
    /// alone at the end, and its verdict to all mail.
    pub(super) fn learn_waiting(&mut self, label: Label) -> Result<(), Error> {
        self.model.state_mut().run.count(label);
        let n = match self.model.trained().get(label) {
            ..=FEW => 2,
            _ => 1,
        };
        for _ in 0..n.min(self.n_waiting(label.other())) {
            let first = self.waiting()?.of(label.other()).pop_first();
            let Some((digest, _)) = first else { break };
            self.learn_now(&digest)?;
        }
        Ok(())
    }

    /// Learns some that waited too long, now that one more of class `label` came:
    /// who teaches nothing but spam, day by day, is not to wait for ham. Only
    /// where there is some to compare with.
    pub(super) fn learn_overdue(&mut self, label: Label) -> Result<(), Error> {
        if self.n_waiting(label) == 0 || self.model.trained().get(label.other()) == 0 {
            return Ok(());
        }
        let now = self.now;
        let waiting = self.waiting()?.of(label);
        // Or the clock was ahead.
        let overdue = waiting
            .iter()
            .filter(|(_, since)| now.abs_diff(**since) > LONGEST_WAIT);
        let overdue: Vec<_> = overdue.map(|(digest, _)| *digest).take(AT_ONCE).collect();
        overdue.iter().try_for_each(|digest| self.learn_now(digest))
    }

    /// Learns one that waited. Its entry keeps its time.
    fn learn_now(&mut self, digest: &Digest) -> Result<(), Error> {
        let Some(mut entry) = self.known(digest)? else {
            return Ok(());
        };
        self.take_back(&entry);
        for record in &mut entry.records {
            *record = record.clone().again(&self.model);
            self.model.add(record);
            self.model.state_mut().run.count(record.label());
        }
        self.enter(digest, Some(entry));
        Ok(())
    }
}
