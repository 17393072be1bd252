//! The store as its users see it: one database, many users, and what may
//! happen to it.

// Clippy's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use classifier::store::{Durability, TokenLookup, TokenStore};
use classifier::{Changes, Label, MessageTokens, Token, TokenCounts, TrainedMessages};
use classifier_rocksdb::{HostStore, Options, UserStore};

mod backup;
mod counted;
mod damaged;
mod killed;
mod models;
mod shared;
mod users;

/// Small buffers, so that tables are written and merged all the time.
fn options() -> Options {
    Options {
        cache_bytes: 1 << 20,
        write_buffer_bytes: 64 << 10,
        model_cache_bytes: 1 << 20,
        base: None,
        max_open_files: 32,
    }
}

fn open(path: &Path) -> HostStore {
    HostStore::open(path, &options()).unwrap()
}

fn token(word: &str) -> Token {
    Token::new(word.as_bytes()).unwrap()
}

/// A message of the given words, learned as spam.
fn spam(words: &[&str]) -> Changes {
    let mut message = MessageTokens::default();
    for word in words {
        message.push(token(word));
    }
    let mut changes = Changes::default();
    changes.learn(Label::Spam, &message);
    changes
}

/// How often `user` saw `word` in spam, and the number of spam messages.
fn seen(user: &UserStore, word: &str) -> (u32, u32) {
    let mut counts = Vec::new();
    let trained = user.lookup(&[token(word)], &mut counts).unwrap();
    (counts[0].spam, trained.spam)
}

type Row = (Vec<u8>, Option<u32>, Option<u32>);

/// All that `user` has.
fn listed(user: &UserStore) -> Result<(TrainedMessages, Vec<Row>), classifier::Error> {
    let mut rows = Vec::new();
    let trained = user.entries(&mut |entry| {
        rows.push((entry.token.to_vec(), entry.ham, entry.spam));
        Ok(())
    })?;
    Ok((trained, rows))
}

#[test]
fn behaves_like_memory() {
    use classifier::store::conformance::{Listing, check};
    check(64, Listing::WhenAdded, |dir| open(dir).user("ann"));
}

#[test]
fn keeps_models_as_memory_does() {
    use classifier::store::conformance::check_model;
    check_model(48, |dir| open(dir).model("ann"));
}

#[test]
fn an_unknown_user_has_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let mut counts = vec![TokenCounts { ham: 9, spam: 9 }];
    let tokens = [token("one"), token("two")];
    let trained = host.user("ann").lookup(&tokens, &mut counts).unwrap();
    assert_eq!(trained, TrainedMessages::default());
    assert_eq!(counts, [TokenCounts::default(); 2]);
    assert!(listed(&host.user("ann")).unwrap().1.is_empty());
    assert!(host.users().unwrap().is_empty(), "asking makes no user");
}

/// Lists from elsewhere hold what no `Token` can be.
#[test]
fn any_bytes_are_a_token() {
    use classifier::store::Entry;
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let long = [b'x'; 5000];
    let tokens: [&[u8]; 5] = [b"", b"\0", b"\0\0nul", b"\xff\xff", &long];
    let mut entries = tokens.iter().map(|token| Entry {
        token,
        ham: Some(1),
        spam: None,
    });
    let mut ann = host.user("ann");
    ann.replace(TrainedMessages { ham: 1, spam: 0 }, &mut entries)
        .unwrap();
    ann.apply(&spam(&["word"]), Durability::Synced).unwrap();
    let (trained, rows) = listed(&ann).unwrap();
    assert_eq!(trained, TrainedMessages { ham: 1, spam: 1 });
    let listed: Vec<_> = rows.iter().map(|row| row.0.as_slice()).collect();
    assert_eq!(
        listed,
        [&b""[..], b"\0", b"\0\0nul", b"word", &long, b"\xff\xff"]
    );
}
