//! A message on its way, and where it goes.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use tracing::warn;

use super::verdict::Opinion;
use super::{Inner, refusal, trouble};
use crate::accounts::{Delivery, SpamPolicy};
use crate::handover::{Answer, Refusal};
use crate::smtp::{Envelope, Reply};

/// A message on its way.
pub(super) struct Incoming<'a> {
    pub(super) id: &'a str,
    pub(super) envelope: &'a Envelope,
    pub(super) now: SystemTime,
    /// With our trace field on top.
    pub(super) bytes: Vec<u8>,
    /// Whether it is filed as spam whatever the filter says.
    pub(super) to_junk: bool,
    /// Where it goes, each place once.
    pub(super) targets: Vec<Target>,
    /// For each recipient of the envelope, which targets; none when it is
    /// refused.
    pub(super) by_recipient: Vec<Vec<usize>>,
}

pub(super) struct Target {
    pub(super) delivery: Delivery,
    /// The recipient of the envelope that led here first.
    pub(super) recipient: usize,
    pub(super) opinion: Option<Opinion>,
}

impl Target {
    /// Whether its user wants spam refused.
    pub(super) fn may_be_refused(&self) -> bool {
        let user = self.delivery.user();
        user.is_some_and(|user| user.settings.spam == SpamPolicy::Refuse)
    }

    fn is_refused(&self) -> bool {
        self.may_be_refused() && self.opinion.as_ref().is_some_and(Opinion::is_spam)
    }
}

impl Incoming<'_> {
    /// Refuses spam for each recipient all of whose places want that. SMTP has
    /// one reply for all, so that there all must agree.
    pub(super) fn refuse_spam(&mut self) {
        let targets = &self.targets;
        let is_refused = |all: &[usize]| all.iter().all(|n| targets[*n].is_refused());
        if !self.envelope.is_lmtp() && !targets.iter().all(Target::is_refused) {
            return;
        }
        for all in &mut self.by_recipient {
            if is_refused(all) {
                all.clear();
            }
        }
    }

    /// The targets that get it.
    pub(super) fn wanted(&self) -> BTreeSet<usize> {
        self.by_recipient.iter().flatten().copied().collect()
    }

    /// LMTP's reply for each recipient, from its targets; of SMTP the one.
    pub(super) fn answer(&self, mut reply: impl FnMut(&[usize]) -> Reply) -> Answer {
        if !self.envelope.is_lmtp() {
            return Answer::All(reply(&[]));
        }
        let each = self.by_recipient.iter().map(|targets| match &targets[..] {
            [] => spam().reply,
            targets => reply(targets),
        });
        Answer::Each(each.collect())
    }
}

impl Inner {
    /// Where it goes. That was asked at RCPT and is asked again: an account
    /// may have changed meanwhile.
    pub(super) fn plan(&self, incoming: &mut Incoming<'_>) -> Result<(), Refusal> {
        let mut known: HashMap<String, usize> = HashMap::new();
        for (n, recipient) in incoming.envelope.recipients.iter().enumerate() {
            let mailbox = self.mailbox(&recipient.forward_path)?;
            let plan = self.resolve(&mailbox).map_err(|refused| {
                // One who has just gone must not cost the others theirs.
                let is_alone = incoming.envelope.recipients.len() == 1;
                if is_alone {
                    refused
                } else {
                    refusal(trouble(), refused.reason)
                }
            })?;
            for dead in &plan.dead {
                warn!(alias = %mailbox, target = %dead, "an alias names nobody");
            }
            let mut targets = Vec::new();
            for delivery in plan.deliveries {
                let key = match &delivery {
                    Delivery::Remote(address) => address.to_string(),
                    Delivery::Local {
                        user, extension, ..
                    } => format!("{} {extension:?}", user.address),
                };
                let target = *known.entry(key).or_insert_with(|| {
                    incoming.targets.push(Target {
                        delivery,
                        recipient: n,
                        opinion: None,
                    });
                    incoming.targets.len() - 1
                });
                targets.push(target);
            }
            incoming.by_recipient.push(targets);
        }
        Ok(())
    }
}

pub(super) fn spam() -> Refusal {
    let text = "this message looks like spam to its recipients";
    let reason = "the filter of everybody whom it would reach calls it spam";
    refusal(Reply::new(554, (5, 7, 1), text), reason.into())
}
