//! Why a collection could not be read or written, or a filter not be run.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done: "open", "read", "make".
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of an index is not one.
    #[error("{}:{line}: expected \"spam path\" or \"ham path\", found {found:?}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The whole line.
        found: String,
    },
    /// An index names a file that is not there.
    #[error("{}:{line}: there is no file {name}", path.display())]
    Missing {
        /// The index, or the archive that holds it.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Which file.
        name: String,
    },
    /// What should be compressed or an archive is neither.
    #[error("cannot unpack {}: it is damaged, or not what it is called", path.display())]
    Unpack {
        /// Which file.
        path: PathBuf,
    },
    /// Nothing says what is ham and what spam.
    #[error("{} holds no TREC index and no folders named ham and spam; give the two with --ham and --spam", path.display())]
    Unlabelled {
        /// The collection.
        path: PathBuf,
    },
    /// No message at all.
    #[error("no message in {name}")]
    Empty {
        /// The collection.
        name: String,
    },
    /// A collection that is too small for what is to be measured.
    #[error("{name} is too small: {needed} are needed")]
    TooSmall {
        /// The collection.
        name: String,
        /// What would do.
        needed: &'static str,
    },
    /// A file with expected figures that is none.
    #[error("{}: {detail}", path.display())]
    Expectations {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A filter's description cannot be used.
    #[error("filter {name}: {detail}")]
    Adapter {
        /// Which filter.
        name: String,
        /// What is wrong, and what would be right.
        detail: String,
    },
    /// A filter's program is not on this machine.
    #[error("filter {name}: none of {programs} is installed")]
    NotInstalled {
        /// Which filter.
        name: String,
        /// What was looked for.
        programs: String,
    },
    /// One of our engines could not answer.
    #[error(transparent)]
    Engine(#[from] classifier::Error),
    /// A download failed.
    #[error("cannot fetch {url}: {detail}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// What went wrong, and what to do.
        detail: String,
    },
    /// A line of a result file is not one.
    #[error("{}:{line}: expected \"file=... judge=... class=... score=...\"", path.display())]
    Results {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

impl Error {
    /// What a decoder says is of no use to people; what the system says is.
    pub(crate) fn unpack(path: &Path, cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(_) => Self::io("read", path)(cause),
            None => Self::Unpack { path: path.into() },
        }
    }

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
