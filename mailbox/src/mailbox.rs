//! A user's mailbox: its folders, opened so that nothing in it leads out.
//!
//! Users are hostile: whatever lies in a mailbox may at any moment be swapped
//! for a symbolic link, a FIFO or a hard link to another user's file. So
//! nothing is addressed by its path. A folder is opened beneath the open
//! mailbox without following a link, must belong to the mailbox's owner, and
//! is worked with through its descriptor.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Stat};
use rustix::io::Errno;

use crate::{Error, Folder, FolderName, Foreign, Layout, sys};

/// An open mailbox.
#[derive(Debug)]
pub struct Mailbox {
    root: OwnedFd,
    path: PathBuf,
    layout: Layout,
    owner: Owner,
}

/// Who owns the mailbox and everything of it that is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Mailbox {
    /// Opens the mailbox at `path` below `base`, as `u/Maildir` below `/home`.
    /// Links in `base` are followed, so it must be beyond the users' reach;
    /// none is followed in `path`.
    ///
    /// # Errors
    /// When it is not there, not a folder, or reached through a link.
    pub fn open(base: &Path, path: &Path, layout: Layout) -> Result<Self, Error> {
        let full = base.join(path);
        let base = File::open(base).map_err(Error::io("open", base))?;
        let root = sys::open_dir(base.as_fd(), path).map_err(opening(&full))?;
        let stat = sys::fstat(&root).map_err(Error::io("examine", &full))?;
        let owner = Owner {
            uid: stat.st_uid,
            gid: stat.st_gid,
        };
        Ok(Self {
            root,
            path: full,
            layout,
            owner,
        })
    }

    /// Opens a folder; `None` when there is none of that name
    /// that holds mail. A name with
    /// letters beyond ASCII is looked for in modified UTF-7, then in UTF-8.
    ///
    /// # Errors
    /// When it is no Maildir, or leads out of the mailbox.
    pub fn folder(&self, name: &FolderName) -> Result<Option<Folder>, Error> {
        let open = |name: &FolderName| self.open_dir(&name.path(self.layout));
        let found = match open(name)? {
            None => name.in_utf8().as_ref().map_or(Ok(None), open)?,
            found => found,
        };
        found.map_or(Ok(None), |(dir, path)| Folder::open(dir, path, self.owner))
    }

    /// Opens a folder, which is made first if it is not there, for the
    /// mailbox's owner alone to read.
    ///
    /// # Errors
    /// As [`Mailbox::folder`], or when it cannot be made.
    pub fn create_folder(&self, name: &FolderName) -> Result<Folder, Error> {
        if let Some(folder) = self.folder(name)? {
            return Ok(folder);
        }
        let path = name.path(self.layout);
        let mut dir = self
            .root
            .try_clone()
            .map_err(Error::io("open", &self.path))?;
        let mut full = self.path.clone();
        for part in &path {
            if part == "." {
                continue;
            }
            full.push(part);
            dir = self.create_dir(dir.as_fd(), part, &full)?;
        }
        // `cur` last: a folder counts as one when it has `cur`, and is not looked
        // at here again.
        if self.layout == Layout::MaildirPlusPlus && name.depth() > 0 {
            self.mark_as_folder(dir.as_fd(), &full)?;
        }
        for part in ["tmp", "new", "cur"] {
            self.create_dir(dir.as_fd(), OsStr::new(part), &full.join(part))?;
        }
        let gone = || Error::io("open", full.join("cur"))(io::ErrorKind::NotFound.into());
        Folder::open(dir, full.clone(), self.owner)?.ok_or_else(gone)
    }

    /// The names of all folders with mail, INBOX first, the rest in the order
    /// of the disk. What is no folder of the owner's is passed over.
    /// Memory does not grow with their number.
    ///
    /// # Errors
    /// When the mailbox cannot be read; so may each step.
    pub fn folders(&self) -> Result<impl Iterator<Item = Result<FolderName, Error>>, Error> {
        Ok(self.directories()?.filter_map(|directory| {
            directory
                .map(|directory| directory.holds_mail.then_some(directory.name))
                .transpose()
        }))
    }

    /// As [`Mailbox::folders`], with those that hold no mail: that of a folder
    /// which is being made, and those that only hold other folders.
    ///
    /// # Errors
    /// As [`Mailbox::folders`].
    pub fn directories(&self) -> Result<Directories<'_>, Error> {
        let dir = Dir::read_from(&self.root)
            .map_err(|errno| Error::io("read", &self.path)(errno.into()))?;
        let root = self
            .root
            .try_clone()
            .map_err(Error::io("open", &self.path))?;
        Ok(Directories {
            mailbox: self,
            inbox: Some(Directory {
                name: FolderName::inbox(),
                // Where there is no mail yet somebody may still ask for it.
                holds_mail: true,
                dir: root,
            }),
            open: vec![(dir, FolderName::inbox())],
        })
    }

    /// The user who owns the mailbox: whoever watches mailboxes by a pattern
    /// can compare it with whose he took it for.
    pub fn owner(&self) -> u32 {
        self.owner.uid
    }

    /// Where it lies, for messages to people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn file_owner(&self) -> Owner {
        self.owner
    }

    /// Opens a folder of the owner's with its path; `None` when it is missing.
    fn open_dir(&self, path: &Path) -> Result<Option<(OwnedFd, PathBuf)>, Error> {
        let full = self.full(path);
        let Some(dir) = if_there(sys::open_dir(self.root(), path)).map_err(opening(&full))? else {
            return Ok(None);
        };
        let is_there = self.owner.has(&dir, &full)?;
        Ok(is_there.then_some((dir, full)))
    }

    fn full(&self, path: &Path) -> PathBuf {
        if path == Path::new(".") {
            self.path.clone()
        } else {
            self.path.join(path)
        }
    }

    fn create_dir(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        full: &Path,
    ) -> Result<OwnedFd, Error> {
        match sys::create_dir(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(Error::io("create", full))?,
        }
        let dir = sys::open_dir(parent, Path::new(name)).map_err(opening(full))?;
        // Made just now, or by one of us who was killed before this.
        if !self.owner.has(&dir, full)? {
            self.owner
                .take(&dir)
                .map_err(Error::io("change the owner of", full))?;
        }
        sys::sync(parent).map_err(Error::io("sync the folder of", full))?;
        Ok(dir)
    }

    /// The empty file by which others tell a folder from a mailbox.
    fn mark_as_folder(&self, dir: BorrowedFd<'_>, full: &Path) -> Result<(), Error> {
        match sys::create(dir, OsStr::new("maildirfolder")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.and_then(|file| self.owner.take(&file)),
        }
        .map_err(Error::io("create", full.join("maildirfolder")))
    }
}

impl Owner {
    /// Refuses what belongs to somebody else: a hard link to it would give
    /// its content away, and a folder of it is not the user's to offer.
    pub(crate) fn must_own(self, stat: &Stat, path: &Path) -> Result<(), Error> {
        if stat.st_uid == self.uid {
            return Ok(());
        }
        Err(Error::Foreign {
            path: path.to_owned(),
            found: Foreign::OtherOwner {
                uid: stat.st_uid,
                mailbox: self.uid,
            },
        })
    }

    /// Whether the open folder is the owner's already: one that was made for
    /// him and not yet given to him counts as missing, and whoever makes it
    /// again gives it away. It is told by belonging to this program's user, who
    /// alone may use it, so that nobody else can have moved it here, and by
    /// being empty: whose mailbox it lies in could remove it and make his own.
    ///
    /// # Errors
    /// When it belongs to somebody else.
    pub(crate) fn has(self, dir: impl AsFd, path: &Path) -> Result<bool, Error> {
        let stat = sys::fstat(&dir).map_err(Error::io("examine", path))?;
        let is_only_made = stat.st_uid != self.uid
            && sys::is_ours_alone(&stat)
            && sys::is_empty(dir).map_err(Error::io("read", path))?;
        if is_only_made {
            return Ok(false);
        }
        self.must_own(&stat, path)?;
        Ok(true)
    }

    /// Refuses what is no regular file of the owner's.
    pub(crate) fn must_own_file(self, stat: &Stat, path: &Path) -> Result<(), Error> {
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.must_own(stat, path),
            FileType::Symlink => Foreign::Link,
            _ => Foreign::NotFile,
        };
        Err(Error::Foreign {
            path: path.to_owned(),
            found,
        })
    }

    /// Gives what root has just made to the owner.
    pub(crate) fn take(self, fd: impl AsFd) -> io::Result<()> {
        let stat = sys::fstat(&fd)?;
        if stat.st_uid == self.uid {
            return Ok(());
        }
        sys::change_owner(fd, self.uid, self.gid)
    }
}

/// What is or may become a folder.
#[derive(Debug)]
pub struct Directory {
    /// As which folder.
    pub name: FolderName,
    /// Whether mail can lie there.
    pub holds_mail: bool,
    dir: OwnedFd,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// The directories of a mailbox, see [`Mailbox::directories`].
#[derive(Debug)]
pub struct Directories<'a> {
    mailbox: &'a Mailbox,
    inbox: Option<Directory>,
    /// Being read, outermost first, each with its name.
    open: Vec<(Dir, FolderName)>,
}

/// Deeper folders are not looked for: each level costs a descriptor.
const MAX_DEPTH: usize = 16;

impl Directories<'_> {
    /// The name of what `entry` may be, if it may be a folder with mail.
    fn candidate(&self, parent: &FolderName, entry: &[u8], kind: FileType) -> Option<FolderName> {
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            return None;
        }
        match self.mailbox.layout {
            Layout::MaildirPlusPlus => FolderName::from_dotted(entry),
            Layout::Nested => parent
                .child(entry, Layout::Nested)
                .filter(|name| name.depth() <= MAX_DEPTH),
        }
    }

    /// Opens a folder, and goes into it when folders are nested.
    fn visit(&mut self, name: FolderName) -> Result<Option<Directory>, Error> {
        let Some((dir, full)) = self.mailbox.open_dir(&name.path(self.mailbox.layout))? else {
            return Ok(None);
        };
        let holds_mail = sys::open_dir(dir.as_fd(), Path::new("cur")).is_ok();
        if self.mailbox.layout == Layout::Nested {
            let dir =
                Dir::read_from(&dir).map_err(|errno| Error::io("read", full)(errno.into()))?;
            self.open.push((dir, name.clone()));
        }
        Ok(Some(Directory {
            name,
            holds_mail,
            dir,
        }))
    }
}

impl Iterator for Directories<'_> {
    type Item = Result<Directory, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(inbox) = self.inbox.take() {
            return Some(Ok(inbox));
        }
        loop {
            let (dir, parent) = self.open.last_mut()?;
            let entry = match dir.read() {
                None => {
                    self.open.pop();
                    continue;
                }
                Some(Ok(entry)) => entry,
                Some(Err(errno)) => {
                    let path = self.mailbox.full(&parent.path(self.mailbox.layout));
                    self.open.pop();
                    return Some(Err(Error::io("read", path)(errno.into())));
                }
            };
            let parent = parent.clone();
            let Some(name) =
                self.candidate(&parent, entry.file_name().to_bytes(), entry.file_type())
            else {
                continue;
            };
            match self.visit(name) {
                Ok(Some(directory)) => return Some(Ok(directory)),
                Ok(None) | Err(Error::Foreign { .. }) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Opens the deepest folder on the way from `base` to `path` below it that is
/// there by now, and tells whether that is `path` itself. No link is followed
/// in `path`; those in `base` are.
///
/// # Errors
/// When `base` cannot be opened.
pub fn open_deepest(base: &Path, path: &Path) -> Result<(OwnedFd, bool), Error> {
    let mut reached: OwnedFd = File::open(base).map_err(Error::io("open", base))?.into();
    for part in path.components() {
        match sys::open_dir(reached.as_fd(), Path::new(part.as_os_str())) {
            Ok(next) => reached = next,
            Err(_) => return Ok((reached, false)),
        }
    }
    Ok((reached, true))
}

/// Tells apart what opening a folder or a file may run into.
pub(crate) fn opening(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| {
        let found = match Errno::from_io_error(&source) {
            // The last is openat2's answer to a path that climbs out.
            Some(Errno::LOOP | Errno::XDEV) => Foreign::Link,
            // Also for a link, where only a folder was wanted.
            Some(Errno::NOTDIR) => Foreign::NotFolder,
            // A FIFO without a reader, a socket.
            Some(Errno::NXIO) => Foreign::NotFile,
            _ => return Error::io("open", path)(source),
        };
        Error::Foreign { path, found }
    }
}

/// Turns "not found" into `None`.
pub(crate) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A path for messages to people.
pub(crate) fn joined(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests;
