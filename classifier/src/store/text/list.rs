//! One list in bmf's text format, in memory.
//!
//! ```text
//! # bogofilter wordlist (format version A): 2
//! lunch 1
//! watches 4
//! ```
//!
//! The first line ends in the number of messages. Then one line for each
//! token: the token (1 to 20 bytes, lower case), a blank, its count; sorted by
//! bytes, each token once. Lines that are empty or begin with `#` or `;` are
//! comments. A file of no bytes is a list of no messages.
//!
//! bmf writes lists like this and takes more: letters in either case, numbers
//! as `strtoul` reads them, CRLF. It sorts nothing, so that a list that is out
//! of order makes it count wrongly. Here such a list is put in order when it
//! is read, and the same token in two lines is counted together, since two
//! lines are what bmf's wrong counting leaves behind.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::io::Write as _;

use super::normal;
use crate::{Adjustment, Token};

/// What the first line begins with. "bogofilter" is bmf's own word.
const HEADER: &str = "# bogofilter wordlist (format version A):";

/// The token lines in normal form (see the module's documentation), and the
/// number of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) messages: u32,
    /// The file, or only its token lines.
    text: Vec<u8>,
    /// Where the token lines begin in `text`.
    body: usize,
}

impl List {
    /// Reads a whole file. A list in normal form is checked in one pass and
    /// kept as it is; any other is rewritten in memory.
    ///
    /// # Errors
    /// What is wrong with it, where bmf refuses it too: an unknown first line,
    /// a line without a count, a token that is too long, a last line that was
    /// cut short.
    pub(crate) fn parse(text: Vec<u8>) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (messages, body) = parse_header(&text)?;
        if normal::each_line(&text[body..], |_, _| ()) {
            return Ok(Self {
                messages,
                text,
                body,
            });
        }
        let mut lines = parse_lines(&text[body..])?;
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        lines.dedup_by(|(later, n), (earlier, sum)| {
            let equal = later == earlier;
            if equal {
                *sum = sum.saturating_add(*n);
            }
            equal
        });
        let sorted = lines.iter().map(|(token, count)| (&token[..], *count));
        Self::from_sorted(messages, sorted)
    }

    /// A list of tokens that are in lower case and in ascending order, each
    /// of them once.
    ///
    /// # Errors
    /// When a token cannot stand in a list.
    pub(crate) fn from_sorted<'a>(
        messages: u32,
        lines: impl Iterator<Item = (&'a [u8], u32)>,
    ) -> Result<Self, String> {
        let mut text = Vec::new();
        for (token, count) in lines {
            check_token(token)?;
            push_line(&mut text, token, count);
        }
        Ok(Self {
            messages,
            text,
            body: 0,
        })
    }

    /// The count of `token`, which is in lower case.
    pub(crate) fn count(&self, token: &[u8]) -> Option<u32> {
        let found = self.find(token, 0).ok()?;
        Some(split(&self.lines()[found.start..found.end])?.1)
    }

    /// Tokens and counts in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let mut lines = self.lines();
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', lines)?;
            let line = split(&lines[..end]);
            lines = &lines[end + 1..];
            line
        })
    }

    /// This list after `changes`, which are in ascending order. Every changed
    /// token is entered, be it with count 0.
    ///
    /// The text between changed tokens is copied as it is, so that the cost is
    /// that of copying plus a binary search for each change.
    pub(crate) fn adjusted(
        &self,
        messages: Adjustment,
        changes: impl Iterator<Item = (Token, Adjustment)>,
    ) -> Self {
        let lines = self.lines();
        let mut text = Vec::with_capacity(lines.len() + 4096);
        let mut copied = 0;
        for (token, adjustment) in changes {
            let token = token.as_bytes();
            let (start, next, count) = match self.find(token, copied) {
                Ok(line) => {
                    let count = split(&lines[line.start..line.end]).map_or(0, |(_, n)| n);
                    (line.start, line.end + 1, count)
                }
                Err(start) => (start, start, 0),
            };
            text.extend_from_slice(&lines[copied..start]);
            push_line(&mut text, token, adjustment.apply(count));
            copied = next;
        }
        text.extend_from_slice(&lines[copied..]);
        Self {
            // bmf compat: the number of messages is not stopped at 0 as the
            // counts are, it wraps, and comes back with the next addition.
            messages: messages
                .constant()
                .unwrap_or_else(|| self.messages.wrapping_add(messages.add as u32)),
            text,
            body: 0,
        }
    }

    /// The list as a file.
    pub(crate) fn write(&self, to: &mut impl std::io::Write) -> std::io::Result<()> {
        writeln!(to, "{HEADER} {}", self.messages)?;
        to.write_all(self.lines())
    }

    fn lines(&self) -> &[u8] {
        &self.text[self.body..]
    }

    /// The line of `token` among those from `from` on, or where it would be
    /// inserted. A binary search over bytes: no index of lines is made.
    fn find(&self, token: &[u8], from: usize) -> Result<std::ops::Range<usize>, usize> {
        let lines = self.lines();
        let (mut low, mut high) = (from, lines.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = memchr::memrchr(b'\n', &lines[low..middle]).map_or(low, |i| low + i + 1);
            let end = memchr::memchr(b'\n', &lines[middle..high]).map_or(high, |i| middle + i);
            match token_of(&lines[start..end]).cmp(token) {
                Ordering::Less => low = (end + 1).min(high),
                Ordering::Greater => high = start,
                Ordering::Equal => return Ok(start..end),
            }
        }
        Err(low)
    }
}

pub(super) fn push_line(text: &mut Vec<u8>, token: &[u8], count: u32) {
    text.extend_from_slice(token);
    writeln!(text, " {count}").expect("a Vec takes all bytes");
}

/// The number of messages, and where the next line begins.
pub(super) fn parse_header(text: &[u8]) -> Result<(u32, usize), String> {
    let end = memchr::memchr(b'\n', text).ok_or("the first line has no end")?;
    text[..end]
        .strip_prefix(HEADER.as_bytes())
        .and_then(strtoul)
        .map(|messages| (messages, end + 1))
        .ok_or_else(|| format!("the first line is not `{HEADER} ` and a number"))
}

/// Lines in any form and order.
pub(super) fn parse_lines(mut text: &[u8]) -> Result<Vec<(Vec<u8>, u32)>, String> {
    let mut lines = Vec::new();
    let mut number = 1;
    while !text.is_empty() {
        number += 1;
        // bmf refuses such a list too, and rightly: 12 may be what a killed
        // process left of 123.
        let end = memchr::memchr(b'\n', text)
            .ok_or_else(|| format!("line {number}, the last one, was cut short"))?;
        let line = &text[..end];
        text = &text[end + 1..];
        if matches!(line.first(), None | Some(b'#' | b';')) {
            continue;
        }
        let (token, count) =
            split(line).ok_or_else(|| format!("line {number} is not a token and a count"))?;
        check_token(token).map_err(|wrong| format!("line {number}: {wrong}"))?;
        lines.push((token.to_ascii_lowercase(), count));
    }
    Ok(lines)
}

fn check_token(token: &[u8]) -> Result<(), String> {
    let wrong = match token {
        [] => "is empty",
        [b'#' | b';', ..] => "begins like a comment",
        _ if token.len() > Token::MAX_LEN => "is longer than 20 bytes",
        _ if token.contains(&b'\n') => "holds a line feed",
        _ => return Ok(()),
    };
    let mut message = String::from("the token");
    if !token.is_empty() {
        // Enough to find it, and no terminal's control codes.
        write!(
            message,
            " `{}`",
            token[..token.len().min(40)].escape_ascii()
        )
        .expect("a String takes all text");
    }
    Err(format!("{message} {wrong}"))
}

/// Token and count: what stands before and after the last blank.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], u32)> {
    let blank = memchr::memrchr(b' ', line)?;
    Some((&line[..blank], strtoul(&line[blank + 1..]).unwrap_or(0)))
}

fn token_of(line: &[u8]) -> &[u8] {
    &line[..memchr::memrchr(b' ', line).unwrap_or(line.len())]
}

/// bmf compat: a number as C's `strtoul` reads it, cut to 32 bits. `None`
/// when it has no digit.
fn strtoul(text: &[u8]) -> Option<u32> {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    digits.first().filter(|c| c.is_ascii_digit())?;
    let number = digits
        .iter()
        .take_while(|c| c.is_ascii_digit())
        .fold(0u64, |n, c| {
            n.saturating_mul(10).saturating_add(u64::from(c - b'0'))
        });
    Some(if negative {
        number.wrapping_neg() as u32
    } else {
        number as u32
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Result<List, String> {
        List::parse(text.as_bytes().to_vec())
    }

    fn text_of(list: &List) -> String {
        let mut text = Vec::new();
        list.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// Reads `lines` after a first line and writes the list again.
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        let list = list(&format!("{HEADER} 7\n{lines}")).unwrap();
        assert_eq!(text_of(&list), format!("{HEADER} 7\n{expected}"));
        let again = List::parse(text_of(&list).into_bytes()).unwrap();
        assert_eq!(again.lines(), list.lines());
    }

    #[test]
    fn reads_what_bmf_reads() {
        check("", "");
        check("bar 1\nfoo 3\n", "bar 1\nfoo 3\n");
        check("foo 3\r\n", "foo 3\n");
        check("FOO 3\nZebra 9\n", "foo 3\nzebra 9\n");
        check("\n; c\n#x 3\nfoo 3\n\n", "foo 3\n");
        check(
            "foo x\nfop 3x\nfoq 0x10\nfor \n",
            "foo 0\nfop 3\nfoq 0\nfor 0\n",
        );
        check("foo -3\nfop +05\n", "foo 4294967293\nfop 5\n");
        check(
            "foo 4294967296\nfop 99999999999999999999\n",
            "foo 0\nfop 4294967295\n",
        );
        check("foo 1 2\nfoo\t\t 3\n", "foo\t\t 3\nfoo 1 2\n");
        check("aaaaaaaaaaaaaaaaaaaa 3\n", "aaaaaaaaaaaaaaaaaaaa 3\n");
    }

    #[test]
    fn puts_lines_in_order_and_counts_equal_tokens_together() {
        check("foo 3\nbar 1\nfoo 9\n", "bar 1\nfoo 12\n");
        check("foo 4294967295\nfoo 1\n", "foo 4294967295\n");
    }

    #[test]
    fn refuses_what_bmf_refuses() {
        let refused = [
            ("x", "the first line has no end"),
            ("foo 3\n", "the first line is not"),
            (
                "# bogofilter wordlist (format version A): \n",
                "the first line is not",
            ),
            (
                "# bogofilter wordlist (format version B): 7\n",
                "the first line is not",
            ),
            (
                "# bogofilter wordlist (format version A): 7",
                "the first line has no end",
            ),
        ];
        for (text, message) in refused {
            let error = list(text).unwrap_err();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
        let refused = [
            ("foo 1\nbar", "line 3, the last one, was cut short"),
            ("foo 1\nbar 1", "line 3, the last one, was cut short"),
            ("foo\n", "line 2 is not a token and a count"),
            ("foo\t3\n", "line 2 is not a token and a count"),
            (" 3\n", "line 2: the token is empty"),
            (
                "aaaaaaaaaaaaaaaaaaaaa 3\n",
                "line 2: the token `aaaaaaaaaaaaaaaaaaaaa` is longer than 20 bytes",
            ),
        ];
        for (lines, message) in refused {
            assert_eq!(list(&format!("{HEADER} 7\n{lines}")).unwrap_err(), message);
        }
    }

    #[test]
    fn a_file_of_no_bytes_is_an_empty_list() {
        assert_eq!(list("").unwrap(), List::default());
        assert_eq!(text_of(&List::default()), format!("{HEADER} 0\n"));
    }

    #[test]
    fn number_of_messages_wraps_as_in_bmf() {
        let list = List::default().adjusted(Adjustment::minus(1), std::iter::empty());
        assert_eq!(list.messages, u32::MAX);
        let list = list.adjusted(Adjustment::plus(2), std::iter::empty());
        assert_eq!(list.messages, 1);
    }

    fn lines() -> impl Strategy<Value = BTreeMap<Vec<u8>, u32>> {
        let token = proptest::collection::vec(0x20u8..0x7f, 1..=20)
            .prop_map(|t| t.to_ascii_lowercase())
            .prop_filter("no comments", |t| !matches!(t[0], b'#' | b';'));
        proptest::collection::btree_map(token, any::<u32>(), 0..60)
    }

    proptest! {
        #[test]
        fn never_panics(text: Vec<u8>, lines: Vec<u8>) {
            let _ = List::parse(text);
            let _ = List::parse([format!("{HEADER} 1\n").as_bytes(), &lines].concat());
        }

        #[test]
        fn written_and_read_again_is_the_same(messages: u32, lines in lines()) {
            let sorted = lines.iter().map(|(token, count)| (&token[..], *count));
            let list = List::from_sorted(messages, sorted).unwrap();
            let mut text = Vec::new();
            list.write(&mut text).unwrap();
            let again = List::parse(text).unwrap();
            prop_assert_eq!(again.messages, messages);
            prop_assert_eq!(again.lines(), list.lines());
            for (token, count) in &lines {
                prop_assert_eq!(again.count(token), Some(*count));
            }
            prop_assert_eq!(again.count(b"no such token at all"), None);
        }
    }
}
