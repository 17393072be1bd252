//! What is wrong with a configuration file, and in which line.

use std::ops::Range;
use std::path::{Component, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;

/// Which bytes of the file are wrong, and why.
#[derive(Debug)]
pub struct Wrong {
    /// Where.
    pub at: Range<usize>,
    /// What to tell.
    pub reason: String,
}

impl Wrong {
    /// Makes what is wrong with `place` of a reason.
    pub fn at<T>(place: &Spanned<T>) -> impl FnOnce(String) -> Self {
        let at = place.span();
        move |reason| Self { at, reason }
    }
}

/// Reads `text` as TOML and checks it.
///
/// # Errors
/// The line, from 1, of the first thing that is wrong, and the reason.
pub fn parse<F: DeserializeOwned, C>(
    text: &str,
    check: impl FnOnce(F) -> Result<C, Wrong>,
) -> Result<C, (usize, String)> {
    let checked = toml::from_str(text)
        .map_err(|error| Wrong {
            at: error.span().unwrap_or_default(),
            // As people say it.
            reason: error
                .message()
                .replace("a nonzero u64", "a whole number above 0"),
        })
        .and_then(check);
    checked.map_err(|Wrong { at, reason }| {
        let before = text.bytes().take(at.start);
        (1 + before.filter(|b| *b == b'\n').count(), reason)
    })
}

/// A path that does not depend on where the program was started.
///
/// # Errors
/// When it is relative or has `..`.
pub fn absolute(path: &Spanned<PathBuf>) -> Result<PathBuf, Wrong> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.get_ref().is_absolute() || !path.get_ref().components().all(plain) {
        let reason = "a path begins with / and has no ..";
        return Err(Wrong::at(path)(reason.to_owned()));
    }
    Ok(path.get_ref().clone())
}

/// A path below some folder, which it does not leave.
///
/// # Errors
/// When it is absolute, empty, or has `..`.
pub fn below(path: &Spanned<PathBuf>) -> Result<PathBuf, Wrong> {
    let mut parts = path.get_ref().components().peekable();
    if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
        let reason = "a path below a home does not begin with / and has no ..";
        return Err(Wrong::at(path)(reason.to_owned()));
    }
    Ok(path.get_ref().clone())
}
