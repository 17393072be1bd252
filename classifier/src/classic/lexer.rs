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
use super::window::{Classes, Window};
use crate::Token;

/// Iterates over the words of one message, in order, in their original case.
///
/// Cost: linear in the length of the message, no allocation.
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
    window: Window<'a>,
    /// The classes of the bytes from `at` on, of which at least
    /// [`LOOKAHEAD`] are there.
    ahead: Classes,
    n_ahead: usize,
}

/// A word that counts, an HTML name and what must not follow it are shorter.
const LOOKAHEAD: usize = 32;

impl<'a> Iterator for Lexer<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if self.at_line_start {
                self.skip_lines();
            }
            let gap = (self.ahead.alnum | self.ahead.line_feed).trailing_zeros() as usize;
            if gap >= self.n_ahead {
                self.advance(self.n_ahead);
                if self.at >= self.text.len() {
                    return None;
                }
                continue;
            }
            self.advance(gap);
            let found = match self.text[self.at] {
                b'\n' => {
                    self.advance(1);
                    self.at_line_start = true;
                    None
                }
                b'0'..=b'9' => self.address(),
                _ => self.word(),
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

impl<'a> Lexer<'a> {
    /// Words of `text`, which begins at the start of a line.
    pub fn new(text: &'a [u8]) -> Self {
        let mut window = Window::new(text);
        Self {
            text,
            at: 0,
            at_line_start: true,
            ahead: window.from(0),
            n_ahead: 64,
            window,
        }
    }

    #[inline]
    fn advance(&mut self, n: usize) {
        self.at += n;
        if n + LOOKAHEAD <= self.n_ahead {
            self.ahead = self.ahead.behind(n);
            self.n_ahead -= n;
        } else {
            self.ahead = self.window.from(self.at);
            self.n_ahead = 64;
        }
    }

    /// Moves behind the lines that count for nothing.
    fn skip_lines(&mut self) {
        while let rest = &self.text[self.at..]
            && !rest.is_empty()
            && is_skipped_line(rest, self.ahead)
        {
            self.skip_line();
        }
        self.at_line_start = false;
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.advance(memchr(b'\n', rest).map_or(rest.len(), |n| n + 1));
        self.at_line_start = true;
    }

    /// The word that begins here, which is a letter or `$`; `None` when it
    /// does not count. Moves behind it either way.
    fn word(&mut self) -> Option<&'a [u8]> {
        let rest = &self.text[self.at..];
        // Each of these marks is longer than the word that it begins with.
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
                self.advance(b"filename=\"".len());
                return None;
            }
            _ => {}
        }
        if let Some(len) = html_name(rest, self.ahead) {
            self.advance(len);
            return None;
        }
        let run = self.ahead.word.trailing_ones() as usize;
        if run >= self.n_ahead {
            return self.long_word();
        }
        // Trailing marks are no part of the word.
        let in_run = self.ahead.alnum & ((1 << run) - 1);
        let len = 64 - in_run.leading_zeros() as usize;
        self.advance(run);
        counts(len).then(|| &rest[..len])
    }

    /// As [`Lexer::word`], without a bound on what is to be looked at.
    fn long_word(&mut self) -> Option<&'a [u8]> {
        let rest = &self.text[self.at..];
        let run = rest.iter().take_while(|b| continues_word(**b)).count();
        let marks = rest[..run].iter().rev().take_while(|b| !ends_word(**b));
        let len = run - marks.count();
        self.advance(run);
        counts(len).then(|| &rest[..len])
    }

    /// The IPv4 address that begins here, which is a digit: four groups of one
    /// to three digits. Moves behind it, or to where the next one may begin.
    fn address(&mut self) -> Option<&'a [u8]> {
        let rest = &self.text[self.at..];
        let digits = |from: &[u8]| from.iter().take_while(|b| b.is_ascii_digit()).count();
        let first = digits(rest);
        // Of a longer group bmf takes the end.
        let skipped = first.saturating_sub(3);
        let rest = &rest[skipped..];
        let mut end = first - skipped;
        for _ in 0..3 {
            let group = match rest.get(end) {
                Some(b'.') => digits(&rest[end + 1..]),
                _ => 0,
            };
            if !(1..=3).contains(&group) {
                self.advance(first);
                return None;
            }
            end += 1 + group;
        }
        self.advance(skipped + end);
        Some(&rest[..end])
    }
}

/// Whether a word of `len` bytes counts.
fn counts(len: usize) -> bool {
    (3..=Token::MAX_LEN).contains(&len)
}

/// Length of the HTML name that `rest` begins with, unless a longer word does.
fn html_name(rest: &[u8], classes: Classes) -> Option<usize> {
    let len = match rest {
        [
            b'h',
            b't',
            b't',
            b'p',
            b'-',
            b'e',
            b'q',
            b'u',
            b'i',
            b'v',
            ..,
        ] => 10,
        _ => classes.alnum.trailing_ones() as usize,
    };
    if !html::begins_with_name(rest, len) {
        return None;
    }
    // bmf compat: at the very end of the input a name is a word, and two marks
    // in a row, which a word may hold elsewhere, do not continue a name.
    let next = *rest.get(len)?;
    let continued =
        ends_word(next) || continues_word(next) && rest.get(len + 1).is_some_and(|b| ends_word(*b));
    // bmf compat: before a byte above `z` these three count.
    let counts = next > b'z' && matches!(&rest[..len], b"head" | b"href" | b"select");
    (!continued && !counts).then_some(len)
}

/// Whether the line that `rest` begins with counts for nothing.
fn is_skipped_line(rest: &[u8], classes: Classes) -> bool {
    let named = match rest[0] {
        b'D' | b'd' => begins_field(rest, b"date:") || begins_field(rest, b"delivery-date:"),
        b'M' | b'm' => begins_field(rest, b"message-id:"),
        b'X' | b'x' => begins_field(rest, b"x-sorted:") || begins_field(rest, b"x-spam-"),
        b'S' => rest.starts_with(b"SPAM:"),
        b'\t' => return rest.starts_with(b"\tid "),
        b'-' => return is_boundary_line(rest),
        _ => false,
    };
    // Most lines begin with a word that shows that they are not plain.
    let first_word = classes.alnum.trailing_ones() as usize;
    let may_be_plain = rest
        .get(first_word)
        .is_none_or(|b| is_plain(*b) || *b == b'\n');
    named || may_be_plain && is_plain_line(rest)
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

/// A line of base64, or of one plain word, or of nothing.
fn is_plain_line(rest: &[u8]) -> bool {
    rest.iter()
        .find(|b| !is_plain(**b))
        .is_none_or(|b| *b == b'\n')
}

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+' | b'\r')
}

fn ends_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'$'
}

fn continues_word(b: u8) -> bool {
    ends_word(b) || matches!(b, b'\'' | b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &[u8]) -> Vec<&[u8]> {
        Lexer::new(text).collect()
    }

    /// Words behind a first line, so that each row shows one line's rule.
    fn check(line: &str, expected: &str) {
        let text = format!("\n{line}\n");
        let found: Vec<_> = words(text.as_bytes())
            .into_iter()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        assert_eq!(found.join(" "), expected, "of {line:?}");
    }

    #[test]
    fn letters_digits_and_marks_make_words() {
        check("a ab abc $a $aa $$$ $-$", "abc $aa $$$ $-$");
        check(
            "aaaaaaaaaaaaaaaaaaaa baaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaa",
        );
        check("aaaaaaaaaaaaaaaaaaaa-- x", "aaaaaaaaaaaaaaaaaaaa");
        check(
            "it's don't' a.b.c. foo.-bar -baz",
            "it's don't a.b.c foo.-bar baz",
        );
        check(
            "9foo foo_bar foo@bar.com caf\u{e9}s",
            "foo foo bar foo bar.com caf",
        );
    }

    #[test]
    fn a_word_may_be_followed_by_any_number_of_marks() {
        let text = format!("abc{} {}xyz", "-".repeat(200), ".".repeat(200));
        assert_eq!(words(text.as_bytes()), [b"abc", b"xyz"]);
        let text = format!(" abc{}d efg", "-".repeat(200));
        assert_eq!(words(text.as_bytes()), [b"efg"]);
    }

    #[test]
    fn addresses() {
        check(
            "1.2.3.4 x1.2.3.4 1.2.3.4abc",
            "1.2.3.4 x1.2.3.4 1.2.3.4 abc",
        );
        check("1234.1.2.3 1.2.3.4567 1.2.3.4.5", "234.1.2.3 1.2.3.4");
        check("1.2.3 1..2.3.4 999.999.999.999.", "999.999.999.999");
    }

    #[test]
    fn html_names() {
        check("<body> Body body. bodyx body.com", "Body bodyx body.com");
        check("body-x body--xyz body$", "body-x xyz body$");
        check("http-equiv http-equivx http-equi", "http-equivx http-equi");
        check("head href select head} href\u{e9} select-", "head href");
        assert_eq!(words(b"foo body"), [b"foo".as_slice(), b"body"]);
        assert_eq!(words(b"foo body\n"), [b"foo"]);
    }

    #[test]
    fn marks_that_skip() {
        check("foo SMTP id bar", "foo");
        check("foo SMTPS id smtp id bar", "foo SMTPS smtp bar");
        check("foo; boundary=bar", "foo");
        check("foo; xboundary=bar Boundary=", "foo xboundary bar Boundary");
        check(
            "name=\"foo\" filename=\"bar.txt\" filename=x",
            "foo bar.txt filename",
        );
        check("<!--foo--> foo-->bar", "foo foo bar");
    }

    #[test]
    fn lines_that_are_skipped() {
        for line in [
            "Date: Mon, foo",
            "DELIVERY-date: foo bar",
            "Message-Id: <foo@bar>",
            "X-Sorted: foo bar",
            "X-Spam-Anything foo bar",
            "\tid foo bar",
            "SPAM: foo bar",
            "--foo-bar_=baz",
            "word",
            "Zm9vYmFy/+\r",
            "",
        ] {
            check(line, "");
        }
        check(" Date: foo", "Date foo");
        check("X-Spammer: foo", "X-Spammer foo");
        check("spam: foo", "spam foo");
        check("--foo bar", "foo bar");
        check("--foo\r", "foo");
        check("Zm9vYmFy=", "Zm9vYmFy");
        // At the end of the input the names of fields are words.
        assert_eq!(words(b"\nX-Spam-"), [b"X-Spam"]);
    }

    proptest! {
        #[test]
        fn words_are_words_in_order(
            text in proptest::collection::vec(
                prop_oneof![
                    5 => proptest::sample::select(b"abzAZ019$'.-\n \t\r/+=<\"".to_vec()),
                    1 => any::<u8>(),
                ],
                0..400,
            ),
        ) {
            let mut at = 0;
            for word in words(&text) {
                let start = word.as_ptr() as usize - text.as_ptr() as usize;
                prop_assert!(start >= at);
                at = start + word.len();
                prop_assert!(Token::new(word).is_some());
                prop_assert!(word.len() >= 3 && word.iter().all(|b| continues_word(*b)));
            }
        }
    }
}
