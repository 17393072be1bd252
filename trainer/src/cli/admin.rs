//! `bmfd status`, `user` and `backup`: asked of the daemon, where one has the
//! database open, and otherwise done here.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use classifier::cli::wire::{HEADER_LEN, Header, Reply, Request};
use classifier::{Error, Label};

use super::Exit;
use crate::admin::{self, Command, Status};
use crate::config::Config;
use crate::journal::{Event, What};

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
    /// Print the names of all who have a model
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

pub(super) fn status(
    args: &StatusArgs,
    config: &Config,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let command = Command::Status {
        user: args.user.clone(),
    };
    let lines = done(config, &command, &[], now)?;
    if args.json {
        out.write_all(&lines)?;
    }
    let mut exit = Exit::Done;
    let seconds = seconds(now);
    for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let status: Status = serde_json::from_slice(line).context("no status")?;
        if status.warning.is_some() {
            exit = Exit::Wrong;
        }
        if !args.json {
            write_status(&status, config, args.user.is_some(), seconds, out)?;
        }
    }
    Ok(exit)
}

fn write_status(
    status: &Status,
    config: &Config,
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
    if let Some(warning) = &status.warning {
        writeln!(out, "  warning: {warning}")?;
    }
    if !with_events {
        return Ok(());
    }
    for place in config.places(Some(user)).0 {
        writeln!(out, "  mailbox {place}")?;
    }
    for event in status.events.iter().rev() {
        writeln!(out, "  {}", described(event, now))?;
    }
    Ok(())
}

fn described(event: &Event, now: u64) -> String {
    let age = now.saturating_sub(event.time);
    let ago = match age {
        0..120 => format!("{age} s"),
        120..7200 => format!("{} min", age / 60),
        7200..172_800 => format!("{} h", age / 3600),
        _ => format!("{} days", age / 86_400),
    };
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
    out.write_all(&done(config, &command, &input, now)?)?;
    Ok(Exit::Done)
}

pub(super) fn backup(args: &BackupArgs, config: &Config, now: SystemTime) -> anyhow::Result<Exit> {
    let dir = std::path::absolute(&args.dir)?;
    done(config, &Command::Backup { dir }, &[], now)?;
    Ok(Exit::Done)
}

/// What `command` prints, whoever has the database open.
fn done(
    config: &Config,
    command: &Command,
    input: &[u8],
    now: SystemTime,
) -> anyhow::Result<Vec<u8>> {
    let socket = &config.listening.socket;
    if let Ok(mut daemon) = UnixStream::connect(socket) {
        return asked(&mut daemon, command, input)
            .with_context(|| format!("bmfd at {}", socket.display()));
    }
    match config.databases.host() {
        Err(crate::Error::Database(error @ Error::Locked { .. })) => {
            Err(error).with_context(|| format!("and nobody listens at {}", socket.display()))
        }
        host => admin::run(&host?, command, &mut &*input, seconds(now)),
    }
}

fn asked(daemon: &mut UnixStream, command: &Command, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    daemon.set_read_timeout(Some(PATIENCE))?;
    daemon.set_write_timeout(Some(PATIENCE))?;
    let json = serde_json::to_string(command)?;
    let request = Request::Command {
        args: vec![&json],
        input,
    };
    let request = request.to_bytes().context("the input is too long")?;
    let sent = daemon.write_all(&request);
    let mut head = [0; HEADER_LEN];
    if let Err(error) = daemon.read_exact(&mut head) {
        sent?;
        return Err(error.into());
    }
    let header = Header::parse(&head)?;
    let mut content = Vec::new();
    let n = daemon.take(header.len.into()).read_to_end(&mut content)?;
    if n != header.len as usize {
        return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
    }
    match Reply::parse(header, &content)? {
        Reply::Printed { output, .. } => Ok(output),
        Reply::Refused(_, reason) => bail!(reason),
        _ => bail!("its reply makes no sense"),
    }
}

/// A backup of a large database to another disk takes a while.
const PATIENCE: Duration = Duration::from_secs(3600);

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
