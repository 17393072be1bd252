//! A killed process: each message is there wholly or not at all, and what was
//! acknowledged as synced is there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use classifier::store::{Durability, TokenStore};

use super::{listed, open, spam};

/// Words of a message that no other message has.
const WORDS: usize = 40;

#[test]
fn holds_messages_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    // The same database again and again, killed after 1, 2, 4, ... messages.
    for moment in 0..10 {
        let acknowledged = killed_after(dir.path(), 1 << moment);
        expected += acknowledged;
        let (trained, rows) = listed(&open(dir.path()).user("ann")).unwrap();
        let found = trained.spam as usize;
        assert_eq!(rows.len(), found * WORDS, "a message is there in part");
        assert!(
            found >= expected,
            "{found} messages of {expected} that were acknowledged"
        );
        expected = found;
    }
}

/// Kills a process that learns, once it has acknowledged `n` messages; it may
/// have gone on meanwhile. Returns the number acknowledged.
fn killed_after(dir: &std::path::Path, n: usize) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["killed::learns_until_killed", "--exact", "--nocapture"])
        .env(LEARN, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_ack = |line: &std::io::Result<String>| line.as_ref().unwrap().ends_with("learned");
    assert_eq!(lines.by_ref().filter(is_ack).take(n).count(), n);
    child.kill().unwrap();
    child.wait().unwrap();
    n + lines.filter(is_ack).count()
}

const LEARN: &str = "POSTERN_TEST_LEARN";

/// The process that is killed.
#[test]
fn learns_until_killed() {
    let Some(dir) = std::env::var_os(LEARN) else {
        return;
    };
    let host = open(dir.as_ref());
    let mut ann = host.user("ann");
    let first = listed(&ann).unwrap().0.spam;
    println!();
    for message in first.. {
        let words: Vec<_> = (0..WORDS).map(|n| format!("m{message}-{n}")).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        ann.apply(&spam(&words), Durability::Synced).unwrap();
        println!("learned");
    }
}
