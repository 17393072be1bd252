//! Power cuts: what was answered 250 is there after the next start, whole, at
//! whatever call the power goes.
//!
//! The calls of a host's first run, with mail to mailboxes, one of which is made
//! for it, through the queue and on by a forward, are recorded by strace. For
//! each beginning of that list a small file system says what would lie on the
//! disk: with nothing of what was not synced, with all of it, and with parts of
//! it by seed. The host is opened on that, and works off its queue.
//!
//! A second run, which goes on where a first was killed, is recorded and cut
//! likewise: what the first made and did not sync is not synced because the
//! second finds it. What a kill leaves is what the calls before it made, so that
//! a recorded run stands for a kill at each of its calls.
//!
//! The accounts are as they were: they are SQLite's, and nothing that is said
//! here of mail depends on what became of them meanwhile.

#![allow(clippy::unwrap_used)]

mod common;

use std::env;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use common::journey::{self, CAROL, all_found, furnish, handing_over, owners, said_by};
use common::power::{Call, FileSystem, Rest, calls, path_of};
use fastrand::Rng;
use tests::steps::traced;

/// The process that is recorded.
#[test]
fn child() {
    journey::child();
}

/// Calls that change files, or make changes last.
const CHANGING: &str = "trace=open,openat,openat2,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,\
    truncate,fallocate,fsync,fdatasync,sync_file_range,link,linkat,symlink,symlinkat,rename,renameat,\
    renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,fchmod,fchown,copy_file_range,sendfile,splice,close";

const MESSAGES: usize = 8;
/// One for each way there is.
const FEW: usize = 4;

/// A run, what the disk held before it, what had been answered then, and a
/// folder for what is tried.
struct Recorded {
    tried: tempfile::TempDir,
    before: FileSystem,
    promised: Vec<usize>,
    calls: Vec<Call>,
}

impl Recorded {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        furnish(&data);
        let before = FileSystem::read(&data);
        let calls = record(&data, 0..MESSAGES);
        assert_eq!(all_found(&data)[CAROL].len(), MESSAGES / 2);
        follow(before.clone(), &calls, &data);
        Self::of(before, Vec::new(), calls)
    }

    /// A run after one of which these are the calls before it was killed.
    fn after_kill(data: &Path, first: &FileSystem, calls: &[Call]) -> Self {
        let mut before = first.clone();
        for call in calls {
            before.follow(call);
        }
        before.restarted();
        fs::remove_dir_all(data).unwrap();
        before.cut(data, Rest::Everything);
        let second = record(data, FEW..2 * FEW);
        follow(before.clone(), &second, data);
        let promised = calls.iter().filter_map(promise).collect();
        Self::of(before, promised, second)
    }

    fn of(before: FileSystem, promised: Vec<usize>, calls: Vec<Call>) -> Self {
        // Syncs cost nothing there, and nothing is to last.
        let memory = Path::new("/dev/shm");
        let tried = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self {
            tried: tried.unwrap(),
            before,
            promised,
            calls,
        }
    }

    /// What a host makes of a disk on which `cut` was left; what was lost of
    /// what was answered.
    fn restart(&self, now: &FileSystem, rest: Rest<'_>, promised: &[usize]) -> Vec<usize> {
        let data = self.tried.path().join("data");
        now.cut(&data, rest);
        let host = journey::open(&data);
        // None of them is damaged.
        for id in host.queue().ids().unwrap() {
            host.queue().look(&id).unwrap().unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(host.run_due());
        assert_eq!(host.queue().ids().unwrap(), Vec::<String>::new());
        let found = all_found(&data);
        let lost = |number: &&usize| {
            let mut owners = owners(**number).iter();
            owners.any(|user| !found[user].contains_key(number))
        };
        let lost = promised.iter().filter(lost).copied().collect();
        drop(host);
        fs::remove_dir_all(&data).unwrap();
        lost
    }

    /// Cuts the power after each call that `happens`; how many those were, and
    /// what was lost after which of them.
    fn cut_everywhere(&self, seeds: u64, happens: impl Fn(&Call) -> bool) -> (usize, Vec<String>) {
        let mut now = self.before.clone();
        let mut promised = self.promised.clone();
        let (mut n_steps, mut losses) = (0, Vec::new());
        for call in &self.calls {
            promised.extend(promise(call));
            if !happens(call) || !now.follow(call) {
                continue;
            }
            n_steps += 1;
            let mut lost = self.restart(&now, Rest::Nothing, &promised);
            lost.extend(self.restart(&now, Rest::Everything, &promised));
            for seed in 0..seeds {
                let mut rng = Rng::with_seed(seed);
                lost.extend(self.restart(&now, Rest::Some(&mut rng), &promised));
            }
            if !lost.is_empty() {
                losses.push(format!("{lost:?} at step {n_steps}, {}", call.name));
            }
        }
        let n_new = promised.len() - self.promised.len();
        assert!(n_new >= FEW, "the run was not whole: {promised:?}");
        (n_steps, losses)
    }
}

/// The calls of a run in which these messages are handed over.
fn record(data: &Path, numbers: Range<usize>) -> Vec<Call> {
    let log = data.with_file_name("log");
    let options = ["-s", "1000000", "-e", CHANGING];
    said_by(traced(&log, &options, &handing_over(data, numbers)));
    calls(&fs::read_to_string(log).unwrap())
}

/// Follows calls from what the disk held on; what it holds then is what it
/// really holds.
fn follow(mut before: FileSystem, calls: &[Call], data: &Path) {
    for call in calls {
        before.follow(call);
    }
    assert_eq!(before.shown(), FileSystem::read(data).shown());
}

/// Which message this call says was kept.
fn promise(call: &Call) -> Option<usize> {
    let is_said = call.name == "write" && call.arguments[0].starts_with("1<");
    let said = call.arguments.get(1).filter(|_| is_said)?;
    let number = said.split("kept ").nth(1)?;
    number
        .trim_end_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .ok()
}

/// Whether it syncs the names in a folder that is called so.
fn syncs(call: &Call, folders: &[&str]) -> bool {
    let path = path_of(&call.arguments[0]);
    call.name == "fsync" && folders.iter().any(|name| path.ends_with(name))
}

#[test]
fn what_was_answered_250_survives_a_power_cut_at_any_step() {
    let recorded = Recorded::new();
    let seeds = env::var("POSTERN_FAULTS").map_or(3, |_| 20);
    let (n_steps, losses) = recorded.cut_everywhere(seeds, |_| true);
    assert_eq!(losses, Vec::<String>::new());
    assert!(n_steps > 150, "only {n_steps} steps");
    println!("{n_steps} steps, each with {} power cuts", seeds + 2);
}

/// A first run to be killed: its folder, what the disk held before, its calls,
/// and the numbers of those in place of which names come or go, or are to last.
fn first(dir: &Path) -> (PathBuf, FileSystem, Vec<Call>, Vec<usize>) {
    const KILLED: [&str; 6] = [
        "mkdir",
        "mkdirat",
        "fsync",
        "linkat",
        "renameat2",
        "unlinkat",
    ];
    let data = dir.join("data");
    furnish(&data);
    let before = FileSystem::read(&data);
    let calls = record(&data, 0..FEW);
    let mut now = before.clone();
    let matters = calls
        .iter()
        .map(|call| now.follow(call) && KILLED.contains(&&*call.name));
    let moments = (0..)
        .zip(matters)
        .filter_map(|(n, matters)| matters.then_some(n));
    let moments = moments.collect();
    (data, before, calls, moments)
}

#[test]
fn what_was_answered_250_survives_a_kill_and_then_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (data, before, calls, mut moments) = first(dir.path());
    let n_all = moments.len();
    let seeds = match env::var_os("POSTERN_FAULTS") {
        Some(_) => 1,
        None => {
            Rng::with_seed(29).shuffle(&mut moments);
            moments.truncate(6);
            0
        }
    };
    let mut n_steps = 0;
    for n in &moments {
        let recorded = Recorded::after_kill(&data, &before, &calls[..*n]);
        let (n_here, losses) = recorded.cut_everywhere(seeds, |_| true);
        let moment = format!("after a kill at call {n}, {}", calls[*n].name);
        assert_eq!(losses, Vec::<String>::new(), "{moment}");
        assert!(n_here > 50, "only {n_here} steps {moment}");
        n_steps += n_here;
    }
    println!(
        "{} of {n_all} kills, {n_steps} steps after them, each with {} power cuts",
        moments.len(),
        seeds + 2
    );
}

/// Without the syncs the same test finds losses: it can fail.
#[test]
fn without_syncs_of_names_mail_is_lost() {
    let recorded = Recorded::new();
    for folders in [
        &["new", "queue"][..],
        // And those in which folders were made: of the host, of the domain, of
        // the user.
        &["data"],
        &["mail"],
        &["example.net"],
        &["dave"],
        &["Maildir"],
    ] {
        let (_, losses) = recorded.cut_everywhere(0, |call| !syncs(call, folders));
        assert!(losses.len() > 10, "{folders:?}: {losses:?}");
    }
    // A message has its name, which was not synced.
    let dir = tempfile::tempdir().unwrap();
    let (data, before, calls, _) = first(dir.path());
    let link = calls.iter().position(|call| call.name == "linkat").unwrap();
    let recorded = Recorded::after_kill(&data, &before, &calls[..=link]);
    for folders in [&["new", "queue"][..], &["Maildir"]] {
        let (_, losses) = recorded.cut_everywhere(0, |call| !syncs(call, folders));
        assert!(losses.len() > 5, "after a kill, {folders:?}: {losses:?}");
    }
}
