//! The modern engine: an online filter of three logistic regressions that
//! read a message in three ways, learn in one pass, and can take back any
//! message they learned.
//!
//! [`features()`] turns bytes into hashes, [`score`] asks a model, [`Record::new`]
//! says what training would add, [`Model::add`] and [`Model::take_back`] do
//! and undo it. Nothing here does I/O or reads a clock. Why it is built this
//! way, and what else was measured, stands in docs/modern-engine.md.
//!
//! ```
//! use classifier::Label;
//! use classifier::modern::{self, Class, Model, Params, Record};
//!
//! let mut model = Model::default();
//! let spam = modern::features(b"Subject: Cheap watches\n\nBuy watches now");
//! let ham = modern::features(b"Subject: Lunch\n\nShall we meet tomorrow?");
//! let mut record = Record::new(&spam, Label::Spam, &model);
//! model.add(&mut record);
//! model.add(&mut Record::new(&ham, Label::Ham, &model));
//! let verdict = modern::score(&spam, &model, &Params::default());
//! assert!(verdict.log_odds > 0.0 && verdict.class != Class::Ham);
//!
//! // Without spam there is nothing to compare with.
//! model.take_back(&record);
//! let verdict = modern::score(&spam, &model, &Params::default());
//! assert_eq!((verdict.class, verdict.probability), (Class::Unsure, 0.5));
//! ```

mod base;
mod bits;
mod calibration;
mod canonical;
mod changing;
mod charset;
mod decoded;
mod distinct;
mod encode;
mod explain;
mod export;
mod features;
mod header;
mod ledger;
mod model;
mod near;
mod page;
mod recent;
mod record;
mod relations;
mod stored;
mod text;
mod weights;
mod words;

pub use base::Base;
pub use calibration::{Calibration, Cutoffs, Params};
pub use canonical::{Canonical, Digest};
pub use decoded::Decoded;
pub use explain::{Evidence, Explanation, Reading, explain};
pub use export::{Exported, export};
pub use features::{Features, View, features};
pub use header::header_fields;
pub use ledger::{Act, Keep, Learned, Lesson, has_forgotten, is_filed, learn, learned};
pub use model::Model;
pub use near::Near;
pub use page::{N_PAGES, PAGE_BUCKETS};
pub use record::{Record, again};
pub use stored::Stored;
pub use weights::{Bucket, N_BUCKETS, Weights};

/// The filter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wanted.
    Ham,
    /// Neither is sure enough for the budgets of [`Params`].
    Unsure,
    /// Unwanted.
    Spam,
}

impl Class {
    /// `ham`, `unsure` or `spam`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ham => "ham",
            Self::Unsure => "unsure",
            Self::Spam => "spam",
        }
    }
}

/// A decision and the numbers that made it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The decision.
    pub class: Class,
    /// Probability in `0.0..=1.0` that the message is spam.
    pub probability: f64,
    /// The sum of what the views say, less the middle between this user's
    /// ham and spam ([`Calibration::middle`]). Orders messages as
    /// `probability` does, without running out of digits.
    pub log_odds: f64,
    /// What each view says, in the order of [`View::ALL`].
    pub views: [f64; 3],
    /// What the log-odds were compared with.
    pub cutoffs: Cutoffs,
}

/// The three views see the same message, so that their sum is too sure. The
/// mean of a third and the whole fits the labels.
const LOG_ODDS_PER_PROBABILITY: f64 = 0.67;

/// The probability that a message of this log-odds is spam.
pub fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-LOG_ODDS_PER_PROBABILITY * log_odds).exp())
}

/// Judges a message by what `weights` have learned. Without a message of each
/// class there is nothing to compare with, and the answer is unsure.
pub fn score(features: &Features, weights: &impl Weights, params: &Params) -> Verdict {
    Judge::new(weights, params).score(features)
}

/// What judges messages one after another: what is the same for all of them is
/// reckoned once.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a, W> {
    weights: &'a W,
    middle: f64,
    cutoffs: Cutoffs,
}

impl<'a, W: Weights> Judge<'a, W> {
    /// A judge by what `weights` have learned.
    /// Cost: some microseconds.
    pub fn new(weights: &'a W, params: &Params) -> Self {
        let calibration = weights.calibration();
        Self {
            weights,
            middle: calibration.middle(),
            cutoffs: calibration.cutoffs(params),
        }
    }

    /// What it judges by.
    pub fn weights(&self) -> &'a W {
        self.weights
    }

    /// The verdict, as [`score`] gives it.
    pub fn score(&self, features: &Features) -> Verdict {
        let views = weights::believed(weights::log_odds(features, self.weights), self.weights);
        let middle = match views {
            [0.0, 0.0, 0.0] => 0.0,
            _ => self.middle,
        };
        let log_odds = views.iter().sum::<f64>() - middle;
        Verdict {
            class: if log_odds > self.cutoffs.spam {
                Class::Spam
            } else if log_odds <= self.cutoffs.ham {
                Class::Ham
            } else {
                Class::Unsure
            },
            probability: probability(log_odds),
            log_odds,
            views,
            cutoffs: self.cutoffs,
        }
    }
}
