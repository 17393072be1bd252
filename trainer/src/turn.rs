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

pub(crate) mod rotate;

/// A user's mailbox and what holds for it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Whose it is.
    pub user: &'a str,
    /// Opened.
    pub mailbox: Mailbox,
    /// The user's.
    pub settings: &'a Settings,
    /// By which the filter marks for this user what it files.
    pub mark: Option<MarkKey>,
}

/// What became of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// What was to be done.
    pub pass: Pass,
    /// Whether something could not be done; it was logged.
    pub is_wrong: bool,
}

impl<'a> Subject<'a> {
    /// A mailbox with what `config` says of its user.
    ///
    /// # Errors
    /// When the key of our marks cannot be read or made.
    pub fn new(config: &'a Config, user: &'a str, mailbox: Mailbox) -> Result<Self, Error> {
        Ok(Self {
            user,
            mailbox,
            settings: config.settings(user),
            mark: config.mark_key(user)?,
        })
    }

    pub(crate) fn view(&self, now: SystemTime) -> View<'_> {
        View {
            mailbox: &self.mailbox,
            settings: self.settings,
            mark: self.mark.as_ref(),
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
    let (user, view) = (subject.user, subject.view(now));
    let pass = {
        let store = config.databases.open(user, Access::ReadOnly)?;
        look(&view, &store, memory, most)?
    };
    let mut is_wrong = warn_unread(user, &pass);
    let mut events = Vec::new();
    if !pass.steps.is_empty() {
        let mut store = config.databases.open(user, Access::ReadWrite)?;
        pass.carry_out(&view, &mut store, memory, |step, outcome| {
            is_wrong |= !log(user, step, outcome);
            events.extend(event(step, outcome, now));
        })?;
        Journal::of(&config.databases.host()?, user).add(&events)?;
    }
    Ok(Turn { pass, is_wrong })
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
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Event {
        time: since.as_secs(),
        what: What::Learned(label),
        from: step.folder.to_string(),
    })
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
