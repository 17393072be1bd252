//! From log-odds to a decision: what the user's own labels say about scores.

use std::ops::Range;
use std::sync::LazyLock;

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

/// Between these two log-odds, counted from the middle, a message is unsure.
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
    /// One ham in two thousand; one spam in a hundred among the ham.
    fn default() -> Self {
        Self {
            ham_loss: 0.0005,
            spam_in_ham: 0.01,
        }
    }
}

/// Scores so many bins from the middle, log-odds 4, count as sure.
const SURE_BINS: usize = 8;
/// Sure scores that a first wrong label is measured against.
const SURE_PRIOR: f64 = 50.0;
/// Share of sure scores that are contradicted by right labels: where people
/// label with care, it is below this.
const HARD_MAIL: f64 = 0.01;
const MAX_LABEL_NOISE: f64 = 0.25;

/// What is assumed before there are labels: at this log-odds the loss is the
/// budget, and it falls by e with each `TAIL`. Taken from the ham of the
/// spamassassin collection, the harder of two; csdmc2010 would allow 2.
const PRIOR_SPAM_CUTOFF: f64 = 4.5;
const PRIOR_HAM_CUTOFF: f64 = -1.0;
const TAIL: f64 = 1.7;
/// How many labels of a class that assumption is worth.
const PRIOR_LABELS: f64 = 2_000.0;
/// However badly the scores of a user who trains errors alone look, what is
/// far beyond all doubt stays spam.
const MAX_SPAM_CUTOFF: f64 = 12.0;

/// Labels of each class, at these log-odds, that the middle is reckoned with
/// before there are any.
const MIDDLE_LABELS: f64 = 10.0;
const MIDDLE_LOG_ODDS: f64 = 2.0;
/// How far a label's say about the middle reaches, in log-odds.
const MIDDLE_REACH: f64 = 2.0;
/// Where a tenth of the labels is wrong, the middle does not move down: that
/// would call more ham spam on the word of labels that nobody should trust.
const MIDDLE_NOISE: f64 = 0.1;
/// The middle keeps so many bins away from both ends.
const MARGIN: usize = SURE_BINS;

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
        self.noise_about(self.middle_bin())
    }

    /// The same with scores that are sure beyond both sides of this bin.
    fn noise_about(&self, middle: usize) -> f64 {
        let (low, high) = (..middle - SURE_BINS, middle + SURE_BINS..);
        let contradicted = sum(&self.ham[high.clone()]) + sum(&self.spam[low]);
        let confirmed = sum(&self.ham[low]) + sum(&self.spam[high]);
        let share = contradicted / (contradicted + confirmed + SURE_PRIOR);
        (2.0 * (share - HARD_MAIL).max(0.0)).min(MAX_LABEL_NOISE)
    }

    /// The log-odds at which a ham is as far out of place as a spam, whichever
    /// of the two there is more of: with 2,000 ham and 40 spam all scores lie
    /// lower than with as many of both, and the middle with them. 0 where
    /// nothing is known of one class.
    pub fn middle(&self) -> f64 {
        let (n_ham, n_spam) = (sum(&self.ham), sum(&self.spam));
        if n_ham == 0.0 || n_spam == 0.0 {
            return 0.0;
        }
        // By how much ham is further out of place, on average, than spam,
        // about this edge of bins: it falls from edge to edge.
        let surplus = |edge: usize| {
            let at = edge as f64 / BINS_PER_UNIT + LEAST;
            let prior = |distance: f64| MIDDLE_LABELS * out_of_place(distance);
            let mut ham = prior(-MIDDLE_LOG_ODDS - at);
            let mut spam = prior(at - MIDDLE_LOG_ODDS);
            let beyond = &OUT_OF_PLACE[N_BINS - edge..];
            for ((n_ham, n_spam), share) in self.ham.iter().zip(&self.spam).zip(beyond) {
                ham += f64::from(*n_ham) * share;
                spam += f64::from(*n_spam) * (1.0 - share);
            }
            ham / (n_ham + MIDDLE_LABELS) - spam / (n_spam + MIDDLE_LABELS)
        };
        let (mut low, mut high) = (0, N_BINS);
        while high - low > 1 {
            let edge = (low + high) / 2;
            match surplus(edge) > 0.0 {
                true => low = edge,
                false => high = edge,
            }
        }
        let (above, below) = (surplus(low), surplus(high));
        let part = (above / (above - below)).clamp(0.0, 1.0);
        let middle = (low as f64 + part) / BINS_PER_UNIT + LEAST;
        match middle < 0.0 {
            true => middle * (1.0 - self.noise_about(N_BINS / 2) / MIDDLE_NOISE).max(0.0),
            false => middle,
        }
    }

    fn middle_bin(&self) -> usize {
        let bin = ((self.middle() - LEAST) * BINS_PER_UNIT).round() as usize;
        bin.clamp(MARGIN, N_BINS - MARGIN)
    }

    /// The lowest spam cutoff and the highest ham cutoff that keep the
    /// budgets, as far as the labels tell.
    pub fn cutoffs(&self, params: &Params) -> Cutoffs {
        let bin = self.middle_bin();
        // Of the labels that contradict a score, those that are wrong
        // themselves are no loss.
        let noise = self.noise_about(bin);
        let by_bin = self.ham.iter().zip(&self.spam);
        let from_above = by_bin.clone().rev().take(N_BINS - bin);
        let wrong_ham = noise.max(mistaken(from_above));
        let wrong_spam = noise.max(mistaken(by_bin.take(bin).map(|(ham, spam)| (spam, ham))));
        let lost = |counts: &[u32], others: &[u32], wrong: f64, beyond: &Range<usize>| {
            let contradict = sum(&counts[beyond.clone()]);
            contradict - wrong * (contradict + sum(&others[beyond.clone()]))
        };
        let (n_ham, n_spam) = (sum(&self.ham), sum(&self.spam));
        let prior = PRIOR_SPAM_CUTOFF;
        let spam = lowest(prior, params.ham_loss, n_ham, N_BINS - bin, |bins| {
            lost(&self.ham, &self.spam, wrong_ham, &(bin + bins..N_BINS))
        });
        let prior = -PRIOR_HAM_CUTOFF;
        let ham = -lowest(prior, params.spam_in_ham, n_spam, bin, |bins| {
            lost(&self.spam, &self.ham, wrong_spam, &(0..bin - bins))
        });
        // The middle lies within a bin.
        let edge = bin as f64 / BINS_PER_UNIT + LEAST - self.middle();
        let spam = spam.min(MAX_SPAM_CUTOFF) + edge;
        Cutoffs {
            ham: (ham + edge).min(spam),
            spam,
        }
    }
}

/// Labels beyond the other class's median that may still be right: mail that is
/// hard, and rare.
const HARD_BEYOND_MEDIAN: f64 = 1.0;

/// Which share of the labels beyond the middle are taken for wrong, where bins
/// come from outside in, each with the labels that contradict its scores and
/// those that confirm them. Wrong labels lie where right ones of the other class
/// do, half of them beyond its median; right ones hardly ever get there.
fn mistaken<'a>(bins: impl Iterator<Item = (&'a u32, &'a u32)> + Clone) -> f64 {
    let confirmed: f64 = bins.clone().map(|(_, n)| f64::from(*n)).sum();
    let (mut contradict, mut confirm) = (0.0, 0.0);
    for (n_contradict, n_confirm) in bins {
        contradict += f64::from(*n_contradict);
        confirm += f64::from(*n_confirm);
        if confirm >= confirmed / 2.0 {
            break;
        }
    }
    let wrong = contradict * contradict / (contradict + HARD_BEYOND_MEDIAN);
    if confirm > 0.0 { wrong / confirm } else { 0.0 }
}

fn sum(counts: &[u32]) -> f64 {
    counts.iter().map(|n| f64::from(*n)).sum()
}

/// How far out of place a label is that lies so much beyond the middle, from
/// 0 to 1.
fn out_of_place(beyond: f64) -> f64 {
    1.0 / (1.0 + (-beyond / MIDDLE_REACH).exp())
}

/// The same for a ham in the middle of a bin, by the number of bins from the
/// edge in question, which is that of index [`N_BINS`].
static OUT_OF_PLACE: LazyLock<[f64; 2 * N_BINS]> = LazyLock::new(|| {
    std::array::from_fn(|n| out_of_place((n as f64 + 0.5 - N_BINS as f64) / BINS_PER_UNIT))
});

/// The least cutoff, from the middle outwards, whose estimated loss is within
/// the budget; labels and prior count together. `lost` counts labels beyond
/// so many bins from the middle, at most `most`. Within a bin the loss is taken
/// to change evenly.
fn lowest(prior: f64, budget: f64, n_labels: f64, most: usize, lost: impl Fn(usize) -> f64) -> f64 {
    let allowed = budget * (n_labels + PRIOR_LABELS);
    let estimate = |bins: usize| {
        let beyond = prior - bins as f64 / BINS_PER_UNIT;
        lost(bins).max(0.0) + budget * PRIOR_LABELS * (beyond / TAIL).exp()
    };
    let mut before = None;
    for bins in 0..most {
        let loss = estimate(bins);
        if loss <= allowed {
            let part = before.map_or(0.0, |before: f64| (allowed - loss) / (before - loss));
            return (bins as f64 - part) / BINS_PER_UNIT;
        }
        before = Some(loss);
    }
    most as f64 / BINS_PER_UNIT
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
        let raised = lost.cutoffs(&Params::default()).spam;
        // 0.35 of the bin below 6.5, of what is lost there and at 6.
        assert!((raised - 6.3245).abs() < 0.0005, "{raised}");
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
    fn the_middle_lies_between_the_classes_however_many_there_are_of_each() {
        let middle = |rows: &[_]| calibration(rows).middle();
        assert_eq!(middle(&[]), 0.0);
        assert_eq!(middle(&[(Label::Ham, -9.0, 500)]), 0.0);
        let alike = middle(&[(Label::Ham, -6.0, 500), (Label::Spam, 5.6, 500)]);
        assert!(alike.abs() < 0.2, "{alike}");
        // Much ham and little spam: what is known of spam is weak.
        let uneven = middle(&[(Label::Ham, -9.0, 2_000), (Label::Spam, -2.0, 40)]);
        assert!((-6.0..-2.0).contains(&uneven), "{uneven}");
        let other = middle(&[(Label::Spam, 9.0, 2_000), (Label::Ham, 2.0, 40)]);
        assert!((2.0..6.0).contains(&other), "{other}");
        // Wrong labels do not lower it.
        let noisy = middle(&[
            (Label::Ham, -9.0, 1_800),
            (Label::Ham, 9.0, 200),
            (Label::Spam, -3.0, 40),
            (Label::Spam, -9.0, 8),
        ]);
        assert!(noisy > -0.5, "{noisy}");
    }

    #[test]
    fn cutoffs_count_from_the_middle() {
        let uneven = calibration(&[(Label::Ham, -9.0, 2_000), (Label::Spam, -2.0, 40)]);
        let cutoffs = uneven.cutoffs(&Params::default());
        assert!(cutoffs.ham < 0.0 && cutoffs.spam > 0.0, "{cutoffs:?}");
        assert!(cutoffs.spam + uneven.middle() < PRIOR_SPAM_CUTOFF);
    }

    #[test]
    fn one_wrong_label_in_a_hundred_is_no_lost_ham() {
        let spam = (0..20).map(|n| (Label::Spam, 3.0 + f64::from(n) * 0.25, 40));
        let wrong = (0..8).map(|n| (Label::Ham, 4.0 + f64::from(n) * 0.5, 1));
        let rows: Vec<_> = spam
            .chain(wrong)
            .chain([(Label::Ham, -8.0, 1_200)])
            .collect();
        let cutoffs = calibration(&rows).cutoffs(&Params::default());
        assert!(cutoffs.spam < 5.5, "{cutoffs:?}");
        // The same number of hard ones, no further out than the first spam.
        let ham = [(Label::Ham, -8.0, 1_200), (Label::Ham, 4.2, 8)].into_iter();
        let rows: Vec<_> = ham
            .chain((0..20).map(|n| (Label::Spam, 5.0 + f64::from(n) * 0.25, 40)))
            .collect();
        assert!(calibration(&rows).cutoffs(&Params::default()).spam >= 4.5);
    }

    #[test]
    fn any_log_odds_has_a_bin() {
        for log_odds in [f64::NEG_INFINITY, -1e9, 0.0, 1e9, f64::INFINITY, f64::NAN] {
            assert!(usize::from(Calibration::bin(log_odds)) < N_BINS);
        }
    }
}
