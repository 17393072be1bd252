//! `postern` as functions of its arguments.

pub mod accounts;
pub mod alias;
pub mod check;
pub mod checkpassword;
pub mod dkim;
pub mod dns;
pub mod doctor;
pub mod domain;
pub mod gate;
pub mod import;
pub mod init;
pub mod inject;
pub mod model;
mod password;
pub mod preline;
pub mod publish;
pub mod qmail_queue;
pub mod queue;
pub mod replay;
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
#[command(
    name = "postern",
    version,
    after_help = "Exit codes: 0 done, 2 failed; what others mean is said by the commands that have them."
)]
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
    ///
    /// All of it or nothing: when it fails it leaves what was there before,
    /// and what a run leaves that was killed, the next one removes.
    Init(init::Init),
    /// Look whether everything fits
    ///
    /// Exit code 1: something does not.
    Check,
    /// Look whether the host is well, from disk to DNS
    ///
    /// Each finding says how to mend it. Exit codes, as Nagios has them: 0 all is
    /// well, 1 a warning, 2 something is wrong.
    Doctor(doctor::Doctor),
    /// Print what the DNS should say of our domains, and whether it does
    ///
    /// The output is part of a zone. Exit code 1: something is missing or differs.
    Dns(dns::Question),
    /// Receive and deliver mail until told to end
    ///
    /// SIGHUP reads the certificates again, SIGTERM and SIGINT end it when what
    /// was begun is done.
    Serve,
    /// Whose mail is received here
    #[command(subcommand)]
    Domain(domain::Command),
    /// The keys by which mail of our domains is signed
    #[command(subcommand)]
    Dkim(dkim::Command),
    /// Who has a mailbox here
    #[command(subcommand)]
    User(user::Command),
    /// Names that lead to others
    #[command(subcommand)]
    Alias(alias::Command),
    /// What a user has taught the filter
    #[command(subcommand)]
    Model(model::Command),
    /// Write the accounts into the files of qmail, Dovecot, Courier, cmd5checkpw
    ///
    /// [publish] in the configuration says which. Exit code 1: a password is of a
    /// kind that a program cannot check.
    Publish {
        /// Print what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Move in from another host
    #[command(subcommand)]
    Import(import::Command),
    /// What waits to be delivered, or lies in quarantine
    Queue(queue::Request),
    /// Who may bring mail
    #[command(subcommand)]
    Gate(gate::Command),
    /// What would have become of mail that another host has dealt with
    ///
    /// Beside what that host's header fields and folders say: recipients, rules of the
    /// gate, virus scanner and each user's filter. Delivers nothing, learns nothing,
    /// changes nothing; the DNS is not asked.
    Replay(replay::Replay),
    /// The story of a message: where it went, and why
    Why(why::Question),
    /// Send mail, as programs call sendmail
    ///
    /// -t takes recipients from To, Cc and Bcc; -f ADDRESS gets reports; -F NAME
    /// stands in a From field that must be made; -i and -oi: a dot alone ends
    /// nothing; -bs speaks SMTP; -bp prints the queue. Exit codes: 0 taken, 100
    /// refused, 111 later.
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
    /// Check a login as checkpassword does, for qmail-smtpd, qmail-popup and others
    ///
    /// Descriptor 3 holds name, password and timestamp, each with a NUL behind it;
    /// or name, digest and challenge of CRAM-MD5, for users who keep their
    /// password. The program is run in the user's folder, with USER, HOME and
    /// SHELL. Exit codes: 1 wrong, 2 misuse, 111 later. Dovecot's auth service must run
    /// as the owner of the host's folder.
    Checkpassword {
        /// A program and its arguments
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "PROGRAM"
        )]
        program: Vec<String>,
    },
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
    // Before anything is opened.
    let request = match &args.command {
        Command::Checkpassword { .. } => match checkpassword::Request::read() {
            Ok(request) => Some(request),
            Err(code) => return Ok(code),
        },
        _ => None,
    };
    let (places, config) = match &args.command {
        // These run for whoever calls, or ask the configuration themselves.
        Command::Init(_)
        | Command::Import(_)
        | Command::Check
        | Command::Doctor(_)
        | Command::Serve
        | Command::Sendmail { .. }
        | Command::QmailQueue
        | Command::Preline(_) => {
            let data = args.data.as_deref().unwrap_or(Path::new(config::DATA));
            (Places::new(data), None)
        }
        _ => {
            let (data, config) = data(&args.config, args.data.as_deref())?;
            (Places::new(data), config)
        }
    };
    match args.command {
        Command::Init(init) => init::run(&init, &args.config, places.data(), out)?,
        Command::Import(command) => {
            return import::run(&command, &args.config, args.data.as_deref(), now, out);
        }
        Command::Check => return check::run(&args.config, now, out),
        Command::Doctor(doctor) => return doctor::run(&doctor, &args.config, now, out),
        Command::Dns(question) => {
            let config =
                config.context("the host's name stands in the configuration: no --data")?;
            return dns::run(&question, &config, out);
        }
        Command::Gate(command) => {
            let config = config.context("[gate] stands in the configuration: no --data")?;
            return gate::run(&command, &config, out);
        }
        Command::Serve => serve(&Config::read(&args.config)?)?,
        Command::Domain(command) => {
            let config = config.as_ref().filter(|_| command.changes());
            publish::changing(config, None, || domain::run(command, &places, now, out))?;
        }
        Command::Dkim(command) => {
            let servers = config.and_then(|config| config.remote.dns);
            dkim::run(&command, &places, servers.as_deref(), now, out)?;
        }
        Command::User(command) => {
            let config = config.as_ref().filter(|_| command.changes());
            let about = command.about();
            publish::changing(config, about, || user::run(command, &places, out))?;
        }
        Command::Alias(command) => {
            let config = config.as_ref().filter(|_| command.changes());
            publish::changing(config, None, || alias::run(command, &places, out))?;
        }
        Command::Model(command) => model::run(&command, &places, out)?,
        Command::Publish { dry_run } => {
            let config = config.context("[publish] stands in the configuration: no --data")?;
            return publish::run(&config, dry_run, out);
        }
        Command::Queue(request) => queue::run(request, &places, now, out)?,
        Command::Replay(replay) => {
            let config =
                config.context("what is to be tried stands in the configuration: no --data")?;
            replay::run(&replay, &config, out)?;
        }
        Command::Why(question) => why::run(&question, &places, out)?,
        // Some look with this whether mail waits.
        Command::Sendmail { arguments } if arguments.iter().any(|word| word == "-bp") => {
            let (data, _) = data(&args.config, args.data.as_deref())?;
            queue::run(queue::Request::list(), &Places::new(data), now, out)?;
        }
        Command::Sendmail { arguments } => {
            let programs = match ForPrograms::read(&args.config) {
                Ok(programs) => programs,
                Err(error) => return Ok(later("sendmail", &error, sendmail::SOFT)),
            };
            let caller = sendmail::Caller {
                socket: &programs.socket,
                domain: &programs.domain,
                user: &who_calls(),
                now,
            };
            let input = io::stdin().lock();
            return Ok(sendmail::run(&arguments, caller, input, io::stderr()));
        }
        Command::Checkpassword { program } => {
            let Some(request) = request else {
                anyhow::bail!("descriptor 3 was not read");
            };
            return Ok(checkpassword::run(&request, places.data(), &program));
        }
        Command::QmailQueue => {
            let ForPrograms { socket, domain } = match ForPrograms::read(&args.config) {
                Ok(programs) => programs,
                Err(error) => return Ok(later("qmail-queue", &error, qmail_queue::NO_CONFIG)),
            };
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

/// For programs that must not lose mail because of a file of ours: the reason,
/// and the code by which they try again.
fn later(name: &str, error: &crate::Error, code: i32) -> i32 {
    let _ = writeln!(io::stderr(), "{name}: {error}");
    code
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

/// The host's folder, and its configuration unless `--data` names another. Root works on it with the rights of its owner, so that
/// the server can use what was made.
fn data(path: &Path, named: Option<&Path>) -> anyhow::Result<(PathBuf, Option<Config>)> {
    let config = match named {
        None if path.exists() || path != Path::new(config::PATH) => Some(Config::read(path)?),
        _ => None,
    };
    let configured = config.as_ref().map(|config| config.data.as_path());
    let data = named.or(configured).unwrap_or(Path::new(config::DATA));
    let data = data.to_owned();
    if data.exists() {
        become_owner_of(&data)?;
    }
    Ok((data, config))
}

/// Root goes on with the rights of whoever keeps the mail.
fn become_owner_of(data: &Path) -> anyhow::Result<()> {
    let found = fs::metadata(data).with_context(|| format!("cannot use {}", data.display()))?;
    if Uid::effective().is_root() && found.uid() != 0 {
        become_owner(Uid::from_raw(found.uid()), Gid::from_raw(found.gid()))
            .with_context(|| format!("cannot become the owner of {}", data.display()))?;
    }
    Ok(())
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
