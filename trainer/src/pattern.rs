//! Where mailboxes lie, and whose they are: `/home/*/Maildir`.
//!
//! What stands before the first `*` belongs to the host, and links in it are
//! followed. What comes after it may be a user's: no link is followed there,
//! so that nobody can have another one's mailbox taken for his own.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use mailbox::{Layout, Mailbox};
use rustix::fs::{Dir, DirEntry, FileType};
use rustix::io::Errno;

use crate::Error;

/// A path in which one or two parts are `*`. With one, that part is the
/// user's name; with two, as in `/var/vmail/*/*`, it is `second@first`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What stands before the first `*`.
    base: PathBuf,
    /// The rest; `None` is `*`.
    parts: Vec<Option<OsString>>,
}

/// Where a mailbox may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whose it is.
    pub user: String,
    /// Beyond the reach of users.
    base: PathBuf,
    /// Below the base.
    path: PathBuf,
}

impl Pattern {
    /// Understands a pattern.
    ///
    /// # Errors
    /// With the reason when it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let wrong = |reason| Err(format!("{text:?} {reason}"));
        let mut pattern = Self {
            base: PathBuf::new(),
            parts: Vec::new(),
        };
        for part in path.components() {
            match part {
                Component::Normal(name) if name == "*" => pattern.parts.push(None),
                Component::Normal(name) if name.as_encoded_bytes().contains(&b'*') => {
                    return wrong("has a * that is only a part of a name");
                }
                Component::Normal(name) if !pattern.parts.is_empty() => {
                    pattern.parts.push(Some(name.to_owned()));
                }
                Component::Normal(_) | Component::RootDir => pattern.base.push(part),
                _ => return wrong("has a . or .. in it"),
            }
        }
        if !path.is_absolute() {
            return wrong("does not begin with /");
        }
        match pattern.parts.iter().filter(|part| part.is_none()).count() {
            1 | 2 => Ok(pattern),
            _ => wrong("needs a * where the user's name stands, or two, for domain and user"),
        }
    }

    /// Where the pattern leads to by now, sorted. Whether there is a mailbox
    /// shows when it is opened. A base that is not there holds no users.
    ///
    /// # Errors
    /// When a folder above the users' cannot be read.
    pub fn places(&self) -> Result<Vec<Place>, Error> {
        let mut found = vec![(PathBuf::new(), Vec::new())];
        for part in &self.parts {
            found = match part {
                Some(name) => found
                    .into_iter()
                    .map(|(path, names)| (path.join(name), names))
                    .collect(),
                None => self.each_below(found)?,
            };
        }
        let places = found.into_iter().map(|(path, names)| Place {
            user: names.into_iter().rev().collect::<Vec<_>>().join("@"),
            base: self.base.clone(),
            path,
        });
        Ok(places.collect())
    }

    /// The folders in which users' folders appear and go.
    ///
    /// # Errors
    /// As [`Pattern::places`].
    pub fn roots(&self) -> Result<Vec<Place>, Error> {
        let mut roots = Vec::new();
        let mut found = vec![(PathBuf::new(), Vec::new())];
        for part in &self.parts {
            match part {
                Some(name) => found.iter_mut().for_each(|(path, _)| path.push(name)),
                None => {
                    roots.extend(found.iter().map(|(path, _)| Place {
                        user: String::new(),
                        base: self.base.clone(),
                        path: path.clone(),
                    }));
                    found = self.each_below(found)?;
                }
            }
        }
        Ok(roots)
    }

    fn each_below(&self, found: Vec<Found>) -> Result<Vec<Found>, Error> {
        let mut below = Vec::new();
        for (path, names) in found {
            for name in folder_names(&self.base, &path)? {
                let names = names.iter().cloned().chain([name.clone()]).collect();
                below.push((path.join(name), names));
            }
        }
        Ok(below)
    }
}

/// A path below the base with the names that stood for `*`.
type Found = (PathBuf, Vec<String>);

impl Place {
    /// A mailbox with an absolute path, in which no link at all is followed.
    pub fn named(user: &str, path: &Path) -> Self {
        Self {
            user: user.to_owned(),
            base: PathBuf::from("/"),
            path: path.strip_prefix("/").unwrap_or(path).to_owned(),
        }
    }

    /// A mailbox in a home, in which no link is followed; links on the way to
    /// the home are.
    pub fn below(user: &str, home: &Path, path: &Path) -> Self {
        Self {
            user: user.to_owned(),
            base: home.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Opens the mailbox; `None` when there is none.
    ///
    /// # Errors
    /// When what is there is none, or a link, or cannot be opened.
    pub fn open(&self, layout: Layout) -> Result<Option<Mailbox>, Error> {
        match Mailbox::open(&self.base, &self.path, layout) {
            Err(mailbox::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            opened => Ok(Some(opened?)),
        }
    }

    /// Opens the last folder on the way to it that is there by now, and tells
    /// whether it is the place itself. No link is followed where users could
    /// have planted it.
    pub(crate) fn open_deepest(&self) -> Result<(OwnedFd, bool), Error> {
        match mailbox::open_deepest(&self.base, &self.path) {
            Err(mailbox::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            opened => return Ok(opened?),
        }
        let there = self.base.ancestors().find_map(|base| File::open(base).ok());
        let gone = || Error::io("open", &self.base)(io::ErrorKind::NotFound.into());
        Ok((there.ok_or_else(gone)?.into(), false))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base.join(&self.path).display())
    }
}

/// What may be a user's folder in `path` below `base`, sorted. A link is named
/// too, so that opening it tells the admin why it is not followed. Names that
/// are hidden, or that would look like something else in a log, are no users.
fn folder_names(base: &Path, path: &Path) -> Result<Vec<String>, Error> {
    let (folder, is_last) = match mailbox::open_deepest(base, path) {
        Err(mailbox::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        opened => opened?,
    };
    if !is_last {
        return Ok(Vec::new());
    }
    let full = base.join(path);
    let failed = |errno: Errno| Error::io("read", &full)(errno.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder).map_err(failed)? {
        names.extend(user_name(&entry.map_err(failed)?));
    }
    names.sort();
    Ok(names)
}

fn user_name(entry: &DirEntry) -> Option<String> {
    let kind = entry.file_type();
    if !matches!(
        kind,
        FileType::Directory | FileType::Symlink | FileType::Unknown
    ) {
        return None;
    }
    let name = entry.file_name().to_str().ok()?;
    let is_user = !name.starts_with('.') && !name.chars().any(char::is_control);
    is_user.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_no_pattern() {
        for (text, reason) in [
            ("home/*/Maildir", "begin with /"),
            ("/home/anna/Maildir", "needs a *"),
            ("/*/*/*", "needs a *"),
            ("/home/a*/Maildir", "part of a name"),
            ("/home/*/../x", ".."),
            ("", "begin with /"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    /// Users found below a new folder in which `prepare` was run.
    fn users(pattern: &str, prepare: impl FnOnce(&Path)) -> Vec<(String, bool)> {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let pattern = format!("{}/{pattern}", dir.path().display());
        let places = Pattern::parse(&pattern).unwrap().places().unwrap();
        let opened = |place: &Place| matches!(place.open(Layout::MaildirPlusPlus), Ok(Some(_)));
        places
            .into_iter()
            .map(|place| (place.user.clone(), opened(&place)))
            .collect()
    }

    #[test]
    fn users_by_one_star() {
        let found = users("*/Maildir", |dir| {
            for path in ["anna/Maildir", "bert", ".snapshots/Maildir", "a\nb/Maildir"] {
                fs::create_dir_all(dir.join(path)).unwrap();
            }
            fs::write(dir.join("quota"), "").unwrap();
            fs::write(dir.join("bert/Maildir"), "").unwrap();
        });
        assert_eq!(
            found,
            [("anna".to_owned(), true), ("bert".to_owned(), false)]
        );
    }

    #[test]
    fn users_by_two_stars_and_a_base_that_is_not_there() {
        let found = users("vmail/*/*", |dir| {
            fs::create_dir_all(dir.join("vmail/example.org/anna")).unwrap();
            fs::create_dir_all(dir.join("vmail/example.net/anna")).unwrap();
        });
        let both = ["anna@example.net", "anna@example.org"];
        assert_eq!(found, both.map(|user| (user.to_owned(), true)));
        assert_eq!(users("vmail/*", |_| {}), []);
    }

    #[test]
    fn nobody_offers_the_mailbox_of_another_one() {
        let found = users("*/mail/Maildir", |dir| {
            fs::create_dir_all(dir.join("victim/mail/Maildir")).unwrap();
            fs::create_dir_all(dir.join("b/mail")).unwrap();
            fs::create_dir_all(dir.join("c")).unwrap();
            symlink("victim", dir.join("a")).unwrap();
            symlink("../../victim/mail/Maildir", dir.join("b/mail/Maildir")).unwrap();
            symlink("../victim/mail", dir.join("c/mail")).unwrap();
        });
        let expected = [("a", false), ("b", false), ("c", false), ("victim", true)];
        assert_eq!(
            found,
            expected.map(|(user, opens)| (user.to_owned(), opens))
        );
    }
}
