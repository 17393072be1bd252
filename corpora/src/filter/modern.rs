//! The modern engine in process: its model alone, and as `bmf` uses it.

use std::collections::HashMap;
use std::path::Path;

use classifier::Label;
use classifier::cli::Engine;
use classifier::modern::{
    self, Act, Class, Explanation, Keep, Lesson, Model, Params, Record, Stored, Weights,
};
use classifier::store::{Durability, ModelStore};

use super::{Answer, Filter, Verdict, own};
use crate::{Error, Message};

/// The modern engine over a model in memory. What it learned of each message
/// is kept, so that a correction takes back exactly that.
#[derive(Default)]
pub(super) struct Modern {
    model: Model,
    records: HashMap<String, Record>,
    /// Messages in the order in which they were learned.
    earlier: Vec<String>,
}

/// Pieces of evidence each way.
const N_EVIDENCE: usize = 10;

impl From<modern::Verdict> for Answer {
    fn from(verdict: modern::Verdict) -> Self {
        Self {
            verdict: match verdict.class {
                Class::Ham => Verdict::Ham,
                Class::Unsure => Verdict::Unsure,
                Class::Spam => Verdict::Spam,
            },
            score: verdict.log_odds,
        }
    }
}

fn explained(message: &Message, weights: &impl Weights, n: usize) -> Explanation {
    let features = modern::features(&message.bytes);
    modern::explain(&message.bytes, &features, weights, n)
}

fn lines(explanation: Explanation) -> Vec<String> {
    let mut all = [explanation.spam, explanation.ham].concat();
    all.sort_by(|a, b| b.log_odds.abs().total_cmp(&a.log_odds.abs()));
    let line = |e: &modern::Evidence| format!("{:+.3} {}: {}", e.log_odds, e.place, e.what);
    all.iter().map(line).collect()
}

impl Modern {
    /// As the ledger does while few messages are known.
    fn learn_again(&mut self) {
        for at in modern::again(self.model.trained(), self.earlier.len()) {
            let record = self.records.get_mut(&self.earlier[at]);
            let Some(record) = record.filter(|record| record.may_come_again()) else {
                continue;
            };
            self.model.take_back(record);
            *record = record.clone().again(&self.model);
            self.model.add(record);
        }
    }

    fn learn(&mut self, label: Label, message: &Message) {
        let features = modern::features(&message.bytes);
        let mut record = Record::new(&features, label, &self.model);
        self.model.add(&mut record);
        self.records.insert(message.id.clone(), record);
    }
}

impl Filter for Modern {
    fn classify(&mut self, message: &Message) -> Result<Answer, Error> {
        let features = modern::features(&message.bytes);
        Ok(modern::score(&features, &self.model, &Params::default()).into())
    }

    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.learn_again();
        self.learn(label, message);
        self.earlier.push(message.id.clone());
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
        let Some(record) = self.records.remove(&message.id) else {
            return self.train(label, message);
        };
        self.model.take_back(&record);
        self.learn(label, message);
        Ok(())
    }

    fn explain(&mut self, message: &Message) -> Vec<String> {
        lines(explained(message, &self.model, N_EVIDENCE))
    }

    /// Words, pairs and pieces of the text of ham, by their weights.
    fn hammiest(&mut self, messages: &[&Message]) -> Vec<String> {
        const MAX_MESSAGES: usize = 200;
        const N_EACH: usize = 60;
        let mut weights: HashMap<String, f64> = HashMap::new();
        let ham = messages.iter().filter(|m| m.label == Label::Ham);
        for message in ham.take(MAX_MESSAGES) {
            let explanation = explained(message, &self.model, N_EACH);
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

    /// The model alone: there is no ledger.
    fn save(&self, dir: &Path) -> Result<Option<Engine>, Error> {
        own::save_model(&self.model, dir).map(Some)
    }
}

/// The modern engine as `bmf` uses it: through the ledger, over a store.
pub(super) struct Ledger {
    store: Box<dyn ModelStore + Send>,
    /// Seconds since 1970. Each lesson takes one, so that the ledger knows their
    /// order; no entry expires in a run.
    now: u64,
}

impl Ledger {
    pub(super) fn new(store: Box<dyn ModelStore + Send>, now: u64) -> Self {
        Self { store, now }
    }

    fn learn(&mut self, act: Act, message: &Message) -> Result<(), Error> {
        let lesson = Lesson::new(&message.bytes, act);
        let keep = Keep::default();
        self.now += 1;
        modern::learn(
            &mut *self.store,
            &[lesson],
            self.now,
            &keep,
            Durability::Relaxed,
        )?;
        Ok(())
    }
}

impl Filter for Ledger {
    fn classify(&mut self, message: &Message) -> Result<Answer, Error> {
        let features = modern::features(&message.bytes);
        let verdicts = self.store.judge(&[features], &Params::default())?;
        let verdict = verdicts.first().copied();
        Ok(verdict.map_or(Answer::FAILED, Answer::from))
    }

    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.learn(Act::Learn(label), message)
    }

    /// The ledger has its own rule, which knows no shares.
    fn train_own(&mut self, _said: Label, message: &Message, _share: f64) -> Result<(), Error> {
        self.learn(Act::OwnVerdict, message)
    }

    fn retrain(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.learn(Act::Correct(label), message)
    }

    fn explain(&mut self, message: &Message) -> Vec<String> {
        let mut explanation = Explanation::default();
        let looked = self.store.look(&mut |view| {
            let stored = Stored::open(view)?;
            if stored.trained().ham > 0 && stored.trained().spam > 0 {
                explanation = explained(message, &stored, N_EVIDENCE);
            }
            Ok(())
        });
        match looked {
            Ok(()) => lines(explanation),
            Err(_) => Vec::new(),
        }
    }

    fn save(&self, dir: &Path) -> Result<Option<Engine>, Error> {
        own::save_stored(&*self.store, dir).map(Some)
    }
}
