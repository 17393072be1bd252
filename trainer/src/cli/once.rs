//! `bmfd once`: one pass over the mailboxes, for cron.

use std::io::Write;
use std::time::SystemTime;

use classifier::store::lmdb::Access;
use tracing::{info, warn};

use super::{Exit, Failure, Subject, each_mailbox};
use crate::config::Config;
use crate::decision::Then;
use crate::pass::{Outcome, Pass, Step, look};

/// Learn what users taught by moving mail, move on what was learned, and end
///
/// At least once a day, or read mail that was kept is not seen in time.
/// Lessons and moves are one line each in the log.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Only this user's mailbox
    user: Option<String>,
}

pub(super) fn run(
    args: &Args,
    config: &Config,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    each_mailbox(config, args.user.as_deref(), |subject| {
        if args.dry_run {
            dry_run(config, subject, now, out)
        } else {
            Ok(pass(config, subject, now)?)
        }
    })
}

/// A pass over one mailbox.
fn pass(config: &Config, subject: &Subject<'_>, now: SystemTime) -> Result<Exit, crate::Error> {
    let Subject {
        place,
        mailbox,
        settings,
    } = subject;
    let user = &place.user;
    let mut store = config.databases.open(user, Access::ReadWrite)?;
    let pass = look(mailbox, settings, &store, now)?;
    let mut exit = warn_unread(user, &pass);
    pass.carry_out(mailbox, settings, &mut store, now, |step, outcome| {
        if !log(user, step, outcome) {
            exit = Exit::Wrong;
        }
    })?;
    Ok(exit)
}

fn dry_run(
    config: &Config,
    subject: &Subject<'_>,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let user = &subject.place.user;
    let store = config.databases.open(user, Access::ReadOnly)?;
    let pass = look(&subject.mailbox, subject.settings, &store, now)?;
    for Step {
        folder,
        entry,
        decision,
    } in &pass.steps
    {
        let name = &entry.name;
        let reason = decision.reason;
        if let Some(label) = decision.teaches() {
            let label = label.name();
            writeln!(out, "{user}: {folder}: learn {name} as {label}: {reason}")?;
        }
        if decision.moves() {
            let to = destination(decision.then);
            writeln!(out, "{user}: {folder}: move {name} to {to}")?;
        }
    }
    Ok(warn_unread(user, &pass))
}

fn warn_unread(user: &str, pass: &Pass) -> Exit {
    for error in &pass.unread {
        warn!(user, %error, "message left alone");
    }
    if pass.unread.is_empty() {
        Exit::Done
    } else {
        Exit::Wrong
    }
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

fn destination(then: Then) -> &'static str {
    match then {
        Then::MoveToInbox => "INBOX",
        _ => "the learned folder",
    }
}
