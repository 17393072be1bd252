//! `bmfeval`: measures spam filters over mail collections.

use std::process::ExitCode;

use clap::Parser;

mod generate;
mod run;

/// Measures spam filters over labelled mail collections, in the way of the
/// TREC spam track.
#[derive(Parser)]
#[command(name = "bmfeval", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Generate(generate::Arguments),
    Run(Box<run::Arguments>),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stderr)] // The one place where this program complains.
fn complain(error: &anyhow::Error) {
    eprintln!("bmfeval: {error:#}");
}
