//! Whether old evidence fades: a filter that has learned a world which then
//! changed, beside one that only knows the new world.
//!
//! The mail is generated. At the change half of all correspondents are
//! replaced, spam comes from and leads to other hosts, and hosts change sides
//! ([`crate::generate`]): what told ham from spam by its sender misleads. Both
//! filters are told the truth after each message. Where the experienced one
//! does worse than the fresh one, old evidence stands in its way; where it
//! does better, what it still knows helps.

use std::ops::Range;
use std::path::Path;

use classifier::Label;

use crate::Error;
use crate::filter::{Filter, FilterSpec};
use crate::generate::{Generator, Options};
use crate::languages::decided;
use crate::measure::{self, Interval, mean};
use crate::protocol::Record;
use crate::report::{aligned, with_interval};

/// Messages after the change.
pub const N_AFTER: usize = 1000;
/// By their number since the change.
pub const WINDOWS: [Range<usize>; 3] = [0..250, 250..500, 500..N_AFTER];

/// One world that changes.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// The same seed gives the same mail.
    pub seed: u64,
    /// Messages before the change.
    pub n_before: usize,
}

/// What one filter said of the mail after the change, in order of reception.
#[derive(Debug)]
pub struct Run {
    /// The filter's name.
    pub filter: String,
    /// Whether it knew the world before the change.
    pub is_experienced: bool,
    records: Vec<Record>,
    middle: f64,
}

/// Runs `spec` in `world`, with or without what came before the change. Its
/// files go below the empty folder `work`.
///
/// # Errors
/// When the filter cannot be run.
pub fn run(
    world: World,
    spec: &FilterSpec,
    is_experienced: bool,
    work: &Path,
) -> Result<Run, Error> {
    let mail = Generator::new(&Options {
        seed: world.seed,
        n_messages: world.n_before + N_AFTER,
        language: None,
        changes_after: Some(world.n_before),
    });
    let mut filter: Box<dyn Filter> = spec.start(work)?;
    let mut records = Vec::with_capacity(N_AFTER);
    for (n, message) in mail.enumerate() {
        let is_after = n >= world.n_before;
        if is_after {
            records.push(Record {
                message: n,
                label: message.label,
                answer: filter.classify(&message)?,
            });
        }
        if is_after || is_experienced {
            filter.train(message.label, &message)?;
        }
    }
    filter.finalise()?;
    Ok(Run {
        filter: spec.name(),
        is_experienced,
        records,
        middle: spec.middle(),
    })
}

/// How a filter did in one window, as the mean over several worlds, with its
/// interval by their spread.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Figures {
    /// Messages since the change.
    pub window: Range<usize>,
    /// On the wrong side, per cent; unsure decided by the middle of the scale.
    pub errors: Interval,
    /// 1 minus the area under the ROC curve, per cent.
    pub one_minus_roca: Interval,
}

/// The figures of each window of `runs`, which are of the same filter in
/// several worlds.
pub fn figures(runs: &[&Run]) -> Vec<Figures> {
    let figures = |window: Range<usize>| {
        let parts: Vec<&[Record]> = runs
            .iter()
            .map(|run| &run.records[window.clone()])
            .collect();
        let errors = runs.iter().zip(&parts).map(|(run, part)| {
            let is_wrong = |r: &&Record| decided(r.answer, run.middle) != r.label;
            100.0 * part.iter().filter(is_wrong).count() as f64 / part.len() as f64
        });
        // A window without ham or without spam says nothing.
        let has = |part: &[Record], label| part.iter().any(|r| r.label == label);
        let roca = parts
            .iter()
            .filter(|part| has(part, Label::Ham) && has(part, Label::Spam))
            .map(|part| measure::one_minus_roca(part));
        Figures {
            window: window.clone(),
            errors: mean(&errors.collect::<Vec<_>>()),
            one_minus_roca: mean(&roca.collect::<Vec<_>>()),
        }
    };
    WINDOWS.map(figures).into()
}

/// Of several worlds, what is to be shown of each filter with and without
/// experience, in the order of the first run of each.
pub fn summary(runs: &[Run]) -> Vec<(String, bool, Vec<Figures>)> {
    let mut kinds: Vec<(String, bool)> = Vec::new();
    for run in runs {
        let kind = (run.filter.clone(), run.is_experienced);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let of = |(filter, is_experienced): (String, bool)| {
        let same = |run: &&Run| run.filter == filter && run.is_experienced == is_experienced;
        let found: Vec<&Run> = runs.iter().filter(same).collect();
        let figures = figures(&found);
        (filter, is_experienced, figures)
    };
    kinds.into_iter().map(of).collect()
}

/// Lines for a terminal.
pub fn table(runs: &[Run], n_before: usize) -> String {
    let mut head = vec!["filter".to_owned(), "knows".to_owned()];
    for Range { start, end } in WINDOWS {
        head.push(format!("errors % {start}-{end}"));
        head.push("1-ROCA %".to_owned());
    }
    let mut rows = vec![head];
    for (filter, is_experienced, figures) in summary(runs) {
        let knows = match is_experienced {
            true => format!("{n_before} old messages"),
            false => "none".to_owned(),
        };
        let mut row = vec![filter, knows];
        for figures in figures {
            row.push(with_interval(&figures.errors));
            row.push(with_interval(&figures.one_minus_roca));
        }
        rows.push(row);
    }
    format!(
        "by messages since the world changed; told the truth after each; unsure decided by the \
         middle of the scale\n\n{}",
        aligned(&rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(n_before: usize) -> Vec<Run> {
        let work = tempfile::tempdir().unwrap();
        let world = |seed| World { seed, n_before };
        let run = |seed, is_experienced| {
            run(
                world(seed),
                &FilterSpec::Modern,
                is_experienced,
                work.path(),
            )
            .unwrap()
        };
        [1, 2, 3]
            .into_iter()
            .flat_map(|seed| [run(seed, true), run(seed, false)])
            .collect()
    }

    /// What a filter has learned of a world that is gone may cost it at first,
    /// and not for long.
    #[test]
    fn old_evidence_fades() {
        let runs = runs(1000);
        let [(_, true, experienced), (_, false, fresh)] = &summary(&runs)[..] else {
            panic!("two kinds");
        };
        let late = |figures: &[Figures]| figures[2].one_minus_roca.value;
        assert!(late(experienced) < late(fresh), "{}", table(&runs, 1000));
    }

    /// The change is one: what was learned before it helps less than as much
    /// from after it.
    #[test]
    fn the_world_changes() {
        let runs = runs(1000);
        let [(_, true, experienced), ..] = &summary(&runs)[..] else {
            panic!("two kinds");
        };
        let roca = |n: usize| experienced[n].one_minus_roca.value;
        assert!(roca(0) > roca(2), "{}", table(&runs, 1000));
    }
}
