//! `postern serve` killed while mail comes in by SMTP and LMTP: what was
//! answered 250 is there after the next start, whole, and a second copy only
//! of what lay in the queue undone when the server was killed.
//!
//! At random moments under load, 20 by seed or as many as `POSTERN_FAULTS` says;
//! and in place of each call that changes files.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fs::{self, File};
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
use tests::killer::{self, call_of, killed_at};
use tests::steps::{TRACE, traced};

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

/// The one that kills the server.
#[test]
fn killer() {
    killer::killer();
}

/// So often a call is waited for.
const TRIES: usize = 10;

/// What comes after a message has left the queue, as its story for the journal,
/// is done then.
const REST: Duration = Duration::from_millis(500);

#[test]
fn what_was_answered_250_survives_a_kill_at_any_step_of_the_server() {
    let numbers = AtomicU64::new(0);
    let mut promises = Promises::default();
    let host = host();
    let log = host.path("log");

    // Whole runs show which steps there are; one before them makes what is made
    // but once.
    let mut whole = |server: Command| {
        let server = host.try_serve(server).unwrap();
        assert!(short_load(&server, &host, &numbers, &mut promises.kept));
        thread::sleep(REST);
        server
    };
    stop(whole(host.serving()));
    let runs = [(); 3].map(|()| {
        let server = whole(traced(&log, &["-D", "-e", TRACE], &host.serving()));
        let steps = steps::of(&log);
        stop(server);
        steps
    });
    let names = runs.each_ref().map(|run| run.iter().cloned().collect());
    let [first, second, third]: &[BTreeSet<String>; 3] = &names;
    for name in ["fsync", "linkat", "unlinkat"] {
        assert!(first.contains(name), "no {name} in {first:?}");
    }

    // In place of the first, of the second, and so on, until no run comes so far:
    // as threads share folder syncs, a run makes a few calls more or less.
    let (mut n_killed, mut n_more, mut met) = (0, 0, BTreeSet::new());
    let said = host.path("said");
    loop {
        let nth = n_killed + 1;
        let call = (0..TRIES).find_map(|_| {
            let mut killed = killed_at(nth, &host.serving());
            killed.stdout(File::create(&said).unwrap());
            let server = host.try_serve(killed);
            let lived = server.is_some_and(|server| {
                let lived = short_load(&server, &host, &numbers, &mut promises.kept) && {
                    thread::sleep(REST);
                    TcpStream::connect(server.smtp[0]).is_ok()
                };
                if lived {
                    killer::end(server.id());
                }
                // The killer, which ends after it.
                server.wait();
                lived
            });
            promises.look(&host);
            let said = fs::read_to_string(&said).unwrap();
            let call = call_of(&said).map(str::to_owned);
            assert_eq!(call.is_none(), lived, "call {nth}: {said}");
            call
        });
        let server = host.serve();
        wait_for_empty_queue(&host);
        stop(server);
        n_more = promises
            .check(&host, &format!("killed at call {nth}"))
            .max(n_more);
        let Some(call) = call else {
            break;
        };
        met.insert(call);
        n_killed = nth;
    }
    let n_steps = runs.map(|run| run.len());
    println!("{n_killed} steps killed, {n_steps:?} in whole runs, {n_more} copies more than one");
    // All kinds of calls that strace has seen in each run.
    let always = first
        .iter()
        .filter(|name| second.contains(*name) && third.contains(*name));
    let missed: Vec<_> = always.filter(|name| !met.contains(*name)).collect();
    assert!(
        missed.is_empty() && n_killed > 200,
        "{n_killed}, without {missed:?}"
    );
}
