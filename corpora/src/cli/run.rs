//! `bmfeval run`.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::experiment::{Experiment, Report};
use crate::filter::FilterSpec;
use crate::leftovers::WorkFolder;
use crate::protocol::{Feedback, OwnVerdicts, Protocol};
use crate::read::{self, FieldPattern, Strip};
use crate::{Collection, Message, Role, report};
use anyhow::{Context, bail};
use classifier::Label;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;

/// Run filters over collections and measure them.
///
/// A CORPUS is a TREC index (or a folder or archive that holds one), or a
/// folder or archive with folders named ham and spam. Several that hold the
/// same messages in another order are reported as one, with the mean.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Collections that hold their labels.
    corpus: Vec<PathBuf>,
    /// Ham: folder, Maildir, mbox or archive.
    #[arg(long, requires = "spam", value_name = "PATH")]
    ham: Option<PathBuf>,
    /// Spam: folder, Maildir, mbox or archive.
    #[arg(long, requires = "ham", value_name = "PATH")]
    spam: Option<PathBuf>,
    /// modern, modern-ledger, classic, bmf, bogofilter, rspamd, spamassassin,
    /// spamprobe, FILE.toml or jig:FOLDER; may be given several times. The
    /// first one is compared with the others.
    #[arg(long = "filter", short, value_name = "FILTER", default_values_t = ["classic".to_owned()])]
    filters: Vec<String>,
    /// Leave filters out that are not installed, and say so.
    #[arg(long)]
    skip_missing: bool,
    /// When the filter is told the truth: immediate, first:N (then never
    /// again), partial:PERCENT, active:BUDGET, folds:K, or own:PERCENT (it
    /// learns its own verdicts, and PERCENT of its mistakes are put right).
    #[arg(long, default_value = "immediate", value_parser = feedback)]
    feedback: Feedback,
    /// With own:PERCENT, what it learns of its own verdicts: full, sure (only
    /// what it does not call unsure), none, or the share of a person's word.
    /// [default: sure]
    #[arg(long, value_name = "RULE", value_parser = own_verdicts)]
    own_verdicts: Option<OwnVerdicts>,
    /// Of a hundred labels, how many are told wrongly.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = percent)]
    wrong: f64,
    /// A wrong label is put right after so many messages.
    #[arg(long, value_name = "MESSAGES", requires = "wrong")]
    corrected_after: Option<usize>,
    /// Reorder each collection so many times; 0 keeps the order of reception.
    #[arg(long, default_value_t = 0, value_name = "N")]
    shuffles: u64,
    /// Seed of orders, noise and resampling.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take this header field out of each message; `*` stands for anything.
    #[arg(long, value_name = "NAME", value_parser = FieldPattern::parse)]
    strip_header: Vec<FieldPattern>,
    /// Take the From line of an mbox out of each message.
    #[arg(long)]
    strip_mbox_from: bool,
    /// Print one JSON object a line in place of the table.
    #[arg(long)]
    json: bool,
    /// Write a page with curves and the worst mistakes.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a TREC result file for each run as soon as it ends, for
    /// `bmfeval compare`.
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Where filters keep their databases while they run; in memory
    /// (/dev/shm) where there is such a folder.
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// Runs at the same time; 1 for times that mean something.
    #[arg(long, short, value_name = "N", default_value_t = 0)]
    jobs: usize,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
}

fn feedback(text: &str) -> Result<Feedback, String> {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    let count = || {
        value
            .parse::<usize>()
            .map_err(|e| format!("{value:?}: {e}"))
    };
    Ok(match kind {
        "immediate" if value.is_empty() => Feedback::Immediate,
        "first" => Feedback::First(count()?),
        "partial" => Feedback::Partial(percent(value)?),
        "own" => Feedback::OwnVerdicts(percent(value)?),
        "active" => Feedback::Active(count()?),
        "folds" => match count()? {
            0 | 1 => return Err("at least two folds".to_owned()),
            n => Feedback::Folds(n),
        },
        _ => {
            let all = "immediate, first:N, partial:PERCENT, active:BUDGET, folds:K or own:PERCENT";
            return Err(all.to_owned());
        }
    })
}

fn own_verdicts(text: &str) -> Result<OwnVerdicts, String> {
    Ok(match text {
        "full" => OwnVerdicts::Full,
        "sure" => OwnVerdicts::Sure,
        "none" => OwnVerdicts::None,
        share => match share.parse() {
            Ok(share) if share > 0.0 && share <= 1.0 => OwnVerdicts::Weighted(share),
            _ => return Err("full, sure, none or a share such as 0.3".to_owned()),
        },
    })
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("{text:?} is no percentage")),
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.check()?;
    let collections = arguments.collections()?;
    let filters = arguments.filter_specs()?;
    let shuffles: Vec<Option<u64>> = match arguments.shuffles {
        0 => vec![None],
        n => (1..=n).map(Some).collect(),
    };
    let experiment = Experiment {
        collections: &collections,
        filters: &filters,
        shuffles: &shuffles,
        protocol: Protocol {
            seed: arguments.seed,
            shuffle: None,
            feedback: arguments.feedback,
            wrong_percent: arguments.wrong,
            corrected_after: arguments.corrected_after,
            own_verdicts: arguments.own_verdicts.unwrap_or_default(),
        },
        results: arguments.results.clone(),
    };
    let work = work_folder(arguments.work.as_deref())?;
    let bar = progress_bar(experiment.n_steps(), arguments.quiet);
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.jobs)
        .build_global()
        .context("cannot start threads")?;
    let reports = experiment.run(work.path(), &|| bar.inc(1))?;
    bar.finish_and_clear();
    arguments.write(&reports)
}

impl Arguments {
    /// What would otherwise fail after hours, or do nothing.
    fn check(&self) -> anyhow::Result<()> {
        if self.own_verdicts.is_some() && !matches!(self.feedback, Feedback::OwnVerdicts(_)) {
            bail!("--own-verdicts needs --feedback own:PERCENT");
        }
        if let Some(page) = &self.html {
            let opened = fs::OpenOptions::new().append(true).create(true).open(page);
            opened.with_context(|| format!("cannot write {}", page.display()))?;
        }
        if let Some(folder) = &self.results {
            fs::create_dir_all(folder)
                .and_then(|()| tempfile::tempfile_in(folder))
                .with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        Ok(())
    }

    fn collections(&self) -> anyhow::Result<Vec<Collection>> {
        let mut collections: Vec<Collection> = Vec::new();
        let mut add = |read: &dyn Fn(&mut Strip) -> Result<Collection, crate::Error>| {
            let mut strip = Strip {
                headers: self.strip_header.clone(),
                mbox_from: self.strip_mbox_from,
            };
            let collection = read(&mut strip)?;
            warn_of(&collection, &strip);
            if let Some(same) = collections.iter().find(|other| is_same(other, &collection)) {
                bail!("{} and {} are the same", same.name, collection.name);
            }
            collections.push(collection);
            Ok(())
        };
        for path in &self.corpus {
            add(&|strip| read::labelled(path, strip))?;
        }
        if let (Some(ham), Some(spam)) = (&self.ham, &self.spam) {
            add(&|strip| read::pair(ham, spam, strip))?;
        }
        if collections.is_empty() {
            bail!("no collection given: name a TREC index or a folder, or --ham and --spam");
        }
        Ok(collections)
    }

    #[allow(clippy::print_stderr)] // A filter left out must be seen.
    fn filter_specs(&self) -> anyhow::Result<Vec<FilterSpec>> {
        let mut filters = Vec::new();
        for name in &self.filters {
            match FilterSpec::parse(name) {
                Ok(filter) => filters.push(filter),
                Err(error @ crate::Error::NotInstalled { .. }) if self.skip_missing => {
                    eprintln!("bmfeval: left out: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if filters.is_empty() {
            bail!("no filter left to run");
        }
        demand_own_names(&filters)?;
        Ok(filters)
    }

    fn write(&self, reports: &[Report]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        for report in reports {
            if self.json {
                for line in report::json_lines(report) {
                    writeln!(out, "{line}")?;
                }
            } else {
                writeln!(out, "{}", report::table(report))?;
            }
        }
        if let Some(path) = &self.html {
            let command = ["bmfeval".to_owned()]
                .into_iter()
                .chain(std::env::args().skip(1));
            let command: Vec<String> = command.collect();
            let page = report::html(reports, &command.join(" "));
            fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The same messages in the same order under the same names.
fn is_same(a: &Collection, b: &Collection) -> bool {
    let ids = |collection: &'_ Collection| -> Vec<String> {
        collection.messages.iter().map(|m| m.id.clone()).collect()
    };
    a.checksum == b.checksum && ids(a) == ids(b)
}

/// Says what is odd about a collection, and can still be measured.
#[allow(clippy::print_stderr)] // The figures alone would hide it.
fn warn_of(collection: &Collection, strip: &Strip) {
    let name = &collection.name;
    for pattern in strip.unmatched() {
        eprintln!("bmfeval: no message of {name} has a header field {pattern}");
    }
    for label in [Label::Ham, Label::Spam] {
        let is_asked = |m: &&Message| m.label == label && m.role != Role::TrainOnly;
        if !collection.messages.iter().any(|m| is_asked(&m)) {
            eprintln!("bmfeval: {name} holds no {} to classify", label.name());
        }
    }
}

/// A folder for what filters keep: below `wanted`, else in memory if that is
/// possible.
pub(super) fn work_folder(wanted: Option<&Path>) -> anyhow::Result<WorkFolder> {
    let memory = Path::new("/dev/shm");
    let folder = match wanted {
        Some(folder) => WorkFolder::new(folder),
        None if memory.is_dir() => WorkFolder::new(memory),
        None => WorkFolder::new(&std::env::temp_dir()),
    };
    folder.context("cannot make a folder for the filters' files; name one with --work")
}

/// Parses the names of filters.
///
/// # Errors
/// At the first one that is none, or is not installed, or is called like
/// another.
pub(super) fn parse_filters(names: &[String]) -> anyhow::Result<Vec<FilterSpec>> {
    let parsed = names.iter().map(|name| FilterSpec::parse(name));
    let filters: Vec<_> = parsed.collect::<Result<_, _>>()?;
    demand_own_names(&filters)?;
    Ok(filters)
}

/// Tables and result files know filters by their names alone.
fn demand_own_names(filters: &[FilterSpec]) -> anyhow::Result<()> {
    for (n, filter) in filters.iter().enumerate() {
        if let Some(other) = filters[..n].iter().find(|f| f.name() == filter.name()) {
            let name = filter.name();
            let (first, second) = (other.source(), filter.source());
            bail!("{first} and {second} are both called {name}");
        }
    }
    Ok(())
}

/// Carries out tasks side by side, each in a folder of its own, and shows a
/// progress bar. The outcomes come in the order of the tasks.
pub(super) fn side_by_side<T: Send, O: Send>(
    tasks: Vec<T>,
    quiet: bool,
    run: impl Fn(T, &Path) -> anyhow::Result<O> + Sync,
) -> anyhow::Result<Vec<O>> {
    let work = work_folder(None)?;
    let bar = progress_bar(tasks.len() as u64, quiet);
    let outcomes = tasks.into_par_iter().enumerate().map(|(n, task)| {
        let work = work.path().join(n.to_string());
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let outcome = run(task, &work)?;
        bar.inc(1);
        Ok(outcome)
    });
    let outcomes = outcomes.collect();
    bar.finish_and_clear();
    outcomes
}

/// On a terminal only.
pub(super) fn progress_bar(n_steps: u64, quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(n_steps), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left");
    ProgressBar::new(n_steps).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
