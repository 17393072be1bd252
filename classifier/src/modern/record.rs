//! What training one message adds to a model: the step that its label asks
//! for, exactly invertible.

use super::Features;
use super::calibration::Calibration;
use super::model::{aged_gradient, aged_squares};
use super::weights::{
    COMMON, GRADIENT_UNIT, SQUARE_UNIT, Slot, Weights, believed, bounded, judged, learned, slots,
    sum,
};
use crate::{Label, TrainedMessages};

/// How much of a view's gradient asks what all views say together: a view
/// learns somewhat less of what the others know, which leaves it apart enough
/// to correct them where they are wrong.
const SHARED: f64 = 0.1;

/// A view whose gradient is smaller than this (of 256) is sure already and
/// learns nothing: a thirtieth. It costs no accuracy and keeps four of five
/// steps out of table and ledger.
const MIN_GRADIENT: i16 = 8;

/// While so few messages are known, each new one is followed by some earlier
/// ones that are learned again: what they taught was reckoned against a model
/// that knew next to nothing.
const KNOWN_AT_FIRST: u32 = 200;
/// Messages that are learned again with each new one.
const AGAIN: usize = 8;
/// The gradient of a view that is sure already, where the message may be learned
/// again and its slots must be known: it weighs next to nothing.
const LEAST_GRADIENT: i16 = 2;

/// Which of `n_earlier` messages, in any order that holds, are to be learned
/// again with a new one, with which so many are known. As good as drawn by lot,
/// so that each has its turns.
pub fn again(trained: TrainedMessages, n_earlier: usize) -> impl Iterator<Item = usize> {
    let n = match is_beginning(trained) {
        true => AGAIN.min(n_earlier),
        false => 0,
    };
    let lot = (trained.ham + trained.spam).wrapping_mul(0x9e37_79b9) as usize;
    (lot..lot + n).map(move |at| at % n_earlier)
}

/// Whether messages are learned again with the next one.
pub(super) fn is_beginning(trained: TrainedMessages) -> bool {
    trained.ham.saturating_add(trained.spam) < KNOWN_AT_FIRST
}

fn sign(label: Label) -> i16 {
    match label {
        Label::Spam => 1,
        Label::Ham => -1,
    }
}

/// The gradient of the logistic loss where a share `noise` of labels is
/// wrong: it falls back to 0 where a label contradicts a sure score, so that
/// a wrong label cannot undo what many right ones taught. Without noise it is
/// label minus probability.
pub(super) fn tolerant_gradient(log_odds: f64, label: Label, noise: f64) -> f64 {
    let sign = match label {
        Label::Spam => 1.0,
        Label::Ham => -1.0,
    };
    let right = 1.0 / (1.0 + (-sign * log_odds).exp());
    let seen = noise + (1.0 - 2.0 * noise) * right;
    sign * (1.0 - 2.0 * noise) * right * (1.0 - right) / seen
}

/// The gradient of each view, 0 where nothing was learned, with the slots
/// that it was added to.
pub(super) type Steps = [(i16, Vec<Slot>); 3];

/// The same steps in what all mail has in common too.
fn with_common(mut steps: Steps) -> Steps {
    for ((_, slots), common) in steps.iter_mut().zip(COMMON) {
        if !slots.is_empty() {
            let at = slots.partition_point(|slot| *slot < common);
            slots.insert(at, common);
        }
    }
    steps
}

/// What is added to the sums of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) gradient: i32,
    pub(super) squares: i32,
}

/// Steps that are made, or taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) takes_back: bool,
    /// How often all sums aged since these steps were first made, up to 16:
    /// then nothing is left of them.
    pub(super) ageings: u8,
    pub(super) steps: Steps,
}

impl Move {
    /// Calls `add` for each slot with its bucket.
    pub(super) fn each(&self, mut add: impl FnMut(u32, Delta)) {
        let sign = if self.takes_back { -1 } else { 1 };
        for (gradient, slots) in &self.steps {
            let squares = sign * i32::from(aged_squares(square(*gradient), self.ageings.into()));
            for slot in slots {
                let step = i32::from(aged_gradient(slot.signed(*gradient), self.ageings.into()));
                let delta = Delta {
                    gradient: step * sign,
                    squares,
                };
                add(slot.bucket(), delta);
            }
        }
    }

    /// Number of slots.
    pub(super) fn n_slots(&self) -> usize {
        self.steps.iter().map(|(_, slots)| slots.len()).sum()
    }
}

/// What training one message adds to a model: all that taking it back needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(super) label: Label,
    /// The model's age when this was added.
    pub(super) age: u32,
    /// The log-odds before training, as the calibration counts it. `None`:
    /// the label is nobody's judgement of that score, and does not count.
    pub(super) bin: Option<u8>,
    pub(super) steps: Steps,
}

impl Record {
    /// The step that `label` asks for, against what `weights` say now.
    /// Nothing is written yet: [`Model::add`](super::Model::add) does that.
    pub fn new(features: &Features, label: Label, weights: &impl Weights) -> Self {
        Self::of_slots(slots(features), label, weights)
    }

    fn of_slots(slots: [Vec<Slot>; 3], label: Label, weights: &impl Weights) -> Self {
        let views = [0, 1, 2];
        let sums = views.map(|view| sum(view, &slots[view], weights));
        let judged =
            views.map(|view| bounded(judged(view, slots[view].len(), sums[view], weights)));
        let said = views.map(|view| bounded(learned(view, sums[view], weights)));
        let together: f64 = believed(said, weights).iter().sum();
        let noise = weights.calibration().label_noise();
        let may_come_again = is_beginning(weights.trained());
        let mut view = 0;
        let steps = slots.map(|slots| {
            let reached = (1.0 - SHARED) * said[view] + SHARED * together;
            view += 1;
            let gradient = tolerant_gradient(reached, label, noise);
            let gradient = (gradient * GRADIENT_UNIT).round() as i16;
            match gradient.abs() < MIN_GRADIENT {
                false => (gradient, slots),
                true if may_come_again => (sign(label) * LEAST_GRADIENT, slots),
                true => (0, Vec::new()),
            }
        });
        Self {
            label,
            age: 0,
            bin: Some(Calibration::bin(believed(judged, weights).iter().sum())),
            steps: with_common(steps),
        }
    }

    /// A message of which there is nothing to learn yet: it has its slots, but
    /// adds nothing to them, and is learned by [`Record::again`] in its turn.
    pub(super) fn waiting(features: &Features, label: Label) -> Self {
        let gradient = sign(label);
        Self {
            label,
            age: 0,
            bin: None,
            steps: with_common(slots(features).map(|slots| (gradient, slots))),
        }
    }

    /// Whether it is a [`Record::waiting`]: no step that is made is so small.
    pub(super) fn is_waiting(&self) -> bool {
        let mut steps = self.steps.iter();
        self.bin.is_none() && steps.all(|(gradient, _)| *gradient == sign(self.label))
    }

    /// Whether all is known that it takes to learn the message again: a person's
    /// label, and the slots of each view.
    pub fn may_come_again(&self) -> bool {
        let is_known = |(gradient, _): &(i16, _)| *gradient != 0;
        self.bin.is_some() && self.steps.iter().all(is_known)
    }

    /// What a message has to teach now that its record has been taken back.
    #[must_use]
    pub fn again(self, weights: &impl Weights) -> Self {
        let mut slots = self.steps.map(|(_, slots)| slots);
        for (slots, common) in slots.iter_mut().zip(COMMON) {
            slots.retain(|slot| *slot != common);
        }
        Self::of_slots(slots, self.label, weights)
    }

    /// The same step without a say in the cutoffs: for a label that is not a
    /// person's judgement of a new message.
    #[must_use]
    pub fn uncalibrated(self) -> Self {
        Self { bin: None, ..self }
    }

    /// The same step, only a share of it: for a label that is worth less than
    /// a person's.
    #[must_use]
    pub fn weakened(mut self, share: f64) -> Self {
        for (gradient, slots) in &mut self.steps {
            *gradient = (f64::from(*gradient) * share).round() as i16;
            if *gradient == 0 {
                slots.clear();
            }
        }
        self
    }

    /// The label that was learned.
    pub fn label(&self) -> Label {
        self.label
    }

    /// Number of buckets that change, at most.
    pub fn n_changes(&self) -> usize {
        self.steps.iter().map(|(_, slots)| slots.len()).sum()
    }
}

/// The square of a gradient in units of the table, never 0 for a step that
/// was made: a bucket whose squares are 0 counts as untouched.
pub(super) fn square(gradient: i16) -> u16 {
    const UNITS: u32 = (GRADIENT_UNIT * GRADIENT_UNIT / SQUARE_UNIT) as u32;
    let z = u32::from(gradient.unsigned_abs());
    let square = (z * z + UNITS / 2) / UNITS;
    u16::try_from(square)
        .unwrap_or(u16::MAX)
        .max(u16::from(z != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_rounded() {
        for gradient in i16::MIN..=i16::MAX {
            let exact = (f64::from(gradient) / GRADIENT_UNIT).powi(2) * SQUARE_UNIT;
            let expected = (exact.round() as u16).max(u16::from(gradient != 0));
            assert_eq!(square(gradient), expected, "of {gradient}");
        }
    }
}
