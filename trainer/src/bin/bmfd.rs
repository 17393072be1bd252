//! `bmfd`: looks after the spam folders of a host's users.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use tracing::error;
use trainer::cli::{Args, Exit, is_broken_pipe, run, start_log};

fn main() -> ExitCode {
    let args = Args::parse();
    start_log(args.verbose);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = run(&args, SystemTime::now(), &mut out).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match done {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::from(Exit::Failed as u8)
        }
    }
}
