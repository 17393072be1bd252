//! The modern engine in process.

use std::collections::HashMap;

use classifier::Label;
use classifier::modern::{self, Class, Model, N_BUCKETS, Params, Record};

use super::{Answer, Filter, Footprint, Verdict};
use crate::{Error, Message};

/// The modern engine over a model in memory. What it learned of each message
/// is kept, so that a correction takes back exactly that.
#[derive(Default)]
pub(super) struct Modern {
    model: Model,
    records: HashMap<String, Record>,
}

impl Filter for Modern {
    fn classify(&mut self, message: &Message) -> Result<Answer, Error> {
        let features = modern::features(&message.bytes);
        let verdict = modern::score(&features, &self.model, &Params::default());
        Ok(Answer {
            verdict: match verdict.class {
                Class::Ham => Verdict::Ham,
                Class::Unsure => Verdict::Unsure,
                Class::Spam => Verdict::Spam,
            },
            score: verdict.log_odds,
        })
    }

    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        let features = modern::features(&message.bytes);
        let mut record = Record::new(&features, label, &self.model);
        self.model.add(&mut record);
        self.records.insert(message.id.to_string(), record);
        Ok(())
    }

    fn train_own(&mut self, said: Label, message: &Message, share: f64) -> Result<(), Error> {
        let features = modern::features(&message.bytes);
        let record = Record::new(&features, said, &self.model);
        let mut record = record.weakened(share).uncalibrated();
        self.model.add(&mut record);
        self.records.insert(message.id.clone(), record);
        Ok(())
    }

    fn retrain(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        if let Some(record) = self.records.remove(&message.id.to_string()) {
            self.model.take_back(&record);
        }
        self.train(label, message)
    }

    fn explain(&mut self, message: &Message) -> Vec<String> {
        let explanation = modern::explain(&message.bytes, &self.model, 10);
        let mut all = [explanation.spam, explanation.ham].concat();
        all.sort_by(|a, b| b.log_odds.abs().total_cmp(&a.log_odds.abs()));
        let line = |e: &modern::Evidence| format!("{:+.3} {} {}", e.log_odds, e.place, e.what);
        all.iter().map(line).collect()
    }

    /// Words, pairs and pieces of the text of ham, by their weights.
    fn hammiest(&mut self, messages: &[&Message]) -> Vec<String> {
        const MAX_MESSAGES: usize = 200;
        const N_EACH: usize = 60;
        let mut weights: HashMap<String, f64> = HashMap::new();
        let ham = messages.iter().filter(|m| m.label == Label::Ham);
        for message in ham.take(MAX_MESSAGES) {
            let explanation = modern::explain(&message.bytes, &self.model, N_EACH);
            for evidence in explanation.ham.into_iter().filter(|e| e.place == "text") {
                let words = evidence.what.replace(" … ", " and ");
                let weight = weights.entry(words).or_default();
                *weight = weight.min(evidence.log_odds);
            }
        }
        let mut ranked: Vec<(f64, String)> = weights.into_iter().map(|(w, k)| (k, w)).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        ranked.into_iter().map(|(_, words)| words).collect()
    }

    /// The table of buckets, which never grows.
    fn finalise(&mut self) -> Result<Footprint, Error> {
        Ok(Footprint {
            database_bytes: u64::from(N_BUCKETS) * 4,
            ..Footprint::default()
        })
    }
}
