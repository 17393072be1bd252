//! All counts of a database as one text, and back, without loss.
//!
//! ```text
//! postern-counts 1
//! messages HAM SPAM
//! token HAM SPAM LENGTH BYTES     ascending; - for "not in that list"
//! ```
//!
//! Lines are ended by LF. A token's bytes are counted, since lists that came
//! from elsewhere may hold blanks and line ends in them.

use std::path::Path;

use super::Lists;
use crate::store::Entry;
use crate::{Error, Listed, TrainedMessages};

const FIRST_LINE: &[u8] = b"postern-counts 1\n";

impl Lists {
    /// All of it as text.
    pub fn to_text(&self) -> Vec<u8> {
        let TrainedMessages { ham, spam } = self.trained;
        let mut text = FIRST_LINE.to_vec();
        text.extend_from_slice(format!("messages {ham} {spam}\n").as_bytes());
        let number = |count: Option<u32>| count.map_or("-".into(), |count| count.to_string());
        for Entry { token, ham, spam } in self.entries() {
            let line = format!("token {} {} {} ", number(ham), number(spam), token.len());
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(token);
            text.push(b'\n');
        }
        text
    }

    /// What [`to_text`](Self::to_text) has written; errors name `source`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_text(text: &[u8], source: &Path) -> Result<Self, Error> {
        Self::parse(text).ok_or_else(|| Error::Damaged {
            path: source.into(),
            detail: "it is no text of counts".into(),
        })
    }

    /// Whether a text begins as [`to_text`](Self::to_text) begins it.
    pub fn is_text(text: &[u8]) -> bool {
        text.starts_with(FIRST_LINE)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut rest = text.strip_prefix(FIRST_LINE)?.strip_prefix(b"messages ")?;
        let mut lists = Self {
            files: Vec::new(),
            trained: TrainedMessages {
                ham: number(word(&mut rest, b' ')?)?,
                spam: number(word(&mut rest, b'\n')?)?,
            },
            tokens: Default::default(),
        };
        while !rest.is_empty() {
            rest = rest.strip_prefix(b"token ")?;
            let listed = Listed {
                ham: count(word(&mut rest, b' ')?)?,
                spam: count(word(&mut rest, b' ')?)?,
            };
            let len = number(word(&mut rest, b' ')?)?;
            let (token, after) = rest.split_at_checked(len as usize)?;
            rest = after.strip_prefix(b"\n")?;
            lists.tokens.insert(token.to_vec(), listed);
        }
        Some(lists)
    }
}

fn word<'a>(rest: &mut &'a [u8], end: u8) -> Option<&'a [u8]> {
    let at = memchr::memchr(end, rest)?;
    let word = &rest[..at];
    *rest = &rest[at + 1..];
    Some(word)
}

fn number(word: &[u8]) -> Option<u32> {
    str::from_utf8(word).ok()?.parse().ok()
}

fn count(word: &[u8]) -> Option<Option<u32>> {
    match word {
        b"-" => Some(None),
        word => number(word).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Lists, Error> {
        Lists::from_text(text, Path::new("x"))
    }

    proptest! {
        #[test]
        fn comes_back(
            tokens in proptest::collection::btree_map(any::<Vec<u8>>(), any::<(Option<u32>, Option<u32>)>(), 0..20),
            ham: u32,
            spam: u32,
        ) {
            let tokens = tokens.into_iter().map(|(token, (ham, spam))| (token, Listed { ham, spam }));
            let lists = Lists {
                files: Vec::new(),
                trained: TrainedMessages { ham, spam },
                tokens: tokens.collect(),
            };
            let text = lists.to_text();
            let back = read(&text).unwrap();
            prop_assert_eq!(back.trained, lists.trained);
            prop_assert_eq!(back.to_text(), text);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            drop(read(&[FIRST_LINE, &bytes].concat()));
            drop(read(&bytes));
        }
    }

    #[test]
    fn reads_as_people_do() {
        let text = b"postern-counts 1\nmessages 2 1\ntoken 3 - 5 lunch\n";
        let lists = read(text).unwrap();
        assert_eq!(lists.trained(), TrainedMessages { ham: 2, spam: 1 });
        assert_eq!(lists.to_text(), text);
        assert!(read(b"postern-counts 1\nmessages 2 1\ntoken 3 - 9 lunch\n").is_err());
    }
}
