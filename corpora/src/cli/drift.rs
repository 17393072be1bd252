//! `bmfeval drift`.

use std::io::{self, Write};

use crate::drift::{self, World};

use super::run::{parse_filters, side_by_side};

/// Measure whether old evidence fades.
///
/// In generated mail of which senders, hosts and campaigns change once, each
/// filter that knows the time before is compared with the same filter that
/// begins at the change. Means over several such worlds.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// As for `run`; may be given several times.
    #[arg(long = "filter", short, value_name = "FILTER", default_values_t = ["modern".to_owned()])]
    filters: Vec<String>,
    /// Messages before the change.
    #[arg(long, value_name = "MESSAGES", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    before: u64,
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
    let n_before = arguments.before as usize;
    let mut tasks = Vec::new();
    for filter in &filters {
        for seed in arguments.seed..arguments.seed.saturating_add(arguments.worlds) {
            for is_experienced in [true, false] {
                tasks.push((World { seed, n_before }, filter, is_experienced));
            }
        }
    }
    let runs = side_by_side(
        tasks,
        arguments.quiet,
        |(world, filter, is_experienced), work| {
            Ok(drift::run(world, filter, is_experienced, work)?)
        },
    )?;
    let mut out = io::stdout().lock();
    if !arguments.json {
        return Ok(write!(out, "{}", drift::table(&runs, n_before))?);
    }
    for (filter, is_experienced, windows) in drift::summary(&runs) {
        let line = serde_json::json!({
            "type": "drift", "version": 1,
            "filter": filter, "is_experienced": is_experienced,
            "n_before": n_before, "n_worlds": arguments.worlds, "windows": windows,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}
