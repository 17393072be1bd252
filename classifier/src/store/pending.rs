//! A store's counts as they will be.

use super::TokenLookup;
use crate::{Changes, Error, Token, TokenCounts, TrainedMessages};

/// The counts of `store` after `changes`, which it has not seen yet: so that
/// the second message of an mbox is scored with what the first one taught,
/// and all of them are registered at once.
#[derive(Debug)]
pub struct Pending<'a, S: ?Sized> {
    /// What is stored.
    pub store: &'a S,
    /// What will be applied.
    pub changes: &'a Changes,
}

impl<S: TokenLookup + ?Sized> TokenLookup for Pending<'_, S> {
    fn lookup(
        &self,
        tokens: &[Token],
        counts: &mut Vec<TokenCounts>,
    ) -> Result<TrainedMessages, Error> {
        let trained = self.store.lookup(tokens, counts)?;
        for (token, counts) in tokens.iter().zip(counts) {
            if let Some(change) = self.changes.token(token) {
                *counts = change.apply(*counts);
            }
        }
        Ok(self.changes.messages_after(trained))
    }
}
