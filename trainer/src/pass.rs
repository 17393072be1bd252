//! One pass over a mailbox: what its messages teach is learned, and what was
//! learned is moved on.
//!
//! [`look`] finds out what lies where and decides by [`crate::decision`];
//! [`Pass::carry_out`] does it, first the lessons, synced, then the moves. It
//! may be killed anywhere: what was learned is known to the ledger, and the
//! next pass decides the rest anew.
//!
//! Deliberately absent: any memory of its own. How long a message has lain
//! somewhere is its file's ctime, which every move within a file system sets.

use std::collections::HashMap;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use classifier::Label;
use classifier::modern::{
    self, Act, Canonical, Class, Digest, Keep, Lesson, Params, Stored, features, learn,
};
use classifier::store::{Durability, ModelStore};
use mailbox::{Entry, Flags, Folder, FolderName, Mailbox};

use crate::Error;
use crate::config::Settings;
use crate::decision::{self, Came, Decision, Known, Reason, Role, Sighting, Then, decide};

/// What is to be done with a mailbox.
#[derive(Debug, Default)]
pub struct Pass {
    /// In the order in which to do it.
    pub steps: Vec<Step>,
    /// When it is worth looking again; `None`: when something happens.
    pub look_again: Option<Duration>,
    /// Messages that could not be read, and why.
    pub unread: Vec<Error>,
}

/// One message with which something is to be done.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it lies.
    pub folder: FolderName,
    /// Its name when the folder was listed.
    pub entry: Entry,
    /// A lesson, a move, or both.
    pub decision: Decision,
}

/// What became of a step.
#[derive(Debug)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was no longer there under its name; the next pass sees where it is.
    Changed,
    /// It was not moved; what it taught is learned.
    Failed(Error),
}

/// Longer messages are not read: no mail server takes them.
const MAX_MESSAGE_BYTES: u64 = 256 << 20;

/// So many messages are learned in one change of the database.
const BATCH: usize = 64;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Decides what is to be done in `mailbox`.
///
/// Mail that has lain for days where it counts, or among what was learned, has
/// been decided and is not read again, so that a pass costs what is new.
///
/// # Errors
/// When the mailbox or the store cannot be read.
pub fn look(
    mailbox: &Mailbox,
    settings: &Settings,
    store: &dyn ModelStore,
    now: SystemTime,
) -> Result<Pass, Error> {
    let mut pass = Pass::default();
    let mut seen = Vec::new();
    for name in mailbox.folders()? {
        let name = name?;
        let role = settings.roles.role(&name);
        if let (false, Some(folder)) = (role == Role::Never, mailbox.folder(&name)?) {
            list(&folder, &name, role, settings, now, &mut seen, &mut pass)?;
        }
    }
    ask(&mut seen, store)?;
    let sides = Sides::of(&seen);
    let mut kept_today = seen.iter().filter(|seen| seen.is_kept_ham()).count();
    for message in &seen {
        let settings = settings.deciding(kept_today);
        let mut sighting = message.sighting(&sides);
        let mut decision = decide(&sighting, &settings);
        if decision.reason == Reason::ReadAndKept {
            sighting.surely_ham = is_surely_ham(mailbox, message, store)?;
            decision = decide(&sighting, &settings);
            kept_today += usize::from(decision.reason == Reason::ReadAndKept);
        }
        pass.add(message, decision);
    }
    Ok(pass)
}

/// A message as a pass found it.
struct Seen {
    folder: FolderName,
    role: Role,
    entry: Entry,
    lain: Duration,
    digest: Digest,
    marked: bool,
    known: Known,
}

fn list(
    folder: &Folder,
    name: &FolderName,
    role: Role,
    settings: &Settings,
    now: SystemTime,
    seen: &mut Vec<Seen>,
    pass: &mut Pass,
) -> Result<(), Error> {
    let decided_after = match role {
        Role::Spam | Role::WronglyCaught => Duration::MAX,
        _ => settings.keep_before_ham + DAY,
    };
    for entry in folder.entries()? {
        let entry = entry?;
        let details = match folder.examine(&entry) {
            Ok(Some(details)) => details,
            Ok(None) => continue,
            Err(error) => {
                pass.unread.push(error.into());
                continue;
            }
        };
        let lain = now.duration_since(details.changed).unwrap_or_default();
        if lain > decided_after {
            continue;
        }
        let raw = match read(folder, &entry) {
            Ok(Some(raw)) => raw,
            Ok(None) => continue,
            Err(error) => {
                pass.unread.push(error);
                continue;
            }
        };
        let canonical = Canonical::new(&raw);
        seen.push(Seen {
            folder: name.clone(),
            role,
            lain,
            digest: canonical.digest(),
            marked: is_marked(&raw),
            known: Known::No,
            entry,
        });
    }
    Ok(())
}

fn read(folder: &Folder, entry: &Entry) -> Result<Option<Vec<u8>>, Error> {
    let Some(file) = folder.open_message(entry)? else {
        return Ok(None);
    };
    let mut raw = Vec::new();
    let path = || folder.path().join(entry.name.as_os_str());
    file.take(MAX_MESSAGE_BYTES)
        .read_to_end(&mut raw)
        .map_err(|error| Error::io("read", path())(error))?;
    Ok(Some(raw))
}

/// Whether `bmf -p` took it for spam. `bmf` takes out such fields of others,
/// so on a host where it sees all mail only it can have written this one;
/// elsewhere a forged one only keeps spam from being learned.
fn is_marked(raw: &[u8]) -> bool {
    let mut lines = raw.split(|b| *b == b'\n');
    let header_section = lines
        .by_ref()
        .take_while(|line| !line.trim_ascii().is_empty());
    header_section
        .filter_map(|line| line.split_at_checked(MARK.len()))
        .any(|(start, _)| start.eq_ignore_ascii_case(MARK))
}

const MARK: &[u8] = b"X-Spam-Status: Yes";

/// Whether a user may have put a message of a spam folder there to be learned,
/// and it has not been: neither the ledger knows it nor did the filter file it.
///
/// # Errors
/// When the message or the store cannot be read.
pub fn is_unlearned(folder: &Folder, entry: &Entry, store: &dyn ModelStore) -> Result<bool, Error> {
    let Some(raw) = read(folder, entry)? else {
        return Ok(false);
    };
    let digest = Canonical::new(&raw).digest();
    let mut learned = None;
    store.look(&mut |view| {
        learned = modern::learned(view, &digest)?;
        Ok(())
    })?;
    Ok(learned.is_none() && !is_marked(&raw))
}

/// Asks the ledger, in one state of it, about all of them.
fn ask(seen: &mut [Seen], store: &dyn ModelStore) -> Result<(), Error> {
    store.look(&mut |view| {
        for message in seen.iter_mut() {
            let learned = modern::learned(view, &message.digest)?;
            let taught = learned.filter(|learned| !learned.own_verdict);
            message.known = taught.map_or(Known::No, |learned| Known::Learned(learned.label));
            message.marked |= learned.is_some_and(|l| l.own_verdict && l.label == Label::Spam);
        }
        Ok(())
    })?;
    Ok(())
}

/// On which sides each message lies: in a spam or learned folder, elsewhere.
struct Sides(HashMap<Digest, (bool, bool)>);

impl Sides {
    fn of(seen: &[Seen]) -> Self {
        let mut sides = HashMap::new();
        for message in seen.iter().filter(|seen| !seen.is_trashed()) {
            let (spam, other): &mut (bool, bool) = sides.entry(message.digest).or_default();
            *(if message.is_with_spam() { spam } else { other }) = true;
        }
        Self(sides)
    }

    fn has_twin(&self, message: &Seen) -> bool {
        let (spam, other) = self.0.get(&message.digest).copied().unwrap_or_default();
        if message.is_with_spam() { other } else { spam }
    }
}

impl Seen {
    fn is_trashed(&self) -> bool {
        self.entry.name.flags().contains(Flags::TRASHED)
    }

    fn is_with_spam(&self) -> bool {
        matches!(self.role, Role::Spam | Role::Learned)
    }

    /// Ham that has come by being kept, or was moved out of the spam folder,
    /// within the time that a pass looks back.
    fn is_kept_ham(&self) -> bool {
        self.known == Known::Learned(Label::Ham)
            && matches!(self.role, Role::Counting | Role::Archive)
    }

    fn sighting(&self, sides: &Sides) -> Sighting {
        Sighting {
            is: Some(self.role),
            came: Came::Found,
            lain: self.lain,
            flags: self.entry.name.flags(),
            known: self.known,
            marked: self.marked,
            has_twin: sides.has_twin(self),
            surely_ham: false,
        }
    }
}

fn is_surely_ham(mailbox: &Mailbox, message: &Seen, store: &dyn ModelStore) -> Result<bool, Error> {
    let Some(folder) = mailbox.folder(&message.folder)? else {
        return Ok(false);
    };
    let Some(raw) = read(&folder, &message.entry)? else {
        return Ok(false);
    };
    let features = features(&raw);
    let mut class = Class::Unsure;
    store.look(&mut |view| {
        class = modern::score(&features, &Stored::open(view)?, &Params::default()).class;
        Ok(())
    })?;
    Ok(class == Class::Ham)
}

impl Settings {
    fn deciding(&self, kept_today: usize) -> decision::Settings {
        decision::Settings {
            move_after: self.move_after,
            keep_before_ham: self.keep_before_ham,
            ham_cap_reached: kept_today as u64 >= self.ham_per_day,
        }
    }
}

impl Pass {
    fn add(&mut self, message: &Seen, decision: Decision) {
        if let Then::LookAgain(due) = decision.then {
            self.look_again = Some(self.look_again.map_or(due, |other| other.min(due)));
        }
        if decision.teaches().is_some() || decision.moves() {
            self.steps.push(Step {
                folder: message.folder.clone(),
                entry: message.entry.clone(),
                decision,
            });
        }
    }

    /// Learns and moves, and tells `log` about each step.
    ///
    /// # Errors
    /// When the store or the mailbox fails as a whole; then the rest is left
    /// to the next pass.
    pub fn carry_out(
        &self,
        mailbox: &Mailbox,
        settings: &Settings,
        store: &mut dyn ModelStore,
        now: SystemTime,
        mut log: impl FnMut(&Step, &Outcome),
    ) -> Result<(), Error> {
        for steps in self.steps.chunks(BATCH) {
            let there = teach(steps, mailbox, store, now)?;
            for (step, is_there) in steps.iter().zip(there) {
                let outcome = if is_there {
                    moved(step, mailbox, settings)
                } else {
                    Ok(false)
                };
                log(
                    step,
                    &match outcome {
                        Ok(true) => Outcome::Done,
                        Ok(false) => Outcome::Changed,
                        Err(error) => Outcome::Failed(error),
                    },
                );
            }
        }
        Ok(())
    }
}

impl Decision {
    /// The label to learn, if any.
    pub fn teaches(&self) -> Option<Label> {
        match self.lesson {
            decision::Lesson::Learn(label) => Some(label),
            _ => None,
        }
    }

    /// Whether the file goes somewhere else now.
    pub fn moves(&self) -> bool {
        matches!(self.then, Then::MoveToLearned | Then::MoveToInbox)
    }

    fn act(&self, label: Label) -> Act {
        match self.reason {
            // Nobody said that the filter was wrong.
            Reason::ReadAndKept => Act::Learn(label),
            _ => Act::Correct(label),
        }
    }
}

/// Learns what `steps` teach in one change, on disk when it returns. Tells of
/// each whether its message was still there.
fn teach(
    steps: &[Step],
    mailbox: &Mailbox,
    store: &mut dyn ModelStore,
    now: SystemTime,
) -> Result<Vec<bool>, Error> {
    let mut lessons = Vec::new();
    let mut there = Vec::new();
    for step in steps {
        let Some(label) = step.decision.teaches() else {
            there.push(true);
            continue;
        };
        let raw = match mailbox.folder(&step.folder)? {
            Some(folder) => read(&folder, &step.entry)?,
            None => None,
        };
        there.push(raw.is_some());
        lessons.extend(raw.map(|raw| Lesson::new(&raw, step.decision.act(label))));
    }
    if !lessons.is_empty() {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        learn(
            store,
            &lessons,
            seconds,
            &Keep::default(),
            Durability::Synced,
        )?;
    }
    Ok(there)
}

/// Moves the file where the decision says so. Tells whether it was there.
fn moved(step: &Step, mailbox: &Mailbox, settings: &Settings) -> Result<bool, Error> {
    let inbox = FolderName::inbox();
    let to = match step.decision.then {
        Then::MoveToLearned => &settings.learned,
        Then::MoveToInbox => &inbox,
        Then::Stay | Then::LookAgain(_) => return Ok(true),
    };
    let Some(from) = mailbox.folder(&step.folder)? else {
        return Ok(false);
    };
    let to = mailbox.create_folder(to)?;
    let was_there = from.move_to(&step.entry, &to)?;
    to.sync()?;
    from.sync()?;
    Ok(was_there)
}

#[cfg(test)]
mod tests;
