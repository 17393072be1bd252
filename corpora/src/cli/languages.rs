//! `bmfeval languages`.

use std::io::{self, Write};

use crate::generate::Code;
use crate::languages;

use super::run::{parse_filters, side_by_side};

/// Compare filters in each language of the generated mail, from the beginning.
///
/// Each learns 50 ham and 50 spam of the language and judges 1,000 more. Means
/// over several worlds of mail.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// As for `run`; may be given several times.
    #[arg(long = "filter", short, value_name = "FILTER", default_values_t = ["modern".to_owned()])]
    filters: Vec<String>,
    /// How many worlds.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    worlds: u64,
    /// Seed of the mail.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line in place of the table.
    #[arg(long)]
    json: bool,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let filters = parse_filters(&arguments.filters)?;
    let mut tasks = Vec::new();
    for language in Code::all() {
        for filter in &filters {
            for seed in arguments.seed..arguments.seed.saturating_add(arguments.worlds) {
                tasks.push((language, filter, seed));
            }
        }
    }
    let outcomes = side_by_side(tasks, arguments.quiet, |(language, filter, seed), work| {
        Ok(languages::run(language, filter, seed, work)?)
    })?;
    let mut out = io::stdout().lock();
    if !arguments.json {
        return Ok(write!(out, "{}", languages::table(&outcomes))?);
    }
    for figures in languages::summary(&outcomes) {
        let line = serde_json::json!({
            "type": "language", "version": 1,
            "n_worlds": arguments.worlds, "figures": figures,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}
