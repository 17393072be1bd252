//! `bmfd status`, `user` and `backup`: asked of the daemon, where one has the
//! database open, and otherwise done here.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use classifier::Label;
use classifier::cli::wire::{Reply, Request};
use classifier::store::lmdb::Access;
use tempfile::NamedTempFile;
use tracing::warn;

use super::Exit;
use super::asking::Daemon;
use crate::admin::{self, Command, HostStatus, Line, Status};
use crate::config::Config;
use crate::journal::{Event, What};
use crate::live::{Noticed, Totals};
use crate::pattern::Place;
use crate::turn::seconds;

/// Print what each user's model has learned, when, and from where
///
/// Exits with 1 when something should be looked at.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Print one JSON object for each user
    #[arg(long)]
    json: bool,
    /// Only this user
    user: Option<String>,
}

/// Move a user from host to host, rename or remove one, or list all
#[derive(Debug, clap::Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    what: UserCommand,
}

#[derive(Debug, clap::Subcommand)]
enum UserCommand {
    /// Print the names of all of whom something is kept
    List,
    /// Write a user's model, ledger and journal to standard output
    Export {
        /// Whose
        user: String,
    },
    /// Make what `export` wrote, from standard input, a new user's
    Import {
        /// Whose it becomes
        user: String,
    },
    /// Remove a user's model, ledger and journal
    Remove {
        /// Whose
        user: String,
    },
    /// Give a user another name
    Rename {
        /// The present name
        from: String,
        /// The new name
        to: String,
    },
}

/// Write a copy of the whole database, as it is now, to a new folder
///
/// The copy is a database like any other. To restore it, stop bmfd, put it in
/// the place of the old one, and start bmfd.
#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// The new folder; on the same file system the copy takes little room
    dir: PathBuf,
}

/// Make a model that all users of a host can begin with
///
/// It holds what the named users taught, each of whom should have agreed, and
/// none of their words. See database.base in the configuration. Nobody's own
/// training changes it.
#[derive(Debug, clap::Args)]
pub(super) struct BaseArgs {
    /// The file to write
    file: PathBuf,
    /// Whose models
    #[arg(required = true)]
    user: Vec<String>,
}

pub(super) fn base(args: &BaseArgs, config: &Config, now: SystemTime) -> anyhow::Result<Exit> {
    let command = Command::Base {
        users: args.user.clone(),
    };
    let (_, bytes) = done(config, &command, &[], now)?;
    // Whole or not at all, also for a daemon that starts at this moment.
    let folder = args.file.parent().filter(|folder| *folder != Path::new(""));
    let written = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .and_then(|mut file| file.write_all(&bytes).map(|()| file))
        .and_then(|file| file.as_file().sync_all().map(|()| file))
        .and_then(|file| file.persist(&args.file).map_err(|error| error.error));
    written.with_context(|| format!("cannot write {}", args.file.display()))?;
    Ok(Exit::Done)
}

pub(super) fn status(
    args: &StatusArgs,
    config: &Config,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let command = Command::Status {
        user: args.user.clone(),
    };
    let (_, lines) = done(config, &command, &[], now)?;
    if let Some(user) = &args.user {
        ensure_is_somebody(user, &lines, config)?;
    }
    if args.json {
        out.write_all(&lines)?;
    }
    let mut exit = Exit::Done;
    let seconds = seconds(now);
    for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line).context("no status")?;
        let warning = match &line {
            Line::Host(host) => &host.warning,
            Line::Status(status) => &status.warning,
        };
        if warning.is_some() {
            exit = Exit::Wrong;
        }
        match &line {
            _ if args.json => {}
            Line::Host(host) => write_host(host, out)?,
            Line::Status(status) => write_status(status, args.user.is_some(), seconds, out)?,
        }
    }
    Ok(exit)
}

/// Or a misspelt name would look like a new user.
fn ensure_is_somebody(user: &str, line: &[u8], config: &Config) -> anyhow::Result<()> {
    let Line::Status(status) = serde_json::from_slice(line).context("no status")? else {
        return Ok(());
    };
    let is_known = status.engine.is_some() || !status.events.is_empty();
    let layout = config.settings(user).roles.layout();
    let has_mailbox = |place: &Place| matches!(place.open(layout), Ok(Some(_)) | Err(_));
    ensure!(
        is_known
            || !status.mailboxes.is_empty()
            || config.places(Some(user)).0.iter().any(has_mailbox),
        "there is no user {user}: no mailbox, and nothing was ever learned"
    );
    Ok(())
}

fn write_host(status: &HostStatus, out: &mut dyn Write) -> io::Result<()> {
    match &status.watching {
        Some(totals) => {
            let Totals {
                mailboxes,
                polled,
                failing,
                pending,
                ..
            } = totals;
            write!(
                out,
                "{mailboxes} mailboxes watched, {polled} of them by polling"
            )?;
            write!(
                out,
                ", {failing} failing; {pending} messages to be moved on"
            )?;
        }
        None => write!(out, "bmfd serve is not running")?,
    }
    writeln!(out, "; database {}", size(status.database_bytes))?;
    if let Some(warning) = &status.warning {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn write_status(
    status: &Status,
    with_events: bool,
    now: u64,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Status {
        user, ham, spam, ..
    } = status;
    let engine = status.engine.as_deref().unwrap_or("no model yet");
    write!(out, "{user}: {engine}, {ham} ham, {spam} spam")?;
    match &status.last_learned {
        Some(event) => writeln!(out, "; last learned {}", described(event, now))?,
        None => writeln!(out, "; nothing learned lately")?,
    }
    let pending: usize = status.mailboxes.iter().map(|seen| seen.pending).sum();
    if pending > 0 {
        writeln!(out, "  {pending} messages to be moved on")?;
    }
    if let Some(warning) = &status.warning {
        writeln!(out, "  warning: {warning}")?;
    }
    if !with_events {
        return Ok(());
    }
    for seen in &status.mailboxes {
        let how = match seen.noticed {
            Noticed::AtOnce => "watched",
            _ => "polled",
        };
        let ago = ago(seen.looked, now);
        writeln!(out, "  mailbox {}: {how}, looked at {ago} ago", seen.place)?;
    }
    for event in status.events.iter().rev() {
        writeln!(out, "  {}", described(event, now))?;
    }
    Ok(())
}

fn ago(time: u64, now: u64) -> String {
    let age = now.saturating_sub(time);
    match age {
        0..120 => format!("{age} s"),
        120..7200 => format!("{} min", age / 60),
        7200..172_800 => format!("{} h", age / 3600),
        _ => format!("{} days", age / 86_400),
    }
}

fn described(event: &Event, now: u64) -> String {
    let ago = ago(event.time, now);
    let what = match &event.what {
        What::Learned(Label::Ham) => "as ham".into(),
        What::Learned(Label::Spam) => "as spam".into(),
        What::Forgotten => "forgotten".into(),
        What::TaughtNothing(reason) => format!("taught nothing ({reason})"),
        What::TakenOver => "database taken over".into(),
        What::Rotated(n) => format!("{n} messages rotated out"),
    };
    format!("{ago} ago, {what}, from {}", event.from)
}

pub(super) fn user(
    args: &UserArgs,
    config: &Config,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let mut input = Vec::new();
    let command = match &args.what {
        UserCommand::List => Command::List,
        UserCommand::Export { user } => Command::Export { user: user.clone() },
        UserCommand::Import { user } => {
            io::stdin().lock().read_to_end(&mut input)?;
            Command::Import { user: user.clone() }
        }
        UserCommand::Remove { user } => Command::Remove { user: user.clone() },
        UserCommand::Rename { from, to } => Command::Rename {
            from: from.clone(),
            to: to.clone(),
        },
    };
    let (_, output) = done(config, &command, &input, now)?;
    out.write_all(&output)?;
    Ok(Exit::Done)
}

pub(super) fn backup(args: &BackupArgs, config: &Config, now: SystemTime) -> anyhow::Result<Exit> {
    let dir = std::path::absolute(&args.dir)?;
    done(config, &Command::Backup { dir }, &[], now)?;
    Ok(Exit::Done)
}

/// How `command` went and what it prints, whoever has the database open.
pub(super) fn done(
    config: &Config,
    command: &Command,
    input: &[u8],
    now: SystemTime,
) -> anyhow::Result<(Exit, Vec<u8>)> {
    let access = match command {
        Command::Rotate { dry_run: true, .. } => Access::ReadOnly,
        _ => Access::ReadWrite,
    };
    let Some(mut daemon) = Daemon::find(config, access)? else {
        return admin::run(config, None, command, &mut &*input, seconds(now));
    };
    let json = serde_json::to_string(command)?;
    let request = Request::Command {
        args: vec![&json],
        input,
    };
    match daemon.ask(&request)? {
        Reply::Printed { exit: 0, output } => Ok((Exit::Done, output)),
        Reply::Printed { output, .. } => {
            warn!("something is wrong, as the log of bmfd serve says");
            Ok((Exit::Wrong, output))
        }
        _ => bail!("bmfd's reply makes no sense"),
    }
}
