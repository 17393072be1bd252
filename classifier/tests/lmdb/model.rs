//! A model of the modern engine in the database.

use std::path::Path;

use classifier::modern::{Act, Keep, Lesson, Params, Stored, Verdict, features, learn, score};
use classifier::store::Durability;
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::model::{MemoryModel, ModelChanges, ModelStore, ModelView};
use classifier::{Error, Label};
use proptest::prelude::*;

fn open(dir: &Path) -> Lmdb {
    let options = Options {
        engine: "modern",
        syncs: false,
        ..Options::default()
    };
    Lmdb::open(dir, &options).unwrap()
}

fn mail(n: u8) -> Vec<u8> {
    let words: String = (0..30u32)
        .map(|word| format!("w{} ", (u32::from(n) * 7 + word * word) % 97))
        .collect();
    format!("Subject: s{n}\n\n{words}").into_bytes()
}

fn teach(store: &mut dyn ModelStore, n: u8, act: Act, now: u64) {
    let lesson = Lesson::new(&mail(n), act);
    learn(store, &[lesson], now, &Keep::default(), Durability::Relaxed).unwrap();
}

fn verdict(store: &dyn ModelStore, n: u8) -> Verdict {
    let mut verdict = None;
    store
        .look(&mut |view| {
            let stored = Stored::open(view)?;
            verdict = Some(score(&features(&mail(n)), &stored, &Params::default()));
            Ok(())
        })
        .unwrap();
    verdict.unwrap()
}

/// All that a store holds of a model.
type Dump = (
    Option<Vec<u8>>,
    Vec<(u32, Vec<u8>)>,
    Vec<(u64, [u8; 16], Vec<u8>)>,
);

fn dump(store: &dyn ModelStore) -> Dump {
    let mut dump = Dump::default();
    store
        .look(&mut |view: &dyn ModelView| {
            let pages = view.pages()?.into_iter();
            dump = (
                view.state()?.map(<[u8]>::to_vec),
                pages.map(|(n, page)| (n, page.to_vec())).collect(),
                Vec::new(),
            );
            let mut known = Vec::new();
            view.entries_by_age(&mut |time, digest, len| {
                known.push((time, *digest, len));
                true
            })?;
            for (time, digest, len) in known {
                let entry = view.entry(&digest)?.unwrap().to_vec();
                assert_eq!(entry.len(), len as usize);
                dump.2.push((time, digest, entry));
            }
            Ok(())
        })
        .unwrap();
    dump
}

fn act() -> impl Strategy<Value = Act> {
    let label = prop_oneof![Just(Label::Ham), Just(Label::Spam)];
    prop_oneof![
        4 => label.clone().prop_map(Act::Learn),
        2 => label.prop_map(Act::Correct),
        1 => Just(Act::OwnVerdict),
        2 => Just(Act::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever was trained, retrained and taken back: both stores hold the
    /// same, and once nothing is learned any more all is as in a new one.
    #[test]
    fn what_is_taken_back_was_never_there(
        steps in proptest::collection::vec((0u8..12, act()), 1..30),
        probe in any::<u8>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut lmdb = open(dir.path());
        let mut memory = MemoryModel::default();
        for (now, (n, act)) in (1u64..).zip(&steps) {
            teach(&mut lmdb, *n, *act, now);
            teach(&mut memory, *n, *act, now);
        }
        prop_assert_eq!(dump(&lmdb), dump(&memory));
        prop_assert_eq!(verdict(&lmdb, probe), verdict(&memory, probe));
        for n in 0..12 {
            teach(&mut lmdb, n, Act::Forget, 100);
        }
        let (_, pages, entries) = dump(&lmdb);
        prop_assert!(pages.is_empty() && entries.is_empty());
        prop_assert_eq!(verdict(&lmdb, probe), verdict(&MemoryModel::default(), probe));
    }
}

#[test]
fn a_missing_database_is_unsure_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        engine: "modern",
        ..Options::read_only()
    };
    let store = Lmdb::open(dir.path(), &options).unwrap();
    assert_eq!(verdict(&store, 1).probability, 0.5);
    assert_eq!(dump(&store), Dump::default());
}

#[test]
fn a_newer_or_damaged_model_is_refused() {
    for is_newer in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        teach(&mut store, 1, Act::Learn(Label::Ham), 1);
        let mut state = dump(&store).0.unwrap();
        state[0] += 1;
        let changes = match is_newer {
            true => ModelChanges {
                state: Some(state),
                ..ModelChanges::default()
            },
            false => ModelChanges {
                pages: [(3, Some(vec![77; 20]))].into(),
                ..ModelChanges::default()
            },
        };
        store
            .change(Durability::Relaxed, &mut |_| Ok(changes.clone()))
            .unwrap();
        let error = store
            .look(&mut |view| Stored::open(view).map(drop))
            .unwrap_err();
        match is_newer {
            true => assert!(matches!(error, Error::NewerFormat { .. }), "{error}"),
            false => assert!(matches!(error, Error::Damaged { .. }), "{error}"),
        }
        let lesson = Lesson::new(&mail(2), Act::Learn(Label::Spam));
        learn(
            &mut store,
            &[lesson],
            2,
            &Keep::default(),
            Durability::Relaxed,
        )
        .unwrap_err();
    }
}

#[test]
fn an_existing_database_says_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let any = Options {
        other_engines: &["classic", "modern"],
        ..Options::default()
    };
    assert_eq!(Lmdb::open(dir.path(), &any).unwrap().engine(), "classic");
    teach(&mut open(dir.path()), 1, Act::Learn(Label::Ham), 1);
    assert_eq!(Lmdb::open(dir.path(), &any).unwrap().engine(), "modern");
    let error = Lmdb::open(dir.path(), &Options::default()).unwrap_err();
    assert!(matches!(error, Error::OtherEngine { .. }), "{error}");
}
