//! Who asks, and under which name his model is kept.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{Uid, User};

use crate::Error;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this user of the system.
    Uid(u32),
    /// Nobody knows: TCP carries no identity.
    Anybody,
}

/// The name of a user of the system, as its name service says; `None`: there
/// is none. May wait for a network.
///
/// # Errors
/// When it cannot be looked up.
pub fn name(uid: u32) -> io::Result<Option<String>> {
    let user = User::from_uid(Uid::from_raw(uid))?;
    Ok(user.map(|user| user.name))
}

/// The accounts of people, as Debian numbers them, and their homes, as the
/// system's name service lists them. May wait for a network.
///
/// # Errors
/// When `getent` cannot be asked.
pub fn homes() -> Result<Vec<(String, PathBuf)>, Error> {
    let failed = Error::io("list the accounts by", "getent");
    let output = match Command::new("getent").arg("passwd").output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => return Err(failed(io::Error::other(output.status.to_string()))),
        Err(error) => return Err(failed(error)),
    };
    let lines = output.stdout.split(|b| *b == b'\n');
    Ok(lines.filter_map(home).collect())
}

/// The least number of an account of a person, and that of nobody.
const LEAST_UID: u32 = 1_000;
const NOBODY: u32 = 65_534;

/// The name and the home in a line of passwd, if that is a person's.
fn home(line: &[u8]) -> Option<(String, PathBuf)> {
    let fields: Vec<_> = line.split(|b| *b == b':').collect();
    let [name, _, uid, _, _, home, _] = fields[..] else {
        return None;
    };
    let name = str::from_utf8(name).ok().filter(|name| is_name(name))?;
    let uid: u32 = str::from_utf8(uid).ok()?.parse().ok()?;
    let is_person = uid >= LEAST_UID && uid != NOBODY && home.starts_with(b"/");
    is_person.then(|| (name.to_owned(), OsStr::from_bytes(home).into()))
}

/// Whether a name may be that of a user, of the system or virtual.
pub fn is_name(name: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c == '/' || c == char::REPLACEMENT_CHARACTER;
    !name.is_empty() && name.len() <= 320 && !name.starts_with('.') && !name.contains(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_of_people() {
        let anna = home(b"anna:x:1001:100:Anna,,,:/home/anna:/bin/sh").unwrap();
        assert_eq!(anna, ("anna".into(), "/home/anna".into()));
        for line in [
            "root:x:0:0:root:/root:/bin/bash",
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
            "a/b:x:1001:100::/home/a:/bin/sh",
            "bert:x:1001:100::home/bert:/bin/sh",
            "bert:x:-1:100::/home/bert:/bin/sh",
            "bert:x:1001",
            "",
        ] {
            assert_eq!(home(line.as_bytes()), None, "{line}");
        }
        homes().unwrap();
    }

    #[test]
    fn names() {
        for good in ["anna", "anna@example.org", "a b", "ä"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "../x", "a/b", "a\nb", &"x".repeat(321)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(name(0).unwrap().as_deref(), Some("root"));
    }
}
