//! One pass over a mailbox: what its messages teach is learned, and what was
//! learned is moved on.
//!
//! [`look`] finds out what lies where and decides by [`crate::decision`];
//! [`Pass::carry_out`] does it, first the lessons, synced, then the moves. It
//! may be killed anywhere: what was learned is known to the ledger, and the
//! next pass decides the rest anew.
//!
//! Deliberately absent: any knowledge of its own. How long a message has lain
//! somewhere is its file's ctime, which every move within a file system sets;
//! [`Memory`] only saves reading again.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use classifier::Label;
use classifier::mark::MarkKey;
use classifier::modern::{Act, Canonical};
use mailbox::{Entry, Folder, FolderName, Mailbox};

use crate::Error;
use crate::config::Settings;
use crate::decision::{self, Decision, Known, Reason, Role, Then, decide};
use crate::taught::{Reach, Taught};

mod looking;
mod memory;

pub(crate) use looking::read;
use looking::{Candidate, Looking, ask, is_marked, sides};
pub use memory::Memory;
use memory::{NEVER, milliseconds, seconds};

/// What is to be done with a mailbox.
#[derive(Debug, Default)]
pub struct Pass {
    /// In the order in which to do it.
    pub steps: Vec<Step>,
    /// There is more to read at once.
    pub more: bool,
    /// Messages that could not be read, and why.
    pub unread: Vec<Error>,
    /// Messages that their user moved to a spam folder or out of it, and that
    /// taught nothing.
    pub in_vain: Vec<InVain>,
}

/// A move that taught nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InVain {
    /// From where to where.
    pub way: String,
    /// Why it taught nothing.
    pub reason: String,
    /// When it happened, in seconds since 1970; `None`: since the last look.
    /// An earlier one may have been told of before.
    pub at: Option<u64>,
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

/// So many messages are learned in one change of the database.
const BATCH: usize = 64;

/// When the messages of a change take more memory than this it ends.
const BATCH_BYTES: usize = 16 << 20;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// After this, what failed is tried again.
const RETRY: Duration = Duration::from_secs(10 * 60);

/// What a look is about.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The user's mailbox.
    pub mailbox: &'a Mailbox,
    /// The user's settings.
    pub settings: &'a Settings,
    /// By which the filter marks for this user what it files; `None`: it does
    /// not.
    pub mark: Option<&'a MarkKey>,
    /// The present time.
    pub now: SystemTime,
}

/// Decides what is to be done in a mailbox, about some `most` messages at a
/// time; [`Pass::more`] says whether others were left out.
///
/// Mail that has lain for days where it counts, or among what was learned, has
/// been decided and is not read. What `memory` holds is not read again, and
/// folders that have not changed since are not even listed: a look costs what
/// is new.
///
/// # Errors
/// When the mailbox or the store cannot be read.
pub fn look(
    view: &View<'_>,
    taught: &Taught,
    memory: &mut Memory,
    most: usize,
) -> Result<Pass, Error> {
    let mut looking = Looking::new(view, memory, most);
    let mut candidates = looking.find()?;
    let (mut pass, is_unseen, gone) = (looking.pass, looking.is_unseen, looking.gone);
    ask(&mut candidates, taught)?;
    let sides = sides(&candidates, memory, view.settings);
    let reach = taught.reach()?;
    let known_since = known_since(reach, view.settings);
    let forgotten_before = forgotten_before(reach);
    for message in &candidates {
        if let Some(remembered) = memory.message(&message.folder, &message.entry) {
            remembered.is_kept_ham = message.known == Known::Learned(Label::Ham);
        }
    }
    let mut kept_today = n_kept(memory, view);
    let may_wait = |name: &FolderName| waits(view.settings.roles.role(name));
    let is_learned =
        |message: &&Candidate| waits(message.role) && matches!(message.known, Known::Learned(_));
    // Those that are decided anew wait for nothing at this moment.
    let mut n_waiting = memory.n_waiting(may_wait) + candidates.iter().filter(is_learned).count();
    for message in &candidates {
        let settings = view.settings.deciding(kept_today);
        let mut sighting = message.sighting(&sides, known_since, forgotten_before, view.now);
        let mut decision = decide(&sighting, &settings);
        if decision.reason == Reason::ReadAndKept {
            if is_unseen {
                // Of all mail together it will be seen how much is enough.
                decision.lesson = decision::Lesson::Nothing;
                decision.then = Then::LookAgain(Duration::ZERO);
            } else {
                sighting.surely_ham = is_surely_ham(view.mailbox, message, taught)?;
                decision = decide(&sighting, &settings);
                kept_today += usize::from(decision.reason == Reason::ReadAndKept);
            }
        }
        let will_wait = matches!(decision.then, Then::LookAgain(_));
        if waits(message.role) && will_wait && decision.teaches().is_some() {
            if n_waiting >= MOST_WAITING {
                decision.lesson = decision::Lesson::Nothing;
            }
            n_waiting += 1;
        }
        if let Some(remembered) = memory.message(&message.folder, &message.entry) {
            remembered.is_kept_ham |= decision.teaches() == Some(Label::Ham);
            remembered.due = match (decision.then, decision.reason) {
                (Then::LookAgain(left), _) => due_in(left, view.now),
                (_, Reason::HamCapReached) => seconds(view.now + DAY / 24),
                _ => NEVER,
            };
        }
        if message.is_new && decision.is_in_vain() {
            let moved = match gone.get(&message.digest) {
                Some(from) => message.moved_from(from, view.settings),
                // What was copied has not left yet.
                None if decision.reason == Reason::Twin => None,
                None => message.moved_before(),
            };
            pass.in_vain.extend(moved.map(|(from, at)| InVain {
                way: format!("{from} to {}", message.folder),
                reason: decision.reason.to_string(),
                at,
            }));
        }
        pass.add(message, decision);
    }
    pass.steps.sort_by_cached_key(|step| {
        let message = memory.message(&step.folder, &step.entry);
        (
            message.map(|message| message.changed),
            step.entry.name.clone(),
        )
    });
    for step in &pass.steps {
        // Until it is done.
        memory.set_due(step, seconds(view.now));
    }
    Ok(pass)
}

/// Not before it is due, though only whole seconds are remembered.
fn due_in(left: Duration, now: SystemTime) -> u32 {
    seconds(now + left).saturating_add(u32::from(!left.is_zero()))
}

/// Whether what its user puts there waits for a while to be moved on.
pub(crate) fn waits(role: Role) -> bool {
    matches!(role, Role::Spam | Role::WronglyCaught)
}

fn counts_as_kept(role: Role) -> bool {
    matches!(role, Role::Counting | Role::Archive)
}

/// Ham that has come by being kept, or was moved out of the spam folder,
/// within the time that a look goes back.
fn n_kept(memory: &Memory, view: &View<'_>) -> usize {
    let back = view.settings.keep_before_ham + DAY;
    let since = milliseconds(view.now).saturating_sub(back.as_millis() as u64);
    let kept = memory.read().filter(|(folder, message, _)| {
        message.is_kept_ham
            && message.changed >= since
            && counts_as_kept(view.settings.roles.role(folder))
    });
    kept.count()
}

/// Since when the ledger knows of whatever came to the learned folder if it was
/// learned: that happened shortly before it was moved there. `None`: it knows
/// of nothing.
pub fn known_since(reach: Reach, settings: &Settings) -> Option<SystemTime> {
    let oldest = UNIX_EPOCH + Duration::from_secs(reach.oldest?);
    Some(oldest + settings.move_after + MOVED_LATE)
}

/// What came to a folder before then the ledger may have known and forgotten;
/// `None`: it has forgotten nothing.
fn forgotten_before(reach: Reach) -> Option<SystemTime> {
    let oldest = reach.oldest.filter(|_| reach.has_forgotten)?;
    Some(UNIX_EPOCH + Duration::from_secs(oldest))
}

/// A message is moved no longer than an hour after it was due.
const MOVED_LATE: Duration = Duration::from_secs(60 * 60);

/// So many messages at most wait to be moved on with what they taught in the
/// ledger, which may let go of the entries of more. Others are learned when
/// they need not wait.
const MOST_WAITING: usize = 1_000;

/// Whether a user may have put a message of a spam folder, or of the learned
/// folder, there to be learned, and it has not been: neither the ledger knows
/// it nor did the filter file it. What came to the folder before `since` was
/// learned.
///
/// # Errors
/// When the message or the store cannot be read.
pub fn is_unlearned(
    folder: &Folder,
    entry: &Entry,
    taught: &Taught,
    mark: Option<&MarkKey>,
    since: SystemTime,
) -> Result<bool, Error> {
    let details = folder.examine(entry)?;
    if details.is_none_or(|details| details.changed <= since) {
        return Ok(false);
    }
    let Some(raw) = read(folder, entry)? else {
        return Ok(false);
    };
    let digest = Canonical::new(&raw).digest();
    let is_known = taught.entries(&[digest])?.iter().any(Option::is_some);
    Ok(!is_known && !is_marked(&raw, &digest, mark))
}

fn is_surely_ham(mailbox: &Mailbox, message: &Candidate, taught: &Taught) -> Result<bool, Error> {
    let Some(folder) = mailbox.folder(&message.folder)? else {
        return Ok(false);
    };
    let Some(raw) = read(&folder, &message.entry)? else {
        return Ok(false);
    };
    Ok(taught.is_surely_ham(&raw)?)
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
    fn add(&mut self, message: &Candidate, decision: Decision) {
        if decision.lesson != decision::Lesson::Nothing || decision.moves() {
            self.steps.push(Step {
                folder: message.folder.clone(),
                entry: message.entry.clone(),
                decision,
            });
        }
    }

    /// Learns and moves, notes in `memory` what was done, and tells `log` about
    /// each step.
    ///
    /// # Errors
    /// When the store or the mailbox fails as a whole; then the rest is left
    /// to the next pass.
    pub fn carry_out(
        &self,
        view: &View<'_>,
        taught: &mut Taught,
        memory: &mut Memory,
        mut log: impl FnMut(&Step, &Outcome),
    ) -> Result<(), Error> {
        for steps in self.steps.chunks(BATCH) {
            let there = teach(steps, view, taught)?;
            let mut touched = BTreeSet::new();
            for (step, is_there) in steps.iter().zip(there) {
                let outcome = match is_there.then(|| moved(step, view, &mut touched)) {
                    Some(Ok(true)) => Outcome::Done,
                    Some(Ok(false)) | None => Outcome::Changed,
                    Some(Err(error)) => Outcome::Failed(error),
                };
                memory.set_due(step, step.due_after(&outcome, view.now));
                log(step, &outcome);
            }
            for name in touched {
                if let Some(folder) = view.mailbox.folder(&name)? {
                    folder.sync()?;
                }
            }
        }
        Ok(())
    }
}

impl Step {
    fn due_after(&self, outcome: &Outcome, now: SystemTime) -> u32 {
        match (outcome, self.decision.then) {
            (Outcome::Failed(_), _) => seconds(now + RETRY),
            (Outcome::Changed, _) => seconds(now),
            (Outcome::Done, Then::LookAgain(left)) => due_in(left, now),
            (Outcome::Done, _) => NEVER,
        }
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

    /// Whether it does not teach what it would if all were well.
    fn is_in_vain(&self) -> bool {
        let is_right = matches!(
            self.reason,
            // Of filed mail: it will be learned.
            Reason::AlreadyLearned
                | Reason::Deleted
                | Reason::ReadAndKept
                | Reason::UserFiledSpam
                | Reason::UserFiledHam
        );
        self.teaches().is_none() && !self.moves() && !is_right
    }

    /// Whether the file goes somewhere else now.
    pub fn moves(&self) -> bool {
        matches!(self.then, Then::MoveToLearned | Then::MoveToInbox)
    }

    fn act(&self) -> Option<Act> {
        match (self.lesson, self.reason) {
            (decision::Lesson::Nothing, _) => None,
            (decision::Lesson::NoteFiled, _) => Some(Act::NoteFiled),
            // Nobody said that the filter was wrong.
            (decision::Lesson::Learn(label), Reason::ReadAndKept) => Some(Act::Learn(label)),
            (decision::Lesson::Learn(label), _) => Some(Act::Correct(label)),
        }
    }
}

/// Learns what `steps` teach, in one change unless that were too much for
/// memory, on disk when it returns. Tells of each whether its message was still
/// there.
fn teach(steps: &[Step], view: &View<'_>, taught: &mut Taught) -> Result<Vec<bool>, Error> {
    let since = view.now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut lessons, mut n_bytes) = (Vec::new(), 0);
    let mut there = Vec::new();
    for step in steps {
        let Some(act) = step.decision.act() else {
            there.push(true);
            continue;
        };
        let raw = match view.mailbox.folder(&step.folder)? {
            Some(folder) => read(&folder, &step.entry)?,
            None => None,
        };
        there.push(raw.is_some());
        n_bytes += raw.as_ref().map_or(0, Vec::len);
        lessons.extend(raw.map(|raw| (raw, act)));
        if n_bytes > BATCH_BYTES {
            taught.learn(&lessons, since.as_secs())?;
            (lessons, n_bytes) = (Vec::new(), 0);
        }
    }
    if !lessons.is_empty() {
        taught.learn(&lessons, since.as_secs())?;
    }
    Ok(there)
}

/// Moves the file where the decision says so. Tells whether it was there.
/// The folders in question are then `touched`, and to be synced.
fn moved(step: &Step, view: &View<'_>, touched: &mut BTreeSet<FolderName>) -> Result<bool, Error> {
    let inbox = FolderName::inbox();
    let name = match step.decision.then {
        Then::MoveToLearned => &view.settings.learned,
        Then::MoveToInbox => &inbox,
        Then::Stay | Then::LookAgain(_) => return Ok(true),
    };
    let Some(from) = view.mailbox.folder(&step.folder)? else {
        return Ok(false);
    };
    let to = view.mailbox.create_folder(name)?;
    touched.extend([step.folder.clone(), name.clone()]);
    Ok(from.move_to(&step.entry, &to)?)
}

#[cfg(test)]
mod tests;
