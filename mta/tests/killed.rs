//! The host killed at any file-changing call between the end of data and the
//! removal from the queue: what was answered 250 is there after the next
//! start, whole, and at most once more.
//!
//! strace delivers SIGKILL in place of the n-th call of a name, so that a
//! moment is a number and comes again. 20 moments by seed are tried, and the
//! first call of each name; with `POSTERN_FAULTS` all there are.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::journey::{self, all_found, child_of, furnish, kept, owners};
use common::steps;
use tests::steps::{TRACE, strace};

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
    let mut moments: Vec<(String, usize)> = all.into_iter().collect();
    for name in ["fsync", "linkat", "renameat2", "unlinkat"] {
        let is_there = moments.iter().any(|(step, _)| step == name);
        assert!(is_there, "no {name} in {moments:?}");
    }

    let n_all = moments.len();
    if env::var_os("POSTERN_FAULTS").is_none() {
        let mut random = fastrand::Rng::with_seed(5);
        random.shuffle(&mut moments);
        let mut first: BTreeMap<String, usize> = BTreeMap::new();
        for (name, nth) in &moments {
            let first = first.entry(name.clone()).or_insert(*nth);
            *first = (*first).min(*nth);
        }
        let some = moments.into_iter().take(20).collect::<BTreeSet<_>>();
        moments = some.into_iter().chain(first).collect();
    }
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
