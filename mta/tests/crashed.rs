//! `postern serve` killed while mail comes in by SMTP and LMTP: what was
//! answered 250 is there after the next start, whole, and a second copy only
//! of what lay in the queue undone when the server was killed.
//!
//! Once at random moments under load, by seed; once at each of the calls that
//! change files, in place of which strace delivers SIGKILL. Which calls those
//! are is said in `common/steps.rs`; a run that makes another one fails the test. 20 of each,
//! or as many as `POSTERN_FAULTS` says.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Host, Server, Talk, steps, wait_for};
use fastrand::Rng;
use tests::steps::{TRACE, strace};

/// Anna's mail goes straight to her mailbox; bob keeps a copy and forwards to
/// carol, through the queue.
const USERS: [&str; 3] = ["anna", "bob", "carol"];

fn host() -> Host {
    let host = Host::new("");
    host.run(&["user", "add", "carol@example.org"]);
    let home = host.data().join("mail/example.org/bob");
    fs::write(home.join(".qmail"), "./Maildir/\n&carol@example.org\n").unwrap();
    host
}

fn body(number: u64) -> String {
    // From a part of a block to several, so that writes differ.
    let lines = usize::try_from(number % 7).unwrap() * 100;
    format!("{}the end of {number}\n", "a line\n".repeat(lines))
}

/// A client that says which messages were answered 250, for whom.
struct Client<S> {
    talk: Talk<S>,
    kept: Vec<(u64, &'static str)>,
}

impl<S: Read + Write> Client<S> {
    fn new(stream: S) -> Self {
        Self {
            talk: Talk::new(stream),
            kept: Vec::new(),
        }
    }

    /// Sends one message; `by_recipient` as LMTP answers.
    fn send(&mut self, n: u64, to: &[&'static str], by_recipient: bool) -> io::Result<()> {
        self.talk.ask("MAIL FROM:<x@example.net>\r\n", 250)?;
        for user in to {
            self.talk
                .ask(&format!("RCPT TO:<{user}@example.org>\r\n"), 250)?;
        }
        self.talk.ask("DATA\r\n", 354)?;
        let text = format!("Subject: {n}\n\n{}.\n", body(n)).replace('\n', "\r\n");
        self.talk.say(text.as_bytes())?;
        let groups: Vec<&[&'static str]> = match by_recipient {
            true => to.chunks(1).collect(),
            false => vec![to],
        };
        for users in groups {
            if self.talk.reply()? == 250 {
                self.kept.extend(users.iter().map(|user| (n, *user)));
            }
        }
        Ok(())
    }
}

/// Sends until the server is gone, or `limit` messages; what was answered 250.
fn by_smtp(
    address: SocketAddr,
    numbers: &AtomicU64,
    limit: usize,
) -> (Vec<(u64, &'static str)>, bool) {
    let Ok(stream) = TcpStream::connect(address) else {
        return (Vec::new(), false);
    };
    let mut client = Client::new(stream);
    let mut done = client.talk.greet("EHLO");
    for n in 0..limit {
        let to: &[_] = match n % 3 {
            0 => &["anna"],
            1 => &["bob"],
            _ => &["anna", "bob"],
        };
        done = done.and_then(|()| client.send(numbers.fetch_add(1, Ordering::Relaxed), to, false));
        if done.is_err() {
            break;
        }
    }
    (client.kept, done.is_ok())
}

fn by_lmtp(path: &Path, numbers: &AtomicU64, limit: usize) -> (Vec<(u64, &'static str)>, bool) {
    let Ok(stream) = UnixStream::connect(path) else {
        return (Vec::new(), false);
    };
    let mut client = Client::new(stream);
    let mut done = client.talk.greet("LHLO");
    for _ in 0..limit {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        done = done.and_then(|()| client.send(number, &["anna", "bob"], true));
        if done.is_err() {
            break;
        }
    }
    (client.kept, done.is_ok())
}

/// What must be there, and what may be there twice.
#[derive(Default)]
struct Promises {
    kept: BTreeSet<(u64, &'static str)>,
    undone: BTreeSet<u64>,
}

impl Promises {
    /// Looks at the queue of a host whose server was killed.
    fn look(&mut self, host: &Host) {
        for file in queue(host) {
            let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
            let count = |start: &str, word: &str| {
                let lines = text.lines();
                lines
                    .filter(|line| line.starts_with(start) && line.contains(word))
                    .count()
            };
            if count("to <", "") > count("1", " done") {
                self.undone.insert(number(&text));
            }
        }
    }

    /// Compares with the mailboxes of a host that has nothing left to do;
    /// returns how many copies were more than one.
    fn check(&self, host: &Host, moment: &str) -> usize {
        let mut found: HashMap<&str, BTreeMap<u64, usize>> = HashMap::new();
        for user in USERS {
            for mail in host.mail(user, "") {
                let mail = String::from_utf8(mail).unwrap();
                let n = number(&mail);
                let whole = mail.ends_with(&format!("\n\n{}", body(n)));
                assert!(whole, "{moment}: {user} got a part of {n}");
                *found.entry(user).or_default().entry(n).or_default() += 1;
            }
        }
        let has = |user: &str, n: &u64| found.get(user).is_some_and(|mail| mail.contains_key(n));
        for (n, user) in &self.kept {
            assert!(has(user, n), "{moment}: {n} for {user} is lost");
            let forwarded = *user != "bob" || has("carol", n);
            assert!(forwarded, "{moment}: the forward of {n} is lost");
        }
        let mut n_more = 0;
        for (user, mail) in &found {
            for (n, copies) in mail.iter().filter(|(_, copies)| **copies > 1) {
                let may = self.undone.contains(n);
                assert!(may, "{moment}: {user} got {n} {copies} times");
                n_more += copies - 1;
            }
        }
        n_more
    }
}

fn number(mail: &str) -> u64 {
    let (_, rest) = mail.split_once("\nSubject: ").unwrap();
    rest.lines().next().unwrap().parse().unwrap()
}

/// The messages that wait.
fn queue(host: &Host) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(host.data().join("queue")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| !path.ends_with("changed")).collect()
}

fn wait_for_empty_queue(host: &Host) {
    wait_for("an empty queue", || queue(host).is_empty().then_some(()));
}

fn stop(server: Server) {
    server.signal("TERM");
    server.wait();
}

fn faults() -> usize {
    env::var("POSTERN_FAULTS").map_or(20, |n| n.parse().unwrap())
}

/// Clients at once by SMTP, and as many by LMTP.
const CLIENTS: usize = 3;

/// Loads the server, kills it after a while; what was answered 250.
fn killed_under_load(
    server: Server,
    after: Duration,
    numbers: &AtomicU64,
) -> Vec<(u64, &'static str)> {
    let (smtp, lmtp) = (server.smtp[0], server.lmtp.clone());
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(scope.spawn(|| by_smtp(smtp, numbers, usize::MAX)));
            clients.push(scope.spawn(|| by_lmtp(&lmtp, numbers, usize::MAX)));
        }
        thread::sleep(after);
        server.signal("KILL");
        drop(server);
        let kept = clients.into_iter().map(|client| client.join().unwrap().0);
        kept.flatten().collect()
    })
}

/// Kills before the mailboxes are looked at: most fall while the queue of the
/// one before is worked off.
const KILLS_A_LOOK: usize = 5;

#[test]
fn what_was_answered_250_survives_kills_under_load() {
    let mut rng = Rng::with_seed(27);
    let numbers = AtomicU64::new(0);
    let (mut n_kept, mut n_more, mut n_kills, least) = (0, 0, 0, faults());
    // A slow machine accepts little before it is killed, and is killed more often.
    while n_kills < least || n_kept <= least {
        assert!(n_kills < 10 * least, "only {n_kept} were accepted");
        let host = host();
        let mut promises = Promises::default();
        for _ in 0..KILLS_A_LOOK {
            let after = Duration::from_millis(rng.u64(5..300));
            let kept = killed_under_load(host.serve(), after, &numbers);
            promises.kept.extend(kept);
            promises.look(&host);
        }
        let server = host.serve();
        wait_for_empty_queue(&host);
        stop(server);
        n_more += promises.check(&host, &format!("seed 27, kills from {n_kills} on"));
        n_kept += promises.kept.len();
        n_kills += KILLS_A_LOOK;
    }
    println!("{n_kills} kills, {n_kept} promises kept, {n_more} copies more than one");
}

/// The server as strace runs it; it stays our child.
fn traced(host: &Host, log: &Path, options: &[&str]) -> Command {
    let mut strace = strace(log, options);
    strace.arg(env!("CARGO_BIN_EXE_postern"));
    strace.arg("--config").arg(host.config());
    strace
}

/// A few messages each way; false when the server did not live to the end.
fn short_load(
    server: &Server,
    host: &Host,
    numbers: &AtomicU64,
    kept: &mut BTreeSet<(u64, &'static str)>,
) -> bool {
    let (smtp, lived) = by_smtp(server.smtp[0], numbers, 3);
    kept.extend(smtp);
    if !lived {
        return false;
    }
    let (lmtp, lived) = by_lmtp(&server.lmtp, numbers, 1);
    kept.extend(lmtp);
    lived
        && wait_for("the end of the work", || {
            let ended = TcpStream::connect(server.smtp[0]).is_err();
            (ended || queue(host).is_empty()).then_some(!ended)
        })
}

/// So often a step is tried.
const TRIES: usize = 4;

#[test]
fn what_was_answered_250_survives_a_kill_at_any_step_of_the_server() {
    let numbers = AtomicU64::new(0);
    let mut promises = Promises::default();
    let host = host();
    let log = host.path("log");

    // A whole run shows which steps there are.
    let server = host
        .try_serve(traced(&host, &log, &["-D", "-e", TRACE]))
        .unwrap();
    assert!(short_load(&server, &host, &numbers, &mut promises.kept));
    stop(server);
    let mut steps: Vec<_> = steps::of(&fs::read_to_string(&log).unwrap())
        .into_iter()
        .collect();
    for name in ["fsync", "linkat", "unlinkat"] {
        let is_there = steps.iter().any(|(step, _)| step == name);
        assert!(is_there, "no {name} in {steps:?}");
    }

    // Each step once, in the order of the seed; all of them when so many are
    // asked for.
    Rng::with_seed(28).shuffle(&mut steps);
    let n_all = steps.len();
    steps.truncate(faults());
    let (mut missed, mut n_more) = (Vec::new(), 0);
    for (name, nth) in &steps {
        let moment = format!("seed 28, killed at {name} number {nth}");
        let fault = format!("inject={name}:signal=SIGKILL:when={nth}");
        let trace = format!("trace={name}");
        // Threads share the work anew each time: not each step comes at once.
        let was_killed = (0..TRIES).any(|_| {
            let command = traced(&host, &log, &["-D", "-e", &trace, "-e", &fault]);
            let lived = host.try_serve(command).is_some_and(|server| {
                let lived = short_load(&server, &host, &numbers, &mut promises.kept);
                server.signal("KILL");
                lived
            });
            promises.look(&host);
            !lived
        });
        if !was_killed {
            missed.push(format!("{name} number {nth}"));
        }
        let server = host.serve();
        wait_for_empty_queue(&host);
        stop(server);
        n_more = promises.check(&host, &moment);
    }
    let n_killed = steps.len() - missed.len();
    println!(
        "{n_killed} steps of {n_all} killed, {n_more} copies more than one; not met: {missed:?}"
    );
    assert!(
        n_killed * 2 >= steps.len(),
        "only {n_killed}: {missed:?} were not met"
    );
}
