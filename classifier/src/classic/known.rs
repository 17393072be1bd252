//! What a store said of tokens.

use super::{Params, token_spamicity};
use crate::distinct::Distinct;
use crate::store::TokenLookup;
use crate::{Error, Token, TokenCounts, TrainedMessages};

/// Tokens by number, each looked up once however often it occurs.
#[derive(Debug, Default)]
pub(super) struct Known {
    tokens: Distinct,
    /// What the first tokens weigh; the others were not looked up yet.
    weights: Vec<Weight>,
    /// What the weights were made with.
    basis: Option<(TrainedMessages, Params)>,
    counts: Vec<TokenCounts>,
}

/// What is known of a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) counts: TokenCounts,
    pub(super) spamicity: f64,
    /// Whether the token is among those that decide, as of now.
    pub(super) decides: bool,
}

impl Known {
    /// The number of `token`, which is to be looked up if it is new.
    #[inline]
    pub(super) fn number(&mut self, token: Token) -> u32 {
        let number = self.tokens.number(token, usize::MAX);
        number.expect("there is no limit")
    }

    pub(super) fn token(&self, number: u32) -> Token {
        self.tokens.tokens()[number as usize]
    }

    /// Of a token that was looked up.
    #[inline]
    pub(super) fn weight(&mut self, number: u32) -> &mut Weight {
        &mut self.weights[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.tokens().len()
    }

    /// Looks all new tokens up at once. `false`: in the meantime messages were
    /// trained, and what was known before is to be forgotten.
    ///
    /// # Errors
    /// When `store` cannot be read.
    pub(super) fn look_up(
        &mut self,
        store: &(impl TokenLookup + ?Sized),
        params: &Params,
    ) -> Result<bool, Error> {
        let new = &self.tokens.tokens()[self.weights.len()..];
        let trained = store.lookup(new, &mut self.counts)?;
        let basis = Some((trained, *params));
        if self.weights.is_empty() {
            self.basis = basis;
        } else if self.basis != basis {
            return Ok(false);
        }
        let weights = self.counts.iter().map(|&counts| Weight {
            counts,
            spamicity: token_spamicity(counts, trained, params),
            decides: false,
        });
        self.weights.extend(weights);
        Ok(true)
    }

    /// A token of this spamicity, without a store.
    #[cfg(test)]
    pub(super) fn weigh(&mut self, token: Token, spamicity: f64) -> u32 {
        let number = self.number(token);
        if number as usize == self.weights.len() {
            self.weights.push(Weight {
                counts: TokenCounts::default(),
                spamicity,
                decides: false,
            });
        }
        number
    }

    /// Forgets all tokens and keeps the memory for the next ones.
    pub(super) fn forget(&mut self) {
        self.tokens.clear();
        self.weights.clear();
    }
}
