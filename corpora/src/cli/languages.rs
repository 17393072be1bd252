//! `bmfeval languages`.

use std::io::{self, Write};

use crate::generate::Code;
use crate::languages;

use super::run::{parse_filters, side_by_side};

/// Compare filters in each language of the generated mail, from the beginning.
///
/// Each learns 50 ham and 50 spam of the language and judges 1,000 more.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// As for `run`; may be given several times.
    #[arg(long = "filter", short, value_name = "FILTER", default_values_t = ["modern".to_owned()])]
    filters: Vec<String>,
    /// Seed of the mail.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let filters = parse_filters(&arguments.filters)?;
    let tasks: Vec<_> = Code::all()
        .flat_map(|language| filters.iter().map(move |filter| (language, filter)))
        .collect();
    let outcomes = side_by_side(tasks, arguments.quiet, |(language, filter), work| {
        Ok(languages::run(language, filter, arguments.seed, work)?)
    })?;
    write!(io::stdout(), "{}", languages::table(&outcomes))?;
    Ok(())
}
