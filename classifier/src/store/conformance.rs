//! One property test for every store: whatever sequence of changes it sees,
//! it answers as [`Memory`] does, also after it was closed and opened again.
//!
//! Compiled for tests, and with the feature `conformance` for the stores that
//! live in crates of their own.
//!
//! ```ignore
//! #[test]
//! fn behaves_like_memory() {
//!     conformance::check(64, Listing::WhenAdded, |dir| MyStore::open(dir).unwrap());
//! }
//! ```

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{Durability, Entry, Memory, TokenLookup, TokenStore};
use crate::{
    Adjustment, Changes, Error, Label, MessageTokens, Token, TokenCounts, TrainedMessages,
};

mod model;

pub use model::check_model;

/// When a token is entered in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Not because of a subtraction alone: bmf's db format, and [`Memory`].
    WhenAdded,
    /// With its first change, be it a subtraction: bmf's text format, where
    /// moreover the numbers of messages wrap below 0.
    WhenTouched,
}

/// Runs `cases` random sequences of calls on the store that `open` opens in
/// an empty folder, and compares each answer with [`Memory`]'s.
///
/// # Panics
/// When an answer differs, with the shortest sequence found that shows it.
pub fn check<S: TokenStore>(cases: u32, listing: Listing, open: impl Fn(&Path) -> S) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = proptest::collection::vec(step(), 0..12);
    TestRunner::new(config)
        .run(&steps, |steps| run(&steps, listing, &open))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// One call of a test sequence. Words are indices into a small vocabulary,
/// so that sequences meet the same token again.
#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Lesson>, Durability),
    Replace(TrainedMessages, Vec<Listed>),
    Reopen,
}

#[derive(Clone, Debug)]
struct Lesson {
    label: Label,
    takes_back: bool,
    words: Vec<u8>,
}

type Listed = (u8, Option<u32>, Option<u32>);

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![Just(Durability::Synced), Just(Durability::Relaxed)];
    let apply = (proptest::collection::vec(lesson(), 0..4), durability)
        .prop_map(|(l, d)| Step::Apply(l, d));
    let entry = (any::<u8>(), count(), count())
        .prop_filter("a token of no list is no entry", |(_, ham, spam)| {
            ham.is_some() || spam.is_some()
        });
    let replace = (0..9u32, 0..9u32, proptest::collection::vec(entry, 0..40))
        .prop_map(|(ham, spam, entries)| Step::Replace(TrainedMessages { ham, spam }, entries));
    prop_oneof![6 => apply, 1 => replace, 2 => Just(Step::Reopen)]
}

fn lesson() -> impl Strategy<Value = Lesson> {
    let label = prop_oneof![Just(Label::Ham), Just(Label::Spam)];
    let words = proptest::collection::vec(any::<u8>(), 0..30);
    (label, any::<bool>(), words).prop_map(|(label, takes_back, words)| Lesson {
        label,
        takes_back,
        words,
    })
}

/// Small counts, and those at the limit, which must not wrap.
fn count() -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(prop_oneof![4 => 0..6u32, 1 => u32::MAX - 2..=u32::MAX])
}

fn run<S: TokenStore>(
    steps: &[Step],
    listing: Listing,
    open: &impl Fn(&Path) -> S,
) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir()?;
    let mut memory = Memory::default();
    let mut store = open(dir.path());
    for step in steps {
        match step {
            Step::Apply(lessons, durability) => {
                let changes = changes(lessons);
                match listing {
                    Listing::WhenAdded => memory.apply(&changes, *durability),
                    Listing::WhenTouched => apply_as_text(&mut memory, &changes, *durability),
                }
                .map_err(fail)?;
                store.apply(&changes, *durability).map_err(fail)?;
            }
            Step::Replace(trained, listed) => {
                replace(&mut memory, *trained, listed).map_err(fail)?;
                replace(&mut store, *trained, listed).map_err(fail)?;
            }
            Step::Reopen => {
                drop(store);
                store = open(dir.path());
            }
        }
        compare(&memory, &store)?;
    }
    Ok(())
}

fn fail(error: Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

fn compare(memory: &Memory, store: &impl TokenStore) -> Result<(), TestCaseError> {
    prop_assert_eq!(listed(store).map_err(fail)?, listed(memory).map_err(fail)?);
    // Neither in the order of the store, and with unknown tokens between.
    let tokens: Vec<_> = (0..=u8::MAX).rev().map(token).collect();
    let (mut found, mut expected) = (vec![TokenCounts::default()], Vec::new());
    let trained = store.lookup(&tokens, &mut found).map_err(fail)?;
    prop_assert_eq!(
        trained,
        memory.lookup(&tokens, &mut expected).map_err(fail)?
    );
    prop_assert_eq!(found, expected);
    Ok(())
}

type Row = (Vec<u8>, Option<u32>, Option<u32>);

/// The whole store.
fn listed(store: &impl TokenStore) -> Result<(TrainedMessages, Vec<Row>), Error> {
    let mut rows = Vec::new();
    let trained = store.entries(&mut |entry| {
        rows.push((entry.token.to_vec(), entry.ham, entry.spam));
        Ok(())
    })?;
    Ok((trained, rows))
}

fn replace(
    store: &mut impl TokenStore,
    trained: TrainedMessages,
    listed: &[Listed],
) -> Result<(), Error> {
    let tokens: Vec<_> = listed.iter().map(|(word, ..)| token(*word)).collect();
    let mut entries = tokens
        .iter()
        .zip(listed)
        .map(|(token, (_, ham, spam))| Entry {
            token: token.as_bytes(),
            ham: *ham,
            spam: *spam,
        });
    store.replace(trained, &mut entries)
}

fn changes(lessons: &[Lesson]) -> Changes {
    let mut changes = Changes::default();
    for lesson in lessons {
        let mut message = MessageTokens::default();
        for word in &lesson.words {
            message.push(token(*word));
        }
        if lesson.takes_back {
            changes.unlearn(lesson.label, &message);
        } else {
            changes.learn(lesson.label, &message);
        }
    }
    changes
}

/// Applies `changes` as [`Listing::WhenTouched`] says.
fn apply_as_text(
    memory: &mut Memory,
    changes: &Changes,
    durability: Durability,
) -> Result<(), Error> {
    let (trained, mut rows) = listed(memory)?;
    for (token, change) in changes.tokens_sorted() {
        let found = rows.iter().position(|row| row.0 == token.as_bytes());
        let at = found.unwrap_or_else(|| {
            rows.push((token.as_bytes().to_vec(), None, None));
            rows.len() - 1
        });
        let (_, ham, spam) = &mut rows[at];
        *ham = ham.or(change.ham.map(|_| 0));
        *spam = spam.or(change.spam.map(|_| 0));
    }
    let mut entries = rows.iter().map(|(token, ham, spam)| Entry {
        token,
        ham: *ham,
        spam: *spam,
    });
    memory.replace(trained, &mut entries)?;
    memory.apply(changes, durability)?;

    let (_, rows) = listed(memory)?;
    let add = |n: u32, a: Option<Adjustment>| n.wrapping_add(a.map_or(0, |a| a.add) as u32);
    let trained = TrainedMessages {
        ham: add(trained.ham, changes.messages().ham),
        spam: add(trained.spam, changes.messages().spam),
    };
    let mut entries = rows.iter().map(|(token, ham, spam)| Entry {
        token,
        ham: *ham,
        spam: *spam,
    });
    memory.replace(trained, &mut entries)
}

/// Distinct tokens of 1 to 20 bytes, some a prefix of another.
fn token(word: u8) -> Token {
    let length = usize::from(word % 4) * 6 + 1;
    let mut bytes = vec![b'a' + word / 4 % 16; length];
    bytes.extend_from_slice(&[b'$', b'-'][..usize::from(word / 64 % 2)]);
    if word >= 128 {
        bytes.rotate_right(1);
        bytes[0] = b'0';
    }
    bytes.truncate(Token::MAX_LEN);
    Token::new(&bytes).expect("1 to 20 bytes without NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_conforms_to_itself() {
        // `Reopen` would empty it: a folder stands for one store here.
        let mut memory = Memory::default();
        let lessons = [
            Lesson {
                label: Label::Ham,
                takes_back: false,
                words: vec![1, 2, 2],
            },
            Lesson {
                label: Label::Spam,
                takes_back: true,
                words: vec![2, 3],
            },
        ];
        memory
            .apply(&changes(&lessons), Durability::Synced)
            .unwrap();
        compare(&memory, &memory.clone()).unwrap();
        let (trained, rows) = listed(&memory).unwrap();
        assert_eq!(trained, TrainedMessages { ham: 1, spam: 0 });
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn vocabulary_is_wide() {
        let mut tokens: Vec<_> = (0..=u8::MAX).map(token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert!(tokens.len() > 200, "{}", tokens.len());
    }
}
