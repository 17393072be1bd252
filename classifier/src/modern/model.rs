//! The weights: a fixed table of buckets, and the exactly invertible step
//! that a message makes in it.
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

use crate::{Label, TrainedMessages};

use super::Features;
use super::calibration::Calibration;

/// Buckets of a model: at 4 bytes each the table stays below 4 MiB with
/// what a store adds to it. Half as many cost a tenth of the accuracy.
pub const N_BUCKETS: u32 = 960_000;

/// Learning rate of each view, in the order of [`super::View::ALL`].
/// Measured from a quarter to four times of this; what people write asks for
/// less than what programs write, or the first messages are learned by heart.
const RATES: [f32; 3] = [0.5, 0.28, 0.56];

/// How much of a view's gradient asks what all views say together: a view
/// learns somewhat less of what the others know, which leaves it apart enough
/// to correct them where they are wrong.
const SHARED: f64 = 0.1;

/// Keeps a weight finite that was trained by a tiny gradient.
const EPSILON: f32 = 0.001;

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
const COMMON: [Slot; 3] = [Slot(2 * 111_111), Slot(2 * 444_444), Slot(2 * 777_777)];

/// All sums age when of a hundred buckets that a message would change more
/// than this are full.
const MOST_FULL: usize = 90;

/// One gradient in units of the table. A gradient lies within -1..=1.
const GRADIENT_UNIT: f64 = 256.0;
/// One squared gradient in units of the table. Finer ones fill 16 bits sooner;
/// coarser ones lose some of what small steps tell.
const SQUARE_UNIT: f64 = 128.0;

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
/// again and its slots must be known; too small for a square.
const LEAST_GRADIENT: i16 = 2;

/// Which of `n_earlier` messages, in the order in which they came, are to be
/// learned again with a new one, with which so many are known. As good as
/// drawn by lot, so that each has its turns.
pub fn again(trained: TrainedMessages, n_earlier: usize) -> impl Iterator<Item = usize> {
    let n = match is_beginning(trained) {
        true => AGAIN.min(n_earlier),
        false => 0,
    };
    let lot = (trained.ham + trained.spam).wrapping_mul(0x9e37_79b9) as usize;
    (lot..lot + n).map(move |at| at % n_earlier)
}

fn is_beginning(trained: TrainedMessages) -> bool {
    trained.ham.saturating_add(trained.spam) < KNOWN_AT_FIRST
}

/// The gradient of a message that waits, of 256: too small for a square, so
/// that it gives no weight to a bucket that nothing else was added to.
fn waiting_gradient(label: Label) -> i16 {
    sign(label)
}

fn sign(label: Label) -> i16 {
    match label {
        Label::Spam => 1,
        Label::Ham => -1,
    }
}

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
    fn sums(self) -> (f32, f32) {
        let z = self.gradient as f32 * (1.0 / GRADIENT_UNIT as f32);
        let q = self.squares as f32 * (1.0 / SQUARE_UNIT as f32);
        (z, q)
    }
}

/// What scoring needs of a model.
pub trait Weights {
    /// The sums of one bucket; `index` is below [`N_BUCKETS`].
    fn bucket(&self, index: u32) -> Bucket;
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

    fn signed(self, gradient: i16) -> i16 {
        if self.0 & 1 == 0 { gradient } else { -gradient }
    }

    /// `common` is [`common`] of the view.
    pub(super) fn weight(self, weights: &impl Weights, common: f32) -> f32 {
        let (z, q) = self.sums(weights);
        weight(z, q, common)
    }

    /// z as this feature enters it, and q.
    fn sums(self, weights: &impl Weights) -> (f32, f32) {
        let (z, q) = weights.bucket(self.bucket()).sums();
        (if self.0 & 1 == 0 { z } else { -z }, q)
    }
}

fn weight(z: f32, q: f32, common: f32) -> f32 {
    match q {
        0.0 => 0.0,
        _ => (z - common * q) / (EPSILON + q).sqrt(),
    }
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

fn slots(features: &Features) -> [Vec<Slot>; 3] {
    std::array::from_fn(|view| features.views[view].iter().map(|f| Slot::new(*f)).collect())
}

/// What so many slots of a view say, in log-odds.
fn sum(view: usize, n: usize, slot: impl Fn(usize) -> Slot, weights: &impl Weights) -> f64 {
    /// So many are looked up before they are reckoned with, side by side.
    const AT_ONCE: usize = 16;
    let common = common(view, weights);
    let (mut z, mut q) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
    let mut sum = -0.0;
    let mut at = 0;
    while at + AT_ONCE <= n {
        for (n, (z, q)) in z.iter_mut().zip(&mut q).enumerate() {
            (*z, *q) = slot(at + n).sums(weights);
        }
        for (z, q) in z.iter_mut().zip(&q) {
            *z = weight(*z, *q, common);
        }
        z.iter().for_each(|weight| sum += f64::from(*weight));
        at += AT_ONCE;
    }
    for at in at..n {
        sum += f64::from(slot(at).weight(weights, common));
    }
    sum * f64::from(scale(view, n))
}

/// What a view says in judging, by what so many features of it say.
fn judged(view: usize, n_features: usize, sum: f64, weights: &impl Weights) -> f64 {
    match n_features {
        0 => 0.0,
        _ => sum + JUDGED_INTERCEPT * intercept(view, weights, INTERCEPT_PRIOR),
    }
}

/// What a view says in learning, by what its features say.
fn learned(view: usize, sum: f64, weights: &impl Weights) -> f64 {
    sum + intercept(view, weights, EPSILON)
}

/// What each view says: the log-odds that the message is spam.
pub(super) fn log_odds(features: &Features, weights: &impl Weights) -> [f64; 3] {
    raw_log_odds(features, weights).map(bounded)
}

fn bounded(log_odds: f64) -> f64 {
    log_odds.max(MIN_LOG_ODDS)
}

fn raw_log_odds(features: &Features, weights: &impl Weights) -> [f64; 3] {
    std::array::from_fn(|view| {
        let features = &features.views[view];
        let n = features.len();
        let sum = sum(view, n, |at| Slot::new(features[at]), weights);
        judged(view, n, sum, weights)
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

/// The gradient of the logistic loss where a share `noise` of labels is
/// wrong: it falls back to 0 where a label contradicts a sure score, so that
/// a wrong label cannot undo what many right ones taught. Without noise it is
/// label minus probability.
fn tolerant_gradient(log_odds: f64, label: Label, noise: f64) -> f64 {
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
    /// Nothing is written yet: [`Model::add`] does that.
    pub fn new(features: &Features, label: Label, weights: &impl Weights) -> Self {
        Self::of_slots(slots(features), label, weights)
    }

    fn of_slots(slots: [Vec<Slot>; 3], label: Label, weights: &impl Weights) -> Self {
        let views = [0, 1, 2];
        let sums = views.map(|view| sum(view, slots[view].len(), |at| slots[view][at], weights));
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

    /// A message of which there is nothing to learn yet, since none of the
    /// other class is known: what all mail has in common would be taken for
    /// this class. It is noted with the least gradient there is, which weighs
    /// nothing, and learned by [`Record::again`] when there is something to
    /// compare with.
    pub(super) fn waiting(features: &Features, label: Label) -> Self {
        let gradient = waiting_gradient(label);
        Self {
            label,
            age: 0,
            bin: Some(Calibration::bin(0.0)),
            steps: with_common(slots(features).map(|slots| (gradient, slots))),
        }
    }

    /// Whether it is a [`Record::waiting`].
    pub(super) fn is_waiting(&self) -> bool {
        let waiting = waiting_gradient(self.label);
        let mut steps = self.steps.iter();
        self.bin.is_some() && steps.all(|(gradient, _)| *gradient == waiting)
    }

    /// Whether all is known that it takes to learn the message again: a person's
    /// label, and the slots of each view.
    pub fn may_come_again(&self) -> bool {
        let is_known = |(gradient, _): &(i16, _)| *gradient != 0;
        self.bin.is_some() && self.steps.iter().all(is_known) && !self.is_waiting()
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

/// One user's weights, or a host's base model, in memory.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) buckets: Vec<(i16, u16)>,
    pub(super) trained: TrainedMessages,
    pub(super) calibration: Calibration,
    /// How often all sums aged.
    pub(super) age: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            buckets: vec![(0, 0); N_BUCKETS as usize],
            trained: TrainedMessages::default(),
            calibration: Calibration::default(),
            age: 0,
        }
    }
}

impl Weights for Model {
    fn bucket(&self, index: u32) -> Bucket {
        let (gradient, squares) = self.buckets[index as usize];
        Bucket {
            gradient: gradient.into(),
            squares: squares.into(),
        }
    }

    fn trained(&self) -> TrainedMessages {
        self.trained
    }

    fn calibration(&self) -> &Calibration {
        &self.calibration
    }
}

impl Model {
    /// Adds what a message taught, and marks the record with the model's age.
    pub fn add(&mut self, record: &mut Record) {
        Learner::add(self, record);
    }

    /// Takes back exactly what [`add`](Self::add) added. A model without any
    /// message left is as new.
    pub fn take_back(&mut self, record: &Record) {
        Learner::take_back(self, record);
    }
}

impl Learner for Model {
    fn sums(&self, index: u32) -> Bucket {
        self.bucket(index)
    }

    fn messages(&mut self) -> (&mut TrainedMessages, &mut Calibration) {
        (&mut self.trained, &mut self.calibration)
    }

    fn age(&self) -> u32 {
        self.age
    }

    fn apply(&mut self, step: Move) {
        step.each(|bucket, delta| {
            let (z, q) = &mut self.buckets[bucket as usize];
            *z = saturate(i32::from(*z) + delta.gradient);
            *q = saturate(i32::from(*q) + delta.squares);
        });
    }

    fn grow_older(&mut self) {
        self.age += 1;
        for (z, q) in &mut self.buckets {
            (*z, *q) = (aged_gradient(*z, 1), aged_squares(*q, 1));
        }
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What learns, wherever its sums are.
pub(super) trait Learner {
    /// The sums of one bucket that learning changes.
    fn sums(&self, index: u32) -> Bucket;
    /// How many messages made these sums, and how labels and scores went
    /// together.
    fn messages(&mut self) -> (&mut TrainedMessages, &mut Calibration);
    /// How often all sums aged.
    fn age(&self) -> u32;
    fn apply(&mut self, step: Move);
    /// Makes all sums smaller and counts one more year.
    fn grow_older(&mut self);
    /// Becomes as new.
    fn reset(&mut self);

    /// Adds what a message taught, and marks the record with the age.
    fn add(&mut self, record: &mut Record) {
        loop {
            let n_full = self.n_full(record);
            if n_full * 100 > record.n_changes() * MOST_FULL {
                self.grow_older();
                self.messages().1.halve();
                continue;
            }
            if n_full > 0 {
                self.spare_full(record);
            }
            break;
        }
        record.age = self.age();
        self.apply(Move {
            takes_back: false,
            ageings: 0,
            steps: record.steps.clone(),
        });
        let (trained, calibration) = self.messages();
        let n_messages = count(trained, record.label);
        *n_messages = n_messages.saturating_add(1);
        if let Some(bin) = record.bin {
            calibration.add(record.label, bin);
        }
    }

    /// Takes back exactly what [`add`](Self::add) added.
    fn take_back(&mut self, record: &Record) {
        let ageings = self.age().saturating_sub(record.age).min(16) as u8;
        let (trained, calibration) = self.messages();
        let n_messages = count(trained, record.label);
        *n_messages = n_messages.saturating_sub(1);
        if *trained == TrainedMessages::default() {
            self.reset();
            return;
        }
        if let (0, Some(bin)) = (ageings, record.bin) {
            calibration.take_back(record.label, bin);
        }
        self.apply(Move {
            takes_back: true,
            ageings,
            steps: record.steps.clone(),
        });
    }

    /// How many of the buckets that a record would change are full.
    fn n_full(&self, record: &Record) -> usize {
        let full = |(gradient, slots): &(i16, Vec<Slot>)| {
            let full = slots.iter().filter(|slot| self.is_full(**slot, *gradient));
            full.count()
        };
        record.steps.iter().map(full).sum()
    }

    /// Takes the full buckets out of a record.
    fn spare_full(&self, record: &mut Record) {
        for (gradient, slots) in &mut record.steps {
            slots.retain(|slot| !self.is_full(*slot, *gradient));
            if slots.is_empty() {
                *gradient = 0;
            }
        }
    }

    /// Whether a step of this size could leave 16 bits.
    fn is_full(&self, slot: Slot, gradient: i16) -> bool {
        // A message can hit one bucket several times, hence the factor.
        const MOST_HITS: i32 = 8;
        let sums = self.sums(slot.bucket());
        let reach = sums.gradient.abs() + i32::from(gradient.abs()) * MOST_HITS;
        let squares = sums.squares + u32::from(square(gradient)) * MOST_HITS as u32;
        reach > i32::from(i16::MAX) || squares > u32::from(u16::MAX)
    }
}

fn count(trained: &mut TrainedMessages, label: Label) -> &mut u32 {
    match label {
        Label::Ham => &mut trained.ham,
        Label::Spam => &mut trained.spam,
    }
}

/// A sum of gradients after so many ageings: half of it each time, rounded
/// towards 0.
pub(super) fn aged_gradient(z: i16, ageings: u32) -> i16 {
    (i32::from(z) / (1 << ageings.min(16))) as i16
}

/// A sum of squares after so many ageings: a quarter each time, so that
/// weights stay and what is learned from now on counts twice. What was
/// touched stays so.
pub(super) fn aged_squares(q: u16, ageings: u32) -> u16 {
    let aged = u32::from(q) >> (2 * ageings.min(15));
    (aged as u16).max(u16::from(q > 0))
}

/// Only reached by taking back what was added at another age, where sums
/// were rounded.
pub(super) fn saturate<T: TryFrom<i32> + Limits>(n: i32) -> T {
    T::try_from(n).unwrap_or(if n < 0 { T::LEAST } else { T::MOST })
}

pub(super) trait Limits {
    const LEAST: Self;
    const MOST: Self;
}

impl Limits for i16 {
    const LEAST: Self = Self::MIN;
    const MOST: Self = Self::MAX;
}

impl Limits for u16 {
    const LEAST: Self = Self::MIN;
    const MOST: Self = Self::MAX;
}

/// The square of a gradient in units of the table, never 0 for a step that
/// was made: a bucket whose squares are 0 counts as untouched.
pub(super) fn square(gradient: i16) -> u16 {
    let square = (f64::from(gradient) / GRADIENT_UNIT).powi(2) * SQUARE_UNIT;
    (square.round() as u16).max(u16::from(gradient != 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::modern::{Params, score};

    fn mail(seed: u8) -> Features {
        let words: String = (0..30u32)
            .map(|n| format!("w{} ", (u32::from(seed) * 7 + n * n) % 97))
            .collect();
        crate::modern::features(format!("Subject: s{seed}\n\n{words}").as_bytes())
    }

    fn label(spam: bool) -> Label {
        if spam { Label::Spam } else { Label::Ham }
    }

    #[test]
    fn without_noise_the_gradient_is_label_minus_probability() {
        for log_odds in [-5.0, 0.0, 3.0f64] {
            let probability = 1.0 / (1.0 + (-log_odds).exp());
            let spam = tolerant_gradient(log_odds, Label::Spam, 0.0);
            let ham = tolerant_gradient(log_odds, Label::Ham, 0.0);
            assert!((spam - (1.0 - probability)).abs() < 1e-12);
            assert!((ham + probability).abs() < 1e-12);
        }
        assert!(tolerant_gradient(10.0, Label::Ham, 0.1).abs() < 0.01);
    }

    #[test]
    fn every_slot_lies_in_the_table() {
        for feature in [0, 1, u32::MAX - 1, u32::MAX] {
            assert!(Slot::new(feature).bucket() < N_BUCKETS);
        }
    }

    #[test]
    fn sums_that_fill_up_age_and_are_still_taken_back() {
        let mut model = Model::default();
        let step = |n: i16| Record {
            label: Label::Spam,
            age: 0,
            bin: Some(0),
            steps: [(n, vec![Slot::new(2); 3]), (0, vec![]), (0, vec![])],
        };
        let mut records: Vec<_> = (0..100).map(|_| step(256)).collect();
        for record in &mut records {
            model.add(record);
        }
        assert!(model.age > 0);
        for record in &records {
            model.take_back(record);
        }
        assert!(model.buckets == Model::default().buckets);
    }

    #[test]
    fn a_full_bucket_rests_and_the_others_learn() {
        let mut model = Model::default();
        let step = |others: u32| {
            let slots = (0..=others).map(|n| Slot(2 * n)).collect();
            let mut record = Record {
                label: Label::Spam,
                age: 0,
                bin: Some(0),
                steps: [(256, slots), (0, vec![]), (0, vec![])],
            };
            model.add(&mut record);
            (record, model.clone())
        };
        let added: Vec<_> = (0..140).map(step).collect();
        let (last, after) = &added[139];
        assert_eq!((after.age, after.buckets[139].0), (0, 256));
        assert!(!last.steps[0].1.contains(&Slot(0)), "bucket 0 is full");
        let mut model = after.clone();
        for (record, _) in &added {
            model.take_back(record);
        }
        assert!(model.buckets == Model::default().buckets);
    }

    #[test]
    fn a_run_of_one_class_does_not_speak_against_all_mail() {
        let mut model = Model::default();
        let mut teach = |n: u8, spam: bool, words: &str| {
            let raw = format!("Subject: a message\n\n{words} from all of us {n}\n");
            let features = crate::modern::features(raw.as_bytes());
            let record = &mut Record::new(&features, label(spam), &model);
            model.add(record);
        };
        for n in 0..40 {
            teach(n, n % 2 == 0, ["lunch", "pills"][usize::from(n % 2 == 0)]);
        }
        for n in 0..30 {
            teach(100 + n, true, &format!("offer{n}"));
        }
        let ham = crate::modern::features(b"Subject: a message\n\nlunch from all of us\n");
        let verdict = score(&ham, &model, &Params::default());
        assert_ne!(verdict.class, crate::modern::Class::Spam, "{verdict:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Any order of taking back leaves what was trained besides, also
        /// where that is nothing.
        #[test]
        fn taking_back_is_exact(
            kept in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..5),
            taken in proptest::collection::vec((any::<u8>(), any::<bool>(), any::<u16>()), 0..6),
            probe in any::<u8>(),
        ) {
            let mut model = Model::default();
            for (seed, spam) in kept {
                let mut record = Record::new(&mail(seed), label(spam), &model);
                model.add(&mut record);
            }
            let before = model.clone();
            let mut records: Vec<_> = taken
                .into_iter()
                .map(|(seed, spam, order)| {
                    let mut record = Record::new(&mail(seed), label(spam), &model);
                    model.add(&mut record);
                    (order, record)
                })
                .collect();
            records.sort_by_key(|(order, _)| *order);
            for (_, record) in &records {
                model.take_back(record);
            }
            let probe = mail(probe);
            let params = Params::default();
            prop_assert_eq!(score(&probe, &model, &params), score(&probe, &before, &params));
            prop_assert!(model.buckets == before.buckets);
        }
    }
}
