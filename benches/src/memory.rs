//! Anonymous memory of processes, that is what the system must find for them:
//! `RssAnon` of /proc/PID/status. Mapped files (the program, its libraries,
//! the database, a spilled message) lie in the page cache and are not in it.

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use memchr::memmem;
use tests::differential::Format;

use crate::filters::{Databases, Filter};
use crate::mail::Mail;
use crate::record::{Bound, Goal, Record, Series};

const OURS: Filter = Filter::Ours(Format::Db);

const QUANTITY: &str = "anonymous memory";
const SINGLE: &str = "score one";
const MBOX: &str = "1 GiB mbox";
const MESSAGE: &str = "1 GiB message";

const MEBI: f64 = (1 << 20) as f64;

/// Bytes that a Linux pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// A `-t` of one message: measured when it wants to write its answer into a
/// pipe that is full, and so waits with all that it has.
pub(crate) fn single(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
) -> anyhow::Result<()> {
    for filter in [
        OURS,
        Filter::Ours(Format::Text),
        Filter::Original(Format::Db),
        Filter::Original(Format::Text),
    ] {
        let mut values = Vec::new();
        for sample in &mail.samples {
            let (mut answer, mut pipe) = io::pipe()?;
            pipe.write_all(&[b' '; PIPE_BYTES])?;
            let mut child = filter
                .command(&databases.trained(filter))
                .arg("-t")
                .stdin(fs::File::open(&sample.path)?)
                .stdout(pipe)
                .spawn()?;
            let rss_anon = when_blocked(&child)?;
            let mut text = Vec::new();
            answer.read_to_end(&mut text)?;
            child.wait()?;
            let answered = memmem::find(&text, b"# Spamicity: ").is_some();
            ensure!(answered, "{} gave no answer", filter.name());
            values.push(rss_anon);
        }
        add(record, SINGLE, filter.name(), values);
    }
    goal(record, SINGLE, OURS.name(), 8.0);
    Ok(())
}

/// An endless mbox through each mode: its length does not matter.
pub(crate) fn mbox(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    n_bytes: u64,
) -> anyhow::Result<()> {
    let mbox = fs::read(&mail.bulk)?;
    let lengths = mail
        .bulk_messages()?
        .into_iter()
        .map(|message| message.len());
    let largest = lengths.max().unwrap_or(0) as f64 / MEBI;
    for (contender, option) in [("bmf -t", "-t"), ("bmf -p", "-p"), ("bmf -s", "-s")] {
        let folder = databases.copy(OURS, MBOX)?;
        let mut command = OURS.command(&folder);
        let through = pipe_through(command.arg(option), |pipe| {
            let mut written = 0;
            for copy in 0.. {
                pipe.write_all(&mbox)?;
                pipe.write_all(&fresh_words(copy))?;
                written += mbox.len() as u64;
                if written >= n_bytes {
                    break;
                }
            }
            Ok(())
        })?;
        let least_out = match option {
            "-p" => n_bytes,
            "-t" => n_bytes / 1000,
            _ => 0,
        };
        ensure!(
            through.code < 2 && through.n_out >= least_out,
            "{contender} lost mail"
        );
        through.add_to(record, MBOX, contender);
        goal(record, MBOX, contender, 32.0 + largest);
    }
    Ok(())
}

/// A message of words that no other message holds, so that a database grows
/// however often the mail is repeated.
fn fresh_words(copy: usize) -> Vec<u8> {
    let mut message = b"From bench@example.org Thu Jan  1 00:00:00 1970\n".to_vec();
    for n in 0..5_000 {
        message.extend(format!("fresh {copy}x{n}w\n").into_bytes());
    }
    message
}

/// One message that is too long for memory: it is spilled to a file.
pub(crate) fn message(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    n_bytes: u64,
) -> anyhow::Result<()> {
    let lines = fs::read(&mail.bulk)?;
    for (contender, options) in [("bmf -t", "-t"), ("bmf -t -p", "-tp")] {
        let mut command = OURS.command(&databases.trained(OURS));
        let through = pipe_through(command.arg(options), |pipe| {
            // It does not begin with `From `, so all of it is one message.
            pipe.write_all(b"Subject: a long message\n\n")?;
            for _ in 0..n_bytes.div_ceil(lines.len() as u64) {
                pipe.write_all(&lines)?;
            }
            Ok(())
        })?;
        let least_out = if options == "-tp" { n_bytes } else { 0 };
        ensure!(
            through.code < 2 && through.n_out >= least_out,
            "{contender} lost mail"
        );
        through.add_to(record, MESSAGE, contender);
        // Up to 64 MiB of a message are kept before it is spilled.
        goal(record, MESSAGE, contender, 32.0 + 64.0);
    }
    Ok(())
}

/// What happened to a process that much was piped through.
struct Through {
    code: i32,
    n_out: u64,
    /// The most that was seen, in MiB.
    rss_anon: f64,
    seconds: f64,
}

impl Through {
    fn add_to(&self, record: &mut Record, workload: &'static str, contender: &'static str) {
        add(record, workload, contender, vec![self.rss_anon]);
        record.add(Series {
            workload,
            contender,
            quantity: "time",
            unit: "s",
            values: vec![self.seconds],
        });
    }
}

/// Runs `command` between a thread that writes and one that reads, and looks
/// at its memory every few milliseconds.
fn pipe_through(
    command: &mut Command,
    write: impl FnOnce(&mut ChildStdin) -> io::Result<()> + Send,
) -> anyhow::Result<Through> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a pipe was asked for")?;
    let mut stdout = child.stdout.take().context("a pipe was asked for")?;
    thread::scope(|scope| {
        let writer = scope.spawn(move || write(&mut stdin));
        let reader = scope.spawn(move || io::copy(&mut stdout, &mut io::sink()));
        let mut most: f64 = 0.0;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            // Gone between the two looks.
            most = most.max(rss_anon(&child).unwrap_or(0.0));
            thread::sleep(Duration::from_millis(2));
        };
        let joined = "the thread did not panic";
        writer
            .join()
            .expect(joined)
            .with_context(|| format!("{command:?}"))?;
        Ok(Through {
            code: status.code().context("it was killed")?,
            n_out: reader.join().expect(joined)?,
            rss_anon: most,
            seconds: start.elapsed().as_secs_f64(),
        })
    })
}

/// Waits until `child` sleeps and no longer changes, and returns its memory.
fn when_blocked(child: &Child) -> anyhow::Result<f64> {
    let path = format!("/proc/{}/status", child.id());
    let mut before = String::new();
    let mut same = 0;
    while same < 5 {
        thread::sleep(Duration::from_millis(2));
        let status = fs::read_to_string(&path)?;
        let blocked = status.contains("State:\tS") && status == before;
        same = if blocked { same + 1 } else { 0 };
        before = status;
    }
    rss_anon(child)
}

/// In MiB.
fn rss_anon(child: &Child) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let mut lines = status.lines();
    let field = lines.find_map(|line| line.strip_prefix("RssAnon:"));
    let number = field.and_then(|field| field.trim().strip_suffix(" kB"));
    let kibibytes: f64 = number.context("no RssAnon in /proc")?.parse()?;
    Ok(kibibytes / 1024.0)
}

fn add(record: &mut Record, workload: &'static str, contender: &'static str, values: Vec<f64>) {
    record.add(Series {
        workload,
        contender,
        quantity: QUANTITY,
        unit: "MiB",
        values,
    });
}

fn goal(record: &mut Record, workload: &'static str, contender: &'static str, most: f64) {
    record.goal(Goal {
        workload,
        quantity: QUANTITY,
        contender,
        peer: None,
        bound: Some(Bound::AtMost(most)),
    });
}
