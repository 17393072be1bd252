//! The story of each message: what came, what was decided and why, where it
//! went. One JSON object a line, in two files of bounded size; readable by the
//! mail user alone; no bodies.
//!
//! When `journal` is full it becomes `journal.old` and a new one begins, so
//! that between half and all of what may be kept is there. It is not synced: a
//! power cut may cost its last seconds, never mail.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Where events are written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    max_bytes: u64,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
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
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let half = self.max_bytes / 2;
        let mut current = match open.take() {
            Some(current) => current,
            None => self.open_file()?,
        };
        if current.bytes > 0 && current.bytes + text.len() as u64 > half {
            fs::rename(&self.path, old(&self.path))?;
            current = self.open_file()?;
        }
        let current = open.insert(current);
        current.file.write_all(&text)?;
        current.bytes += text.len() as u64;
        Ok(())
    }

    fn open_file(&self) -> io::Result<Open> {
        let mut options = File::options();
        let file = options
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        let bytes = file.metadata()?.len();
        Ok(Open { file, bytes })
    }
}

fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// What is known of the last `n` messages that `wanted` fits: an ID, or an
/// address of a sender, recipient or user. In the order of time.
///
/// # Errors
/// When a file cannot be read.
pub fn story(path: &Path, wanted: &str, n: usize) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in [old(path), path.to_owned()] {
        match File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => {
                for line in BufReader::new(file?).lines() {
                    // A line that was cut off, or of a newer program.
                    lines.extend(serde_json::from_str::<Line>(&line?).ok());
                }
            }
        }
    }
    // A message begets others: their stories belong to it.
    let fits: Vec<&str> = lines
        .iter()
        .filter(|line| line.fits(wanted))
        .map(|l| l.id.as_str())
        .collect();
    let mut ids = BTreeSet::new();
    for id in fits.iter().rev() {
        if ids.len() < n {
            ids.insert((*id).to_owned());
        }
    }
    loop {
        let children: Vec<String> = lines
            .iter()
            .filter(|line| ids.contains(&line.id))
            .filter_map(|line| match &line.event {
                Event::Begot { child, .. } => Some(child.clone()),
                _ => None,
            })
            .filter(|child| !ids.contains(child))
            .collect();
        if children.is_empty() {
            break;
        }
        ids.extend(children);
    }
    lines.retain(|line| ids.contains(&line.id));
    Ok(lines)
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
            Event::Passed { .. }
            | Event::Scanned { .. }
            | Event::Authenticated { .. }
            | Event::Signed { .. }
            | Event::Begot { .. } => false,
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
        let begot = Event::Begot {
            what: "forward".into(),
            child: "2".into(),
        };
        for line in [
            line("1", delivered("anna@example.org")),
            line("1", begot),
            line("2", delivered("carol@example.net")),
            line("3", delivered("bob@example.org")),
            line("4", delivered("Anna@example.org")),
        ] {
            journal.note(&line).unwrap();
        }
        let ids = |wanted: &str, n| -> String {
            let story = story(&path, wanted, n).unwrap();
            story.iter().map(|line| line.id.as_str()).collect()
        };
        assert_eq!(ids("anna@example.org", 9), "1124");
        assert_eq!(ids("anna@example.org", 1), "4");
        assert_eq!(ids("2", 9), "2");
        assert_eq!(ids("nobody", 9), "");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
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
