//! `bmfd`: looks after the spam folders of a host's users.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use trainer::cli::{Args, Exit, is_broken_pipe, run, start_log};
use trainer::told;

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
            // One that cannot be written to is nothing to end worse for.
            let _ = writeln!(io::stderr(), "bmfd: {}", told(&error));
            ExitCode::from(Exit::Failed as u8)
        }
    }
}
