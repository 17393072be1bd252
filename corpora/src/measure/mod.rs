//! The measures of the TREC spam track, each with a 95 % interval.
//!
//! Source: Cormack and Lynam, TREC 2005 Spam Track Overview. `hm%` is the
//! share of ham that was called spam, `sm%` the share of spam that was not
//! (unsure counts as ham: it is not put away). All figures are per cent.
//!
//! Intervals: hm and sm by Wilson (1927), lam by the delta method on the
//! log-odds, the others by bootstrap over messages, ham and spam apart.

mod curve;
mod roc;

use classifier::Label;
use serde::Serializer;

pub use curve::{CurvePoint, learning_curve};
pub use roc::{Bootstrap, PairedDifference, Sample, one_minus_roca, paired_difference, roc_points};

use crate::filter::Verdict;
use crate::protocol::Record;

/// A figure with where it may lie, 95 times in a hundred. NaN, in JSON null,
/// is what cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Interval {
    /// As measured.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The mean, and where it may lie, by the spread of `values`; one alone has
/// none.
pub(crate) fn mean(values: &[f64]) -> Interval {
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n - 1.0);
    let reach = Z * (variance / n).sqrt();
    Interval {
        value,
        low: value - reach,
        high: value + reach,
    }
}

/// hm at which sm is reported, per cent.
pub const HM_POINTS: [f64; 3] = [0.01, 0.1, 1.0];

/// How well one filter did, over one run or as the mean of several runs on
/// the same messages.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measures {
    /// Ham in a run.
    pub n_ham: usize,
    /// Spam in a run.
    pub n_spam: usize,
    /// Ham called spam, mean over the runs.
    pub ham_lost: f64,
    /// Spam not called spam, mean over the runs.
    pub spam_missed: f64,
    /// Of these, said to be unsure.
    pub spam_unsure: f64,
    /// Ham said to be unsure.
    pub ham_unsure: f64,
    /// Ham misclassified; `None` without ham.
    pub hm: Option<Interval>,
    /// Spam misclassified; `None` without spam.
    pub sm: Option<Interval>,
    /// Logistic average of the two; see `lam`. `None` where a class is missing.
    pub lam: Option<Interval>,
    /// 1 minus the area under the ROC curve, ties counted half. `None`
    /// where a class is missing.
    pub one_minus_roca: Option<Interval>,
    /// sm where hm is at most each of [`HM_POINTS`]; `None` where there is
    /// too little ham to tell (less than 1/hm).
    #[serde(serialize_with = "by_hm")]
    pub sm_at_hm: [Option<Interval>; 3],
}

/// As an object, the hm of each as its key.
fn by_hm<S: Serializer>(all: &[Option<Interval>; 3], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(HM_POINTS.map(|hm| hm.to_string()).iter().zip(all))
}

impl Measures {
    /// hm %, where a missing class is no matter.
    pub(crate) fn ham_lost_percent(&self) -> f64 {
        self.hm.map_or(0.0, |hm| hm.value)
    }

    /// sm %, where a missing class is no matter.
    pub(crate) fn spam_missed_percent(&self) -> f64 {
        self.sm.map_or(0.0, |sm| sm.value)
    }
}

/// Number of resamples of a bootstrap.
pub const RESAMPLES: usize = 1000;

/// Measures the mean over `runs`, which must be over the same messages, named
/// by the number in each record. The same seed gives the same intervals.
///
/// # Panics
/// When there is no run.
pub fn measure(runs: &[&[Record]], seed: u64) -> Measures {
    assert!(!runs.is_empty(), "no run to measure");
    let n_runs = runs.len() as f64;
    let count = |wanted: &dyn Fn(&Record) -> bool| {
        runs.iter()
            .flat_map(|run| run.iter())
            .filter(|r| wanted(r))
            .count() as f64
            / n_runs
    };
    let is = |label, verdict| move |r: &Record| r.label == label && r.answer.verdict == verdict;
    let n_ham = count(&|r| r.label == Label::Ham);
    let n_spam = count(&|r| r.label == Label::Spam);
    let ham_lost = count(&is(Label::Ham, Verdict::Spam));
    let spam_missed = n_spam - count(&is(Label::Spam, Verdict::Spam));
    let samples: Vec<Sample> = runs.iter().map(|run| Sample::new(run)).collect();
    let bootstrap = Bootstrap::new(runs[0], seed);
    let (one_minus_roca, sm_at_hm) = bootstrap.intervals(&samples);
    Measures {
        n_ham: n_ham as usize,
        n_spam: n_spam as usize,
        ham_lost,
        spam_missed,
        spam_unsure: count(&is(Label::Spam, Verdict::Unsure)),
        ham_unsure: count(&is(Label::Ham, Verdict::Unsure)),
        hm: wilson(ham_lost, n_ham),
        sm: wilson(spam_missed, n_spam),
        lam: (n_ham > 0.0 && n_spam > 0.0).then(|| lam(ham_lost, n_ham, spam_missed, n_spam)),
        one_minus_roca,
        sm_at_hm,
    }
}

/// 97.5 % quantile of the normal distribution.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// Share of `errors` in `n`, per cent, with the score interval of Wilson
/// (1927), which also holds where there was no error. `None` when empty.
fn wilson(errors: f64, n: f64) -> Option<Interval> {
    if n == 0.0 {
        return None;
    }
    let p = errors / n;
    let middle = p + Z * Z / (2.0 * n);
    let reach = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some(Interval {
        value: 100.0 * p,
        low: (100.0 * (middle - reach) / scale).max(0.0),
        high: (100.0 * (middle + reach) / scale).min(100.0),
    })
}

/// Logistic average misclassification, per cent: the mean of the log-odds of
/// hm and sm, as a share again. Smoothing, so that no error is not minus
/// infinity: `(errors + 0.5) / (n + 1)`.
fn lam(ham_lost: f64, n_ham: f64, spam_missed: f64, n_spam: f64) -> Interval {
    let log_odds = |errors: f64, n: f64| ((errors + 0.5) / (n - errors + 0.5)).ln();
    let variance = |errors: f64, n: f64| 1.0 / (errors + 0.5) + 1.0 / (n - errors + 0.5);
    let middle = (log_odds(ham_lost, n_ham) + log_odds(spam_missed, n_spam)) / 2.0;
    let reach = Z * (variance(ham_lost, n_ham) + variance(spam_missed, n_spam)).sqrt() / 2.0;
    let share = |log_odds: f64| 100.0 / (1.0 + (-log_odds).exp());
    Interval {
        value: share(middle),
        low: share(middle - reach),
        high: share(middle + reach),
    }
}

#[cfg(test)]
mod tests;
