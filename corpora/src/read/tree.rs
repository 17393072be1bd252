//! Files by name: of a folder, of an archive, or one file alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{packed, trec};
use crate::Error;

/// Names (parts joined by `/`, bytes as the system has them) and contents.
/// Names are ordered with numbers by value, so that `inmail.10` follows
/// `inmail.9`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<NaturalName, Vec<u8>>,
    /// All that are known; the tree itself is the empty name.
    folders: BTreeSet<Vec<u8>>,
}

/// A file that may be mail.
pub(super) struct MailFile<'a> {
    pub(super) name: &'a [u8],
    pub(super) bytes: &'a [u8],
    /// Its name as seen from the nearest Maildir that it lies below without
    /// being one of its messages: it is no mail of that one, nor of any folder
    /// above.
    pub(super) inside: Option<&'a [u8]>,
}

impl Tree {
    /// The TREC index that `path` is, or that stands in the folder `path`,
    /// with the folder to which its names relate.
    pub(super) fn index_beside(path: &Path) -> Option<(PathBuf, PathBuf)> {
        let is_index = |file: &Path| {
            let mut begin = Vec::new();
            let opened = File::open(file).ok()?;
            opened.take(4096).read_to_end(&mut begin).ok()?;
            trec::looks_like_index(&begin).then(|| file.to_path_buf())
        };
        let found = if path.is_dir() {
            INDEX_NAMES
                .iter()
                .find_map(|name| is_index(&path.join(name)))
        } else {
            is_index(path)
        };
        found.map(|index| {
            let folder = index.parent().map(Path::to_path_buf).unwrap_or_default();
            (index, folder)
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        if path.is_dir() {
            tree.add_folder(path, b"")?;
            return Ok(tree);
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut file = BufReader::new(file);
        if packed::is_archive(path) {
            packed::plain(&mut file)
                .and_then(|mut plain| tree.add_archive(&mut plain))
                .map_err(|cause| Error::unpack(path, cause))?;
        } else {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)
                .map_err(Error::io("read", path))?;
            let name = path.file_name().unwrap_or(path.as_os_str());
            tree.insert(name.as_bytes().to_vec(), bytes);
        }
        Ok(tree)
    }

    /// All files in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.text.as_slice(), bytes.as_slice()))
    }

    /// All folders, also those without a file.
    pub(super) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        self.folders.iter().map(Vec::as_slice)
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.files
            .get(&NaturalName::new(name.to_vec()))
            .map(Vec::as_slice)
    }

    /// The name of the TREC index inside, if there is one.
    pub(super) fn find_index(&self) -> Option<&[u8]> {
        let is_index = |name: &[u8]| {
            INDEX_NAMES.iter().any(|index| {
                let before = name.strip_suffix(index.as_bytes());
                before.is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
            })
        };
        self.iter()
            .find(|(name, text)| is_index(name) && trec::looks_like_index(text))
            .map(|(name, _)| name)
    }

    /// The files that may be mail: whose names do not begin with a dot, and
    /// that are not empty.
    pub(super) fn mail_files(&self) -> impl Iterator<Item = MailFile<'_>> {
        self.iter().filter_map(|(name, bytes)| {
            let (folder, last) = split_last(name);
            if last.starts_with(b".") || bytes.is_empty() {
                return None;
            }
            let above = match split_last(folder) {
                (maildir, b"cur" | b"new") if self.is_maildir(maildir) => parent(maildir),
                _ => Some(folder),
            };
            Some(MailFile {
                name,
                bytes,
                inside: self.inside(name, above),
            })
        })
    }

    /// `name` as seen from the nearest Maildir among `folder` and those above.
    fn inside<'a>(&self, name: &'a [u8], mut folder: Option<&[u8]>) -> Option<&'a [u8]> {
        while let Some(candidate) = folder {
            if self.is_maildir(candidate) {
                let inside = name.get(candidate.len()..)?;
                return Some(inside.strip_prefix(b"/").unwrap_or(inside));
            }
            folder = parent(candidate);
        }
        None
    }

    /// `new` alone is too common a name, and an archive may lack empty folders.
    fn is_maildir(&self, folder: &[u8]) -> bool {
        let has = |part: &str| self.folders.contains(&below(folder, part.as_bytes()));
        has("cur") || (has("new") && has("tmp"))
    }

    fn insert(&mut self, name: Vec<u8>, bytes: Vec<u8>) {
        let mut folder = parent(&name);
        while let Some(name) = folder {
            self.folders.insert(name.to_vec());
            folder = parent(name);
        }
        self.files.insert(NaturalName::new(name), bytes);
    }

    /// Symbolic links are followed to files, not to folders: no loops.
    fn add_folder(&mut self, folder: &Path, name: &[u8]) -> Result<(), Error> {
        self.folders.insert(name.to_vec());
        for entry in fs::read_dir(folder).map_err(Error::io("open", folder))? {
            let entry = entry.map_err(Error::io("read", folder))?;
            let path = entry.path();
            let name = below(name, entry.file_name().as_bytes());
            let kind = entry.file_type().map_err(Error::io("examine", &path))?;
            if kind.is_dir() {
                self.add_folder(&path, &name)?;
            } else if path.is_file() {
                let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
                self.insert(name, bytes);
            }
        }
        Ok(())
    }

    fn add_archive(&mut self, plain: &mut dyn Read) -> std::io::Result<()> {
        for entry in tar::Archive::new(plain).entries()? {
            let mut entry = entry?;
            let name = joined(b"", &entry.path_bytes());
            let kind = entry.header().entry_type();
            if kind.is_dir() {
                self.folders.insert(name);
            } else if kind.is_file() {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                self.insert(name, bytes);
            }
        }
        Ok(())
    }
}

const INDEX_NAMES: [&str; 2] = ["index", "full/index"];

/// The folder of `name` and what stands behind it.
fn split_last(name: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', name) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (b"", name),
    }
}

/// The folder that holds `name`; none above the tree itself.
fn parent(name: &[u8]) -> Option<&[u8]> {
    (!name.is_empty()).then(|| split_last(name).0)
}

fn below(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        b"" => name.to_vec(),
        folder => [folder, b"/", name].concat(),
    }
}

/// `path` as seen from `folder`, without `.` and `..`.
pub(super) fn joined(folder: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let slash = |byte: &u8| *byte == b'/';
    for part in folder.split(slash).chain(path.split(slash)) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// A name that orders by its parts, runs of digits by their value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NaturalName {
    parts: Vec<(Vec<u8>, u128)>,
    text: Vec<u8>,
}

impl NaturalName {
    fn new(text: Vec<u8>) -> Self {
        let mut parts = Vec::new();
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let n_until = |bytes: &[u8], is_digit: bool| {
                let end = bytes.iter().position(|b| b.is_ascii_digit() == is_digit);
                end.unwrap_or(bytes.len())
            };
            let (letters, after) = rest.split_at(n_until(rest, true));
            let (digits, after) = after.split_at(n_until(after, false));
            let number = std::str::from_utf8(digits).ok();
            let number = number.and_then(|digits| digits.parse().ok());
            parts.push((letters.to_vec(), number.unwrap_or(u128::MAX)));
            rest = after;
        }
        Self { parts, text }
    }
}
