//! `bmfeval attack`.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::attack::expect::{self, Expected};
use crate::attack::{self, ATTACKS, Attack, Outcome};
use crate::filter::FilterSpec;
use crate::generate::{Generator, Options};
use crate::read::{self, Strip};
use crate::{Collection, Error, report};
use anyhow::{Context, bail};
use rayon::prelude::*;

use super::run::{parse_filters, progress_bar, work_folder};

/// Try filters against hostile mail.
///
/// Each learns two thirds of the mail; the rest is judged as it is and as an
/// attacker would write it who knows the user's mail, and the weights of our
/// own filter.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A collection that holds its labels; without one, 3,000 messages are
    /// generated.
    corpus: Option<PathBuf>,
    /// As for `run`; may be given several times.
    #[arg(long = "filter", short, value_name = "FILTER", default_values_t = ["modern".to_owned()])]
    filters: Vec<String>,
    /// Only this experiment; may be given several times. `list` lists them.
    #[arg(long = "experiment", short, value_name = "NAME")]
    experiments: Vec<String>,
    /// Seed of the split and of what the attacker chooses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write what came out, to be expected from now on.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Exit with 1 when a figure is worse than in this file by more than a
    /// fifth and what a few messages make.
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    expect: Option<PathBuf>,
    /// Print one JSON object a line in place of the table.
    #[arg(long)]
    json: bool,
    /// Where filters keep their databases while they run.
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
}

/// Returns whether all is as expected.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    let Some(attacks) = arguments.attacks()? else {
        for attack in &ATTACKS {
            writeln!(out, "{:<18} {}", attack.name, attack.about)?;
        }
        return Ok(true);
    };
    let filters = parse_filters(&arguments.filters)?;
    if filters.len() > 1 && (arguments.record.is_some() || arguments.expect.is_some()) {
        bail!("expectations are kept of one filter at a time");
    }
    let expected = arguments.expect.as_deref().map(expect::read).transpose()?;
    let outcomes = arguments.outcomes(&attacks, &filters)?;
    if arguments.json {
        for outcome in &outcomes {
            writeln!(out, "{}", json(outcome))?;
        }
    } else {
        write!(out, "{}", attack::table(&outcomes))?;
    }
    if let Some(path) = &arguments.record {
        expect::write(path, &outcomes)?;
    }
    let regressions = expected.map(|expected| expect::regressions(&outcomes, &expected));
    let regressions = regressions.unwrap_or_default();
    for line in &regressions {
        writeln!(out, "worse: {line}")?;
    }
    Ok(regressions.is_empty())
}

impl Arguments {
    /// `None`: they are to be listed.
    fn attacks(&self) -> anyhow::Result<Option<Vec<Attack>>> {
        if self.experiments.iter().any(|name| name == "list") {
            return Ok(None);
        }
        if self.experiments.is_empty() {
            return Ok(Some(ATTACKS.to_vec()));
        }
        let find = |name: &String| {
            let found = ATTACKS.iter().find(|attack| attack.name == name);
            found
                .copied()
                .with_context(|| format!("no experiment {name}; `--experiment list` lists them"))
        };
        Ok(Some(
            self.experiments
                .iter()
                .map(find)
                .collect::<Result<_, _>>()?,
        ))
    }

    fn collection(&self) -> Result<Collection, Error> {
        match &self.corpus {
            Some(path) => read::labelled(path, &mut Strip::default()),
            None => {
                let options = Options {
                    seed: 1,
                    n_messages: 3000,
                    ..Options::default()
                };
                let messages = Generator::new(&options).collect();
                Ok(Collection::new("generated".to_owned(), messages))
            }
        }
    }

    /// Every attack on every filter, side by side.
    fn outcomes(&self, attacks: &[Attack], filters: &[FilterSpec]) -> anyhow::Result<Vec<Outcome>> {
        let collection = self.collection()?;
        let work = work_folder(self.work.as_deref())?;
        let tasks: Vec<_> = attacks
            .iter()
            .flat_map(|attack| filters.iter().map(move |filter| (attack, filter)))
            .collect();
        let bar = progress_bar(tasks.len() as u64, self.quiet);
        let outcomes = tasks
            .into_par_iter()
            .enumerate()
            .map(|(n, (attack, filter))| {
                let work = work.path().join(n.to_string());
                let outcome = attack::run(&collection, filter, attack, self.seed, &work);
                bar.inc(1);
                outcome
            })
            .collect::<Result<_, _>>()?;
        bar.finish_and_clear();
        Ok(outcomes)
    }
}

fn json(outcome: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "type": "attack",
        "version": report::VERSION,
        "experiment": outcome.attack,
        "filter": outcome.filter,
        "before": outcome.before,
        "attacked": outcome.attacked,
        "taught": outcome.taught,
        "expected": Expected::of(outcome),
    })
}
