//! A table of buckets that learns, in memory or wherever its sums are.

use super::calibration::Calibration;
use super::record::{Move, Record, square};
use super::weights::{Bucket, N_BUCKETS, Slot, Weights};
use crate::TrainedMessages;

/// All sums age when of a hundred buckets that a message would change more
/// than this are full.
const MOST_FULL: usize = 90;

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
    #[inline]
    fn bucket(&self, index: u32) -> Bucket {
        let (gradient, squares) = self.buckets[index as usize];
        Bucket {
            gradient: gradient.into(),
            squares: squares.into(),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    #[inline]
    fn expect(&self, index: u32) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        if let Some(bucket) = self.buckets.get(index as usize) {
            // SAFETY: every x86-64 processor has this, and it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(bucket).cast()) }
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

    /// Adds what a message taught, and marks the record with the age. Of one that
    /// waits nothing is added.
    fn add(&mut self, record: &mut Record) {
        if record.is_waiting() {
            return;
        }
        self.make_room(record);
        record.age = self.age();
        self.apply(Move {
            takes_back: false,
            ageings: 0,
            steps: record.steps.clone(),
        });
        let (trained, calibration) = self.messages();
        let n_messages = trained.get_mut(record.label);
        *n_messages = n_messages.saturating_add(1);
        if let Some(bin) = record.bin {
            calibration.add(record.label, bin);
        }
    }

    /// Takes back exactly what [`add`](Self::add) added.
    fn take_back(&mut self, record: &Record) {
        if record.is_waiting() {
            return;
        }
        let ageings = self.age().saturating_sub(record.age).min(16) as u8;
        let (trained, calibration) = self.messages();
        let n_messages = trained.get_mut(record.label);
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

    /// Sees to it that no bucket overflows by a record.
    fn make_room(&mut self, record: &mut Record) {
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
            return;
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Features;
    use super::super::record::tolerant_gradient;
    use super::*;
    use crate::Label;
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
