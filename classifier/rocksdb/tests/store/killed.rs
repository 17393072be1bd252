//! A killed process: each change is there wholly or not at all, and what was
//! acknowledged as synced is there.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use classifier::TrainedMessages;
use classifier::store::{Durability, Entry, TokenStore};
use classifier_rocksdb::HostStore;

use super::{listed, models, open, spam};

/// Words of a message that no other message has.
const WORDS: usize = 40;

/// Tokens of a replacement: enough for several batches.
const REPLACED: u32 = 60_000;

/// How many kills: 20, or what `make faults` asks for.
fn kills() -> u64 {
    env::var("POSTERN_FAULTS").map_or(20, |n| n.parse().unwrap())
}

#[test]
fn holds_messages_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    // The same database again and again.
    for moment in 0..kills() {
        let n = 1 + moment as usize * 7 % 16;
        let acknowledged = killed(dir.path(), "learns", n, Duration::ZERO);
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

#[test]
fn replaces_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for moment in 0..kills() {
        // Somewhere in a replacement, which takes some 30 ms.
        let delay = Duration::from_micros(moment * 7_919 % 40_000);
        expected += killed(dir.path(), "replaces", 1, delay);
        let found = generation(&open(dir.path())) as usize;
        assert!(
            found >= expected,
            "replacement {found}, and {expected} were acknowledged"
        );
        expected = found;
    }
}

/// A model is, after any kill, what the messages that it says it learned make.
#[test]
fn trains_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for moment in 0..kills() {
        let n = 1 + moment as usize * 7 % 5;
        // Somewhere in a change, which takes some 10 ms.
        let delay = Duration::from_micros(moment * 7_919 % 12_000);
        expected += killed(dir.path(), "trains", n, delay);
        let host = open(dir.path());
        let found = models::n_trained(&host, "ann") as usize;
        assert!(
            found >= expected,
            "{found} messages of {expected} that were acknowledged"
        );
        expected = found;
    }
    let host = open(dir.path());
    models::taught(&host, "bob", 0..expected as u32);
    assert_eq!(models::text(&host, "ann"), models::text(&host, "bob"));
}

/// Kills a process that does `task`, `delay` after it has acknowledged `n`
/// changes; it may have gone on meanwhile. Returns the number acknowledged.
fn killed(dir: &Path, task: &str, n: usize, delay: Duration) -> usize {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["killed::works_until_killed", "--exact", "--nocapture"])
        .env(TASK, task)
        .env(DATABASE, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_ack = |line: &std::io::Result<String>| line.as_ref().unwrap().ends_with("done");
    assert_eq!(lines.by_ref().filter(is_ack).take(n).count(), n);
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    n + lines.filter(is_ack).count()
}

const TASK: &str = "POSTERN_TEST_TASK";
const DATABASE: &str = "POSTERN_TEST_DATABASE";

/// The process that is killed.
#[test]
fn works_until_killed() {
    let (Some(task), Some(dir)) = (env::var_os(TASK), env::var_os(DATABASE)) else {
        return;
    };
    let host = open(dir.as_ref());
    let (change, first): (fn(&HostStore, u32), _) = match task.to_str() {
        Some("learns") => (learn, listed(&host.user("ann")).unwrap().0.spam),
        Some("trains") => (train, models::n_trained(&host, "ann")),
        _ => (replace, generation(&host) + 1),
    };
    println!();
    for next in first.. {
        change(&host, next);
        println!("done");
    }
}

fn learn(host: &HostStore, message: u32) {
    let words: Vec<_> = (0..WORDS).map(|n| format!("m{message}-{n}")).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut ann = host.user("ann");
    ann.apply(&spam(&words), Durability::Synced).unwrap();
}

fn train(host: &HostStore, message: u32) {
    models::taught(host, "ann", message..message + 1);
}

/// Replaces ann's list by another, which says its generation in each count.
fn replace(host: &HostStore, next: u32) {
    let tokens: Vec<_> = (0..REPLACED).map(|n| format!("g{next}-{n}")).collect();
    let mut entries = tokens.iter().map(|token| Entry {
        token: token.as_bytes(),
        ham: Some(next),
        spam: None,
    });
    let trained = TrainedMessages { ham: next, spam: 0 };
    host.user("ann").replace(trained, &mut entries).unwrap();
}

/// Which generation ann's list is: that one, and nothing of any other.
fn generation(host: &HostStore) -> u32 {
    let (trained, rows) = listed(&host.user("ann")).unwrap();
    let expected = if trained.ham == 0 { 0 } else { REPLACED };
    assert_eq!(rows.len(), expected as usize, "a list is there in part");
    assert!(rows.iter().all(|(_, ham, _)| *ham == Some(trained.ham)));
    trained.ham
}
