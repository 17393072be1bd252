//! `bmfd rotate`: deletes the oldest messages of folders that are over quota.

use std::io::{self, Write};
use std::time::SystemTime;

use classifier::store::lmdb::Access;
use mailbox::{Folder, FolderName};
use serde::Serialize;
use tracing::{info, warn};

use super::{Exit, Failure, Subject, each_mailbox};
use crate::config::Config;
use crate::decision::Role;
use crate::pass::is_unlearned;
use crate::rotation::{
    Deletion, Outcome, Plan, Quota, execute, plan_asking, plan_rotation, take_inventory,
};

/// Delete the oldest messages of folders that hold more than they may
///
/// Each deletion is one line in the log. What a user has flagged stays, and in
/// a spam folder what a user put there until it is learned.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object for each message
    #[arg(long)]
    json: bool,
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
        let mut exit = Exit::Done;
        for (folder, quota) in &subject.settings.quotas {
            let mut rotation = Rotation {
                args,
                config,
                subject,
                folder,
                out,
            };
            if !rotation.run(quota, now)? {
                exit = Exit::Wrong;
            }
        }
        Ok(exit)
    })
}

/// The rotation of one folder.
struct Rotation<'a> {
    args: &'a Args,
    config: &'a Config,
    subject: &'a Subject<'a>,
    folder: &'a FolderName,
    out: &'a mut dyn Write,
}

impl Rotation<'_> {
    /// Whether all that should go has gone.
    fn run(&mut self, quota: &Quota, now: SystemTime) -> Result<bool, Failure> {
        let mailbox = &self.subject.mailbox;
        let user = self.subject.user;
        let Some(folder) = mailbox.folder(self.folder)? else {
            return Ok(true);
        };
        let plan = self.plan(&folder, quota, now)?;
        if self.args.dry_run {
            for deletion in &plan.deletions {
                self.print(deletion, "planned")?;
            }
            if !self.args.json {
                for line in plan.to_string().lines() {
                    writeln!(self.out, "{user}: {}: {line}", self.folder)?;
                }
            }
            return Ok(true);
        }
        let (mut all, mut printed) = (true, Ok(()));
        execute(&plan, mailbox, self.folder, |deletion, outcome| {
            all &= !matches!(outcome, Outcome::Failed(_));
            self.log(deletion, outcome);
            if printed.is_ok() {
                printed = self.print(deletion, outcome_name(outcome));
            }
        })?;
        printed?;
        Ok(all)
    }

    /// In a spam folder the ledger is asked; what lies among the learned was
    /// learned before it came there.
    fn plan(&self, folder: &Folder, quota: &Quota, now: SystemTime) -> Result<Plan, crate::Error> {
        let mut inventory = take_inventory(folder)?;
        if self.subject.settings.roles.role(self.folder) != Role::Spam {
            return Ok(plan_rotation(&inventory, quota, now));
        }
        let user = self.subject.user;
        let store = self.config.databases.open(user, Access::ReadOnly)?;
        plan_asking(&mut inventory, quota, now, |entry| {
            is_unlearned(folder, entry, &store)
        })
    }

    fn log(&self, deletion: &Deletion, outcome: &Outcome) {
        let (user, folder) = (self.subject.user, self.folder);
        let Deletion {
            entry,
            bytes,
            reason,
            ..
        } = deletion;
        let file = &entry.name;
        match outcome {
            Outcome::Deleted => {
                info!(user, %folder, %file, bytes, %reason, "message deleted");
            }
            Outcome::Changed => {
                info!(user, %folder, %file, "message has changed and stays");
            }
            Outcome::Failed(error) => {
                warn!(user, %folder, %file, %error, "message not deleted");
            }
        }
    }

    fn print(&mut self, deletion: &Deletion, outcome: &str) -> io::Result<()> {
        if !self.args.json {
            return Ok(());
        }
        let since = deletion.received.duration_since(SystemTime::UNIX_EPOCH);
        let line = Line {
            r#type: "deletion",
            version: 1,
            user: self.subject.user,
            folder: self.folder.to_string(),
            message: deletion.entry.name.to_string(),
            received: since.unwrap_or_default().as_secs(),
            bytes: deletion.bytes,
            reason: deletion.reason.to_string(),
            outcome,
        };
        serde_json::to_writer(&mut *self.out, &line)?;
        writeln!(self.out)
    }
}

/// As it is printed.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    version: u32,
    user: &'a str,
    folder: String,
    message: String,
    /// Seconds since 1970.
    received: u64,
    bytes: u64,
    reason: String,
    outcome: &'a str,
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Deleted => "deleted",
        Outcome::Changed => "changed",
        Outcome::Failed(_) => "failed",
    }
}
