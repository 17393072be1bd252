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

use common::journey::{self, child_of, found, furnish, kept};
use tests::programs::peer;

/// Calls that change a folder or a file.
const CHANGING: &str = "open,openat,openat2,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,\
    fallocate,fsync,fdatasync,sync_file_range,msync,link,linkat,symlink,symlinkat,rename,renameat,renameat2,\
    unlink,unlinkat,rmdir,mkdir,mkdirat,chmod,fchmod,fchmodat,chown,fchown,fchownat,utimensat,\
    copy_file_range,sendfile,splice";

/// Those that the way of a message consists of.
const KNOWN: [&str; 15] = [
    "open",
    "openat",
    "openat2",
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "linkat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "fchmod",
    "fchown",
];

/// The process that is killed.
#[test]
fn child() {
    journey::child();
}

fn traced(log: &Path, expressions: &[&str]) -> Command {
    let mut strace = peer("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log);
    for expression in expressions {
        strace.args(["-e", expression]);
    }
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
    let output = child_of(
        traced(&log, &[&format!("trace={CHANGING}")]),
        &whole,
        MESSAGES,
    );
    assert_eq!(kept(&output), [0, 1, 2, 3], "{output}");
    let mut calls: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let Some((process, call)) = line.split_once(' ') else {
            continue;
        };
        let Some((name, _)) = call
            .trim()
            .split_once('(')
            .filter(|(name, _)| !name.contains(' '))
        else {
            continue;
        };
        assert!(
            KNOWN.contains(&name),
            "a step that is not on the list: {call}"
        );
        *calls
            .entry(name.to_owned())
            .or_default()
            .entry(process.to_owned())
            .or_default() += 1;
    }
    let mut moments: Vec<(String, usize)> = Vec::new();
    for (name, by_process) in &calls {
        let most = by_process.values().copied().max().unwrap_or(0);
        moments.extend((1..=most).map(|nth| (name.clone(), nth)));
    }
    for name in ["fsync", "linkat", "renameat2", "unlinkat"] {
        assert!(calls.contains_key(name), "no {name} in {calls:?}");
    }

    let n_all = moments.len();
    if env::var_os("POSTERN_FAULTS").is_none() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut chosen: BTreeSet<(String, usize)> = moments
            .iter()
            .filter(|(_, nth)| *nth == 1)
            .cloned()
            .collect();
        chosen.extend((0..20).filter_map(|_| random.choice(&moments).cloned()));
        moments = chosen.into_iter().collect();
    }
    let mut n_repeated = 0;
    for (name, nth) in &moments {
        let moment = format!("killed at {name} number {nth}");
        let data = dir.path().join("killed");
        furnish(&data);
        let inject = format!("inject={name}:signal=SIGKILL:when={nth}");
        let output = child_of(
            traced(&log, &[&format!("trace={name}"), &inject]),
            &data,
            MESSAGES,
        );
        let kept = kept(&output);
        // The next start goes on.
        child_of(Command::new(env::current_exe().unwrap()), &data, 0);
        let (anna, bob, carol) = (
            found(&data, "anna"),
            found(&data, "bob"),
            found(&data, "carol"),
        );
        for number in kept {
            if number % 2 == 0 {
                assert!(anna.contains_key(&number), "{moment}: {number} is lost");
            } else {
                assert!(bob.contains_key(&number), "{moment}: {number} is lost");
                assert!(
                    carol.contains_key(&number),
                    "{moment}: the forward of {number} is lost"
                );
            }
        }
        let all = anna.values().chain(bob.values()).chain(carol.values());
        let repeated = all.filter(|n| **n > 1).count();
        // One message was being delivered; its forward may be doubled too.
        assert!(repeated <= 2, "{moment}: {repeated} came twice");
        n_repeated += repeated;
        let left = fs::read_dir(data.join("queue")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{moment}: something is left in the queue");
        fs::remove_dir_all(&data).unwrap();
    }
    println!(
        "{} of {n_all} moments, {n_repeated} deliveries repeated",
        moments.len()
    );
}
