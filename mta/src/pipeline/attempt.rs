//! One attempt at a queued message: what is due is delivered, and noted
//! before anything else happens; then its sender is told what must be told.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use classifier::modern::Features;
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

use super::accept::judged;
use super::{Inner, no_way_out, seconds, trouble};
use crate::accounts::{self, Delivery};
use crate::delivery::content::{Content, delivered_to};
use crate::delivery::local::{Delivered, Forward, Job};
use crate::handover::Refusal;
use crate::journal;
use crate::queue::dsn::{self, About, Reporter};
use crate::queue::schedule::Channel;
use crate::queue::{Entry, Event, Locked, Recipient, Record, State};
use crate::remote::Parcel;
use crate::remote::letter::Letter;
use crate::smtp::{Domain, ForwardPath, Mailbox, Reply, ReversePath};

/// A message that is being worked on.
struct Work {
    taken: Locked<File>,
    now: SystemTime,
    /// Recipients here.
    local: Vec<usize>,
    /// Recipients elsewhere, by domain.
    remote: Vec<(Domain, Vec<usize>)>,
}

/// A message goes to so many domains at once.
const MAX_PARCELS: usize = 50;

/// When a message is to be worked on again.
pub(super) struct Next {
    pub(super) due: Option<u64>,
    /// Ends when one of its destinations may have room: until then it is of no
    /// use to look at it again.
    pub(super) room: Option<Room>,
}

type Room = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Works on a message, and tells when it is due again.
pub(super) async fn attempt(inner: &Arc<Inner>, id: &str) -> io::Result<Next> {
    let (host, name) = (Arc::clone(inner), id.to_owned());
    let begun = blocking(move || host.begin(&name, SystemTime::now())).await?;
    let mut room = None;
    let Some(mut work) = begun else {
        return Ok(Next { due: None, room });
    };
    if !work.local.is_empty() {
        let _memory = inner.memory.for_message(work.taken.size()).await;
        let host = Arc::clone(inner);
        work = blocking(move || host.deliver_local(work)).await?;
    }
    let mut parcels = std::mem::take(&mut work.remote);
    if let Some(way_out) = &inner.way_out {
        parcels.retain(|(domain, _)| match way_out.room(domain) {
            None => true,
            full => {
                room = full;
                false
            }
        });
    }
    let results = match parcels.is_empty() {
        true => Vec::new(),
        false => {
            let (taken, letter) = blocking(move || {
                let letter = work.taken.letter();
                letter.map(|letter| (work, letter))
            })
            .await?;
            work = taken;
            send(inner, &work.taken.entry, &letter, &parcels).await
        }
    };
    let host = Arc::clone(inner);
    let due = blocking(move || host.end(work, results)).await?;
    Ok(Next { due, room })
}

/// What became of each recipient of the parcels.
async fn send(
    inner: &Inner,
    entry: &Entry,
    letter: &Letter,
    parcels: &[(Domain, Vec<usize>)],
) -> Vec<(usize, Result<String, Reply>)> {
    let turns = Semaphore::new(MAX_PARCELS);
    // Side by side, so that few destinations wait for another.
    let sent = parcels.iter().map(|(domain, numbers)| {
        let recipients: Vec<&Recipient> = numbers.iter().map(|n| &entry.recipients[*n]).collect();
        let turns = &turns;
        async move {
            let _turn = turns.acquire().await;
            let parcel = Parcel {
                domain,
                entry,
                recipients: &recipients,
                message: letter,
            };
            let replies = match &inner.way_out {
                Some(way_out) => way_out.deliver(parcel).await,
                None => vec![Err(no_way_out()); numbers.len()],
            };
            (numbers, replies)
        }
    });
    let sent = join_all(sent).await.into_iter();
    sent.flat_map(|(numbers, replies)| numbers.iter().copied().zip(replies))
        .collect()
}

/// All results, in order, of futures that run side by side.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures
        .map(|future| (Some(Box::pin(future)), None))
        .collect();
    poll_fn(|context| {
        for (future, result) in &mut futures {
            if let Some(running) = future
                && let Poll::Ready(output) = running.as_mut().poll(context)
            {
                (*future, *result) = (None, Some(output));
            }
        }
        match futures.iter().all(|(future, _)| future.is_none()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    futures
        .into_iter()
        .filter_map(|(_, result)| result)
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

impl Inner {
    /// Takes the message and looks where it goes; `None` when it is not due,
    /// held, gone, or somebody else works on it.
    fn begin(&self, id: &str, now: SystemTime) -> io::Result<Option<Work>> {
        let Some(taken) = self.queue.take(id)? else {
            return Ok(None);
        };
        if taken.entry.next_attempt().is_none() && !taken.entry.is_finished() {
            return Ok(None);
        }
        let mut work = Work {
            taken,
            now,
            local: Vec::new(),
            remote: Vec::new(),
        };
        for n in due(&work.taken.entry, seconds(now)) {
            let address = work.taken.entry.recipients[n].address.clone();
            match self.is_remote(&address) {
                Err(refusal) => self.conclude(&mut work, n, Channel::Local, Err(refusal.reply))?,
                Ok(true) => add_remote(&mut work.remote, &address, n),
                Ok(false) => work.local.push(n),
            }
        }
        Ok(Some(work))
    }

    /// Delivers to our own users.
    fn deliver_local(&self, mut work: Work) -> io::Result<Work> {
        let bytes = work.taken.start(u64::MAX)?;
        let content = Content::new(&bytes);
        let mut once = None;
        for n in std::mem::take(&mut work.local) {
            let address = work.taken.entry.recipients[n].address.clone();
            let result = self.deliver_to(&work, &address, &bytes, &content, &mut once);
            self.conclude(&mut work, n, Channel::Local, result)?;
        }
        Ok(work)
    }

    fn deliver_to(
        &self,
        work: &Work,
        address: &Mailbox,
        bytes: &[u8],
        content: &Content,
        once: &mut Option<Features>,
    ) -> Result<String, Reply> {
        let local = accounts::local(address, self.accounts());
        let local = local.map_err(|error| {
            error!(queue_id = work.taken.id, %error, "the accounts cannot be asked");
            trouble()
        })?;
        let Some(Delivery::Local {
            user, extension, ..
        }) = local
        else {
            return self.pass_on(work, address, bytes);
        };
        let id = &work.taken.id;
        let opinion = self.judge(id, &user, content, once);
        if let Some(opinion) = &opinion {
            self.note(id, work.now, judged(&user, opinion));
        }
        let to_junk = work.taken.entry.to_junk;
        let (fields, is_junk) = self.file_by(&user, opinion.as_ref(), to_junk, content);
        let Delivered { places, forwards } = self.deliverer.deliver(&Job {
            reverse_path: &work.taken.entry.reverse_path,
            user: &user,
            extension: extension.as_ref(),
            address,
            content,
            fields: &fields,
            is_junk,
            now: work.now,
        })?;
        self.rotate(&user, is_junk, work.now);
        let mut places = places;
        for forward in forwards {
            let to = forward.recipients.iter().map(ToString::to_string);
            places.push(format!(
                "forwarded to {}",
                to.collect::<Vec<_>>().join(", ")
            ));
            self.forward(work, address, bytes, forward)?;
        }
        Ok(places.join(", "))
    }

    /// For an address that is no user's any more: it may be an alias by now.
    fn pass_on(&self, work: &Work, address: &Mailbox, bytes: &[u8]) -> Result<String, Reply> {
        self.resolve(address).map_err(|refusal| refusal.reply)?;
        let forward = Forward {
            reverse_path: work.taken.entry.reverse_path.clone(),
            recipients: vec![address.clone()],
        };
        self.forward(work, address, bytes, forward)?;
        Ok("forwarded, since it is an alias now".to_owned())
    }

    /// Queues what goes on to others, with the mark by which a loop is seen.
    fn forward(
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
    fn child(&self, work: &Work, addresses: &[Mailbox]) -> Result<Entry, Refusal> {
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

    fn beget(&self, work: &Work, what: &str, entry: &Entry, message: &[&[u8]]) -> io::Result<()> {
        let child = self.ids.next(SystemTime::now());
        self.queue.accept(entry, message, &child)?;
        self.agenda.add(entry.arrived, &child);
        info!(queue_id = work.taken.id, child, what, "queued");
        let event = journal::Event::Begot {
            what: what.to_owned(),
            child,
        };
        self.note(&work.taken.id, work.now, event);
        Ok(())
    }

    /// Notes what became of a recipient.
    fn conclude(
        &self,
        work: &mut Work,
        n: usize,
        channel: Channel,
        result: Result<String, Reply>,
    ) -> io::Result<()> {
        let now = seconds(work.now);
        let entry = &work.taken.entry;
        let arrived = entry.arrived;
        let to = entry.recipients[n].address.to_string();
        let (what, reason, event, told) = match result {
            Ok(place) => {
                let told = journal::Event::Delivered {
                    to: to.clone(),
                    place: place.clone(),
                };
                ("delivered", place.clone(), Event::Done(n, place), told)
            }
            Err(reply)
                if reply.code.is_permanent() || self.settings.schedule.is_last(arrived, now) =>
            {
                let mut reason = reply.to_string();
                if !reply.code.is_permanent() {
                    reason.push_str(" (tried until it was too old)");
                }
                let told = journal::Event::Failed {
                    to: to.clone(),
                    reason: reason.clone(),
                };
                (
                    "delivery failed",
                    reason.clone(),
                    Event::Failed(n, reason),
                    told,
                )
            }
            Err(reply) => {
                let next = self.settings.schedule.next_attempt(channel, arrived, now);
                let reason = reply.to_string();
                let told = journal::Event::Deferred {
                    to: to.clone(),
                    reason: reason.clone(),
                    next,
                };
                (
                    "delivery deferred",
                    reason.clone(),
                    Event::Deferred(n, next, reason),
                    told,
                )
            }
        };
        info!(
            queue_id = work.taken.id,
            forward_path = to,
            reason,
            "{what}"
        );
        self.note(&work.taken.id, work.now, told);
        work.taken.note(&[Record { at: now, event }])
    }

    /// Notes what came of the remote deliveries, reports, and removes what is
    /// finished.
    fn end(
        &self,
        mut work: Work,
        results: Vec<(usize, Result<String, Reply>)>,
    ) -> io::Result<Option<u64>> {
        for (n, result) in results {
            self.conclude(&mut work, n, Channel::Remote, result)?;
        }
        self.tell(&mut work)?;
        if !work.taken.entry.is_finished() {
            return Ok(work.taken.entry.next_attempt());
        }
        if !dsn::concerned(About::Success, &work.taken.entry).is_empty() {
            self.report(&work, About::Success)?;
        }
        self.queue.remove(work.taken)?;
        Ok(None)
    }

    fn tell(&self, work: &mut Work) -> io::Result<()> {
        let now = seconds(work.now);
        let entry = &work.taken.entry;
        let is_failed = |recipient: &Recipient| {
            matches!(
                recipient.state,
                State::Failed {
                    is_reported: false,
                    ..
                }
            )
        };
        if entry.recipients.iter().any(is_failed) {
            if !dsn::concerned(About::Failure, entry).is_empty() {
                self.report(work, About::Failure)?;
            }
            work.taken.note(&[Record {
                at: now,
                event: Event::Reported,
            }])?;
        }
        let entry = &work.taken.entry;
        let is_late = self.settings.schedule.is_late(entry.arrived, now) && !entry.is_warned;
        if is_late && !dsn::concerned(About::Delay, entry).is_empty() {
            if entry.reverse_path != ReversePath::Null {
                self.report(work, About::Delay)?;
            }
            work.taken.note(&[Record {
                at: now,
                event: Event::Warned,
            }])?;
        }
        Ok(())
    }

    /// Queues a report. Of mail without a sender the postmaster is told, once.
    fn report(&self, work: &Work, about: About) -> io::Result<()> {
        let entry = &work.taken.entry;
        let to = match entry.reverse_path.mailbox() {
            Some(mailbox) => mailbox.clone(),
            None if about != About::Failure || entry.is_double_bounce => {
                warn!(
                    queue_id = work.taken.id,
                    "a report of a report failed: given up"
                );
                return Ok(());
            }
            None => match self.mailbox(&ForwardPath::Postmaster) {
                Ok(postmaster) => postmaster,
                Err(refusal) => {
                    warn!(
                        queue_id = work.taken.id,
                        reason = refusal.reason,
                        "nobody to tell of a failure"
                    );
                    return Ok(());
                }
            },
        };
        let recipients = dsn::concerned(about, entry);
        let by = Reporter {
            host: &self.settings.host,
            id: &work.taken.id,
            now: work.now,
        };
        let original = work.taken.start(dsn::MAX_READ)?;
        let text = dsn::report(about, entry, &recipients, &original, by);
        let child = self.child(work, &[to]);
        let child = child.map_err(|refusal| io::Error::other(refusal.reason))?;
        let leaves = |to: &Recipient| self.is_remote(&to.address).unwrap_or(true);
        let fields = match child.recipients.iter().any(leaves) {
            true => self.signatures(by.id, work.now, &text),
            false => String::new(),
        };
        let report = Entry {
            reverse_path: ReversePath::Null,
            client: format!("report of {}", work.taken.id),
            is_double_bounce: entry.reverse_path == ReversePath::Null,
            to_junk: false,
            ..child
        };
        self.beget(work, "report", &report, &[fields.as_bytes(), &text])
    }
}

/// Recipients to be tried now.
fn due(entry: &Entry, now: u64) -> Vec<usize> {
    let is_due = |recipient: &Recipient| matches!(recipient.state, State::Open { next_attempt, .. } if next_attempt <= now);
    let all = entry.recipients.iter().enumerate();
    all.filter(|(_, recipient)| is_due(recipient))
        .map(|(n, _)| n)
        .collect()
}

fn add_remote(remote: &mut Vec<(Domain, Vec<usize>)>, address: &Mailbox, n: usize) {
    match remote
        .iter_mut()
        .find(|(domain, _)| *domain == address.domain)
    {
        Some((_, numbers)) => numbers.push(n),
        None => remote.push((address.domain.clone(), vec![n])),
    }
}
