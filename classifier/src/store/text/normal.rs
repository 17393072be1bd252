//! Lines in the form in which lists are written, checked all at once.
//!
//! This is most of what `bmf -t` spends on lists. So it allocates nothing,
//! looks for line ends in 64 bytes at a time, and compares most tokens by
//! their first eight bytes.

use crate::Token;

/// Calls `visit` for each of `lines` with the [`prefix_of`] of its token, up to
/// the first that is not in normal form: a token that is greater than the one
/// before it, a blank, a count, a line feed. Returns whether all are.
///
/// There are lists in normal form that it does not know for such: with counts
/// of more than nine digits, or tokens that hold a NUL.
pub(super) fn each_line<'a>(lines: &'a [u8], mut visit: impl FnMut(u64, &'a [u8])) -> bool {
    let (mut before, mut prefix_before): (&[u8], _) = (b"", 0);
    let mut start = 0;
    let (blocks, rest) = lines.as_chunks();
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    for (n, block) in blocks.iter().chain([&last]).enumerate() {
        let (has_upper_case, mut line_feeds) = classify(block);
        if has_upper_case {
            return false;
        }
        while line_feeds != 0 {
            let end = 64 * n + line_feeds.trailing_zeros() as usize;
            line_feeds &= line_feeds - 1;
            let line = &lines[start..end];
            let token_len = match line {
                // As most are.
                [.., b' ', digit] if digit.is_ascii_digit() => line.len() - 2,
                _ => token_len(line),
            };
            if !(1..=Token::MAX_LEN).contains(&token_len) || matches!(line[0], b'#' | b';') {
                return false;
            }
            let bytes = lines[start..].first_chunk().map(|b| u64::from_be_bytes(*b));
            let behind = u64::MAX.checked_shr(8 * token_len as u32).unwrap_or(0);
            let prefix = bytes.unwrap_or_else(|| prefix_of(line)) & !behind;
            let token = &line[..token_len];
            if prefix <= prefix_before && (prefix < prefix_before || token <= before) {
                return false;
            }
            visit(prefix, line);
            (before, prefix_before) = (token, prefix);
            start = end + 1;
        }
    }
    start == lines.len()
}

/// The first eight bytes of a token, NULs behind a shorter one, so that the
/// order of these numbers is that of the tokens, unless they are equal.
pub(super) fn prefix_of(token: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = token.len().min(8);
    bytes[..len].copy_from_slice(&token[..len]);
    u64::from_be_bytes(bytes)
}

/// Length of the token before a count of two to nine digits; 0 if there are
/// none.
#[cold]
fn token_len(line: &[u8]) -> usize {
    let digits = line.iter().rev().take_while(|c| c.is_ascii_digit()).count();
    match line.len().checked_sub(digits + 1) {
        Some(len) if line[len] == b' ' && (2..=9).contains(&digits) && line[len + 1] != b'0' => len,
        _ => 0,
    }
}

/// Whether there is an upper-case letter, and which bytes are line feeds: bit
/// n stands for the n-th byte.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn classify(block: &[u8; 64]) -> (bool, u64) {
    // SAFETY: every x86-64 processor has SSE2; nothing else is asked for.
    unsafe { sse2::classify(block) }
}

#[cfg(not(target_arch = "x86_64"))]
fn classify(block: &[u8; 64]) -> (bool, u64) {
    portable::classify(block)
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_setzero_si128, _mm_sub_epi8,
    };

    #[target_feature(enable = "sse2")]
    pub(super) fn classify(block: &[u8; 64]) -> (bool, u64) {
        let mut upper_case = _mm_setzero_si128();
        let mut line_feeds = 0;
        let (eights, _) = block.as_chunks::<8>();
        let (sixteens, _) = eights.as_chunks::<2>();
        for (n, [low, high]) in sixteens.iter().enumerate() {
            let x = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
            // Bytes below `A` wrap around.
            let from_a = _mm_sub_epi8(x, _mm_set1_epi8(b'A' as i8));
            let within = _mm_cmpeq_epi8(from_a, _mm_min_epu8(from_a, _mm_set1_epi8(25)));
            upper_case = _mm_or_si128(upper_case, within);
            let is_line_feed = _mm_cmpeq_epi8(x, _mm_set1_epi8(b'\n' as i8));
            line_feeds |= u64::from(_mm_movemask_epi8(is_line_feed) as u16) << (16 * n);
        }
        (_mm_movemask_epi8(upper_case) != 0, line_feeds)
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    pub(super) fn classify(block: &[u8; 64]) -> (bool, u64) {
        let bit = |n: usize| u64::from(block[n] == b'\n') << n;
        (
            block.iter().any(u8::is_ascii_uppercase),
            (0..64).map(bit).sum(),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::list::{parse_lines, push_line, split};
    use super::*;

    /// Found by fuzzing: the length of no token was below 0.
    #[test]
    fn lines_without_a_token_are_refused() {
        for line in ["\n", "2\n", " 2\n", " \n", "22\n", " 22\n"] {
            assert!(!each_line(line.as_bytes(), |_, _| ()), "{line:?}");
        }
    }

    #[test]
    fn classes_are_those_of_each_byte() {
        let every: Vec<u8> = (0..=255).collect();
        for block in every.as_chunks().0 {
            assert_eq!(classify(block), portable::classify(block));
        }
    }

    proptest! {
        /// By the slow and obvious way.
        #[test]
        fn normal_lists_are_those_that_are_written(
            text in "([ab#]{1,10}[-. $A]?[ab]{0,10} [0-9]{1,3}\n){0,12}[b #]{0,2}",
        ) {
            let mut seen = Vec::new();
            let is_normal = each_line(text.as_bytes(), |n, line| {
                let (token, count) = split(line).unwrap();
                assert_eq!(n, prefix_of(token));
                seen.push((token.to_vec(), count));
            });
            let Ok(lines) = parse_lines(text.as_bytes()) else {
                prop_assert!(!is_normal);
                return Ok(());
            };
            let in_order = lines.is_sorted_by(|(a, _), (b, _)| a < b);
            let mut written = Vec::new();
            for (token, count) in &lines {
                push_line(&mut written, token, *count);
            }
            prop_assert_eq!(is_normal, in_order && written == text.as_bytes());
            prop_assert!(!is_normal || seen == lines);
        }
    }
}
