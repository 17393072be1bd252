//! The same for every [`ModelStore`]: whatever is trained, retrained and taken
//! back, it holds what [`MemoryModel`] holds, and nothing once nothing is
//! learned any more.

use std::borrow::Cow;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::modern::{Act, Digest, Keep, Lesson, Params, Verdict, features, learn};
use crate::store::Durability;
use crate::store::model::{MemoryModel, ModelStore};
use crate::{Error, Label};

/// Runs `cases` random sequences of lessons on the store that `open` opens in
/// an empty folder, and compares all it holds with [`MemoryModel`].
///
/// # Panics
/// When something differs, with the shortest sequence found that shows it.
pub fn check_model<S: ModelStore>(cases: u32, open: impl Fn(&Path) -> S) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = proptest::collection::vec(step(), 1..24);
    let result = TestRunner::new(config).run(&(steps, any::<u8>()), |(steps, probe)| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let run = || run(dir.path(), &open, &steps, probe);
        run().map_err(|error| TestCaseError::fail(error.to_string()))?
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Messages by number, taught in one change.
    Teach(Vec<(u8, Act)>, Durability),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let lessons = proptest::collection::vec((0..MESSAGES, act()), 1..4);
    let durability = prop_oneof![Just(Durability::Synced), Just(Durability::Relaxed)];
    prop_oneof![
        9 => (lessons, durability).prop_map(|(lessons, durability)| Step::Teach(lessons, durability)),
        1 => Just(Step::Reopen),
    ]
}

const MESSAGES: u8 = 12;

fn act() -> impl Strategy<Value = Act> {
    let label = prop_oneof![Just(Label::Ham), Just(Label::Spam)];
    prop_oneof![
        4 => label.clone().prop_map(Act::Learn),
        2 => label.prop_map(Act::Correct),
        1 => Just(Act::OwnVerdict),
        2 => Just(Act::Forget),
    ]
}

fn run<S: ModelStore>(
    dir: &Path,
    open: &impl Fn(&Path) -> S,
    steps: &[Step],
    probe: u8,
) -> Result<Result<(), TestCaseError>, Error> {
    let mut store = open(dir);
    let mut memory = MemoryModel::default();
    for (now, step) in (1..).zip(steps) {
        match step {
            Step::Teach(lessons, durability) => {
                let taught = teach(&mut store, lessons, now, *durability)?;
                let expected = teach(&mut memory, lessons, now, *durability)?;
                if taught != expected {
                    return Ok(Err(TestCaseError::fail("the verdicts differ")));
                }
            }
            Step::Reopen => {
                drop(store);
                store = open(dir);
            }
        }
    }
    let answers = [judged(&store, probe)?, judged(&memory, probe)?];
    let dumps = [dump(&store)?, dump(&memory)?];
    let all: Vec<_> = (0..MESSAGES).map(|n| (n, Act::Forget)).collect();
    teach(&mut store, &all, 100, Durability::Relaxed)?;
    let empty = dump(&store)?;
    let judged_by_none = [
        judged(&store, probe)?,
        judged(&MemoryModel::default(), probe)?,
    ];
    Ok((|| {
        prop_assert_eq!(answers[0], answers[1]);
        prop_assert!(dumps[0] == dumps[1], "what they hold differs");
        prop_assert!(empty.pages.is_empty() && empty.entries.is_empty());
        prop_assert_eq!(judged_by_none[0], judged_by_none[1]);
        Ok(())
    })())
}

fn teach(
    store: &mut dyn ModelStore,
    lessons: &[(u8, Act)],
    now: u64,
    durability: Durability,
) -> Result<Vec<Option<Verdict>>, Error> {
    let lessons = lessons.iter().map(|(n, act)| Lesson::new(&mail(*n), *act));
    let lessons: Vec<_> = lessons.collect();
    learn(store, &lessons, now, &Keep::default(), durability)
}

fn judged(store: &dyn ModelStore, n: u8) -> Result<Verdict, Error> {
    Ok(store.judge(&[features(&mail(n))], &Params::default())?[0])
}

/// A message; those of neighbouring numbers share words.
fn mail(n: u8) -> Vec<u8> {
    let words: String = (0..30u32)
        .map(|word| format!("w{} ", (u32::from(n) * 7 + word * word) % 97))
        .collect();
    format!("Subject: s{n}\n\n{words}").into_bytes()
}

/// All that a store holds of a model.
#[derive(Default, PartialEq)]
struct Dump {
    state: Option<Vec<u8>>,
    pages: Vec<(u32, Vec<u8>)>,
    entries: Vec<(u64, Digest, Vec<u8>)>,
}

fn dump(store: &dyn ModelStore) -> Result<Dump, Error> {
    let mut dump = Dump::default();
    store.look(&mut |view| {
        let pages = view.pages(0..u32::MAX)?.into_iter();
        dump = Dump {
            state: view.state()?.map(Cow::into_owned),
            pages: pages.map(|(n, page)| (n, page.into_owned())).collect(),
            entries: Vec::new(),
        };
        let mut known = Vec::new();
        view.entries_by_age(&mut |time, digest, len| {
            known.push((time, *digest, len));
            true
        })?;
        for (time, digest, len) in known {
            let entry = view.entry(&digest)?.unwrap_or_default().into_owned();
            assert_eq!(entry.len(), len as usize);
            dump.entries.push((time, digest, entry));
        }
        Ok(())
    })?;
    Ok(dump)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_conforms_to_itself() {
        // `Reopen` would empty it.
        let mut memory = MemoryModel::default();
        let lessons = [(1, Act::Learn(Label::Ham)), (2, Act::Learn(Label::Spam))];
        teach(&mut memory, &lessons, 1, Durability::Synced).unwrap();
        let dump = dump(&memory).unwrap();
        assert!(dump.state.is_some() && !dump.pages.is_empty() && dump.entries.len() == 2);
    }
}
