//! A database's file takes no more than it may, whatever was learned: of the
//! ledger goes what is too much, and a run that leaves much of the file free
//! puts a smaller copy in its place.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tests::differential::model;
use tests::killer::{self, killed_at};
use tests::programs::built;
use tests::run::{Input, run, scratch};
use tests::steps::{self, TRACE, traced};

/// The process that kills bmf.
#[test]
fn killer() {
    killer::killer();
}

/// A folder with a database, and with mail to learn.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(scratch())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("db/bmf.mdb")
    }

    /// Mail of this seed, in a folder for each class.
    fn generate(&self, seed: u64, n_messages: usize) {
        let made = self.path(&format!("made{seed}"));
        let mut bmfeval = Command::new(built("bmfeval"));
        bmfeval.arg("generate").arg(&made);
        bmfeval.args(["--seed", &seed.to_string()]);
        bmfeval.args(["--messages", &n_messages.to_string()]);
        let outcome = run(&mut bmfeval, Input::Empty);
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        for line in fs::read_to_string(made.join("index")).unwrap().lines() {
            let (label, path) = line.split_once(' ').unwrap();
            let folder = self.path(&format!("{label}{seed}"));
            fs::create_dir_all(&folder).unwrap();
            let name = Path::new(path).file_name().unwrap();
            fs::rename(made.join(path), folder.join(name)).unwrap();
        }
    }

    fn learning(&self, label: &str, seed: u64) -> Command {
        let option = if label == "ham" { "-n" } else { "-s" };
        let mut bmf = self.bmf(option);
        bmf.arg("--learn-folder");
        bmf.arg(self.path(&format!("{label}{seed}")));
        bmf
    }

    fn learn(&self, label: &str, seed: u64) {
        let outcome = run(&mut self.learning(label, seed), Input::Empty);
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    }

    fn bmf(&self, option: &str) -> Command {
        let mut bmf = Command::new(built("bmf"));
        bmf.arg("-d").arg(self.path("db")).arg(option);
        bmf
    }

    fn n_bytes(&self) -> u64 {
        fs::metadata(self.file()).unwrap().len()
    }

    fn inode(&self) -> u64 {
        fs::metadata(self.file()).unwrap().ino()
    }

    /// All that the database holds.
    fn held(&self) -> String {
        model(&self.path("db"))
    }

    /// Ham and spam that were learned, or wait for some of the other class.
    fn taught(&self) -> [u32; 2] {
        let held = self.held();
        let state = held.lines().find_map(|line| line.strip_prefix("state "));
        let counts = state.unwrap().split(' ').skip(1).take(2);
        let counts: Vec<u32> = counts.map(|count| count.parse().unwrap()).collect();
        let [mut ham, mut spam] = counts.try_into().unwrap();
        for (step, view) in held.lines().zip(held.lines().skip(1)) {
            ham += u32::from(step.starts_with("step ham - ") && view.starts_with("view -1 "));
            spam += u32::from(step.starts_with("step spam - ") && view.starts_with("view 1 "));
        }
        [ham, spam]
    }
}

/// 4 MiB for the model, 16 for the ledger.
const MOST_BYTES: u64 = 20 << 20;

#[test]
fn a_database_takes_no_more_than_it_may_whatever_was_learned() {
    let folder = Folder::new();
    let mut n_learned = 0;
    for seed in 1..=6 {
        folder.generate(seed, 4_000);
        for label in ["ham", "spam"] {
            folder.learn(label, seed);
            let n_bytes = folder.n_bytes();
            assert!(n_bytes <= MOST_BYTES, "{n_bytes} bytes after {label}{seed}");
        }
        n_learned += 4_000;
    }
    assert_eq!(folder.taught().iter().sum::<u32>(), n_learned);
    // Nor does it grow by message after message.
    let files = fs::read_dir(folder.path("ham1")).unwrap();
    for file in files.take(200) {
        let mail = fs::read(file.unwrap().path()).unwrap();
        let mail = [b"X-Other: copy\n", &mail[..]].concat();
        run(&mut folder.bmf("-n"), Input::Bytes(&mail));
        let n_bytes = folder.n_bytes();
        assert!(n_bytes <= MOST_BYTES, "{n_bytes} bytes");
    }
    // The ledger still has more than half of its room.
    assert!(folder.held().matches("\nentry ").count() > 8_000);
}

/// Learns by a run that leaves much of the file free, were it not for the copy.
fn before_a_copy() -> (Folder, Command) {
    let folder = Folder::new();
    folder.generate(1, 2_500);
    folder.learn("ham", 1);
    let learning = folder.learning("spam", 1);
    (folder, learning)
}

#[test]
fn a_kill_at_any_step_of_the_copy_leaves_a_whole_database() {
    let (folder, mut learning) = before_a_copy();
    let keep = |from: &str, to: &str| {
        let _ = fs::remove_dir_all(folder.path(to));
        let copied = Command::new("cp")
            .arg("-a")
            .args([folder.path(from), folder.path(to)])
            .status();
        assert!(copied.unwrap().success());
    };
    keep("db", "before");
    let log = folder.path("log");
    let outcome = run(&mut traced(&log, &["-e", TRACE], &learning), Input::Empty);
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let (held, n_bytes) = (folder.held(), folder.n_bytes());
    let log = fs::read_to_string(log).unwrap();
    // Before that all was learned.
    let (before, _) = log.split_once("bmf.mdb-new").expect("no copy was made");
    let looks = ["pipe2"];
    let (n_before, n_all) = (
        steps::of(before, &looks).len(),
        steps::of(&log, &looks).len(),
    );
    assert!(n_all > n_before + 5, "{n_before} of {n_all}");
    for nth in n_before..=n_all {
        keep("before", "db");
        let outcome = run(&mut killed_at(nth, &learning), Input::Empty);
        let killed = outcome.stdout_text();
        let call = killer::call_of(&killed);
        let call = call.unwrap_or_else(|| panic!("no call {nth} of {n_all}: {killed}"));
        assert!(folder.held() == held, "killed at call {nth}, {call}");
        let learned = run(&mut learning, Input::Empty);
        assert_eq!(
            learned.code(),
            0,
            "killed at call {nth}, {call}: {}",
            learned.stderr
        );
        assert!(folder.held() == held, "after a kill at call {nth}, {call}");
        assert!(!folder.path("db/bmf.mdb-new").exists());
        assert!(
            folder.n_bytes() <= n_bytes + (4 << 20),
            "{}",
            folder.n_bytes()
        );
    }
}

/// Marks a message for somebody who does not read it, and so has the database
/// open when this returns.
fn reader(folder: &Folder) -> Child {
    let mail = folder.path("mail");
    fs::write(
        &mail,
        format!("Subject: long\n\n{}", "a line\n".repeat(100_000)),
    )
    .unwrap();
    let mut bmf = folder.bmf("-tp");
    let child = bmf.stdin(File::open(mail).unwrap()).stdout(Stdio::piped());
    let child = child.spawn().unwrap();
    let maps = format!("/proc/{}/maps", child.id());
    let is_open = (0..6_000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        fs::read_to_string(&maps).unwrap().contains("bmf.mdb")
    });
    assert!(is_open, "it does not open its database");
    child
}

#[test]
fn a_file_that_somebody_has_open_stays() {
    let (folder, mut learning) = before_a_copy();
    let mut reader = reader(&folder);
    let inode = folder.inode();
    assert_eq!(run(&mut learning, Input::Empty).code(), 0);
    assert_eq!(folder.inode(), inode);
    let mut marked = String::new();
    let mut said = reader.stdout.take().unwrap();
    said.read_to_string(&mut marked).unwrap();
    assert!(marked.contains("\nX-Spam-Status: "));
    assert!(reader.wait().unwrap().success());
    // The next one does it.
    let n_bytes = folder.n_bytes();
    assert_eq!(run(&mut learning, Input::Empty).code(), 0);
    assert_ne!(folder.inode(), inode);
    assert!(folder.n_bytes() + (3 << 20) < n_bytes);
}

/// LMDB's lock file counts the transactions of the old file, of which odd and even
/// ones begin in different pages: who opened the copy beside it could see an empty
/// database.
#[test]
fn who_comes_while_the_file_is_replaced_finds_the_copy() {
    let (folder, _) = before_a_copy();
    // There is some of each class throughout.
    folder.generate(2, 200);
    folder.learn("spam", 2);
    let log = folder.path("log");
    let mut seen = BTreeSet::new();
    for round in 0..8 {
        // All of it under the other label.
        let mut learning = folder.bmf(["-s", "-n"][round % 2]);
        learning.arg("--learn-folder").arg(folder.path("spam1"));
        let slow = [
            "-e",
            "trace=rename",
            "-e",
            "inject=rename:delay_exit=1000000",
        ];
        let old = File::open(folder.file()).unwrap();
        let inode = folder.inode();
        let mut slow = traced(&log, &slow, &learning).spawn().unwrap();
        while folder.inode() == inode {
            assert!(
                slow.try_wait().unwrap().is_none(),
                "the file was not replaced"
            );
            thread::sleep(Duration::from_millis(1));
        }
        // Now it waits, and holds LMDB's lock.
        let looked = run(
            &mut folder.bmf("-t"),
            Input::Bytes(b"Subject: b\n\nwords\n"),
        );
        assert!(looked.code() < 2, "{}", looked.stderr);
        let looked = looked.stdout_text();
        assert!(!looked.contains("0.500000"), "{looked}");
        // Shifts the count, too.
        for n in 0..=round / 2 {
            let mail = format!("Subject: {round} {n}\n\nwhat came meanwhile\n");
            let learned = run(&mut folder.bmf("-n"), Input::Bytes(mail.as_bytes()));
            assert_eq!(learned.code(), 1, "{}", learned.stderr);
        }
        assert!(slow.wait().unwrap().success());
        // All but some that waited, which a full ledger let go of.
        let n_taught: u32 = folder.taught().iter().sum();
        assert!(n_taught > 2_000, "{n_taught}");
        seen.insert(last_transaction(&old) % 2);
        if seen.len() == 2 {
            return;
        }
    }
    panic!("only {seen:?}");
}

/// By LMDB's two header pages.
fn last_transaction(file: &File) -> u64 {
    let number = |page: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, page * 4_096 + 144).unwrap();
        u64::from_ne_bytes(bytes)
    };
    number(0).max(number(1))
}

#[test]
fn a_link_stays_a_link_and_a_file_its_owners() {
    let (folder, mut learning) = before_a_copy();
    let real = folder.path("real");
    fs::rename(folder.file(), &real).unwrap();
    symlink(&real, folder.file()).unwrap();
    assert_eq!(run(&mut learning, Input::Empty).code(), 0);
    assert!(folder.file().is_symlink());
    let n_bytes = folder.n_bytes();

    // Nor is anything written to where a link of the copy's name leads.
    fs::remove_file(folder.file()).unwrap();
    fs::rename(&real, folder.file()).unwrap();
    let other = folder.path("other");
    fs::write(&other, "mine").unwrap();
    symlink(&other, folder.path("db/bmf.mdb-new")).unwrap();
    fs::set_permissions(folder.file(), Permissions::from_mode(0o640)).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        chown(folder.file(), Some(12), Some(34)).unwrap();
    }
    let before = fs::metadata(folder.file()).unwrap();
    assert_eq!(run(&mut learning, Input::Empty).code(), 0);
    assert!(folder.n_bytes() < n_bytes);
    assert_eq!(fs::read(&other).unwrap(), b"mine");
    let after = fs::metadata(folder.file()).unwrap();
    assert_ne!(after.ino(), before.ino());
    let of = |file: &fs::Metadata| (file.uid(), file.gid(), file.mode());
    assert_eq!(of(&after), of(&before));
}

#[test]
fn who_learns_while_files_are_replaced_learns_into_the_new_one() {
    let folder = Folder::new();
    for seed in 1..=3 {
        folder.generate(seed, 2_500);
    }
    folder.learn("ham", 1);
    let n_files = |name: &str| fs::read_dir(folder.path(name)).unwrap().count() as u32;
    let (n_writers, n_each) = (3, 60);
    let inode = folder.inode();
    thread::scope(|scope| {
        for writer in 0..n_writers {
            let folder = &folder;
            scope.spawn(move || {
                for n in 0..n_each {
                    let mail = format!("Subject: {writer} {n}\n\nmessage {n} of writer {writer}\n");
                    let outcome = run(&mut folder.bmf("-n"), Input::Bytes(mail.as_bytes()));
                    assert_eq!(outcome.code(), 1, "{}", outcome.stderr);
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
        (1..=3).for_each(|seed| folder.learn("spam", seed));
    });
    assert_ne!(folder.inode(), inode, "nobody replaced it");
    let n_spam: u32 = (1..=3).map(|seed| n_files(&format!("spam{seed}"))).sum();
    let n_ham = n_files("ham1") + n_writers * n_each;
    assert_eq!(folder.taught(), [n_ham, n_spam]);
}
