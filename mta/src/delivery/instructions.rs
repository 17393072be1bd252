//! `.qmail`, `.qmail-EXT` and `.qmail-default` in a user's folder: which file
//! counts, and what its lines mean. qmail's rules (dot-qmail(5)).
//!
//! | line | means |
//! | --- | --- |
//! | `# text` | nothing |
//! | <code>&#124;program</code> | `/bin/sh -c program` gets the message |
//! | `./Maildir/`, `./mbox` | delivery to that Maildir or mbox of the user's folder |
//! | `&anna@example.org`, `anna@example.org` | forwarding |
//! | `+list` | from here on only forwarding is allowed |
//!
//! Deviation: a path that leads out of the user's folder is refused: the host
//! delivers under one name for all users. An extension that a `+` began and
//! that no file names is delivered as if there were none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::Error;
use crate::smtp::{Mailbox, Reply};

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// What stands in it.
    pub text: Vec<u8>,
    /// The part of the extension that `default` stands for, if it does.
    pub default: Option<String>,
    /// Whether its mode says that it may only forward.
    pub is_executable: bool,
}

/// What is to be done, in the order of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Gives the message to a command of the shell.
    Program(String),
    /// Delivers to a Maildir, by its path below the user's folder.
    Maildir(PathBuf),
    /// Appends to an mbox, by its path below the user's folder.
    Mbox(PathBuf),
    /// Sends it on.
    Forward(Mailbox),
}

/// The largest file that is read.
const MAX_BYTES: u64 = 256 * 1024;

/// The file for an extension in the folder `home`; `None` stands for the user
/// without one. What is no regular file is passed over.
///
/// # Errors
/// When a file cannot be read: it is not known then what to do.
pub fn find(home: &Path, extension: Option<&str>) -> Result<Option<Found>, Error> {
    for (name, default) in names(extension) {
        let path = home.join(name);
        if let Some(found) = read(path, default)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// File names in the order in which they are tried, with what `default`
/// stands for in each.
fn names(extension: Option<&str>) -> Vec<(String, Option<String>)> {
    let Some(extension) = extension else {
        return vec![(".qmail".to_owned(), None)];
    };
    let safe = extension.to_ascii_lowercase().replace('.', ":");
    let exact_default = safe
        .strip_suffix("default")
        .filter(|rest| rest.is_empty() || rest.ends_with('-'))
        .map(|rest| extension[rest.len()..].to_owned());
    let mut names = vec![(format!(".qmail-{safe}"), exact_default)];
    for (at, _) in safe.rmatch_indices('-') {
        let rest = extension[at + 1..].to_owned();
        names.push((format!(".qmail-{}-default", &safe[..at]), Some(rest)));
    }
    names.push((".qmail-default".to_owned(), Some(extension.to_owned())));
    // No sender chooses a folder.
    names.retain(|(name, _)| !name.contains('/') && name.len() <= 255);
    names
}

fn read(path: PathBuf, default: Option<String>) -> Result<Option<Found>, Error> {
    let mut options = File::options();
    options.read(true);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    let file = match options.open(&path) {
        Err(error) if is_absent(&error) => return Ok(None),
        opened => opened.map_err(Error::io("open", &path))?,
    };
    let metadata = file.metadata().map_err(Error::io("examine", &path))?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let mode = metadata.permissions().mode();
    let home = path.parent().unwrap_or(Path::new("/"));
    let home_mode = fs::metadata(home).map_err(Error::io("examine", home))?;
    let refuse = |path: &Path, why: &str| Error::io("use", path)(io::Error::other(why));
    if (mode | home_mode.permissions().mode()) & 0o002 != 0 {
        return Err(refuse(
            &path,
            "it or its folder can be written by everybody",
        ));
    }
    if home_mode.permissions().mode() & 0o1000 != 0 {
        return Err(refuse(
            home,
            "it is sticky: the user is changing instructions",
        ));
    }
    let mut text = Vec::new();
    let mut limited = file.take(MAX_BYTES + 1);
    limited
        .read_to_end(&mut text)
        .map_err(Error::io("read", &path))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(refuse(&path, "it is too large"));
    }
    Ok(Some(Found {
        path,
        text,
        default,
        is_executable: mode & 0o100 != 0,
    }))
}

/// Missing, a link, or a name that the disk cannot hold.
fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        matches!(
            errno,
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::NXIO
        )
    })
}

/// Reads the lines of a file for a user of `domain`. None at all stands for
/// the default delivery.
///
/// # Errors
/// With a transient reply when a line makes no sense: the user will mend it.
pub fn parse(found: &Found, domain: &str) -> Result<Vec<Instruction>, Reply> {
    let wrong = |line: usize, why: &str| {
        let file = found.path.file_name().unwrap_or_default().to_string_lossy();
        Reply::new(451, (4, 3, 5), format!("{file} line {line}: {why}"))
    };
    let text = std::str::from_utf8(&found.text).map_err(|_| wrong(1, "not UTF-8"))?;
    let mut only_forwards = found.is_executable;
    let mut instructions = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_end_matches([' ', '\t', '\r']);
        let Some(first) = line.chars().next() else {
            if number == 1 {
                return Err(wrong(1, "the first line is blank"));
            }
            continue;
        };
        let instruction = match first {
            '#' => continue,
            '+' => {
                only_forwards |= line == "+list";
                continue;
            }
            '|' => Instruction::Program(line[1..].to_owned()),
            '.' | '/' => below_home(line).map_err(|why| wrong(number, why))?,
            _ => forward(line, domain).ok_or_else(|| wrong(number, "no instruction"))?,
        };
        if only_forwards && !matches!(instruction, Instruction::Forward(_)) {
            return Err(wrong(number, "only forwarding is allowed here"));
        }
        instructions.push(instruction);
    }
    Ok(instructions)
}

fn below_home(line: &str) -> Result<Instruction, &'static str> {
    let path: PathBuf = Path::new(line)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let stays = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !stays || path.as_os_str().is_empty() {
        return Err("the path leads out of the user's folder");
    }
    Ok(if line.ends_with('/') {
        Instruction::Maildir(path)
    } else {
        Instruction::Mbox(path)
    })
}

fn forward(line: &str, domain: &str) -> Option<Instruction> {
    let address = line.strip_prefix('&').unwrap_or(line);
    let parsed = if address.contains('@') {
        Mailbox::parse(address.as_bytes())
    } else {
        Mailbox::parse(format!("{address}@{domain}").as_bytes())
    };
    parsed.ok().map(Instruction::Forward)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn which_files_are_tried() {
        let tried = |extension| {
            let names = names(extension).into_iter();
            let said = names.map(|(name, default)| match default {
                Some(default) => format!("{name}={default}"),
                None => name,
            });
            said.collect::<Vec<_>>().join(" ")
        };
        for (extension, expected) in [
            (None, ".qmail"),
            (Some("list"), ".qmail-list .qmail-default=list"),
            (
                Some("News-Rust"),
                ".qmail-news-rust .qmail-news-default=Rust .qmail-default=News-Rust",
            ),
            (Some("joe.x"), ".qmail-joe:x .qmail-default=joe.x"),
            (
                Some("a-default"),
                ".qmail-a-default=default .qmail-a-default=default .qmail-default=a-default",
            ),
            (Some("x/../y"), ".qmail-default=x/../y"),
            (Some("../x-y"), ".qmail-default=../x-y"),
            (Some(""), ".qmail- .qmail-default="),
        ] {
            assert_eq!(tried(extension), expected);
        }
    }

    #[test]
    fn the_first_regular_file_counts_and_links_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let found = |extension| {
            let found = find(dir.path(), extension).unwrap();
            found.map(|found| String::from_utf8(found.text).unwrap())
        };
        assert_eq!(found(Some("a-b")), None);
        put(".qmail-default", "all");
        put(".qmail-a-default", "some");
        put("secret", "secret");
        symlink(dir.path().join("secret"), dir.path().join(".qmail-a-b")).unwrap();
        fs::create_dir(dir.path().join(".qmail-c")).unwrap();
        assert_eq!(found(Some("a-b")).as_deref(), Some("some"));
        assert_eq!(found(Some("c")).as_deref(), Some("all"));
        assert_eq!(found(None), None);
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".qmail");
        fs::write(&file, "").unwrap();
        for (path, mode, refused) in [
            (dir.path(), 0o700, false),
            (&file, 0o666, true),
            (&file, 0o664, false),
            (dir.path(), 0o702, true),
            (dir.path(), 0o1700, true),
        ] {
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(
                find(dir.path(), None).is_err(),
                refused,
                "{path:?} {mode:o}"
            );
        }
    }

    fn parsed(text: &str, is_executable: bool) -> String {
        let found = Found {
            path: "/home/.qmail".into(),
            text: text.into(),
            default: None,
            is_executable,
        };
        match parse(&found, "example.org") {
            Err(reply) => reply.to_string(),
            Ok(all) => {
                let said = all.iter().map(|one| match one {
                    Instruction::Program(command) => format!("|{command}"),
                    Instruction::Maildir(path) => format!("maildir {}", path.display()),
                    Instruction::Mbox(path) => format!("mbox {}", path.display()),
                    Instruction::Forward(mailbox) => format!("to {mailbox}"),
                });
                said.collect::<Vec<_>>().join(", ")
            }
        }
    }

    #[test]
    fn what_lines_mean() {
        for (text, expected) in [
            ("", ""),
            ("# nothing\n", ""),
            ("./Maildir/\n./mbox \n", "maildir Maildir, mbox mbox"),
            ("./Maildir/.a b/\t\n", "maildir Maildir/.a b"),
            (
                "|preline procmail -m rc $HOME  \n",
                "|preline procmail -m rc $HOME",
            ),
            (
                "&bob@example.net\nbob\n\n3@x.org",
                "to bob@example.net, to bob@example.org, to 3@x.org",
            ),
            (
                "\nbob\n",
                "451 4.3.5 .qmail line 1: the first line is blank",
            ),
            (
                "bob\n/etc/passwd\n",
                "451 4.3.5 .qmail line 2: the path leads out of the user's folder",
            ),
            (
                "./../bob/Maildir/\n",
                "451 4.3.5 .qmail line 1: the path leads out of the user's folder",
            ),
            (
                "./\n",
                "451 4.3.5 .qmail line 1: the path leads out of the user's folder",
            ),
            ("&a b\n", "451 4.3.5 .qmail line 1: no instruction"),
            ("+list\nbob\n+x\n", "to bob@example.org"),
            (
                "bob\n+list\n|x\n",
                "451 4.3.5 .qmail line 3: only forwarding is allowed here",
            ),
        ] {
            assert_eq!(parsed(text, false), expected, "{text:?}");
        }
        assert_eq!(parsed("bob\n", true), "to bob@example.org");
        assert!(parsed("./Maildir/\n", true).starts_with("451"));
    }
}
