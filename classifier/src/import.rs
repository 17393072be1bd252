//! What bmf left behind: the lists of a folder as data, in whichever of its
//! formats, and their first use as a database of ours.
//!
//! Nothing here changes or removes bmf's files.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::lmdb::{Access, Lmdb, Options};
use crate::store::{Entry, Memory, Text, TokenStore, berkeley};
use crate::{Changes, Error, Label, Listed, Token, TrainedMessages};

mod exchange;

/// All that a database holds, in memory.
#[derive(Clone, Debug)]
pub struct Lists {
    /// Where it was found.
    files: Vec<PathBuf>,
    trained: TrainedMessages,
    tokens: BTreeMap<Vec<u8>, Listed>,
}

impl Lists {
    /// Whether bmf has left lists in `dir`, be there anything in them or not.
    pub fn exist(dir: &Path) -> bool {
        let berkeley = ["goodlist.db", "spamlist.db"].map(|name| dir.join(name));
        berkeley
            .iter()
            .chain(&Text::paths(dir))
            .any(|path| path.exists())
    }

    /// The lists of bmf in `dir`; `None` when there are none that hold
    /// anything.
    ///
    /// The Berkeley DB lists, `goodlist.db` and `spamlist.db`, win over the
    /// text lists: they are what Debian's bmf uses if it is not told
    /// otherwise, and text lists beside them are mostly a forgotten export.
    /// One list of the two is enough.
    ///
    /// # Errors
    /// When a list cannot be read, is damaged, or is written to for longer
    /// than `lock_wait`.
    pub fn find(dir: &Path, lock_wait: Duration) -> Result<Option<Self>, Error> {
        for lists in [Self::of_berkeley(dir)?, Self::of_text(dir, lock_wait)?] {
            if lists.trained != TrainedMessages::default() || !lists.tokens.is_empty() {
                return Ok(Some(lists));
            }
        }
        Ok(None)
    }

    /// All that `store` holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(store: &dyn TokenStore, files: Vec<PathBuf>) -> Result<Self, Error> {
        let mut tokens = BTreeMap::new();
        let trained = store.entries(&mut |entry| {
            tokens.insert(entry.token.to_vec(), Listed::from(entry));
            Ok(())
        })?;
        Ok(Self {
            files,
            trained,
            tokens,
        })
    }

    fn of_berkeley(dir: &Path) -> Result<Self, Error> {
        let open = |name: &str| {
            let path = dir.join(name);
            Ok(if path.exists() {
                (Some(path.clone()), berkeley::List::open(&path)?)
            } else {
                (None, berkeley::List::default())
            })
        };
        let (ham_file, ham) = open("goodlist.db")?;
        let (spam_file, spam) = open("spamlist.db")?;
        let mut tokens: BTreeMap<_, Listed> = BTreeMap::new();
        for (token, count) in ham.tokens {
            tokens.entry(token).or_default().ham = Some(count);
        }
        for (token, count) in spam.tokens {
            tokens.entry(token).or_default().spam = Some(count);
        }
        Ok(Self {
            files: ham_file.into_iter().chain(spam_file).collect(),
            trained: TrainedMessages {
                ham: ham.messages,
                spam: spam.messages,
            },
            tokens,
        })
    }

    /// The text lists in `dir`, which may be missing or empty.
    fn of_text(dir: &Path, lock_wait: Duration) -> Result<Self, Error> {
        let files: Vec<_> = Text::paths(dir)
            .into_iter()
            .filter(|path| path.exists())
            .collect();
        if files.is_empty() {
            return Self::of(&Memory::default(), files);
        }
        let mut lists = Self::of(&Text::open(dir, lock_wait)?, files)?;
        lists.trained.ham = unwrapped(lists.trained.ham);
        lists.trained.spam = unwrapped(lists.trained.spam);
        Ok(lists)
    }

    /// The text lists in `dir`, both of which must be there and hold
    /// something, be it only their first line.
    ///
    /// # Errors
    /// When they do not, or as [`Lists::find`].
    pub fn exported(dir: &Path, lock_wait: Duration) -> Result<Self, Error> {
        for path in Text::paths(dir) {
            let metadata = path.metadata().map_err(Error::io("read", &path))?;
            if metadata.len() == 0 {
                return Err(Error::Damaged {
                    path,
                    detail: "it is empty".into(),
                });
            }
        }
        Self::of_text(dir, lock_wait)
    }

    /// Number of messages registered.
    pub fn trained(&self) -> TrainedMessages {
        self.trained
    }

    /// The change that gives the numbers of messages, and the tokens in each
    /// list, the counts that they have here, and leaves other tokens alone.
    pub fn to_changes(&self) -> Changes {
        let mut changes = Changes::default();
        changes.set_messages(self.trained);
        for (token, Listed { ham, spam }) in &self.tokens {
            // No message holds a token that is none, so that no count of it
            // is ever asked for.
            let Some(token) = Token::new(token) else {
                continue;
            };
            for (label, count) in [(Label::Ham, ham), (Label::Spam, spam)] {
                if let Some(count) = count {
                    changes.set(label, token, *count);
                }
            }
        }
        changes
    }

    /// The tokens in ascending order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.tokens
            .iter()
            .map(|(token, listed)| listed.entry(token))
    }
}

/// A number of messages of the text format, which wraps below 0: nobody has
/// registered two thousand million.
fn unwrapped(messages: u32) -> u32 {
    if i32::try_from(messages).is_ok() {
        messages
    } else {
        0
    }
}

/// What was imported, for people.
impl fmt::Display for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TrainedMessages { ham, spam } = self.trained;
        write!(
            f,
            "{} tokens of {ham} ham and {spam} spam",
            self.tokens.len()
        )?;
        for (index, file) in self.files.iter().enumerate() {
            let before = if index == 0 { "from" } else { "and" };
            write!(f, " {before} {}", file.display())?;
        }
        Ok(())
    }
}

/// A person's database, and what was imported into it just now.
pub struct Opened {
    /// The database; or, where a folder cannot be written, what would have
    /// been imported.
    pub store: Box<dyn TokenStore + Send + Sync>,
    /// `None`: nothing, which is so but for the first time.
    pub imported: Option<Lists>,
}

/// Opens the LMDB database in `dir`. One that nothing was ever written to, or
/// that is not there yet, first takes over the lists of bmf in `dir`: in one
/// transaction, so that of many processes at the same moment one does it and
/// no other sees a part.
///
/// # Errors
/// As [`Lmdb::open`] and [`Lists::find`].
pub fn open(dir: &Path, options: &Options) -> Result<Opened, Error> {
    into(Lmdb::open(dir, options)?, dir, options)
}

/// As [`open`], into the database `lmdb` that was opened in `dir`.
///
/// # Errors
/// As [`open`].
pub fn into(lmdb: Lmdb, dir: &Path, options: &Options) -> Result<Opened, Error> {
    let lists = match lmdb.is_new()? {
        true => Lists::find(dir, options.lock_wait)?,
        false => None,
    };
    let Some(lists) = lists else {
        return Ok(Opened {
            store: Box::new(lmdb),
            imported: None,
        });
    };
    if options.access == Access::ReadWrite {
        return take_over(lmdb, lists);
    }
    // A process can have a database open only once.
    drop(lmdb);
    let writes = Options {
        access: Access::ReadWrite,
        ..options.clone()
    };
    match Lmdb::open(dir, &writes).and_then(|lmdb| take_over(lmdb, lists.clone())) {
        Err(error) if is_not_to_be_written(&error) => {
            let mut memory = Memory::default();
            memory.replace(lists.trained, &mut lists.entries())?;
            Ok(Opened {
                store: Box::new(memory),
                imported: None,
            })
        }
        opened => opened,
    }
}

fn take_over(mut lmdb: Lmdb, lists: Lists) -> Result<Opened, Error> {
    let is_done = lmdb.import(lists.trained, &mut lists.entries())?;
    Ok(Opened {
        store: Box::new(lmdb),
        imported: is_done.then_some(lists),
    })
}

/// Whether the folder is only to be read, for whatever reason.
fn is_not_to_be_written(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => is_read_only(source),
        error => matches!(error, Error::HandedOver { .. }),
    }
}

pub(crate) fn is_read_only(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::TokenCounts;

    const BERKELEY: &[u8] = include_bytes!("../tests/data/berkeley/bmf.db");
    const TEXT: &str = "# bogofilter wordlist (format version A): 4294967295\nfoo 3\n";

    fn counts(opened: &Opened, word: &str) -> (TrainedMessages, TokenCounts) {
        let mut counts = Vec::new();
        let token = Token::new(word.as_bytes()).unwrap();
        let trained = opened.store.lookup(&[token], &mut counts).unwrap();
        (trained, counts[0])
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn imports_once_and_leaves_the_old_files() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("spamlist.db");
        fs::write(&old, BERKELEY).unwrap();
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let options = Options {
                access,
                ..Options::default()
            };
            let opened = open(dir.path(), &options).unwrap();
            let (trained, common) = counts(&opened, "common");
            assert_eq!(trained, TrainedMessages { ham: 0, spam: 2 });
            assert_eq!(common, TokenCounts { ham: 0, spam: 4 });
            let message = opened.imported.map(|lists| lists.to_string());
            let expected = format!("414 tokens of 0 ham and 2 spam from {}", old.display());
            assert_eq!(message, (access == Access::ReadOnly).then_some(expected));
        }
        assert_eq!(fs::read(old).unwrap(), BERKELEY);
    }

    #[test]
    fn berkeley_lists_win_over_text_lists_unless_they_hold_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("goodlist.txt"), TEXT).unwrap();
        fs::write(dir.path().join("goodlist.db"), BERKELEY).unwrap();
        let find = || Lists::find(dir.path(), Duration::ZERO).unwrap().unwrap();
        assert_eq!(find().trained.ham, 2);
        fs::write(dir.path().join("goodlist.db"), b"").unwrap();
        let lists = find();
        assert_eq!(lists.entries().count(), 1);
        // Below 0 is 0.
        assert_eq!(lists.trained, TrainedMessages::default());
        assert_eq!(names(dir.path()), ["goodlist.db", "goodlist.txt"]);
    }

    #[test]
    fn folder_without_lists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("bmf");
        assert!(Lists::find(&missing, Duration::ZERO).unwrap().is_none());
        let opened = open(dir.path(), &Options::read_only()).unwrap();
        assert!(opened.imported.is_none());
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn damaged_list_is_no_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("goodlist.db"), &BERKELEY[..5000]).unwrap();
        let opened = open(dir.path(), &Options::default());
        assert!(matches!(opened, Err(Error::Damaged { .. })));
    }
}
