//! The LMDB store among processes: many at once, killed ones, damaged files,
//! full disks, folders that cannot be written.
//!
//! A test starts children, each of which is this same test program told by
//! an environment variable to be one ([`child`]).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "all of it is test"
)]

mod child;
mod concurrency;
mod damage;
mod limits;
mod model;
mod size;

use std::path::Path;
use std::process::{Command, Output};

use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Durability, TokenLookup, TokenStore};
use classifier::{Changes, Label, MessageTokens, Token, TokenCounts, TrainedMessages};

/// A child that is to run `command` on the database in `dir`.
fn child(dir: &Path, command: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    child_of(&program, dir, command)
}

fn child_of(program: &Path, dir: &Path, command: &str) -> Command {
    let mut child = Command::new(program);
    child
        .args(["--exact", "child::entry", "--nocapture", "--quiet"])
        .env("POSTERN_LMDB_CHILD", command)
        .env("POSTERN_LMDB_DIR", dir);
    child
}

/// What a child said and that it succeeded, with its errors if it did not.
fn succeeded(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn token(word: &str) -> Token {
    Token::new(word.as_bytes()).unwrap()
}

/// Message number `n`: 300 words of all messages, and one of its own.
fn message(n: u32) -> MessageTokens {
    let mut message = MessageTokens::default();
    for word in 0..300 {
        message.push(token(&format!("word{word}")));
    }
    message.push(token(&format!("own{n}")));
    message
}

fn learn(store: &mut Lmdb, n: u32, durability: Durability) -> Result<(), classifier::Error> {
    let mut changes = Changes::default();
    changes.learn(Label::Ham, &message(n));
    store.apply(&changes, durability)
}

/// A database of `n_messages` messages and `n_tokens` further tokens.
fn make(dir: &Path, n_messages: u32, n_tokens: u32) {
    let options = Options {
        syncs: false,
        ..Options::default()
    };
    let mut store = Lmdb::open(dir, &options).unwrap();
    for n in 0..n_messages {
        learn(&mut store, n, Durability::Synced).unwrap();
    }
    if n_tokens == 0 {
        return;
    }
    let mut further = MessageTokens::default();
    for n in 0..n_tokens {
        further.push(token(&format!("{:x}-x{n}", n.wrapping_mul(2_654_435_761))));
    }
    let mut changes = Changes::default();
    changes.learn(Label::Spam, &further);
    store.apply(&changes, Durability::Synced).unwrap();
}

/// Checks that the database holds a number of whole messages, and returns it.
fn whole_messages(dir: &Path) -> u32 {
    let store = Lmdb::open(dir, &Options::default()).unwrap();
    let mut counts = Vec::new();
    let TrainedMessages { ham, spam } = store.lookup(&[], &mut counts).unwrap();
    assert_eq!(spam, 0);
    let common: Vec<_> = (0..300).map(|word| token(&format!("word{word}"))).collect();
    store.lookup(&common, &mut counts).unwrap();
    assert_eq!(counts, vec![TokenCounts { ham, spam }; 300]);
    ham
}

/// A generator for places and moments: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (n ^ (n >> 31)) % end
    }
}
