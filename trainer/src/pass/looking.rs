//! A look in the making: which messages may have something to teach.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::time::{Duration, SystemTime};

use classifier::Label;
use classifier::mark::MarkKey;
use classifier::modern::{Canonical, Digest};
use mailbox::{Details, Entry, Flags, Folder, FolderName, Mailbox};

use super::memory::{
    CLOCKS_DIFFER, Gone, Key, Listing, Memory, NEVER, Remembered, Sides, key, milliseconds, seconds,
};
use super::{DAY, InVain, Pass, RETRY, View, waits};
use crate::Error;
use crate::config::Settings;
use crate::decision::{Known, Role, Sighting};
use crate::taught::{self, Taught};

pub(super) struct Looking<'a> {
    mailbox: &'a Mailbox,
    settings: &'a Settings,
    mark: Option<&'a MarkKey>,
    now: SystemTime,
    memory: &'a mut Memory,
    pub(super) pass: Pass,
    /// Some messages were not even read.
    pub(super) is_unseen: bool,
    /// About so many messages it may be decided.
    most: usize,
    /// How much may still be read.
    left: usize,
    /// Came, went, or got other flags: what else lies in the mailbox of these
    /// may teach something else now.
    touched: HashSet<Digest>,
    /// What has left a folder since the last look.
    pub(super) gone: Gone,
    found: Vec<Candidate>,
}

/// A message about which to decide.
pub(super) struct Candidate {
    pub(super) folder: FolderName,
    pub(super) role: Role,
    pub(super) entry: Entry,
    pub(super) digest: Digest,
    pub(super) is_marked: bool,
    changed: u64,
    /// It was not there at the last look.
    pub(super) is_new: bool,
    pub(super) known: Known,
}

/// Longer messages are not read to their end.
const MAX_MESSAGE_BYTES: u64 = 64 << 20;

/// So many bytes are as dear to read as one more message.
const BYTES_PER_READ: usize = 64 << 10;

impl<'a> Looking<'a> {
    pub(super) fn new(view: &View<'a>, memory: &'a mut Memory, most: usize) -> Self {
        let View {
            mailbox,
            settings,
            mark,
            now,
        } = *view;
        Self {
            mailbox,
            settings,
            mark,
            now,
            memory,
            pass: Pass::default(),
            is_unseen: false,
            most,
            left: most,
            touched: HashSet::new(),
            gone: Gone::new(),
            found: Vec::new(),
        }
    }

    /// Lists what may have changed, and finds what must be decided anew.
    pub(super) fn find(&mut self) -> Result<Vec<Candidate>, Error> {
        let mut there = HashSet::new();
        for name in self.mailbox.folders()? {
            let name = name?;
            if self.settings.roles.role(&name) != Role::Never {
                there.insert(name);
            }
        }
        self.memory.keep_only(&there, &mut self.gone);
        self.touched.extend(self.gone.keys());
        let mut there: Vec<_> = there.into_iter().collect();
        there.sort();
        for name in there {
            if let Err(error) = self.list_if_changed(&name) {
                self.pass.unread.push(error);
            }
        }
        self.pass.more |= self.is_unseen;
        self.find_twins()?;
        Ok(std::mem::take(&mut self.found))
    }

    fn list_if_changed(&mut self, name: &FolderName) -> Result<(), Error> {
        let Some(folder) = self.mailbox.folder(name)? else {
            return Ok(());
        };
        let marks = folder.marks()?;
        if self.memory.is_current(name, &marks, self.now) {
            return Ok(());
        }
        let mut before = self.memory.folders.remove(name);
        if let Some(before) = &mut before {
            before.distrust_dues_after(self.now);
        }
        // What is there may have been told of, in a pass with another memory.
        let is_first = before.as_ref().is_none_or(|before| !before.is_complete);
        let mut messages = Vec::new();
        let mut is_complete = true;
        for entry in folder.entries()? {
            let entry = entry?;
            let old = before.as_ref().and_then(|before| before.find(key(&entry)));
            match self.message(&folder, name, &entry, old) {
                Ok(Found::Message(message)) => messages.push(message),
                Ok(Found::Later) => is_complete = false,
                Ok(Found::Gone) => {}
                Err(error) => {
                    // Tried again and again, and said once.
                    if old.is_none() && waits(self.settings.roles.role(name)) {
                        self.pass.in_vain.push(InVain {
                            way: name.to_string(),
                            reason: error.to_string(),
                            at: is_first.then(|| came(&folder, &entry)),
                        });
                    }
                    self.pass.unread.push(error);
                    messages.push(self.unreadable(&entry));
                }
            }
        }
        self.is_unseen |= !is_complete;
        let listing = Listing::new(marks, self.now, is_complete, messages);
        for old in before.iter().flat_map(|before| &before.messages) {
            let is_there = listing.find(old.key);
            if is_there.is_none_or(|new| new.flags != old.flags) {
                self.touched.extend(old.digest);
            }
            if let (None, Some(digest)) = (is_there, old.digest) {
                self.gone.insert(digest, name.clone());
            }
        }
        self.memory.folders.insert(name.clone(), listing);
        Ok(())
    }

    fn message(
        &mut self,
        folder: &Folder,
        name: &FolderName,
        entry: &Entry,
        old: Option<&Remembered>,
    ) -> Result<Found, Error> {
        let now = seconds(self.now);
        let is_same = |old: &Remembered| {
            (old.half, old.flags) == (entry.half, entry.name.flags()) && !old.is_fresh
        };
        if let Some(old) = old.filter(|old| is_same(old)) {
            let is_due = old.due <= now;
            let is_enough = self.found.len() >= self.most;
            self.pass.more |= is_due && is_enough;
            if !is_due || is_enough {
                return Ok(Found::Message(*old));
            }
        }
        let Some(details) = folder.examine(entry)? else {
            return Ok(Found::Gone);
        };
        let message = match self.remember(folder, name, entry, &details, old)? {
            Found::Message(message) => message,
            other => return Ok(other),
        };
        if let Some(digest) = message.digest {
            if old.is_none_or(|old| old.digest != message.digest) {
                self.touched.insert(digest);
            }
            self.found.push(Candidate {
                folder: name.clone(),
                role: self.settings.roles.role(name),
                entry: entry.clone(),
                digest,
                is_marked: message.is_marked,
                changed: message.changed,
                is_new: old.is_none(),
                known: Known::No,
            });
        }
        Ok(Found::Message(message))
    }

    /// Reads it, unless that was done or is not worth it.
    fn remember(
        &mut self,
        folder: &Folder,
        name: &FolderName,
        entry: &Entry,
        details: &Details,
        old: Option<&Remembered>,
    ) -> Result<Found, Error> {
        let changed = milliseconds(details.changed);
        let mut message = Remembered {
            key: key(entry),
            digest: None,
            changed,
            due: NEVER,
            flags: entry.name.flags(),
            half: entry.half,
            is_marked: false,
            is_kept_ham: false,
            is_fresh: false,
        };
        let lain = self.now.duration_since(details.changed).unwrap_or_default();
        // A file that was being written is read again; otherwise a new name
        // for its flags does not change what it says.
        let known = old.filter(|old| !old.is_fresh || old.changed == changed);
        if let Some(known) = known.filter(|known| known.digest.is_some()) {
            message.digest = known.digest;
            message.is_marked = known.is_marked;
            message.is_kept_ham = known.is_kept_ham;
            return Ok(Found::Message(message));
        }
        if lain > self.decided_after(name) {
            return Ok(Found::Message(message));
        }
        if self.left == 0 {
            return Ok(Found::Later);
        }
        let Some(raw) = read(folder, entry)? else {
            return Ok(Found::Gone);
        };
        self.left = self.left.saturating_sub(1 + raw.len() / BYTES_PER_READ);
        let digest = Canonical::new(&raw).digest();
        message.digest = Some(digest);
        message.is_marked = is_marked(&raw, &digest, self.mark);
        message.is_fresh = lain < FRESH && details.changed < self.now + FRESH;
        Ok(Found::Message(message))
    }

    /// Mail that has lain so long has been decided.
    fn decided_after(&self, name: &FolderName) -> Duration {
        match self.settings.roles.role(name) {
            Role::Spam | Role::WronglyCaught => Duration::MAX,
            _ => self.settings.keep_before_ham + DAY,
        }
    }

    fn unreadable(&self, entry: &Entry) -> Remembered {
        Remembered {
            key: key(entry),
            digest: None,
            changed: 0,
            due: seconds(self.now + RETRY),
            flags: entry.name.flags(),
            half: entry.half,
            is_marked: false,
            is_kept_ham: false,
            is_fresh: false,
        }
    }

    /// Other copies of what was touched are decided anew, too. Their folders
    /// are listed once more, since only keys are remembered.
    fn find_twins(&mut self) -> Result<(), Error> {
        let has: HashSet<(FolderName, Key)> = self
            .found
            .iter()
            .map(|found| (found.folder.clone(), key(&found.entry)))
            .collect();
        let mut wanted: BTreeMap<FolderName, HashMap<Key, Remembered>> = BTreeMap::new();
        for (folder, message, digest) in self.memory.read() {
            if self.touched.contains(digest) && !has.contains(&(folder.clone(), message.key)) {
                let keys = wanted.entry(folder.clone()).or_default();
                keys.insert(message.key, *message);
            }
        }
        for (name, keys) in wanted {
            let Some(folder) = self.mailbox.folder(&name)? else {
                continue;
            };
            for entry in folder.entries()? {
                let entry = entry?;
                let message = keys.get(&key(&entry));
                if let Some((message, digest)) = message.and_then(|m| Some((m, m.digest?))) {
                    self.found.push(Candidate {
                        folder: name.clone(),
                        role: self.settings.roles.role(&name),
                        entry,
                        digest,
                        is_marked: message.is_marked,
                        changed: message.changed,
                        is_new: false,
                        known: Known::No,
                    });
                }
            }
        }
        Ok(())
    }
}

enum Found {
    Message(Remembered),
    /// Enough was read for now.
    Later,
    Gone,
}

/// A file that has just been made may be still being written.
const FRESH: Duration = Duration::from_secs(2);

/// The bytes of a message; `None` when it has gone or has another name.
pub(crate) fn read(folder: &Folder, entry: &Entry) -> Result<Option<Vec<u8>>, Error> {
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

/// Whether the filter filed it itself.
pub(super) fn is_marked(raw: &[u8], digest: &Digest, mark: Option<&MarkKey>) -> bool {
    mark.is_some_and(|key| key.has_marked(raw, digest))
}

/// Asks the ledger about all of them.
pub(super) fn ask(candidates: &mut [Candidate], taught: &Taught) -> Result<(), Error> {
    let digests: Vec<_> = candidates.iter().map(|message| message.digest).collect();
    for (message, entry) in candidates.iter_mut().zip(taught.entries(&digests)?) {
        message.known = match entry {
            None => Known::No,
            Some(taught::Entry::Filed) => Known::Filed,
            Some(taught::Entry::Learned(learned)) if learned.own_verdict => {
                message.is_marked |= learned.label == Label::Spam;
                Known::No
            }
            Some(taught::Entry::Learned(learned)) => Known::Learned(learned.label),
        };
    }
    Ok(())
}

/// Where the candidates and their twins lie; what is flagged as deleted lies
/// nowhere.
pub(super) fn sides(candidates: &[Candidate], memory: &Memory, settings: &Settings) -> Sides {
    let mut sides: Sides = candidates
        .iter()
        .map(|candidate| (candidate.digest, (false, false)))
        .collect();
    for (folder, message, digest) in memory.read() {
        if message.flags.contains(Flags::TRASHED) {
            continue;
        }
        if let Some((spam, other)) = sides.get_mut(digest) {
            let role = settings.roles.role(folder);
            *(if is_with_spam(role) { spam } else { other }) = true;
        }
    }
    sides
}

/// When a message came that cannot be read; as long ago as can be when not
/// even that is known.
fn came(folder: &Folder, entry: &Entry) -> u64 {
    let details = folder.examine(entry).ok().flatten();
    details.map_or(0, |details| milliseconds(details.changed) / 1000)
}

pub(super) fn is_with_spam(role: Role) -> bool {
    matches!(role, Role::Spam | Role::Learned)
}

impl Candidate {
    /// That it has come from a folder on the other side, and since when that
    /// could be.
    pub(super) fn moved_from(
        &self,
        from: &FolderName,
        settings: &Settings,
    ) -> Option<(String, Option<u64>)> {
        let from_spam = is_with_spam(settings.roles.role(from));
        (from_spam != is_with_spam(self.role)).then(|| (from.to_string(), None))
    }

    /// The same, of a message that nobody saw move: the ledger knows it from
    /// the other side.
    pub(super) fn moved_before(&self) -> Option<(String, Option<u64>)> {
        let at = Some(self.changed / 1000);
        match (is_with_spam(self.role), self.known) {
            (true, Known::Learned(Label::Ham)) => Some(("elsewhere".into(), at)),
            (false, Known::Learned(Label::Spam) | Known::Filed) => {
                Some(("a spam folder".into(), at))
            }
            _ => None,
        }
    }

    /// `known_since`: what came later the ledger would know if it had been
    /// learned. `forgotten_before`: what came earlier it may have forgotten.
    pub(super) fn sighting(
        &self,
        sides: &Sides,
        known_since: Option<SystemTime>,
        forgotten_before: Option<SystemTime>,
        now: SystemTime,
    ) -> Sighting {
        let (spam, other) = sides.get(&self.digest).copied().unwrap_or_default();
        // The clock was set back since it came, who knows how long ago. What
        // waits for Undo must not wait until it has caught up; what would
        // count as kept may. The times of the ledger's entries say nothing.
        let is_late = self.changed > milliseconds(now + CLOCKS_DIFFER);
        let lain = match is_late && waits(self.role) {
            true => Duration::MAX,
            false => Duration::from_millis(milliseconds(now).saturating_sub(self.changed)),
        };
        Sighting {
            is: Some(self.role),
            lain,
            flags: self.entry.name.flags(),
            known: self.known,
            would_be_known: !is_late
                && known_since.is_some_and(|since| self.changed > milliseconds(since)),
            may_be_forgotten: forgotten_before
                .is_some_and(|before| self.changed < milliseconds(before)),
            marked: self.is_marked,
            has_twin: if is_with_spam(self.role) { other } else { spam },
            surely_ham: false,
        }
    }
}
