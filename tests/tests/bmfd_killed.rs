//! bmfd killed while it learns, moves and rotates: each message lies in one
//! folder and counts once, and the next run finishes the work.
//!
//! A moment is the n-th call of a run that changes files, in place of which the
//! process is killed. strace shows which those are; a run that makes a call that
//! is not known fails the test, so that no new step goes untested.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tempfile::TempDir;

use tests::bmfd::Bmfd;
use tests::killer::{self, call_of, killed_at};
use tests::run::{Input, Outcome, make_maildir, run, scratch};
use tests::steps;

/// What bmfd calls beside what all do. pipe2 and dup2: it asks doveconf.
const LOOKS: [&str; 7] = [
    "chdir",
    "dup2",
    "fgetxattr",
    "madvise",
    "msync",
    "pipe2",
    "preadv",
];

/// The process that kills bmfd.
#[test]
fn killer() {
    killer::killer();
}

/// A host with one user, all below one folder that can be put back.
struct Host {
    bmfd: Bmfd,
    dir: TempDir,
}

impl Host {
    /// Two messages to learn and to move, one that has left the spam folder,
    /// and a learned folder with more than it may hold.
    fn new() -> Self {
        Self::with(scratch(), 2)
    }

    fn with(dir: TempDir, quota: u32) -> Self {
        let live = dir.path().join("live");
        fs::create_dir(&live).unwrap();
        let config = format!(
            "learning.move_after_seconds = 0\n\
             rotation.'Junk.Learned' = {{ max_messages = {quota} }}\n\
             watching.rescan_seconds = 1\n"
        );
        let bmfd = Bmfd::new(&live, "home/*/Maildir", &config);
        let host = Self { bmfd, dir };
        for folder in ["", ".Junk"] {
            make_maildir(&host.mailbox().join(folder));
        }
        fs::write(host.mailbox().join("maildirsize"), "100000S\n300 3\n").unwrap();
        for n in 1..=3 {
            host.put(n);
        }
        host.done("once");
        let (from, to) = (".Junk.Learned/cur/3.h:2,S", "cur/3.h:2,S");
        fs::rename(host.mailbox().join(from), host.mailbox().join(to)).unwrap();
        for n in 4..=5 {
            host.put(n);
        }
        host
    }

    fn live(&self) -> PathBuf {
        self.dir.path().join("live")
    }

    fn mailbox(&self) -> PathBuf {
        self.live().join("home/anna/Maildir")
    }

    fn put(&self, n: u32) {
        let path = self.mailbox().join(format!(".Junk/cur/{n}.h:2,S"));
        fs::write(path, format!("Subject: mail {n}\n\nthe words{n} of {n}\n")).unwrap();
    }

    /// Keeps what there is, for [`Host::restore`].
    fn keep(&self, name: &str) {
        copy(&self.live(), &self.dir.path().join(name));
    }

    fn restore(&self, name: &str) {
        fs::remove_dir_all(self.live()).unwrap();
        copy(&self.dir.path().join(name), &self.live());
    }

    fn done(&self, command: &str) {
        let outcome = self.bmfd.run(command);
        assert_eq!(outcome.code(), 0, "{command}: {}", outcome.stderr);
    }

    /// Runs `bmfd COMMAND` by strace.
    fn traced(&self, log: &Path, options: &[&str], command: &str) -> Outcome {
        let mut strace = steps::traced(log, options, &self.bmfd.command([command]));
        run(&mut strace, Input::Empty)
    }

    /// The folders of each message, of which each must lie in one.
    fn messages_once(&self, moment: &str) -> HashMap<String, Vec<String>> {
        let lies = self.messages();
        let lies_once = lies.values().all(|folders| folders.len() == 1);
        assert!(lies_once, "{moment}: {lies:?}");
        lies
    }

    /// After `command`, which may have been refused: nothing is twice there,
    /// and nothing has gone that has not been learned.
    fn must_have_kept_all(&self, command: &str, moment: &str) {
        let lies = self.messages_once(moment);
        let expected = if command == "once" { 5..=5 } else { 3..=5 };
        assert!(expected.contains(&lies.len()), "{moment}: {lies:?}");
    }

    /// Where everything lies, and what is learned, once all is done.
    fn finished(&self) -> (HashMap<String, Vec<String>>, (u64, u64)) {
        self.done("once");
        self.done("rotate");
        (self.messages(), self.bmfd.learned("anna"))
    }

    fn n_in(&self, folder: &str) -> usize {
        let lies = self.messages();
        let is_there = |folders: &&Vec<String>| folders.iter().any(|one| one == folder);
        lies.values().filter(is_there).count()
    }

    /// The folders in which each message lies.
    fn messages(&self) -> HashMap<String, Vec<String>> {
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        for folder in ["", ".Junk", ".Junk.Learned"] {
            for half in ["new", "cur"] {
                let Ok(entries) = fs::read_dir(self.mailbox().join(folder).join(half)) else {
                    continue;
                };
                for entry in entries {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    found.entry(name).or_default().push(folder.to_owned());
                }
            }
        }
        found
    }
}

fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    let outcome = run(cp.arg("-a").arg(from).arg(to), Input::Empty);
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
}

fn n_moments() -> usize {
    env::var("POSTERN_FAULTS").map_or(20, |n| n.parse().unwrap())
}

/// Kills `bmfd COMMAND` at moments of its run, all of them where so many are
/// asked for, and checks what is left by `check`, then lets the next run end
/// the work.
fn kill(command: &str, seed: u64, check: impl Fn(&Host, &str)) {
    let host = Host::new();
    if command == "rotate" {
        host.done("once");
    }
    host.keep("before");
    let log = host.dir.path().join("log");
    let calls = ["-e", steps::TRACE];
    let outcome = host.traced(&log, &calls, command);
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let n_steps = steps::of(&fs::read_to_string(&log).unwrap(), &LOOKS).len();
    let (messages, model) = (host.messages(), host.bmfd.learned("anna"));
    assert_eq!(model, (1, 4));
    assert!(n_steps > 3, "{n_steps}");

    let mut rng = Rng::with_seed(seed);
    let all = (1..=n_steps).filter(|_| n_moments() >= n_steps);
    let random = std::iter::from_fn(|| Some(rng.usize(1..=n_steps)));
    for nth in all.chain(random).take(n_moments()) {
        let moment = format!("bmfd {command}, seed {seed}, killed at call {nth}");
        // RocksDB writes to its log more often when it takes longer.
        let is_killed = (0..TRIES).any(|_| {
            host.restore("before");
            let outcome = run(
                &mut killed_at(nth, &host.bmfd.command([command])),
                Input::Empty,
            );
            let is_killed = call_of(&outcome.stdout_text()).is_some();
            check(&host, &moment);
            is_killed
        });
        assert!(is_killed, "not killed in {TRIES} runs: {moment}");
        host.done(command);
        assert_eq!(host.messages(), messages, "{moment}");
        assert_eq!(host.bmfd.learned("anna"), model, "{moment}");
    }
}

/// So often a moment is waited for.
const TRIES: usize = 10;

#[test]
fn learning_and_moving_survive_a_kill_at_any_moment() {
    kill("once", 4, |host, moment| {
        let messages = host.messages_once(moment);
        assert_eq!(messages.len(), 5, "{moment}: {messages:?}");
    });
}

#[test]
fn rotation_survives_a_kill_at_any_moment() {
    kill("rotate", 5, |host, moment| {
        let messages = host.messages();
        // Three stay whatever happens: two learned ones and the one in INBOX.
        assert!((3..=5).contains(&messages.len()), "{moment}: {messages:?}");
        assert!(messages.contains_key("3.h:2,S"), "{moment}");
    });
}

#[test]
fn the_daemon_survives_a_kill_at_any_time() {
    let host = Host::new();
    host.keep("before");
    let finished = host.finished();
    let serve = |host: &Host| {
        let mut bmfd = host.bmfd.command(["serve"]);
        bmfd.stderr(Stdio::null()).spawn().unwrap()
    };
    host.restore("before");
    let begun = Instant::now();
    let mut daemon = serve(&host);
    while host.messages() != finished.0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "not done");
    }
    let took = begun.elapsed();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let mut rng = Rng::with_seed(6);
    for n in 0..n_moments() {
        host.restore("before");
        let mut daemon = serve(&host);
        thread::sleep(took.mul_f64(rng.f64()));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        host.messages_once(&format!("kill {n}"));
        assert_eq!(host.finished(), finished, "kill {n}");
    }
}

/// Full and read-only disks, errors of the disk, folders that cannot be read:
/// what can be done is done and the rest is said, and the next run ends it.
#[test]
fn whatever_the_system_refuses_nothing_is_lost() {
    let host = Host::new();
    host.keep("before");
    host.done("once");
    let (messages, model) = (host.messages(), host.bmfd.learned("anna"));
    for (calls, error) in [
        ("write,pwrite64,writev", "ENOSPC"),
        ("write,pwrite64,writev", "EIO"),
        ("fsync,fdatasync", "EIO"),
        ("renameat,renameat2", "EROFS"),
        ("renameat,renameat2,link,linkat", "EACCES"),
        ("mkdir,mkdirat", "EROFS"),
        ("openat2", "EACCES"),
        ("openat2", "EIO"),
        ("openat2", "EMFILE"),
        ("read", "EIO"),
        ("getdents64", "EIO"),
        ("unlink,unlinkat", "EROFS"),
    ] {
        for from in ["1", "2", "5", "9"] {
            host.restore("before");
            let fault = format!("inject={calls}:error={error}:when={from}+");
            let log = host.dir.path().join("log");
            let outcome = host.traced(&log, &["-e", &fault], "once");
            let moment = format!("{calls} refused with {error} from call {from} on");
            let is_refused = fs::read_to_string(&log).unwrap().contains("(INJECTED)");
            assert!(is_refused || from != "1", "{moment}: there is none");
            // By itself, and not by a panic; 127: its own libraries could not
            // be read.
            let code = outcome.status.code();
            assert!(
                matches!(code, Some(0..=2 | 127)),
                "{moment}: {:?} {}",
                outcome.status,
                outcome.stderr
            );
            let lies = host.messages_once(&moment);
            assert_eq!(lies.len(), 5, "{moment}: {lies:?}");
            if (&lies, &host.bmfd.learned("anna")) != (&messages, &model) {
                assert_ne!(code, Some(0), "{moment}");
                let could_say = !calls.contains("write");
                assert!(!could_say || !outcome.stderr.is_empty(), "{moment}");
            }
            host.done("once");
            assert_eq!(host.messages(), messages, "{moment}");
            assert_eq!(host.bmfd.learned("anna"), model, "{moment}");
        }
    }
}

/// Where a disk that is really full lies, for the test that needs it.
const SMALL_DISK: &str = "POSTERN_SMALL_DISK";

/// Runs the test `name` anew, in mounts of its own with a small disk. `None`:
/// this is that run, on this disk.
fn on_a_small_disk(name: &str) -> Option<TempDir> {
    if let Some(disk) = env::var_os(SMALL_DISK) {
        return Some(tempfile::tempdir_in(disk).unwrap());
    }
    if !tests::overlaid::is_possible() {
        tests::skip("only root can mount a small disk");
        return None;
    }
    let disk = scratch();
    let mount = format!("mount -t tmpfs -o size=80m none \"${SMALL_DISK}\" && exec \"$@\"");
    let mut again = Command::new("unshare");
    again
        .args(["-m", "sh", "-c", &mount, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(SMALL_DISK, disk.path());
    let status = again.status().unwrap();
    assert!(status.success(), "{status}");
    None
}

/// Takes up all room on the disk of `host` but `left` bytes; gives it back when
/// the file is removed.
fn fill(host: &Host, left: usize) -> PathBuf {
    let filler = host.dir.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let block = [b'x'; 4096];
    while file.write_all(&block).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(left as u64)).unwrap();
    filler
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_with_room_all_is_done() {
    let name = "on_a_full_disk_nothing_is_lost_and_with_room_all_is_done";
    let Some(disk) = on_a_small_disk(name) else {
        return;
    };
    let host = Host::with(disk, 2);
    host.keep("before");
    let finished = host.finished();
    let mut n_refused = 0;
    for left in [0, 1, 2, 4, 8, 16, 32, 64, 256].map(|pages| pages * 4096) {
        host.restore("before");
        let filler = fill(&host, left);
        for command in ["once", "rotate"] {
            let outcome = host.bmfd.run(command);
            let moment = format!("bmfd {command}, {left} bytes left: {}", outcome.stderr);
            if outcome.code() != 0 {
                n_refused += 1;
                assert!(
                    outcome.stderr.contains("No space left on device"),
                    "{moment}"
                );
            }
            host.must_have_kept_all(command, &moment);
        }
        fs::remove_file(filler).unwrap();
        assert_eq!(host.finished(), finished, "{left} bytes left");
    }
    assert!(n_refused > 2, "{n_refused}");
}

/// With mounts: what lies on one that can only be read is another file system
/// to the rest of the mailbox.
#[test]
fn folders_that_can_only_be_read_are_said_and_nothing_is_twice_there() {
    let name = "folders_that_can_only_be_read_are_said_and_nothing_is_twice_there";
    let Some(disk) = on_a_small_disk(name) else {
        return;
    };
    let host = Host::with(disk, 2);
    host.keep("before");
    let finished = host.finished();
    let mount = |options: &[&str], path: &Path| {
        let outcome = run(Command::new("mount").args(options).arg(path), Input::Empty);
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    };
    for folder in ["", ".Junk", ".Junk/cur", ".Junk.Learned", "cur"] {
        host.restore("before");
        let path = host.mailbox().join(folder);
        mount(&["--bind", &path.display().to_string()], &path);
        mount(&["-o", "remount,bind,ro"], &path);
        for command in ["once", "rotate"] {
            let outcome = host.bmfd.run(command);
            let moment = format!("bmfd {command}, {folder:?} read-only: {}", outcome.stderr);
            let is_said = outcome.stderr.contains("Read-only file system");
            assert_eq!(outcome.code() != 0, is_said, "{moment}");
            host.must_have_kept_all(command, &moment);
        }
        let outcome = run(Command::new("umount").arg(&path), Input::Empty);
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        assert_eq!(host.finished(), finished, "{folder:?}");
    }
}

#[test]
fn a_daemon_goes_on_when_a_full_disk_has_room_again() {
    let Some(disk) = on_a_small_disk("a_daemon_goes_on_when_a_full_disk_has_room_again") else {
        return;
    };
    let mut host = Host::with(disk, 10_000);
    // Where there is room for what it says.
    let log = scratch();
    symlink(log.path().join("log"), host.live().join("bmfd.log")).unwrap();
    host.bmfd.start();
    let learned = |spam| host.bmfd.learned("anna") == (1, spam);
    host.bmfd.wait("learned", || learned(4));
    // More than the log of the database has taken room for beforehand.
    let mut rng = Rng::with_seed(8);
    let numbers = 6..1_606;
    let message = |n: u32| host.mailbox().join(format!("tmp/{n}.h"));
    for n in numbers.clone() {
        let words: String = (0..2_000).map(|_| format!("w{} ", rng.u32(..))).collect();
        fs::write(message(n), format!("Subject: mail {n}\n\n{words}\n")).unwrap();
    }
    let filler = fill(&host, 0);
    for n in numbers.clone() {
        let spam = host.mailbox().join(format!(".Junk/cur/{n}.h:2,S"));
        fs::rename(message(n), spam).unwrap();
    }
    host.bmfd.wait("refused", || {
        host.bmfd.log().contains("No space left on device")
    });
    let lies = host.messages_once("on a full disk");
    assert_eq!(lies.len(), 5 + numbers.len());
    assert!(host.n_in(".Junk") > 0);
    fs::remove_file(filler).unwrap();
    host.bmfd
        .wait("learned", || learned(4 + numbers.len() as u64));
    host.bmfd.wait("moved", || host.n_in(".Junk") == 0);
    assert_eq!(host.messages().len(), 5 + numbers.len());
}
