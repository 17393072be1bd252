//! `bmfeval generate`.

use std::path::PathBuf;

use crate::generate::{Code, Generator, Options, write_collection};

use super::run::progress_bar;

/// Write a synthetic collection: DIR/index and DIR/data/*.eml.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many messages.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Only mail of this language, by its two letters.
    #[arg(long, value_name = "CODE", value_parser = language)]
    language: Option<Code>,
    /// After so many messages senders, hosts and campaigns have changed.
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
    changes_after: Option<u64>,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
    /// Where to; must not hold a collection yet.
    dir: PathBuf,
}

fn language(letters: &str) -> Result<Code, String> {
    Code::parse(letters).ok_or_else(|| {
        let all: Vec<_> = Code::all().map(Code::letters).collect();
        format!("there are {}", all.join(", "))
    })
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let generator = Generator::new(&Options {
        seed: arguments.seed,
        n_messages: arguments.messages as usize,
        language: arguments.language,
        changes_after: arguments.changes_after.map(|n| n as usize),
    });
    let bar = progress_bar(arguments.messages, arguments.quiet);
    write_collection(&arguments.dir, bar.wrap_iter(generator))?;
    bar.finish_and_clear();
    Ok(())
}
