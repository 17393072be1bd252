//! `bmfeval languages`.

use std::fs;
use std::io::{self, Write};

use crate::filter::FilterSpec;
use crate::generate::Code;
use crate::languages;
use anyhow::Context;
use rayon::prelude::*;

use super::run::{progress_bar, work_folder};

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
    let filters: Vec<FilterSpec> = arguments
        .filters
        .iter()
        .map(|name| FilterSpec::parse(name))
        .collect::<Result<_, _>>()?;
    let tasks: Vec<_> = Code::all()
        .flat_map(|language| filters.iter().map(move |filter| (language, filter)))
        .collect();
    let work = work_folder(None)?;
    let bar = progress_bar(tasks.len() as u64, arguments.quiet);
    let outcomes: Vec<_> = tasks
        .into_par_iter()
        .enumerate()
        .map(|(n, (language, filter))| {
            let work = work.path().join(n.to_string());
            fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
            let outcome = languages::run(language, filter, arguments.seed, &work)?;
            bar.inc(1);
            Ok(outcome)
        })
        .collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    write!(io::stdout(), "{}", languages::table(&outcomes))?;
    Ok(())
}
