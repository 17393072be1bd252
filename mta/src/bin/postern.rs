//! `postern`: the mail host.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use mta::cli::{Args, arguments, run};
use trainer::cli::{is_broken_pipe, start_log};
use trainer::told;

fn main() -> ExitCode {
    let args = Args::parse_from(arguments(env::args_os()));
    start_log(args.verbose);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = run(args, SystemTime::now(), &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match done {
        Ok(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "postern: {}", told(&error));
            ExitCode::from(2)
        }
    }
}
