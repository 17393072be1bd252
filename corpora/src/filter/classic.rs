//! The classic engine in process.

use std::path::Path;

use classifier::classic::{self, Params, Score, Scorer};
use classifier::cli::Engine;
use classifier::store::{Durability, TokenStore};
use classifier::{Changes, Label};

use super::{Answer, Filter, Verdict, own};
use crate::{Error, Message};

/// bmf's algorithm over the counts in a store.
pub(super) struct Classic {
    store: Box<dyn TokenStore + Send>,
    scorer: Scorer,
    changes: Changes,
}

impl Classic {
    pub(super) fn new(store: Box<dyn TokenStore + Send>) -> Self {
        Self {
            store,
            scorer: Scorer::default(),
            changes: Changes::default(),
        }
    }

    fn score(&mut self, message: &Message) -> Result<Score, Error> {
        Ok(self
            .scorer
            .score(&message.bytes, &*self.store, &Params::bmf())?)
    }

    fn learn(
        &mut self,
        label: Label,
        message: &Message,
        take_back: Option<Label>,
    ) -> Result<(), Error> {
        let tokens = classic::message_tokens(&message.bytes);
        self.changes.clear();
        self.changes.learn(label, &tokens);
        if let Some(other) = take_back {
            self.changes.unlearn(other, &tokens);
        }
        Ok(self.store.apply(&self.changes, Durability::Relaxed)?)
    }
}

impl Filter for Classic {
    fn classify(&mut self, message: &Message) -> Result<Answer, Error> {
        let score = self.score(message)?;
        let verdict = if score.is_spam(&Params::bmf()) {
            Verdict::Spam
        } else {
            Verdict::Ham
        };
        Ok(Answer {
            verdict,
            score: score.hits,
        })
    }

    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.learn(label, message, None)
    }

    fn retrain(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.learn(label, message, Some(label.other()))
    }

    fn explain(&mut self, message: &Message) -> Vec<String> {
        let Ok(mut score) = self.score(message) else {
            return Vec::new();
        };
        let deviation = |spamicity: f64| (spamicity - 0.5).abs();
        score
            .evidence
            .sort_by(|a, b| deviation(b.spamicity).total_cmp(&deviation(a.spamicity)));
        let line = |e: &classic::Evidence| {
            format!(
                "{:.6} {} (ham {}, spam {})",
                e.spamicity,
                e.token.as_bytes().escape_ascii(),
                e.counts.ham,
                e.counts.spam
            )
        };
        score.evidence.iter().map(line).collect()
    }

    fn save(&self, dir: &Path) -> Result<Option<Engine>, Error> {
        own::save_counts(&*self.store, dir).map(Some)
    }
}
