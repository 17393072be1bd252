//! Linux's inotify, for folders that are open already.
//!
//! A folder is watched by `/proc/self/fd/N`: the very one that was opened
//! beneath its mailbox, whatever its name leads to by now. The descriptor may
//! be closed afterwards.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// A queue of hints and the folders that they come from.
#[derive(Debug)]
pub(crate) struct Inotify {
    queue: OwnedFd,
    /// Held while a watch is added, so that no hint of it is read before it is
    /// known whose it is.
    watched: Mutex<HashMap<Wd, Watched>>,
    most: Option<usize>,
}

/// Names a watch.
pub(crate) type Wd = i32;

/// What a watched folder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The mailbox of this number.
    Mailbox(usize),
    /// A folder in which mailboxes may appear.
    Places,
}

/// Which changes in a folder are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Those of messages.
    Messages,
    /// Those of folders below it; mail servers also keep files there.
    Folders,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    subject: Subject,
    of: Of,
}

/// Something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Messages came or went.
    Messages(Subject),
    /// Folders came or went.
    Folders(Subject),
    /// Hints were lost.
    Overflow,
}

/// Why a folder is not watched.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The limit is reached.
    Full,
    /// The system refused.
    Io(io::Error),
}

const MESSAGES: WatchFlags = FOLDERS.union(WatchFlags::CLOSE_WRITE);
const FOLDERS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

impl Inotify {
    /// Watches at most `most` folders, or as many as the system admits.
    pub(crate) fn new(most: Option<usize>) -> io::Result<Self> {
        Ok(Self {
            queue: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            watched: Mutex::default(),
            most,
        })
    }

    /// Watches an open folder. Asked again about the same folder it gives the
    /// same name.
    pub(crate) fn watch(
        &self,
        folder: BorrowedFd<'_>,
        subject: Subject,
        of: Of,
    ) -> Result<Wd, Refused> {
        let mut watched = self.watched();
        if self.most.is_some_and(|most| watched.len() >= most) {
            return Err(Refused::Full);
        }
        let flags = match of {
            Of::Messages => MESSAGES,
            Of::Folders => FOLDERS,
        };
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        match inotify::add_watch(&self.queue, path, flags) {
            Ok(wd) => {
                watched.insert(wd, Watched { subject, of });
                Ok(wd)
            }
            Err(Errno::NOSPC | Errno::NOMEM) => Err(Refused::Full),
            Err(errno) => Err(Refused::Io(errno.into())),
        }
    }

    /// Ends a watch. The kernel may have ended it before.
    pub(crate) fn unwatch(&self, wd: Wd) {
        if self.watched().remove(&wd).is_some() {
            let _ = inotify::remove_watch(&self.queue, wd);
        }
    }

    /// How many folders are watched.
    pub(crate) fn len(&self) -> usize {
        self.watched().len()
    }

    /// Waits until something has changed, and tells what.
    pub(crate) fn wait(&self) -> io::Result<Vec<Hint>> {
        let mut hints = Vec::new();
        while hints.is_empty() {
            let mut ready = [PollFd::new(&self.queue, PollFlags::IN)];
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            hints = self.hints()?;
        }
        Ok(hints)
    }

    /// What has changed since, without equals one after another. When much has
    /// it is not all.
    pub(crate) fn hints(&self) -> io::Result<Vec<Hint>> {
        const MOST_READS: usize = 16;
        let mut hints: Vec<Hint> = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 64 << 10];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let mut n_reads = 0;
        loop {
            n_reads += usize::from(reader.is_buffer_empty());
            if n_reads > MOST_READS {
                return Ok(hints);
            }
            let (wd, flags) = match reader.next() {
                Ok(event) => (event.wd(), event.events()),
                Err(Errno::AGAIN) => return Ok(hints),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let hint = self.hint(wd, flags);
            hints.extend(hint.filter(|hint| hints.last() != Some(hint)));
        }
    }

    fn hint(&self, wd: Wd, flags: ReadFlags) -> Option<Hint> {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(Hint::Overflow);
        }
        let mut watched = self.watched();
        // Unwatched by us while this was on its way.
        let Watched { subject, of } = *watched.get(&wd)?;
        if flags.contains(ReadFlags::IGNORED) {
            watched.remove(&wd);
            return Some(Hint::Folders(subject));
        }
        let of_itself = flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF);
        match (of, flags.contains(ReadFlags::ISDIR)) {
            _ if of_itself => Some(Hint::Folders(subject)),
            (Of::Messages, false) => Some(Hint::Messages(subject)),
            (Of::Folders, true) => Some(Hint::Folders(subject)),
            _ => None,
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<Wd, Watched>> {
        // Nothing in between can leave the map half changed.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what other machines change on this file system is no event here:
/// network and cluster file systems, and FUSE, of which nobody knows.
pub(crate) fn is_remote(folder: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(folder).is_ok_and(|stat| is_remote_type(stat.f_type as u32))
}

/// By the numbers of statfs(2).
fn is_remote_type(f_type: u32) -> bool {
    matches!(
        f_type,
        0x0000_6969 // NFS
            | 0x0000_517b // SMB
            | 0xff53_4d42 // CIFS
            | 0xfe53_4d42 // SMB2
            | 0x0102_1997 // 9P
            | 0x5346_414f // AFS
            | 0x7375_7245 // Coda
            | 0x00c3_6400 // Ceph
            | 0x0bd0_0bd0 // Lustre
            | 0x0116_1970 // GFS2
            | 0x7461_636f // OCFS2
            | 0x6573_5546 // FUSE
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn watch(inotify: &Inotify, path: &Path, n: usize, of: Of) -> Result<Wd, Refused> {
        let folder = File::open(path).unwrap();
        inotify.watch(folder.as_fd(), Subject::Mailbox(n), of)
    }

    fn hints(inotify: &Inotify) -> Vec<Hint> {
        inotify.hints().unwrap()
    }

    #[test]
    fn each_folder_tells_what_it_is_watched_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("cur")).unwrap();
        let inotify = Inotify::new(None).unwrap();
        let root = watch(&inotify, dir.path(), 1, Of::Folders).unwrap();
        let cur = watch(&inotify, &path("cur"), 2, Of::Messages).unwrap();
        assert_eq!(hints(&inotify), []);

        // As mail servers do, beside the messages and on reading them.
        fs::write(path("dovecot.index.log"), "").unwrap();
        assert_eq!(hints(&inotify), []);
        fs::write(path("cur/1.h:2,"), "mail").unwrap();
        let messages = [Hint::Messages(Subject::Mailbox(2))];
        assert_eq!(hints(&inotify), messages);
        fs::read(path("cur/1.h:2,")).unwrap();
        assert_eq!(hints(&inotify), []);
        fs::rename(path("cur/1.h:2,"), path("cur/1.h:2,S")).unwrap();
        assert_eq!(hints(&inotify), messages);
        fs::create_dir(path(".Junk")).unwrap();
        assert_eq!(hints(&inotify), [Hint::Folders(Subject::Mailbox(1))]);

        assert_eq!(watch(&inotify, dir.path(), 1, Of::Folders).unwrap(), root);
        assert_eq!(inotify.len(), 2);
        inotify.unwatch(root);
        fs::remove_dir_all(path("cur")).unwrap();
        let gone = [messages[0], Hint::Folders(Subject::Mailbox(2))];
        assert_eq!(hints(&inotify), gone);
        assert_eq!(inotify.len(), 0);
        inotify.unwatch(cur);
    }

    #[test]
    fn a_folder_swapped_for_a_link_after_it_was_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("own")).unwrap();
        fs::create_dir(path("victim")).unwrap();
        let own = File::open(path("own")).unwrap();
        fs::rename(path("own"), path("away")).unwrap();
        symlink("victim", path("own")).unwrap();
        let inotify = Inotify::new(None).unwrap();
        inotify
            .watch(own.as_fd(), Subject::Places, Of::Messages)
            .unwrap();
        fs::write(path("victim/1"), "").unwrap();
        assert_eq!(hints(&inotify), []);
        fs::write(path("away/1"), "").unwrap();
        assert_eq!(hints(&inotify), [Hint::Messages(Subject::Places)]);
    }

    #[test]
    fn the_limit_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let inotify = Inotify::new(Some(1)).unwrap();
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        watch(&inotify, &dir.path().join("a"), 1, Of::Messages).unwrap();
        let refused = watch(&inotify, &dir.path().join("b"), 1, Of::Messages);
        assert!(matches!(refused, Err(Refused::Full)), "{refused:?}");
    }

    #[test]
    fn which_file_systems_are_polled() {
        for (f_type, expected) in [
            (0x6969, true),
            (0xfe53_4d42, true),
            (0xef53, false),
            (0x0102_1994, false),
            (0x5846_5342, false),
            (0x9123_683e, false),
        ] {
            assert_eq!(is_remote_type(f_type), expected, "{f_type:x}");
        }
    }
}
