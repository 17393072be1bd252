//! Mail that goes on to others in our name, and the reports that come of it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::accept::Incoming;
use super::{Inner, plan, refusal, seconds};
use crate::accounts::{Delivery, Plan};
use crate::authentication::srs::{self, Wrong};
use crate::handover::Refusal;
use crate::smtp::{Domain, Mailbox, Reply, ReversePath};

impl Inner {
    /// Whom mail from `sender` is from once it goes from `forwarder`, a domain
    /// of ours, to others. Who has no address, or one of ours, keeps it.
    pub(super) fn forwarded_sender(
        &self,
        sender: &ReversePath,
        forwarder: &Domain,
    ) -> Result<ReversePath, Refusal> {
        let Some(mailbox) = sender.mailbox() else {
            return Ok(ReversePath::Null);
        };
        let written = match self.is_remote(mailbox)? {
            true => self.srs.rewrite(mailbox, forwarder, today()),
            false => None,
        };
        Ok(written.map_or_else(|| sender.clone(), ReversePath::Mailbox))
    }

    /// The places that a message is queued for, by the sender it has there. An
    /// alias that leads elsewhere is a forward.
    pub(super) fn by_sender(
        &self,
        incoming: &Incoming<'_>,
        targets: &BTreeSet<usize>,
    ) -> Result<Vec<(ReversePath, Vec<usize>)>, Refusal> {
        let mut all: Vec<(ReversePath, Vec<usize>)> = Vec::new();
        for n in targets {
            let sender = self.sender_at(incoming, *n)?;
            match all.iter_mut().find(|(known, _)| *known == sender) {
                Some((_, targets)) => targets.push(*n),
                None => all.push((sender, vec![*n])),
            }
        }
        Ok(all)
    }

    fn sender_at(&self, incoming: &Incoming<'_>, n: usize) -> Result<ReversePath, Refusal> {
        let target = &incoming.targets[n];
        let sender = &incoming.envelope.reverse_path;
        if let Delivery::Remote(_) = target.delivery {
            let named = &incoming.envelope.recipients[target.recipient].forward_path;
            let named = self.mailbox(named)?;
            if !self.is_remote(&named)? {
                return self.forwarded_sender(sender, &named.domain);
            }
        }
        Ok(sender.clone())
    }

    /// Where reports to an address go that forwarded mail carries; `None` when
    /// it is no such address of ours.
    pub(super) fn unwrapped(&self, mailbox: &Mailbox) -> Option<Result<Mailbox, Refusal>> {
        if !srs::is_srs(&mailbox.local_part) {
            return None;
        }
        match self.is_remote(mailbox) {
            Ok(false) => {}
            Ok(true) => return None,
            Err(refusal) => return Some(Err(refusal)),
        }
        match self.srs.unwrap(&mailbox.local_part, today()) {
            Ok(original) => Some(Ok(original)),
            // Somebody may be called so.
            Err(Wrong::Malformed) => None,
            Err(wrong) => {
                let reply = Reply::new(550, (5, 1, 1), "this address does not hold");
                Some(Err(refusal(reply, format!("{mailbox}: {wrong}"))))
            }
        }
    }

    /// The plan for reports to such an address.
    pub(super) fn way_back(&self, original: Mailbox) -> Result<Plan, Refusal> {
        if self.is_remote(&original)? {
            return Ok(Plan {
                deliveries: vec![Delivery::Remote(original)],
                dead: Vec::new(),
            });
        }
        // Its domain has come here since.
        plan(&original, self.accounts())
    }

    /// Takes back what was queued of a message that is refused after all.
    pub(super) fn take_back(&self, ids: &[String]) {
        for id in ids {
            let removed = match self.queue.take(id) {
                Ok(Some(taken)) => self.queue.remove(taken),
                other => other.map(drop),
            };
            // It is sent, and once more when the client comes again.
            if let Err(error) = removed {
                tracing::warn!(queue_id = id, %error, "part of a refused message stays");
            }
        }
    }
}

fn today() -> u64 {
    seconds(SystemTime::now()) / 86_400
}
