//! `bmfeval generate`.

use std::path::PathBuf;

use corpora::generate::{Generator, Options, write_collection};

/// Write a synthetic collection: DIR/index and DIR/data/*.eml.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many messages.
    #[arg(long, default_value_t = 1500)]
    messages: usize,
    /// Where to; must not hold a collection yet.
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let generator = Generator::new(&Options {
        seed: arguments.seed,
        n_messages: arguments.messages,
    });
    Ok(write_collection(&arguments.dir, generator)?)
}
