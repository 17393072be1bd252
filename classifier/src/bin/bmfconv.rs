//! `bmfconv`: copies a database of `bmf` to or from text lists.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use classifier::cli::{bmfconv::run, share_heap};

fn main() -> ExitCode {
    share_heap();
    let home = env::var_os("HOME").map(Into::into);
    let outcome = run(env::args_os(), home, Path::new("."));
    let _ = std::io::stderr().write_all(outcome.stderr.as_bytes());
    match std::io::stdout().write_all(outcome.stdout.as_bytes()) {
        Ok(()) => ExitCode::from(outcome.code),
        Err(_) => ExitCode::from(1),
    }
}
