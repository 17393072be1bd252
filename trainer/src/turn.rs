//! A mailbox's turn: what its user taught is learned, what was learned is
//! moved on, each as one line of the log.

use std::time::{SystemTime, UNIX_EPOCH};

use classifier::mark::MarkKey;
use classifier::store::lmdb::Access;
use mailbox::Mailbox;
use tracing::{debug, info, warn};

use crate::Error;
use crate::config::{Config, Settings};
use crate::decision::{Lesson, Then};
use crate::journal::{Event, Journal, What};
use crate::pass::{Memory, Outcome, Pass, Step, View, look};

pub mod rotate;

/// A turn reads about so many messages; the rest comes when the others have
/// had theirs.
pub(crate) const MOST_READ: usize = 256;

/// A user's mailbox and what holds for it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Whose it is.
    pub user: &'a str,
    /// Opened.
    pub mailbox: Mailbox,
    /// The user's.
    pub settings: &'a Settings,
}

/// What became of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// What was to be done.
    pub pass: Pass,
    /// Whether something could not be done; it was logged.
    pub is_wrong: bool,
    /// Messages that were learned.
    pub n_learned: u64,
}

impl<'a> Subject<'a> {
    /// A mailbox with what `config` says of its user.
    pub fn new(config: &'a Config, user: &'a str, mailbox: Mailbox) -> Self {
        Self {
            user,
            mailbox,
            settings: config.settings(user),
        }
    }

    /// `mark`: by which the filter marks for this user what it files.
    pub(crate) fn view<'v>(&'v self, mark: Option<&'v MarkKey>, now: SystemTime) -> View<'v> {
        View {
            mailbox: &self.mailbox,
            settings: self.settings,
            mark,
            now,
        }
    }
}

/// Looks, reading about `most` messages, and does what is to be done. The
/// user's database is opened for writing, and made, only if there is something
/// to learn or to move.
///
/// # Errors
/// When the mailbox or the database as a whole cannot be worked with.
pub fn take(
    config: &Config,
    subject: &Subject<'_>,
    memory: &mut Memory,
    most: usize,
    now: SystemTime,
) -> Result<Turn, Error> {
    let user = subject.user;
    let mark = config.databases.mark_key(user)?;
    let view = subject.view(mark.as_ref(), now);
    let pass = {
        let taught = config.databases.taught(user, Access::ReadOnly)?;
        look(&view, &taught, memory, most)?
    };
    let mut is_wrong = warn_unread(user, &pass);
    let mut events = in_vain(config, user, &pass, now)?;
    if !pass.steps.is_empty() {
        let mut taught = config.databases.taught(user, Access::ReadWrite)?;
        pass.carry_out(&view, &mut taught, memory, |step, outcome| {
            is_wrong |= !log(user, step, outcome);
            events.extend(event(step, outcome, now));
        })?;
    }
    if !events.is_empty() {
        Journal::of(&config.databases.host()?, user).add(&events)?;
    }
    let learned = events.iter().filter(|event| event.what.is_lesson());
    Ok(Turn {
        n_learned: learned.count() as u64,
        pass,
        is_wrong,
    })
}

/// What the status says of moves that taught nothing, each once: the journal
/// knows since when none has been told.
fn in_vain(config: &Config, user: &str, pass: &Pass, now: SystemTime) -> Result<Vec<Event>, Error> {
    let mut told = None;
    if pass.in_vain.iter().any(|one| one.at.is_some()) {
        let pages = Journal::of(&config.databases.host()?, user).read()?;
        told = pages.last_in_vain().map(|event| event.time);
    }
    let is_new = |at: Option<u64>| at.is_none_or(|at| told.is_none_or(|told| at > told));
    let events = pass.in_vain.iter().filter(|one| is_new(one.at));
    Ok(events
        .map(|one| Event {
            time: seconds(now),
            what: What::TaughtNothing(one.reason.clone()),
            from: one.way.clone(),
        })
        .collect())
}

/// Whether there is something that could not be read.
pub(crate) fn warn_unread(user: &str, pass: &Pass) -> bool {
    for error in &pass.unread {
        warn!(user, %error, "message left alone");
    }
    !pass.unread.is_empty()
}

/// What the status says of a step later.
fn event(step: &Step, outcome: &Outcome, now: SystemTime) -> Option<Event> {
    let label = step.decision.teaches();
    let label = label.filter(|_| !matches!(outcome, Outcome::Changed))?;
    Some(Event {
        time: seconds(now),
        what: What::Learned(label),
        from: step.folder.to_string(),
    })
}

pub(crate) fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether it went well.
fn log(user: &str, step: &Step, outcome: &Outcome) -> bool {
    let Step {
        folder,
        entry,
        decision,
    } = step;
    let (file, reason) = (&entry.name, decision.reason);
    if let Outcome::Changed = outcome {
        info!(user, %folder, %file, "message has changed and is left to the next pass");
        return true;
    }
    if decision.lesson == Lesson::NoteFiled {
        debug!(user, %folder, %file, %reason, "message noted");
    }
    if let Some(label) = decision.teaches() {
        let label = label.name();
        info!(user, %folder, %file, label, %reason, "message learned");
    }
    if let Outcome::Failed(error) = outcome {
        warn!(user, %folder, %file, %error, "message not moved");
        return false;
    }
    if decision.moves() {
        let to = destination(decision.then);
        info!(user, %folder, %file, to, "message moved");
    }
    true
}

/// Where a message goes, for people.
pub(crate) fn destination(then: Then) -> &'static str {
    match then {
        Then::MoveToInbox => "INBOX",
        _ => "the learned folder",
    }
}
