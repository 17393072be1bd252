//! `bmfd`: looks after the spam folders of a host's users.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use tracing::{Level, error};
use trainer::cli::{Args, Exit, run};

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // It would panic where standard error cannot be written to.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(if args.verbose {
            Level::DEBUG
        } else {
            Level::INFO
        })
        .init();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = run(&args, SystemTime::now(), &mut out).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match done {
        Ok(exit) => ExitCode::from(exit as u8),
        // A reader who has seen enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
