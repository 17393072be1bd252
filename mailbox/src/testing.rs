//! A mailbox in a folder of its own, for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::{Entry, Error, Folder, FolderName, Half, Layout, Mailbox, MessageName, UniqueNames};

pub(crate) const MAIL: &[u8] = b"Subject: hello\n\nGood\0morning, \xff\n";

/// A Maildir++ with INBOX and Junk.
pub(crate) struct TestMailbox {
    dir: TempDir,
    pub(crate) mailbox: Mailbox,
    names: UniqueNames,
}

impl TestMailbox {
    pub(crate) fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap())
    }

    pub(crate) fn new_in(path: &Path) -> Self {
        Self::in_dir(tempfile::tempdir_in(path).unwrap())
    }

    fn in_dir(dir: TempDir) -> Self {
        fs::create_dir(dir.path().join("Maildir")).unwrap();
        let mailbox =
            Mailbox::open(dir.path(), Path::new("Maildir"), Layout::MaildirPlusPlus).unwrap();
        for name in ["INBOX", "Junk"] {
            mailbox.create_folder(&parse(name)).unwrap();
        }
        Self {
            dir,
            mailbox,
            names: UniqueNames::new("host"),
        }
    }

    pub(crate) fn folder(&self, name: &str) -> Folder {
        self.mailbox.folder(&parse(name)).unwrap().unwrap()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("Maildir").join(below)
    }

    pub(crate) fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    pub(crate) fn try_deliver(&self, folder: &Folder, mut mail: &[u8]) -> Result<Entry, Error> {
        folder.deliver(&self.names, Self::now(), &mut mail)
    }

    pub(crate) fn deliver(&self, folder: &Folder, mail: &[u8]) -> Entry {
        self.try_deliver(folder, mail).unwrap()
    }

    /// Writes a file such as `cur/1.host:2,S` into a folder, "" for INBOX.
    pub(crate) fn put(&self, folder: &str, name: &str, mail: &[u8]) -> Entry {
        let dotted = if folder.is_empty() {
            String::new()
        } else {
            format!(".{folder}/")
        };
        fs::write(self.path(&format!("{dotted}{name}")), mail).unwrap();
        let (half, name) = name.split_once('/').unwrap();
        Entry {
            half: if half == "new" { Half::New } else { Half::Cur },
            name: MessageName::parse(name.as_bytes()).unwrap(),
        }
    }

    /// Path and content of all messages in INBOX and Junk, sorted.
    pub(crate) fn messages(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for part in PARTS {
            for file in fs::read_dir(self.path(part)).unwrap() {
                let file = file.unwrap();
                let name = format!("{part}/{}", file.file_name().to_string_lossy());
                all.push((name, fs::read(file.path()).unwrap()));
            }
        }
        all.sort();
        all
    }

    /// Removes all messages and what lies in `tmp`.
    pub(crate) fn clear(&self) {
        for part in PARTS.into_iter().chain(["tmp", ".Junk/tmp"]) {
            for file in fs::read_dir(self.path(part)).unwrap() {
                fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
    }
}

const PARTS: [&str; 4] = ["new", "cur", ".Junk/new", ".Junk/cur"];

fn parse(name: &str) -> FolderName {
    FolderName::parse(name, Layout::MaildirPlusPlus).unwrap()
}
