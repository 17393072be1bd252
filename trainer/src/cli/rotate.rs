//! `bmfd rotate`: deletes the oldest messages of folders that are over quota.

use std::io::{self, Write};
use std::time::SystemTime;

use mailbox::FolderName;
use serde::Serialize;

use super::{Exit, Failure, Subject, admin, each_mailbox};
use crate::admin::Command;
use crate::config::Config;
use crate::rotation::{Deletion, Outcome, Quota};
use crate::turn::rotate;

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
    let command = Command::Rotate {
        user: args.user.clone(),
        dry_run: args.dry_run,
        json: args.json,
    };
    let (exit, output) = admin::done(config, &command, &[], now)?;
    out.write_all(&output)?;
    Ok(exit)
}

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// It is only said what would be.
    pub(crate) is_dry: bool,
    /// One object of JSON for each message.
    pub(crate) json: bool,
}

/// Rotates the folders of one user or of all.
///
/// # Errors
/// When a user has no mailbox, or `out` fails. What is wrong with one mailbox
/// is logged and does not stop the others.
pub(crate) fn all(
    config: &Config,
    user: Option<&str>,
    how: How,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    each_mailbox(config, user, |subject| {
        let mut exit = Exit::Done;
        for (folder, quota) in &subject.settings.quotas {
            let mut rotation = Rotation {
                how,
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
    how: How,
    config: &'a Config,
    subject: &'a Subject<'a>,
    folder: &'a FolderName,
    out: &'a mut dyn Write,
}

impl Rotation<'_> {
    /// Whether all that should go has gone.
    fn run(&mut self, quota: &Quota, now: SystemTime) -> Result<bool, Failure> {
        if self.how.is_dry {
            return self.dry_run(quota, now);
        }
        let Self {
            config,
            subject,
            folder,
            ..
        } = *self;
        let mut printed = Ok(());
        let all = rotate::rotate(config, subject, folder, quota, now, |deletion, outcome| {
            if printed.is_ok() {
                printed = self.print(deletion, outcome_name(outcome));
            }
        })?;
        printed?;
        Ok(all)
    }

    fn dry_run(&mut self, quota: &Quota, now: SystemTime) -> Result<bool, Failure> {
        let Some(folder) = self.subject.mailbox.folder(self.folder)? else {
            return Ok(true);
        };
        let named = (self.folder, &folder);
        let plan = rotate::plan(self.config, self.subject, named, quota, now)?;
        for deletion in &plan.deletions {
            self.print(deletion, "planned")?;
        }
        if !self.how.json {
            let user = self.subject.user;
            for line in plan.to_string().lines() {
                writeln!(self.out, "{user}: {}: {line}", self.folder)?;
            }
        }
        Ok(true)
    }

    fn print(&mut self, deletion: &Deletion, outcome: &str) -> io::Result<()> {
        if !self.how.json {
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
