//! `bmfd once`: one pass over the mailboxes, for cron.

use std::io::{self, Write};
use std::time::SystemTime;

use classifier::store::lmdb::Access;
use rayon::prelude::*;

use super::asking::Daemon;
use super::{Exit, Failure, each_mailbox, mailbox, places, some_mailbox};
use crate::config::Config;
use crate::pass::{Memory, Step, look};
use crate::turn::{self, MOST_READ, Subject};

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
    let access = match args.dry_run {
        true => Access::ReadOnly,
        false => Access::ReadWrite,
    };
    anyhow::ensure!(
        Daemon::find(config, access)?.is_none(),
        "bmfd serve is running, and does this by itself; see bmfd status"
    );
    let user = args.user.as_deref();
    match args.dry_run {
        true => each_mailbox(config, user, |subject| dry_run(config, subject, now, out)),
        false => rounds(config, user, now),
    }
}

/// Each mailbox that has more to do gets a turn in each round, so that nobody
/// waits for all mail of another.
fn rounds(config: &Config, user: Option<&str>, now: SystemTime) -> anyhow::Result<Exit> {
    let (places, mut exit) = places(config, user);
    let mut waiting: Vec<_> = places
        .into_iter()
        .map(|place| (place, Memory::default()))
        .collect();
    let mut n_mailboxes = 0;
    while !waiting.is_empty() {
        let turns = waiting.into_par_iter().map(|(place, mut memory)| {
            let mut has_more = false;
            let visited = mailbox(config, &place, |subject| {
                let turn = turn::take(config, subject, &mut memory, MOST_READ, now)?;
                has_more = turn.pass.more;
                Ok(Exit::wrong_if(turn.is_wrong))
            })?;
            Ok((visited, has_more.then_some((place, memory))))
        });
        let turns: Vec<_> = turns.collect::<io::Result<_>>()?;
        waiting = Vec::new();
        for (visited, more) in turns {
            n_mailboxes += usize::from(visited.is_some());
            exit = exit.max(visited.unwrap_or(Exit::Done));
            waiting.extend(more);
        }
    }
    Ok(exit.max(some_mailbox(n_mailboxes, user)?))
}

fn dry_run(
    config: &Config,
    subject: &Subject<'_>,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let user = subject.user;
    let mark = config.databases.mark_key(user)?;
    let taught = config.databases.taught(user, Access::ReadOnly)?;
    let memory = &mut Memory::default();
    let pass = look(
        &subject.view(mark.as_ref(), now),
        &taught,
        memory,
        usize::MAX,
    )?;
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
            let to = turn::destination(decision.then);
            writeln!(out, "{user}: {folder}: move {name} to {to}")?;
        }
    }
    Ok(Exit::wrong_if(turn::warn_unread(user, &pass)))
}
