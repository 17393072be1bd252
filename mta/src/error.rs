//! Why the host could not do something.

use std::io;
use std::path::{Path, PathBuf};

use classifier::newer_format;

/// A failure of this crate. What a client or a message gets wrong is no error
/// but a [`crate::smtp::Reply`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration says something that cannot be.
    #[error("{}:{line}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was being done: "read", "rename".
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The accounts could not be read or changed.
    #[error("cannot use the accounts in {path:?}: {source}")]
    Accounts {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// What greylisting remembers could not be read or changed.
    #[error("cannot use the greylist in {path:?}: {source}")]
    Greylist {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A user's mailbox could not be used.
    #[error(transparent)]
    Mailbox(#[from] mailbox::Error),
}

impl Error {
    /// What the operating system said, if it was the one to refuse.
    pub fn system(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } | Self::Mailbox(mailbox::Error::Io { source, .. }) => {
                Some(source)
            }
            _ => None,
        }
    }

    /// What a later version of this program wrote.
    pub(crate) fn newer(path: &Path, found: u64, newest: u64) -> Self {
        Self::io("use", path)(io::Error::other(newer_format("it", found, newest)))
    }

    /// For `map_err` on a system call.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// As [`newer_format`], of TOML with a key `version`; a text without one is of the
/// first version. Asked before keys are: a later version has others.
pub(crate) fn newer_toml(text: &str, newest: u32) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    let found = u64::try_from(table.get("version")?.as_integer()?).ok()?;
    (found > newest.into()).then(|| newer_format("it", found, newest.into()))
}
