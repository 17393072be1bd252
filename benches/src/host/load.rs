//! What is sent and by whom, and how it is seen that all has come.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use classifier::Label;
use corpora::Message;
use corpora::generate::{Generator, Options};
use tests::programs::peer_in_sbin;

use super::{SESSIONS, USERS};

/// What the filter has learned before.
const LESSONS: usize = 2_000;
const SIZES: std::ops::RangeInclusive<usize> = 3_900..=4_200;
/// All of it takes a few minutes at most.
const BOUND: Duration = Duration::from_secs(900);

/// Mail to send, and mail that was learned before.
pub(super) struct Load {
    /// One for each user: ham and spam by turns, about 4 kB.
    files: Vec<PathBuf>,
    pub(super) lessons: Vec<Message>,
    n: usize,
}

impl Load {
    pub(super) fn prepare(folder: &Path, n: usize) -> anyhow::Result<Self> {
        ensure!(
            n >= 1_000 && n.is_multiple_of(200),
            "messages: a multiple of 200, at least 1000"
        );
        let mut mail = Generator::new(&Options {
            seed: 1,
            n_messages: 10 * LESSONS,
            ..Options::default()
        });
        let lessons: Vec<Message> = mail.by_ref().take(LESSONS).collect();
        let mut fitting = mail.filter(|message| SIZES.contains(&message.bytes.len()));
        let mut files = Vec::new();
        for user in 0..USERS {
            let label = [Label::Ham, Label::Spam][user % 2];
            let message = fitting.find(|message| message.label == label);
            let file = folder.join(format!("mail-{user}"));
            fs::write(&file, message.context("there is no message of 4 kB")?.bytes)?;
            files.push(file);
        }
        Ok(Self { files, lessons, n })
    }

    /// Sends `n` messages, each over a connection of its own; returns when the
    /// last was accepted.
    pub(super) fn send(
        &self,
        port: u16,
        n: usize,
        to: impl Fn(usize) -> String,
    ) -> anyhow::Result<()> {
        debug_assert!(n <= self.n);
        let start = |(user, file): (usize, &PathBuf)| {
            peer_in_sbin("smtp-source")
                .args(["-s", &(SESSIONS / USERS).to_string()])
                .args(["-m", &(n / USERS).to_string()])
                .args(["-f", "x@example.net", "-t", &to(user)])
                .arg("-F")
                .arg(file)
                .arg(format!("127.0.0.1:{port}"))
                .spawn()
        };
        let sources: Result<Vec<Child>, _> = self.files.iter().enumerate().map(start).collect();
        for mut source in sources? {
            let status = source.wait()?;
            ensure!(status.success(), "smtp-source: {status}");
        }
        Ok(())
    }
}

/// Returns when `n` messages lie in `folders`.
pub(super) fn wait_for_mail(name: &str, folders: &[PathBuf], n: usize) -> anyhow::Result<()> {
    wait_for(name, n, || {
        let count = |folder: &PathBuf| fs::read_dir(folder).map_or(0, Iterator::count);
        folders.iter().map(count).sum()
    })
}

fn wait_for(name: &str, n: usize, look: impl Fn() -> usize) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let found = look();
        if found >= n {
            ensure!(found == n, "{name}: {found} messages came of {n}");
            return Ok(());
        }
        ensure!(
            start.elapsed() < BOUND,
            "{name}: only {found} messages came of {n}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Postfix's smtp-sink, which takes everything.
pub(super) struct Sink {
    process: Child,
    pub(super) port: u16,
    taken: Arc<AtomicUsize>,
}

impl Sink {
    pub(super) fn start() -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut process = peer_in_sbin("smtp-sink")
            .args(["-c", "-u", "root", &format!("127.0.0.1:{port}"), "1000"])
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(process.stdout.take().context("a pipe was asked for")?);
        let taken = Arc::new(AtomicUsize::new(0));
        let sum = Arc::clone(&taken);
        thread::spawn(move || {
            for counts in said.split(b'\r').map_while(Result::ok) {
                let counts = String::from_utf8_lossy(&counts).into_owned();
                let n = counts.split("mesg=").nth(1).map(str::trim);
                if let Some(n) = n.and_then(|n| n.parse().ok()) {
                    sum.store(n, Ordering::Relaxed);
                }
            }
        });
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(start.elapsed() < BOUND, "smtp-sink does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            process,
            port,
            taken,
        })
    }

    /// How many messages it took so far.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Returns when it has taken `n`.
    pub(super) fn wait_for(&self, name: &str, n: usize) -> anyhow::Result<()> {
        wait_for(name, n, || self.taken())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that takes every connection and never says a word.
pub(super) struct Dead {
    pub(super) port: u16,
}

impl Dead {
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        Ok(Self { port })
    }
}

/// `n` clients that were greeted and say nothing.
pub(super) fn greeted(port: u16, n: usize) -> anyhow::Result<Vec<TcpStream>> {
    let one = |_| -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        let mut code = [0; 3];
        stream.read_exact(&mut code)?;
        ensure!(&code == b"220", "a client was sent away");
        Ok(stream)
    };
    (0..n).map(one).collect()
}

pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
