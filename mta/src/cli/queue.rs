//! `postern queue`: what waits, and what is to be done with it.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::accounts::{self, Places};
use crate::journal;
use crate::printable::printable;
use crate::queue::disk::Folder;
use crate::queue::{Entry, Event, Locked, Queue, Record, State};
use crate::smtp::trace;

/// What is asked.
#[derive(Args, Debug)]
pub struct Request {
    /// Of what lies in quarantine, because a virus was found: list, show, release, drop
    #[arg(long, global = true)]
    quarantine: bool,
    #[command(subcommand)]
    command: Command,
}

impl Request {
    /// As `postern queue list`.
    pub(super) fn list() -> Self {
        Self {
            quarantine: false,
            command: Command::List { json: false },
        }
    }
}

/// What is done with queued messages.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what waits
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print the envelope of a message, what became of it, and its header section
    Show {
        /// Its ID
        id: String,
        /// The whole message, nothing else
        #[arg(long)]
        raw: bool,
    },
    /// Try messages now
    Retry {
        /// Their IDs; without any, all
        ids: Vec<String>,
    },
    /// Try messages no more, until they are released
    Hold {
        /// Their IDs
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Try held messages again
    Release {
        /// Their IDs
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Delete messages; their senders are not told
    Drop {
        /// Their IDs
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// A line of `list --json`.
#[derive(Serialize)]
struct Listed {
    r#type: &'static str,
    version: u32,
    id: String,
    arrived: u64,
    bytes: u64,
    from: String,
    held: bool,
    next_attempt: Option<u64>,
    recipients: Vec<ListedRecipient>,
}

#[derive(Serialize)]
struct ListedRecipient {
    address: String,
    state: &'static str,
    attempts: u32,
    text: String,
}

/// For how long somebody else may work on a message that is to be changed.
const WAIT: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);

/// Does it.
///
/// # Errors
/// With the reason.
pub fn run(
    request: Request,
    places: &Places,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let Request {
        quarantine,
        command,
    } = request;
    let queue = open(&places.queue())?;
    if quarantine {
        return with_infected(command, places, &queue, out);
    }
    let note = |ids: &[String], event: Event, what: &str| {
        let at = trace::seconds(now);
        let record = [Record { at, event }];
        each(&queue, places, ids, what, |mut taken| taken.note(&record))
    };
    match command {
        Command::List { json } => list(&queue, json, out)?,
        Command::Show { id, raw } => show(&queue, &id, raw, out)?,
        Command::Retry { ids } => {
            let ids = if ids.is_empty() { queue.ids()? } else { ids };
            note(&ids, Event::Retry, "retry")?;
        }
        Command::Hold { ids } => note(&ids, Event::Hold, "hold")?,
        Command::Release { ids } => note(&ids, Event::Release, "release")?,
        Command::Drop { ids } => {
            each(&queue, places, &ids, "drop", |taken| queue.remove(taken))?;
        }
    }
    Ok(())
}

/// The same for what lies in quarantine. What is released is queued, and not
/// scanned again.
fn with_infected(
    command: Command,
    places: &Places,
    queue: &Queue,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let quarantine = open(&places.quarantine())?;
    match command {
        Command::List { json } => list(&quarantine, json, out),
        Command::Show { id, raw } => show(&quarantine, &id, raw, out),
        Command::Drop { ids } => each(&quarantine, places, &ids, "drop", |taken| {
            quarantine.remove(taken)
        }),
        Command::Release { ids } => {
            let released = each(&quarantine, places, &ids, "release", |taken| {
                let message = taken.start(u64::MAX)?;
                queue.accept(&taken.entry, &[&message], &taken.id)?;
                quarantine.remove(taken)
            });
            queue.touch()?;
            released
        }
        Command::Hold { .. } | Command::Retry { .. } => {
            bail!("nothing is tried of what lies in quarantine; release puts it into the queue")
        }
    }
}

fn open(path: &Path) -> anyhow::Result<Queue> {
    let folder = Folder::open(path);
    let folder = folder.with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Queue::new(folder))
}

fn list(queue: &Queue, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut listed = Vec::new();
    let mut damaged = Vec::new();
    for id in queue.ids()? {
        match queue.look(&id) {
            Ok(Some(found)) => listed.push(listed_of(&found)),
            // It was delivered meanwhile.
            Ok(None) => {}
            Err(error) => damaged.push(error.to_string()),
        }
    }
    accounts::print(&listed, json, line, out)?;
    ensure!(damaged.is_empty(), "{}", damaged.join("; "));
    Ok(())
}

fn listed_of(found: &Locked<std::fs::File>) -> Listed {
    let entry = &found.entry;
    let recipients = entry.recipients.iter().map(|recipient| {
        let (state, attempts, text) = match &recipient.state {
            State::Open { attempts, text, .. } => ("open", *attempts, text),
            State::Done(text) => ("done", 0, text),
            State::Failed { text, .. } => ("failed", 0, text),
        };
        ListedRecipient {
            address: recipient.address.to_string(),
            state,
            attempts,
            text: text.clone(),
        }
    });
    Listed {
        r#type: "queued",
        version: 1,
        id: found.id.clone(),
        arrived: entry.arrived,
        bytes: found.size(),
        from: entry.reverse_path.to_string(),
        held: entry.is_held,
        next_attempt: entry.next_attempt(),
        recipients: recipients.collect(),
    }
}

fn line(row: &Listed) -> String {
    let when = match (row.held, row.next_attempt) {
        (true, _) => "held".to_owned(),
        (false, next) => format!("next {}", date(next.unwrap_or(row.arrived))),
    };
    let mut text = format!(
        "{}  {} bytes  from <{}>  {when}",
        row.id, row.bytes, row.from
    );
    for recipient in &row.recipients {
        let ListedRecipient {
            address,
            state,
            text: why,
            ..
        } = recipient;
        text.push_str(&format!("\n    {state:<6} {address}  {why}"));
    }
    text
}

fn show(queue: &Queue, id: &str, raw: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(found) = queue.look(id)? else {
        bail!("there is no message {id} in the queue");
    };
    if raw {
        io::copy(&mut found.message(), out)?;
        return Ok(());
    }
    writeln!(out, "{}", line(&listed_of(&found)))?;
    let Entry {
        arrived, client, ..
    } = &found.entry;
    writeln!(out, "    arrived {} from {client}\n", date(*arrived))?;
    let mut message = Vec::new();
    io::Read::read_to_end(&mut found.message(), &mut message)?;
    let head = crate::delivery::content::header_section(&message);
    for line in String::from_utf8_lossy(&message[..head]).lines() {
        writeln!(out, "{}", printable(line))?;
    }
    Ok(())
}

/// Does `work` to each message, which its story calls `what`, and lets the
/// server know.
fn each(
    queue: &Queue,
    places: &Places,
    ids: &[String],
    what: &str,
    work: impl Fn(Locked<std::fs::File>) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for id in ids {
        let Some(taken) = take(queue, id)? else {
            missing.push(id.as_str());
            continue;
        };
        work(taken)?;
        let what = what.to_owned();
        places.note(id, journal::Event::Administered { what })?;
    }
    queue.touch()?;
    ensure!(
        missing.is_empty(),
        "not in {}: {}",
        queue.disk().path().display(),
        missing.join(", ")
    );
    Ok(())
}

/// Waits while it is being delivered.
fn take(queue: &Queue, id: &str) -> anyhow::Result<Option<Locked<std::fs::File>>> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(taken) = queue.take(id)? {
            return Ok(Some(taken));
        }
        if queue.look(id)?.is_none() {
            return Ok(None);
        }
        ensure!(waited < WAIT, "{id} is being delivered; try again later");
        std::thread::sleep(STEP);
        waited += STEP;
    }
}

fn date(seconds: u64) -> String {
    trace::date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        request: Request,
    }

    fn run_line(places: &Places, line: &str) -> Result<String, String> {
        let line = Line::try_parse_from(std::iter::once("queue").chain(line.split(' '))).unwrap();
        let mut out = Vec::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000);
        run(line.request, places, now, &mut out).map_err(|error| format!("{error:#}"))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_waits_is_shown_held_released_and_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path());
        let queue = Queue::new(Folder::open(&places.queue()).unwrap());
        let head = "postern queue 1\narrived 1000\nfrom <anna@example.org>\nto <bob@example.net>\nsize 9\n\n";
        let (head, _) = Entry::parse(head.trim_end()).unwrap();
        let id = "00000000abc";
        queue.accept(&head, &[b"A: \x1b\n\nhi\n"], id).unwrap();
        let bob = "    open   bob@example.net\n";
        let first = format!("{id}  9 bytes  from <anna@example.org>  ");
        let date = "next Thu, 1 Jan 1970 00:16:40 +0000\n";
        assert_eq!(
            run_line(&places, "list").unwrap(),
            format!("{first}{date}{bob}")
        );
        run_line(&places, &format!("hold {id}")).unwrap();
        assert_eq!(
            run_line(&places, "list").unwrap(),
            format!("{first}held\n{bob}")
        );
        run_line(&places, &format!("release {id}")).unwrap();
        assert!(
            run_line(&places, &format!("show {id}"))
                .unwrap()
                .ends_with("\n\nA: ?\n")
        );
        assert_eq!(
            run_line(&places, &format!("show --raw {id}")).unwrap(),
            "A: \u{1b}\n\nhi\n"
        );
        run_line(&places, "retry").unwrap();
        let json = run_line(&places, "list --json").unwrap();
        assert!(
            json.starts_with("{\"type\":\"queued\",\"version\":1,\"id\":\"00000000abc\""),
            "{json}"
        );
        assert!(dir.path().join("queue").join(crate::queue::MARKER).exists());
        run_line(&places, &format!("drop {id}")).unwrap();
        assert_eq!(run_line(&places, "list").unwrap(), "");
        for line in [
            "show x",
            "drop x",
            "hold x",
            "drop --quarantine x",
            "retry --quarantine",
        ] {
            assert!(run_line(&places, line).is_err(), "{line}");
        }
        let story = journal::story(&places.journal(), id, 9).unwrap();
        let done = story.into_iter().map(|line| match line.event {
            journal::Event::Administered { what } => what,
            other => panic!("{other:?}"),
        });
        let done: Vec<String> = done.collect();
        assert_eq!(done, ["hold", "release", "retry", "drop"]);
    }

    #[test]
    fn what_lies_in_quarantine_is_released_or_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path());
        let quarantine = open(&places.quarantine()).unwrap();
        let head = "postern queue 1\narrived 1000\nfrom <>\nto <bob@example.org>\nsize 9\n";
        let (entry, _) = Entry::parse(head).unwrap();
        for id in ["00000000abc", "00000000abd"] {
            quarantine.accept(&entry, &[b"A: b\n\nhi\n"], id).unwrap();
        }
        run_line(&places, "drop --quarantine 00000000abd").unwrap();
        let listed = run_line(&places, "--quarantine list").unwrap();
        assert!(
            listed.starts_with("00000000abc") && !listed.contains("abd"),
            "{listed}"
        );
        run_line(&places, "release 00000000abc").unwrap_err();
        run_line(&places, "release --quarantine 00000000abc").unwrap();
        assert_eq!(run_line(&places, "list --quarantine").unwrap(), "");
        let raw = run_line(&places, "show --raw 00000000abc").unwrap();
        assert_eq!(raw, "A: b\n\nhi\n");
        assert!(places.queue().join(crate::queue::MARKER).exists());
    }
}
