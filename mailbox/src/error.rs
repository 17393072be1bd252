//! Why a mailbox could not be read or changed.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A failure below one mailbox. What is missing is no error but `None`: mail
/// readers move and delete at any moment.
///
/// Paths are printed quoted and escaped, because users choose them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was being done: "open", "write", "rename".
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something that may lead out of the mailbox; it was not touched.
    #[error("{path:?} is {found}; left alone")]
    Foreign {
        /// Which file or folder.
        path: PathBuf,
        /// What it is instead of mail.
        found: Foreign,
    },
    /// A folder name that the layout of the mailbox cannot hold.
    #[error("{name:?} cannot be a folder: {reason}")]
    FolderName {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Error {
    /// For `map_err` on a system call.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// What lies where a message or a folder of this mailbox was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A symbolic link, or a path through one.
    Link,
    /// Neither a folder nor a link to one.
    NotFolder,
    /// A FIFO, device, socket or folder in place of a file.
    NotFile,
    /// It belongs to somebody else: a hard link to another user's file, or a
    /// folder that another user put there.
    OtherOwner {
        /// Who owns it.
        uid: u32,
        /// Who owns the mailbox.
        mailbox: u32,
    },
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("a symbolic link or below one"),
            Self::NotFolder => f.write_str("not a folder"),
            Self::NotFile => f.write_str("not a regular file"),
            Self::OtherOwner { uid, mailbox } => {
                write!(
                    f,
                    "owned by uid {uid}, not by the mailbox's owner, uid {mailbox}"
                )
            }
        }
    }
}
