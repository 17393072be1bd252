//! The index of the TREC spam track.
//!
//! Source: TREC 2007 Spam Track overview. A line is a judgement and a path
//! relative to the index's folder: `spam ../data/inmail.1`. Lower case means
//! classify and train, a capital classify only, upper case train only.

use std::fs;
use std::path::{Path, PathBuf};

use classifier::Label;

use super::tree::{Tree, joined};
use crate::{Error, Message, Role};

/// From where the files of an index are taken.
pub(super) trait Files {
    fn take(&mut self, path: &str) -> Result<Vec<u8>, Error>;
}

pub(super) struct Folder(pub(super) PathBuf);

impl Files for Folder {
    fn take(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        let path = self.0.join(path);
        fs::read(&path).map_err(Error::io("read", &path))
    }
}

pub(super) struct Archive<'a> {
    pub(super) tree: &'a Tree,
    pub(super) folder: &'a str,
}

impl Files for Archive<'_> {
    fn take(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        let path = joined(self.folder, path);
        let found = self.tree.get(&path).map(<[u8]>::to_vec);
        found.ok_or(Error::Missing { name: path })
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
    for (n, line) in String::from_utf8_lossy(text).lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let (judgement, path) = line.trim().split_once([' ', '\t']).unwrap_or((line, ""));
        let Some((label, role)) = judged(judgement).filter(|_| !path.is_empty()) else {
            return Err(Error::Index {
                path: index.into(),
                line: n + 1,
                found: line.to_owned(),
            });
        };
        // The kit of 2005 adds columns for user and genre.
        let path = path.trim();
        messages.push(Message {
            id: path.to_owned(),
            label,
            role,
            bytes: files.take(path)?,
        });
    }
    Ok(messages)
}

/// Whether `text` begins as an index does.
pub(super) fn looks_like_index(text: &[u8]) -> bool {
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(4096)]).into_owned();
    line.split_once([' ', '\t'])
        .is_some_and(|(judgement, path)| judged(judgement).is_some() && !path.is_empty())
}

fn judged(word: &str) -> Option<(Label, Role)> {
    Some(match word {
        "ham" => (Label::Ham, Role::ClassifyAndTrain),
        "spam" => (Label::Spam, Role::ClassifyAndTrain),
        "Ham" => (Label::Ham, Role::ClassifyOnly),
        "Spam" => (Label::Spam, Role::ClassifyOnly),
        "HAM" => (Label::Ham, Role::TrainOnly),
        "SPAM" => (Label::Spam, Role::TrainOnly),
        _ => return None,
    })
}
