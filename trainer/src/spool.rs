//! Lessons that `bmf` has kept in its users' home folders while no daemon
//! answered (`classifier/src/cli/spool.rs`), taken up without waiting for each
//! user's next `bmf`.
//!
//! Users are hostile: the folder is opened without following a link below the
//! home folder, and only regular files of its owner with a single name are
//! read. A lesson there may only be of the owner's own model, whatever it says.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use classifier::cli::wire::{HEADER_LEN, Header, Malformed, Refusal, Reply, Request};
use nix::unistd::User;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::fs::{flock, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use tracing::{debug, info, warn};

use crate::service::Service;
use crate::users::Peer;

/// As in `bmf`.
const FOLDER: &str = ".bmf/spool";

/// More are left to the next time.
const MAX_FILES: usize = 10_000;

/// Longer files are none of `bmf`'s.
const MAX_BYTES: u64 = (256 << 20) + (64 << 10);

/// Takes up what waits for all users who have ever asked for themselves. May
/// wait for a disk and for the system's name service.
pub fn take_up(service: &Service, now: u64) {
    let users = match service.own_users() {
        Ok(users) => users,
        Err(error) => return warn!(%error, "spools not looked for"),
    };
    for name in users {
        let Ok(Some(user)) = User::from_name(&name) else {
            continue;
        };
        match take_up_one(service, user.uid.as_raw(), &user.dir, now) {
            Ok(0) => {}
            Ok(n) => info!(user = name, n, "lessons that waited were learned"),
            Err(error) => debug!(user = name, %error, "spool left alone"),
        }
    }
}

/// How many lessons were done.
fn take_up_one(service: &Service, uid: u32, home: &Path, now: u64) -> io::Result<usize> {
    let opened = mailbox::open_deepest(home, Path::new(FOLDER)).map_err(io::Error::other)?;
    let (folder, true) = opened else {
        return Ok(0);
    };
    if fstat(&folder)?.st_uid != uid {
        return Err(io::Error::other("it belongs to somebody else"));
    }
    let names = names(folder.as_fd())?;
    if names.is_empty() {
        return Ok(0);
    }
    // A `bmf` that hands it over at this moment has it.
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(0),
        locked => locked?,
    }
    let mut n_done = 0;
    for name in names {
        let Some(request) = read(folder.as_fd(), &name, uid)? else {
            continue;
        };
        match learn(service, uid, &request, now) {
            Outcome::Done => {
                unlinkat(&folder, &name, AtFlags::empty())?;
                n_done += 1;
            }
            Outcome::Refused => {
                let aside = [b".refused.", name.as_bytes()].concat();
                renameat(&folder, &name, &folder, aside)?;
            }
            Outcome::OfAnotherVersion => {}
            Outcome::Later => break,
        }
    }
    Ok(n_done)
}

enum Outcome {
    Done,
    Refused,
    /// It waits for that.
    OfAnotherVersion,
    Later,
}

fn learn(service: &Service, uid: u32, request: &[u8], now: u64) -> Outcome {
    let Some((head, content)) = request.split_first_chunk::<HEADER_LEN>() else {
        return Outcome::Refused;
    };
    let request = Header::parse(head).and_then(|header| Request::parse(header, content));
    let (ask, message) = match request {
        Ok(Request::Message { ask, message, .. }) => (ask, message),
        Err(error @ Malformed::Version(_)) => {
            warn!(uid, %error, "a lesson of another version waits");
            return Outcome::OfAnotherVersion;
        }
        _ => return Outcome::Refused,
    };
    let own = Request::Message {
        ask,
        user: "",
        message,
    };
    match service.answer(Peer::Uid(uid), &own, now) {
        Reply::Refused(Refusal::TryAgain, _) => Outcome::Later,
        Reply::Refused(..) => Outcome::Refused,
        _ => Outcome::Done,
    }
}

/// In the order in which they came.
fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_bytes().starts_with(b".") && names.len() < MAX_FILES {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `None`: it is no file of `bmf`'s, or has gone.
fn read(folder: BorrowedFd<'_>, name: &CStr, uid: u32) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: OwnedFd = match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        opened => opened?,
    };
    let stat = fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || stat.st_uid != uid || stat.st_nlink != 1 {
        return Ok(None);
    }
    let mut request = Vec::new();
    File::from(file).take(MAX_BYTES).read_to_end(&mut request)?;
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use classifier::cli::{Mode, Output};
    use tokio::sync::watch;

    use super::*;
    use crate::config::Config;
    use crate::live::Live;
    use crate::service::plain;

    fn request(user: &str, n: u32) -> Vec<u8> {
        let message = format!("Subject: pills {n}\n\nthe pills of {n}\n").into_bytes();
        let request = Request::Message {
            ask: plain(Mode::Spam, Output::Nothing),
            user,
            message: &message,
        };
        request.to_bytes().unwrap()
    }

    #[test]
    fn only_what_is_the_owners_is_learned_and_as_his() {
        let dir = tempfile::tempdir().unwrap();
        let config = format!("database.path = '{}/db'", dir.path().display());
        let config = Config::parse(&config, Path::new("test")).unwrap();
        let (_, configs) = watch::channel(Arc::new(config));
        let service = Service::new(configs, Arc::new(Live::default())).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let me = crate::users::name(uid).unwrap().unwrap();
        let home = dir.path().join("home");
        let take_up = || take_up_one(&service, uid, &home, 1);
        fs::create_dir(&home).unwrap();
        assert_eq!(take_up().unwrap(), 0);
        let spool = home.join(FOLDER);
        fs::create_dir_all(&spool).unwrap();
        assert_eq!(take_up().unwrap(), 0);

        let mut later = request("", 0);
        later[3] += 1;
        fs::write(spool.join("0"), later).unwrap();
        fs::write(spool.join("1"), request("", 1)).unwrap();
        fs::write(spool.join("2"), request("somebody", 2)).unwrap();
        fs::write(spool.join("3"), b"bmf nothing").unwrap();
        let other = dir.path().join("other");
        fs::write(&other, request("", 4)).unwrap();
        symlink(&other, spool.join("4")).unwrap();
        fs::hard_link(&other, spool.join("5")).unwrap();
        fs::write(spool.join(".6"), request("", 6)).unwrap();
        assert_eq!(take_up().unwrap(), 2);
        let status = crate::admin::Status::of(service.host(), None, &me).unwrap();
        assert_eq!(status.spam, 2);
        let mut left: Vec<_> = fs::read_dir(&spool)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".6", ".refused.3", "0", "4", "5"]);
        assert_eq!(take_up().unwrap(), 0);

        // Swapped for a link to somebody else's.
        fs::rename(&spool, dir.path().join("swapped")).unwrap();
        symlink(dir.path().join("swapped"), &spool).unwrap();
        fs::write(dir.path().join("swapped/7"), request("", 7)).unwrap();
        assert_eq!(take_up().unwrap(), 0);
        assert!(dir.path().join("swapped/7").exists());
    }
}
