//! The host killed at any file-changing call between the end of data and the
//! removal from the queue: what was answered 250 is there after the next
//! start, whole, and at most once more. And `postern init` killed at any such
//! call: the next one makes the host as if nothing had been.
//!
//! A moment is the n-th such call of the process, so that all of them are met.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::journey::{self, all_found, furnish, handing_over, kept, owners, said_by};
use common::steps;
use tests::killer::{self, call_of, killed_at};
use tests::steps::{TRACE, traced};

/// The process that is killed.
#[test]
fn child() {
    journey::child();
}

/// And the one that kills it.
#[test]
fn killer() {
    killer::killer();
}

const MESSAGES: usize = 4;

/// So often a moment is tried: where threads share work, a run can make a call
/// less than the one that was counted.
const TRIES: usize = 10;

#[test]
fn what_was_answered_250_survives_a_kill_at_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");

    // A whole run shows which calls there are.
    let whole = dir.path().join("whole");
    furnish(&whole);
    let run = handing_over(&whole, 0..MESSAGES);
    let output = said_by(traced(&log, &["-e", TRACE], &run));
    assert_eq!(kept(&output), [0, 1, 2, 3], "{output}");
    let all = steps::of(&log);
    for name in ["fsync", "linkat", "renameat2", "unlinkat"] {
        assert!(all.iter().any(|step| step == name), "no {name} in {all:?}");
    }

    let data = dir.path().join("killed");
    let (mut met, mut n_repeated) = (BTreeSet::new(), 0);
    for nth in 1..=all.len() {
        let killed = (0..TRIES).find_map(|_| {
            let _ = fs::remove_dir_all(&data);
            furnish(&data);
            let output = said_by(killed_at(nth, &handing_over(&data, 0..MESSAGES)));
            Some((call_of(&output)?.to_owned(), kept(&output)))
        });
        let Some((name, kept)) = killed else {
            panic!("no run came to call {nth} of {}", all.len());
        };
        let moment = format!("killed at call {nth}, {name}");
        // The next start goes on.
        said_by(handing_over(&data, 0..0));
        let found = all_found(&data);
        for number in kept {
            for user in owners(number) {
                let is_there = found[user].contains_key(&number);
                assert!(is_there, "{moment}: {number} is lost for {user}");
            }
        }
        let all = found.values().flat_map(BTreeMap::values);
        let repeated = all.filter(|n| **n > 1).count();
        // The windows of docs/queue.md: one message was being delivered, and its
        // forward.
        assert!(repeated <= 2, "{moment}: {repeated} came twice");
        n_repeated += repeated;
        let left = fs::read_dir(data.join("queue")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{moment}: something is left in the queue");
        met.insert(name);
    }
    assert_eq!(met, all.iter().cloned().collect());
    println!(
        "{} steps killed, {n_repeated} deliveries repeated",
        all.len()
    );
}

/// `postern init` in a folder.
fn init(at: &Path) -> Command {
    fs::create_dir_all(at).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("--config").arg(at.join("postern.toml"));
    command.arg("--data").arg(at.join("lib/postern"));
    command.args(["init", "example.org"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "root"]);
    }
    command
}

/// What lies below a folder, but for what SQLite makes and removes as it likes.
fn names(at: &Path) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    let mut folders = vec![at.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            names.insert(dateless(path.strip_prefix(at).unwrap()));
        }
    }
    names.retain(|name| !name.to_string_lossy().contains("accounts.db-"));
    names
}

/// Keys are called after the day on which they were made, which may end
/// meanwhile.
fn dateless(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap().to_str().unwrap();
    path.with_file_name(name.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn the_next_init_begins_anew_wherever_one_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let whole = dir.path().join("whole");
    let output = traced(&log, &["-e", TRACE], &init(&whole))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let all = steps::of(&log);
    for name in ["mkdir", "symlink", "rename", "unlink", "fsync"] {
        assert!(all.iter().any(|step| step == name), "no {name} in {all:?}");
    }
    let whole = names(&whole);
    let mut met = BTreeSet::new();
    for nth in 1..=all.len() {
        let at = dir.path().join("killed");
        let killed = killed_at(nth, &init(&at)).output().unwrap();
        let killed = String::from_utf8(killed.stdout).unwrap();
        let Some(name) = call_of(&killed) else {
            panic!("no call {nth} of {}: {killed}", all.len());
        };
        met.insert(name.to_owned());
        let moment = format!("killed at call {nth}, {name}");
        let is_made = at.join("postern.toml").exists();
        let again = init(&at).output().unwrap();
        let said = String::from_utf8_lossy(&again.stderr);
        let mut names = names(&at);
        if is_made {
            // Only its own mark may be left to remove.
            assert!(said.contains("is there already"), "{moment}: {said}");
            names.remove(Path::new("lib/postern/unfinished"));
        } else {
            assert!(again.status.success(), "{moment}: {said}");
        }
        assert_eq!(names, whole, "{moment}");
        fs::remove_dir_all(&at).unwrap();
    }
    assert_eq!(met, all.into_iter().collect());
}
