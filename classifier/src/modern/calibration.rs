//! From log-odds to a decision: what the user's own labels say about scores.

use std::ops::Range;

use crate::Label;

/// Counts of the log-odds that messages had just before they were trained,
/// by label: an honest sample of how the filter does on this user's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibration {
    ham: [u32; N_BINS],
    spam: [u32; N_BINS],
}

pub(super) const N_BINS: usize = 64;
const BINS_PER_UNIT: f64 = 2.0;
const LEAST: f64 = -(N_BINS as f64) / 2.0 / BINS_PER_UNIT;

impl Default for Calibration {
    fn default() -> Self {
        Self {
            ham: [0; N_BINS],
            spam: [0; N_BINS],
        }
    }
}

/// Between these two log-odds a message is unsure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cutoffs {
    /// Ham at or below.
    pub ham: f64,
    /// Spam above.
    pub spam: f64,
}

/// How much of which class may be lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Share of ham that may be called spam.
    pub ham_loss: f64,
    /// Share of spam that may be called ham rather than unsure.
    pub spam_in_ham: f64,
}

impl Default for Params {
    /// One ham in a thousand; one spam in a hundred among the ham.
    fn default() -> Self {
        Self {
            ham_loss: 0.001,
            spam_in_ham: 0.01,
        }
    }
}

/// From this bin on, at log-odds 4, and below its mirror image, scores count
/// as sure.
const SURE_BINS: usize = N_BINS / 2 + 8;
/// Sure scores that a first wrong label is measured against.
const SURE_PRIOR: f64 = 50.0;
/// Share of sure scores that are contradicted by right labels: where people
/// label with care, it is below this.
const HARD_MAIL: f64 = 0.01;
const MAX_LABEL_NOISE: f64 = 0.25;

/// What is assumed before there are labels: at this log-odds the loss is the
/// budget, and it falls by e with each `TAIL`. Taken from the ham of the
/// spamassassin collection, the harder of two; csdmc2010 would allow 2.
const PRIOR_SPAM_CUTOFF: f64 = 5.0;
const PRIOR_HAM_CUTOFF: f64 = -1.0;
const TAIL: f64 = 1.7;
/// How many labels of a class that assumption is worth.
const PRIOR_LABELS: f64 = 1_000.0;
/// However badly the scores of a user who trains errors alone look, what is
/// far beyond all doubt stays spam.
const MAX_SPAM_CUTOFF: f64 = 12.0;

impl Calibration {
    /// All counts as a store keeps them: ham, then spam.
    pub(super) fn counts(&self) -> impl Iterator<Item = u32> + '_ {
        self.ham.iter().chain(&self.spam).copied()
    }

    /// From what [`counts`](Self::counts) gave; what is missing is 0.
    pub(super) fn from_counts(mut counts: impl Iterator<Item = u32>) -> Self {
        let mut calibration = Self::default();
        for count in calibration.ham.iter_mut().chain(&mut calibration.spam) {
            *count = counts.next().unwrap_or(0);
        }
        calibration
    }

    /// The bin of a log-odds.
    pub(super) fn bin(log_odds: f64) -> u8 {
        (((log_odds - LEAST) * BINS_PER_UNIT).floor()).clamp(0.0, (N_BINS - 1) as f64) as u8
    }

    pub(super) fn add(&mut self, label: Label, bin: u8) {
        *self.count(label, bin) += 1;
    }

    pub(super) fn take_back(&mut self, label: Label, bin: u8) {
        let count = self.count(label, bin);
        *count = count.saturating_sub(1);
    }

    pub(super) fn halve(&mut self) {
        for count in self.ham.iter_mut().chain(&mut self.spam) {
            *count /= 2;
        }
    }

    fn count(&mut self, label: Label, bin: u8) -> &mut u32 {
        let counts = match label {
            Label::Ham => &mut self.ham,
            Label::Spam => &mut self.spam,
        };
        &mut counts[usize::from(bin) % N_BINS]
    }

    /// Share of labels that are taken for wrong, from 0 to
    /// [`MAX_LABEL_NOISE`]: twice the share of sure scores that labels
    /// contradict, since what was trained with wrong labels is seldom sure.
    pub(super) fn label_noise(&self) -> f64 {
        let (low, high) = (..N_BINS - SURE_BINS, SURE_BINS..);
        let contradicted = sum(&self.ham[high.clone()]) + sum(&self.spam[low]);
        let confirmed = sum(&self.ham[low]) + sum(&self.spam[high]);
        let share = contradicted / (contradicted + confirmed + SURE_PRIOR);
        (2.0 * (share - HARD_MAIL).max(0.0)).min(MAX_LABEL_NOISE)
    }

    /// The lowest spam cutoff and the highest ham cutoff that keep the
    /// budgets, as far as the labels tell.
    pub fn cutoffs(&self, params: &Params) -> Cutoffs {
        // Of the labels that contradict a score, those that are wrong
        // themselves are no loss.
        let noise = self.label_noise();
        let lost = |counts: &[u32], others: &[u32], beyond: &Range<usize>| {
            let contradict = sum(&counts[beyond.clone()]);
            contradict - noise * (contradict + sum(&others[beyond.clone()]))
        };
        let spam = lowest(PRIOR_SPAM_CUTOFF, params.ham_loss, sum(&self.ham), |bins| {
            lost(&self.ham, &self.spam, &(N_BINS / 2 + bins..N_BINS))
        });
        let ham = -lowest(
            -PRIOR_HAM_CUTOFF,
            params.spam_in_ham,
            sum(&self.spam),
            |bins| lost(&self.spam, &self.ham, &(0..N_BINS / 2 - bins)),
        );
        let spam = spam.min(MAX_SPAM_CUTOFF);
        Cutoffs {
            ham: ham.min(spam),
            spam,
        }
    }
}

fn sum(counts: &[u32]) -> f64 {
    counts.iter().map(|n| f64::from(*n)).sum()
}

/// The least cutoff, from the middle outwards, whose estimated loss is within
/// the budget; labels and prior count together. `lost` counts labels beyond
/// so many bins from the middle.
fn lowest(prior: f64, budget: f64, n_labels: f64, lost: impl Fn(usize) -> f64) -> f64 {
    let allowed = budget * (n_labels + PRIOR_LABELS);
    (0..N_BINS / 2)
        .find(|bins| {
            let beyond = prior - *bins as f64 / BINS_PER_UNIT;
            lost(*bins).max(0.0) + budget * PRIOR_LABELS * (beyond / TAIL).exp() <= allowed
        })
        .map_or(-LEAST, |bins| bins as f64 / BINS_PER_UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(rows: &[(Label, f64, u32)]) -> Calibration {
        let mut calibration = Calibration::default();
        for (label, log_odds, n) in rows {
            for _ in 0..*n {
                calibration.add(*label, Calibration::bin(*log_odds));
            }
        }
        calibration
    }

    #[test]
    fn without_labels_the_prior_decides() {
        let cutoffs = Calibration::default().cutoffs(&Params::default());
        assert_eq!(
            (cutoffs.ham, cutoffs.spam),
            (PRIOR_HAM_CUTOFF, PRIOR_SPAM_CUTOFF)
        );
    }

    #[test]
    fn lost_ham_raises_the_cutoff_and_clean_ham_lowers_it() {
        let clean = calibration(&[(Label::Ham, -8.0, 5_000), (Label::Spam, 8.0, 5_000)]);
        assert!(clean.cutoffs(&Params::default()).spam < PRIOR_SPAM_CUTOFF);
        let lost = calibration(&[(Label::Ham, -8.0, 5_000), (Label::Ham, 6.2, 9)]);
        assert_eq!(lost.cutoffs(&Params::default()).spam, 6.5);
    }

    #[test]
    fn wrong_labels_are_no_lost_ham() {
        let noisy = calibration(&[
            (Label::Ham, -8.0, 900),
            (Label::Spam, -8.0, 60),
            (Label::Spam, 8.0, 900),
            (Label::Ham, 8.0, 60),
        ]);
        assert!(noisy.label_noise() > 0.05);
        assert!(noisy.cutoffs(&Params::default()).spam <= PRIOR_SPAM_CUTOFF);
    }

    #[test]
    fn any_log_odds_has_a_bin() {
        for log_odds in [f64::NEG_INFINITY, -1e9, 0.0, 1e9, f64::INFINITY, f64::NAN] {
            assert!(usize::from(Calibration::bin(log_odds)) < N_BINS);
        }
    }
}
