//! `bmfd once`: one pass over the mailboxes, for cron.

use std::io::Write;
use std::time::SystemTime;

use classifier::store::lmdb::Access;

use super::{Exit, Failure, each_mailbox, not_beside_serve};
use crate::config::Config;
use crate::pass::{Memory, Step, look};
use crate::turn::{self, Subject};

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
    not_beside_serve(config)?;
    each_mailbox(config, args.user.as_deref(), |subject| {
        if args.dry_run {
            dry_run(config, subject, now, out)
        } else {
            let memory = &mut Memory::default();
            let turn = turn::take(config, subject, memory, usize::MAX, now)?;
            Ok(Exit::wrong_if(turn.is_wrong))
        }
    })
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
