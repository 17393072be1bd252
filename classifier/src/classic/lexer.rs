//! bmf's idea of a word: the lexer of the classic engine.
//!
//! Works on the raw bytes of one message, header section and body alike. It
//! decodes nothing, and knows of MIME only the lines that it skips. Bytes above
//! 127 are never part of a word.
//!
//! The rules were found by asking Debian's bmf 0.9.4, and the differential
//! tests in the `tests` package ask it again.

use memchr::memchr;

use super::classes::Classes;
use super::html;
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
    /// Up to where words were found.
    at: usize,
    /// Words that were found together, so that what the search needs stays in
    /// registers from one to the next.
    found: [Found; MAX_FOUND],
    n_found: usize,
    /// How many of these were given out.
    n_given: usize,
}

/// A word that counts: `text[at..at + len]`.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    at: usize,
    len: usize,
}

/// Words that are found at once, at most.
const MAX_FOUND: usize = 48;

/// Words that can begin in one block of 64 bytes: each takes at least three
/// and is followed by one that is no part of it.
const MAX_IN_BLOCK: usize = 16;

impl<'a> Iterator for Lexer<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let Found { at, len } = self.next_found()?;
        Some(&self.text[at..at + len])
    }
}

impl<'a> Lexer<'a> {
    /// Words of `text`, which begins at the start of a line.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: skip_lines(text, 0, 0),
            found: [Found::default(); MAX_FOUND],
            n_found: 0,
            n_given: 0,
        }
    }

    /// The next word as a token.
    #[inline]
    pub(super) fn next_token(&mut self) -> Option<Token> {
        let Found { at, len } = self.next_found()?;
        Some(Token::of_word(&self.text[at..], len))
    }

    #[inline]
    fn next_found(&mut self) -> Option<Found> {
        if self.n_given == self.n_found {
            self.find();
        }
        let found = *self.found[..self.n_found].get(self.n_given)?;
        self.n_given += 1;
        Some(found)
    }

    /// Finds the next words. There are no more if none is found.
    #[inline(never)]
    fn find(&mut self) {
        self.n_given = 0;
        self.n_found = 0;
        while self.at < self.text.len() && self.n_found + MAX_IN_BLOCK < MAX_FOUND {
            self.find_in_block();
        }
    }

    /// Finds the words that begin in the next 64 bytes, or at least those
    /// that also end there. Moves behind what it has seen.
    #[inline(always)]
    fn find_in_block(&mut self) {
        let (text, base) = (self.text, self.at);
        let classes = Classes::at(text, base);
        let starts = classes.alnum | classes.line_feed;
        let mut from = 0;
        while from < 64 && starts >> from != 0 {
            from += (starts >> from).trailing_zeros() as usize;
            let at = base + from;
            let ahead = classes.alnum >> from;
            if ahead & 1 == 0 {
                let first_word = (ahead >> 1).trailing_ones() as usize;
                from = skip_lines(text, at + 1, first_word) - base;
                continue;
            }
            let is_digit = classes.digit >> from & 1 != 0;
            let run = match is_digit {
                true => classes.digit >> from,
                false => classes.word >> from,
            };
            let run = run.trailing_ones() as usize;
            if run == 64 - from {
                // What the end of the block cuts is looked at from its start.
                if from == 0 {
                    from = self.long_run(is_digit);
                }
                self.at = base + from;
                return;
            }
            if is_digit {
                from += match text.get(at + run) {
                    Some(b'.') => self.address(at, run),
                    _ => run,
                };
                continue;
            }
            // Each of these marks is longer than the word that it begins with.
            if run == 4 && text[at..].starts_with(b"SMTP id ")
                || run == 8 && text[at..].starts_with(b"boundary=")
            {
                from = skip_line(text, at) - base;
                continue;
            }
            // `name="` needs no such line, since `name` is an HTML name.
            if run == 8 && text[at..].starts_with(b"filename=\"") {
                from += b"filename=\"".len();
                continue;
            }
            let first = ahead.trailing_ones() as usize;
            if let Some(len) = html_name(&text[at..], first, run) {
                from += len;
                continue;
            }
            let len = match first == run {
                true => run,
                // Trailing marks are no part of the word.
                false => 64 - (ahead & ((1 << run) - 1)).leading_zeros() as usize,
            };
            self.push(at, len);
            from += run;
        }
        self.at = base + from.max(64);
    }

    /// Notes a word if it counts.
    #[inline(always)]
    fn push(&mut self, at: usize, len: usize) {
        // Written in any case, which no branch must foresee.
        self.found[self.n_found] = Found { at, len };
        self.n_found += usize::from(counts(len));
    }

    /// The digits, or else the word, of at least 64 bytes that begin here.
    /// Returns how much of them was seen.
    #[cold]
    fn long_run(&mut self, is_digit: bool) -> usize {
        let rest = &self.text[self.at..];
        if is_digit {
            // Of a longer group bmf takes the end.
            return 64 - 3;
        }
        let run = rest.iter().take_while(|b| continues_word(**b)).count();
        let first = rest.iter().take_while(|b| ends_word(**b)).count();
        if let Some(len) = html_name(rest, first, run) {
            return len;
        }
        let marks = rest[..run].iter().rev().take_while(|b| !ends_word(**b));
        self.push(self.at, run - marks.count());
        run
    }

    /// The IPv4 address that begins at `at`, with `first` digits and a dot:
    /// four groups of one to three digits. Returns the length of the address,
    /// or how far away the next one may begin.
    fn address(&mut self, at: usize, first: usize) -> usize {
        let digits = |from: &[u8]| from.iter().take_while(|b| b.is_ascii_digit()).count();
        // Of a longer group bmf takes the end.
        let skipped = first.saturating_sub(3);
        let rest = &self.text[at + skipped..];
        let mut end = first - skipped;
        for _ in 0..3 {
            let group = match rest.get(end) {
                Some(b'.') => digits(&rest[end + 1..]),
                _ => 0,
            };
            if !(1..=3).contains(&group) {
                return first;
            }
            end += 1 + group;
        }
        self.push(at + skipped, end);
        skipped + end
    }
}

/// Whether a word of `len` bytes counts.
fn counts(len: usize) -> bool {
    (3..=Token::MAX_LEN).contains(&len)
}

/// Length of the HTML name that `rest` begins with, unless a longer word does.
/// `rest` begins with `first` letters or digits, and a word of `run` bytes.
#[inline(always)]
fn html_name(rest: &[u8], first: usize, run: usize) -> Option<usize> {
    let len = match first == 4 && run >= 10 && rest.starts_with(b"http-equiv") {
        true => 10,
        false => first,
    };
    if html::begins_with_name(rest, len) && is_whole_name(rest, len) {
        return Some(len);
    }
    None
}

/// Whether the name of `len` bytes that `rest` begins with is skipped.
fn is_whole_name(rest: &[u8], len: usize) -> bool {
    // bmf compat: at the very end of the input a name is a word, and two marks
    // in a row, which a word may hold elsewhere, do not continue a name.
    let Some(&next) = rest.get(len) else {
        return false;
    };
    let continued =
        ends_word(next) || continues_word(next) && rest.get(len + 1).is_some_and(|b| ends_word(*b));
    // bmf compat: before a byte above `z` these three count.
    let counts = next > b'z' && matches!(&rest[..len], b"head" | b"href" | b"select");
    !continued && !counts
}

/// Where the first line that is not skipped begins, from the line at `at` on,
/// which begins with at least `first_word` letters and digits.
fn skip_lines(text: &[u8], mut at: usize, mut first_word: usize) -> usize {
    while let Some(len) = skipped_line(&text[at..], first_word) {
        at += len;
        first_word = 0;
    }
    at
}

/// Where the line that holds `at` ends.
fn skip_line(text: &[u8], at: usize) -> usize {
    let line = at + line_len(&text[at..]);
    skip_lines(text, line, 0)
}

/// Length of the line that `rest` begins with, its LF included.
fn line_len(rest: &[u8]) -> usize {
    memchr(b'\n', rest).map_or(rest.len(), |n| n + 1)
}

/// Length of the line that `rest` begins with, if it counts for nothing.
fn skipped_line(rest: &[u8], first_word: usize) -> Option<usize> {
    let named = match *rest.first()? {
        b'\n' => return Some(1),
        b'D' | b'd' => begins_field(rest, b"date:") || begins_field(rest, b"delivery-date:"),
        b'M' | b'm' => begins_field(rest, b"message-id:"),
        b'X' | b'x' => begins_field(rest, b"x-sorted:") || begins_field(rest, b"x-spam-"),
        b'S' => rest.starts_with(b"SPAM:"),
        b'\t' => rest.starts_with(b"\tid "),
        b'-' => is_boundary_line(rest),
        _ => false,
    };
    if named {
        return Some(line_len(rest));
    }
    // Most lines begin with a word that shows that they are not plain.
    match rest.get(first_word) {
        Some(b) if !is_plain(*b) && *b != b'\n' => None,
        _ => plain_line(rest),
    }
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

/// Length of the line of base64, or of one plain word, or of nothing, that
/// `rest` begins with.
fn plain_line(rest: &[u8]) -> Option<usize> {
    // Without a branch for each byte, which the compiler makes one of SSE2.
    let (blocks, _) = rest.as_chunks::<16>();
    let is_plain_block = |block: &&[u8; 16]| block.iter().fold(true, |all, b| all & is_plain(*b));
    let whole = 16 * blocks.iter().take_while(is_plain_block).count();
    let plain = rest[whole..].iter().take_while(|b| is_plain(**b)).count();
    match rest.get(whole + plain) {
        None => Some(rest.len()),
        Some(b'\n') => Some(whole + plain + 1),
        Some(_) => None,
    }
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
