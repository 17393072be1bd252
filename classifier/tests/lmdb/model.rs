//! A model of the modern engine in the database.

use std::borrow::Cow;
use std::path::Path;

use classifier::modern::{Act, Keep, Lesson, Params, Stored, Verdict, features, learn};
use classifier::store::Durability;
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::model::{ModelChanges, ModelStore};
use classifier::{Error, Label};

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
    store
        .judge(&[features(&mail(n))], &Params::default())
        .unwrap()[0]
}

fn state(store: &dyn ModelStore) -> Vec<u8> {
    let mut state = None;
    store
        .look(&mut |view| {
            state = view.state()?.map(Cow::into_owned);
            Ok(())
        })
        .unwrap();
    state.unwrap()
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
}

#[test]
fn a_newer_or_damaged_model_is_refused() {
    for is_newer in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        teach(&mut store, 1, Act::Learn(Label::Ham), 1);
        let mut state = state(&store);
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
