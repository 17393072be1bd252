//! One folder with mail: what lies in it, and reading and removing it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, FileType, Stat};

use crate::mailbox::{Owner, if_there, joined, opening};
use crate::{Error, MessageName, sys};

/// An open folder. It stays the same folder when its name is given to
/// another one meanwhile.
#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
    new: OwnedFd,
    cur: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) owner: Owner,
}

/// In which half of a folder a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Half {
    /// Delivered, and seen by no mail reader yet.
    New,
    /// Everything else.
    Cur,
}

/// A message of a folder by the name it had when it was listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where in the folder it lies.
    pub half: Half,
    /// What the file is called.
    pub name: MessageName,
}

/// What the file system knows about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// The size of the file.
    pub bytes: u64,
    /// When it was received: IMAP's INTERNALDATE, the file's mtime.
    pub received: SystemTime,
    /// When its name or state last changed: the file's ctime, which a move
    /// within a file system sets and nobody can choose.
    pub changed: SystemTime,
}

/// One half of a folder and when it last changed, see [`Folder::marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    device: u64,
    inode: u64,
    /// When a message last came, went or was renamed.
    pub changed: SystemTime,
}

impl Folder {
    /// `None` without `cur`: such a folder only holds other folders.
    pub(crate) fn open(dir: OwnedFd, path: PathBuf, owner: Owner) -> Result<Option<Self>, Error> {
        let Some(cur) = open_part(dir.as_fd(), "cur", &path, owner)? else {
            return Ok(None);
        };
        let new = must_be_there(open_part(dir.as_fd(), "new", &path, owner)?, "new", &path)?;
        Ok(Some(Self {
            dir,
            new,
            cur,
            path,
            owner,
        }))
    }

    /// The messages, `new` before `cur`, in the order of the disk. Memory
    /// does not grow with their number. What is no regular file is no message.
    ///
    /// A message that a mail reader renames meanwhile may come twice, or, on
    /// some file systems, not at all: list again before calling it gone.
    ///
    /// # Errors
    /// When the folder cannot be read; so may each step.
    pub fn entries(&self) -> Result<Entries<'_>, Error> {
        Ok(Entries {
            folder: self,
            reading: Some((Half::New, self.read_half(Half::New)?)),
        })
    }

    /// Size and date of a message; `None` when it has gone or has another
    /// name by now.
    ///
    /// # Errors
    /// When it is no message of the mailbox's owner.
    pub fn examine(&self, entry: &Entry) -> Result<Option<Details>, Error> {
        Ok(self.stat(entry)?.map(|stat| Details {
            bytes: bytes(&stat),
            received: received(&stat),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        }))
    }

    /// Opens a message for reading; `None` as with [`Folder::examine`].
    ///
    /// # Errors
    /// When it is no message of the mailbox's owner, or cannot be opened.
    pub fn open_message(&self, entry: &Entry) -> Result<Option<File>, Error> {
        // Before it is opened, since opening a device may already do harm.
        if self.stat(entry)?.is_none() {
            return Ok(None);
        }
        let path = self.path_of(entry);
        let opened = sys::open_file(self.half(entry.half), entry.name.as_os_str());
        let Some(file) = if_there(opened).map_err(opening(&path))? else {
            return Ok(None);
        };
        // And after, since it may have been swapped in between.
        let stat = sys::fstat(&file).map_err(Error::io("examine", &path))?;
        self.owner.must_own_file(&stat, &path)?;
        Ok(Some(File::from(file)))
    }

    /// Removes a message and tells whether it was still there under its name:
    /// one whose flags have changed since it was listed stays.
    ///
    /// # Errors
    /// When it is no message of the mailbox's owner, or cannot be removed.
    pub fn remove(&self, entry: &Entry) -> Result<bool, Error> {
        if self.stat(entry)?.is_none() {
            return Ok(false);
        }
        let removed = sys::unlink(self.half(entry.half), entry.name.as_os_str());
        let removed = if_there(removed).map_err(Error::io("remove", self.path_of(entry)))?;
        if removed.is_some() {
            self.has_left(entry);
        }
        Ok(removed.is_some())
    }

    /// Lets servers see that a message has gone. Dovecot looks for such only
    /// when `cur` has changed: what went from `new` it would still show. That
    /// it cannot be told is no loss.
    pub(crate) fn has_left(&self, entry: &Entry) {
        if entry.half == Half::New {
            let _ = sys::touch(self.half(Half::Cur));
        }
    }

    /// Makes what was moved and removed survive a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<(), Error> {
        [Half::New, Half::Cur]
            .into_iter()
            .try_for_each(|half| self.sync_half(half))
    }

    /// Where it lies, for messages to people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The two folders in which messages lie, to be watched.
    pub fn halves(&self) -> [BorrowedFd<'_>; 2] {
        [Half::New, Half::Cur].map(|half| self.half(half))
    }

    /// What changes whenever a message comes, goes or is renamed, but for
    /// changes within one tick of the file system's clock.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn marks(&self) -> Result<[Mark; 2], Error> {
        let mark = |half| {
            let stat = sys::fstat(self.half(half)).map_err(Error::io("examine", &self.path))?;
            Ok(Mark {
                device: stat.st_dev,
                inode: stat.st_ino,
                changed: time(stat.st_mtime, stat.st_mtime_nsec),
            })
        };
        Ok([mark(Half::New)?, mark(Half::Cur)?])
    }

    pub(crate) fn half(&self, half: Half) -> BorrowedFd<'_> {
        match half {
            Half::New => self.new.as_fd(),
            Half::Cur => self.cur.as_fd(),
        }
    }

    /// Where files are written before they become messages.
    pub(crate) fn tmp(&self) -> Result<OwnedFd, Error> {
        let tmp = open_part(self.dir.as_fd(), "tmp", &self.path, self.owner)?;
        must_be_there(tmp, "tmp", &self.path)
    }

    pub(crate) fn sync_half(&self, half: Half) -> Result<(), Error> {
        sys::sync(self.half(half)).map_err(Error::io("sync", self.path.join(half.name())))
    }

    pub(crate) fn path_of(&self, entry: &Entry) -> PathBuf {
        joined(&self.path.join(entry.half.name()), entry.name.as_bytes())
    }

    /// `None` when there is nothing of that name.
    pub(crate) fn stat(&self, entry: &Entry) -> Result<Option<Stat>, Error> {
        let path = self.path_of(entry);
        let found = sys::lstat(self.half(entry.half), entry.name.as_os_str());
        let Some(stat) = if_there(found).map_err(Error::io("examine", &path))? else {
            return Ok(None);
        };
        self.owner.must_own_file(&stat, &path)?;
        Ok(Some(stat))
    }

    fn read_half(&self, half: Half) -> Result<Dir, Error> {
        Dir::read_from(self.half(half))
            .map_err(|errno| Error::io("read", self.path.join(half.name()))(errno.into()))
    }
}

impl Half {
    fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cur => "cur",
        }
    }
}

pub(crate) fn bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The mtime. Users can set any; one before 1970 counts as 1970.
pub(crate) fn received(stat: &Stat) -> SystemTime {
    time(stat.st_mtime, stat.st_mtime_nsec)
}

/// The types of these two differ between machines.
fn time(seconds: impl TryInto<u64>, nanoseconds: impl TryInto<u32>) -> SystemTime {
    let seconds = seconds.try_into().unwrap_or(0);
    let nanoseconds = nanoseconds.try_into().unwrap_or(0);
    let since = Duration::new(seconds, nanoseconds);
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn open_part(
    dir: BorrowedFd<'_>,
    part: &str,
    folder: &Path,
    owner: Owner,
) -> Result<Option<OwnedFd>, Error> {
    let path = folder.join(part);
    let opened = sys::open_dir(dir, Path::new(part));
    let Some(opened) = if_there(opened).map_err(opening(&path))? else {
        return Ok(None);
    };
    Ok(owner.has(&opened, &path)?.then_some(opened))
}

fn must_be_there(opened: Option<OwnedFd>, part: &str, folder: &Path) -> Result<OwnedFd, Error> {
    opened.ok_or_else(|| Error::io("open", folder.join(part))(io::ErrorKind::NotFound.into()))
}

/// The messages of a folder, see [`Folder::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    folder: &'a Folder,
    reading: Option<(Half, Dir)>,
}

impl Entries<'_> {
    fn advance(&mut self, half: Half) -> Result<(), Error> {
        self.reading = match half {
            Half::New => Some((Half::Cur, self.folder.read_half(Half::Cur)?)),
            Half::Cur => None,
        };
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (half, dir) = self.reading.as_mut()?;
            let half = *half;
            let entry = match dir.read() {
                None => {
                    if let Err(error) = self.advance(half) {
                        self.reading = None;
                        return Some(Err(error));
                    }
                    continue;
                }
                Some(Ok(entry)) => entry,
                Some(Err(errno)) => {
                    self.reading = None;
                    let path = self.folder.path.join(half.name());
                    return Some(Err(Error::io("read", path)(errno.into())));
                }
            };
            let may_be_message =
                matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            if let Some(name) =
                MessageName::parse(entry.file_name().to_bytes()).filter(|_| may_be_message)
            {
                return Some(Ok(Entry { half, name }));
            }
        }
    }
}
