//! A token of the classic engine as a small value.

use std::fmt;

/// A lower-case token of 1 to [`Token::MAX_LEN`] bytes, held in place: copying
/// one allocates nothing. Orders by bytes, as bmf's lists do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Bytes past `len` are 0, so that the derived order is the order of the
    /// bytes (no token holds a NUL).
    bytes: [u8; Token::MAX_LEN],
    len: u8,
}

impl Token {
    /// Longest token in bytes. bmf drops longer words whole.
    pub const MAX_LEN: usize = 20;

    /// The token of `word`, ASCII letters lower-cased.
    /// `None` when `word` is empty, too long, or holds a NUL.
    pub fn new(word: &[u8]) -> Option<Self> {
        if word.is_empty() || word.len() > Self::MAX_LEN || word.contains(&0) {
            return None;
        }
        let mut bytes = [0; Self::MAX_LEN];
        bytes[..word.len()].copy_from_slice(word);
        bytes.make_ascii_lowercase();
        Some(Self {
            bytes,
            len: word.len() as u8,
        })
    }

    /// The token's bytes, lower case.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
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
    fn refuses_what_is_no_token() {
        assert!(Token::new(b"").is_none());
        assert!(Token::new(&[b'a'; 21]).is_none());
        assert!(Token::new(b"a\0").is_none());
        assert_eq!(Token::new(b"MiXeD").unwrap().as_bytes(), b"mixed");
    }
}
