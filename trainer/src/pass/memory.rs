//! What looks have found out about the messages of a mailbox, so that the
//! next one need not read them again.
//!
//! It says which message lies where, and when it is due; never what was
//! learned, which the ledger alone knows. So it can be dropped at any time,
//! and costs some 40 bytes a message.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use classifier::modern::Digest;
use mailbox::{Entry, Flags, FolderName, Half, Mark};

use super::Step;

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) folders: BTreeMap<FolderName, Listing>,
}

/// A folder as it was listed.
#[derive(Debug)]
pub(super) struct Listing {
    marks: [Mark; 2],
    at: SystemTime,
    /// Everything in it was read that is to be read.
    pub(super) is_complete: bool,
    /// By key.
    pub(super) messages: Vec<Remembered>,
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    pub(super) key: Key,
    /// `None`: it need not be read, or cannot be.
    pub(super) digest: Option<Digest>,
    /// Its ctime, in milliseconds since 1970.
    pub(super) changed: u64,
    /// When to decide about it again, in seconds since 1970.
    pub(super) due: u32,
    pub(super) flags: Flags,
    pub(super) half: Half,
    pub(super) is_marked: bool,
    /// Counts for what was learned today because it was kept.
    pub(super) is_kept_ham: bool,
    /// It may have been still being written when it was read.
    pub(super) is_fresh: bool,
}

/// Stands for a message's name without its flags. Who makes two names with the
/// same one has one message of his own overlooked.
pub(super) type Key = u64;

/// When nothing is due.
pub(super) const NEVER: u32 = u32::MAX;

/// A folder that changed so shortly before it was listed may have changed
/// again within the same tick of its clock.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The clock of a file server may be ahead of ours by so much; a file that is
/// further ahead came before the clock was set back.
pub(super) const CLOCKS_DIFFER: Duration = Duration::from_secs(60 * 60);

impl Memory {
    /// When something is worth looking at though nothing has happened.
    pub fn due(&self) -> Option<SystemTime> {
        let due = self.folders.values().map(Listing::due).min()?;
        (due != NEVER).then(|| UNIX_EPOCH + Duration::from_secs(due.into()))
    }

    /// Lets go of folders that are not `there` any more; what lay in them is
    /// told, and where.
    pub(super) fn keep_only(&mut self, there: &HashSet<FolderName>, gone: &mut Gone) {
        self.folders.retain(|name, listing| {
            let is_there = there.contains(name);
            if !is_there {
                let digests = listing.messages.iter().filter_map(|m| m.digest);
                gone.extend(digests.map(|digest| (digest, name.clone())));
            }
            is_there
        });
    }

    /// How many messages wait in folders of which `may_wait` is true to be
    /// moved on.
    pub(crate) fn n_waiting(&self, may_wait: impl Fn(&FolderName) -> bool) -> usize {
        let folders = self.folders.iter().filter(|(name, _)| may_wait(name));
        let messages = folders.flat_map(|(_, listing)| &listing.messages);
        messages.filter(|message| message.due != NEVER).count()
    }

    /// Whether listing the folder would tell nothing new.
    pub(super) fn is_current(&self, name: &FolderName, marks: &[Mark; 2], now: SystemTime) -> bool {
        self.folders.get(name).is_some_and(|listing| {
            let settled = marks.iter().all(|mark| {
                mark.changed + SETTLED_AFTER <= listing.at
                    || mark.changed > listing.at + CLOCKS_DIFFER
            });
            listing.is_complete
                && settled
                && listing.marks == *marks
                && listing.due() > seconds(now)
                && listing.at <= now
        })
    }

    /// All messages that were read.
    pub(super) fn read(&self) -> impl Iterator<Item = (&FolderName, &Remembered, &Digest)> {
        let folders = self.folders.iter();
        folders.flat_map(|(name, listing)| {
            let messages = listing.messages.iter();
            messages.filter_map(move |m| Some((name, m, m.digest.as_ref()?)))
        })
    }

    pub(super) fn set_due(&mut self, step: &Step, due: u32) {
        if let Some(message) = self.message(&step.folder, &step.entry) {
            message.due = due;
        }
    }

    pub(super) fn message(
        &mut self,
        folder: &FolderName,
        entry: &Entry,
    ) -> Option<&mut Remembered> {
        let key = key(entry);
        let messages = &mut self.folders.get_mut(folder)?.messages;
        let at = messages.binary_search_by_key(&key, |m| m.key).ok()?;
        messages.get_mut(at)
    }
}

impl Listing {
    pub(super) fn new(
        marks: [Mark; 2],
        at: SystemTime,
        is_complete: bool,
        mut messages: Vec<Remembered>,
    ) -> Self {
        messages.sort_unstable_by_key(|m| m.key);
        messages.shrink_to_fit();
        Self {
            marks,
            at,
            is_complete,
            messages,
        }
    }

    pub(super) fn find(&self, key: Key) -> Option<&Remembered> {
        let at = self.messages.binary_search_by_key(&key, |m| m.key).ok()?;
        self.messages.get(at)
    }

    /// Where the clock was set back since, what is due is due now.
    pub(super) fn distrust_dues_after(&mut self, now: SystemTime) {
        if self.at > now {
            let waiting = self.messages.iter_mut().filter(|m| m.due != NEVER);
            waiting.for_each(|message| message.due = 0);
        }
    }

    fn due(&self) -> u32 {
        self.messages.iter().map(|m| m.due).min().unwrap_or(NEVER)
    }
}

pub(super) fn key(entry: &Entry) -> Key {
    let mut hasher = DefaultHasher::new();
    entry.name.base().hash(&mut hasher);
    hasher.finish()
}

pub(super) fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(NEVER - 1)
}

pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where messages lay that are no longer there.
pub(super) type Gone = HashMap<Digest, FolderName>;

/// On which sides each of some messages lies: in a spam or learned folder,
/// elsewhere.
pub(super) type Sides = HashMap<Digest, (bool, bool)>;
