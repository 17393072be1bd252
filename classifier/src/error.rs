//! Why a store could not answer.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

/// A failure of a token store. Scoring itself cannot fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done: "open", "write", "rename".
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it should be: truncated, overwritten, or made by
    /// something else.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// Which file or folder.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Written by a later version of this program.
    #[error("{}", newer_format(path.display(), (*found).into(), (*newest).into()))]
    NewerFormat {
        /// Which file or folder.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        newest: u32,
    },
    /// Made for another engine, whose tokens are not ours.
    #[error("{} belongs to the engine '{found}', not to '{wanted}'", path.display())]
    OtherEngine {
        /// Which file or folder.
        path: PathBuf,
        /// The engine that it was made for.
        found: String,
        /// The engine that wanted to write to it.
        wanted: String,
    },
    /// Somebody else holds the database for longer than we may wait.
    #[error("{} is locked: waited {} s{}", path.display(), waited.as_secs(), owner.as_ref().map(|o| format!("; held by {o}")).unwrap_or_default())]
    Locked {
        /// Which file or folder.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
        /// Who holds it, where that is known.
        owner: Option<String>,
    },
    /// The daemon has taken the database over; a copy to read is left.
    #[error("{} was handed over to bmfd, which alone writes to it since; leave out -d, so that it is asked", path.display())]
    HandedOver {
        /// Which file.
        path: PathBuf,
    },
    /// The daemon that owns the database does not do what was asked.
    #[error("bmfd at {}: {reason}", socket.display())]
    Daemon {
        /// Where it listens.
        socket: PathBuf,
        /// What it says, or that it does not answer.
        reason: String,
        /// Whether it may do so later.
        is_transient: bool,
    },
    /// Something that this program does not do.
    #[error("{what} is not offered: {instead}")]
    NotOffered {
        /// What was asked for.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

impl Error {
    /// For `map_err` on a system call.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the same call may succeed later without anybody mending
    /// anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. }
                | Self::Daemon {
                    is_transient: true,
                    ..
                }
        )
    }
}

/// Says that a later version of this program wrote `what`, and how to return.
pub fn newer_format(what: impl fmt::Display, found: u64, newest: u64) -> String {
    format!(
        "{what} has format version {found}, and this program reads versions up to {newest}; go back to the \
         program that wrote it, or to a copy of before (docs/upgrades.md)"
    )
}
