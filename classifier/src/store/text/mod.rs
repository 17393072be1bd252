//! bmf's text lists `goodlist.txt` and `spamlist.txt` as a store, byte for
//! byte as Debian's bmf 0.9.4 writes them.
//!
//! Made for lists that people and scripts look at, and for one short process
//! per message: a look-up reads both lists whole, a change writes its list
//! anew. A database that learns all day is better kept in another store.
//!
//! What bmf does and this store does not: write in place, so that a killed
//! process leaves a list that is cut short (`folder.rs` says how it is done
//! here), and count wrongly in a list that is out of order (`list.rs`).

use std::io::{self, ErrorKind};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::{Durability, Entry, TokenLookup, TokenStore};
use crate::{Changes, Error, Label, Token, TokenCounts, TrainedMessages};

mod files;
mod folder;
mod list;
mod lookup;
mod normal;
#[cfg(test)]
mod tests;

use folder::{Folder, OpenLists, Pair};
use list::List;
use lookup::Found;

/// The text lists of a folder.
///
/// Shows one state of the lists: that of its first look-up, or after it
/// changed something, that of the next.
#[derive(Debug)]
pub struct Text {
    folder: Folder,
    /// That state after the first look-up, which keeps nothing of what it
    /// reads: most processes need only one.
    opened: Mutex<Option<OpenLists>>,
    /// That state from the second one on.
    lists: OnceLock<Pair<List>>,
}

impl Text {
    /// The lists in `dir`, which is made with mode 0700 when it is missing.
    /// Other processes are waited for up to `lock_wait`.
    ///
    /// # Errors
    /// When the folder is missing and cannot be made. What is wrong with the
    /// lists shows when they are used.
    pub fn open(dir: &Path, lock_wait: Duration) -> Result<Self, Error> {
        Ok(Self {
            folder: Folder::open(dir, lock_wait)?,
            opened: Mutex::default(),
            lists: OnceLock::new(),
        })
    }

    /// The same, but [`Durability`] is not kept: all writing back is left to
    /// the system. A killed process still damages nothing, a power failure may
    /// leave lists that are cut short. For benches, and for training that can
    /// be repeated.
    #[must_use]
    pub fn without_sync(mut self) -> Self {
        self.folder.syncs = false;
        self
    }

    /// The files of the lists in `dir`, whether they exist or not.
    pub fn paths(dir: &Path) -> [PathBuf; 2] {
        [Label::Ham, Label::Spam].map(|label| dir.join(folder::file_name(label)))
    }

    /// All of the lists.
    fn lists(&self) -> Result<&Pair<List>, Error> {
        if let Some(lists) = self.lists.get() {
            return Ok(lists);
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have read them meanwhile.
        if let Some(lists) = self.lists.get() {
            return Ok(lists);
        }
        let files = match opened.take() {
            Some(files) => files,
            None => self.folder.open_lists()?,
        };
        let lists = self.folder.parse_lists(&files)?;
        Ok(self.lists.get_or_init(|| lists))
    }

    /// Looks `tokens` up without keeping the lists. `None`: they are kept
    /// already, or it is better to keep them.
    fn look_up_once(&self, tokens: &[Token]) -> Result<Option<Pair<Found>>, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_some() || self.lists.get().is_some() {
            return Ok(None);
        }
        let files = opened.insert(self.folder.open_lists()?);
        self.folder.look_up(files, tokens)
    }

    /// What comes next is another state.
    fn forget(&mut self) {
        self.opened = Mutex::default();
        self.lists = OnceLock::new();
    }

    fn listed<'a>(
        &self,
        label: Label,
        messages: u32,
        lines: impl Iterator<Item = (&'a [u8], Option<u32>)>,
    ) -> Result<Option<List>, Error> {
        List::from_sorted(messages, lines.filter_map(|(t, n)| Some((t, n?))))
            .map(Some)
            .map_err(|detail| Error::Io {
                action: "write",
                path: self.folder.path.join(folder::file_name(label)),
                source: io::Error::new(ErrorKind::InvalidInput, detail),
            })
    }
}

impl TokenLookup for Text {
    fn lookup(
        &self,
        tokens: &[Token],
        counts: &mut Vec<TokenCounts>,
    ) -> Result<TrainedMessages, Error> {
        counts.clear();
        if let Some(Pair { ham, spam }) = self.look_up_once(tokens)? {
            let found = ham.counts.into_iter().zip(spam.counts);
            counts.extend(found.map(|(ham, spam)| TokenCounts { ham, spam }));
            return Ok(TrainedMessages {
                ham: ham.messages,
                spam: spam.messages,
            });
        }
        let Pair { ham, spam } = self.lists()?;
        counts.extend(tokens.iter().map(|token| TokenCounts {
            ham: ham.count(token.as_bytes()).unwrap_or(0),
            spam: spam.count(token.as_bytes()).unwrap_or(0),
        }));
        Ok(TrainedMessages {
            ham: ham.messages,
            spam: spam.messages,
        })
    }
}

impl TokenStore for Text {
    fn apply(&mut self, changes: &Changes, durability: Durability) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        // Closing a list gives all locks on it back, also later ones.
        self.forget();
        let mut writer = self.folder.writer()?;
        let tokens = changes.tokens_sorted();
        let mut adjusted = |label: Label| -> Result<Option<List>, Error> {
            let Some(messages) = changes.messages().get(label) else {
                return Ok(None);
            };
            let changes = tokens
                .iter()
                .filter_map(|(token, change)| Some((*token, change.get(label)?)));
            Ok(Some(writer.read(label)?.adjusted(messages, changes)))
        };
        let changed = Pair {
            spam: adjusted(Label::Spam)?,
            ham: adjusted(Label::Ham)?,
        };
        writer.commit(&changed, durability)
    }

    fn entries(
        &self,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Error>,
    ) -> Result<TrainedMessages, Error> {
        let Pair { ham, spam } = self.lists()?;
        merge(ham.iter(), spam.iter(), visit)?;
        Ok(TrainedMessages {
            ham: ham.messages,
            spam: spam.messages,
        })
    }

    fn replace(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), Error> {
        let mut rows: Vec<_> = entries
            .map(|e| (e.token.to_ascii_lowercase(), e.ham, e.spam))
            .collect();
        rows.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        rows.dedup_by(|later, earlier| {
            let equal = later.0 == earlier.0;
            if equal {
                std::mem::swap(later, earlier);
            }
            equal
        });
        let ham = rows.iter().map(|(token, ham, _)| (&token[..], *ham));
        let spam = rows.iter().map(|(token, _, spam)| (&token[..], *spam));
        let changed = Pair {
            ham: self.listed(Label::Ham, trained.ham, ham)?,
            spam: self.listed(Label::Spam, trained.spam, spam)?,
        };
        self.forget();
        self.folder.writer()?.commit(&changed, Durability::Synced)
    }
}

/// Calls `visit` for each token of two sorted lists.
fn merge<'a>(
    ham: impl Iterator<Item = (&'a [u8], u32)>,
    spam: impl Iterator<Item = (&'a [u8], u32)>,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut ham, mut spam) = (ham.peekable(), spam.peekable());
    loop {
        let token = match (ham.peek(), spam.peek()) {
            (None, None) => return Ok(()),
            (Some((token, _)), None) | (None, Some((token, _))) => *token,
            (Some((a, _)), Some((b, _))) => a.min(b),
        };
        visit(Entry {
            token,
            ham: take(&mut ham, token),
            spam: take(&mut spam, token),
        })?;
    }
}

/// The count of the next line, if it is that of `token`.
fn take<'a>(
    lines: &mut Peekable<impl Iterator<Item = (&'a [u8], u32)>>,
    token: &[u8],
) -> Option<u32> {
    lines.next_if(|(next, _)| *next == token).map(|(_, n)| n)
}
