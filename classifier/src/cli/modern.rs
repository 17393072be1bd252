//! `bmf` with the modern engine: what is asked of a model, and what is
//! printed of its answers.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::Serialize;

use super::database::Guarded;
use super::output::Answer;
use super::run::{Batch, has_words};
use super::wire::Ask;
use super::{Config, Mode, Output};
use crate::classic::Message;
use crate::modern::{
    Calibration, Class, Evidence, Explanation, Features, Keep, Lesson, Params, Stored, Verdict,
    Weights, explain, features, header_fields, learn, probability, score,
};
use crate::store::lmdb::Lmdb;
use crate::store::{Durability, ModelStore};
use crate::{Error, Label};

/// The answers to a batch, and what it teaches learned, in one change.
pub(super) fn answers(
    config: &Config,
    batch: &Batch,
    model: &Guarded<Lmdb>,
    durability: Durability,
) -> Result<Vec<Option<Answer>>, Error> {
    let Some(act) = config.mode.act() else {
        return test(batch, model, config.output);
    };
    let before = match (config.mode, config.output) {
        (Mode::Register, Output::Json | Output::Explanation) => {
            Some(test(batch, model, config.output)?)
        }
        _ => None,
    };
    let lesson = |message: &Message| has_words(message).then(|| Lesson::new(message, act));
    let lessons: Vec<_> = match batch.as_slice() {
        [message] => vec![lesson(message)],
        messages => messages.par_iter().map(lesson).collect(),
    };
    let is_lesson: Vec<_> = lessons.iter().map(Option::is_some).collect();
    let lessons: Vec<_> = lessons.into_iter().flatten().collect();
    let verdicts =
        model.change(move |store| learn(store, &lessons, now(), &Keep::default(), durability))?;
    if let Some(before) = before {
        return Ok(before);
    }
    let mut answers = verdicts
        .into_iter()
        .map(|verdict| learned_answer(config.mode, verdict));
    let answer = |is_lesson| if is_lesson { answers.next()? } else { None };
    Ok(is_lesson.into_iter().map(answer).collect())
}

/// The answer to a message that was learned, with the verdict that came first
/// where that was its label.
fn learned_answer(mode: Mode, verdict: Option<Verdict>) -> Option<Answer> {
    let judged = verdict.map(|verdict| Judged::new(verdict, None));
    let told = || mode.label().map(Judged::told);
    judged.or_else(told).map(Answer::Modern)
}

/// What a person said of a message, without asking a model.
pub(super) fn told(label: Label) -> Answer {
    Answer::Modern(Judged::told(label))
}

/// Scores in one state of the model.
pub(super) fn test(
    batch: &Batch,
    model: &Guarded<Lmdb>,
    output: Output,
) -> Result<Vec<Option<Answer>>, Error> {
    let batch = Arc::clone(batch);
    model.run(move |store| {
        let read = |message: &Message| has_words(message).then(|| features(message));
        let all: Vec<_> = match batch.as_slice() {
            [message] => vec![read(message)],
            messages => messages.par_iter().map(read).collect(),
        };
        let mut answers = Vec::new();
        store.look(&mut |view| {
            let stored = Stored::open(view)?;
            answers.clear();
            for (message, features) in batch.iter().zip(&all) {
                let features = features.as_ref();
                answers.push(features.map(|features| judge(message, features, &stored, output)));
            }
            Ok(())
        })?;
        Ok(answers)
    })
}

fn judge(message: &[u8], features: &Features, weights: &impl Weights, output: Output) -> Answer {
    let verdict = score(features, weights, &Params::default());
    let explanation = match output {
        Output::Nothing => None,
        // Nothing was compared.
        _ if verdict.views == [0.0; 3] => Some(Explanation::default()),
        _ => Some(explain(message, weights, N_EVIDENCE)),
    };
    Answer::Modern(Judged::new(verdict, explanation))
}

/// Does what `ask` says with one message that has words.
pub(super) fn answer(
    ask: &Ask,
    message: &[u8],
    store: &mut dyn ModelStore,
    now: u64,
) -> Result<Option<Answer>, Error> {
    let mut judged = None;
    let judges = match (ask.mode, ask.output) {
        (Mode::Test, _) | (Mode::Register, Output::Json | Output::Explanation) => true,
        (_, _) => false,
    };
    if let (true, Output::Nothing) = (judges, ask.output) {
        let verdicts = store.judge(&[features(message)], &Params::default())?;
        let verdict = verdicts.into_iter().next();
        judged = verdict.map(|verdict| Answer::Modern(Judged::new(verdict, None)));
    } else if judges {
        let features = features(message);
        store.look(&mut |view| {
            let stored = Stored::open(view)?;
            judged = Some(judge(message, &features, &stored, ask.output));
            Ok(())
        })?;
    }
    let Some(act) = ask.mode.act() else {
        return Ok(judged);
    };
    let lesson = Lesson::new(message, act);
    let verdicts = learn(store, &[lesson], now, &Keep::default(), ask.durability())?;
    let verdict = verdicts.into_iter().next().flatten();
    Ok(judged.or_else(|| learned_answer(ask.mode, verdict)))
}

/// Pieces of evidence each way.
const N_EVIDENCE: usize = 10;

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What is to be said of a message.
pub(super) struct Judged {
    class: Class,
    probability: f64,
    /// The probability above which a message is spam, and that at or below
    /// which it is ham.
    required: f64,
    allowed: f64,
    /// `None`: a person said what it is.
    verdict: Option<Verdict>,
    explanation: Option<Explanation>,
}

impl Judged {
    fn new(verdict: Verdict, explanation: Option<Explanation>) -> Self {
        Self {
            class: verdict.class,
            probability: verdict.probability,
            required: probability(verdict.cutoffs.spam),
            allowed: probability(verdict.cutoffs.ham),
            verdict: Some(verdict),
            explanation,
        }
    }

    /// What a person said, as bmf prints it.
    fn told(label: Label) -> Self {
        let cutoffs = Calibration::default().cutoffs(&Params::default());
        let (class, probability_told) = match label {
            Label::Ham => (Class::Ham, 0.0),
            Label::Spam => (Class::Spam, 1.0),
        };
        Self {
            class,
            probability: probability_told,
            required: probability(cutoffs.spam),
            allowed: probability(cutoffs.ham),
            verdict: None,
            explanation: None,
        }
    }

    pub(super) fn is_spam(&self) -> bool {
        self.class == Class::Spam
    }

    fn name(&self) -> &'static str {
        match self.class {
            Class::Ham => "ham",
            Class::Unsure => "unsure",
            Class::Spam => "spam",
        }
    }

    pub(super) fn header_fields(&self) -> String {
        header_fields(self.class, self.probability, self.required)
    }

    pub(super) fn write(&self, output: Output, out: &mut impl Write) -> io::Result<()> {
        match output {
            Output::Nothing => Ok(()),
            Output::Report => self.write_report(out),
            Output::Json => self.write_json(out),
            Output::Explanation => self.write_explanation(out),
        }
    }

    /// In the form of bmf's report.
    fn write_report(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "# Spamicity: {:.6}", self.probability)?;
        for Evidence {
            place,
            what,
            log_odds,
        } in self.evidence()
        {
            writeln!(
                out,
                "# '{}: {}' -> {log_odds:+.6}",
                place.escape_debug(),
                what.escape_debug()
            )?;
        }
        Ok(())
    }

    /// For spam, then for ham, strongest first.
    fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        let explanation = self.explanation.iter();
        explanation.flat_map(|explanation| explanation.spam.iter().chain(&explanation.ham))
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let evidence = self.evidence().map(|evidence| JsonEvidence {
            place: &evidence.place,
            what: &evidence.what,
            log_odds: evidence.log_odds,
        });
        let verdict = JsonVerdict {
            r#type: "verdict",
            version: 1,
            engine: "modern",
            verdict: self.name(),
            hits: self.probability,
            required: self.required,
            allowed: self.allowed,
            log_odds: self.verdict.map(|verdict| verdict.log_odds),
            evidence: evidence.collect(),
            change: self.change(),
        };
        serde_json::to_writer(&mut *out, &verdict)?;
        out.write_all(b"\n")
    }

    fn write_explanation(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{}: hits={:.6}, spam is above {:.6}, ham is at or below {:.6}",
            self.name(),
            self.probability,
            self.required,
            self.allowed
        )?;
        let Some(explanation) = &self.explanation else {
            return Ok(());
        };
        for (evidence, class) in [(&explanation.spam, "spam"), (&explanation.ham, "ham")] {
            if evidence.is_empty() {
                writeln!(out, "nothing speaks for {class}")?;
                continue;
            }
            writeln!(out, "log-odds  for {class}, strongest first")?;
            for Evidence {
                place,
                what,
                log_odds,
            } in evidence
            {
                let (place, what) = (place.escape_debug(), what.escape_debug());
                writeln!(out, "{log_odds:>+8.3}  {place}: {what}")?;
            }
        }
        match self.change() {
            Some(change) => writeln!(out, "{change}"),
            None => Ok(()),
        }
    }

    /// What would have changed the verdict.
    fn change(&self) -> Option<String> {
        let (verdict, explanation) = (self.verdict?, self.explanation.as_ref()?);
        let Verdict {
            log_odds, cutoffs, ..
        } = verdict;
        if verdict.views == [0.0; 3] {
            return Some(
                "without a learned ham and a learned spam, or a known feature, all is unsure"
                    .into(),
            );
        }
        let without = |evidence: &[Evidence], excess: f64, class: &str| {
            let mut left = excess;
            let n = evidence.iter().position(|evidence| {
                left -= evidence.log_odds.abs();
                left < 0.0
            });
            match n {
                Some(0) => format!("without the first piece for {class} it would be unsure"),
                Some(n) => format!(
                    "without the first {} pieces for {class} it would be unsure",
                    n + 1
                ),
                None => format!(
                    "without all these pieces for {class} it would still be {class}: it is \
                     {excess:.3} beyond the cutoff"
                ),
            }
        };
        Some(match self.class {
            Class::Spam => without(&explanation.spam, log_odds - cutoffs.spam, "spam"),
            Class::Ham => without(&explanation.ham, cutoffs.ham - log_odds, "ham"),
            Class::Unsure => format!(
                "with {:.3} more log-odds it would be spam, with {:.3} less ham",
                cutoffs.spam - log_odds,
                log_odds - cutoffs.ham
            ),
        })
    }
}

/// One line of `--json`. Fields are only ever added within a version.
#[derive(Serialize)]
struct JsonVerdict<'a> {
    r#type: &'static str,
    version: u32,
    engine: &'static str,
    verdict: &'static str,
    hits: f64,
    required: f64,
    allowed: f64,
    log_odds: Option<f64>,
    evidence: Vec<JsonEvidence<'a>>,
    change: Option<String>,
}

#[derive(Serialize)]
struct JsonEvidence<'a> {
    place: &'a str,
    what: &'a str,
    log_odds: f64,
}
