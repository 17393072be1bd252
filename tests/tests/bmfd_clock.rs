//! `bmfd serve` while the clock of the machine is set back and forth, by
//! libfaketime. What files say of themselves stays true.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tests::bmfd::Bmfd;
use tests::programs::peer_library;
use tests::run::scratch;

/// A host with one user.
struct Host {
    bmfd: Bmfd,
    dir: TempDir,
}

impl Host {
    fn new(rotation: &str) -> Self {
        let dir = scratch();
        let config =
            format!("watching.rescan_seconds = 1\nlearning.move_after_seconds = 2\n{rotation}");
        let bmfd = Bmfd::new(dir.path(), "home/*/Maildir", &config);
        let host = Self { bmfd, dir };
        for folder in ["", ".Junk", ".Junk.Learned"] {
            for half in ["cur", "new", "tmp"] {
                fs::create_dir_all(host.path(folder).join(half)).unwrap();
            }
        }
        host.set_clock("+0");
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("home/anna/Maildir").join(below)
    }

    /// So far from the true time.
    fn set_clock(&self, offset: &str) {
        let new = self.dir.path().join("clock.new");
        fs::write(&new, offset).unwrap();
        fs::rename(new, self.dir.path().join("clock")).unwrap();
    }

    fn start(&mut self) {
        let clock = self.dir.path().join("clock");
        self.bmfd.start_with(|command| {
            command
                .arg("--verbose")
                .env("LD_PRELOAD", peer_library("faketime/libfaketime.so.1"))
                .env("FAKETIME_TIMESTAMP_FILE", clock)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        });
    }

    fn start_again(&mut self) {
        self.bmfd.kill();
        self.start();
    }

    /// A mail that was received so many hours ago.
    fn put(&self, path: &str, n: u32, hours: u64) {
        let path = self.path(path);
        let text = format!("Subject: number {n}\n\nwords{n} of mail{n} and some{n}\n");
        fs::write(&path, text).unwrap();
        let file = File::options().append(true).open(path).unwrap();
        let ago = Duration::from_secs(hours * 60 * 60);
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    /// Until it has looked at everything again, at least twice.
    fn wait_for_looks(&self) {
        let looks = || self.bmfd.log().matches("turn user=\"anna\"").count();
        let before = looks();
        self.bmfd.wait("looked at", || looks() >= before + 3);
    }

    fn wait_until_learned(&self, ham: u64, spam: u64) {
        self.bmfd.wait(&format!("{ham} ham, {spam} spam"), || {
            self.bmfd.learned("anna") == (ham, spam)
        });
    }

    fn wait_until_there(&self, path: &str) {
        self.bmfd.wait(path, || self.is_there(path));
    }

    /// As somebody does who takes a message out of the learned folder.
    fn take_out(&self, name: &str) {
        let from = self.path(&format!(".Junk.Learned/cur/{name}"));
        fs::rename(from, self.path(&format!("cur/{name}"))).unwrap();
    }

    fn is_there(&self, path: &str) -> bool {
        Path::new(&self.path(path)).exists()
    }
}

#[test]
fn a_clock_set_back_and_forth_costs_nothing() {
    let mut host = Host::new("rotation.'Junk.Learned'.max_age_days = 1\n");
    host.put("cur/4.h:2,S", 4, 0);
    host.start();
    for (n, hours) in [(1, 0), (3, 12)] {
        host.put(&format!(".Junk/cur/{n}.h:2,S"), n, hours);
    }
    host.wait_until_learned(0, 2);

    // All that lies there is from days to come.
    host.set_clock("-3d");
    host.put(".Junk/cur/2.h:2,S", 2, 0);
    for n in 1..=3 {
        host.wait_until_there(&format!(".Junk.Learned/cur/{n}.h:2,S"));
    }
    assert_eq!(host.bmfd.learned("anna"), (0, 3));
    host.take_out("2.h:2,S");
    host.wait_until_learned(1, 2);
    host.start_again();
    host.wait_for_looks();
    assert_eq!(host.bmfd.learned("anna"), (1, 2));

    host.set_clock("+0");
    host.wait_for_looks();
    assert_eq!(host.bmfd.learned("anna"), (1, 2));
    assert!(host.is_there(".Junk.Learned/cur/3.h:2,S"), "deleted early");
    assert!(host.is_there(".Junk.Learned/cur/1.h:2,S"), "deleted early");

    // A day and more later what is old goes, and what was kept is ham.
    host.set_clock("+36h");
    host.wait_until_learned(2, 2);
    for n in [1, 3] {
        let path = format!(".Junk.Learned/cur/{n}.h:2,S");
        host.bmfd.wait("deleted", || !host.is_there(&path));
    }
    let log = host.bmfd.log();
    let learned = log.lines().filter(|line| line.contains("message learned"));
    assert_eq!(learned.count(), 5, "{log}");
}

/// What was learned can still be taken back, and what stays in the spam folder
/// is not learned again.
#[test]
fn a_clock_that_jumps_ahead_makes_it_forget_nothing() {
    let mut host = Host::new("");
    host.start();
    host.put(".Junk/cur/1.h:2,S", 1, 0);
    host.put(".Junk/cur/2.h:2,FS", 2, 0);
    host.wait_until_learned(0, 2);
    host.wait_until_there(".Junk.Learned/cur/1.h:2,S");
    host.set_clock("+100d");
    host.put(".Junk/cur/3.h:2,S", 3, 0);
    host.wait_until_there(".Junk.Learned/cur/3.h:2,S");
    host.start_again();
    host.wait_for_looks();
    assert_eq!(host.bmfd.learned("anna"), (0, 3));
    host.set_clock("+0");
    host.wait_for_looks();
    host.take_out("1.h:2,S");
    host.wait_until_learned(1, 2);
    assert!(host.is_there(".Junk/cur/2.h:2,FS"));
}

/// A machine without a battery begins in 1970. What lay among the learned
/// before there was a ledger is then no newer than it, and not learned.
#[test]
fn a_clock_that_begins_in_1970_teaches_nothing_twice() {
    let mut host = Host::new("");
    host.put(".Junk.Learned/cur/8.h:2,S", 8, 0);
    host.set_clock("-20000d");
    host.start();
    host.put(".Junk/cur/1.h:2,S", 1, 0);
    host.wait_until_learned(0, 1);
    host.wait_until_there(".Junk.Learned/cur/1.h:2,S");
    host.set_clock("+0");
    host.start_again();
    host.wait_for_looks();
    assert_eq!(host.bmfd.learned("anna"), (0, 1));
    host.put(".Junk/cur/2.h:2,S", 2, 0);
    host.wait_until_learned(0, 2);
    host.take_out("1.h:2,S");
    host.wait_until_learned(1, 1);
}
