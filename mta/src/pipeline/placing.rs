//! A message is put where it goes before it is answered: into mailboxes, or
//! into the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::SystemTime;

use tracing::info;

use super::accept::client;
use super::incoming::{Incoming, Target};
use super::{Inner, refusal, seconds, trouble};
use crate::accounts::Delivery;
use crate::delivery::content::Content;
use crate::delivery::instructions::Instruction;
use crate::delivery::local::{Delivered, Job};
use crate::handover::{Answer, Refusal};
use crate::journal::Event;
use crate::queue::{Entry, Recipient, State};
use crate::smtp::{Mailbox, Reply, ReversePath};

/// Up to so many Maildirs a message is delivered while the client waits; for
/// more the queue's two syncs are sooner done.
const MAX_DIRECT: usize = 8;

impl Inner {
    /// Whether it goes to mailboxes alone, and to few.
    pub(super) fn goes_straight(&self, incoming: &Incoming<'_>) -> bool {
        let recipients = &incoming.envelope.recipients;
        let wants_success = recipients
            .iter()
            .any(|r| r.notify.is_some_and(|notify| notify.success));
        let to_mailboxes = |target: &Target| match &target.delivery {
            Delivery::Remote(_) => false,
            Delivery::Local {
                user, extension, ..
            } => {
                match self.deliverer.instructions(user, extension.as_ref()) {
                    Ok(None) => true,
                    Ok(Some(said)) => said
                        .all
                        .iter()
                        .all(|one| matches!(one, Instruction::Maildir(_))),
                    // The queue waits until it can be known.
                    Err(_) => false,
                }
            }
        };
        !wants_success
            && incoming.targets.len() <= MAX_DIRECT
            && incoming.targets.iter().all(to_mailboxes)
    }

    /// Delivers to the wanted targets, and queues it for those who failed,
    /// unless they are all that one reply is for: then that reply is the
    /// failure. Should the queue fail here, the client sends again, and who had
    /// it gets it twice.
    pub(super) fn deliver_all(
        &self,
        incoming: &Incoming<'_>,
        wanted: &BTreeSet<usize>,
        content: &Content,
    ) -> Result<Answer, Refusal> {
        let mut failures: BTreeMap<usize, Reply> = BTreeMap::new();
        for n in wanted {
            if let Err(reply) = self.deliver_now(incoming, &incoming.targets[*n], content) {
                failures.insert(*n, reply);
            }
        }
        let mut waiting = BTreeSet::new();
        let mut reply = |group: &[usize]| {
            let has_failed = |n: &&usize| failures.contains_key(*n);
            let (failed, fine): (Vec<usize>, Vec<usize>) = group.iter().partition(has_failed);
            if fine.is_empty() {
                return worst(failed.iter().filter_map(|n| failures.get(n)));
            }
            waiting.extend(failed);
            positive(incoming.id)
        };
        let answer = match incoming.envelope.is_lmtp() {
            true => incoming.answer(&mut reply),
            false => Answer::All(reply(&wanted.iter().copied().collect::<Vec<_>>())),
        };
        if !waiting.is_empty() {
            self.enqueue(incoming, &waiting)?;
        }
        match answer {
            Answer::All(reply) if !reply.code.is_positive() => {
                Err(refusal(reply, "no mailbox could be delivered to".into()))
            }
            answer => Ok(answer),
        }
    }

    fn deliver_now(
        &self,
        incoming: &Incoming<'_>,
        target: &Target,
        content: &Content,
    ) -> Result<Delivered, Reply> {
        let Delivery::Local {
            user,
            extension,
            address,
        } = &target.delivery
        else {
            return Err(trouble());
        };
        let opinion = target.opinion.as_ref();
        let (fields, is_junk) = self.file_by(user, opinion, incoming.to_junk, content);
        let delivered = self.deliverer.deliver(&Job {
            reverse_path: &incoming.envelope.reverse_path,
            user,
            extension: extension.as_ref(),
            address,
            content,
            fields: &fields,
            is_junk,
            now: incoming.now,
        })?;
        self.rotate(user, is_junk, incoming.now);
        let (id, to) = (incoming.id, address.to_string());
        let place = delivered.places.join(", ");
        info!(queue_id = id, forward_path = to, place, "delivered");
        self.note(id, incoming.now, Event::Delivered { to, place });
        Ok(delivered)
    }

    /// Queues it for these, once for each sender that it has there: all of it,
    /// or nothing.
    pub(super) fn enqueue(
        &self,
        incoming: &Incoming<'_>,
        targets: &BTreeSet<usize>,
    ) -> Result<(), Refusal> {
        let mut ids = Vec::new();
        for (sender, targets) in self.by_sender(incoming, targets)? {
            let id = match ids.is_empty() {
                true => incoming.id.to_owned(),
                false => self.ids.next(incoming.now),
            };
            if let Err(error) = self.enqueue_part(incoming, &id, sender, &targets) {
                self.take_back(&ids);
                return Err(refusal(disk_reply(&error), error.to_string()));
            }
            ids.push(id);
        }
        for id in &ids {
            self.agenda.add(seconds(incoming.now), id);
        }
        Ok(())
    }

    fn enqueue_part(
        &self,
        incoming: &Incoming<'_>,
        id: &str,
        sender: ReversePath,
        targets: &[usize],
    ) -> io::Result<()> {
        let recipients: Vec<Recipient> = targets
            .iter()
            .filter_map(|n| incoming.targets.get(*n))
            .map(|target| {
                let named = &incoming.envelope.recipients[target.recipient];
                entry_recipient(target.delivery.address().clone(), named, incoming.now)
            })
            .collect();
        let to = recipients
            .iter()
            .map(|recipient| recipient.address.to_string())
            .collect();
        let entry = Entry {
            reverse_path: sender,
            ..entry(incoming, recipients)
        };
        self.queue.accept(&entry, &[&incoming.bytes], id)?;
        info!(queue_id = id, "queued");
        if id != incoming.id {
            let (what, child) = ("forward".to_owned(), id.to_owned());
            self.note(incoming.id, incoming.now, Event::Begot { what, child });
        }
        self.note(id, incoming.now, Event::Queued { to });
        Ok(())
    }
}

pub(super) fn entry(incoming: &Incoming<'_>, recipients: Vec<Recipient>) -> Entry {
    let envelope = incoming.envelope;
    Entry {
        arrived: seconds(incoming.now),
        reverse_path: envelope.reverse_path.clone(),
        client: client(&envelope.client),
        body: envelope.body,
        smtputf8: envelope.smtputf8,
        ret: envelope.ret,
        envid: envelope.envid.clone(),
        is_double_bounce: false,
        recipients,
        to_junk: incoming.to_junk,
        is_warned: false,
        is_held: false,
    }
}

pub(super) fn entry_recipient(
    address: Mailbox,
    named: &crate::smtp::Recipient,
    now: SystemTime,
) -> Recipient {
    Recipient {
        address,
        notify: named.notify,
        orcpt: named.orcpt.clone(),
        state: State::new(seconds(now)),
    }
}

/// A transient failure before a permanent one: whoever may still succeed must
/// be tried again.
fn worst<'a>(failures: impl Iterator<Item = &'a Reply>) -> Reply {
    let first = failures.min_by_key(|reply| reply.code);
    first.cloned().unwrap_or_else(trouble)
}

pub(super) fn positive(id: &str) -> Reply {
    Reply::new(250, (2, 0, 0), format!("ok {id}"))
}

pub(super) fn disk_reply(error: &io::Error) -> Reply {
    Reply::for_full_disk(error).unwrap_or_else(trouble)
}
