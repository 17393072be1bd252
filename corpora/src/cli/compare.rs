//! `bmfeval compare`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::measure::{self, Measures};
use crate::protocol::Record;
use crate::{report, results};
use anyhow::bail;

/// Compare two runs over the same messages by paired bootstrap.
///
/// A and B are TREC result files, as `bmfeval run --results` and TREC's own
/// kit write them.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The one run.
    a: PathBuf,
    /// The other.
    b: PathBuf,
    /// Seed of the resampling.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut numbers = HashMap::new();
    let a = numbered(&arguments.a, &mut numbers)?;
    let b = numbered(&arguments.b, &mut numbers)?;
    let difference = measure::paired_difference(&[&a], &[&b], arguments.seed);
    let Some(difference) = difference else {
        bail!(
            "the two do not hold the same messages with the same labels, or one class is missing"
        );
    };
    let measures = [&a, &b].map(|records| measure::measure(&[records], arguments.seed));
    let names = [&arguments.a, &arguments.b].map(|path| path.display().to_string());
    let mut out = io::stdout().lock();
    if arguments.json {
        let line = serde_json::json!({
            "type": "comparison",
            "version": report::VERSION,
            "first": {"results": names[0], "measures": measures[0]},
            "second": {"results": names[1], "measures": measures[1]},
            "difference": difference,
        });
        writeln!(out, "{line}")?;
    } else {
        let rows: Vec<(&str, &Measures)> =
            names.iter().map(String::as_str).zip(&measures).collect();
        write!(
            out,
            "{}\n{}",
            report::quality_table(&rows),
            report::comparison(&names[0], &names[1], &difference)
        )?;
    }
    Ok(())
}

/// The records of a file, the same message under the same number in both.
fn numbered(path: &Path, numbers: &mut HashMap<String, usize>) -> anyhow::Result<Vec<Record>> {
    let (ids, mut records) = results::read(path)?;
    for (record, id) in records.iter_mut().zip(ids) {
        let next = numbers.len();
        record.message = *numbers.entry(id).or_insert(next);
    }
    Ok(records)
}
