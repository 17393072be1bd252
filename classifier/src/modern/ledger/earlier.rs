//! What a message changes for those that came before it: one that waited is
//! learned, and while few are known some are learned again.

use super::{Entry, Learning};
use crate::Error;
use crate::modern::canonical::Digest;
use crate::modern::record::{again, is_beginning};
use crate::modern::weights::Weights as _;

/// By so many seconds, so that waiting messages come first by age, also among
/// those that are learned in the same second.
const DATED_BACK: u64 = 24 * 60 * 60;

impl Learning<'_> {
    /// The time of a message that has just been noted to wait: dated back, and
    /// a second later for each that waits already, so that they are learned in
    /// the order in which they came, however many came in one second.
    pub(super) fn waiting_since(&mut self) -> u64 {
        let trained = self.model.trained();
        let n_waiting = u64::from(trained.ham.max(trained.spam)).saturating_sub(1);
        self.now.saturating_sub(DATED_BACK) + n_waiting.min(DATED_BACK)
    }

    /// Learns a message that came when there was nothing to compare it with, so
    /// that a folder of spam and then a folder of ham teach what they would
    /// have taught mixed. Two with each message of the other class would leave
    /// too many of that class alone at the end, and its verdict to all mail.
    /// Waiting ones are the oldest entries; one that is learned gets the time
    /// of now.
    pub(super) fn learn_waiting(&mut self) -> Result<(), Error> {
        let mut oldest = None;
        let touched = &self.touched;
        self.view.entries_by_age(&mut |_, digest, len| {
            let is_changed = touched.get(digest).is_some_and(|t| t.is_changed);
            let is_other = is_changed || len <= Entry::EMPTY_LEN;
            oldest = (!is_other).then_some(*digest);
            is_other
        })?;
        let Some(digest) = oldest else { return Ok(()) };
        let Some(entry) = self.known(&digest)? else {
            return Ok(());
        };
        if let [record] = &entry.records[..]
            && record.is_waiting()
        {
            self.take_back(&entry);
            let entry = self.add(record.clone().again(&self.model));
            self.enter(&digest, Some(entry));
        }
        Ok(())
    }

    /// Learns some earlier messages again while few are known, just before `new`
    /// is learned: what the first ones taught was reckoned against next to
    /// nothing, and so were the scores by which the middle and the cutoffs are
    /// set. Before, so that a wrong label that is corrected at once has touched
    /// nothing else.
    pub(super) fn learn_again(&mut self, new: &Digest) -> Result<(), Error> {
        let trained = self.model.trained();
        if !is_beginning(trained) {
            return Ok(());
        }
        let mut earlier = match self.earlier.take() {
            Some(earlier) => earlier,
            None => self.earlier()?,
        };
        for at in again(trained, earlier.len()) {
            let digest = &earlier[at];
            let Some(entry) = self.known(digest)? else {
                continue;
            };
            if let [record] = &entry.records[..]
                && record.may_come_again()
            {
                self.take_back(&entry);
                let again = self.add(record.clone().again(&self.model));
                let time = entry.time;
                self.enter(digest, Some(Entry { time, ..again }));
            }
        }
        if let Err(place) = earlier.binary_search(new) {
            earlier.insert(place, *new);
        }
        self.earlier = Some(earlier);
        Ok(())
    }

    /// All messages that something was learned of. Ordered by digest: whose turn
    /// it is must not depend on the clock, nor on how many messages are learned
    /// in one change.
    fn earlier(&self) -> Result<Vec<Digest>, Error> {
        let mut all = Vec::new();
        self.view.entries_by_age(&mut |_, digest, len| {
            if len > Entry::EMPTY_LEN {
                all.push(*digest);
            }
            true
        })?;
        all.sort_unstable();
        Ok(all)
    }
}
