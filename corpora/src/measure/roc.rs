//! The ROC curve: what thresholds on the score would have done.

use std::cmp::Ordering;
use std::collections::HashMap;

use classifier::Label;

use super::{HM_POINTS, Interval, RESAMPLES};
use crate::Random;
use crate::protocol::Record;

/// The answers of a run by falling score, ties together.
pub struct Sample {
    /// Number of the message, whether it is spam, whether the next one has
    /// the same score.
    sorted: Vec<(usize, bool, bool)>,
}

impl Sample {
    /// Sorts the answers of a run.
    pub fn new(run: &[Record]) -> Self {
        let mut records: Vec<&Record> = run.iter().collect();
        // The message breaks ties, which makes the order, and so each sum,
        // the same every time.
        records.sort_by(|a, b| {
            let by_score = b.answer.score.total_cmp(&a.answer.score);
            by_score.then(a.message.cmp(&b.message))
        });
        let same = |a: &Record, b: &Record| {
            a.answer.score.partial_cmp(&b.answer.score) == Some(Ordering::Equal)
        };
        let sorted = records
            .iter()
            .enumerate()
            .map(|(i, r)| {
                let tied = records.get(i + 1).is_some_and(|next| same(r, next));
                (r.message, r.label == Label::Spam, tied)
            })
            .collect();
        Self { sorted }
    }

    /// Walks from the highest score down, one step for each distinct score,
    /// with each message counted as often as `weight` says.
    fn walk(&self, weight: impl Fn(usize) -> u64, mut step: impl FnMut(Step)) {
        let (mut ham, mut spam) = (0, 0);
        for &(message, is_spam, tied) in &self.sorted {
            let n = weight(message);
            if is_spam {
                spam += n;
            } else {
                ham += n;
            }
            if !tied {
                step(Step { ham, spam });
                (ham, spam) = (0, 0);
            }
        }
    }

    fn figures(&self, weight: impl Fn(usize) -> u64 + Copy) -> Figures {
        let (mut n_ham, mut n_spam) = (0u64, 0u64);
        self.walk(weight, |step| {
            n_ham += step.ham;
            n_spam += step.spam;
        });
        let allowed = HM_POINTS.map(|hm| (n_ham as f64 * hm / 100.0 + 1e-9) as u64);
        let mut missed_at = [None; 3];
        // Twice the number of pairs in which ham lies above spam.
        let mut twice_disordered = 0u128;
        let (mut ham_above, mut spam_above) = (0u64, 0u64);
        self.walk(weight, |step| {
            twice_disordered += u128::from(step.spam) * u128::from(2 * ham_above + step.ham);
            for (allowed, missed) in allowed.iter().zip(&mut missed_at) {
                if ham_above + step.ham > *allowed {
                    missed.get_or_insert(n_spam - spam_above);
                }
            }
            ham_above += step.ham;
            spam_above += step.spam;
        });
        let pairs = 2.0 * n_ham as f64 * n_spam as f64;
        let share = |missed: Option<u64>| 100.0 * missed.unwrap_or(0) as f64 / n_spam.max(1) as f64;
        Figures {
            one_minus_roca: 100.0 * twice_disordered as f64 / pairs.max(1.0),
            sm_at_hm: missed_at.map(share),
        }
    }
}

/// 1 minus the area under the ROC curve of one run, per cent; 0 where a class is
/// missing.
pub fn one_minus_roca(run: &[Record]) -> f64 {
    Sample::new(run).figures(|_| 1).one_minus_roca
}

/// Ham and spam that share a score.
struct Step {
    ham: u64,
    spam: u64,
}

#[derive(Clone, Copy, Default)]
struct Figures {
    one_minus_roca: f64,
    sm_at_hm: [f64; 3],
}

impl Figures {
    /// The mean over several runs.
    fn mean(samples: &[Sample], weight: impl Fn(usize) -> u64 + Copy) -> Self {
        let mut mean = Self::default();
        for sample in samples {
            let figures = sample.figures(weight);
            mean.one_minus_roca += figures.one_minus_roca / samples.len() as f64;
            for (sum, figure) in mean.sm_at_hm.iter_mut().zip(figures.sm_at_hm) {
                *sum += figure / samples.len() as f64;
            }
        }
        mean
    }
}

/// Draws messages with replacement, ham and spam apart, so that each resample
/// has as many of both as the collection.
pub struct Bootstrap {
    ham: Vec<usize>,
    spam: Vec<usize>,
    seed: u64,
}

impl Bootstrap {
    /// For the messages of `run` and of runs over the same messages.
    pub fn new(run: &[Record], seed: u64) -> Self {
        let of = |label| {
            let mut of: Vec<usize> = run
                .iter()
                .filter(|r| r.label == label)
                .map(|r| r.message)
                .collect();
            // Whatever the order of the run: all runs draw alike.
            of.sort_unstable();
            of
        };
        Self {
            ham: of(Label::Ham),
            spam: of(Label::Spam),
            seed,
        }
    }

    /// 1-ROCA and sm at each hm, of the mean over `samples`.
    pub(super) fn intervals(
        &self,
        samples: &[Sample],
    ) -> (Option<Interval>, [Option<Interval>; 3]) {
        if self.ham.is_empty() || self.spam.is_empty() {
            return (None, [None; 3]);
        }
        let measured = Figures::mean(samples, |_| 1);
        let resampled: Vec<Figures> =
            self.resample(|weights| Figures::mean(samples, |message| weights[message]));
        let interval = |of: &dyn Fn(&Figures) -> f64| {
            let (low, high) = percentiles(resampled.iter().map(of).collect());
            Interval {
                value: of(&measured),
                low,
                high,
            }
        };
        let sm_at = |i: usize| {
            let enough = self.ham.len() as f64 * HM_POINTS[i] / 100.0 >= 1.0 - 1e-9;
            enough.then(|| interval(&|f: &Figures| f.sm_at_hm[i]))
        };
        (
            Some(interval(&|f: &Figures| f.one_minus_roca)),
            [sm_at(0), sm_at(1), sm_at(2)],
        )
    }

    fn resample<T>(&self, mut statistic: impl FnMut(&[u64]) -> T) -> Vec<T> {
        let n = self
            .ham
            .iter()
            .chain(&self.spam)
            .max()
            .map_or(0, |last| last + 1);
        let mut weights = vec![0u64; n];
        (0..RESAMPLES)
            .map(|round| {
                let mut random = Random::stream(self.seed, round as u64);
                weights.fill(0);
                for class in [&self.ham, &self.spam] {
                    for _ in 0..class.len() {
                        weights[*random.pick(class)] += 1;
                    }
                }
                statistic(&weights)
            })
            .collect()
    }
}

/// 2.5 % and 97.5 % of `values`.
fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * values.len() as f64).floor() as usize;
        values
            .get(place.min(values.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    };
    (at(0.025), at(0.975))
}

/// How much better one filter is than another on the same messages.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PairedDifference {
    /// 1-ROCA % of the first minus that of the second: negative says that the
    /// first is better.
    pub one_minus_roca: Interval,
    /// Two-sided: how often resampling turns the difference round.
    pub p_value: f64,
}

/// Paired bootstrap: both filters are measured on the same resamples, so that
/// what is hard for both does not widen the interval. `None` when a class is
/// missing or the messages are not the same.
pub fn paired_difference(
    first: &[&[Record]],
    second: &[&[Record]],
    seed: u64,
) -> Option<PairedDifference> {
    let messages = |runs: &[&[Record]]| -> HashMap<usize, Label> {
        runs.iter()
            .flat_map(|run| run.iter().map(|r| (r.message, r.label)))
            .collect()
    };
    if messages(first) != messages(second) {
        return None;
    }
    let bootstrap = Bootstrap::new(first.first()?, seed);
    if bootstrap.ham.is_empty() || bootstrap.spam.is_empty() {
        return None;
    }
    let sorted = |runs: &[&[Record]]| runs.iter().map(|run| Sample::new(run)).collect::<Vec<_>>();
    let (first, second) = (sorted(first), sorted(second));
    let difference = |weight: &dyn Fn(usize) -> u64| {
        let of = |samples: &[Sample]| Figures::mean(samples, weight).one_minus_roca;
        of(&first) - of(&second)
    };
    let resampled = bootstrap.resample(|weights| difference(&|message| weights[message]));
    let share = |test: &dyn Fn(f64) -> bool| {
        resampled.iter().filter(|d| test(**d)).count() as f64 / resampled.len() as f64
    };
    let tail = share(&|d| d <= 0.0).min(share(&|d| d >= 0.0));
    let (low, high) = percentiles(resampled.clone());
    Some(PairedDifference {
        one_minus_roca: Interval {
            value: difference(&|_| 1),
            low,
            high,
        },
        // A thousand resamples cannot show less.
        p_value: (2.0 * tail).clamp(1.0 / RESAMPLES as f64, 1.0),
    })
}

/// The curve as (hm %, sm %) for each distinct score, from the strictest
/// threshold to the laxest.
pub fn roc_points(run: &[Record]) -> Vec<(f64, f64)> {
    let sample = Sample::new(run);
    let n_spam = run.iter().filter(|r| r.label == Label::Spam).count().max(1) as f64;
    let n_ham = run.iter().filter(|r| r.label == Label::Ham).count().max(1) as f64;
    let (mut ham, mut spam) = (0, 0);
    let mut points = vec![(0.0, 100.0)];
    sample.walk(
        |_| 1,
        |step| {
            ham += step.ham;
            spam += step.spam;
            points.push((
                100.0 * ham as f64 / n_ham,
                100.0 - 100.0 * spam as f64 / n_spam,
            ));
        },
    );
    points
}
