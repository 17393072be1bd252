//! `bmf`: scores mail, learns from it, marks it.

use std::io::Write;
use std::process::ExitCode;

use classifier::cli::{self, Exit, Request};

fn main() -> ExitCode {
    let home = std::env::var_os("HOME").map(Into::into);
    match cli::parse(std::env::args_os(), home) {
        Request::Run(config) => cli::run(&config, &mut note).into(),
        Request::Print {
            text,
            complaint,
            code,
        } => {
            let _ = std::io::stderr().write_all(complaint.as_bytes());
            match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::from(code),
                Err(_) => Exit::Failed.into(),
            }
        }
    }
}

/// A closed standard error is no reason to drop a message.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "bmf: {line}");
}
