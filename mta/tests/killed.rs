//! The host killed at any file-changing call between the end of data and the
//! removal from the queue: what was answered 250 is there after the next
//! start, whole, and at most once more. And `postern init` killed at any such
//! call: the next one makes the host as if nothing had been.
//!
//! strace delivers SIGKILL in place of the n-th call of a name, so that a
//! moment is a number and comes again. 20 moments by seed are tried, and the
//! first call of each name; with `POSTERN_FAULTS` all there are.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::journey::{self, all_found, child_of, furnish, kept, owners};
use common::steps;
use tests::steps::{TRACE, strace};

/// 20 by seed and the first of each name, or all.
fn chosen(mut moments: Vec<(String, usize)>) -> BTreeSet<(String, usize)> {
    if env::var_os("POSTERN_FAULTS").is_some() {
        return moments.into_iter().collect();
    }
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for (name, nth) in &moments {
        let first = first.entry(name.clone()).or_insert(*nth);
        *first = (*first).min(*nth);
    }
    fastrand::Rng::with_seed(5).shuffle(&mut moments);
    moments.into_iter().take(20).chain(first).collect()
}

/// The process that is killed.
#[test]
fn child() {
    journey::child();
}

fn traced(log: &Path, options: &[&str]) -> Command {
    let mut strace = strace(log, options);
    strace.arg(env::current_exe().unwrap());
    strace
}

const MESSAGES: usize = 4;

#[test]
fn what_was_answered_250_survives_a_kill_at_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");

    // A whole run shows which calls there are.
    let whole = dir.path().join("whole");
    furnish(&whole);
    let output = child_of(traced(&log, &["-e", TRACE]), &whole, 0..MESSAGES);
    assert_eq!(kept(&output), [0, 1, 2, 3], "{output}");
    let all = steps::of(&fs::read_to_string(&log).unwrap());
    let moments: Vec<(String, usize)> = all.into_iter().collect();
    for name in ["fsync", "linkat", "renameat2", "unlinkat"] {
        let is_there = moments.iter().any(|(step, _)| step == name);
        assert!(is_there, "no {name} in {moments:?}");
    }

    let n_all = moments.len();
    let moments = chosen(moments);
    let (mut missed, mut n_repeated) = (Vec::new(), 0);
    for (name, nth) in &moments {
        let moment = format!("killed at {name} number {nth}");
        let data = dir.path().join("killed");
        furnish(&data);
        let inject = format!("inject={name}:signal=SIGKILL:when={nth}");
        let output = child_of(
            traced(&log, &["-e", &format!("trace={name}"), "-e", &inject]),
            &data,
            0..MESSAGES,
        );
        // The test harness says how the child ended, if it ends.
        if output.contains("test result:") {
            missed.push(moment.clone());
        }
        let kept = kept(&output);
        // The next start goes on.
        child_of(Command::new(env::current_exe().unwrap()), &data, 0..0);
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
        fs::remove_dir_all(&data).unwrap();
    }
    let n_killed = moments.len() - missed.len();
    println!("{n_killed} of {n_all} steps killed, {n_repeated} deliveries repeated");
    assert!(n_killed * 4 >= moments.len() * 3, "not met: {missed:?}");
}

/// `postern init` in a folder.
fn init(at: &Path, mut command: Command) -> Output {
    fs::create_dir_all(at).unwrap();
    command.arg("--config").arg(at.join("postern.toml"));
    command.arg("--data").arg(at.join("lib/postern"));
    command.args(["init", "example.org"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "root"]);
    }
    command.output().unwrap()
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
            names.insert(path.strip_prefix(at).unwrap().to_owned());
        }
    }
    names.retain(|name| !name.to_string_lossy().contains("accounts.db-"));
    names
}

#[test]
fn the_next_init_begins_anew_wherever_one_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let postern = env!("CARGO_BIN_EXE_postern");
    let traced = |options: &[&str]| {
        let mut strace = strace(&log, options);
        strace.arg(postern);
        strace
    };
    let whole = dir.path().join("whole");
    let output = init(&whole, traced(&["-e", TRACE]));
    assert!(output.status.success(), "{output:?}");
    let all = steps::of(&fs::read_to_string(&log).unwrap());
    for name in ["mkdir", "symlink", "rename", "unlink", "fsync"] {
        let is_there = all.iter().any(|(step, _)| step == name);
        assert!(is_there, "no {name} in {all:?}");
    }
    let whole = names(&whole);
    let moments = chosen(all.into_iter().collect());
    let mut n_killed = 0;
    for (name, nth) in &moments {
        let moment = format!("killed at {name} number {nth}");
        let at = dir.path().join("killed");
        let inject = format!("inject={name}:signal=SIGKILL:when={nth}");
        let killed = init(
            &at,
            traced(&["-e", &format!("trace={name}"), "-e", &inject]),
        );
        n_killed += usize::from(!killed.status.success());
        let is_made = at.join("postern.toml").exists();
        let again = init(&at, Command::new(postern));
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
    assert!(n_killed * 4 >= moments.len() * 3, "{n_killed} killed");
}
