//! One attempt at a queued message: what is due is delivered, and noted
//! before anything else happens; then its sender is told what must be told.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tracing::{error, info};

use super::judging::judged;
use super::verdict::Opinion;
use super::{Inner, no_way_out, seconds, trouble};
use crate::accounts::{self, Delivery, Extension, User};
use crate::delivery::content::Content;
use crate::delivery::local::{Delivered, Job};
use crate::journal;
use crate::queue::dsn::{self, About};
use crate::queue::schedule::Channel;
use crate::queue::{Entry, Event, Locked, Recipient, Record, State};
use crate::remote::Parcel;
use crate::remote::letter::Letter;
use crate::smtp::{Domain, Mailbox, Reply};

/// A message that is being worked on.
pub(super) struct Work {
    pub(super) taken: Locked<File>,
    pub(super) now: SystemTime,
    /// Recipients here.
    local: Vec<usize>,
    /// Recipients elsewhere, by domain.
    remote: Vec<(Domain, Vec<usize>)>,
}

/// What became of a recipient, for now.
#[derive(Clone, Copy)]
enum End {
    Delivered,
    Failed,
    /// Until then.
    Deferred(u64),
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "delivery failed",
            Self::Deferred(_) => "delivery deferred",
        }
    }
}

/// One that somebody else has locked is looked at again after this. That may be
/// `postern queue`, or a program that was begun just when the message came in:
/// until it is executed it has what was open here.
const LOCKED: Duration = Duration::from_millis(100);
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
    let Some(mut work) = begun else {
        let (host, name) = (Arc::clone(inner), id.to_owned());
        let found = blocking(move || host.queue.look(&name)).await?;
        let due = found.and_then(|found| found.entry.next_attempt());
        let room = due.map(|_| Box::pin(tokio::time::sleep(LOCKED)) as Room);
        return Ok(Next { due, room });
    };
    let mut room = None;
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
        let local = std::mem::take(&mut work.local).into_iter().map(|n| {
            let address = work.taken.entry.recipients[n].address.clone();
            let delivery = self.local(&work, &address);
            (n, address, delivery)
        });
        let local: Vec<_> = local.collect();
        let found = local.iter().filter_map(|(_, _, found)| found.as_ref().ok());
        let users: Vec<&User> = found.flatten().filter_map(Delivery::user).collect();
        let mut opinions = self.judge(&work.taken.id, &users, &content).into_iter();
        for (n, address, delivery) in local {
            let result = match delivery {
                Err(reply) => Err(reply),
                Ok(Some(Delivery::Local {
                    user, extension, ..
                })) => {
                    let opinion = opinions.next().flatten();
                    let extension = extension.as_ref();
                    self.deliver_to(&work, &user, extension, &address, opinion, &content)
                }
                Ok(_) => self.pass_on(&work, &address, &bytes),
            };
            self.conclude(&mut work, n, Channel::Local, result)?;
        }
        Ok(work)
    }

    /// Whose mailbox it is.
    fn local(&self, work: &Work, address: &Mailbox) -> Result<Option<Delivery>, Reply> {
        accounts::local(address, self.accounts()).map_err(|error| {
            error!(queue_id = work.taken.id, %error, "the accounts cannot be asked");
            trouble()
        })
    }

    fn deliver_to(
        &self,
        work: &Work,
        user: &User,
        extension: Option<&Extension>,
        address: &Mailbox,
        opinion: Option<Opinion>,
        content: &Content,
    ) -> Result<String, Reply> {
        if let Some(opinion) = &opinion {
            self.note(&work.taken.id, work.now, judged(user, opinion));
        }
        let to_junk = work.taken.entry.to_junk;
        let (fields, is_junk) = self.file_by(user, opinion.as_ref(), to_junk, content);
        let Delivered { places, forwards } = self.deliverer.deliver(&Job {
            reverse_path: &work.taken.entry.reverse_path,
            user,
            extension,
            address,
            content,
            fields: &fields,
            is_junk,
            now: work.now,
        })?;
        self.rotate(user, is_junk, work.now);
        let mut places = places;
        for forward in forwards {
            let to = forward.recipients.iter().map(ToString::to_string);
            places.push(format!(
                "forwarded to {}",
                to.collect::<Vec<_>>().join(", ")
            ));
            self.forward(work, address, content.bytes(), forward)?;
        }
        Ok(places.join(", "))
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
        let schedule = &self.settings.schedule;
        let (end, reason) = match result {
            Ok(place) => (End::Delivered, place),
            Err(reply) if reply.code.is_permanent() => (End::Failed, reply.to_string()),
            Err(reply) if schedule.is_last(entry.arrived, now) => {
                let reason = format!("{reply} (tried until it was too old)");
                (End::Failed, reason)
            }
            Err(reply) => {
                let next = schedule.next_attempt(channel, entry.arrived, now);
                (End::Deferred(next), reply.to_string())
            }
        };
        let to = entry.recipients[n].address.to_string();
        let id = &work.taken.id;
        info!(queue_id = id, forward_path = to, reason, "{}", end.name());
        let told = match end {
            End::Delivered => journal::Event::Delivered {
                to,
                place: reason.clone(),
            },
            End::Failed => journal::Event::Failed {
                to,
                reason: reason.clone(),
            },
            End::Deferred(next) => journal::Event::Deferred {
                to,
                reason: reason.clone(),
                next,
            },
        };
        self.note(id, work.now, told);
        let event = match end {
            End::Delivered => Event::Done(n, reason),
            End::Failed => Event::Failed(n, reason),
            End::Deferred(next) => Event::Deferred(n, next, reason),
        };
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
