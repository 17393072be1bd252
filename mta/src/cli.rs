//! `postern` as functions of its arguments.

pub mod accounts;
pub mod alias;
pub mod check;
pub mod domain;
pub mod gate;
pub mod init;
pub mod inject;
mod password;
pub mod preline;
pub mod qmail_queue;
pub mod queue;
pub mod sendmail;
pub mod user;
pub mod why;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nix::unistd::{Gid, Uid};

use self::accounts::Places;
use crate::config::{self, Config, ForPrograms};
use crate::server::run::{become_owner, serve};

/// A lean mail host with a filter that learns
#[derive(Debug, Parser)]
#[command(name = "postern", version)]
pub struct Args {
    /// Configuration; docs/postern.toml lists every key
    #[arg(short, long, global = true, value_name = "FILE", default_value = config::PATH)]
    config: PathBuf,
    /// The folder with accounts, mail and queue, in place of the configured one
    #[arg(long, global = true, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Log more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a host for a domain
    Init(init::Init),
    /// Look whether everything fits
    Check,
    /// Receive and deliver mail until told to end
    ///
    /// SIGHUP reads the certificates again, SIGTERM and SIGINT end it when what
    /// was begun is done.
    Serve,
    /// Whose mail is received here
    #[command(subcommand)]
    Domain(domain::Command),
    /// Who has a mailbox here
    #[command(subcommand)]
    User(user::Command),
    /// Names that lead to others
    #[command(subcommand)]
    Alias(alias::Command),
    /// What waits to be delivered
    #[command(subcommand)]
    Queue(queue::Command),
    /// Who may bring mail
    #[command(subcommand)]
    Gate(gate::Command),
    /// The story of a message: where it went, and why
    Why(why::Question),
    /// Send mail, as programs call sendmail
    ///
    /// -t takes recipients from To, Cc and Bcc; -f ADDRESS gets reports; -F NAME
    /// stands in a From field that must be made; -i and -oi: a dot alone ends
    /// nothing; -bs speaks SMTP. Exit codes: 0 taken, 100 refused, 111 later.
    Sendmail {
        /// Options of sendmail, and recipients
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGUMENT"
        )]
        arguments: Vec<String>,
    },
    /// Take a message from descriptor 0 and its envelope from descriptor 1, as qmail-queue does
    QmailQueue,
    /// For .qmail files: give a program the message as mailboxes have it
    Preline(preline::Preline),
}

/// The arguments of a process; one that is called `sendmail` by a link is
/// `postern sendmail`, and so for `preline` and `qmail-queue`.
pub fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = given.collect();
    let name = all.first().and_then(|name| Path::new(name).file_name());
    let name = name.and_then(|name| name.to_str()).unwrap_or_default();
    if ["preline", "sendmail", "qmail-queue"].contains(&name) {
        let name = name.into();
        all.insert(1, name);
    }
    // What follows is sendmail's own, also a `--`.
    let mut at = 1;
    while all
        .get(at)
        .is_some_and(|word| word == "--config" || word == "-c" || word == "--data")
    {
        at += 2;
    }
    if all.get(at).is_some_and(|word| word == "sendmail") {
        all.insert(at + 1, "--".into());
    }
    all
}

/// Does what `args` ask for, and returns the exit code.
///
/// # Errors
/// With the reason why it was not done.
pub fn run(args: Args, now: SystemTime, out: &mut dyn Write) -> anyhow::Result<i32> {
    let places = match &args.command {
        // These run for whoever calls, or ask the configuration themselves.
        Command::Init(_)
        | Command::Check
        | Command::Gate(_)
        | Command::Serve
        | Command::Sendmail { .. }
        | Command::QmailQueue
        | Command::Preline(_) => {
            Places::new(args.data.as_deref().unwrap_or(Path::new(config::DATA)))
        }
        _ => Places::new(data(&args)?),
    };
    match args.command {
        Command::Init(init) => init::run(&init, &args.config, places.data(), out)?,
        Command::Check => return check::run(&args.config, out),
        Command::Gate(command) => return gate::run(&command, &args.config, out),
        Command::Serve => serve(&Config::read(&args.config)?)?,
        Command::Domain(command) => domain::run(command, &places, out)?,
        Command::User(command) => user::run(command, &places, out)?,
        Command::Alias(command) => alias::run(command, &places, out)?,
        Command::Queue(command) => queue::run(command, &places, now, out)?,
        Command::Why(question) => why::run(&question, &places, out)?,
        Command::Sendmail { arguments } => {
            let programs = ForPrograms::read(&args.config)?;
            let caller = sendmail::Caller {
                socket: &programs.socket,
                domain: &programs.domain,
                user: &who_calls(),
                now,
            };
            let input = io::stdin().lock();
            return Ok(sendmail::run(&arguments, caller, input, io::stderr()));
        }
        Command::QmailQueue => {
            let ForPrograms { socket, domain } = ForPrograms::read(&args.config)?;
            // Descriptor 1 is read here, not written.
            let envelope = fs::File::from(rustix::io::dup(rustix::stdio::stdout())?);
            let input = io::stdin().lock();
            let code = qmail_queue::run(&socket, &domain, input, envelope, io::stderr());
            return Ok(code);
        }
        Command::Preline(preline) => {
            let variable = |name: &str| env::var(name).ok();
            return Ok(preline::run(
                &preline,
                variable,
                io::stdin().lock(),
                io::stderr(),
            ));
        }
    }
    Ok(0)
}

/// The name of the user who calls.
fn who_calls() -> String {
    let user = nix::unistd::User::from_uid(Uid::current()).ok().flatten();
    let named = ["LOGNAME", "USER"]
        .iter()
        .find_map(|name| env::var(name).ok());
    let name = user.map(|user| user.name).or(named);
    name.unwrap_or_else(|| "postmaster".into())
}

/// The host's folder. Root works on it with the rights of its owner, so that
/// the server can use what was made.
fn data(args: &Args) -> anyhow::Result<PathBuf> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None if args.config.exists() || args.config != Path::new(config::PATH) => {
            Config::read(&args.config)?.data
        }
        None => config::DATA.into(),
    };
    if let Ok(found) = fs::metadata(&data)
        && Uid::effective().is_root()
        && found.uid() != 0
    {
        become_owner(Uid::from_raw(found.uid()), Gid::from_raw(found.gid()))
            .with_context(|| format!("cannot become the owner of {}", data.display()))?;
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_fit_together_and_preline_is_found_by_its_name() {
        Args::command().debug_assert();
        let given = ["/usr/lib/postern/preline", "-d", "cat"].map(OsString::from);
        let args = Args::parse_from(arguments(given.into_iter()));
        assert!(matches!(args.command, Command::Preline(_)));
        let given = ["sendmail", "-oi", "--", "-bob"].map(OsString::from);
        let args = Args::parse_from(arguments(given.into_iter()));
        let Command::Sendmail { arguments: given } = args.command else {
            panic!("{:?}", args.command);
        };
        assert_eq!(given, ["-oi", "--", "-bob"]);
        let given = ["postern", "-c", "x", "sendmail", "--", "-t"].map(OsString::from);
        let args = Args::parse_from(arguments(given.into_iter()));
        assert!(
            matches!(args.command, Command::Sendmail { arguments } if arguments == ["--", "-t"])
        );
        let given = ["postern", "user", "list"].map(OsString::from);
        assert_eq!(arguments(given.clone().into_iter()), given);
    }
}
