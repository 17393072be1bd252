//! Distinct tokens by number.

use std::hash::BuildHasher;

use crate::Token;

/// Distinct tokens, numbered from 0 in the order in which they first came.
///
/// Every word of every message comes here, and whether it came before cannot
/// be foreseen. So there is no branch on it, as there is in a `HashMap`: a new
/// token is written to where the next one belongs before it is searched, and
/// is found there if nowhere else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distinct {
    /// Numbers where their tokens' hashes say, or in the next free place. A
    /// power of two, and at most half full.
    places: Vec<u32>,
    /// By number; at least one more than there are.
    tokens: Vec<Token>,
    n_tokens: usize,
    hasher: foldhash::fast::RandomState,
}

const FREE: u32 = u32::MAX;

/// Enough for most messages.
const FEWEST_PLACES: usize = 1 << 10;

/// Places that are kept from message to message. More take longer to clear
/// than most messages to read.
const MOST_PLACES_KEPT: usize = 1 << 12;

impl Distinct {
    /// The number of `token`. `None`: it is new, and there are `most` already.
    #[inline]
    pub(crate) fn number(&mut self, token: Token, most: usize) -> Option<u32> {
        if 2 * self.n_tokens >= self.places.len() {
            self.grow();
        }
        let last_place = self.places.len() - 1;
        let mut at = self.hasher.hash_one(token) as usize & last_place;
        self.tokens[self.n_tokens] = token;
        loop {
            let place = &mut self.places[at];
            let is_free = *place == FREE;
            let number = match is_free {
                true => self.n_tokens,
                false => *place as usize,
            };
            if number >= most {
                return None;
            }
            if self.tokens[number] == token {
                *place = number as u32;
                self.n_tokens += usize::from(is_free);
                return Some(number as u32);
            }
            at = (at + 1) & last_place;
        }
    }

    /// All of them by number.
    #[inline]
    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens[..self.n_tokens]
    }

    /// Forgets all tokens and keeps the memory for the next ones.
    pub(crate) fn clear(&mut self) {
        self.n_tokens = 0;
        self.places.truncate(MOST_PLACES_KEPT);
        self.places.fill(FREE);
    }

    #[cold]
    fn grow(&mut self) {
        let n_places = FEWEST_PLACES.max(4 * self.places.len());
        self.places.clear();
        self.places.resize(n_places, FREE);
        self.tokens.resize(n_places / 2 + 1, Token::NONE);
        for (number, token) in self.tokens[..self.n_tokens].iter().enumerate() {
            let mut at = self.hasher.hash_one(token) as usize & (n_places - 1);
            while self.places[at] != FREE {
                at = (at + 1) & (n_places - 1);
            }
            self.places[at] = number as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(n: usize) -> Token {
        Token::new(format!("w{n}").as_bytes()).expect("a word of few letters")
    }

    proptest! {
        #[test]
        fn numbers_in_order_of_first_occurrence(
            messages in proptest::collection::vec(
                proptest::collection::vec(0usize..9_000, 0..12_000), 1..4,
            ),
        ) {
            let mut distinct = Distinct::default();
            for message in messages {
                distinct.clear();
                let mut seen = Vec::new();
                for n in message {
                    let expected = seen.iter().position(|m| *m == n).unwrap_or(seen.len());
                    if expected == seen.len() {
                        seen.push(n);
                    }
                    prop_assert_eq!(distinct.number(token(n), usize::MAX), Some(expected as u32));
                }
                let tokens: Vec<_> = seen.into_iter().map(token).collect();
                prop_assert_eq!(distinct.tokens(), tokens);
            }
        }
    }

    #[test]
    fn takes_no_more_than_so_many() {
        let mut distinct = Distinct::default();
        for n in 0..3_000 {
            assert_eq!(
                distinct.number(token(n), 2_000),
                (n < 2_000).then_some(n as u32)
            );
            assert_eq!(
                distinct.number(token(7.min(n)), 2_000),
                Some(7.min(n) as u32)
            );
        }
        assert_eq!(distinct.tokens().len(), 2_000);
    }
}
