//! bmf's idea of a word: the lexer of the classic engine.
//!
//! Works on the raw bytes of one message, header section and body alike. It
//! decodes nothing, and knows of MIME only the lines that it skips. Bytes above
//! 127 are never part of a word.
//!
//! The rules were found by asking Debian's bmf 0.9.4, and the differential
//! tests in the `tests` package ask it again.

#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected;

use super::classes::Classes;
use super::html;
use super::lines::{may_be_skipped, skip_line, skip_lines};
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
    #[allow(unsafe_code)]
    fn find(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("avx2")
        {
            // SAFETY: the processor has all that is asked for.
            return unsafe { self.find_by_bmi() };
        }
        self.find_by_blocks();
    }

    /// The same for processors that count and clear bits by one instruction,
    /// which is all of x86-64 since 2015: a fifth less time.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    fn find_by_bmi(&mut self) {
        self.find_by_blocks();
    }

    #[inline(always)]
    fn find_by_blocks(&mut self) {
        self.n_given = 0;
        self.n_found = 0;
        while self.at < self.text.len() && self.n_found + MAX_IN_BLOCK < MAX_FOUND {
            self.find_in_block();
        }
    }

    /// Finds the words of the next 64 bytes, up to the first line that is
    /// skipped, or to a word that the end of the block cuts, which is looked
    /// at from its start. Moves behind what it has seen.
    #[inline(always)]
    fn find_in_block(&mut self) {
        let (text, base) = (self.text, self.at);
        let classes = Classes::at(text, base);
        let cut = classes.word.leading_ones();
        if cut == 64 {
            self.at += self.long_run(&classes);
            return;
        }
        self.at += 64 - cut as usize;
        let mut seen = u64::MAX >> cut;
        let mut line_feeds = classes.line_feed;
        while line_feeds != 0 {
            let line_feed = line_feeds.trailing_zeros() as usize;
            let line = base + line_feed + 1;
            let first_word = (classes.alnum >> line_feed >> 1).trailing_ones() as usize;
            if may_be_skipped(text, line, first_word) {
                let next = skip_lines(text, line, first_word);
                if next > line {
                    self.at = next;
                    seen = below(line_feed);
                    break;
                }
            }
            line_feeds &= line_feeds - 1;
        }
        self.find_in_runs(base, &classes, classes.word & seen);
    }

    /// Finds the words in `runs` of bytes that can continue a word. A word
    /// begins at the first letter or `$` of a run and ends with the last
    /// letter, digit or `$`.
    #[inline(always)]
    fn find_in_runs(&mut self, base: usize, classes: &Classes, mut runs: u64) {
        let text = self.text;
        let letters = classes.alnum & !classes.digit;
        let before_marks = (classes.word ^ classes.alnum) >> 1;
        while runs != 0 {
            // The carry of this sum goes through the first run.
            let others = runs.wrapping_add(runs & runs.wrapping_neg());
            let run = runs & !others;
            runs &= others;
            let letters = run & letters;
            // All of the run if there is none.
            let lead = run & (letters & letters.wrapping_neg()).wrapping_sub(1) & classes.digit;
            if lead & before_marks != 0 {
                self.find_addresses(base, classes.digit, lead);
            }
            if letters == 0 {
                continue;
            }
            let from = letters.trailing_zeros() as usize;
            let at = base + from;
            let first = (classes.alnum >> from).trailing_ones() as usize;
            if html::begins_with_name(&text[at..], first) {
                let len = others.trailing_zeros() as usize - from;
                match special(&text[at..], first, len) {
                    Special::No => {}
                    Special::Skip(n) => {
                        runs |= run & !below(from + n);
                        continue;
                    }
                    Special::SkipLine => {
                        self.at = skip_line(text, at);
                        return;
                    }
                }
            }
            let end = 64 - (run & classes.alnum).leading_zeros() as usize;
            self.push(at, end - from);
        }
    }

    /// Finds the addresses that begin with one of the digits `lead`.
    #[cold]
    fn find_addresses(&mut self, base: usize, digits: u64, mut lead: u64) {
        while lead != 0 {
            let from = lead.trailing_zeros() as usize;
            let group = (digits >> from).trailing_ones() as usize;
            let len = match self.text.get(base + from + group) {
                Some(b'.') => self.address(base + from, group),
                _ => group,
            };
            lead &= !below(from + len);
        }
    }

    /// Notes a word if it counts.
    #[inline(always)]
    fn push(&mut self, at: usize, len: usize) {
        // Written in any case, which no branch must foresee.
        self.found[self.n_found] = Found { at, len };
        self.n_found += usize::from(counts(len));
    }

    /// What begins the run of at least 64 bytes here: marks, digits, or a
    /// word. Returns how much of the run was seen.
    #[cold]
    fn long_run(&mut self, classes: &Classes) -> usize {
        let rest = &self.text[self.at..];
        if classes.alnum & 1 == 0 {
            return classes.alnum.trailing_zeros() as usize;
        }
        let digits = classes.digit.trailing_ones() as usize;
        if digits > 0 {
            return match rest.get(digits) {
                // Of a longer group bmf takes the end.
                _ if digits == 64 => 64 - 3,
                Some(b'.') => self.address(self.at, digits),
                _ => digits,
            };
        }
        let run = rest.iter().take_while(|b| continues_word(**b)).count();
        let first = rest.iter().take_while(|b| ends_word(**b)).count();
        if let Special::Skip(len) = special(rest, first, run) {
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

/// The first `n` bits.
fn below(n: usize) -> u64 {
    match n {
        0..64 => (1 << n) - 1,
        _ => u64::MAX,
    }
}

/// What else than a word may begin as a word.
enum Special {
    /// It is a word.
    No,
    /// So many bytes are no word.
    Skip(usize),
    /// What is left of the line is skipped.
    SkipLine,
}

/// What `rest` begins with, whose first `first` bytes are letters or digits,
/// and the first `run` continue a word.
#[inline(never)]
fn special(rest: &[u8], first: usize, run: usize) -> Special {
    if run == 4 && rest.starts_with(b"SMTP id ") || run == 8 && rest.starts_with(b"boundary=") {
        return Special::SkipLine;
    }
    // `name="` needs no such line, since `name` is an HTML name.
    if run == 8 && rest.starts_with(b"filename=\"") {
        return Special::Skip(b"filename".len());
    }
    let len = match first == 4 && rest.starts_with(b"http-equiv") {
        true => 10,
        false => first,
    };
    match html::is_name(&rest[..len]) && is_whole_name(rest, len) {
        true => Special::Skip(len),
        false => Special::No,
    }
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

    /// Texts of what the lexer looks at.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            8 => proptest::collection::vec(
                prop_oneof![
                    5 => proptest::sample::select(b"abzAZ019$'.-\n \t\r/+=<\"".to_vec()),
                    1 => any::<u8>(),
                ],
                0..90,
            ),
            1 => proptest::sample::select(SPECIAL.to_vec()).prop_map(|s| s.as_bytes().to_vec()),
        ];
        proptest::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
    }

    const SPECIAL: [&str; 16] = [
        "SMTP id ",
        "boundary=",
        "filename=\"",
        "http-equiv",
        " body",
        " head",
        "\nDate: ",
        "\nX-Spam-",
        "\n\tid ",
        "\n--",
        " 1.2.3.4",
        " 1234.5.6.78x",
        "\nSPAM:",
        "-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.'-.",
        "1111111111111111111111111111111111111111111111111111111111111111111.2",
        "\nabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstu/\n",
    ];

    proptest! {
        /// Whatever is cut by the end of a block is found all the same.
        #[test]
        fn borders_of_blocks_do_not_matter(text in text()) {
            let behind = |n| [&b"?".repeat(n)[..], b"\n", &text].concat();
            let expected = behind(1);
            for n in 2..66 {
                let text = behind(n);
                prop_assert_eq!(words(&text), words(&expected));
            }
        }

        #[test]
        fn words_are_words_in_order(text in text()) {
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
