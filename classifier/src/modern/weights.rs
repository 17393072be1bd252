//! The weights: a fixed table of buckets, and what they say of a message.
//!
//! Three logistic regressions, one for each [`View`], share the table. Each
//! is AdaGrad in the dual-averaging form (Duchi, Hazan, Singer 2011): a
//! weight is `rate * z / sqrt(EPSILON + q)`, where z is the sum of the
//! gradients of the messages that were trained and q the sum of their
//! squares. So a message's training is one number for each view, added to
//! each bucket of that view: sums commute, and taking a message back is the
//! same subtraction, to the last bit.
//!
//! What all mail of a user has in common is in each sum too: after ten spam in
//! a row it would speak for spam. So each view has a bucket that every message
//! adds to, which says how gradients went on the whole. Nearly all of the share
//! that a feature has in that is taken off its z ([`common`]); as a weight of
//! its own it is the view's intercept, which follows a run of one class at once
//! so that words need not ([`intercept`]).
//!
//! A bucket that is full rests: it keeps its weight and takes no more steps.
//! Only where that holds for nearly all of a message do all sums age.
//!
//! [`View`]: super::View

use super::Features;
use super::calibration::Calibration;
use crate::TrainedMessages;

/// Buckets of a model: at 4 bytes each the table stays below 4 MiB with
/// what a store adds to it. Half as many cost a tenth of the accuracy.
pub const N_BUCKETS: u32 = 960_000;

/// Learning rate of each view, in the order of [`super::View::ALL`].
/// Measured from a quarter to four times of this; what people write asks for
/// less than what programs write, or the first messages are learned by heart.
const RATES: [f32; 3] = [0.5, 0.25, 0.6];

/// Keeps a weight finite that was trained by a tiny gradient.
pub(super) const EPSILON: f32 = 0.001;

/// The log-odds that are believed without reserve, by the logarithm of the
/// number of messages of the rarer class: what few messages taught is not
/// sure, however they agree. What lies beyond counts by its logarithm, so that
/// one view never drowns two.
const TRUST: f64 = 0.5;

/// The least log-odds of a view. What is ham an attacker can put into his mail
/// as he likes: a hundred of the hammiest words excuse no more than a few, so
/// that some reports of such mail are enough to know it. Genuine ham is seldom
/// beyond; 6 changes nothing on spamassassin and csdmc2010, 4 costs a third.
const MIN_LOG_ODDS: f64 = -6.0;

/// How much of what all mail has in common is taken off each feature.
const COMMON_SHARE: f32 = 0.9;
/// A gradient is at most 1, so that z is at least q where all steps went one
/// way: up to this the sign of such evidence stays.
const MAX_COMMON: f32 = 1.0;

/// How much of its intercept a view adds when it judges: the classes' balance
/// so far says something of the next message, a run of one class does not.
const JUDGED_INTERCEPT: f64 = 0.5;
/// Squared gradients of an even balance that are reckoned with before there
/// are any: about a hundred messages of which little was known.
const INTERCEPT_PRIOR: f32 = 30.0;

/// Where what all mail has in common is summed up, by view.
pub(super) const COMMON: [Slot; 3] = [Slot(2 * 111_111), Slot(2 * 444_444), Slot(2 * 777_777)];

/// One gradient in units of the table. A gradient lies within -1..=1.
pub(super) const GRADIENT_UNIT: f64 = 256.0;
/// One squared gradient in units of the table. Finer ones fill 16 bits sooner;
/// coarser ones lose some of what small steps tell.
pub(super) const SQUARE_UNIT: f64 = 128.0;

/// The sums of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Sum of gradients, in 1/256.
    pub gradient: i32,
    /// Sum of squared gradients, in 1/128.
    pub squares: u32,
}

impl Bucket {
    /// Gradients and squares as numbers.
    #[inline]
    fn sums(self) -> (f32, f32) {
        let z = self.gradient as f32 * (1.0 / GRADIENT_UNIT as f32);
        // As a signed number, of which processors convert several at once.
        let q = self.squares as i32 as f32 * (1.0 / SQUARE_UNIT as f32);
        (z, q)
    }
}

/// What scoring needs of a model.
pub trait Weights {
    /// The sums of one bucket; `index` is below [`N_BUCKETS`].
    fn bucket(&self, index: u32) -> Bucket;
    /// Says that this bucket will soon be asked for, so that it can be on its
    /// way to the processor. What does not lie in memory takes no notice.
    fn expect(&self, _index: u32) {}
    /// How many messages made these sums.
    fn trained(&self) -> TrainedMessages;
    /// How scores and labels went together.
    fn calibration(&self) -> &Calibration;
}

/// Where a feature lies in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    /// The upper bits choose the bucket, the lowest one the sign with which a
    /// feature enters it. Features that share a bucket then cancel out on
    /// average instead of adding up (Weinberger et al. 2009).
    pub(super) fn new(feature: u32) -> Self {
        let bucket = (u64::from(feature >> 1) * u64::from(N_BUCKETS)) >> 31;
        Self((bucket as u32) << 1 | feature & 1)
    }

    /// From a store. `None`: beyond the table.
    pub(super) fn stored(slot: u32) -> Option<Self> {
        (slot >> 1 < N_BUCKETS).then_some(Self(slot))
    }

    pub(super) fn bucket(self) -> u32 {
        self.0 >> 1
    }

    pub(super) fn signed(self, gradient: i16) -> i16 {
        if self.0 & 1 == 0 { gradient } else { -gradient }
    }

    /// `common` is [`common`] of the view.
    pub(super) fn weight(self, weights: &impl Weights, common: f32) -> f32 {
        self.weight_of(weights.bucket(self.bucket()), common)
    }

    #[inline]
    fn weight_of(self, bucket: Bucket, common: f32) -> f32 {
        let (z, q) = bucket.sums();
        weight(if self.0 & 1 == 0 { z } else { -z }, q, common)
    }
}

#[inline]
fn weight(z: f32, q: f32, common: f32) -> f32 {
    // Reckoned with in any case: which features are new nobody can foresee.
    let weight = (z - common * q) / (EPSILON + q).sqrt();
    if q == 0.0 { 0.0 } else { weight }
}

/// The part of each feature's z, by its q, that it owes to what all mail has
/// in common.
pub(super) fn common(view: usize, weights: &impl Weights) -> f32 {
    let bucket = weights.bucket(COMMON[view].bucket());
    if bucket.squares == 0 {
        return 0.0;
    }
    let (z, q) = bucket.sums();
    (COMMON_SHARE * z / q).clamp(-MAX_COMMON, MAX_COMMON)
}

/// What a view says of any message, in log-odds, with so many squared
/// gradients of an even balance besides.
fn intercept(view: usize, weights: &impl Weights, prior: f32) -> f64 {
    let (z, q) = weights.bucket(COMMON[view].bucket()).sums();
    f64::from(z / (prior + q).sqrt())
}

/// What one unit of weight of a feature is worth to a view that has so many:
/// a long message says no more than a short one.
fn scale(view: usize, n_features: usize) -> f32 {
    RATES[view] / (n_features.max(1) as f32).sqrt()
}

pub(super) fn slots(features: &Features) -> [Vec<Slot>; 3] {
    std::array::from_fn(|view| features.views[view].iter().map(|f| Slot::new(*f)).collect())
}

/// What these slots of a view say, in log-odds.
pub(super) fn sum(view: usize, slots: &[Slot], weights: &impl Weights) -> f64 {
    /// So many are looked up before they are reckoned with, side by side.
    const AT_ONCE: usize = 16;
    /// So many of these ahead they are sent for: most of a table lies where a
    /// processor waits for it longer than all else here takes.
    const AHEAD: usize = 8;
    let expect = |slots: &[Slot]| slots.iter().for_each(|slot| weights.expect(slot.bucket()));
    let common = common(view, weights);
    let mut buckets = [Bucket::default(); AT_ONCE];
    // Several sums, so that no addition waits for the one before.
    let mut sums = [-0.0; 4];
    let mut ahead = slots.chunks(AT_ONCE);
    ahead.by_ref().take(AHEAD).for_each(expect);
    let (chunks, rest) = slots.as_chunks::<AT_ONCE>();
    for slots in chunks {
        ahead.next().into_iter().for_each(expect);
        for (slot, bucket) in slots.iter().zip(&mut buckets) {
            *bucket = weights.bucket(slot.bucket());
        }
        let mut found = [0.0; AT_ONCE];
        for (found, (slot, bucket)) in found.iter_mut().zip(slots.iter().zip(&buckets)) {
            *found = slot.weight_of(*bucket, common);
        }
        for found in found.as_chunks::<4>().0 {
            for (sum, weight) in sums.iter_mut().zip(found) {
                *sum += f64::from(*weight);
            }
        }
    }
    for slot in rest {
        sums[0] += f64::from(slot.weight(weights, common));
    }
    sums.iter().sum::<f64>() * f64::from(scale(view, slots.len()))
}

/// What a view says in judging, by what so many features of it say.
pub(super) fn judged(view: usize, n_features: usize, sum: f64, weights: &impl Weights) -> f64 {
    match n_features {
        0 => 0.0,
        _ => sum + JUDGED_INTERCEPT * intercept(view, weights, INTERCEPT_PRIOR),
    }
}

/// What a view says in learning, by what its features say.
pub(super) fn learned(view: usize, sum: f64, weights: &impl Weights) -> f64 {
    sum + intercept(view, weights, EPSILON)
}

/// What each view says: the log-odds that the message is spam.
pub(super) fn log_odds(features: &Features, weights: &impl Weights) -> [f64; 3] {
    raw_log_odds(features, weights).map(bounded)
}

pub(super) fn bounded(log_odds: f64) -> f64 {
    log_odds.max(MIN_LOG_ODDS)
}

fn raw_log_odds(features: &Features, weights: &impl Weights) -> [f64; 3] {
    // Each is found once, and asked for twice.
    let most = features.views.iter().map(Vec::len).max().unwrap_or(0);
    let mut slots = Vec::with_capacity(most);
    std::array::from_fn(|view| {
        slots.clear();
        slots.extend(features.views[view].iter().map(|f| Slot::new(*f)));
        let sum = sum(view, &slots, weights);
        judged(view, slots.len(), sum, weights)
    })
}

/// What each view says as far as it is believed after so many messages.
/// Without a message of each class that is 0: there is nothing to compare with.
pub(super) fn believed(said: [f64; 3], weights: &impl Weights) -> [f64; 3] {
    let trained = weights.trained();
    let trust = TRUST * f64::from(trained.ham.min(trained.spam)).ln_1p();
    if trust == 0.0 {
        return [0.0; 3];
    }
    said.map(|said| trust * (said / trust).asinh())
}

/// What adds up to a message's log-odds in a view.
pub(super) struct Worth {
    /// What one unit of weight of a feature is worth.
    pub(super) weight: f32,
    /// What the view says of any message.
    pub(super) intercept: f64,
}

/// By view, what the parts of a message's log-odds are worth.
pub(super) fn worth(features: &Features, weights: &impl Weights) -> [Worth; 3] {
    let sums = raw_log_odds(features, weights);
    let believed = believed(sums.map(bounded), weights);
    std::array::from_fn(|view| {
        let n_features = features.views[view].len();
        let share = match believed[view] / sums[view] {
            share if share.is_finite() => share,
            _ => 0.0,
        };
        Worth {
            weight: scale(view, n_features) * share as f32,
            intercept: judged(view, n_features, 0.0, weights) * share,
        }
    })
}
