//! The folder of the two lists: one state read, one state written.
//!
//! | file | what it is |
//! | --- | --- |
//! | `goodlist.txt`, `spamlist.txt` | the lists, never written in place |
//! | `lists.new/` | lists being written; without meaning after a crash |
//! | `lists.next/` | lists that are in force instead of those beside the folder |
//! | `lists.lock` | locked by the one who writes, who removes it; holds its process number |
//!
//! A change is prepared in `lists.new`. That of one list is then moved over
//! the old one. That of both is put in force at once by renaming the folder to
//! `lists.next`; then its lists are moved over the old ones, and it is removed.
//! Whoever finds `lists.next` reads it in place of the lists, and whoever
//! writes completes the move first. So a process that is killed between any
//! two steps leaves the old state or the new one, wholly.
//!
//! Writers exclude each other by `lists.lock`; readers take no part in that.
//! bmf itself writes in place under an fcntl lock on the list: both readers
//! and writers here hold the shared form of that lock while they read, so
//! that they see no list that bmf has written half-way. A bmf that waits
//! for us while we replace a list writes to the replaced file in vain: rename
//! does not protect who writes in place, so that bmf and this program should
//! not learn in one folder at the same moment.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::files;
use super::list::List;
use super::lookup::{self, Found};
use crate::store::{Durability, lock};
use crate::{Error, Label, Token};

/// A folder, and how to use it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// How long may be waited for a lock in it.
    pub(super) lock_wait: Duration,
    /// Whether anything is synced.
    pub(super) syncs: bool,
}

/// The right to write. Ends when dropped.
pub(super) struct Writer<'a> {
    folder: &'a Folder,
    lock: File,
    /// The lists that were read, which holds bmf off until they are replaced.
    read: Vec<File>,
}

/// The lists of a state, or of a change of one: `None` for a list that the
/// change does not touch.
#[derive(Debug, Default)]
pub(super) struct Pair<T> {
    pub(super) ham: T,
    pub(super) spam: T,
}

impl<T> Pair<T> {
    fn of(mut make: impl FnMut(Label) -> Result<T, Error>) -> Result<Self, Error> {
        // bmf's order, in which it also locks them.
        let spam = make(Label::Spam)?;
        let ham = make(Label::Ham)?;
        Ok(Self { ham, spam })
    }

    pub(super) fn get(&self, label: Label) -> &T {
        match label {
            Label::Ham => &self.ham,
            Label::Spam => &self.spam,
        }
    }
}

/// The file name of a list.
pub(crate) fn file_name(label: Label) -> &'static str {
    match label {
        Label::Ham => "goodlist.txt",
        Label::Spam => "spamlist.txt",
    }
}

/// Lists that are read. `None`: there is none, which is as good as an empty
/// one.
pub(super) type OpenLists = Pair<Option<(File, Metadata)>>;

const LOCK: &str = "lists.lock";

const LABELS: [Label; 2] = [Label::Spam, Label::Ham];

impl Folder {
    /// Makes the folder if it is missing, but no folder above it.
    pub(super) fn open(path: &Path, lock_wait: Duration) -> Result<Self, Error> {
        if !path.is_dir() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(path)
                .or_else(|error| if path.is_dir() { Ok(()) } else { Err(error) })
                .map_err(Error::io("create folder", path))?;
        }
        Ok(Self {
            path: path.to_owned(),
            lock_wait,
            syncs: true,
        })
    }

    /// Opens both lists in one state, which stays the same as long as they
    /// are open: nobody of us writes in place, and bmf must wait from
    /// [`Self::parse_lists`] or [`Self::look_up`] on.
    pub(super) fn open_lists(&self) -> Result<OpenLists, Error> {
        loop {
            let files = Pair::of(|label| self.open_list(label))?;
            // What each path led to twice was in force in between, both at
            // once. Otherwise somebody wrote meanwhile, which is rare.
            let is_one_state = LABELS.iter().all(|label| {
                let now = self.stat(*label).ok().map(|m| (m.dev(), m.ino()));
                let opened = files.get(*label).as_ref();
                now == opened.map(|(_, m)| (m.dev(), m.ino()))
            });
            if is_one_state {
                return Ok(files);
            }
        }
    }

    /// Reads both lists.
    pub(super) fn parse_lists(&self, files: &OpenLists) -> Result<Pair<List>, Error> {
        Pair::of(|label| self.parse(label, files.get(label).as_ref()))
    }

    /// Looks `tokens` up in both lists. `None`: a list must be read as a
    /// whole to be understood.
    pub(super) fn look_up(
        &self,
        files: &OpenLists,
        tokens: &[Token],
    ) -> Result<Option<Pair<Found>>, Error> {
        let Pair { ham, spam } = Pair::of(|label| {
            let Some((file, _)) = files.get(label) else {
                return Ok(Some(Found::nothing(tokens)));
            };
            let path = || self.path.join(file_name(label));
            self.wait_for_bmf(file, path)?;
            lookup::look_up(file, tokens).map_err(|error| Error::io("read", path())(error))
        })?;
        Ok(ham.zip(spam).map(|(ham, spam)| Pair { ham, spam }))
    }

    /// Waits for the right to write, and completes what a killed writer left.
    pub(super) fn writer(&self) -> Result<Writer<'_>, Error> {
        let path = self.path.join(LOCK);
        let writer = Writer {
            folder: self,
            lock: self.lock(&path)?,
            read: Vec::new(),
        };
        // Only for the message to those who wait in vain.
        let _ = writer.lock.set_len(0);
        let _ = writeln!(&writer.lock, "{}", std::process::id());
        self.complete()?;
        Ok(writer)
    }

    fn lock(&self, path: &Path) -> Result<File, Error> {
        let started = Instant::now();
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(Error::io("open", path))?;
            let left = self.lock_wait.saturating_sub(started.elapsed());
            let locked = lock::within(left, file)
                .map_err(Error::io("lock", path))?
                .ok_or_else(|| Error::Locked {
                    path: self.path.clone(),
                    waited: self.lock_wait,
                    owner: owner(path),
                })?;
            // Whoever had it removed the file, which may by now be another.
            if is_at(&locked, path) {
                return Ok(locked);
            }
        }
    }

    /// Moves committed lists to their places.
    fn complete(&self) -> Result<(), Error> {
        let next = self.path.join("lists.next");
        if !next.is_dir() {
            return Ok(());
        }
        for label in LABELS {
            let name = file_name(label);
            match files::rename(&next.join(name), &self.path.join(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                outcome => outcome.map_err(Error::io("rename", next.join(name)))?,
            }
        }
        files::remove_dir(&next).map_err(Error::io("remove", next))
    }

    /// Where the list in force lies. May be gone a moment later.
    fn paths(&self, label: Label) -> [PathBuf; 2] {
        let name = file_name(label);
        let mut next = self.path.join("lists.next");
        next.push(name);
        [next, self.path.join(name)]
    }

    fn stat(&self, label: Label) -> io::Result<Metadata> {
        let [next, usual] = self.paths(label);
        fs::metadata(next).or_else(|_| fs::metadata(usual))
    }

    /// The list in force. `None`: there is none, which is as good as an empty
    /// one.
    fn open_list(&self, label: Label) -> Result<Option<(File, Metadata)>, Error> {
        let [next, usual] = self.paths(label);
        match File::open(next).or_else(|_| File::open(&usual)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened
                .and_then(|file| file.metadata().map(|metadata| Some((file, metadata))))
                .map_err(Error::io("open", usual)),
        }
    }

    fn parse(&self, label: Label, file: Option<&(File, Metadata)>) -> Result<List, Error> {
        let Some((file, _)) = file else {
            return Ok(List::default());
        };
        let path = || self.path.join(file_name(label));
        self.wait_for_bmf(file, path)?;
        let text = read_all(file).map_err(|error| Error::io("read", path())(error))?;
        List::parse(text).map_err(|detail| Error::Damaged {
            path: path(),
            detail,
        })
    }

    /// Takes the shared form of bmf's lock, which ends when the file is
    /// closed.
    fn wait_for_bmf(&self, file: &File, path: impl Fn() -> PathBuf) -> Result<(), Error> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
                Err(Errno::AGAIN | Errno::ACCESS) => {}
                // Where the file system knows no such locks bmf has none
                // either.
                Ok(()) | Err(_) => return Ok(()),
            }
            if started.elapsed() >= self.lock_wait {
                return Err(Error::Locked {
                    path: path(),
                    waited: self.lock_wait,
                    owner: None,
                });
            }
            thread::sleep(pause.min(self.lock_wait.saturating_sub(started.elapsed())));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// The names in a folder reach the disk. Left to the system with
    /// [`Durability::Relaxed`]: file systems keep renames in their order, so
    /// that a crash may lose the newest and damages nothing.
    fn sync_dir(&self, path: &Path, durability: Durability) -> Result<(), Error> {
        match durability {
            Durability::Synced if self.syncs => {
                files::sync_dir(path).map_err(Error::io("sync folder", path))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Writer<'_> {
    /// Leaves no file but the lists, as long as the lock still holds.
    fn drop(&mut self) {
        let _ = files::remove_file(&self.folder.path.join(LOCK));
    }
}

impl Writer<'_> {
    /// The list in force.
    pub(super) fn read(&mut self, label: Label) -> Result<List, Error> {
        let file = self.folder.open_list(label)?;
        let list = self.folder.parse(label, file.as_ref())?;
        self.read.extend(file.map(|(file, _)| file));
        Ok(list)
    }

    /// Puts the changed lists in force, wholly or, on an error, not at all.
    /// The one exception is a folder that cannot be synced afterwards: then
    /// the change is in force, but may not outlive a power failure.
    pub(super) fn commit(
        &self,
        changed: &Pair<Option<List>>,
        durability: Durability,
    ) -> Result<(), Error> {
        let dir = &self.folder.path;
        let new = dir.join("lists.new");
        // The rename that commits.
        let (from, to) = match (&changed.ham, &changed.spam) {
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => (new.clone(), dir.join("lists.next")),
            (ham, _) => {
                let only = file_name(if ham.is_some() {
                    Label::Ham
                } else {
                    Label::Spam
                });
                (new.join(only), dir.join(only))
            }
        };
        self.prepare(changed, &new, durability)
            .and_then(|()| files::rename(&from, &to).map_err(Error::io("rename", from)))
            .inspect_err(|_| drop(remove_all(&new)))?;
        self.folder.sync_dir(dir, durability)?;
        // What cannot be tidied up now is tidied up by the next writer; to say
        // that the change failed would be wrong.
        let _ = remove_all(&new);
        let _ = self.folder.complete();
        Ok(())
    }

    /// Makes `new`, with the changed lists in it.
    fn prepare(
        &self,
        changed: &Pair<Option<List>>,
        new: &Path,
        durability: Durability,
    ) -> Result<(), Error> {
        remove_all(new)?;
        files::create_dir(new).map_err(Error::io("create folder", new))?;
        for label in LABELS {
            if let Some(list) = changed.get(label) {
                self.write(label, list, &new.join(file_name(label)))?;
            } else {
                // As bmf does, which opens both lists to change one.
                let other = self.folder.path.join(file_name(label));
                create_empty(&other).map_err(Error::io("create", other))?;
            }
        }
        self.folder.sync_dir(new, durability)
    }

    /// Writes a file that is to take the place of a list, with its mode and,
    /// where the system lets us, its owner.
    ///
    /// Synced with any durability, unless nothing is: a rename may reach the
    /// disk before the text of the renamed file does, and would leave a list
    /// that is cut short.
    fn write(&self, label: Label, list: &List, path: &Path) -> Result<(), Error> {
        let old = self.folder.stat(label).ok();
        files::write(path, old.as_ref(), list, self.folder.syncs).map_err(Error::io("write", path))
    }
}

/// Reads from the start to the end. Files of a size that does not fit in
/// memory fail here, and not in the allocator.
fn read_all(mut file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    text.try_reserve_exact(size)
        .map_err(|_| ErrorKind::OutOfMemory)?;
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// Does not touch a file that is there.
fn create_empty(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
}

fn remove_all(path: &Path) -> Result<(), Error> {
    match files::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(Error::io("remove", path)),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let (open, there) = (file.metadata().map(id), fs::metadata(path).map(id));
    matches!((open, there), (Ok(open), Ok(there)) if open == there)
}

fn owner(lock: &Path) -> Option<String> {
    let number = fs::read_to_string(lock).ok()?;
    let number: u32 = number.trim().parse().ok()?;
    Some(format!("process {number}"))
}
