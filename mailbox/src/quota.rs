//! How full a mailbox is: the file `maildirsize` of Maildir++.
//!
//! ```text
//! 50000000S,10000C    the quota: bytes (S), messages (C), either or both
//! 41200 7             what there was when the file was written
//! 1200 1              a delivery
//! -900 -1             a removal
//! ```
//!
//! What is used is the sum of all lines after the first. Each change is one
//! line, appended by one write, so that no lock is needed. Now and then the
//! file is written anew from the folders themselves, see [`State::is_due`].
//! Messages in Trash, and those that carry the flag T, do not count.
//!
//! Source: Courier's maildirquota document ("Maildir++ quota").

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use crate::folder::{self, Mark};
use crate::mailbox::{if_there, opening};
use crate::new_file::NewFile;
use crate::{Entry, Error, Flags, Folder, FolderName, Mailbox, MessageName, UniqueNames, sys};

/// What a mailbox may hold. Neither: anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The sizes of all messages together.
    pub bytes: Option<u64>,
    /// How many messages.
    pub messages: Option<u64>,
}

/// What a mailbox holds. Less than nothing when the file is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sizes of all messages that count.
    pub bytes: i64,
    /// How many count.
    pub messages: i64,
}

/// A `maildirsize` as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The first line.
    pub quota: Quota,
    /// The sum of the others.
    pub usage: Usage,
    n_lines: usize,
    written: SystemTime,
}

/// From this size on the file is written anew.
const MAX_BYTES: u64 = 5120;

/// Within this time a file that says "over quota" is believed.
const BELIEVED: Duration = Duration::from_secs(15 * 60);

impl Quota {
    /// Whether a mailbox with so much would hold more than it may.
    pub fn is_exceeded_by(self, usage: Usage) -> bool {
        let above = |used: i64, limit: Option<u64>| {
            limit.is_some_and(|limit| u64::try_from(used).is_ok_and(|used| used > limit))
        };
        above(usage.bytes, self.bytes) || above(usage.messages, self.messages)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut quota = Self::default();
        for part in line
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (number, unit) = part.split_at_checked(part.len() - 1)?;
            // As in Courier, 0 stands for no limit.
            let limit = Some(number.parse().ok()?).filter(|limit| *limit != 0);
            match unit {
                "S" => quota.bytes = limit,
                "C" => quota.messages = limit,
                // A unit of a later version limits nothing that we count.
                _ => {}
            }
        }
        Some(quota)
    }

    fn line(self) -> String {
        let part = |limit: Option<u64>, unit| limit.map(|limit| format!("{limit}{unit}"));
        let parts: Vec<String> = [part(self.bytes, 'S'), part(self.messages, 'C')]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() {
            "0S".to_owned()
        } else {
            parts.join(",")
        }
    }
}

impl Usage {
    /// What one message adds; `bytes` is its size where the name is silent.
    /// The name is believed first, because others will take away what it says.
    pub fn of_message(name: &MessageName, bytes: u64) -> Self {
        if name.flags().contains(Flags::TRASHED) {
            return Self::default();
        }
        let bytes = name.bytes().unwrap_or(bytes);
        Self {
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            messages: 1,
        }
    }

    /// Both together. Stops at the greatest number instead of wrapping.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            messages: self.messages.saturating_add(other.messages),
        }
    }

    /// What takes this away again.
    #[must_use]
    pub fn negated(self) -> Self {
        Self {
            bytes: self.bytes.saturating_neg(),
            messages: self.messages.saturating_neg(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_ascii_whitespace();
        let mut next = || numbers.next()?.parse().ok();
        Some(Self {
            bytes: next()?,
            messages: next()?,
        })
    }

    fn line(self) -> String {
        format!("{} {}\n", self.bytes, self.messages)
    }
}

impl State {
    /// `None` for what must be written anew at once: too long, cut off in the
    /// middle of a line, or not a `maildirsize`.
    fn parse(text: &[u8], written: SystemTime) -> Option<Self> {
        if text.len() as u64 >= MAX_BYTES {
            return None;
        }
        let mut lines = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.lines();
        let quota = Quota::parse(lines.next()?)?;
        let mut state = Self {
            quota,
            usage: Usage::default(),
            n_lines: 0,
            written,
        };
        for line in lines.filter(|line| !line.trim().is_empty()) {
            state.usage = state.usage.plus(Usage::parse(line)?);
            state.n_lines += 1;
        }
        (state.n_lines > 0).then_some(state)
    }

    /// Whether the folders should be counted anew: the mailbox seems full, and
    /// the file is no fresh count. A wrong sum heals when it matters.
    pub fn is_due(&self, now: SystemTime) -> bool {
        let age = now.duration_since(self.written).unwrap_or_default();
        self.quota.is_exceeded_by(self.usage) && (self.n_lines > 1 || age > BELIEVED)
    }
}

impl Mailbox {
    /// Reads `maildirsize`. `None` when there is none or it is of no use: a
    /// mailbox that should have one then wants [`Mailbox::recount`].
    ///
    /// # Errors
    /// When it is something else than a file of the owner's.
    pub fn quota_state(&self) -> Result<Option<State>, Error> {
        let Some(file) = self.open_maildirsize(sys::open_file)? else {
            return Ok(None);
        };
        let path = self.path().join(FILE_NAME);
        let stat = sys::fstat(&file).map_err(Error::io("examine", &path))?;
        let mut text = Vec::new();
        file.take(MAX_BYTES)
            .read_to_end(&mut text)
            .map_err(Error::io("read", path))?;
        Ok(State::parse(&text, folder::received(&stat)))
    }

    /// Notes that the mailbox holds `change` more, or less, in one write.
    /// Without a `maildirsize` nobody counts, and nothing is noted.
    ///
    /// Note a delivery after it, a removal after it: after a kill in between
    /// the sum is wrong until the next count.
    ///
    /// # Errors
    /// When it is something else than a file of the owner's, or on disk failure.
    pub fn note_usage(&self, change: Usage) -> Result<(), Error> {
        if change == Usage::default() {
            return Ok(());
        }
        let Some(mut file) = self.open_maildirsize(sys::open_append)? else {
            return Ok(());
        };
        file.write_all(change.line().as_bytes())
            .map_err(Error::io("append to", self.path().join(FILE_NAME)))
    }

    /// Counts all messages and writes `maildirsize` anew. When a folder
    /// changed meanwhile, the count may be wrong: the file is removed again,
    /// and the next who needs it counts.
    ///
    /// # Errors
    /// When a folder cannot be read or the file cannot be written.
    pub fn recount(
        &self,
        quota: Quota,
        names: &UniqueNames,
        now: SystemTime,
    ) -> Result<Usage, Error> {
        let (usage, before) = self.count()?;
        self.write_maildirsize(quota, usage, names, now)?;
        if self.count_marks()? != before {
            self.remove_maildirsize()?;
        }
        Ok(usage)
    }

    /// Whether messages in `folder` count.
    pub fn counts(folder: &FolderName) -> bool {
        folder.to_string() != "Trash"
    }

    /// The usage, and marks that tell whether a folder has changed since.
    fn count(&self) -> Result<(Usage, Vec<Mark>), Error> {
        let marks = self.count_marks()?;
        let mut usage = Usage::default();
        self.each_counted_folder(|folder| {
            for entry in folder.entries()? {
                usage = usage.plus(usage_of(folder, &entry?)?);
            }
            Ok(())
        })?;
        Ok((usage, marks))
    }

    fn count_marks(&self) -> Result<Vec<Mark>, Error> {
        let mut marks = Vec::new();
        self.each_counted_folder(|folder| {
            marks.extend(folder.marks()?);
            Ok(())
        })?;
        marks.sort_unstable();
        Ok(marks)
    }

    fn each_counted_folder(
        &self,
        mut f: impl FnMut(&Folder) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for name in self.folders()? {
            let name = name?;
            if !Self::counts(&name) {
                continue;
            }
            if let Some(folder) = self.folder(&name)? {
                f(&folder)?;
            }
        }
        Ok(())
    }

    fn write_maildirsize(
        &self,
        quota: Quota,
        usage: Usage,
        names: &UniqueNames,
        now: SystemTime,
    ) -> Result<(), Error> {
        let path = self.path().join(FILE_NAME);
        let inbox = self.folder(&FolderName::inbox())?;
        let Some(inbox) = inbox else {
            return Ok(());
        };
        let tmp = inbox.tmp()?;
        let write = || {
            let mut file = NewFile::create(tmp, OsStr::new(&names.next(now)), self.file_owner())?;
            write!(file, "{}\n{}", quota.line(), usage.line())?;
            file.replace(self.root(), OsStr::new(FILE_NAME))
        };
        write().map_err(Error::io("write", path))
    }

    fn remove_maildirsize(&self) -> Result<(), Error> {
        if_there(sys::unlink(self.root(), OsStr::new(FILE_NAME)))
            .map(drop)
            .map_err(Error::io("remove", self.path().join(FILE_NAME)))
    }

    fn open_maildirsize(
        &self,
        open: fn(BorrowedFd<'_>, &OsStr) -> io::Result<OwnedFd>,
    ) -> Result<Option<File>, Error> {
        let path = self.path().join(FILE_NAME);
        let name = OsStr::new(FILE_NAME);
        // Looked at before and after, as messages are.
        match if_there(sys::lstat(self.root(), name)).map_err(Error::io("examine", &path))? {
            None => return Ok(None),
            Some(stat) => self.file_owner().must_own_file(&stat, &path)?,
        }
        let Some(file) = if_there(open(self.root(), name)).map_err(opening(&path))? else {
            return Ok(None);
        };
        let stat = sys::fstat(&file).map_err(Error::io("examine", &path))?;
        self.file_owner().must_own_file(&stat, &path)?;
        Ok(Some(File::from(file)))
    }
}

const FILE_NAME: &str = "maildirsize";

/// Asks the disk only where the name is silent. What is no message of the
/// owner's, or has gone meanwhile, counts nothing.
fn usage_of(folder: &Folder, entry: &Entry) -> Result<Usage, Error> {
    if entry.name.bytes().is_some() {
        return Ok(Usage::of_message(&entry.name, 0));
    }
    match folder.examine(entry) {
        Ok(Some(details)) => Ok(Usage::of_message(&entry.name, details.bytes)),
        Ok(None) | Err(Error::Foreign { .. }) => Ok(Usage::default()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MAIL, TestMailbox};
    use std::fs;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn reading() {
        fn check(text: &str, expected: Option<(&str, i64, i64)>) {
            let state = State::parse(text.as_bytes(), at(0));
            let found = state.map(|s| (s.quota.line(), s.usage.bytes, s.usage.messages));
            let expected =
                expected.map(|(line, bytes, messages)| (line.to_owned(), bytes, messages));
            assert_eq!(found, expected, "{text:?}");
        }
        check("1000S,10C\n100 1\n", Some(("1000S,10C", 100, 1)));
        check("10C\n  100        1\n-100 -1\n", Some(("10C", 0, 0)));
        check("1000S\n100 1\n\n50 1\n", Some(("1000S", 150, 2)));
        check("0S\n100 1\n", Some(("0S", 100, 1)));
        check("10C,1000S,7X\n5 1\n", Some(("1000S,10C", 5, 1)));
        check(
            "1S\n9223372036854775807 1\n1 1\n",
            Some(("1S", i64::MAX, 2)),
        );
        check("", None);
        check("1000S\n", None);
        check("1000S\n100", None);
        check("1000S\n100 1\n5", None);
        check("1000S\nabc\n", None);
        check("xS\n1 1\n", None);
        check("é\n1 1\n", None);
        check(&format!("1S\n{}", "1 1\n".repeat(1300)), None);
    }

    #[test]
    fn when_to_count_anew() {
        let due = |text: &str, age: u64| {
            State::parse(text.as_bytes(), at(1000))
                .unwrap()
                .is_due(at(1000 + age))
        };
        assert!(!due("100S\n100 1\n", 10_000), "full is not over");
        assert!(!due("100S\n101 1\n", 900), "over, but freshly counted");
        assert!(due("100S\n101 1\n", 901));
        assert!(due("100S\n50 1\n51 1\n", 0));
        assert!(due("1C\n50 2\n0 0\n", 0));
        let future = State::parse(b"1C\n9 9\n", at(1000)).unwrap();
        assert!(!future.is_due(at(0)), "the clock went back");
    }

    #[test]
    fn counts_what_counts() {
        let test = TestMailbox::new();
        let trash = FolderName::parse("Trash", crate::Layout::MaildirPlusPlus).unwrap();
        test.mailbox.create_folder(&trash).unwrap();
        test.put("", "new/1.h", b"four");
        test.put("Junk", "cur/2.h,S=100,W=110:2,S", b"x");
        test.put("Junk", "cur/3.h,S=1000:2,ST", b"x");
        test.put("Trash", "cur/4.h,S=5000:2,", b"x");
        let quota = Quota {
            bytes: Some(200),
            messages: None,
        };
        assert_eq!(test.mailbox.quota_state().unwrap(), None);
        test.mailbox
            .note_usage(Usage {
                bytes: 1,
                messages: 1,
            })
            .unwrap();
        assert_eq!(test.mailbox.quota_state().unwrap(), None, "nobody counts");

        let names = UniqueNames::new("host");
        let usage = test.mailbox.recount(quota, &names, at(0)).unwrap();
        assert_eq!(
            usage,
            Usage {
                bytes: 104,
                messages: 2
            }
        );
        assert_eq!(
            fs::read_to_string(test.path("maildirsize")).unwrap(),
            "200S\n104 2\n"
        );

        test.mailbox
            .note_usage(Usage::of_message(&name("5.h,S=97"), 0))
            .unwrap();
        test.mailbox.note_usage(Usage::default()).unwrap();
        let state = test.mailbox.quota_state().unwrap().unwrap();
        assert_eq!(
            state.usage,
            Usage {
                bytes: 201,
                messages: 3
            }
        );
        assert!(state.quota.is_exceeded_by(state.usage));
        test.mailbox
            .note_usage(Usage::of_message(&name("6.h"), 4).negated())
            .unwrap();
        assert_eq!(
            fs::read_to_string(test.path("maildirsize")).unwrap(),
            "200S\n104 2\n97 1\n-4 -1\n"
        );
    }

    fn name(text: &str) -> MessageName {
        MessageName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_folder_that_changes_while_it_is_counted_leaves_no_count() {
        let test = TestMailbox::new();
        test.put("", "new/1.h", MAIL);
        let (_, before) = test.mailbox.count().unwrap();
        test.put("Junk", "cur/2.h:2,", MAIL);
        assert_ne!(test.mailbox.count_marks().unwrap(), before);
    }
}
