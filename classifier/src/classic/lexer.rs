//! bmf's idea of a word: the lexer of the classic engine.
//!
//! Works on the raw bytes of one message, header section and body alike. It
//! decodes nothing, and knows of MIME only the lines that it skips. Bytes above
//! 127 are never part of a word.
//!
//! The rules were found by asking Debian's bmf 0.9.4, and the differential
//! tests in the `tests` package ask it again.

use memchr::memchr;

use super::html;
use crate::Token;

/// Iterates over the words of one message, in order, in their original case.
///
/// Cost: linear in the length of `text`, no allocation.
///
/// ```
/// use classifier::classic::Lexer;
///
/// let words: Vec<_> = Lexer::new(b"Subject: Cheap <b>watches</b> at $9.99!\n").collect();
/// assert_eq!(words, [b"Subject".as_slice(), b"Cheap", b"watches", b"$9.99"]);
/// ```
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    at_line_start: bool,
}

impl<'a> Lexer<'a> {
    /// Words of `text`, which begins at the start of a line.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            at_line_start: true,
        }
    }

    /// Moves behind the next LF.
    fn skip_line(&mut self) {
        self.at = match memchr(b'\n', &self.text[self.at..]) {
            Some(n) => self.at + n + 1,
            None => self.text.len(),
        };
        self.at_line_start = true;
    }

    /// The word that begins here, which is a letter or `$`; `None` when it
    /// does not count. Moves behind it either way.
    fn word(&mut self) -> Option<&'a [u8]> {
        let rest = &self.text[self.at..];
        // Each mark is longer than the word that it begins with.
        match rest[0] {
            b'S' if rest.starts_with(b"SMTP id ") => {
                self.skip_line();
                return None;
            }
            b'b' if rest.starts_with(b"boundary=") => {
                self.skip_line();
                return None;
            }
            // `name="` needs no such line, since `name` is an HTML name.
            b'f' if rest.starts_with(b"filename=\"") => {
                self.at += b"filename=\"".len();
                return None;
            }
            _ => {}
        }
        if let Some(name) = html_name(rest) {
            self.at += name.len();
            return None;
        }
        let run = rest
            .iter()
            .position(|b| !CLASS[usize::from(*b)].continues_word())
            .unwrap_or(rest.len());
        self.at += run;
        // Trailing marks are no part of the word; its first byte is none.
        let end = rest[..run]
            .iter()
            .rposition(|b| CLASS[usize::from(*b)].ends_word())?
            + 1;
        (3..=Token::MAX_LEN).contains(&end).then_some(&rest[..end])
    }

    /// The IPv4 address that begins here: four groups of one to three digits.
    fn address(&self) -> Option<&'a [u8]> {
        let rest = &self.text[self.at..];
        let mut end = 0;
        for group in 0..4 {
            if group > 0 {
                if rest.get(end) != Some(&b'.') {
                    return None;
                }
                end += 1;
            }
            let digits = rest[end..].iter().take_while(|b| b.is_ascii_digit());
            match digits.take(4).count() {
                n @ 1..=3 => end += n,
                _ => return None,
            }
        }
        Some(&rest[..end])
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if self.at_line_start && is_skipped_line(&self.text[self.at..]) {
                if self.at == self.text.len() {
                    return None;
                }
                self.skip_line();
                continue;
            }
            self.at_line_start = false;
            let blank = self.text[self.at..]
                .iter()
                .position(|b| CLASS[usize::from(*b)] != Class::Other)?;
            self.at += blank;
            match CLASS[usize::from(self.text[self.at])] {
                Class::Letter | Class::Dollar => {
                    if let Some(word) = self.word() {
                        return Some(word);
                    }
                }
                Class::Digit => match self.address() {
                    Some(address) => {
                        self.at += address.len();
                        return Some(address);
                    }
                    None => self.at += 1,
                },
                Class::LineFeed => {
                    self.at += 1;
                    self.at_line_start = true;
                }
                Class::Mark | Class::Other => self.at += 1,
            }
        }
    }
}

/// The HTML name that `rest` begins with, unless a longer word does.
fn html_name(rest: &[u8]) -> Option<&[u8]> {
    let len = match rest.strip_prefix(b"http-equiv") {
        Some(_) => b"http-equiv".len(),
        None => rest.iter().position(|b| !b.is_ascii_lowercase())?,
    };
    // bmf compat: at the very end of the input a name is a word, and two marks
    // in a row, which a word may hold elsewhere, do not continue a name.
    let ends_word = |b: &u8| CLASS[usize::from(*b)].ends_word();
    let (next, after) = (rest.get(len)?, rest.get(len + 1));
    let continued =
        ends_word(next) || CLASS[usize::from(*next)] == Class::Mark && after.is_some_and(ends_word);
    let name = &rest[..len];
    // bmf compat: before a byte above `z` these three count.
    let counts = *next > b'z' && matches!(name, b"head" | b"href" | b"select");
    (!continued && !counts && html::is_html_name(name)).then_some(name)
}

/// Whether the line that begins here counts for nothing.
fn is_skipped_line(rest: &[u8]) -> bool {
    let Some(first) = rest.first() else {
        return true;
    };
    let named = match first {
        b'D' | b'd' => begins_field(rest, b"date:") || begins_field(rest, b"delivery-date:"),
        b'M' | b'm' => begins_field(rest, b"message-id:"),
        b'X' | b'x' => begins_field(rest, b"x-sorted:") || begins_field(rest, b"x-spam-"),
        b'S' => rest.starts_with(b"SPAM:"),
        b'\t' => return rest.starts_with(b"\tid "),
        b'-' => return is_boundary_line(rest),
        _ => false,
    };
    // Else a line of base64, or of one plain word, or of nothing.
    named
        || rest
            .iter()
            .find(|b| !is_plain(**b))
            .is_none_or(|b| *b == b'\n')
}

/// Whether `rest` begins with `name`, in any case, and something follows.
fn begins_field(rest: &[u8], name: &[u8]) -> bool {
    rest.len() > name.len() && rest[..name.len()].eq_ignore_ascii_case(name)
}

/// A MIME boundary. With CRLF at its end it is not taken for one.
fn is_boundary_line(rest: &[u8]) -> bool {
    rest.starts_with(b"--")
        && rest
            .iter()
            .find(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
            .is_none_or(|b| *b == b'\n')
}

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+' | b'\r')
}

/// What a byte can be to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Begins, continues and ends a word.
    Letter,
    /// `$`, likewise.
    Dollar,
    /// Continues and ends a word, and begins an address.
    Digit,
    /// Continues a word.
    Mark,
    LineFeed,
    Other,
}

impl Class {
    fn continues_word(self) -> bool {
        !matches!(self, Self::LineFeed | Self::Other)
    }

    fn ends_word(self) -> bool {
        matches!(self, Self::Letter | Self::Dollar | Self::Digit)
    }
}

static CLASS: [Class; 256] = {
    let mut table = [Class::Other; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'A'..=b'Z' | b'a'..=b'z' => Class::Letter,
            b'$' => Class::Dollar,
            b'0'..=b'9' => Class::Digit,
            b'\'' | b'.' | b'-' => Class::Mark,
            b'\n' => Class::LineFeed,
            _ => Class::Other,
        };
        b += 1;
    }
    table
};
