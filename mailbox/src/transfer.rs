//! Moving a message to another folder, as it is: name, flags, content, date,
//! mode and owner stay.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::new_file::NewFile;
use crate::{Entry, Error, Folder, sys};

impl Folder {
    /// Moves a message to the same half of `to`, and tells whether it was
    /// still there under its name. Nothing is replaced.
    ///
    /// Within a file system this is a rename. Across, the copy is synced
    /// before the original goes. A move that was killed in between is
    /// finished by the next one. Sync both folders for a rename to survive a
    /// power cut.
    ///
    /// # Errors
    /// When it is no message of the mailbox's owner, or another one of that
    /// name lies in `to`; the message is then where it was.
    pub fn move_to(&self, entry: &Entry, to: &Self) -> Result<bool, Error> {
        let name = entry.name.as_os_str();
        if self.stat(entry)?.is_none() {
            return Ok(false);
        }
        let failed = |error| Error::io("move here", to.path_of(entry))(error);
        match sys::rename_new(self.half(entry.half), name, to.half(entry.half), name) {
            Ok(()) => {
                self.has_left(entry);
                Ok(true)
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => Ok(false),
                Some(Errno::XDEV) => self.copy_and_remove(entry, to),
                Some(Errno::EXIST) if self.is_same_message(entry, to)? => self.remove(entry),
                _ => Err(failed(error)),
            },
        }
    }

    fn copy_and_remove(&self, entry: &Entry, to: &Self) -> Result<bool, Error> {
        let Some(mut from) = self.open_message(entry)? else {
            return Ok(false);
        };
        let path = to.path_of(entry);
        let is_new = match to.copy_in(entry, &mut from) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !self.is_same_message(entry, to)? {
                    return Err(Error::io("move here", path)(error));
                }
                false
            }
            copied => copied.map_err(Error::io("copy to", path)).map(|()| true)?,
        };
        let synced = to.sync_half(entry.half);
        let removed = synced.and_then(|()| self.remove(entry));
        // What cannot leave is not twice there, if it can be helped.
        if removed.is_err() && is_new && self.stat(entry)?.is_some() {
            to.remove(entry)?;
        }
        removed
    }

    fn copy_in(&self, entry: &Entry, from: &mut File) -> io::Result<()> {
        let stat = sys::fstat(&*from)?;
        let tmp = self.tmp().map_err(io::Error::other)?;
        let mut file = NewFile::create(tmp, OsStr::new(&random_name()), self.owner)?;
        io::copy(from, &mut file)?;
        if stat.st_gid != self.owner.gid {
            // Only root and members may; for others the group is no loss.
            let _ = sys::change_owner(file.file(), stat.st_uid, stat.st_gid);
        }
        sys::change_mode_and_times(file.file(), &stat)?;
        file.publish(self.half(entry.half), entry.name.as_os_str())
    }

    /// Whether the message of the same name in `to` is this one: an earlier
    /// move was killed when it had made the new name and not removed the old.
    fn is_same_message(&self, entry: &Entry, to: &Self) -> Result<bool, Error> {
        let (Some(here), Some(there)) = (self.stat(entry)?, to.stat(entry)?) else {
            return Ok(false);
        };
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) {
            return Ok(true);
        }
        if !may_be_copy(&here, &there) {
            return Ok(false);
        }
        let (Some(here), Some(there)) = (self.open_message(entry)?, to.open_message(entry)?) else {
            return Ok(false);
        };
        same_content(here, there).map_err(Error::io("compare", to.path_of(entry)))
    }
}

/// For a file in `tmp`, where any number of processes of any number of
/// machines may be copying the same message.
fn random_name() -> String {
    format!("{:016x}.moved", RandomState::new().build_hasher().finish())
}

fn may_be_copy(here: &Stat, there: &Stat) -> bool {
    (here.st_size, here.st_mtime) == (there.st_size, there.st_mtime)
}

fn same_content(here: File, there: File) -> io::Result<bool> {
    let mut here = io::BufReader::new(here).bytes();
    let mut there = io::BufReader::new(there).bytes();
    loop {
        match (here.next().transpose()?, there.next().transpose()?) {
            (None, None) => return Ok(true),
            (one, other) if one != other => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageName;
    use crate::sys::each_step;
    use crate::testing::{MAIL, TestMailbox};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::time::{Duration, SystemTime};

    /// Only root can give files to a group of which it is no member.
    const GROUP: u32 = 2_345;

    /// A message with everything that must survive.
    fn prepare(test: &TestMailbox) -> Entry {
        let entry = test.put("", "cur/1.host,S=3,W=4:2,RSa", MAIL);
        let given = chown(test.path("cur/1.host,S=3,W=4:2,RSa"), None, Some(GROUP));
        assert!(given.is_ok() || !rustix::process::geteuid().is_root());
        let file = File::options()
            .append(true)
            .open(test.path("cur/1.host,S=3,W=4:2,RSa"))
            .unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o640))
            .unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5))
            .unwrap();
        entry
    }

    fn check_kept(test: &TestMailbox) {
        let path = test.path(".Junk/cur/1.host,S=3,W=4:2,RSa");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), MAIL);
        assert_eq!(
            (metadata.mtime(), metadata.mtime_nsec()),
            (1_000_000_000, 5)
        );
        assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
        assert_eq!(test.messages().len(), 1);
    }

    /// Where nothing fails; a group that cannot be given is no loss.
    fn check_group(test: &TestMailbox) {
        let metadata = fs::metadata(test.path(".Junk/cur/1.host,S=3,W=4:2,RSa")).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        assert!(!is_root || metadata.gid() == GROUP);
    }

    type Move = fn(&Folder, &Entry, &Folder) -> Result<bool, Error>;
    const WAYS: [Move; 2] = [Folder::move_to, Folder::copy_and_remove];

    #[test]
    fn everything_about_it_stays() {
        for way in WAYS {
            let test = TestMailbox::new();
            let (inbox, junk) = (test.folder("INBOX"), test.folder("Junk"));
            let entry = prepare(&test);
            assert!(way(&inbox, &entry, &junk).unwrap());
            check_kept(&test);
            check_group(&test);
            assert!(!way(&inbox, &entry, &junk).unwrap(), "it has gone");
        }
    }

    #[test]
    fn a_fault_at_any_step_is_mended_by_trying_again() {
        for way in WAYS {
            let test = TestMailbox::new();
            let (inbox, junk) = (test.folder("INBOX"), test.folder("Junk"));
            let entry = prepare(&test);
            let moving = || way(&inbox, &entry, &junk).is_ok();
            each_step(moving, |fault, step, moved| {
                let messages = test.messages();
                assert!(!messages.is_empty(), "lost after {fault:?} at {step}");
                assert!(
                    messages.iter().all(|(_, bytes)| bytes == MAIL),
                    "{fault:?} at {step}"
                );
                assert!(!moved || messages.len() == 1, "{fault:?} at {step}");
                way(&inbox, &entry, &junk).unwrap();
                check_kept(&test);
                test.clear();
                prepare(&test);
            });
        }
    }

    #[test]
    fn what_leaves_new_is_seen_by_the_time_of_cur() {
        let moved: Move = |folder, entry, to| folder.move_to(entry, to);
        let removed: Move = |folder, entry, _| folder.remove(entry);
        for leave in [moved, removed] {
            let test = TestMailbox::new();
            let (inbox, junk) = (test.folder("INBOX"), test.folder("Junk"));
            let entry = test.put("", "new/1.host", MAIL);
            let long_ago = SystemTime::UNIX_EPOCH;
            let cur = File::open(test.path("cur")).unwrap();
            cur.set_modified(long_ago).unwrap();
            assert!(leave(&inbox, &entry, &junk).unwrap());
            let changed = cur.metadata().unwrap().modified().unwrap();
            assert_ne!(changed, long_ago);
        }
    }

    #[test]
    fn nothing_is_replaced() {
        for way in WAYS {
            let test = TestMailbox::new();
            let (inbox, junk) = (test.folder("INBOX"), test.folder("Junk"));
            let entry = prepare(&test);
            test.put("Junk", "cur/1.host,S=3,W=4:2,RSa", b"another");
            let error = way(&inbox, &entry, &junk).unwrap_err();
            assert!(error.to_string().contains("move here"), "{error}");
            assert_eq!(test.messages().len(), 2);
        }
    }

    #[test]
    fn a_move_killed_between_its_two_names_is_finished() {
        let test = TestMailbox::new();
        let (inbox, junk) = (test.folder("INBOX"), test.folder("Junk"));
        let entry = prepare(&test);
        let name = "cur/1.host,S=3,W=4:2,RSa";
        fs::hard_link(test.path(name), test.path(".Junk").join(name)).unwrap();
        assert!(inbox.move_to(&entry, &junk).unwrap());
        check_kept(&test);
    }

    #[test]
    fn what_was_renamed_meanwhile_stays() {
        let test = TestMailbox::new();
        let (inbox, junk) = (test.folder("INBOX"), test.folder("Junk"));
        let entry = test.put("", "cur/1.host:2,", MAIL);
        fs::rename(test.path("cur/1.host:2,"), test.path("cur/1.host:2,F")).unwrap();
        assert!(!inbox.move_to(&entry, &junk).unwrap());
        assert_eq!(test.messages()[0].0, "cur/1.host:2,F");
    }

    #[test]
    fn a_really_different_file_system() {
        let shared_memory = std::path::Path::new("/dev/shm");
        let test = TestMailbox::new();
        let device = |path: &std::path::Path| fs::metadata(path).map(|m| m.dev()).ok();
        if !shared_memory.is_dir() || device(shared_memory) == device(&test.path("")) {
            ::tests::skip("no second file system at /dev/shm");
            return;
        }
        let other = TestMailbox::new_in(shared_memory);
        let entry = prepare(&test);
        assert!(
            test.folder("INBOX")
                .move_to(&entry, &other.folder("Junk"))
                .unwrap()
        );
        check_kept(&other);
        check_group(&other);
        assert!(test.messages().is_empty());
        assert_eq!(
            MessageName::parse(b"1.host,S=3,W=4:2,RSa").unwrap(),
            entry.name
        );
    }
}
