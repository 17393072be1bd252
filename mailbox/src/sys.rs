//! The system calls below a mailbox, one function each: none follows a
//! symbolic link, none leaves the folder it is given, none waits for a FIFO.
//! Those that change something can be made to fail by a test.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{
    self, AtFlags, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timestamps, Uid,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Opens the folder at `path` below `root`, through folders only.
pub(crate) fn open_dir(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens the file `name` of `dir` for reading. Never blocks: for a FIFO the
/// call returns, and the caller finds out what it got.
pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    open_beneath(
        dir,
        Path::new(name),
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
    )
}

/// Opens the file `name` of `dir`, which must be there, for appending.
pub(crate) fn open_append(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    step()?;
    open_beneath(
        dir,
        Path::new(name),
        OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY,
    )
}

fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    // The kernel would let a path go up and down again below `root`.
    let goes_down = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(goes_down) {
        return Err(Errno::XDEV.into());
    }
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // Linux before 5.6, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_step_by_step(root, path, flags),
        opened => Ok(opened?),
    }
}

/// As `openat2` does it, with one call for each part of the path.
fn open_step_by_step(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mut parts = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .peekable();
    let on_the_way = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut reached = fs::openat(root, c".", on_the_way, Mode::empty())?;
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(Errno::XDEV.into());
        };
        let flags = if parts.peek().is_some() {
            on_the_way
        } else {
            flags
        };
        reached = fs::openat(&reached, name, flags, Mode::empty())?;
    }
    Ok(reached)
}

/// What lies there, a link itself rather than its target.
pub(crate) fn lstat(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Stat> {
    Ok(fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(crate) fn fstat(fd: impl AsFd) -> io::Result<Stat> {
    Ok(fs::fstat(fd)?)
}

/// Whether this program's user owns it, and nobody else may use it.
pub(crate) fn is_ours_alone(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0
}

/// Whether nothing lies in a folder.
pub(crate) fn is_empty(dir: impl AsFd) -> io::Result<bool> {
    for entry in fs::Dir::read_from(dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Creates a file that was not there.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    step()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(fs::openat(
        dir,
        name,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?))
}

/// Creates a folder that was not there, for its owner alone.
pub(crate) fn create_dir(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    step()?;
    Ok(fs::mkdirat(dir, name, Mode::RWXU)?)
}

/// Renames and fails with `AlreadyExists` rather than replace anything.
pub(crate) fn rename_new(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    new_name: &OsStr,
) -> io::Result<()> {
    step()?;
    match fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        // A file system such as NFS cannot; two names for a moment, then.
        Err(Errno::INVAL | Errno::NOSYS) => link_and_unlink(from, name, to, new_name),
        renamed => Ok(renamed?),
    }
}

fn link_and_unlink(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    new_name: &OsStr,
) -> io::Result<()> {
    fs::linkat(from, name, to, new_name, AtFlags::empty())?;
    unlink(from, name)
}

/// Renames over whatever is there.
pub(crate) fn rename_over(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    new_name: &OsStr,
) -> io::Result<()> {
    step()?;
    Ok(fs::renameat(from, name, to, new_name)?)
}

/// Removes a name that is no folder's.
pub(crate) fn unlink(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    step()?;
    Ok(fs::unlinkat(dir, name, AtFlags::empty())?)
}

/// Syncs a file or folder.
pub(crate) fn sync(fd: impl AsFd) -> io::Result<()> {
    step()?;
    Ok(fs::fsync(fd)?)
}

/// Gives `fd` to another user, as only root can.
pub(crate) fn change_owner(fd: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    step()?;
    Ok(fs::fchown(
        fd,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
    )?)
}

/// Gives `fd` the permissions and times of `like`.
pub(crate) fn change_mode_and_times(fd: impl AsFd, like: &Stat) -> io::Result<()> {
    step()?;
    fs::fchmod(&fd, Mode::from_raw_mode(like.st_mode & 0o777))?;
    let time = |seconds, nanoseconds| fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(like.st_atime as _, like.st_atime_nsec as _),
        last_modification: time(like.st_mtime as _, like.st_mtime_nsec as _),
    };
    Ok(fs::futimens(&fd, &times)?)
}

/// Makes now the time at which `fd` was changed last.
pub(crate) fn touch(fd: impl AsFd) -> io::Result<()> {
    step()?;
    let now = fs::Timespec {
        tv_sec: 0,
        tv_nsec: fs::UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    Ok(fs::futimens(&fd, &times)?)
}

#[cfg(not(test))]
pub(crate) fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use fault::{Fault, each_step, step};

/// Faults for tests of the thread that sets them.
#[cfg(test)]
mod fault {
    use std::cell::Cell;
    use std::io;

    /// What happens at a step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// This step fails, the following ones do not.
        Fails,
        /// The process is gone: neither this step nor a later one happens.
        Killed,
    }

    #[derive(Clone, Copy)]
    enum Plan {
        Sound,
        In(usize, Fault),
        Past(Fault),
    }

    thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::Sound) };
    }

    /// Calls `run` once for each step it takes and each fault, with that fault
    /// at that step, and once more with a fault too late to matter; after
    /// each, without faults, `check`.
    pub(crate) fn each_step<T>(mut run: impl FnMut() -> T, mut check: impl FnMut(Fault, usize, T)) {
        for fault in [Fault::Fails, Fault::Killed] {
            for n in 0.. {
                PLAN.set(Plan::In(n, fault));
                let outcome = run();
                let too_late = matches!(PLAN.replace(Plan::Sound), Plan::In(..));
                check(fault, n, outcome);
                if too_late {
                    assert!(n > 0, "no step was taken");
                    break;
                }
            }
        }
    }

    pub(crate) fn step() -> io::Result<()> {
        match PLAN.get() {
            Plan::Sound | Plan::Past(Fault::Fails) => return Ok(()),
            Plan::In(left @ 1.., fault) => {
                PLAN.set(Plan::In(left - 1, fault));
                return Ok(());
            }
            Plan::In(0, fault) => PLAN.set(Plan::Past(fault)),
            Plan::Past(Fault::Killed) => {}
        }
        Err(io::Error::other("injected fault"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    type Open = fn(BorrowedFd<'_>, &Path, OFlags) -> io::Result<OwnedFd>;
    const WAYS: [(&str, Open); 2] = [("openat2", open_beneath), ("step by step", open_by_hand)];

    fn open_by_hand(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        open_step_by_step(root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW)
    }

    #[test]
    fn neither_way_of_opening_leaves_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("mailbox/cur")).unwrap();
        std::fs::create_dir(at("outside")).unwrap();
        std::fs::write(at("outside/mail"), "secret").unwrap();
        std::fs::write(at("mailbox/cur/mail"), "own").unwrap();
        symlink(at("outside"), at("mailbox/absolute")).unwrap();
        symlink("../outside", at("mailbox/relative")).unwrap();
        symlink("cur", at("mailbox/inside")).unwrap();
        symlink("mail", at("mailbox/cur/alias")).unwrap();
        symlink("/proc/self/root", at("mailbox/magic")).unwrap();
        let root = File::open(at("mailbox")).unwrap();
        for (way, open) in WAYS {
            let can = |path: &str| open(root.as_fd(), Path::new(path), OFlags::RDONLY).is_ok();
            assert!(can("cur/mail") && can("cur") && can("."), "{way}");
            for path in [
                "absolute",
                "absolute/mail",
                "relative",
                "relative/mail",
                "inside",
                "inside/mail",
                "cur/alias",
                "magic",
                "magic/etc",
                "..",
                "../outside/mail",
                "cur/../../outside/mail",
                "/etc/passwd",
                "/",
                "cur/missing",
            ] {
                assert!(!can(path), "{way}: {path}");
            }
        }
    }

    #[test]
    fn a_rename_without_kernel_support_replaces_nothing_either() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(dir.path().join(name), name).unwrap();
        let folder = File::open(dir.path()).unwrap();
        for rename in [rename_new, link_and_unlink] {
            put("a");
            put("b");
            let (a, b, c) = (OsStr::new("a"), OsStr::new("b"), OsStr::new("c"));
            let error = rename(folder.as_fd(), a, folder.as_fd(), b).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            rename(folder.as_fd(), a, folder.as_fd(), c).unwrap();
            assert!(!dir.path().join("a").exists());
            assert_eq!(std::fs::read(dir.path().join("c")).unwrap(), b"a");
            std::fs::remove_file(dir.path().join("c")).unwrap();
        }
    }
}
