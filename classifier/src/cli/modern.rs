//! `bmf` with the modern engine: what is asked of a model and taught to it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::database::Guarded;
use super::judged::Judged;
use super::output::Answer;
use super::run::{Batch, has_words};
use super::wire::Ask;
use super::{Config, Mode, Output};
use crate::classic::Message;
use crate::modern::{
    Decoded, Explanation, Features, Judge, Keep, Lesson, Near, Params, Reading, Stored, Verdict,
    Weights, explain, features, learn,
};
use crate::store::lmdb::Lmdb;
use crate::store::{Durability, ModelStore};
use crate::{Error, Label};

/// The answers to a batch, and what it teaches learned, in one change. `decoded`
/// is the model of a run that learns nothing, once it was needed.
pub(super) fn answers(
    config: &Config,
    batch: &Batch,
    model: &Guarded<Lmdb>,
    durability: Durability,
    decoded: &mut Option<Arc<Decoded>>,
) -> Result<Vec<Option<Answer>>, Error> {
    let Some(act) = config.mode.act() else {
        return test(batch, model, config.output, decoded);
    };
    let before = match (config.mode, config.output) {
        (Mode::Register, Output::Json | Output::Explanation) => {
            Some(test(batch, model, config.output, &mut None)?)
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

/// Scores a batch. For many messages the whole model is decoded first, once for
/// a run that changes nothing: `decoded` keeps it for the next batch.
pub(super) fn test(
    batch: &Batch,
    model: &Guarded<Lmdb>,
    output: Output,
    decoded: &mut Option<Arc<Decoded>>,
) -> Result<Vec<Option<Answer>>, Error> {
    if batch.len() < MIN_DECODED && decoded.is_none() {
        return test_few(batch, model, output);
    }
    let decoded = match decoded {
        Some(decoded) => decoded,
        None => decoded.insert(decode(model)?),
    };
    let judge = Judge::new(&**decoded, &Params::default());
    let answers = batch.par_iter().with_min_len(MIN_AT_ONCE).map(|message| {
        let features = has_words(message).then(|| features(message))?;
        Some(answer_of(message, &features, &judge, output))
    });
    Ok(answers.collect())
}

/// Messages for which it pays to decode the whole model first: that costs what
/// some ten of them save.
const MIN_DECODED: usize = 32;

/// Messages that a thread takes at once.
const MIN_AT_ONCE: usize = 8;

fn decode(model: &Guarded<Lmdb>) -> Result<Arc<Decoded>, Error> {
    model.run(|store| {
        let mut decoded = None;
        store.look(&mut |view| {
            decoded = Some(Arc::new(Stored::open(view)?.decoded()));
            Ok(())
        })?;
        Ok(decoded.expect("a store shows one state"))
    })
}

/// Scores by the model where it lies, in one state of it.
fn test_few(
    batch: &Batch,
    model: &Guarded<Lmdb>,
    output: Output,
) -> Result<Vec<Option<Answer>>, Error> {
    let batch = Arc::clone(batch);
    model.run(move |store| {
        // Read before the look, which is to be short.
        let found: Vec<_> = batch
            .iter()
            .map(|message| has_words(message).then(|| features(message)))
            .collect();
        let mut answers = Vec::new();
        store.look(&mut |view| {
            let stored = Stored::open(view)?;
            let answer = |(message, features): (&Message, &Option<Features>)| {
                let features = features.as_ref()?;
                let near = Near::new(features, &stored);
                let judge = Judge::new(&near, &Params::default());
                Some(answer_of(message, features, &judge, output))
            };
            answers = batch.iter().zip(&found).map(answer).collect();
            Ok(())
        })?;
        Ok(answers)
    })
}

fn answer_of(
    message: &[u8],
    features: &Features,
    judge: &Judge<'_, impl Weights>,
    output: Output,
) -> Answer {
    let verdict = judge.score(features);
    let explanation = match output {
        Output::Nothing | Output::Terse => None,
        // Nothing was compared.
        _ if verdict.views == [0.0; 3] => Some(Explanation::default()),
        _ => Some(explain(message, features, judge.weights(), N_EVIDENCE)),
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
    if let (true, Output::Nothing | Output::Terse) = (judges, ask.output) {
        let verdicts = store.judge(&[features(message)], &Params::default())?;
        let verdict = verdicts.into_iter().next();
        judged = verdict.map(|verdict| Answer::Modern(Judged::new(verdict, None)));
    } else if judges {
        let params = Params::default();
        let (verdict, explanation) = store.explain(&Reading::new(message), &params, N_EVIDENCE)?;
        judged = Some(Answer::Modern(Judged::new(verdict, Some(explanation))));
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
