use std::sync::{Arc, Mutex};

use super::*;

/// Remembers what it was told and answers by the first byte.
#[derive(Default)]
struct Diary {
    told: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn note(&self, what: &str, label: Label, message: &Message) -> Result<(), Error> {
        let line = format!("{what} {label:?} {}", message.id);
        self.told.lock().unwrap().push(line);
        Ok(())
    }
}

impl Filter for Diary {
    fn classify(&mut self, message: &Message) -> Result<Answer, Error> {
        let score = f64::from(message.bytes[0]);
        let verdict = if score > 100.0 {
            Verdict::Spam
        } else {
            Verdict::Ham
        };
        Ok(Answer { verdict, score })
    }

    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.note("train", label, message)
    }

    fn retrain(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.note("retrain", label, message)
    }

    fn explain(&mut self, _: &Message) -> Vec<String> {
        vec!["first byte".to_owned()]
    }

    fn finalise(&mut self) -> Result<Footprint, Error> {
        Ok(Footprint::default())
    }
}

fn collection(n: usize, role: impl Fn(usize) -> Role) -> Collection {
    let message = |n: usize| Message {
        id: n.to_string(),
        label: if n.is_multiple_of(2) {
            Label::Ham
        } else {
            Label::Spam
        },
        role: role(n),
        bytes: vec![if n.is_multiple_of(2) { 0 } else { 200 }],
    };
    Collection::new("test".to_owned(), (0..n).map(message).collect())
}

fn told(collection: &Collection, protocol: &Protocol) -> (Run, Vec<String>) {
    let diary = Diary::default();
    let told = diary.told.clone();
    let run = online(
        collection,
        Box::new(diary),
        protocol,
        Path::new("."),
        &|| {},
    )
    .unwrap();
    let told = told.lock().unwrap().clone();
    (run, told)
}

#[test]
fn immediate_feedback_tells_all_and_roles_decide() {
    let roles = [Role::ClassifyAndTrain, Role::ClassifyOnly, Role::TrainOnly];
    let collection = collection(6, |n| roles[n % 3]);
    let (run, told) = told(&collection, &Protocol::online(1, Feedback::Immediate));
    assert_eq!(
        told,
        ["train Ham 0", "train Ham 2", "train Spam 3", "train Spam 5"]
    );
    let classified: Vec<usize> = run.records.iter().map(|r| r.message).collect();
    assert_eq!(classified, [0, 1, 3, 4]);
    assert!(run.mistakes.is_empty());
    assert_eq!((run.cost.n_classified, run.cost.n_trained), (4, 4));
}

#[test]
fn no_feedback_after_the_first() {
    let collection = collection(10, |_| Role::default());
    let (run, told) = told(&collection, &Protocol::online(1, Feedback::First(3)));
    assert_eq!((run.records.len(), told.len()), (10, 3));
}

#[test]
fn partial_feedback_tells_about_its_share() {
    let collection = collection(1000, |_| Role::default());
    let (_, told) = told(&collection, &Protocol::online(1, Feedback::Partial(30.0)));
    assert!((250..350).contains(&told.len()), "{}", told.len());
}

#[test]
fn active_learning_keeps_to_its_budget_and_asks_near_the_border() {
    let mut collection = collection(600, |_| Role::default());
    // From the 100th on, every 20th message is near the border.
    for (n, message) in collection.messages.iter_mut().enumerate() {
        if n >= 100 && n.is_multiple_of(20) {
            message.bytes[0] = 100;
        }
    }
    let (_, told) = told(&collection, &Protocol::online(1, Feedback::Active(40)));
    assert!(told.len() <= 40);
    let border = told.iter().filter(|line| {
        let n: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
        n >= 100 && n.is_multiple_of(20)
    });
    assert!(border.count() >= 15, "{told:?}");
}

#[test]
fn wrong_labels_are_put_right_in_time() {
    let collection = collection(400, |_| Role::default());
    let protocol = Protocol {
        wrong_percent: 10.0,
        corrected_after: Some(5),
        ..Protocol::online(3, Feedback::Immediate)
    };
    let (_, told) = told(&collection, &protocol);
    let truth = |n: usize| if n.is_multiple_of(2) { "Ham" } else { "Spam" };
    let mut open = Vec::new();
    let mut n_wrong = 0;
    for line in &told {
        let words: Vec<&str> = line.split(' ').collect();
        let n: usize = words[2].parse().unwrap();
        match words[0] {
            "train" if words[1] != truth(n) => open.push(n),
            "train" => {
                let late = open.iter().find(|wrong| **wrong + 6 < n);
                assert_eq!(late, None, "at {n}");
            }
            _ => {
                assert_eq!((words[1], open.remove(0)), (truth(n), n));
                n_wrong += 1;
            }
        }
    }
    assert!((25..60).contains(&n_wrong), "{n_wrong}");
}

#[test]
fn each_fold_is_classified_once_by_one_that_did_not_see_it() {
    let mut generated: Vec<Message> = crate::generate::Generator::new(&crate::generate::Options {
        seed: 1,
        n_messages: 60,
        ..Default::default()
    })
    .collect();
    generated.truncate(60);
    let collection = Collection::new("test".to_owned(), generated);
    let work = tempfile::tempdir().unwrap();
    let protocol = Protocol {
        shuffle: Some(1),
        ..Protocol::online(1, Feedback::Folds(4))
    };
    let run = run(
        &collection,
        &FilterSpec::Classic,
        &protocol,
        work.path(),
        &|| {},
    )
    .unwrap();
    let mut classified: Vec<usize> = run.records.iter().map(|r| r.message).collect();
    assert_ne!(classified, (0..60).collect::<Vec<_>>());
    classified.sort_unstable();
    assert_eq!(classified, (0..60).collect::<Vec<_>>());
    assert_eq!(run.cost.n_trained, 4 * 45);
    for mistake in &run.mistakes {
        let record = run.records[mistake.record];
        let right = record.label == Label::Spam && record.answer.verdict == Verdict::Spam
            || record.label == Label::Ham && record.answer.verdict == Verdict::Ham;
        assert!(!right);
    }
}

#[test]
fn orders_differ_by_number_and_repeat_by_seed() {
    let collection = collection(50, |_| Role::default());
    let order = |shuffle| {
        let protocol = Protocol {
            shuffle,
            ..Protocol::online(1, Feedback::Immediate)
        };
        order(&collection, &protocol)
    };
    assert_eq!(order(None), (0..50).collect::<Vec<_>>());
    assert_eq!(order(Some(1)), order(Some(1)));
    assert_ne!(order(Some(1)), order(Some(2)));
}

/// On its own after the first messages: it learns what it said, and a mistake
/// that is seen is told as what it is.
#[test]
fn own_verdicts_are_learned_by_their_rule() {
    let mut collection = collection(40, |_| Role::ClassifyAndTrain);
    collection.messages[25].bytes = vec![0]; // Spam that it takes for ham.
    for (rule, expected) in [
        (OwnVerdicts::Full, ["train Ham 25", "retrain Spam 25"]),
        (OwnVerdicts::None, ["train Spam 19", "train Spam 25"]),
    ] {
        let protocol = Protocol {
            own_verdicts: rule,
            ..Protocol::online(1, Feedback::OwnVerdicts(100.0))
        };
        let (_, told) = told(&collection, &protocol);
        let lines = expected.map(|line| told.iter().filter(|told| *told == line).count());
        assert_eq!(lines, [1, 1], "{rule:?} {told:?}");
        assert_eq!(told.len(), if rule == OwnVerdicts::None { 21 } else { 41 });
    }
}

#[test]
fn a_protocol_says_what_it_is() {
    let protocol = Protocol {
        wrong_percent: 2.5,
        corrected_after: Some(7),
        ..Protocol::online(3, Feedback::OwnVerdicts(50.0))
    };
    assert_eq!(
        protocol.to_string(),
        "feedback own:50, own verdicts sure, 2.5 % of the labels wrong and put right after 7, seed 3"
    );
    let protocol = Protocol::online(1, Feedback::Active(20));
    assert_eq!(protocol.to_string(), "feedback active:20, seed 1");
}
