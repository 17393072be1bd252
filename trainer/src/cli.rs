//! The program `bmfd` without its `main`: arguments and what it prints.
//!
//! Results go to the writer that is given, everything else is logged.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Parser, Subcommand};
use tracing::{Level, error, warn};

use crate::Error;
use crate::config::Config;
use crate::daemon;
use crate::pattern::Place;
use crate::turn::Subject;

mod admin;
mod asking;
mod check;
mod learn;
mod once;
pub(crate) mod rotate;

/// Looks after the spam folders of a host's users
#[derive(Debug, Parser)]
#[command(
    name = "bmfd",
    version,
    after_help = "Exit codes: 0 done, 1 done but something is wrong, 2 failed."
)]
pub struct Args {
    /// Configuration; docs/bmfd.toml lists every key
    #[arg(short, long, global = true, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Log more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    command: Command,
}

const CONFIG: &str = "/etc/bmfd.toml";

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Learn(learn::Args),
    Once(once::Args),
    Rotate(rotate::Args),
    /// Watch the mailboxes, and learn and rotate until told to end
    ///
    /// SIGHUP reads the configuration again (not what it says of the database
    /// and of listening), SIGTERM and SIGINT end it when what was begun is done.
    Serve,
    Status(admin::StatusArgs),
    User(admin::UserArgs),
    Backup(admin::BackupArgs),
    Base(admin::BaseArgs),
}

/// Begins to log to standard error. One that cannot be written to ends
/// nothing.
pub fn start_log(is_verbose: bool) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // It would panic where standard error cannot be written to.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(match is_verbose {
            true => Level::DEBUG,
            false => Level::INFO,
        })
        .init();
}

/// Whether a reader has seen enough, as `head` has.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// Something is wrong with a mailbox; the others were done.
    Wrong = 1,
    /// Nothing could be done.
    Failed = 2,
}

impl Exit {
    fn wrong_if(is_wrong: bool) -> Self {
        if is_wrong { Self::Wrong } else { Self::Done }
    }
}

/// Does what `args` ask for, as of `now`, and prints results to `out`.
///
/// # Errors
/// When the configuration is wrong, a user has no mailbox, or `out` fails.
/// What is wrong with one mailbox is logged and does not stop the others.
pub fn run(args: &Args, now: SystemTime, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let read = match &args.command {
        Command::Status(_) | Command::User(_) | Command::Backup(_) | Command::Base(_) => {
            Config::read_alone
        }
        _ => Config::read,
    };
    let config = read(&args.config).map_err(|error| match &error {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            let begin = "docs/bmfd.toml is one to begin with, and an empty one means the defaults";
            anyhow::Error::new(error).context(format!("no configuration; {begin}"))
        }
        _ => error.into(),
    })?;
    match &args.command {
        Command::Check(args) => check::run(args, &config, out),
        Command::Status(args) => admin::status(args, &config, now, out),
        Command::User(args) => admin::user(args, &config, now, out),
        Command::Backup(args) => admin::backup(args, &config, now),
        Command::Base(args) => admin::base(args, &config, now),
        Command::Learn(args) => learn::run(args, &config, now, out),
        Command::Once(args) => once::run(args, &config, now, out),
        Command::Rotate(args) => rotate::run(args, &config, now, out),
        Command::Serve => {
            daemon::serve(&args.config, config)?;
            Ok(Exit::Done)
        }
    }
}

/// Does what an administrator's command says, whoever has the database open,
/// and returns what it prints.
///
/// # Errors
/// When it cannot be done; then nothing has changed.
pub fn administer(
    config: &Config,
    command: &crate::admin::Command,
    now: SystemTime,
) -> anyhow::Result<Vec<u8>> {
    admin::done(config, command, &[], now).map(|(_, output)| output)
}

/// Calls `visit` for each mailbox, of one user or of all. Whatever fails is
/// logged, unless it is the output.
fn each_mailbox(
    config: &Config,
    user: Option<&str>,
    mut visit: impl FnMut(&Subject<'_>) -> Result<Exit, Failure>,
) -> anyhow::Result<Exit> {
    let (places, mut exit) = places(config, user);
    let mut n_mailboxes = 0;
    for place in &places {
        if let Some(visited) = mailbox(config, place, &mut visit)? {
            n_mailboxes += 1;
            exit = exit.max(visited);
        }
    }
    if user.is_some() {
        some_mailbox(n_mailboxes, user)?;
    }
    Ok(exit)
}

/// Where mailboxes may be; where one cannot look is logged.
fn places(config: &Config, user: Option<&str>) -> (Vec<Place>, Exit) {
    let (places, errors) = config.places(user);
    for error in &errors {
        error!(%error, "cannot look for mailboxes");
    }
    (places, Exit::wrong_if(!errors.is_empty()))
}

/// Calls `visit` for the mailbox at `place`, if there is one.
fn mailbox(
    config: &Config,
    place: &Place,
    visit: impl FnOnce(&Subject<'_>) -> Result<Exit, Failure>,
) -> io::Result<Option<Exit>> {
    let layout = config.settings(&place.user).roles.layout();
    let visited = match place.open(layout) {
        Ok(None) => return Ok(None),
        Ok(Some(mailbox)) => visit(&Subject::new(config, &place.user, mailbox)),
        Err(error) => Err(error.into()),
    };
    match visited {
        Ok(exit) => Ok(Some(exit)),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Mailbox(error)) => {
            error!(user = place.user, %error, "mailbox left alone");
            Ok(Some(Exit::Wrong))
        }
    }
}

/// One that was asked for is missing, or there is none at all.
fn some_mailbox(n_mailboxes: usize, user: Option<&str>) -> anyhow::Result<Exit> {
    match (n_mailboxes, user) {
        (0, Some(user)) => anyhow::bail!(
            "{user} has no mailbox; see mailboxes.patterns and users in the configuration"
        ),
        (0, None) => {
            warn!("no mailbox found; see mailboxes.patterns in the configuration");
            Ok(Exit::Wrong)
        }
        _ => Ok(Exit::Done),
    }
}

/// What may stop the work on one mailbox.
enum Failure {
    /// That mailbox only.
    Mailbox(Error),
    /// Everything.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Mailbox(error)
    }
}

impl From<mailbox::Error> for Failure {
    fn from(error: mailbox::Error) -> Self {
        Self::Mailbox(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
