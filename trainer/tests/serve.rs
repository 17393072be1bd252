//! `bmfd serve` on real mailboxes: what is moved is learned, whatever happens
//! to folders, configuration and hints meanwhile.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use classifier_rocksdb::HostStore;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A host whose daemon runs.
struct Daemon {
    dir: TempDir,
    child: Child,
    log: Receiver<String>,
}

/// Much longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

impl Daemon {
    /// Waits until it watches the mailboxes that `prepare` makes.
    fn start(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        prepare(&dir.path().join("home"));
        write_config(dir.path(), config);
        let (child, log) = spawn(Command::new(env!("CARGO_BIN_EXE_bmfd")), dir.path());
        let daemon = Self { dir, child, log };
        daemon.wait_for("watching mailboxes=");
        daemon
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("home").join(below)
    }

    /// The first line of the log that holds `text`.
    fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self
                .log
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no {text:?} in the log ({error}): {seen:#?}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Puts a message there as a mail reader does, and waits until it is
    /// learned.
    fn teach(&self, folder: &str, name: &str) -> String {
        put(&self.path(folder), name);
        self.wait_for(&format!("file={name}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(dir: &Path, config: &str) {
    let head = format!(
        "database.path = '{0}/lib'\nservice.socket = '{0}/socket'\nmailboxes.patterns = ['{0}/home/*/Maildir']\n",
        dir.display()
    );
    fs::write(dir.join("bmfd.toml"), head + config).unwrap();
}

fn spawn(mut command: Command, dir: &Path) -> (Child, Receiver<String>) {
    command.arg("--config").arg(dir.join("bmfd.toml"));
    command.args(["--verbose", "serve"]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (send, log) = mpsc::channel();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    (child, log)
}

fn folder(path: &Path) {
    for half in ["tmp", "new", "cur"] {
        fs::create_dir_all(path.join(half)).unwrap();
    }
}

fn put(folder: &Path, name: &str) {
    let mail = format!("Subject: {name}\n\nwords of {name}\n");
    fs::write(folder.join("tmp/x"), mail).unwrap();
    fs::rename(folder.join("tmp/x"), folder.join("cur").join(name)).unwrap();
}

fn user(home: &Path, name: &str) {
    folder(&home.join(name).join("Maildir"));
    folder(&home.join(name).join("Maildir/.Junk"));
}

#[test]
fn a_move_is_learned_at_once_and_a_signal_ends_it() {
    let mut daemon = Daemon::start("", |home| user(home, "anna"));
    let line = daemon.teach("anna/Maildir/.Junk", "1.h:2,S");
    assert!(
        line.contains("message learned user=\"anna\" folder=Junk"),
        "{line}"
    );
    let (from, to) = ("anna/Maildir/.Junk/cur/1.h:2,S", "anna/Maildir/cur/1.h:2,S");
    fs::rename(daemon.path(from), daemon.path(to)).unwrap();
    daemon.wait_for("folder=INBOX file=1.h:2,S label=\"ham\"");
    daemon.signal(Signal::TERM);
    daemon.wait_for("ended");
    assert!(daemon.child.wait().unwrap().success());
}

#[test]
fn folders_and_mailboxes_that_come_later_or_are_made_again() {
    let daemon = Daemon::start("", |home| user(home, "anna"));
    folder(&daemon.path("anna/Maildir/.Spam"));
    daemon.teach("anna/Maildir/.Spam", "1.h:2,");
    fs::remove_dir_all(daemon.path("anna/Maildir/.Spam")).unwrap();
    folder(&daemon.path("anna/Maildir/.Spam"));
    daemon.teach("anna/Maildir/.Spam", "2.h:2,");
    // One part after another.
    fs::create_dir(daemon.path("anna/Maildir/.Spam.old")).unwrap();
    daemon.wait_for("turn user=\"anna\"");
    folder(&daemon.path("anna/Maildir/.Spam.old"));
    daemon.teach("anna/Maildir/.Spam.old", "3.h:2,");

    fs::create_dir(daemon.path("bert")).unwrap();
    user(&daemon.path(""), "bert");
    daemon.teach("bert/Maildir/.Junk", "4.h:2,");
    fs::rename(daemon.path("bert/Maildir"), daemon.path("bert/away")).unwrap();
    daemon.wait_for("mailbox has gone user=\"bert\"");
    user(&daemon.path(""), "bert");
    daemon.teach("bert/Maildir/.Junk", "5.h:2,");
    fs::remove_dir_all(daemon.path("bert")).unwrap();
    daemon.wait_for("user=\"bert\"");
    user(&daemon.path(""), "bert");
    daemon.teach("bert/Maildir/.Junk", "6.h:2,");
}

#[test]
fn where_nothing_can_be_noticed_mailboxes_are_polled() {
    for config in ["only_poll = true", "max_watches = 3"] {
        let config = format!("[watching]\npoll_seconds = 1\n{config}\n");
        let daemon = Daemon::start(&config, |home| user(home, "anna"));
        daemon.teach("anna/Maildir/.Junk", "1.h:2,");
    }
}

#[test]
fn too_few_watches_are_said_with_the_sysctl() {
    let dir = tempfile::tempdir().unwrap();
    user(&dir.path().join("home"), "anna");
    write_config(dir.path(), "watching.max_watches = 3");
    let (child, log) = spawn(Command::new(env!("CARGO_BIN_EXE_bmfd")), dir.path());
    let daemon = Daemon { dir, child, log };
    let line = daemon.wait_for("no more watches");
    assert!(line.contains("fs.inotify.max_user_watches"), "{line}");
}

#[test]
fn a_new_configuration_is_taken_and_a_wrong_one_refused() {
    let daemon = Daemon::start("", |home| user(home, "anna"));
    folder(&daemon.path("anna/Maildir/.Unwanted"));
    write_config(daemon.dir.path(), "[folder]");
    daemon.signal(Signal::HUP);
    daemon.wait_for("configuration stays as it was error=");
    put(&daemon.path("anna/Maildir/.Unwanted"), "1.h:2,");
    write_config(daemon.dir.path(), "folders.spam = ['Unwanted']");
    daemon.signal(Signal::HUP);
    daemon.wait_for("message learned user=\"anna\" folder=Unwanted file=1.h:2,");
    daemon.teach("anna/Maildir/.Unwanted", "2.h:2,");
}

#[test]
fn a_reload_misses_nothing_and_says_what_needs_a_restart() {
    const N: usize = 60;
    let daemon = Daemon::start("", |home| {
        user(home, "anna");
        for n in 0..N {
            put(&home.join("anna/Maildir"), &format!("{n}.h:2,S"));
        }
    });
    daemon.wait_for("all mailboxes looked at");
    for n in 0..N {
        let name = format!("{n}.h:2,S");
        let from = daemon.path("anna/Maildir/cur").join(&name);
        fs::rename(from, daemon.path("anna/Maildir/.Junk/cur").join(&name)).unwrap();
        if n % 5 == 0 {
            let config = format!("learning.ham_per_day = {}", n + 1);
            write_config(daemon.dir.path(), &config);
            daemon.signal(Signal::HUP);
        }
        thread::sleep(Duration::from_millis(3));
    }
    let mut missing: HashSet<_> = (0..N).map(|n| format!("file={n}.h:2,S ")).collect();
    while !missing.is_empty() {
        let line = daemon.wait_for("message learned user=\"anna\" folder=Junk");
        missing.retain(|file| !line.contains(file.as_str()));
    }

    let path = daemon.dir.path().join("bmfd.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("/lib'", "/other'")).unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for("needs a restart");
    assert!(line.contains("table=\"database\""), "{line}");
    daemon.teach("anna/Maildir/.Junk", "x.h:2,");
    assert!(!daemon.dir.path().join("other").exists());
}

/// Who moves mail and teaches nothing would like to know.
#[test]
fn moves_in_vain_are_a_warning_in_the_status() {
    let daemon = Daemon::start("learning.keep_before_ham_hours = 1000", |home| {
        user(home, "anna");
        folder(&home.join("anna/Maildir/.Archive"));
    });
    let status = || {
        let config = daemon.dir.path().join("bmfd.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bmfd"));
        command.arg("--config").arg(config).args(["status", "anna"]);
        command.output().unwrap()
    };
    let names = (0..6).map(|n| format!("{n}.h:2,S"));
    for name in names.clone() {
        daemon.teach("anna/Maildir/.Junk", &name);
    }
    for name in names {
        let from = daemon.path("anna/Maildir/.Junk/cur").join(&name);
        fs::rename(from, daemon.path("anna/Maildir/.Archive/cur").join(&name)).unwrap();
    }
    let end = Instant::now() + PATIENCE;
    while status().status.success() && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    let output = status();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("taught nothing (spam that was archived)"),
        "{said}"
    );
    assert!(
        said.contains("to or from a spam folder taught nothing"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// The daemon has the ledger, which says what must stay.
#[test]
fn folders_are_rotated_on_demand_while_it_runs() {
    let daemon = Daemon::start("rotation.'Junk.Learned'.max_messages = 1", |home| {
        user(home, "anna");
        folder(&home.join("anna/Maildir/.Junk.Learned"));
    });
    daemon.wait_for("all mailboxes looked at");
    let learned = daemon.path("anna/Maildir/.Junk.Learned");
    for n in 1..=3 {
        put(&learned, &format!("{n}.h:2,S"));
    }
    let rotate = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bmfd"));
        command
            .arg("--config")
            .arg(daemon.dir.path().join("bmfd.toml"));
        let output = command.arg("rotate").args(args).output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        (output.status.code(), said)
    };
    let n_left = || fs::read_dir(learned.join("cur")).unwrap().count();
    let (code, [said, wrong]) = rotate(&["--dry-run", "anna"]);
    let line = |n| {
        format!(
            "anna: Junk/Learned: delete {n}.h:2,S (0 days old, 35 bytes): \
             more messages than the folder's quota allows\n"
        )
    };
    assert_eq!(
        (code, said, wrong),
        (Some(0), line(1) + &line(2), String::new())
    );
    assert_eq!(n_left(), 3);
    let (code, [_, wrong]) = rotate(&["nobody"]);
    assert_eq!(code, Some(2));
    assert!(wrong.contains("nobody has no mailbox; see"), "{wrong}");
    let (code, [said, _]) = rotate(&["--json"]);
    assert_eq!((code, said.lines().count(), n_left()), (Some(0), 2, 1));
    daemon.wait_for("message deleted user=\"anna\" folder=Junk/Learned file=2.h:2,S");
}

/// As Prometheus asks.
#[test]
fn counters_are_read_over_http() {
    let dir = tempfile::tempdir().unwrap();
    user(&dir.path().join("home"), "anna");
    folder(&dir.path().join("home/anna/Maildir/.Junk.Learned"));
    for n in 1..=3 {
        let learned = dir.path().join("home/anna/Maildir/.Junk.Learned");
        put(&learned, &format!("old{n}.h:2,S"));
    }
    write_config(
        dir.path(),
        "metrics.listen = '127.0.0.1:0'\nrotation.'Junk.Learned'.max_messages = 1\n",
    );
    let (child, log) = spawn(Command::new(env!("CARGO_BIN_EXE_bmfd")), dir.path());
    let daemon = Daemon { dir, child, log };
    let line = daemon.wait_for("listening address=");
    let (_, address) = line.split_once("address=").unwrap();
    daemon.wait_for("all mailboxes looked at");
    daemon.teach("anna/Maildir/.Junk", "1.h:2,S");
    let counters = || {
        let mut stream = TcpStream::connect(address.trim()).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    };
    let end = Instant::now() + PATIENCE;
    while !counters().contains("\nbmfd_learned_total 1\n") && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    let said = counters();
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    for line in [
        "bmfd_learned_total 1",
        "bmfd_rotated_total 2",
        "bmfd_mailboxes 1",
        "bmfd_messages_pending 1",
    ] {
        assert!(said.lines().any(|said| said == line), "no {line}: {said}");
    }
}

/// Two would undo each other's work.
#[test]
fn a_second_one_is_refused() {
    let daemon = Daemon::start("", |home| user(home, "anna"));
    let config = daemon.dir.path().join("bmfd.toml");
    let second = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bmfd"));
        let output = command.arg("--config").arg(&config).arg("serve");
        let output = output.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = second();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("lib is locked"), "{said}");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("/lib'", "/other'")).unwrap();
    let (code, said) = second();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("somebody listens there already"), "{said}");
    daemon.teach("anna/Maildir/.Junk", "1.h:2,");
}

/// A `bmfd status` that began before there was anybody to ask.
#[test]
fn what_somebody_has_open_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    user(&dir.path().join("home"), "anna");
    write_config(dir.path(), "");
    let database = HostStore::open(&dir.path().join("lib"), &Default::default()).unwrap();
    let (child, log) = spawn(Command::new(env!("CARGO_BIN_EXE_bmfd")), dir.path());
    let daemon = Daemon { dir, child, log };
    daemon.wait_for("waiting for the database");
    drop(database);
    daemon.wait_for("watching mailboxes=");
}

#[test]
fn hints_that_were_lost_cost_nothing() {
    let daemon = Daemon::start("", |home| {
        user(home, "anna");
        user(home, "bert");
    });
    // Or the first look finds what the lost hints were about.
    daemon.wait_for("all mailboxes looked at");
    daemon.signal(Signal::STOP);
    let flood = daemon.path("bert/Maildir/new");
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    fs::write(flood.join("0"), "Subject: x\n\nx\n").unwrap();
    for n in 0..limit {
        fs::rename(flood.join(n.to_string()), flood.join((n + 1).to_string())).unwrap();
    }
    put(&daemon.path("anna/Maildir/.Junk"), "1.h:2,");
    daemon.signal(Signal::CONT);
    daemon.wait_for("more changes at once than the kernel keeps");
    daemon.wait_for("message learned user=\"anna\" folder=Junk file=1.h:2,");
}

/// As systemd would be told, without systemd.
#[test]
fn the_system_is_told_when_it_is_ready_alive_and_ending() {
    let dir = tempfile::tempdir().unwrap();
    user(&dir.path().join("home"), "anna");
    write_config(dir.path(), "");
    let told = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let next = || {
        let mut text = [0; 100];
        let n = told.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..n]).trim().to_owned()
    };
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_bmfd"));
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    command.env("WATCHDOG_USEC", "300000");
    let (child, log) = spawn(command, dir.path());
    let mut daemon = Daemon { dir, child, log };
    assert_eq!(next(), "READY=1");
    for _ in 0..2 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    daemon.signal(Signal::TERM);
    while next() != "STOPPING=1" {}
    assert!(daemon.child.wait().unwrap().success());
}
