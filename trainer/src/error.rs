//! Why something could not be watched, learned or rotated.

use std::io;
use std::path::PathBuf;

/// A failure of this crate.
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
        /// What was being done: "read", "watch".
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A mailbox could not be read or changed.
    #[error(transparent)]
    Mailbox(#[from] mailbox::Error),
    /// A user's database could not be read or changed.
    #[error(transparent)]
    Database(#[from] classifier::Error),
}

/// An error and what led to it, each reason once: an error may say its cause
/// itself.
pub fn told(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    causes.fold(first, |told, cause| match told.ends_with(&cause) {
        true => told,
        false => format!("{told}: {cause}"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn each_reason_is_told_once() {
        let io = || io::Error::from(io::ErrorKind::NotFound);
        let ours: Result<(), _> = Err(Error::io("read", "/x")(io()));
        let error = ours.context("no configuration").unwrap_err();
        assert_eq!(
            told(&error),
            format!("no configuration: cannot read \"/x\": {}", io())
        );
        let error = Err::<(), _>(io()).context("outer").unwrap_err();
        assert_eq!(told(&error), format!("outer: {}", io()));
    }
}
