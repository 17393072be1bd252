use std::ops::Range;

use super::*;
use crate::TrainedMessages;
use crate::modern::encode::Run;
use crate::modern::{Stored, Weights as _, export};
use crate::store::MemoryModel;

const NOW: u64 = 1_800_000_000;

fn mail(n: u32, words: &str) -> Vec<u8> {
    format!("From: a{n}@example.org\nSubject: {words} {n}\n\n{words} number {n}\n").into_bytes()
}

fn teach(store: &mut MemoryModel, raw: &[u8], act: Act, now: u64, keep: &Keep) {
    let lesson = Lesson::new(raw, act);
    learn(store, &[lesson], now, keep, Durability::Relaxed).unwrap();
}

fn log_odds(store: &MemoryModel, raw: &[u8]) -> f64 {
    let stored = Stored::open(store).unwrap();
    score(&features(raw), &stored, &Params::default()).log_odds
}

/// All that is known, wherever it lies.
fn text(store: &MemoryModel) -> String {
    let mut text = Vec::new();
    export(store, &mut text, "text".as_ref()).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn learning_twice_changes_nothing_and_relearning_takes_back() {
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    let mut right = MemoryModel::default();
    for store in [&mut store, &mut right] {
        teach(store, &mail(1, "lunch"), Act::Learn(Label::Ham), 1, &keep);
    }
    let raw = mail(2, "watches");
    teach(&mut store, &raw, Act::Learn(Label::Ham), 2, &keep);
    for act in [
        Act::Learn(Label::Spam),
        Act::Learn(Label::Spam),
        Act::Correct(Label::Spam),
    ] {
        teach(&mut store, &raw, act, 3, &keep);
    }
    teach(&mut right, &raw, Act::Learn(Label::Spam), 3, &keep);
    assert!(text(&store) == text(&right));
    teach(&mut store, &raw, Act::Forget, 4, &keep);
    teach(&mut store, &mail(1, "lunch"), Act::Forget, 4, &keep);
    assert!(store.pages(0..u32::MAX).unwrap().is_empty());
    assert_eq!(log_odds(&store, &raw), 0.0);
}

fn lesson(n: u32, label: Label) -> Lesson {
    let words = match label {
        Label::Spam => "cheap watches and pills",
        Label::Ham => "lunch and a meeting",
    };
    Lesson::new(&mail(n, words), Act::Learn(label))
}

/// Learns messages of `label` one by one, at `now`.
fn teach_folder(store: &mut MemoryModel, label: Label, numbers: Range<u32>, now: u64) {
    for n in numbers {
        let keep = Keep::default();
        learn(store, &[lesson(n, label)], now, &keep, Durability::Relaxed).unwrap();
    }
}

/// Digests of messages that wait.
fn waiting(store: &MemoryModel) -> Vec<Digest> {
    let mut waiting = Vec::new();
    store
        .entries_by_age(&mut |_, digest, _| {
            let entry = store.entry(digest).unwrap();
            if entry.as_deref().and_then(Entry::waits_as).is_some() {
                waiting.push(*digest);
            }
            true
        })
        .unwrap();
    let state = Stored::open(store).unwrap().state().clone();
    let TrainedMessages { ham, spam } = state.waiting;
    assert_eq!((ham + spam) as usize, waiting.len());
    waiting.sort_unstable();
    waiting
}

#[test]
fn one_folder_after_the_other_teaches_as_much_as_mixed_mail() {
    for (first, second) in [(Label::Spam, Label::Ham), (Label::Ham, Label::Spam)] {
        for known in [0, 5] {
            let mut store = MemoryModel::default();
            teach_folder(&mut store, second, 100..100 + known, NOW);
            teach_folder(&mut store, first, 0..80, NOW);
            assert!(waiting(&store).len() > 10, "{first:?} first");
            teach_folder(&mut store, second, 0..80, NOW);
            assert_eq!(waiting(&store), [[0; 16]; 0], "{first:?} first");
            let (spam, ham) = (mail(90, "cheap pills"), mail(91, "a meeting"));
            assert!(log_odds(&store, &spam) > 1.0, "{first:?} first");
            assert!(log_odds(&store, &ham) < -1.0, "{first:?} first");
        }
    }
}

/// However many come in one second or in one change, and whatever the clock
/// says.
#[test]
fn whose_turn_it_is_depends_on_the_messages_alone() {
    let taught = |counts: [u32; 3], n_lessons: usize, now: &dyn Fn(u32) -> u64| {
        let mut store = MemoryModel::default();
        let ham = |n| lesson(n, Label::Ham);
        let all: Vec<_> = (100..100 + counts[0])
            .map(ham)
            .chain((0..counts[1]).map(|n| lesson(n, Label::Spam)))
            .chain((0..counts[2]).map(ham))
            .collect();
        for (n, lessons) in (0..).zip(all.chunks(n_lessons)) {
            let keep = Keep::default();
            learn(&mut store, lessons, now(n), &keep, Durability::Relaxed).unwrap();
        }
        let text = text(&store);
        let model = text.lines().filter(|line| !line.starts_with("entry"));
        (waiting(&store), model.collect::<Vec<_>>().join("\n"))
    };
    for counts in [
        [0, 30, 10],
        [3, 60, 20],
        [5, 5, 5],
        [1, 40, 20],
        [2, 60, 70],
    ] {
        let expected = taught(counts, 1, &|_| NOW);
        assert!(taught(counts, 1, &|n| NOW + u64::from(n)).0 == expected.0);
        assert!(taught(counts, 7, &|n| NOW - u64::from(n)).0 == expected.0);
        for n_lessons in [7, 1_000] {
            let found = taught(counts, n_lessons, &|_| NOW);
            assert!(found == expected, "{counts:?}, {n_lessons} a change");
        }
    }
}

/// However uneven it is: runs of one class are as long as they always were.
#[test]
fn mixed_mail_does_not_wait() {
    let mut store = MemoryModel::default();
    for n in 0..12 {
        teach_folder(&mut store, Label::Spam, n..n + 1, NOW);
        teach_folder(&mut store, Label::Ham, 20 * n..20 * (n + 1), NOW);
        assert!(n < 3 || waiting(&store).is_empty(), "{n}");
    }
}

#[test]
fn who_teaches_nothing_but_spam_waits_a_day() {
    const DAY: u64 = 24 * 60 * 60;
    let mut store = MemoryModel::default();
    teach_folder(&mut store, Label::Ham, 0..2, NOW);
    teach_folder(&mut store, Label::Spam, 0..60, NOW);
    let at_first = waiting(&store).len();
    assert!(at_first > 20);
    let mut before = at_first;
    for day in 1..=5 {
        teach_folder(
            &mut store,
            Label::Spam,
            100 + day..101 + day,
            NOW + u64::from(day) * (DAY + 1_000),
        );
        let now = waiting(&store).len();
        assert!(now < before || now <= 2, "{now} wait on day {day}");
        before = now;
    }
    assert!(before <= 2);

    // With nothing at all to compare with, it waits for ever.
    let mut store = MemoryModel::default();
    teach_folder(&mut store, Label::Spam, 0..3, NOW);
    teach_folder(&mut store, Label::Spam, 3..6, NOW + 100 * DAY);
    assert_eq!(waiting(&store).len(), 6);
}

#[test]
fn what_waits_can_be_taken_back_corrected_and_forgotten() {
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    teach_folder(&mut store, Label::Ham, 0..2, NOW);
    teach_folder(&mut store, Label::Spam, 0..60, NOW);
    let known = |store: &MemoryModel| Stored::open(store).unwrap().trained();
    let n = waiting(&store).len();
    let at_first = known(&store);
    let act = |store: &mut MemoryModel, n, act| {
        let raw = lesson(n, Label::Spam);
        learn(
            store,
            &[Lesson { act, ..raw }],
            NOW,
            &keep,
            Durability::Relaxed,
        )
        .unwrap();
    };
    assert_eq!(
        at_first,
        TrainedMessages {
            ham: 2,
            spam: 60 - n as u32
        }
    );
    // A person said what those are that wait.
    for digest in waiting(&store) {
        let learned = learned(&store, &digest).unwrap().unwrap();
        assert_eq!((learned.label, learned.own_verdict), (Label::Spam, false));
    }
    let number = |digest| (0..60).find(|n| lesson(*n, Label::Spam).digest == digest);
    let [first, second] = [0, 1].map(|at| number(waiting(&store)[at]).unwrap());

    act(&mut store, first, Act::Forget);
    assert_eq!(waiting(&store).len(), n - 1);
    assert_eq!(known(&store), at_first);
    // Learned at once as what it is, and two with it that wait.
    act(&mut store, second, Act::Correct(Label::Ham));
    assert_eq!(waiting(&store).len(), n - 4);
    let after = TrainedMessages {
        ham: 3,
        spam: at_first.spam + 2,
    };
    assert_eq!(known(&store), after);

    // What a full ledger lets go of does not wait any more.
    let mut alone = MemoryModel::default();
    teach_folder(&mut alone, Label::Spam, 0..60, NOW);
    let few = Keep { bytes: 4_000 };
    teach(&mut alone, &mail(200, "x"), Act::NoteFiled, NOW, &few);
    assert!(waiting(&alone).len() < 30);

    // A correction does not wait where it may have to outweigh what can no
    // longer be taken back.
    teach(
        &mut store,
        &mail(201, "x"),
        Act::NoteFiled,
        NOW,
        &Keep { bytes: 0 },
    );
    assert!(has_forgotten(&store).unwrap());
    teach_folder(&mut store, Label::Spam, 100..160, NOW);
    let n = waiting(&store).len();
    assert!(n > 0);
    teach(
        &mut store,
        &mail(202, "lunch"),
        Act::Correct(Label::Spam),
        NOW,
        &keep,
    );
    assert_eq!(waiting(&store).len(), n);

    let mut store = MemoryModel::default();
    teach_folder(&mut store, Label::Ham, 0..2, NOW);
    teach_folder(&mut store, Label::Spam, 0..60, NOW);
    for n in 0..60 {
        act(&mut store, n, Act::Forget);
    }
    for n in 0..2 {
        let ham = lesson(n, Label::Ham);
        let lessons = [Lesson {
            act: Act::Forget,
            ..ham
        }];
        learn(&mut store, &lessons, NOW, &keep, Durability::Relaxed).unwrap();
    }
    assert!(store.pages(0..u32::MAX).unwrap().is_empty());
    assert_eq!(Stored::open(&store).unwrap().state().run, Run::default());
}

#[test]
fn a_note_teaches_nothing_and_gives_way_to_what_people_say() {
    let keep = Keep::default();
    let raw = mail(1, "watches");
    let digest = Canonical::new(&raw).digest();
    let mut store = MemoryModel::default();
    teach(&mut store, &raw, Act::NoteFiled, 1, &keep);
    assert!(is_filed(&store, &digest).unwrap());
    assert_eq!(learned(&store, &digest).unwrap(), None);
    assert!(store.pages(0..u32::MAX).unwrap().is_empty());

    let mut right = MemoryModel::default();
    for store in [&mut store, &mut right] {
        teach(store, &raw, Act::Correct(Label::Ham), 2, &keep);
    }
    assert!(text(&store) == text(&right));
    teach(&mut store, &raw, Act::NoteFiled, 3, &keep);
    assert!(!is_filed(&store, &digest).unwrap());
    assert!(text(&store) == text(&right));

    // Gone, and not counted among what can no longer be undone.
    teach(&mut store, &mail(2, "x"), Act::NoteFiled, 4, &keep);
    let full = Keep { bytes: 0 };
    teach(&mut store, &mail(3, "y"), Act::NoteFiled, 5, &full);
    assert_eq!(Stored::open(&store).unwrap().state().n_expired, 1);
}

#[test]
fn delivery_does_not_make_another_message() {
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    let raw = mail(1, "lunch");
    teach(&mut store, &raw, Act::Learn(Label::Ham), 1, &keep);
    let before = text(&store);
    let arrived = [b"Received: from x\nX-Spam-Status: No\n", &raw[..]].concat();
    teach(&mut store, &arrived, Act::Learn(Label::Ham), 2, &keep);
    assert!(text(&store) == before);
    teach(&mut store, &arrived, Act::Forget, 3, &keep);
    assert!(store.pages(0..u32::MAX).unwrap().is_empty());
}

#[test]
fn what_has_expired_is_outweighed() {
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    for n in 0..20 {
        let ham = mail(n, "watches for lunch");
        teach(&mut store, &ham, Act::Learn(Label::Ham), 1, &keep);
        teach(
            &mut store,
            &mail(n, "cheap pills"),
            Act::Learn(Label::Spam),
            1,
            &keep,
        );
    }
    assert!(!has_forgotten(&store).unwrap());
    let wrong = mail(3, "watches for lunch");
    assert!(log_odds(&store, &wrong) < -1.0);
    let full = Keep { bytes: 0 };
    teach(&mut store, &mail(99, "other"), Act::NoteFiled, 100, &full);
    assert_eq!(Stored::open(&store).unwrap().state().n_expired, 40);
    assert!(has_forgotten(&store).unwrap());
    teach(&mut store, &wrong, Act::Correct(Label::Spam), 101, &keep);
    let after = log_odds(&store, &wrong);
    assert!(after > 1.0, "{after}");
}

/// Nor does a clock that jumps ahead empty it.
#[test]
fn nothing_is_forgotten_by_age() {
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    let ham = mail(1, "lunch");
    teach(&mut store, &ham, Act::Learn(Label::Ham), 1, &keep);
    teach(&mut store, &mail(2, "x"), Act::NoteFiled, u64::MAX, &keep);
    teach(&mut store, &ham, Act::Forget, 2, &keep);
    assert!(store.pages(0..u32::MAX).unwrap().is_empty());
}

#[test]
fn a_full_ledger_lets_the_oldest_go() {
    let keep = Keep { bytes: 5_000 };
    let mut store = MemoryModel::default();
    for n in 0..30 {
        let label = [Label::Ham, Label::Spam][n as usize % 2];
        teach(
            &mut store,
            &mail(n, label.name()),
            Act::Learn(label),
            NOW + u64::from(n),
            &keep,
        );
        let mut times = Vec::new();
        let mut bytes = 0;
        store
            .entries_by_age(&mut |time, _, len| {
                times.push(time);
                bytes += cost(len.into());
                true
            })
            .unwrap();
        let state = Stored::open(&store).unwrap().state().clone();
        assert_eq!(state.entry_bytes, bytes);
        assert!(bytes <= keep.bytes, "{bytes}");
        assert_eq!(times.last(), Some(&(NOW + u64::from(n))));
    }
    assert!(Stored::open(&store).unwrap().state().n_expired > 10);
}

#[test]
fn what_was_learned_and_who_said_so() {
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    let asked = |store: &MemoryModel, raw: &[u8]| {
        let digest = Canonical::new(raw).digest();
        let learned = learned(store, &digest).unwrap();
        learned.map(|learned| (learned.label, learned.own_verdict))
    };
    for n in 0..20 {
        for (words, label) in [("lunch", Label::Ham), ("pills", Label::Spam)] {
            teach(&mut store, &mail(n, words), Act::Learn(label), 1, &keep);
        }
    }
    let raw = mail(50, "pills");
    assert_eq!(asked(&store, &raw), None);
    teach(&mut store, &raw, Act::OwnVerdict, 2, &keep);
    assert_eq!(asked(&store, &raw), Some((Label::Spam, true)));
    teach(&mut store, &raw, Act::Correct(Label::Ham), 3, &keep);
    assert_eq!(asked(&store, &raw), Some((Label::Ham, false)));
}

#[test]
fn own_verdict_teaches_only_when_sure_and_is_taken_back() {
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    let raw = mail(1, "lunch");
    teach(&mut store, &raw, Act::OwnVerdict, 1, &keep);
    assert!(store.state().unwrap().is_none());
    for n in 0..20 {
        teach(
            &mut store,
            &mail(n, "lunch"),
            Act::Learn(Label::Ham),
            1,
            &keep,
        );
        teach(
            &mut store,
            &mail(n, "pills"),
            Act::Learn(Label::Spam),
            1,
            &keep,
        );
    }
    let before = text(&store);
    let new = mail(50, "lunch");
    teach(&mut store, &new, Act::OwnVerdict, 2, &keep);
    let after = text(&store);
    assert!(after != before);
    teach(&mut store, &new, Act::Forget, 2, &keep);
    assert!(text(&store) == before);
}

/// Sums age where all that a message would change is full; what is forgotten
/// leaves nothing all the same, in whichever order, under whichever label.
#[test]
fn a_model_that_forgot_all_is_as_new_though_its_sums_aged() {
    const MESSAGES: u32 = 2_800;
    let keep = Keep::default();
    let mut store = MemoryModel::default();
    let label = |n: u32| [Label::Ham, Label::Spam][(n * n / 3 % 2) as usize];
    // The same to a reader, since only the width of blanks differs.
    let raw = |n: u32| {
        let blanks = (0..12).map(|bit| [" word", "  word"][(n >> bit & 1) as usize]);
        format!(
            "Subject: the same\n\nin all{}\n",
            blanks.collect::<String>()
        )
        .into_bytes()
    };
    let mut teach_all = |act: &dyn Fn(u32) -> Act, factor: u32| {
        let lessons = (0..MESSAGES).map(|n| n * factor % MESSAGES);
        let lessons: Vec<_> = lessons.map(|n| Lesson::new(&raw(n), act(n))).collect();
        for (now, lessons) in (1..).zip(lessons.chunks(7)) {
            learn(&mut store, lessons, now, &keep, Durability::Relaxed).unwrap();
        }
        Stored::open(&store).unwrap().state().clone()
    };
    let state = teach_all(&|n| Act::Learn(label(n)), 1);
    assert!(state.age > 0, "no sum was full");
    teach_all(
        &|n| {
            if n % 3 == 0 {
                Act::Correct(label(n).other())
            } else {
                Act::OwnVerdict
            }
        },
        11,
    );
    let state = teach_all(&|_| Act::Forget, 13);
    assert_eq!((state.entry_bytes, state.n_expired), (0, 0));
    assert!(store.pages(0..u32::MAX).unwrap().is_empty());
    let probe = [features(&raw(3)), features(&raw(MESSAGES + 1))];
    let judged = store.judge(&probe, &Params::default()).unwrap();
    let new = MemoryModel::default()
        .judge(&probe, &Params::default())
        .unwrap();
    assert_eq!(judged, new);
}
