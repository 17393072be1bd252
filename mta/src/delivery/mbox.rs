//! Appending to an mbox of a user's folder: under a lock, with `>From `
//! quoting that can be undone, and cut back when the disk fails.
//!
//! Source: qmail's mbox(5), the form called mboxrd elsewhere.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use memchr::memchr;
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::smtp::ReversePath;
use crate::smtp::trace;

/// For how long another program may hold the lock.
const LOCK_WAIT: Duration = Duration::from_secs(30);
const LOCK_STEP: Duration = Duration::from_millis(50);

/// Appends `message` to the file `path` below `home`, which is made if it is
/// missing. Follows no link.
///
/// # Errors
/// When it cannot be locked, written or synced; the file is as it was then.
pub fn append(
    home: &Path,
    path: &Path,
    reverse_path: &ReversePath,
    now: SystemTime,
    message: &mut dyn Read,
) -> io::Result<()> {
    let file = open(home, path)?;
    lock(&file)?;
    let before = file.metadata()?.len();
    let appended = write(&file, reverse_path, now, message).and_then(|()| file.sync_all());
    if appended.is_err() {
        let _ = file.set_len(before);
    }
    appended?;
    if before == 0 {
        // It may be new.
        let folder = home.join(path);
        File::open(folder.parent().unwrap_or(home))?.sync_all()?;
    }
    Ok(())
}

fn open(home: &Path, path: &Path) -> io::Result<File> {
    let home = File::open(home)?;
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&home, path, flags, Mode::RUSR | Mode::WUSR, resolve)?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

fn lock(file: &File) -> io::Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if waited < LOCK_WAIT => {
                thread::sleep(LOCK_STEP);
                waited += LOCK_STEP;
            }
            locked => return Ok(locked?),
        }
    }
}

fn write(
    file: &File,
    reverse_path: &ReversePath,
    now: SystemTime,
    message: &mut dyn Read,
) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    out.write_all(from_line(reverse_path, now).as_bytes())?;
    let mut bytes = Vec::new();
    message.read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        let quoted = line.iter().position(|b| *b != b'>').unwrap_or(line.len());
        if line[quoted..].starts_with(b"From ") {
            out.write_all(b">")?;
        }
        out.write_all(line)?;
        rest = after;
    }
    if !bytes.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")?;
    match out.into_inner() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.into_error()),
    }
}

/// `From anna@example.org Thu Nov 26 19:44:15 2026`, a whole line.
pub(super) fn from_line(reverse_path: &ReversePath, now: SystemTime) -> String {
    let sender = match reverse_path.to_string() {
        // As all mbox readers know the null reverse-path.
        null if null.is_empty() => "MAILER-DAEMON".to_owned(),
        // A blank would end the name.
        sender => sender.replace(char::is_whitespace, "-"),
    };
    format!("From {sender} {}\n", asctime(now))
}

/// `Thu Nov 26 19:44:15 2026`, from the date of a header field,
/// `Thu, 26 Nov 2026 19:44:15 +0000`.
fn asctime(now: SystemTime) -> String {
    let date = trace::date(now);
    let parts: Vec<&str> = date
        .split([' ', ','])
        .filter(|part| !part.is_empty())
        .collect();
    match parts.as_slice() {
        [weekday, day, month, year, time, ..] => {
            format!("{weekday} {month} {day:>2} {time} {year}")
        }
        _ => date,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn append_to(home: &Path, path: &str, sender: &str, message: &str) -> io::Result<()> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_188_655);
        let sender = ReversePath::parse(sender.as_bytes()).unwrap();
        append(home, Path::new(path), &sender, now, &mut message.as_bytes())
    }

    #[test]
    fn messages_are_quoted_and_follow_each_other() {
        let dir = tempfile::tempdir().unwrap();
        append_to(
            dir.path(),
            "mbox",
            "a@example.org",
            "A: b\n\nFrom me\n>From you\nFromage\n",
        )
        .unwrap();
        append_to(dir.path(), "mbox", "", "C: d").unwrap();
        let text = fs::read_to_string(dir.path().join("mbox")).unwrap();
        let expected = "From a@example.org Wed Nov 26 20:24:15 2025\nA: b\n\n>From me\n>>From you\nFromage\n\n\
                        From MAILER-DAEMON Wed Nov 26 20:24:15 2025\nC: d\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_link_is_followed_and_a_failure_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), home.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), home.join("out")).unwrap();
        for path in ["link", "out/secret", "../secret", "."] {
            assert!(
                append_to(&home, path, "a@example.org", "x").is_err(),
                "{path}"
            );
        }
        assert_eq!(
            fs::read_to_string(dir.path().join("secret")).unwrap(),
            "secret"
        );

        append_to(&home, "mbox", "a@example.org", "x").unwrap();
        let before = fs::read(home.join("mbox")).unwrap();
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let sender = ReversePath::Null;
        append(
            &home,
            Path::new("mbox"),
            &sender,
            SystemTime::UNIX_EPOCH,
            &mut Broken,
        )
        .unwrap_err();
        assert_eq!(fs::read(home.join("mbox")).unwrap(), before);
    }
}
