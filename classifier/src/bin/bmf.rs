//! `bmf`: scores mail, learns from it, marks it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use classifier::cli::{self, Exit, Mode, Request};

fn main() -> ExitCode {
    cli::outlive_file_limits();
    let home: Option<PathBuf> = std::env::var_os("HOME").map(Into::into);
    match cli::parse(std::env::args_os(), home.clone()) {
        Request::Run(mut config) => {
            if config.mode != Mode::Test {
                cli::share_heap();
            }
            config.ask_daemon(std::env::var_os("BMF_SOCKET"), home.as_deref());
            let base = || std::env::var_os("BMF_BASE").filter(|base| !base.is_empty());
            config.base = config.base.or_else(|| base().map(Into::into));
            cli::run(&config, &mut note).into()
        }
        Request::Print(outcome) => {
            let _ = std::io::stderr().write_all(outcome.stderr.as_bytes());
            match std::io::stdout().write_all(outcome.stdout.as_bytes()) {
                Ok(()) => ExitCode::from(outcome.code),
                Err(_) => Exit::Failed.into(),
            }
        }
    }
}

/// A closed standard error is no reason to drop a message.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "bmf: {line}");
}
