//! A mailbox's turn: what its user taught is learned, what was learned is
//! moved on, each as one line of the log.

use std::time::{SystemTime, UNIX_EPOCH};

use classifier::store::lmdb::Access;
use mailbox::Mailbox;
use tracing::{info, warn};

use crate::Error;
use crate::config::{Config, Settings};
use crate::decision::Then;
use crate::journal::{Event, Journal, What};
use crate::pass::{Outcome, Pass, Step, look};

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
}

/// Looks, and does what is to be done. The user's database is opened for
/// writing, and made, only if there is something to learn or to move.
///
/// # Errors
/// When the mailbox or the database as a whole cannot be worked with.
pub fn take(config: &Config, subject: &Subject<'_>, now: SystemTime) -> Result<Turn, Error> {
    let Subject {
        user,
        mailbox,
        settings,
    } = subject;
    let pass = {
        let store = config.databases.open(user, Access::ReadOnly)?;
        look(mailbox, settings, &store, now)?
    };
    let mut is_wrong = warn_unread(user, &pass);
    let mut events = Vec::new();
    if !pass.steps.is_empty() {
        let mut store = config.databases.open(user, Access::ReadWrite)?;
        pass.carry_out(mailbox, settings, &mut store, now, |step, outcome| {
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
