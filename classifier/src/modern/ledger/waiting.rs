//! Messages that wait. People teach a folder of spam, then a folder of ham; what
//! has little to be compared with would claim for its class all that mail has in
//! common. So it is noted, and learned when some of the other class is known.

use std::collections::BTreeSet;

use super::{Digest, EARLIEST, Entry, Learning, parse};
use crate::modern::model::Learner;
use crate::modern::record::Record;
use crate::modern::weights::Weights as _;
use crate::store::model::ModelView;
use crate::{Error, Label, TrainedMessages};

/// A class is far ahead when so many times more of it were learned.
const FAR_AHEAD: u32 = 8;
/// Messages that make a run long in any case.
const LONG_RUN: u32 = 16;
/// A run is long when it is so many times as long as runs were before.
const LONGER: u32 = 4;
/// While fewer of the other class are known, two that wait are learned with each.
const FEW: u32 = 32;
/// What came so many seconds ago does not wait for the other class any longer.
const LONGEST_WAIT: u64 = 24 * 60 * 60;
/// Most messages that are learned with another one of their class for having
/// waited too long.
const AT_ONCE: usize = 16;

/// The messages that wait, in the order in which they came.
pub(super) struct Waiting {
    /// Their class. Models that were put together may have both; then that of
    /// the first.
    label: Label,
    places: BTreeSet<(u64, Digest)>,
}

/// The time of an entry tells that its message waits: it is half of the seconds
/// since 1970, and more than that of the one before. So they come first by age.
pub(super) fn is_place(time: u64) -> bool {
    time < EARLIEST
}

impl Waiting {
    pub(super) fn read(view: &dyn ModelView) -> Result<Self, Error> {
        let mut places = BTreeSet::new();
        view.entries_by_age(&mut |time, digest, len| {
            if is_place(time) && len > Entry::EMPTY_LEN {
                places.insert((time, *digest));
            }
            is_place(time)
        })?;
        let first = match places.first() {
            Some((_, digest)) => view.entry(digest)?,
            None => None,
        };
        let label = match first {
            Some(bytes) => parse(&bytes, view)?.label(),
            None => None,
        };
        Ok(Self {
            label: label.unwrap_or(Label::Ham),
            places,
        })
    }

    /// Of the messages that are `known`, those that were learned.
    fn learned(&self, known: TrainedMessages) -> TrainedMessages {
        let TrainedMessages { mut ham, mut spam } = known;
        let n = match self.label {
            Label::Ham => &mut ham,
            Label::Spam => &mut spam,
        };
        *n = n.saturating_sub(self.places.len() as u32);
        TrainedMessages { ham, spam }
    }

    /// The time of the entry of a message that waits from now on.
    fn join(&mut self, label: Label, now: u64, digest: &Digest) -> u64 {
        let after_last = self.places.last().map_or(0, |(last, _)| last + 1);
        let time = after_last.max(now / 2).min(EARLIEST - 1);
        self.label = label;
        self.places.insert((time, *digest));
        time
    }

    /// A message waits no longer, if it did.
    pub(super) fn leave(&mut self, time: u64, digest: &Digest) {
        self.places.remove(&(time, *digest));
    }
}

impl Learning<'_> {
    /// Whether a message of this class is to wait: there is nothing to compare it
    /// with, or its class is far ahead and this is one of a long run. In mail that
    /// is mixed, however unevenly, runs are not that long.
    pub(super) fn must_wait(&mut self, label: Label, is_new: bool) -> bool {
        let known = self.model.trained();
        let learned = self.waiting.learned(known);
        let (own, other) = match label {
            Label::Ham => (learned.ham, learned.spam),
            Label::Spam => (learned.spam, learned.ham),
        };
        if self.waiting.label != label && !self.waiting.places.is_empty() {
            return false;
        }
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
        let label = record.label();
        let mut entry = self.add(record);
        entry.time = self.waiting.join(label, self.now, digest);
        self.enter(digest, Some(entry));
    }

    /// Learns some that wait, now that one of class `label` was learned: the
    /// oldest, in its turn, so that a folder of spam and then a folder of ham
    /// teach what they would have taught mixed. Two with each would leave too many
    /// of that class alone at the end, and its verdict to all mail.
    pub(super) fn learn_waiting(&mut self, label: Label) -> Result<(), Error> {
        self.model.state_mut().run.count(label);
        if label == self.waiting.label {
            return Ok(());
        }
        let known = self.model.trained();
        let of_label = match label {
            Label::Ham => known.ham,
            Label::Spam => known.spam,
        };
        let n = if of_label <= FEW { 2 } else { 1 };
        (0..n).try_for_each(|_| self.learn_first())
    }

    /// Learns some that waited too long, now that one more of class `label` came:
    /// who teaches nothing but spam, day by day, is not to wait for ham. Only
    /// where there is some to compare with.
    pub(super) fn learn_overdue(&mut self, label: Label) -> Result<(), Error> {
        let learned = self.waiting.learned(self.model.trained());
        if label != self.waiting.label || learned == TrainedMessages::default() {
            return Ok(());
        }
        let overdue = self.now.saturating_sub(LONGEST_WAIT) / 2;
        for _ in 0..AT_ONCE {
            match self.waiting.places.first() {
                Some((time, _)) if *time < overdue => self.learn_first()?,
                _ => break,
            }
        }
        Ok(())
    }

    fn learn_first(&mut self) -> Result<(), Error> {
        let Some((_, digest)) = self.waiting.places.pop_first() else {
            return Ok(());
        };
        let Some(mut entry) = self.known(&digest)? else {
            return Ok(());
        };
        if let [record] = &mut entry.records[..]
            && record.is_waiting()
        {
            self.model.take_back(record);
            *record = record.clone().again(&self.model);
            self.model.add(record);
            self.model.state_mut().run.count(record.label());
        }
        entry.time = self.now;
        self.enter(&digest, Some(entry));
        Ok(())
    }
}
