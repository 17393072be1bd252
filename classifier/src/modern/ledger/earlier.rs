//! What a message changes for those that came before it: while few are known,
//! some are learned again.

use super::{Entry, Learning};
use crate::Error;
use crate::modern::canonical::Digest;
use crate::modern::model::Learner as _;
use crate::modern::record::{again, is_beginning};
use crate::modern::weights::Weights as _;

impl Learning<'_> {
    /// Learns some earlier messages again while few are known, just before a new
    /// one is learned: what the first ones taught was reckoned against next to
    /// nothing, and so were the scores by which the middle and the cutoffs are
    /// set. Before, so that a wrong label that is corrected at once has touched
    /// nothing else.
    pub(super) fn learn_again(&mut self) -> Result<(), Error> {
        let trained = self.model.trained();
        if !is_beginning(trained) {
            return Ok(());
        }
        let earlier = match self.earlier.take() {
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
                self.model.take_back(record);
                let again = self.add(record.clone().again(&self.model));
                let time = entry.time;
                self.enter(digest, Some(Entry { time, ..again }));
            }
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
        for (digest, touched) in self.touched.iter().filter(|(_, t)| t.is_changed) {
            all.retain(|other| other != digest);
            if touched.entry.as_ref().and_then(Entry::label).is_some() {
                all.push(*digest);
            }
        }
        all.sort_unstable();
        Ok(all)
    }
}
