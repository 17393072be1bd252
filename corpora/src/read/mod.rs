//! Reads labelled mail collections without changing a byte.
//!
//! | source | labels |
//! | --- | --- |
//! | TREC index: a file of lines `spam path`, or a folder or archive with `index` or `full/index` | in the index |
//! | folder or archive with files below folders whose names hold the word `ham` or `spam` | the folder's name |
//! | one source of ham, one of spam: folder, Maildir, mbox, archive | the caller's |
//!
//! Archives are `.tar`, alone or compressed as `.gz`, `.bz2`, `.xz`, `.zst`; so
//! may each file be. A Maildir is its own messages alone, without the folders
//! below it. A collection is held in memory; so is an `.xz` while it is read.

mod mbox;
mod packed;
mod strip;
mod trec;
mod tree;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use classifier::Label;

pub use strip::{FieldPattern, Strip};

use crate::{Collection, Error, Message, Role};
use tree::{MailFile, Tree};

/// Reads a collection that holds its labels.
///
/// # Errors
/// When it cannot be read, or nothing in it says what is ham and what spam.
pub fn labelled(path: &Path, strip: &mut Strip) -> Result<Collection, Error> {
    if let Some((index, folder)) = Tree::index_beside(path) {
        let messages = trec::read(&index, &mut trec::Folder(folder))?;
        return finish(path.display().to_string(), messages, strip);
    }
    let tree = Tree::read(path)?;
    let messages = match tree.find_index() {
        Some(index) => {
            let at = memchr::memrchr(b'/', index).unwrap_or(0);
            let files = &mut trec::Archive {
                tree: &tree,
                folder: &index[..at],
            };
            trec::parse(path, tree.get(index).unwrap_or_default(), files)?
        }
        None => by_folder_name(&tree, path)?,
    };
    finish(path.display().to_string(), messages, strip)
}

/// Reads ham and spam from a source each. The two are mixed evenly, keeping
/// the order within each: no source tells how they lay in time.
///
/// # Errors
/// When one cannot be read, or both are empty.
pub fn pair(ham: &Path, spam: &Path, strip: &mut Strip) -> Result<Collection, Error> {
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
    let mut messages = Vec::new();
    for file in tree.mail_files().filter(|file| file.inside.is_none()) {
        messages.extend(messages_of(&file, label, path)?);
    }
    Ok(messages)
}

fn by_folder_name(tree: &Tree, path: &Path) -> Result<Vec<Message>, Error> {
    let mut ham = Vec::new();
    let mut spam = Vec::new();
    for file in tree.mail_files() {
        let label = label_of_path(file.inside.unwrap_or(file.name));
        match label {
            Some(Label::Ham) => ham.extend(messages_of(&file, Label::Ham, path)?),
            Some(Label::Spam) => spam.extend(messages_of(&file, Label::Spam, path)?),
            None => {}
        }
    }
    let has_labels = || tree.folders().any(|name| label_of_path(name).is_some());
    if ham.is_empty() && spam.is_empty() && !has_labels() {
        return Err(Error::Unlabelled { path: path.into() });
    }
    Ok(mixed(ham, spam))
}

/// By the first part of the path (file name included, for `ham.mbox`) that
/// has one of the two words and not the other: `easy-ham-1`, `spam_2`.
fn label_of_path(path: &[u8]) -> Option<Label> {
    path.split(|byte| *byte == b'/').find_map(|part| {
        let has = |word: &[u8]| {
            part.split(|byte| !byte.is_ascii_alphabetic())
                .any(|w| w.eq_ignore_ascii_case(word))
        };
        match (has(b"ham"), has(b"spam")) {
            (true, false) => Some(Label::Ham),
            (false, true) => Some(Label::Spam),
            _ => None,
        }
    })
}

/// The messages of a file of the folder or archive `path`.
fn messages_of(file: &MailFile<'_>, label: Label, path: &Path) -> Result<Vec<Message>, Error> {
    let name = shown(file.name);
    let mut bytes = Cow::Borrowed(file.bytes);
    if packed::is_packed(file.bytes) {
        let mut unpacked = Vec::new();
        packed::plain(&mut &*file.bytes)
            .and_then(|mut plain| plain.read_to_end(&mut unpacked))
            .map_err(|cause| Error::unpack(&path.join(OsStr::from_bytes(file.name)), cause))?;
        bytes = unpacked.into();
    }
    let message = |id: String, bytes: &[u8]| Message {
        id,
        label,
        role: Role::default(),
        bytes: bytes.to_vec(),
    };
    let parts: Vec<&[u8]> = mbox::split(&bytes).collect();
    Ok(match parts.as_slice() {
        [whole] => vec![message(name, whole)],
        parts => parts
            .iter()
            .enumerate()
            .map(|(n, part)| message(format!("{name}#{}", n + 1), part))
            .collect(),
    })
}

/// A name as text; bytes that are no UTF-8 as `\xE9`.
fn shown(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
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

fn finish(
    name: String,
    mut messages: Vec<Message>,
    strip: &mut Strip,
) -> Result<Collection, Error> {
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
        .map(|(name, bytes)| (shown(name), bytes.to_vec()))
        .collect())
}

#[cfg(test)]
mod tests;
