//! What is wrong with a configuration file, and in which line.

use std::ops::Range;
use std::path::{Component, PathBuf};

use classifier::newer_format;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

/// Version of the configuration's format; a text without `version` is of the
/// first.
const VERSION: u32 = 1;

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

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self {
            at: error.span().unwrap_or_default(),
            // As people say it.
            reason: error
                .message()
                .replace("a nonzero u64", "a whole number above 0"),
        }
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
    read(text).and_then(check).map_err(|Wrong { at, reason }| {
        let before = text.bytes().take(at.start);
        (1 + before.filter(|b| *b == b'\n').count(), reason)
    })
}

/// Its version is asked before other keys: a later one has others.
fn read<F: DeserializeOwned>(text: &str) -> Result<F, Wrong> {
    let mut table = DeTable::parse(text)?;
    if let Some(version) = table.get_mut().remove("version") {
        check_version(&version).map_err(Wrong::at(&version))?;
    }
    Ok(F::deserialize(Deserializer::from(table))?)
}

fn check_version(version: &Spanned<DeValue<'_>>) -> Result<(), String> {
    let number = version.get_ref().as_integer();
    match number.and_then(|number| number.as_str().parse().ok()) {
        Some(1..=VERSION) => Ok(()),
        Some(found @ VERSION..) => Err(newer_format("it", found.into(), VERSION.into())),
        _ => Err(format!("a version is a number from 1 to {VERSION}")),
    }
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
