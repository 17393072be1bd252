//! A token of the classic engine as a small value.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A lower-case token of 1 to [`Token::MAX_LEN`] bytes, held in place: copying
/// one allocates nothing. Orders by bytes, as bmf's lists do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// The word, then NULs, then the word's length in the last byte. No word
    /// holds a NUL, so that the derived order is the order of the words.
    bytes: [u8; 24],
}

impl Token {
    /// Longest token in bytes. bmf drops longer words whole.
    pub const MAX_LEN: usize = 20;

    /// Stands where no token is yet. No word is empty.
    pub(crate) const NONE: Self = Self { bytes: [0; 24] };

    /// The token of `word`, ASCII letters lower-cased.
    /// `None` when `word` is empty, too long, or holds a NUL.
    pub fn new(word: &[u8]) -> Option<Self> {
        if word.is_empty() || word.len() > Self::MAX_LEN {
            return None;
        }
        let mut bytes = [0; 24];
        bytes[..word.len()].copy_from_slice(word);
        // Not `word.contains(&0)`: of an array with a known length the
        // compiler looks at many bytes at once.
        let n_nuls: u8 = bytes.iter().map(|b| u8::from(*b == 0)).sum();
        if usize::from(n_nuls) != bytes.len() - word.len() {
            return None;
        }
        bytes.make_ascii_lowercase();
        bytes[23] = word.len() as u8;
        Some(Self { bytes })
    }

    /// The token of the word of `len` bytes, at most [`Self::MAX_LEN`], that
    /// `text` begins with, and which holds only what words hold: ASCII
    /// letters, digits, `$`, `'`, `.`, `-`.
    #[inline]
    pub(crate) fn of_word(text: &[u8], len: usize) -> Self {
        let chunk = match text.first_chunk() {
            // A copy of a known length, which costs no call.
            Some(chunk) => *chunk,
            None => last_chunk(text, len),
        };
        // Eight bytes at a time, so that nobody who reads them so has to wait
        // for what was written one by one.
        let mut words = MASKS[len];
        for (word, eight) in words.iter_mut().zip(chunk.as_chunks::<8>().0) {
            // Of what words hold only upper-case letters lack this bit.
            *word &= u64::from_le_bytes(*eight) | LOWER;
        }
        words[2] |= (len as u64) << 56;
        let mut bytes = [0; 24];
        for (eight, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *eight = word.to_le_bytes();
        }
        Self { bytes }
    }

    /// The token's bytes, lower case.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.bytes[23])]
    }
}

/// The first `len` bytes of a shorter text.
#[cold]
fn last_chunk(text: &[u8], len: usize) -> [u8; 24] {
    let mut chunk = [0; 24];
    chunk[..len].copy_from_slice(&text[..len]);
    chunk
}

/// What lower-case letters have and upper-case letters lack, in each byte.
const LOWER: u64 = u64::from_le_bytes([0x20; 8]);

/// All bits of the first n bytes, for each length n.
static MASKS: [[u64; 3]; Token::MAX_LEN + 1] = {
    let mut masks = [[0; 3]; Token::MAX_LEN + 1];
    let mut len = 0;
    while len < masks.len() {
        let mut n = 0;
        while n < len {
            masks[len][n / 8] |= 0xff << (8 * (n % 8));
            n += 1;
        }
        len += 1;
    }
    masks
};

impl Hash for Token {
    /// Three words at once instead of a string's byte by byte and prefix.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (words, _) = self.bytes.as_chunks::<8>();
        for word in words {
            state.write_u64(u64::from_le_bytes(*word));
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_its_bytes() {
        let words: [&[u8]; 5] = [b"$100", b"1.2.3.4", b"a", b"a-b", b"ab"];
        let tokens: Vec<_> = words.iter().map(|w| Token::new(w).unwrap()).collect();
        assert!(tokens.is_sorted());
        assert!(words.is_sorted());
    }

    #[test]
    fn a_word_in_a_text_is_the_same_token() {
        let text = b"$Az'.-09ABCDEFGHIJKL, MNOP and more";
        for len in 1..=Token::MAX_LEN {
            let expected = Token::new(&text[..len]);
            assert_eq!(Some(Token::of_word(text, len)), expected);
            assert_eq!(Some(Token::of_word(&text[..len], len)), expected);
        }
    }

    #[test]
    fn refuses_what_is_no_token() {
        assert!(Token::new(b"").is_none());
        assert!(Token::new(&[b'a'; 21]).is_none());
        assert!(Token::new(b"a\0").is_none());
        assert_eq!(Token::new(b"MiXeD").unwrap().as_bytes(), b"mixed");
    }
}
