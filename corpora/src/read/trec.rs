//! The index of the TREC spam track.
//!
//! Source: TREC 2007 Spam Track overview. A line is a judgement and a path
//! relative to the index's folder: `spam ../data/inmail.1`. Lower case means
//! classify and train, a capital classify only, upper case train only. A path
//! is bytes; the kit of 2005 adds columns for user and genre behind it.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use classifier::Label;

use super::shown;
use super::tree::{Tree, joined};
use crate::{Error, Message, Role};

/// From where the files of an index are taken.
pub(super) trait Files {
    /// `None`: there is no such file.
    fn take(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Error>;
}

pub(super) struct Folder(pub(super) PathBuf);

impl Files for Folder {
    fn take(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let path = self.0.join(OsStr::from_bytes(path));
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }
}

pub(super) struct Archive<'a> {
    pub(super) tree: &'a Tree,
    pub(super) folder: &'a [u8],
}

impl Files for Archive<'_> {
    fn take(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.tree.get(&joined(self.folder, path));
        Ok(found.map(<[u8]>::to_vec))
    }
}

pub(super) fn read(index: &Path, files: &mut impl Files) -> Result<Vec<Message>, Error> {
    let text = fs::read(index).map_err(Error::io("read", index))?;
    parse(index, &text, files)
}

pub(super) fn parse(
    index: &Path,
    text: &[u8],
    files: &mut impl Files,
) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    for (n, line) in lines(text).enumerate() {
        if line.is_empty() {
            continue;
        }
        let Some((label, role, path)) = parse_line(line) else {
            return Err(Error::Index {
                path: index.into(),
                line: n + 1,
                found: shown(line),
            });
        };
        let first = path.split(|byte| is_blank(*byte)).next().unwrap_or(path);
        let missing = || Error::Missing {
            path: index.into(),
            line: n + 1,
            name: shown(path),
        };
        let (path, bytes) = match files.take(path)? {
            Some(bytes) => (path, bytes),
            None => (first, files.take(first)?.ok_or_else(missing)?),
        };
        messages.push(Message {
            id: shown(path),
            label,
            role,
            bytes,
        });
    }
    Ok(messages)
}

/// Whether `text` begins as an index does.
pub(super) fn looks_like_index(text: &[u8]) -> bool {
    let first = lines(text).find(|line| !line.is_empty());
    first.is_some_and(|line| parse_line(line).is_some())
}

/// Without the mark that some editors set at the beginning, and without blanks
/// around.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

fn parse_line(line: &[u8]) -> Option<(Label, Role, &[u8])> {
    let (judgement, path) = line.split_at(line.iter().position(|byte| is_blank(*byte))?);
    let (label, role) = judged(judgement)?;
    Some((label, role, path.trim_ascii_start()))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn judged(word: &[u8]) -> Option<(Label, Role)> {
    Some(match word {
        b"ham" => (Label::Ham, Role::ClassifyAndTrain),
        b"spam" => (Label::Spam, Role::ClassifyAndTrain),
        b"Ham" => (Label::Ham, Role::ClassifyOnly),
        b"Spam" => (Label::Spam, Role::ClassifyOnly),
        b"HAM" => (Label::Ham, Role::TrainOnly),
        b"SPAM" => (Label::Spam, Role::TrainOnly),
        _ => return None,
    })
}
