//! How much `bmfd serve` takes for many mailboxes, and how soon it learns.
//!
//! `make bench-watch` makes 10,000 mailboxes of 100 messages below a temporary
//! folder (`TMPDIR`; some 5 GB), starts the daemon, and prints: the time until
//! all are watched and until all mail has been looked at, resident memory,
//! processor time while nothing happens, with and without the rescan, and the
//! time from a move to the log line that says it was learned while 100 users
//! move mail. `POSTERN_MAILBOXES` and `POSTERN_MESSAGES` set other numbers.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use daemon::Daemon;

mod daemon;

const MOVERS: usize = 100;
const MOVES_EACH: usize = 10;
const BETWEEN_MOVES: Duration = Duration::from_millis(20);
const RESCAN: Duration = Duration::from_secs(30);

fn main() {
    let number = |name, default| env::var(name).map_or(default, |n| n.parse().unwrap());
    let n_mailboxes = number("POSTERN_MAILBOXES", 10_000);
    let n_messages = number("POSTERN_MESSAGES", 100);
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    for n in 0..n_mailboxes {
        make_mailbox(&maildir(dir.path(), n), n, n_messages);
    }
    println!(
        "{n_mailboxes} mailboxes with {} messages, made in {:.0?}",
        n_mailboxes * n_messages,
        started.elapsed()
    );
    let watched = Watched::start(dir.path());
    watched.wait_for("watching mailboxes=");
    println!("watched after {:.2?}", watched.started.elapsed());
    println!("resident then: {} MiB", watched.daemon.resident_mib());
    watched.wait_for("all mailboxes looked at");
    println!("all looked at after {:.2?}", watched.started.elapsed());
    println!("resident then: {} MiB", watched.daemon.resident_mib());
    // What was being written when it was read is read again meanwhile.
    thread::sleep(RESCAN + RESCAN);
    let share = |time: Duration, span: Duration| 100.0 * time.as_secs_f64() / span.as_secs_f64();
    let before = watched.processor_time();
    thread::sleep(RESCAN);
    let rescan = watched.processor_time() - before;
    println!(
        "one rescan of all takes {rescan:.2?} of a processor: {:.2} % with the default of 600 s",
        share(rescan, Duration::from_secs(600))
    );
    println!("resident: {} MiB", watched.daemon.resident_mib());
    let mut delays = move_mail(&watched, dir.path(), n_mailboxes);
    delays.sort_unstable();
    println!(
        "{} moves by {MOVERS} users: learned after {:.0?} (median), {:.0?} (99 of 100), {:.0?} (last)",
        delays.len(),
        delays[delays.len() / 2],
        delays[delays.len() * 99 / 100],
        delays[delays.len() - 1]
    );
    println!("resident: {} MiB", watched.daemon.resident_mib());
}

fn maildir(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("home/u{n}/Maildir"))
}

/// INBOX with all mail, and a spam folder.
fn make_mailbox(path: &Path, n: usize, n_messages: usize) {
    for folder in ["", ".Junk", ".Junk.Learned", ".Sent"] {
        for half in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(folder).join(half)).unwrap();
        }
    }
    for m in 0..n_messages {
        let mail = format!(
            "From: a{m}@example.org\nSubject: mail {m} of {n}\n\nHello {n}, these are the words of {m}.\n"
        );
        fs::write(path.join(format!("cur/{m}.u{n}:2,S")), mail).unwrap();
    }
}

/// Has each of some users move some mail to his spam folder; how long each
/// took until it was learned.
fn move_mail(watched: &Watched, dir: &Path, n_mailboxes: usize) -> Vec<Duration> {
    let movers = MOVERS.min(n_mailboxes);
    let mut moved = HashMap::new();
    for turn in 0..MOVES_EACH {
        for mover in 0..movers {
            let n = mover * (n_mailboxes / movers);
            let name = format!("{turn}.u{n}:2,S");
            let from = maildir(dir, n).join("cur").join(&name);
            fs::rename(from, maildir(dir, n).join(".Junk/cur").join(&name)).unwrap();
            moved.insert(name, Instant::now());
            thread::sleep(BETWEEN_MOVES);
        }
    }
    let mut delays = Vec::new();
    while delays.len() < moved.len() {
        let (at, line) = watched.next_line();
        if let Some((_, rest)) = line
            .split_once("message learned")
            .and_then(|(_, l)| l.split_once("file="))
        {
            let name = rest.split(' ').next().unwrap_or_default();
            delays.extend(
                moved
                    .get(name)
                    .map(|then| at.saturating_duration_since(*then)),
            );
        }
    }
    delays
}

/// A daemon and what it says.
struct Watched {
    daemon: Daemon,
    started: Instant,
    log: Receiver<(Instant, String)>,
}

impl Watched {
    fn start(dir: &Path) -> Self {
        let config = format!("watching.rescan_seconds = {}\n", RESCAN.as_secs());
        let started = Instant::now();
        let mut daemon = Daemon::start(dir, &config, Stdio::piped());
        let lines = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
        let (send, log) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = send.send((Instant::now(), line));
            }
        });
        Self {
            daemon,
            started,
            log,
        }
    }

    fn next_line(&self) -> (Instant, String) {
        let patience = Duration::from_secs(600);
        self.log
            .recv_timeout(patience)
            .expect("the daemon says nothing")
    }

    fn wait_for(&self, text: &str) {
        while !self.next_line().1.contains(text) {}
    }

    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.0.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|n| n.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}
