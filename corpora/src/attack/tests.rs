use mail_parser::{MessageParser, MimeHeaders};

use super::*;
use crate::generate::{Generator, Options};

fn collection() -> Collection {
    let options = Options {
        seed: 7,
        n_messages: 600,
        ..Options::default()
    };
    Collection::new("made up".to_owned(), Generator::new(&options).collect())
}

fn knowledge(collection: &Collection) -> Knowledge {
    let learned: Vec<&Message> = collection.messages.iter().collect();
    let work = tempfile::tempdir().unwrap();
    let mut filter = FilterSpec::Modern.start(work.path()).unwrap();
    for message in &learned {
        filter.train(message.label, message).unwrap();
    }
    Knowledge::gather(&learned, filter.as_mut())
}

#[test]
fn an_attacker_knows_what_he_needs() {
    let known = knowledge(&collection());
    assert_eq!(known.hammy.len(), 100);
    assert!(known.words.len() > 1_000 && known.ham.len() > 100);
}

/// A disguise changes how a message says what it says, and neither who nor
/// what: an independent parser finds sender and subject as they were.
#[test]
fn a_disguised_message_is_still_that_message() {
    let collection = collection();
    let known = knowledge(&collection);
    let mut random = Random::new(1);
    for attack in ATTACKS {
        let Change::Spam(rewrite) = attack.change else {
            continue;
        };
        for message in collection.messages.iter().take(40) {
            let bytes = rewrite(&message.bytes, &known, &mut random);
            let [before, after] =
                [&message.bytes, &bytes].map(|raw| MessageParser::new().parse(raw).unwrap());
            assert_eq!(before.from(), after.from(), "{}", attack.name);
            assert_eq!(before.message_id(), after.message_id());
            if !matches!(attack.name, "zero-width" | "look-alikes") {
                assert_eq!(before.subject(), after.subject(), "{}", attack.name);
            }
            let content = after.content_type().map(|kind| kind.ctype().to_owned());
            assert!(content.is_some(), "{}", attack.name);
            let is_text = attack.name != "image-only";
            assert_eq!(is_text, !text(&bytes).trim().is_empty(), "{}", attack.name);
        }
    }
}

fn text(raw: &[u8]) -> String {
    knowledge::text(raw)
}

#[test]
fn a_regression_is_seen() {
    let collection = collection();
    let work = tempfile::tempdir().unwrap();
    let outcome = run(
        &collection,
        &FilterSpec::Modern,
        &ATTACKS[0],
        1,
        work.path(),
    )
    .unwrap();
    let again = work.path().join("again");
    let again = run(&collection, &FilterSpec::Modern, &ATTACKS[0], 1, &again).unwrap();
    assert_eq!(expect::Expected::of(&outcome), expect::Expected::of(&again));
    let file = work.path().join("expected.toml");
    expect::write(&file, &[again]).unwrap();
    let mut expected = expect::read(&file).unwrap();
    let outcomes = [outcome];
    assert!(expect::regressions(&outcomes, &expected).is_empty());
    let row = expected.get_mut("good-words").unwrap();
    row.missed = (row.missed - 30.0).max(-30.0);
    assert_eq!(expect::regressions(&outcomes, &expected).len(), 1);
    expected.clear();
    assert_eq!(expect::regressions(&outcomes, &expected).len(), 1);
}
