//! Mail that goes on to others in our name, and the reports that come of it.

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use tracing::{error, info};

use super::attempt::Work;
use super::incoming::Incoming;
use super::{Inner, plan, refusal, seconds, trouble};
use crate::accounts::{Delivery, Plan};
use crate::authentication::srs::{self, Wrong};
use crate::delivery::content::delivered_to;
use crate::delivery::local::Forward;
use crate::handover::Refusal;
use crate::journal::Event;
use crate::queue::{Entry, Recipient, State};
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

    /// For an address that is no user's any more: it may be an alias by now.
    pub(super) fn pass_on(
        &self,
        work: &Work,
        address: &Mailbox,
        bytes: &[u8],
    ) -> Result<String, Reply> {
        self.resolve(address).map_err(|refusal| refusal.reply)?;
        let forward = Forward {
            reverse_path: work.taken.entry.reverse_path.clone(),
            recipients: vec![address.clone()],
        };
        self.forward(work, address, bytes, forward)?;
        Ok("forwarded, since it is an alias now".to_owned())
    }

    /// Queues what goes on to others, with the mark by which a loop is seen.
    pub(super) fn forward(
        &self,
        work: &Work,
        address: &Mailbox,
        bytes: &[u8],
        forward: Forward,
    ) -> Result<(), Reply> {
        let failed = |refusal: Refusal| {
            error!(
                queue_id = work.taken.id,
                reason = refusal.reason,
                "cannot forward"
            );
            refusal.reply
        };
        let child = self.child(work, &forward.recipients).map_err(failed)?;
        let mut reverse_path = forward.reverse_path;
        for to in &child.recipients {
            if self.is_remote(&to.address).map_err(failed)? {
                let sender = self.forwarded_sender(&reverse_path, &address.domain);
                reverse_path = sender.map_err(failed)?;
                break;
            }
        }
        let entry = Entry {
            reverse_path,
            client: format!("forwarded by {address} from {}", work.taken.id),
            ..child
        };
        let mark = delivered_to(address);
        self.beget(work, "forward", &entry, &[mark.as_bytes(), bytes])
            .map_err(|error| {
                error!(queue_id = work.taken.id, %error, "cannot queue a forward");
                trouble()
            })
    }

    /// What is queued because of the message, for the places where mail to
    /// `addresses` goes.
    pub(super) fn child(&self, work: &Work, addresses: &[Mailbox]) -> Result<Entry, Refusal> {
        let arrived = seconds(work.now);
        let recipient = |address| Recipient {
            address,
            notify: None,
            orcpt: None,
            state: State::new(arrived),
        };
        let places = self.places(addresses)?;
        Ok(Entry {
            arrived,
            recipients: places.into_iter().map(recipient).collect(),
            envid: None,
            ret: None,
            is_warned: false,
            is_held: false,
            ..work.taken.entry.clone()
        })
    }

    pub(super) fn beget(
        &self,
        work: &Work,
        what: &str,
        entry: &Entry,
        message: &[&[u8]],
    ) -> io::Result<()> {
        let child = self.ids.next(SystemTime::now());
        self.queue.accept(entry, message, &child)?;
        self.agenda.add(entry.arrived, &child);
        info!(queue_id = work.taken.id, child, what, "queued");
        let event = Event::Begot {
            what: what.to_owned(),
            child,
        };
        self.note(&work.taken.id, work.now, event);
        Ok(())
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
