//! Accepted messages that are not delivered yet: one file for each, which
//! loses nothing.
//!
//! `format` describes the bytes. The states of a file, and what a crash or a
//! power cut in each means:
//!
//! | state | on disk | a crash then |
//! | --- | --- | --- |
//! | writing | a file without a name | takes the file; nothing was promised |
//! | named | `ID`, content synced | as it happens, leaves it or not; the client was not answered and sends again: perhaps twice there |
//! | accepted | `ID`, folder synced; only now 250 | leaves it; the next start tries it |
//! | attempted | delivered, line not yet appended | delivers once more: the one window for duplicates |
//! | noted | a line says so, synced | leaves it |
//! | finished | every recipient done or reported | leaves it; the next start removes it |
//! | removed | no name | may bring it back finished, and the next start removes it |
//!
//! A line that was half appended has no line feed and does not count; whoever
//! appends next cuts it off. Whoever works on a file has it locked (flock),
//! so that `postern queue` and `postern sendmail` may do so beside the server.

pub mod disk;
pub mod dsn;
mod entry;
mod format;
mod group;
pub mod schedule;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use self::disk::{Disk, DiskFile, Part};
pub use self::entry::{Entry, Event, Recipient, Record, State};
use self::group::Group;
use crate::remote::letter::Letter;

/// The names of messages of one process: the microsecond, and never twice.
#[derive(Debug, Default)]
pub struct Ids(AtomicU64);

impl Ids {
    /// A name that this process has not given; they sort by time.
    pub fn next(&self, now: SystemTime) -> String {
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let after = |last: u64| Some(micros.max(last.saturating_add(1)));
        let last = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        id_of(last.map_or(micros, |last| micros.max(last.saturating_add(1))))
    }
}

/// The queue of a host.
#[derive(Debug)]
pub struct Queue<D = disk::Folder> {
    disk: D,
    names: Group,
}

/// A message that is being worked on; nobody else does while this exists.
#[derive(Debug)]
pub struct Locked<F> {
    /// Its name.
    pub id: String,
    /// What is known of it.
    pub entry: Entry,
    file: F,
    start: u64,
    size: u64,
    /// The length of what makes sense.
    sound: u64,
}

/// A file of the queue's folder whose time says that another program than the
/// server changed something.
pub const MARKER: &str = "changed";

impl Queue<disk::Folder> {
    /// Lets the server know that something was changed.
    ///
    /// # Errors
    /// Those of the system.
    pub fn touch(&self) -> io::Result<()> {
        let path = self.disk.path().join(MARKER);
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)?;
        file.set_modified(SystemTime::now())
    }
}

/// The longest head: some thousand recipients.
const MAX_HEAD: usize = 4 << 20;

impl<D: Disk> Queue<D> {
    /// The queue in a folder.
    pub fn new(disk: D) -> Self {
        Self {
            disk,
            names: Group::default(),
        }
    }

    /// Where its files are.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Keeps a message, whose bytes are those of `message` one after the
    /// other, under a name of [`Ids`]. When it returns, data and name are on
    /// disk; after an error nothing of it is left.
    ///
    /// # Errors
    /// When the disk is full or fails; `AlreadyExists` when another process
    /// made a message in the same microsecond.
    pub fn accept(&self, entry: &Entry, message: &[&[u8]], id: &str) -> io::Result<()> {
        let size: usize = message.iter().map(|part| part.len()).sum();
        let mut file = self.disk.create()?;
        file.append(entry.head(size as u64).as_bytes())?;
        for part in message {
            file.append(part)?;
        }
        file.sync()?;
        self.disk.name(&file, id)?;
        if let Err(error) = self.sync_names() {
            // Should it come back after a crash, it is delivered though it was
            // refused: twice at worst.
            let _ = self.disk.remove(id);
            return Err(error);
        }
        Ok(())
    }

    /// All IDs, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = self.disk.names()?;
        ids.retain(|name| is_id(name));
        ids.sort();
        Ok(ids)
    }

    /// What is known of a message; `None` when there is none of that ID.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn look(&self, id: &str) -> io::Result<Option<Locked<D::File>>> {
        match if_there(is_id(id).then(|| self.disk.look(id)))? {
            None => Ok(None),
            Some(file) => Locked::read(id, file).map(Some),
        }
    }

    /// Takes a message to work on it; `None` when there is none of that ID, or
    /// somebody else works on it.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn take(&self, id: &str) -> io::Result<Option<Locked<D::File>>> {
        match if_there(is_id(id).then(|| self.disk.open(id)))?.flatten() {
            None => Ok(None),
            Some(file) => Locked::read(id, file).map(Some),
        }
    }

    /// Removes a message.
    ///
    /// # Errors
    /// When the disk fails; it may be there again after a power cut.
    pub fn remove(&self, taken: Locked<D::File>) -> io::Result<()> {
        self.disk.remove(&taken.id)?;
        self.sync_names()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.names.sync(|| self.disk.sync_names())
    }
}

impl Locked<std::fs::File> {
    /// The message, to be sent.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn letter(&self) -> io::Result<Letter> {
        Letter::read(&self.file, self.start, self.size)
    }
}

impl<F: DiskFile> Locked<F> {
    fn read(id: &str, file: F) -> io::Result<Self> {
        let damaged = || io::Error::new(ErrorKind::InvalidData, format!("{id} is no queue file"));
        let head = read_head(&file)?.ok_or_else(damaged)?;
        let start = head.len() as u64 + 1;
        let text = String::from_utf8(head).map_err(|_| damaged())?;
        if let Some(version) = Entry::newer(&text) {
            let reason = classifier::newer_format(id, version, format::VERSION);
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        }
        let (mut entry, size) = Entry::parse(&text).ok_or_else(damaged)?;
        let len = file.size()?;
        let end = start
            .checked_add(size)
            .filter(|end| *end <= len)
            .ok_or_else(damaged)?;
        let mut tail = vec![0; usize::try_from(len - end).unwrap_or(0)];
        let n = file.read_at(end, &mut tail)?;
        tail.truncate(n);
        let whole = memchr::memrchr(b'\n', &tail).map_or(0, |at| at + 1);
        for line in tail[..whole].split(|b| *b == b'\n') {
            if let Some(record) = std::str::from_utf8(line).ok().and_then(Record::parse) {
                entry.apply(&record);
            }
        }
        Ok(Self {
            id: id.to_owned(),
            entry,
            file,
            start,
            size,
            sound: end + whole as u64,
        })
    }

    /// Appends lines and syncs them. When it returns an error, none of them
    /// counts now; after a power cut they may.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn note(&mut self, records: &[Record]) -> io::Result<()> {
        let lines: String = records.iter().map(Record::line).collect();
        if self.file.size()? != self.sound {
            self.file.truncate(self.sound)?;
        }
        let appended = self
            .file
            .append(lines.as_bytes())
            .and_then(|()| self.file.sync());
        if let Err(error) = appended {
            let _ = self.file.truncate(self.sound);
            return Err(error);
        }
        self.sound += lines.len() as u64;
        records.iter().for_each(|record| self.entry.apply(record));
        Ok(())
    }

    /// The first `n` bytes of the message, or all.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn start(&self, n: u64) -> io::Result<Vec<u8>> {
        let n = n.min(self.size);
        let mut bytes = Vec::with_capacity(usize::try_from(n).unwrap_or(0));
        self.message().take(n).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The message.
    pub fn message(&self) -> Part<'_, F> {
        Part::new(&self.file, self.start, self.start + self.size)
    }

    /// How many bytes the message has.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// The lines up to the empty one, with the line feed of the last.
fn read_head(file: &impl DiskFile) -> io::Result<Option<Vec<u8>>> {
    let mut head = vec![0; 4096];
    loop {
        let n = file.read_at(0, &mut head)?;
        if let Some(at) = memchr::memmem::find(&head[..n], b"\n\n") {
            head.truncate(at + 1);
            return Ok(Some(head));
        }
        if n < head.len() || n >= MAX_HEAD {
            return Ok(None);
        }
        head.resize(head.len() * 4, 0);
    }
}

/// Eleven digits and letters that sort by time.
fn id_of(micros: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digit = |n: u32| char::from(DIGITS[(micros >> (5 * n) & 31) as usize]);
    (0..11).rev().map(digit).collect()
}

/// Whether a file of that name is a message.
fn is_id(name: &str) -> bool {
    name.len() == 11
        && name
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

fn if_there<T>(opened: Option<io::Result<T>>) -> io::Result<Option<T>> {
    match opened {
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.transpose(),
    }
}
