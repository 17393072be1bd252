//! `bmfd serve` while the clock of the machine is set back and forth, by
//! libfaketime. What files say of themselves stays true.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tests::programs::{built, peer_library};
use tests::run::{Input, run, scratch};

/// A host with one user.
struct Host {
    dir: TempDir,
    daemon: Option<Child>,
}

impl Host {
    fn new() -> Self {
        let dir = scratch();
        let config = format!(
            "database.path = '{0}/lib'\nservice.socket = '{0}/socket'\n\
             mailboxes.patterns = ['{0}/home/*/Maildir']\nwatching.rescan_seconds = 1\n\
             learning.move_after_seconds = 2\nrotation.'Junk.Learned'.max_age_days = 1\n",
            dir.path().display()
        );
        fs::write(dir.path().join("bmfd.toml"), config).unwrap();
        let host = Self { dir, daemon: None };
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

    fn bmfd(&self) -> Command {
        let mut command = Command::new(built("bmfd"));
        command.arg("-c").arg(self.dir.path().join("bmfd.toml"));
        command
    }

    fn start(&mut self) {
        let log = self.dir.path().join("log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = self.bmfd();
        command
            .arg("serve")
            .stderr(log)
            .env("LD_PRELOAD", peer_library("faketime/libfaketime.so.1"))
            .env("FAKETIME_TIMESTAMP_FILE", self.dir.path().join("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // Or a status would open the database in its place.
        let begun = self.log().matches("listening").count();
        self.daemon = Some(command.spawn().unwrap());
        self.wait("not started", || {
            self.log().matches("listening").count() > begun
        });
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
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

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Waits, for longer than anything takes, until `is_so`.
    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "{what}: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Until it has looked at everything again, at least twice.
    fn wait_for_looks(&self) {
        let looked = |word: &str| {
            let outcome = run(self.bmfd().args(["status", "--json", "anna"]), Input::Empty);
            let status = outcome.stdout_text();
            let (_, rest) = status.split_once(word)?;
            Some(rest.split([',', '}']).next()?.to_owned())
        };
        for _ in 0..2 {
            let before = looked("\"looked\":");
            self.wait("no look", || looked("\"looked\":") != before);
        }
    }

    fn learned(&self) -> String {
        let outcome = run(self.bmfd().args(["status", "anna"]), Input::Empty);
        let status = outcome.stdout_text();
        status.split(';').next().unwrap().to_owned()
    }

    fn is_there(&self, path: &str) -> bool {
        Path::new(&self.path(path)).exists()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_clock_set_back_and_forth_costs_nothing() {
    let mut host = Host::new();
    host.put("cur/4.h:2,S", 4, 0);
    host.start();
    for (n, hours) in [(1, 0), (3, 12)] {
        host.put(&format!(".Junk/cur/{n}.h:2,S"), n, hours);
    }
    host.wait("not learned", || {
        host.learned() == "anna: modern, 0 ham, 2 spam"
    });

    // All that lies there is from days to come.
    host.set_clock("-3d");
    host.put(".Junk/cur/2.h:2,S", 2, 0);
    for n in 1..=3 {
        let to = format!(".Junk.Learned/cur/{n}.h:2,S");
        host.wait("left where it was", || host.is_there(&to));
    }
    assert_eq!(host.learned(), "anna: modern, 0 ham, 3 spam");
    fs::rename(
        host.path(".Junk.Learned/cur/2.h:2,S"),
        host.path("cur/2.h:2,S"),
    )
    .unwrap();
    host.wait("2 is no ham", || {
        host.learned() == "anna: modern, 1 ham, 2 spam"
    });
    host.kill();
    host.start();
    host.wait_for_looks();
    assert_eq!(host.learned(), "anna: modern, 1 ham, 2 spam");

    host.set_clock("+0");
    host.wait_for_looks();
    assert_eq!(host.learned(), "anna: modern, 1 ham, 2 spam");
    assert!(host.is_there(".Junk.Learned/cur/3.h:2,S"), "deleted early");
    assert!(host.is_there(".Junk.Learned/cur/1.h:2,S"), "deleted early");

    // A day and more later what is old goes, and what was kept is ham.
    host.set_clock("+36h");
    host.wait("4 is no ham", || {
        host.learned() == "anna: modern, 2 ham, 2 spam"
    });
    for n in [1, 3] {
        let path = format!(".Junk.Learned/cur/{n}.h:2,S");
        host.wait("left for ever", || !host.is_there(&path));
    }
    let log = host.log();
    let learned = log.lines().filter(|line| line.contains("message learned"));
    assert_eq!(learned.count(), 5, "{log}");
}
