//! The story of each message: what came, what was decided and why, where it
//! went. One JSON object a line, in two files of bounded size; readable by the
//! mail user alone; no bodies.
//!
//! The first line of a file is `{"journal":1}`, the version of the format; a
//! file without it is of version 1, and one of a later version is neither read
//! nor written. Events that a reader does not know are passed over, so a new
//! one needs no new version.
//!
//! When `journal` is full it becomes `journal.old` and a new one begins, so
//! that between half and all of what may be kept is there. It is not synced: a
//! power cut may cost its last seconds, never mail.
//!
//! The server writes it, and `postern user` and `postern queue` beside it:
//! whoever writes has it locked (flock), and sees when another file has come in
//! its place.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use classifier::newer_format;
use serde::{Deserialize, Serialize};

/// Where events are written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    max_bytes: u64,
    open: Mutex<Option<File>>,
}

/// One event of one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since 1970.
    pub at: u64,
    /// The message, as its `Received` field and the queue call it.
    pub id: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen to a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// It came.
    Received {
        /// The reverse-path.
        from: String,
        /// The forward-paths.
        to: Vec<String>,
        /// Who brought it.
        client: String,
        /// The account that had logged in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// How large it is.
        bytes: u64,
    },
    /// It passed the gate.
    Passed {
        /// What was found all the same.
        seen: Vec<String>,
    },
    /// It came from outside, and was looked at.
    Authenticated {
        /// What was found, as its Authentication-Results field says.
        results: Vec<String>,
    },
    /// All of a message was refused, or a recipient before there was one.
    Refused {
        /// Whom it was for.
        to: Vec<String>,
        /// Who came, with mail from whom; missing where [`Event::Received`]
        /// says it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        came: Option<Came>,
        /// What was answered.
        reply: String,
        /// Why.
        reason: String,
        /// What the gate found, in the order in which it counts.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<String>,
    },
    /// The virus scanner spoke.
    Scanned {
        /// What it said.
        result: String,
    },
    /// It was forgotten, as the virus policy says.
    Discarded,
    /// It lies in quarantine, as the virus policy says.
    Quarantined,
    /// The filter spoke, for one user.
    Judged {
        /// Whose model.
        user: String,
        /// `spam`, `ham` or `unsure`.
        verdict: String,
        /// That it is spam.
        probability: f64,
        /// Above which it is.
        required: f64,
        /// What spoke for it most: where, what, how much.
        evidence: Vec<(String, String, f64)>,
    },
    /// It was signed, or a report about it.
    Signed {
        /// In whose name.
        domain: String,
        /// With which keys.
        selectors: Vec<String>,
    },
    /// It waits in the queue for these.
    Queued {
        /// The recipients.
        to: Vec<String>,
    },
    /// It was delivered.
    Delivered {
        /// To whom.
        to: String,
        /// Where it lies, or who has it.
        place: String,
    },
    /// It could not be delivered now.
    Deferred {
        /// To whom.
        to: String,
        /// Why.
        reason: String,
        /// When it is tried again, in seconds since 1970.
        next: u64,
    },
    /// It cannot be delivered.
    Failed {
        /// To whom.
        to: String,
        /// Why.
        reason: String,
    },
    /// Another message came of it: a forward or a report.
    Begot {
        /// `forward` or `report`.
        what: String,
        /// Its ID.
        child: String,
    },
    /// The administrator did something with it: `hold`, `release`, `retry` or
    /// `drop`.
    Administered {
        /// What.
        what: String,
    },
    /// A user got another address; what was known of the old one belongs to
    /// the new one.
    Renamed {
        /// The address so far.
        from: String,
        /// The new one.
        to: String,
    },
}

const VERSION: u64 = 1;

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct Head {
    journal: u64,
}

/// Who came with mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Came {
    /// The reverse-path.
    pub from: String,
    /// The client.
    pub client: String,
}

impl Journal {
    /// The journal at `path`, whose two files hold `max_bytes` at most.
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64) -> Self {
        Self {
            path: path.into(),
            max_bytes,
            open: Mutex::default(),
        }
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When the disk fails. No mail depends on it.
    pub fn note(&self, line: &Line) -> io::Result<()> {
        let mut text = format!("{}\n", serde_json::to_string(line)?);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = self.locked(open.take())?;
        let bytes = file.metadata()?.len();
        if bytes > 0 && bytes + text.len() as u64 > self.max_bytes / 2 {
            fs::rename(&self.path, beside(&self.path, "old"))?;
            file = self.locked(None)?;
        }
        if file.metadata()?.len() == 0 {
            let head = serde_json::to_string(&Head { journal: VERSION })?;
            text = format!("{head}\n{text}");
        }
        file.write_all(text.as_bytes())?;
        file.unlock()?;
        *open = Some(file);
        Ok(())
    }

    /// Takes `address`, a user's, out of everything: what the filter said to its
    /// user goes, and elsewhere `erased` stands in its place. So it does for the
    /// addresses that the user had before.
    ///
    /// # Errors
    /// When the disk fails; it can be done again.
    pub fn forget(&self, address: &str) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let _locked = self.locked(open.take())?;
        let mut name = address.to_owned();
        let mut rewritten = Vec::new();
        for path in [self.path.clone(), beside(&self.path, "old")] {
            let Some(lines) = lines_of(&path)? else {
                continue;
            };
            let mut kept = Vec::new();
            for line in lines.collect::<io::Result<Vec<_>>>()?.into_iter().rev() {
                match serde_json::from_str::<Line>(&line).map(|line| line.event) {
                    Ok(Event::Judged { user, .. }) if user == name => {}
                    Ok(Event::Renamed { from, to }) if to == name => name = from,
                    _ => kept.push(without(&line, &name)),
                }
            }
            rewritten.push((path, kept));
        }
        // The older file first: the newer one says which names there were.
        for (path, kept) in rewritten.iter().rev() {
            let new = beside(&self.path, "new");
            let mut options = File::options();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let mut out = BufWriter::new(options.open(&new)?);
            for line in kept.iter().rev() {
                writeln!(out, "{line}")?;
            }
            out.into_inner()?.sync_all()?;
            fs::rename(&new, path)?;
        }
        Ok(())
    }

    /// The file, locked; `open` is what it may still be.
    fn locked(&self, mut open: Option<File>) -> io::Result<File> {
        loop {
            let file = match open.take() {
                Some(file) => file,
                None => self.open_file()?,
            };
            file.lock()?;
            let (ours, there) = (file.metadata()?, fs::metadata(&self.path));
            match there {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(file);
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // Somebody has put another in its place.
                _ => {}
            }
        }
    }

    fn open_file(&self) -> io::Result<File> {
        let mut options = File::options();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(&self.path)?;
        must_be_known(&file)?;
        Ok(file)
    }
}

/// Whether this program may read and write it: no later version has.
fn must_be_known(mut file: &File) -> io::Result<()> {
    let mut first = String::new();
    // What is no UTF-8 is no first line.
    let _ = BufReader::new(file.take(256)).read_line(&mut first);
    file.rewind()?;
    match serde_json::from_str::<Head>(&first) {
        Ok(head) if head.journal > VERSION => {
            Err(io::Error::other(newer_format("it", head.journal, VERSION)))
        }
        _ => Ok(()),
    }
}

/// The lines of a file, where it is there.
fn lines_of(path: &Path) -> io::Result<Option<impl Iterator<Item = io::Result<String>>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    must_be_known(&file)?;
    Ok(Some(BufReader::new(file).lines()))
}

/// `text` with `erased` for each `address`, also one with a tag,
/// `anna+list@example.org`.
fn without(text: &str, address: &str) -> String {
    let Some((local_part, domain)) = address.rsplit_once('@') else {
        return text.to_owned();
    };
    // Of the same length: only ASCII letters of an address have two cases.
    let lower = text.to_ascii_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let length = |at: usize| {
        let behind = lower[at..].strip_prefix(local_part)?;
        let tag = match behind.starts_with('+') {
            true => behind.find(|c| !is_part(c))?,
            false => 0,
        };
        let rest = behind[tag..].strip_prefix('@')?.strip_prefix(domain)?;
        // Not before the rest of a longer domain; a full stop may follow.
        let rest_of_name = |c: char| c.is_alphanumeric() || "-_".contains(c);
        let ends = !rest.trim_start_matches('.').starts_with(rest_of_name);
        ends.then(|| lower.len() - at - rest.len())
    };
    let (mut kept, mut done) = (String::new(), 0);
    for (at, _) in lower.match_indices(local_part) {
        let begins = at >= done && !lower[..at].ends_with(is_part);
        if let Some(length) = begins.then(|| length(at)).flatten() {
            kept.push_str(&text[done..at]);
            kept.push_str("erased");
            done = at + length;
        }
    }
    kept + &text[done..]
}

/// `journal.old`, `journal.new`.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// What is known of the last `n` messages that `wanted` fits: an ID, or an
/// address of a sender, recipient or user. In the order of time. With a message
/// come those that it led to, forwards and reports, and those that led to it.
///
/// # Errors
/// When a file cannot be read.
pub fn story(path: &Path, wanted: &str, n: usize) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in [beside(path, "old"), path.to_owned()] {
        for line in lines_of(&file)?.into_iter().flatten() {
            // A line that was cut off, or of a newer program.
            lines.extend(serde_json::from_str::<Line>(&line?).ok());
        }
    }
    let mut ids = BTreeSet::new();
    let mut wanted = wanted;
    for line in lines.iter().rev() {
        if ids.len() < n && line.fits(wanted) {
            ids.insert(line.id.clone());
        }
        if let Event::Renamed { from, to } = &line.event
            && to.eq_ignore_ascii_case(wanted)
        {
            wanted = from;
        }
    }
    let begot: Vec<(String, String)> = lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::Begot { child, .. } => Some((line.id.clone(), child.clone())),
            _ => None,
        })
        .collect();
    let down = reach(&ids, begot.iter().map(|(parent, child)| (parent, child)));
    let up = reach(&ids, begot.iter().map(|(parent, child)| (child, parent)));
    lines.retain(|line| down.contains(&line.id) || up.contains(&line.id));
    Ok(lines)
}

/// `ids` and whatever `steps` lead to from them.
fn reach<'a>(
    ids: &BTreeSet<String>,
    steps: impl Iterator<Item = (&'a String, &'a String)> + Clone,
) -> BTreeSet<String> {
    let mut reached = ids.clone();
    loop {
        let next = steps.clone().filter(|(from, _)| reached.contains(*from));
        let new: Vec<String> = next
            .filter(|(_, to)| !reached.contains(*to))
            .map(|(_, to)| to.clone())
            .collect();
        if new.is_empty() {
            return reached;
        }
        reached.extend(new);
    }
}

impl Line {
    fn fits(&self, wanted: &str) -> bool {
        let is = |text: &String| text.eq_ignore_ascii_case(wanted);
        if is(&self.id) {
            return true;
        }
        match &self.event {
            Event::Received {
                from, to, account, ..
            } => is(from) || to.iter().chain(account).any(is),
            Event::Refused { to, came, .. } => {
                let from = came.as_ref().map(|came| &came.from);
                to.iter().chain(from).any(is)
            }
            Event::Queued { to } => to.iter().any(is),
            Event::Judged { user, .. } => is(user),
            Event::Delivered { to, .. } | Event::Deferred { to, .. } | Event::Failed { to, .. } => {
                is(to)
            }
            Event::Renamed { from, to } => is(from) || is(to),
            Event::Passed { .. }
            | Event::Scanned { .. }
            | Event::Authenticated { .. }
            | Event::Signed { .. }
            | Event::Discarded
            | Event::Quarantined
            | Event::Begot { .. }
            | Event::Administered { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn line(id: &str, event: Event) -> Line {
        Line {
            at: 1_000,
            id: id.into(),
            event,
        }
    }

    fn delivered(to: &str) -> Event {
        Event::Delivered {
            to: to.into(),
            place: "INBOX 1.host".into(),
        }
    }

    #[test]
    fn a_story_holds_what_came_of_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::new(&path, 1 << 20);
        let begot = |child: &str| Event::Begot {
            what: "forward".into(),
            child: child.into(),
        };
        for line in [
            line("1", delivered("anna@example.org")),
            line("1", begot("2")),
            line("1", begot("5")),
            line("2", delivered("carol@example.net")),
            line("5", delivered("dan@example.net")),
            line("3", delivered("bob@example.org")),
            line("4", delivered("Anna@example.org")),
        ] {
            journal.note(&line).unwrap();
        }
        let ids = |wanted: &str, n| -> String {
            let story = story(&path, wanted, n).unwrap();
            story.iter().map(|line| line.id.as_str()).collect()
        };
        assert_eq!(ids("anna@example.org", 9), "111254");
        assert_eq!(ids("anna@example.org", 1), "4");
        // What it came of, and not what else came of that.
        assert_eq!(ids("2", 9), "1112");
        assert_eq!(ids("nobody", 9), "");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_story_goes_with_a_user_who_gets_another_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let renamed = |from: &str, to: &str| Event::Renamed {
            from: from.into(),
            to: to.into(),
        };
        // The server has it open while others write.
        let (server, tool) = (Journal::new(&path, 1 << 20), Journal::new(&path, 1 << 20));
        server.note(&line("0", delivered("ann@x"))).unwrap();
        server.note(&line("1", delivered("anna@x"))).unwrap();
        tool.note(&line("2", renamed("anna@x", "ann@x"))).unwrap();
        server.note(&line("3", delivered("ann@x"))).unwrap();
        server.note(&line("4", delivered("anna@x"))).unwrap();
        let ids = |wanted: &str| -> String {
            let story = story(&path, wanted, 9).unwrap();
            story.iter().map(|line| line.id.as_str()).collect()
        };
        assert_eq!(ids("ann@x"), "123");
        assert_eq!(ids("anna@x"), "124");
    }

    #[test]
    fn whoever_is_removed_is_forgotten_also_while_others_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let server = Journal::new(&path, 1_000);
        let judged = |user: &str| Event::Judged {
            user: user.into(),
            verdict: "ham".into(),
            probability: 0.1,
            required: 0.9,
            evidence: vec![("Subject".into(), format!("secret of {user}"), -1.0)],
        };
        let note = |id: &str, event| server.note(&line(id, event)).unwrap();
        for (n, user) in ["anna@example.org", "bob@example.org"].iter().enumerate() {
            note(&n.to_string(), judged(user));
            note(&n.to_string(), delivered(user));
        }
        note("2", delivered("Anna+list@Example.org"));
        note("3", delivered("joanna@example.org"));
        note("4", delivered("anna@example.org.uk"));
        assert!(beside(&path, "old").exists());
        let tool = Journal::new(&path, 1_000);
        for _ in 0..2 {
            tool.forget("anna@example.org").unwrap();
        }
        note("5", delivered("bob@example.org"));
        assert!(story(&path, "anna@example.org", 9).unwrap().is_empty());
        let all =
            [beside(&path, "old"), path.clone()].map(|path| fs::read_to_string(path).unwrap());
        let all = all.concat();
        for gone in ["secret of anna", "\"anna@example.org\"", "list"] {
            assert!(!all.contains(gone), "{gone} is still in {all}");
        }
        for kept in [
            "secret of bob",
            "joanna@example.org",
            "anna@example.org.uk",
            "\"5\"",
        ] {
            assert!(all.contains(kept), "{kept} is gone from {all}");
        }
        assert!(!beside(&path, "new").exists());
    }

    #[test]
    fn files_say_their_version_and_a_later_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let note = |id| Journal::new(&path, 400).note(&line(id, delivered("anna@x")));
        note("1").unwrap();
        note("2").unwrap();
        // Also after a new one was begun.
        while !beside(&path, "old").exists() {
            note("3").unwrap();
        }
        for file in [&path, &beside(&path, "old")] {
            let text = fs::read_to_string(file).unwrap();
            assert_eq!(text.matches("{\"journal\":1}\n").count(), 1, "{text}");
            assert!(text.starts_with("{\"journal\":1}\n"), "{text}");
        }
        assert!(story(&path, "anna@x", 9).is_ok());
        // A file of before, to which is written as it is.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.split_once('\n').unwrap().1).unwrap();
        Journal::new(&path, 1 << 20)
            .note(&line("4", delivered("anna@x")))
            .unwrap();
        assert_eq!(story(&path, "4", 9).unwrap().len(), 1);
        let later = "{\"journal\":2,\"more\":[]}\n{\"id\":9}\n";
        fs::write(&path, later).unwrap();
        let journal = Journal::new(&path, 400);
        for refused in [
            journal.note(&line("5", delivered("anna@x"))),
            journal.forget("anna@x"),
            story(&path, "anna@x", 9).map(drop),
        ] {
            let reason = refused.unwrap_err().to_string();
            assert!(reason.contains("has format version 2"), "{reason}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), later);
    }

    #[test]
    fn it_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        for n in 0..200 {
            // Also over restarts.
            let journal = Journal::new(&path, 4_000);
            journal
                .note(&line(&n.to_string(), delivered("anna@example.org")))
                .unwrap();
            drop(journal);
        }
        let journal = Journal::new(&path, 4_000);
        for n in 200..400 {
            journal
                .note(&line(&n.to_string(), delivered("anna@example.org")))
                .unwrap();
            let bytes: u64 = dir
                .path()
                .read_dir()
                .unwrap()
                .map(|f| f.unwrap().metadata().unwrap().len())
                .sum();
            assert!(bytes <= 4_000, "{bytes}");
        }
        let story = story(&path, "anna@example.org", 1_000).unwrap();
        assert!(story.len() >= 10);
        assert_eq!(story.last().unwrap().id, "399");
    }
}
