//! The part of a model that one message asks for, looked up once.
//!
//! To find a bucket in a page means to read the codes before it. A verdict and
//! its reasons ask for each bucket four times.

use super::Features;
use super::calibration::Calibration;
use super::weights::{Bucket, Slot, Weights};
use crate::TrainedMessages;

/// What `weights` hold of a message's features.
#[derive(Clone, Debug)]
pub struct Near<'w, W> {
    weights: &'w W,
    /// Ascending by number, each once.
    buckets: Vec<(u32, Bucket)>,
}

impl<'w, W: Weights> Near<'w, W> {
    /// Looks up the buckets of all features.
    pub fn new(features: &Features, weights: &'w W) -> Self {
        let slots = features.views.iter().flatten().map(|f| Slot::new(*f));
        let mut numbers: Vec<u32> = slots.map(Slot::bucket).collect();
        // Not the unstable one: three that are sorted already.
        numbers.sort();
        numbers.dedup();
        let buckets = numbers.into_iter().map(|n| (n, weights.bucket(n)));
        Self {
            buckets: buckets.collect(),
            weights,
        }
    }
}

impl<W: Weights> Weights for Near<'_, W> {
    fn bucket(&self, index: u32) -> Bucket {
        match self.buckets.binary_search_by_key(&index, |(n, _)| *n) {
            Ok(at) => self.buckets[at].1,
            Err(_) => self.weights.bucket(index),
        }
    }

    fn trained(&self) -> TrainedMessages {
        self.weights.trained()
    }

    fn calibration(&self) -> &Calibration {
        self.weights.calibration()
    }
}
