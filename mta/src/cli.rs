//! `postern` as functions of its arguments.

pub mod accounts;
pub mod alias;
pub mod domain;
pub mod preline;
pub mod queue;
pub mod user;
pub mod why;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Parser, Subcommand};

use self::accounts::Places;

/// A lean mail host with a filter that learns
#[derive(Debug, Parser)]
#[command(name = "postern", version)]
pub struct Args {
    /// The folder with accounts, mail and queue
    #[arg(long, global = true, value_name = "FOLDER", default_value = DATA)]
    data: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const DATA: &str = "/var/lib/postern";

#[derive(Debug, Subcommand)]
enum Command {
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
    /// The story of a message: where it went, and why
    Why(why::Question),
    /// For .qmail files: give a program the message as mailboxes have it
    Preline(preline::Preline),
}

/// The arguments of a process; one that is called `preline` by a link is
/// `postern preline`.
pub fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = given.collect();
    let name = all.first().and_then(|name| Path::new(name).file_name());
    if name.is_some_and(|name| name == "preline") {
        all.insert(1, "preline".into());
    }
    all
}

/// Does what `args` ask for, and returns the exit code.
///
/// # Errors
/// With the reason why it was not done.
pub fn run(args: Args, now: SystemTime, out: &mut dyn Write) -> anyhow::Result<i32> {
    let places = Places::new(args.data);
    match args.command {
        Command::Domain(command) => domain::run(command, &places, out)?,
        Command::User(command) => user::run(command, &places, out)?,
        Command::Alias(command) => alias::run(command, &places, out)?,
        Command::Queue(command) => queue::run(command, &places, now, out)?,
        Command::Why(question) => why::run(&question, &places, out)?,
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
        let given = ["postern", "user", "list"].map(OsString::from);
        assert_eq!(arguments(given.clone().into_iter()), given);
    }
}
