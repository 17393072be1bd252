//! Reads labelled mail collections without changing a byte.
//!
//! | source | labels |
//! | --- | --- |
//! | TREC index: a file of lines `spam path`, or a folder or archive with `index` or `full/index` | in the index |
//! | folder or archive with files below folders whose names hold the word `ham` or `spam` | the folder's name |
//! | one source of ham, one of spam: folder, Maildir, mbox, archive | the caller's |
//!
//! Archives are `.tar`, alone or compressed as `.gz`, `.bz2`, `.xz`, `.zst`.
//! A collection is held in memory; so is a compressed archive while it is read.

mod mbox;
mod strip;
mod trec;
mod tree;

use std::path::Path;

use classifier::Label;

pub use strip::Strip;

use crate::{Collection, Error, Message, Role};
use tree::Tree;

/// Reads a collection that holds its labels.
///
/// # Errors
/// When it cannot be read, or nothing in it says what is ham and what spam.
pub fn labelled(path: &Path, strip: &Strip) -> Result<Collection, Error> {
    let messages = match Tree::index_beside(path) {
        Some((index, folder)) => trec::read(&index, &mut trec::Folder(folder))?,
        None => {
            let tree = Tree::read(path)?;
            match tree.find_index() {
                Some(index) => {
                    let folder = index.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let text = tree.get(&index).unwrap_or_default();
                    trec::parse(
                        path,
                        text,
                        &mut trec::Archive {
                            tree: &tree,
                            folder,
                        },
                    )?
                }
                None => by_folder_name(&tree),
            }
        }
    };
    finish(path.display().to_string(), messages, strip).map_err(|error| match error {
        Error::Empty { .. } => Error::Unlabelled { path: path.into() },
        other => other,
    })
}

/// Reads ham and spam from a source each. The two are mixed evenly, keeping
/// the order within each: no source tells how they lay in time.
///
/// # Errors
/// When one cannot be read, or both are empty.
pub fn pair(ham: &Path, spam: &Path, strip: &Strip) -> Result<Collection, Error> {
    let ham_mail = unlabelled(ham, Label::Ham)?;
    let spam_mail = unlabelled(spam, Label::Spam)?;
    let name = format!("{} and {}", ham.display(), spam.display());
    finish(name, mixed(ham_mail, spam_mail), strip)
}

/// Reads a folder, a Maildir, an mbox or an archive of these.
///
/// # Errors
/// When it cannot be read.
pub fn unlabelled(path: &Path, label: Label) -> Result<Vec<Message>, Error> {
    let tree = Tree::read(path)?;
    Ok(tree
        .mail_files()
        .flat_map(|(name, bytes)| messages_of(name, bytes, label))
        .collect())
}

fn by_folder_name(tree: &Tree) -> Vec<Message> {
    let mut ham = Vec::new();
    let mut spam = Vec::new();
    for (name, bytes) in tree.mail_files() {
        match label_of_path(name) {
            Some(Label::Ham) => ham.extend(messages_of(name, bytes, Label::Ham)),
            Some(Label::Spam) => spam.extend(messages_of(name, bytes, Label::Spam)),
            None => {}
        }
    }
    mixed(ham, spam)
}

/// By the first part of the path (file name included, for `ham.mbox`) that
/// has one of the two words and not the other: `easy-ham-1`, `spam_2`.
fn label_of_path(path: &str) -> Option<Label> {
    path.split('/').find_map(|part| {
        let has = |word: &str| {
            part.split(|c: char| !c.is_ascii_alphabetic())
                .any(|w| w.eq_ignore_ascii_case(word))
        };
        match (has("ham"), has("spam")) {
            (true, false) => Some(Label::Ham),
            (false, true) => Some(Label::Spam),
            _ => None,
        }
    })
}

fn messages_of(name: &str, bytes: &[u8], label: Label) -> Vec<Message> {
    let message = |id: String, bytes: &[u8]| Message {
        id,
        label,
        role: Role::default(),
        bytes: bytes.to_vec(),
    };
    let parts: Vec<&[u8]> = mbox::split(bytes).collect();
    match parts.as_slice() {
        [whole] => vec![message(name.to_owned(), whole)],
        parts => parts
            .iter()
            .enumerate()
            .map(|(n, part)| message(format!("{name}#{}", n + 1), part))
            .collect(),
    }
}

/// Merges so that at each point about the same share of both has come.
fn mixed(ham: Vec<Message>, spam: Vec<Message>) -> Vec<Message> {
    let (n_ham, n_spam) = (ham.len(), spam.len());
    let share = |messages: Vec<Message>, n: usize| {
        let place =
            move |(i, message)| ((2 * i as u128 + 1) * 1_000_000 / (2 * n as u128), message);
        messages.into_iter().enumerate().map(place)
    };
    let mut all: Vec<(u128, Message)> = share(ham, n_ham).chain(share(spam, n_spam)).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, message)| message).collect()
}

fn finish(name: String, mut messages: Vec<Message>, strip: &Strip) -> Result<Collection, Error> {
    if messages.is_empty() {
        return Err(Error::Empty { name });
    }
    for message in &mut messages {
        strip.apply(&mut message.bytes);
    }
    Ok(Collection::new(name, messages))
}

/// The files of a folder or archive, by name.
///
/// # Errors
/// When it cannot be read.
pub fn files(path: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let tree = Tree::read(path)?;
    Ok(tree
        .iter()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect())
}

#[cfg(test)]
mod tests;
