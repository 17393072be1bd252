//! The modern engine without a process around it, on one thread: messages of
//! about 5 kB against a trained model that is in memory already.
//!
//! Times are those of the thread.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use classifier::Label;
use classifier::modern::{
    Act, Canonical, Judge, Keep, Lesson, Model, Params, Record as Step, Stored, Verdict, Weights,
    features, learn,
};
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Durability, ModelStore};

use crate::filters::{Databases, Filter};
use crate::in_process::repeat;
use crate::mail::Mail;
use crate::record::{Bound, Goal, Record, Series};

pub(crate) const WORKLOAD: &str = "modern in memory";

/// What the 20 messages take, each in its turn, in microseconds a message.
pub(crate) fn all(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    rounds: usize,
) -> anyhow::Result<()> {
    let texts: Vec<&[u8]> = mail.samples.iter().map(|sample| &*sample.bytes).collect();
    let mut add = |contender, quantity, times: Vec<Duration>| {
        let microseconds = |time: &Duration| time.as_secs_f64() * 1e6 / texts.len() as f64;
        record.add(Series {
            workload: WORKLOAD,
            contender,
            quantity,
            unit: "µs",
            values: times.iter().map(microseconds).collect(),
        });
    };
    let n_features = features_pass(&texts);
    let times = repeat(rounds, || features_pass(&texts) == n_features)?;
    add("phase", "find features", times);

    let folder = databases.copy(Filter::Modern, WORKLOAD)?;
    let mut lmdb = open(&folder)?;
    let expected = judge_pass(&texts, &lmdb)?;
    let times = repeat(rounds, || {
        judge_pass(&texts, &lmdb).is_ok_and(|found| found == expected)
    })?;
    add("warm LMDB", "classify", times);
    let (held, mut model) = in_memory(&lmdb)?;
    let kept_bytes = held.n_bytes();
    let held = held.borrowed();
    let times = repeat(rounds, || score_pass(&texts, &held) == expected)?;
    add("pages in memory", "classify", times);
    let times = repeat(rounds, || score_pass(&texts, &model) == expected)?;
    add("decoded model", "classify", times);
    let found: Vec<_> = texts.iter().map(|text| features(text)).collect();
    let judge = Judge::new(&model, &Params::default());
    let judged = || found.iter().map(|features| judge.score(features));
    let times = repeat(rounds, || judged().eq(expected.iter().copied()))?;
    add("phase", "judge features", times);

    let times = train_model(&mut model, mail, rounds)?;
    ensure!(
        score_pass(&texts, &model) == expected,
        "not all was taken back"
    );
    add("decoded model", "train", times);
    let times = train_store(&mut lmdb, mail, rounds.min(100))?;
    add("warm LMDB, not synced", "train", times);
    record.add(Series {
        workload: WORKLOAD,
        contender: "pages in memory",
        quantity: "memory",
        unit: "MiB",
        values: vec![kept_bytes as f64 / (1 << 20) as f64],
    });
    for (quantity, bound) in [("classify", 100.0), ("train", 200.0)] {
        record.goal(Goal {
            workload: WORKLOAD,
            quantity,
            contender: "decoded model",
            peer: None,
            bound: Some(Bound::AtMost(bound)),
        });
    }
    Ok(())
}

pub(crate) fn open(folder: &Path) -> anyhow::Result<Lmdb> {
    let options = Options {
        engine: "modern",
        syncs: false,
        ..Options::default()
    };
    Ok(Lmdb::open(folder, &options)?)
}

/// A model as a host holds it between two messages, and one of plain numbers.
pub(crate) fn in_memory(lmdb: &Lmdb) -> anyhow::Result<(Stored<Arc<[u8]>>, Model)> {
    let mut loaded = None;
    lmdb.look(&mut |view| {
        loaded = Some(Stored::load(view)?);
        Ok(())
    })?;
    let held = loaded.ok_or_else(|| anyhow::anyhow!("no model"))?;
    let model = held.to_model();
    Ok((held, model))
}

/// Number of features.
pub(crate) fn features_pass(texts: &[&[u8]]) -> usize {
    let n = |text: &&[u8]| features(text).views.iter().map(Vec::len).sum::<usize>();
    texts.iter().map(n).sum()
}

pub(crate) fn score_pass(texts: &[&[u8]], weights: &impl Weights) -> Vec<Verdict> {
    let judge = Judge::new(weights, &Params::default());
    let verdict = |text: &&[u8]| judge.score(&features(text));
    texts.iter().map(verdict).collect()
}

/// One look at the model for each message.
pub(crate) fn judge_pass(texts: &[&[u8]], store: &Lmdb) -> anyhow::Result<Vec<Verdict>> {
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        all.extend(store.judge(&[features(text)], &Params::default())?);
    }
    Ok(all)
}

/// Each message as new and under the label that it has not, so that all views
/// learn: the dearest there is. Taken back after each round, without the time.
fn train_model(model: &mut Model, mail: &Mail, rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let steps = Cell::new(Vec::new());
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let train = || {
            let mut added = Vec::with_capacity(mail.samples.len());
            for sample in &mail.samples {
                let digest = Canonical::new(&sample.bytes).digest();
                let features = features(&sample.bytes);
                let mut step = Step::new(&features, sample.label.other(), model);
                model.add(&mut step);
                added.push((digest, step));
            }
            let all_learned = added.iter().all(|(_, step)| step.n_changes() > 0);
            steps.set(added);
            all_learned
        };
        times.extend(repeat(1, train)?);
        for (_, step) in steps.take() {
            model.take_back(&step);
        }
    }
    Ok(times)
}

/// The same through a store with its ledger: each message is a new one each
/// time, by a field that nobody else has.
fn train_store(lmdb: &mut Lmdb, mail: &Mail, rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let new = |sample: &crate::mail::Sample| {
            let mut raw = format!("X-Round: {round}\n").into_bytes();
            raw.extend_from_slice(&sample.bytes);
            (raw, sample.label)
        };
        let all: Vec<(Vec<u8>, Label)> = mail.samples.iter().map(new).collect();
        let keep = Keep::default();
        let mut train = || {
            all.iter().all(|(raw, label)| {
                let lesson = Lesson::new(raw, Act::Learn(*label));
                learn(lmdb, &[lesson], 1, &keep, Durability::Relaxed).is_ok()
            })
        };
        times.extend(repeat(1, &mut train)?);
    }
    Ok(times)
}
