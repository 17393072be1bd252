//! Names of folders: as people read them and as they stand on disk.
//!
//! | | Maildir++ | nested |
//! | --- | --- | --- |
//! | INBOX | the mailbox itself | the mailbox itself |
//! | `Junk/Learned` | `.Junk.Learned` | `Junk/Learned` |
//!
//! Sources: Courier's maildirquota document for Maildir++, Dovecot's
//! `LAYOUT=fs`. Letters beyond ASCII are modified UTF-7, or UTF-8 where a
//! server was told so; both are read.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::{Error, utf7};

/// How the folders of a mailbox lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All side by side, their names joined by dots.
    MaildirPlusPlus,
    /// Each below its parent.
    Nested,
}

/// A folder of a mailbox, by its name on disk. INBOX has no parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderName {
    /// No part is empty, `.` or `..`, or holds `/` or NUL.
    parts: Vec<Box<[u8]>>,
}

impl FolderName {
    /// The folder that new mail comes to.
    pub fn inbox() -> Self {
        Self::default()
    }

    /// Takes a name as people write it, its parts separated by `/`, and in
    /// Maildir++ also by a dot, which can stand in no part there. `INBOX`, in
    /// capitals or not, is the mailbox itself.
    ///
    /// # Errors
    /// When `layout` cannot hold such a folder.
    pub fn parse(text: &str, layout: Layout) -> Result<Self, Error> {
        if text.eq_ignore_ascii_case("INBOX") {
            return Ok(Self::inbox());
        }
        let separates = |c| c == '/' || (c == '.' && layout == Layout::MaildirPlusPlus);
        let mut name = Self::inbox();
        for part in text.split(separates) {
            let wrong = |reason| Error::FolderName {
                name: text.to_owned(),
                reason,
            };
            if part.chars().any(char::is_control) {
                return Err(wrong("it holds a control character"));
            }
            name = name
                .child(utf7::encode(part).as_bytes(), layout)
                .ok_or_else(|| wrong("a part is empty, or has a meaning of its own on disk"))?;
        }
        Ok(name)
    }

    /// The same name written in UTF-8; `None` where that is no other one.
    pub(crate) fn in_utf8(&self) -> Option<Self> {
        let parts = self
            .parts
            .iter()
            .map(|part| Some(decoded(part)?.into_bytes().into()));
        let other = Self {
            parts: parts.collect::<Option<_>>()?,
        };
        (other != *self).then_some(other)
    }

    /// The name of the folder below this one that is called `part` on disk.
    pub(crate) fn child(&self, part: &[u8], layout: Layout) -> Option<Self> {
        let reserved: &[&[u8]] = match layout {
            Layout::MaildirPlusPlus => &[b""],
            Layout::Nested => &[b"", b"cur", b"new", b"tmp"],
        };
        let hidden = part.starts_with(b".");
        let impossible = part.iter().any(|b| matches!(b, b'/' | 0));
        if reserved.contains(&part) || hidden || impossible {
            return None;
        }
        let mut parts = self.parts.clone();
        parts.push(part.into());
        Some(Self { parts })
    }

    /// Takes what stands in the mailbox of a Maildir++: `.Junk.Learned`.
    pub(crate) fn from_dotted(name: &[u8]) -> Option<Self> {
        let parts = name.strip_prefix(b".")?;
        parts
            .split(|b| *b == b'.')
            .try_fold(Self::inbox(), |name, part| {
                name.child(part, Layout::MaildirPlusPlus)
            })
    }

    /// Where the folder lies, seen from the mailbox.
    pub(crate) fn path(&self, layout: Layout) -> PathBuf {
        if self.parts.is_empty() {
            return PathBuf::from(".");
        }
        match layout {
            Layout::Nested => self
                .parts
                .iter()
                .map(|part| OsStr::from_bytes(part))
                .collect(),
            Layout::MaildirPlusPlus => {
                let mut name = Vec::new();
                for part in &self.parts {
                    name.push(b'.');
                    name.extend_from_slice(part);
                }
                PathBuf::from(OsStr::from_bytes(&name))
            }
        }
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.parts.starts_with(&other.parts)
    }

    /// How many folders deep it lies; INBOX 0.
    pub(crate) fn depth(&self) -> usize {
        self.parts.len()
    }
}

/// As people read it, parts joined by `/`; what cannot be read is escaped.
impl fmt::Display for FolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("INBOX");
        }
        let shown: Vec<String> = self.parts.iter().map(|part| shown(part)).collect();
        f.write_str(&shown.join("/"))
    }
}

fn shown(part: &[u8]) -> String {
    decoded(part).unwrap_or_else(|| part.escape_ascii().to_string())
}

/// `None` for what is neither of the two encodings, and for what could be
/// taken for something else when it is printed.
fn decoded(part: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(part).ok()?;
    let text = if text.is_ascii() {
        utf7::decode(text)?
    } else {
        text.to_owned()
    };
    let clear = !text.chars().any(|c| c.is_control() || c == '/');
    clear.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Layout::{MaildirPlusPlus, Nested};

    #[test]
    fn names_people_write() {
        fn check(text: &str, layout: Layout, path: &str, shown: &str) {
            let name = FolderName::parse(text, layout).unwrap();
            assert_eq!(name.path(layout), PathBuf::from(path), "{text}");
            assert_eq!(name.to_string(), shown, "{text}");
        }
        check("INBOX", MaildirPlusPlus, ".", "INBOX");
        check("inbox", Nested, ".", "INBOX");
        check("Junk", MaildirPlusPlus, ".Junk", "Junk");
        check(
            "Junk.Learned",
            MaildirPlusPlus,
            ".Junk.Learned",
            "Junk/Learned",
        );
        check(
            "Junk/Learned",
            MaildirPlusPlus,
            ".Junk.Learned",
            "Junk/Learned",
        );
        check("Junk/Learned", Nested, "Junk/Learned", "Junk/Learned");
        check("Junk.Learned", Nested, "Junk.Learned", "Junk.Learned");
        check("Entwürfe", MaildirPlusPlus, ".Entw&APw-rfe", "Entwürfe");
        check("a&b", Nested, "a&-b", "a&b");
    }

    #[test]
    fn names_that_cannot_be() {
        for (text, layout) in [
            ("", MaildirPlusPlus),
            ("..", MaildirPlusPlus),
            ("a..b", MaildirPlusPlus),
            (".a", MaildirPlusPlus),
            ("a/../b", Nested),
            ("../b", Nested),
            ("/etc", Nested),
            (".hidden", Nested),
            ("a/cur", Nested),
            ("a\nb", Nested),
            ("a\0b", MaildirPlusPlus),
        ] {
            assert!(FolderName::parse(text, layout).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_found_on_disk() {
        fn check(name: &[u8], shown: Option<&str>) {
            let found = FolderName::from_dotted(name);
            assert_eq!(
                found.as_ref().map(ToString::to_string).as_deref(),
                shown,
                "{name:?}"
            );
            if let Some(found) = found {
                assert_eq!(found.path(MaildirPlusPlus).as_os_str().as_bytes(), name);
            }
        }
        check(b".Junk", Some("Junk"));
        check(b".a.b.c", Some("a/b/c"));
        check(b".Entw&APw-rfe", Some("Entwürfe"));
        check("Entwürfe".as_bytes(), None);
        check(".Entwürfe".as_bytes(), Some("Entwürfe"));
        check(b".a&b", Some("a&b"));
        check(b".a\nb", Some(r"a\nb"));
        check(b".a\xff", Some(r"a\xff"));
        // A slash or a line break behind modified UTF-7.
        check(b".a&AC8-b", Some("a&AC8-b"));
        check(b".a&AAo-b", Some("a&AAo-b"));
        check(b".", None);
        check(b"..", None);
        check(b".a..b", None);
        check(b".a.", None);
        check(b"cur", None);
    }

    #[test]
    fn the_other_spelling() {
        let name = FolderName::parse("Entwürfe", Nested).unwrap();
        let other = name.in_utf8().unwrap();
        assert_eq!(other.path(Nested), PathBuf::from("Entwürfe"));
        assert_eq!(other.to_string(), name.to_string());
        assert_eq!(FolderName::parse("Junk", Nested).unwrap().in_utf8(), None);
    }

    #[test]
    fn below() {
        let name = |text| FolderName::parse(text, MaildirPlusPlus).unwrap();
        assert!(name("Junk.2024").is_within(&name("Junk")));
        assert!(name("Junk").is_within(&name("Junk")));
        assert!(!name("Junkyard").is_within(&name("Junk")));
        assert!(name("Junk").is_within(&FolderName::inbox()));
    }
}
