//! Models of many users: apart from each other, in memory and on disk, from
//! many threads.

use std::sync::Arc;
use std::thread;

use classifier::modern::{
    Act, Base, Keep, Lesson, Params, Verdict, Weights, export, features, learn,
};
use classifier::store::{Durability, ModelStore, TokenStore};
use classifier::{Error, Label};
use classifier_rocksdb::{HostStore, Options, Renamed, UserModel, UserStore};

use super::{listed, open, options, seen, spam};

fn mail(n: u32) -> Vec<u8> {
    let words: String = (0..40)
        .map(|word| format!("w{} ", (n * 7 + word * word) % 997))
        .collect();
    format!("From: a{n}@example.org\nSubject: s{n}\n\n{words}\n").into_bytes()
}

fn teach(model: &mut UserModel, n: u32, label: Label) -> Result<(), Error> {
    let lesson = Lesson::new(&mail(n), Act::Learn(label));
    learn(
        model,
        &[lesson],
        n.into(),
        &Keep::default(),
        Durability::Synced,
    )
    .map(drop)
}

/// Odd messages are spam.
fn label(n: u32) -> Label {
    if n.is_multiple_of(2) {
        Label::Ham
    } else {
        Label::Spam
    }
}

pub(super) fn taught(host: &HostStore, name: &str, messages: std::ops::Range<u32>) {
    for n in messages {
        teach(&mut host.model(name), n, label(n)).unwrap();
    }
}

pub(super) fn n_trained(host: &HostStore, name: &str) -> u32 {
    let trained = host.model(name).model().unwrap().trained();
    trained.ham + trained.spam
}

/// All of a model and its ledger.
pub(super) fn text(host: &HostStore, name: &str) -> String {
    let mut text = Vec::new();
    host.model(name)
        .look(&mut |view| export(view, &mut text, "text".as_ref()))
        .unwrap();
    String::from_utf8(text).unwrap()
}

fn verdict(host: &HostStore, name: &str, n: u32) -> Verdict {
    let judged = host
        .model(name)
        .judge(&[features(&mail(n))], &Params::default());
    judged.unwrap()[0]
}

#[test]
fn no_user_moves_the_verdict_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    taught(&host, "ann", 0..10);
    let before = verdict(&host, "ann", 3);
    assert!(before.log_odds > 1.0, "{before:?}");
    for n in 0..10 {
        teach(&mut host.model("bob"), n, label(n + 1)).unwrap();
    }
    assert_eq!(verdict(&host, "ann", 3), before);
    assert!(verdict(&host, "bob", 3).log_odds < -1.0);
    assert_eq!(verdict(&host, "eve", 3).log_odds, 0.0);
    assert_eq!(
        host.users().unwrap(),
        ["ann", "bob"],
        "asking makes no user"
    );
}

#[test]
fn a_model_goes_with_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    taught(&host, "ann", 0..10);
    host.user("ann")
        .apply(&spam(&["word"]), Durability::Synced)
        .unwrap();
    let before = verdict(&host, "ann", 3);
    assert_eq!(host.rename("ann", "anna").unwrap(), Renamed::Done);
    assert_eq!(verdict(&host, "anna", 3), before);
    assert_eq!(seen(&host.user("anna"), "word"), (1, 1));
    assert_eq!(verdict(&host, "ann", 3).log_odds, 0.0);

    let copy = dir.path().join("copy");
    host.checkpoint(&copy).unwrap();
    assert!(host.delete("anna").unwrap());
    assert_eq!(verdict(&host, "anna", 3).log_odds, 0.0);
    assert_eq!(host.model_cache().n_models, 0);
    drop(host);
    assert_eq!(verdict(&open(dir.path()), "anna", 3).log_odds, 0.0);
    assert_eq!(verdict(&open(&copy), "anna", 3), before);
}

/// The cache of these tests holds four young models.
#[test]
fn more_users_than_fit_into_memory() {
    const USERS: u32 = 60;
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let name = |user: u32| format!("user{user}");
    for user in 0..USERS {
        taught(&host, &name(user), user..user + 4);
    }
    let verdicts: Vec<_> = (0..USERS)
        .map(|user| verdict(&host, &name(user), user))
        .collect();
    let used = host.model_cache();
    assert!(used.n_bytes <= options().model_cache_bytes, "{used:?}");
    assert!(used.n_models > 2 && used.n_models < 55, "{used:?}");
    let again: Vec<_> = (0..USERS)
        .rev()
        .map(|user| verdict(&host, &name(user), user))
        .collect();
    assert!(again.iter().rev().eq(&verdicts));
    assert!(host.model_cache().n_misses > u64::from(USERS));
    drop(host);
    let none = Options {
        model_cache_bytes: 0,
        ..options()
    };
    let host = HostStore::open(dir.path(), &none).unwrap();
    for (user, expected) in (0..USERS).zip(&verdicts) {
        assert_eq!(verdict(&host, &name(user), user), *expected);
    }
    assert_eq!(host.model_cache().n_models, 0);
}

#[test]
fn a_warm_model_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    taught(&host, "ann", 0..4);
    let before = host.model_cache();
    for _ in 0..5 {
        verdict(&host, "ann", 3);
        teach(&mut host.model("ann"), 77, Label::Ham).unwrap();
    }
    let after = host.model_cache();
    assert_eq!(after.n_misses, before.n_misses);
    assert_eq!(after.n_hits, before.n_hits + 10);
}

/// Threads learn the same messages for two users; each message counts once,
/// and who judges meanwhile sees whole messages.
#[test]
fn threads_share_a_host() {
    const MESSAGES: u32 = 24;
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    thread::scope(|scope| {
        for thread in 0..4 {
            let host = &host;
            scope.spawn(move || {
                let name = ["ann", "bob"][thread % 2];
                for n in 0..MESSAGES {
                    let n = if thread < 2 { n } else { MESSAGES - 1 - n };
                    teach(&mut host.model(name), n, label(n)).unwrap();
                    verdict(host, name, n);
                }
            });
        }
    });
    drop(host);
    let host = open(dir.path());
    for name in ["ann", "bob"] {
        let trained = host.model(name).model().unwrap().trained();
        assert_eq!((trained.ham, trained.spam), (MESSAGES / 2, MESSAGES / 2));
    }
}

#[test]
fn a_failed_plan_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let fail = |model: &mut UserModel| {
        let refused = model.change(Durability::Synced, &mut |view| {
            Err(Error::Damaged {
                path: view.path().into(),
                detail: "test".into(),
            })
        });
        assert!(refused.is_err());
    };
    fail(&mut host.model("ann"));
    assert!(host.users().unwrap().is_empty());
    taught(&host, "ann", 0..4);
    let before = verdict(&host, "ann", 3);
    fail(&mut host.model("ann"));
    assert_eq!(verdict(&host, "ann", 3), before);
}

#[test]
fn users_of_a_base_begin_with_it_and_move_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let base = {
        let host = open(&dir.path().join("first"));
        taught(&host, "ann", 0..10);
        Base::of([&host.model("ann").model().unwrap().to_model()])
    };
    let with_base = Options {
        base: Some(Arc::new(base)),
        ..options()
    };
    let host = HostStore::open(&dir.path().join("second"), &with_base).unwrap();
    let before = verdict(&host, "bob", 3);
    assert!(before.log_odds > 1.0, "{before:?}");
    for n in 0..10 {
        teach(&mut host.model("ann"), n, label(n + 1)).unwrap();
    }
    assert!(verdict(&host, "ann", 3).log_odds < before.log_odds);
    taught(&host, "bob", 100..102);
    let forget: Vec<_> = (100..102)
        .map(|n| Lesson::new(&mail(n), Act::Forget))
        .collect();
    let mut bob = host.model("bob");
    learn(&mut bob, &forget, 1, &Keep::default(), Durability::Relaxed).unwrap();
    assert_eq!(verdict(&host, "bob", 3), before);
    assert_eq!(verdict(&host, "eve", 3), before);
}

#[test]
fn a_user_moves_to_another_host() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let (from, to) = (open(&from), open(&to));
    taught(&from, "ann", 0..10);
    let mut ann = from.user("ann");
    ann.apply(&spam(&["word"]), Durability::Synced).unwrap();
    let raw = mail(3);
    let learn_classic = |user: &mut UserStore| {
        let lesson = [(&raw[..], Act::Learn(Label::Spam))];
        let keep = Keep::default();
        user.learn(&lesson, 1, &keep, Durability::Synced).unwrap();
    };
    learn_classic(&mut ann);
    assert_eq!(from.engines("ann").unwrap(), ["classic", "modern"]);

    let mut stream = Vec::new();
    assert!(from.export("ann", &mut stream).unwrap());
    assert!(!from.export("bob", &mut Vec::new()).unwrap());
    taught(&to, "bob", 0..2);
    assert!(to.import("anna", &mut &stream[..]).unwrap());
    let text_before = text(&from, "ann");
    assert_eq!(text(&to, "anna"), text_before);
    assert_eq!(listed(&to.user("anna")).unwrap(), listed(&ann).unwrap());
    let mut anna = to.user("anna");
    let before = listed(&anna).unwrap();
    learn_classic(&mut anna);
    assert_eq!(listed(&anna).unwrap(), before, "its ledger came with it");
    assert!(
        !to.import("bob", &mut &stream[..]).unwrap(),
        "that is somebody"
    );

    // No other bytes are taken, and nothing is left of them.
    for len in (0..stream.len()).step_by(997).chain([stream.len() - 1]) {
        let error = to.import("eve", &mut &stream[..len]).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{len}: {error}");
    }
    let mut newer = stream.clone();
    newer[16] += 1;
    let error = to.import("eve", &mut &newer[..]).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
    assert_eq!(to.users().unwrap(), ["anna", "bob"]);
}
