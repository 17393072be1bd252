//! Lines that count for nothing, in header section and body alike.

use memchr::memchr;

/// Where the first line that is not skipped begins, from the line at `at` on,
/// which begins with at least `first_word` letters and digits.
pub(super) fn skip_lines(text: &[u8], mut at: usize, mut first_word: usize) -> usize {
    while let Some(len) = skipped_line(&text[at..], first_word) {
        at += len;
        first_word = 0;
    }
    at
}

/// Where the line that holds `at` ends.
pub(super) fn skip_line(text: &[u8], at: usize) -> usize {
    let line = at + line_len(&text[at..]);
    skip_lines(text, line, 0)
}

/// Length of the line that `rest` begins with, its LF included.
fn line_len(rest: &[u8]) -> usize {
    memchr(b'\n', rest).map_or(rest.len(), |n| n + 1)
}

/// Whether a look at two bytes leaves it open that the line at `line`, which
/// begins with at least `first_word` letters and digits, is skipped.
#[inline(always)]
pub(super) fn may_be_skipped(text: &[u8], line: usize, first_word: usize) -> bool {
    let kind = |at| text.get(at).map_or(0, |b: &u8| LINE[usize::from(*b)]);
    let (first, next) = (kind(line), kind(line + first_word));
    // A plain line may end with the text.
    if next & PLAIN != 0 || line + first_word == text.len() {
        return true;
    }
    // Most that begin so have another second letter.
    first & NAMED != 0
        && text
            .get(line + 1)
            .is_some_and(|b| LINE[usize::from(*b)] & NAMED2 != 0)
}

/// Begins a line that may be skipped for its name.
const NAMED: u8 = 1;

/// The same of its second byte.
const NAMED2: u8 = 4;

/// Is found in lines of base64, or of one plain word, or of nothing.
const PLAIN: u8 = 2;

/// Which of these a byte is.
static LINE: [u8; 256] = {
    let mut line = [0; 256];
    let mut b: usize = 0;
    while b < 256 {
        if matches!(
            b as u8,
            b'D' | b'd' | b'M' | b'm' | b'X' | b'x' | b'S' | b'\t' | b'-'
        ) {
            line[b] |= NAMED;
        }
        if matches!(b as u8, b'A' | b'a' | b'E' | b'e' | b'-' | b'P' | b'i') {
            line[b] |= NAMED2;
        }
        if is_plain(b as u8) || b as u8 == b'\n' {
            line[b] |= PLAIN;
        }
        b += 1;
    }
    line
};

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

const fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+' | b'\r')
}
