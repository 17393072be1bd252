//! A model of a store in plain numbers, for many messages.

use std::ops::Deref;
use std::sync::Arc;

use super::base::Base;
use super::calibration::Calibration;
use super::model::Model;
use super::stored::Stored;
use super::weights::{Bucket, Weights};
use crate::TrainedMessages;

/// A copy of a store's model that judges as [`Stored`] does. To make it costs
/// what some ten messages save, and 4 MiB of memory.
#[derive(Clone, Debug)]
pub struct Decoded {
    own: Model,
    base: Option<Arc<Base>>,
}

impl<B: Deref<Target = [u8]>> Stored<B> {
    /// This in plain numbers.
    pub fn decoded(&self) -> Decoded {
        Decoded {
            own: self.to_model(),
            base: self.base.clone(),
        }
    }
}

impl Weights for Decoded {
    #[inline]
    fn bucket(&self, index: u32) -> Bucket {
        with_base(self.own.bucket(index), self.base.as_deref(), index)
    }

    #[inline]
    fn expect(&self, index: u32) {
        self.own.expect(index);
    }

    fn trained(&self) -> TrainedMessages {
        trained_with_base(self.own.trained, self.base.as_deref())
    }

    fn calibration(&self) -> &Calibration {
        &self.own.calibration
    }
}

/// The sums of a bucket with what a base adds to the user's.
#[inline]
pub(super) fn with_base(own: Bucket, base: Option<&Base>, index: u32) -> Bucket {
    let Some(base) = base else {
        return own;
    };
    let base = base.bucket(index);
    Bucket {
        gradient: own.gradient + base.gradient,
        squares: own.squares + base.squares,
    }
}

pub(super) fn trained_with_base(own: TrainedMessages, base: Option<&Base>) -> TrainedMessages {
    let base = base.map(Base::trained).unwrap_or_default();
    TrainedMessages {
        ham: own.ham.saturating_add(base.ham),
        spam: own.spam.saturating_add(base.spam),
    }
}
