//! The ledger of the classic engine.

use classifier::modern::{Act, Canonical, Keep};
use classifier::store::{Durability, TokenStore};
use classifier::{Label, TrainedMessages};
use classifier_rocksdb::UserStore;
use proptest::prelude::*;

use super::{Row, listed, open, spam};

fn mail(n: u8) -> Vec<u8> {
    let words: String = (0..20u32)
        .map(|word| format!("w{} ", (u32::from(n) * 7 + word * word) % 61))
        .collect();
    format!("Subject: s{n}\n\n{words}").into_bytes()
}

fn teach(user: &mut UserStore, n: u8, act: Act, now: u64, keep: &Keep) {
    let raw = mail(n);
    user.learn(&[(&raw, act)], now, keep, Durability::Relaxed)
        .unwrap();
}

fn learned(user: &UserStore, n: u8) -> Option<(Label, bool)> {
    let learned = user.learned(&Canonical::new(&mail(n)).digest()).unwrap();
    learned.map(|learned| (learned.label, learned.own_verdict))
}

/// Messages, and the tokens of which there are any.
fn counts(user: &UserStore) -> (TrainedMessages, Vec<Row>) {
    let (trained, mut rows) = listed(user).unwrap();
    rows.retain_mut(|(_, ham, spam)| {
        // Whether a list has a token that counts 0 says nothing.
        *ham = ham.filter(|n| *n > 0);
        *spam = spam.filter(|n| *n > 0);
        ham.is_some() || spam.is_some()
    });
    (trained, rows)
}

fn act() -> impl Strategy<Value = Act> {
    let label = prop_oneof![Just(Label::Ham), Just(Label::Spam)];
    prop_oneof![
        4 => label.clone().prop_map(Act::Learn),
        2 => label.prop_map(Act::Correct),
        1 => Just(Act::OwnVerdict),
        1 => Just(Act::NoteFiled),
        2 => Just(Act::Forget),
    ]
}

/// Counts are what the messages that are learned, each once and under its last
/// label, make in a new database; and nothing once none is.
#[test]
fn each_message_counts_once() {
    let steps = proptest::collection::vec((0..8u8, act(), any::<bool>()), 1..30);
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps)| {
        let dir = tempfile::tempdir().unwrap();
        let host = open(dir.path());
        let mut ann = host.user("ann");
        let keep = Keep::default();
        let mut batch = Vec::new();
        let all: Vec<_> = (0..8).map(mail).collect();
        for (now, (n, act, in_one)) in (1..).zip(&steps) {
            batch.push((&*all[usize::from(*n)], *act));
            if !in_one {
                ann.learn(&batch, now, &keep, Durability::Relaxed).unwrap();
                batch.clear();
            }
        }
        ann.learn(&batch, 50, &keep, Durability::Relaxed).unwrap();
        let mut bob = host.user("bob");
        for n in 0..8 {
            if let Some((label, _)) = learned(&ann, n) {
                teach(&mut bob, n, Act::Learn(label), 1, &keep);
            }
        }
        prop_assert_eq!(counts(&ann), counts(&bob));
        for n in 0..8 {
            teach(&mut ann, n, Act::Forget, 60, &keep);
        }
        prop_assert_eq!(counts(&ann), Default::default());
    });
}

#[test]
fn what_bmf_registered_before_is_corrected_as_bmf_does() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let mut ann = host.user("ann");
    let keep = Keep::default();
    teach(&mut ann, 1, Act::Correct(Label::Ham), 1, &keep);
    assert_eq!(counts(&ann).0, TrainedMessages { ham: 1, spam: 0 });
    assert!(!ann.has_unrecorded().unwrap());
    // Without a ledger.
    ann.apply(&spam(&["word"]), Durability::Synced).unwrap();
    teach(&mut ann, 2, Act::Correct(Label::Ham), 2, &keep);
    assert_eq!(counts(&ann).0, TrainedMessages { ham: 2, spam: 0 });
    teach(&mut ann, 3, Act::Correct(Label::Ham), 3, &keep);
    assert_eq!(counts(&ann).0, TrainedMessages { ham: 3, spam: 0 });
}

#[test]
fn a_note_teaches_nothing_and_gives_way_to_what_people_say() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let mut ann = host.user("ann");
    let keep = Keep::default();
    let is_filed = |user: &UserStore, n| user.is_filed(&Canonical::new(&mail(n)).digest()).unwrap();
    assert!(!is_filed(&ann, 1));
    teach(&mut ann, 1, Act::NoteFiled, 1, &keep);
    assert!(is_filed(&ann, 1));
    assert_eq!((learned(&ann, 1), counts(&ann)), (None, Default::default()));
    // A note is no message that counts hold, nor hides one that they do.
    ann.apply(&spam(&["word"]), Durability::Synced).unwrap();
    teach(&mut ann, 2, Act::Correct(Label::Ham), 2, &keep);
    assert_eq!(counts(&ann).0, TrainedMessages { ham: 1, spam: 0 });
    teach(&mut ann, 1, Act::Correct(Label::Spam), 3, &keep);
    assert!(!is_filed(&ann, 1));
    assert_eq!(learned(&ann, 1), Some((Label::Spam, false)));
    teach(&mut ann, 1, Act::NoteFiled, 4, &keep);
    assert_eq!(learned(&ann, 1), Some((Label::Spam, false)));
}

#[test]
fn entries_expire() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let mut ann = host.user("ann");
    let keep = Keep { bytes: 1_000 };
    for n in 0..8 {
        teach(&mut ann, n, Act::Learn(Label::Spam), n.into(), &keep);
    }
    let kept: Vec<_> = (0..8).filter(|n| learned(&ann, *n).is_some()).collect();
    assert!(kept.len() > 1 && kept.len() < 7, "{kept:?}");
    assert!(ann.has_unrecorded().unwrap());
    let oldest = |earliest| ann.oldest_entry(earliest).unwrap();
    assert_eq!(oldest(0), Some(kept[0].into()));
    assert_eq!((oldest(6), oldest(8)), (Some(6), None));
    assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]) && kept.ends_with(&[7]));
    // Not by age.
    teach(&mut ann, 101, Act::NoteFiled, u64::MAX, &Keep::default());
    assert_eq!(learned(&ann, 7), Some((Label::Spam, false)));
    let full = Keep { bytes: 0 };
    teach(&mut ann, 100, Act::Learn(Label::Ham), 30, &full);
    assert_eq!(learned(&ann, 7), None);
    assert_eq!(learned(&ann, 100), Some((Label::Ham, false)));
    // What is counted stays counted.
    assert_eq!(counts(&ann).0, TrainedMessages { ham: 1, spam: 8 });
}

#[test]
fn own_verdict_is_scored_and_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let mut ann = host.user("ann");
    let keep = Keep::default();
    for n in 10..50 {
        teach(&mut ann, n, Act::Learn(Label::Spam), 1, &keep);
    }
    let raw = mail(7);
    let scores = ann.learn(&[(&raw, Act::OwnVerdict)], 2, &keep, Durability::Relaxed);
    assert!(scores.unwrap()[0].as_ref().unwrap().hits > 0.9);
    assert_eq!(learned(&ann, 7), Some((Label::Spam, true)));
    teach(&mut ann, 7, Act::Correct(Label::Ham), 3, &keep);
    assert_eq!(learned(&ann, 7), Some((Label::Ham, false)));
    assert_eq!(counts(&ann).0, TrainedMessages { ham: 1, spam: 40 });
}
