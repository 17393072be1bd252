//! How fast `bmfd serve` answers.
//!
//! `make bench-asking` starts the daemon with the models of 5,000 users, and
//! prints: requests answered a second about a message of 5 kB over one and over
//! 32 connections, by its own protocol and by that of spamd, for one user and
//! for all, with SpamAssassin's spamd beside it where that is unpacked
//! (`POSTERN_PEERS`); and memory with a bounded cache. An answer that is not the
//! right one ends the bench.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use classifier::Label;
use classifier::cli::wire::{HEADER_LEN, Header, Reply, Request};
use classifier::cli::{Mode, Output};
use classifier::modern::{Act, Keep, Lesson, learn};
use classifier::store::Durability;
use classifier_rocksdb::HostStore;
use trainer::service::plain;

use daemon::Daemon;

mod daemon;

const USERS: usize = 5_000;
const FOR_EACH: Duration = Duration::from_secs(3);
const CACHE_BYTES: usize = 64 << 20;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    teach(&dir.path().join("lib"));
    let [socket, spamd] = ["socket", "spamd"].map(|name| dir.path().join(name));
    let config = format!(
        "database.model_cache_bytes = {CACHE_BYTES}\nspamd.socket = '{}'\n",
        spamd.display()
    );
    let daemon = Daemon::start(dir.path(), &config, Stdio::null());
    wait_for(&spamd);
    for (n, users) in [(1, 1), (32, 1), (1, USERS), (32, USERS)] {
        println!(
            "bmf's protocol, {n} connections, {users} users: {:.0} answers a second",
            rate(n, |n| ask_again_and_again(&socket, n, users))
        );
    }
    for n in [1, 32] {
        println!(
            "spamd's protocol, {n} at once: {:.0} answers a second",
            rate(n, |n| check_again_and_again(&spamd, n))
        );
    }
    match Spamd::start(&dir.path().join("spamassassin")) {
        Some(spamd) => spamd.measure(),
        None => println!("no spamd in POSTERN_PEERS: not compared"),
    }
    println!(
        "resident with {} MiB for models: {} MiB",
        CACHE_BYTES >> 20,
        daemon.resident_mib()
    );
}

fn wait_for(socket: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < end, "no {}", socket.display());
        thread::sleep(Duration::from_millis(10));
    }
}

fn message(words: &str) -> Vec<u8> {
    let mut text = format!("From: a@example.org\nSubject: {words}\n\n");
    for n in 0.. {
        if text.len() >= 5_000 {
            break;
        }
        text += &format!("{words} and word{n} of line{}\n", n * 7 % 300);
    }
    text.into_bytes()
}

/// One that is learned: with words of its own, as many as real mail has, so
/// that word lists grow as they do.
fn lesson(words: &str, n: usize) -> Vec<u8> {
    let mut text = message(words);
    for own in 0..100 {
        text.extend_from_slice(format!("own{n}x{own} ").as_bytes());
    }
    text.push(b'\n');
    text
}

/// One user has learned much, the others a little.
fn teach(path: &Path) {
    let host = HostStore::open(path, &Default::default()).unwrap();
    let lessons = |n: usize| -> Vec<_> {
        let kinds = [
            ("cheap watches", Label::Spam),
            ("lunch tomorrow", Label::Ham),
        ];
        let one = |n: usize| {
            kinds.map(|(words, label)| Lesson::new(&lesson(words, n), Act::Learn(label)))
        };
        (0..n).flat_map(one).collect()
    };
    let (much, little) = (lessons(200), lessons(3));
    for n in 0..USERS {
        let lessons = if n == 0 { &much } else { &little };
        let mut model = host.model(&format!("u{n}"));
        learn(
            &mut model,
            lessons,
            1,
            &Keep::default(),
            Durability::Relaxed,
        )
        .unwrap();
    }
}

/// Answers a second by `n` threads, each of which counts its own.
fn rate(n: usize, work: impl Fn(usize) -> u64 + Sync) -> f64 {
    let started = Instant::now();
    let all: u64 = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..n).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    all as f64 / started.elapsed().as_secs_f64()
}

fn ask_again_and_again(socket: &Path, thread: usize, users: usize) -> u64 {
    let mut stream = UnixStream::connect(socket).unwrap();
    let message = message("cheap watches");
    let ask = plain(Mode::Test, Output::Nothing);
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed() < FOR_EACH {
        let user = (thread * 157 + n as usize * 31) % users;
        let request = Request::Message {
            ask,
            user: &format!("u{user}"),
            message: &message,
        };
        stream.write_all(&request.to_bytes().unwrap()).unwrap();
        let mut head = [0; HEADER_LEN];
        stream.read_exact(&mut head).unwrap();
        let header = Header::parse(&head).unwrap();
        let mut content = vec![0; header.len as usize];
        stream.read_exact(&mut content).unwrap();
        match Reply::parse(header, &content).unwrap() {
            Reply::Verdict(verdict) => assert!(verdict.is_spam || user != 0),
            reply => panic!("{reply:?}"),
        }
        n += 1;
    }
    n
}

fn check_again_and_again(socket: &Path, _: usize) -> u64 {
    again_and_again(socket, "CHECK SPAMC/1.5\r\nUser: u0", "Spam: True")
}

/// How often `expected` was answered to a request about spam.
fn again_and_again(socket: &Path, request: &str, expected: &str) -> u64 {
    let message = message("cheap watches");
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed() < FOR_EACH {
        let answer = ask_spamd(socket, request, &message);
        assert!(answer.contains(expected), "{answer}");
        n += 1;
    }
    n
}

fn ask_spamd(socket: &Path, request: &str, message: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let head = format!("{request}\r\nContent-length: {}\r\n\r\n", message.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(message).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// SpamAssassin's daemon as `bmfeval` runs it, with a child for each processor.
struct Spamd {
    dir: PathBuf,
}

impl Spamd {
    fn start(dir: &Path) -> Option<Self> {
        let peers = PathBuf::from(env::var_os("POSTERN_PEERS")?);
        if !peers.join("usr/sbin/spamd").exists() {
            return None;
        }
        fs::create_dir_all(dir.join("rules")).unwrap();
        let share = peers.join("usr/share/spamassassin");
        let config = format!(
            "loadplugin Mail::SpamAssassin::Plugin::Check\n\
             loadplugin Mail::SpamAssassin::Plugin::Bayes\n\
             include {0}/20_aux_tlds.cf\ninclude {0}/23_bayes.cf\n\
             include {0}/60_bayes_stopwords.cf\nbayes_path {1}/bayes\nbayes_auto_learn 0\n\
             bayes_min_ham_num 20\nbayes_min_spam_num 20\n\
             clear_headers\nadd_header all Bayes _BAYES_\n",
            share.display(),
            dir.display()
        );
        fs::write(dir.join("rules/bayes.cf"), config).unwrap();
        let script = "as= ; [ \"$(id -u)\" != 0 ] || as='unshare --user --map-user=1000'
            for folder in \"$0\"/share/perl5 \"$0\"/lib/*/perl5/5*; do set -- \"$@\" \"-I$folder\"; done
            exec $as perl -T \"$@\" \"$0/sbin/spamd\" --daemonize --local --nouser-config --allow-tell \
                --min-children=2 --max-children=2 --configpath=\"$PWD/rules\" --siteconfigpath=\"$PWD\" \
                --helper-home-dir=\"$PWD\" --socketpath=\"$PWD/socket\" --pidfile=\"$PWD/pid\" --syslog=\"$PWD/log\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(peers.join("usr"));
        let status = command.current_dir(dir).status();
        assert!(status.unwrap().success(), "spamd does not start");
        let spamd = Self {
            dir: dir.to_owned(),
        };
        wait_for(&spamd.socket());
        Some(spamd)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    fn measure(&self) {
        for n in 0..20 {
            for (words, class) in [("cheap watches", "spam"), ("lunch tomorrow", "ham")] {
                let request = format!("TELL SPAMC/1.5\r\nMessage-class: {class}\r\nSet: local");
                let answer = ask_spamd(&self.socket(), &request, &lesson(words, n));
                assert!(answer.contains("DidSet: local"), "{answer}");
            }
        }
        for n in [1, 32] {
            let ask = |_| again_and_again(&self.socket(), "PROCESS SPAMC/1.5", "X-Spam-Bayes: 1.0");
            println!("spamd, {n} at once: {:.0} answers a second", rate(n, ask));
        }
    }
}

impl Drop for Spamd {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.dir.join("pid")) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}
