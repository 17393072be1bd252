//! The program `bmfeval` without its `main`: a file for each subcommand.

use std::process::ExitCode;

use clap::Parser;

mod attack;
mod compare;
mod database;
mod drift;
mod fetch;
mod generate;
mod jig;
mod languages;
mod replay;
mod run;

/// Measures spam filters over labelled mail collections, in the way of the
/// TREC spam track.
#[derive(Parser)]
#[command(name = "bmfeval", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Run(Box<run::Arguments>),
    Attack(attack::Arguments),
    Languages(languages::Arguments),
    Drift(drift::Arguments),
    Compare(compare::Arguments),
    Replay(replay::Arguments),
    Generate(generate::Arguments),
    Fetch(fetch::Arguments),
    Jig(jig::Arguments),
}

/// Does what the arguments of this process ask for. Exit codes: 0 done; 1 a
/// negative answer; 2 failed.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Attack(arguments) => match attack::run(&arguments) {
            // The one negative answer that there is.
            Ok(false) => return ExitCode::FAILURE,
            done => done.map(|_| ()),
        },
        Command::Languages(arguments) => languages::run(&arguments),
        Command::Drift(arguments) => drift::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Fetch(arguments) => fetch::run(&arguments),
        Command::Jig(arguments) => jig::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader who has seen enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stderr)] // The one place where this program complains.
fn complain(error: &anyhow::Error) {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Most errors of ours name their cause themselves.
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    eprintln!("bmfeval: {said}");
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
