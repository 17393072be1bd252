//! Counts in memory: for tests, and for runs over a collection that end with
//! the process.

use std::collections::HashMap;

use super::{Durability, Entry, TokenLookup, TokenStore};
use crate::{Changes, Error, Listed, Token, TokenCounts, TrainedMessages};

/// A store that ends with the process.
///
/// Enters a token in a list as bmf's db format does: not because of a
/// subtraction alone.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    trained: TrainedMessages,
    tokens: HashMap<Token, Listed, foldhash::fast::RandomState>,
    /// Of words that no message holds, from lists that came from elsewhere.
    others: HashMap<Box<[u8]>, Listed>,
}

impl Memory {
    fn set(&mut self, token: &[u8], listed: Listed) {
        match Token::new(token).filter(|t| t.as_bytes() == token) {
            Some(token) => self.tokens.insert(token, listed),
            None => self.others.insert(token.into(), listed),
        };
    }
}

impl TokenLookup for Memory {
    fn lookup(
        &self,
        tokens: &[Token],
        counts: &mut Vec<TokenCounts>,
    ) -> Result<TrainedMessages, Error> {
        counts.clear();
        counts.extend(tokens.iter().map(|token| {
            let listed = self.tokens.get(token);
            listed.map_or_else(TokenCounts::default, |listed| listed.counts())
        }));
        Ok(self.trained)
    }
}

impl TokenStore for Memory {
    fn apply(&mut self, changes: &Changes, _: Durability) -> Result<(), Error> {
        self.trained = changes.messages_after(self.trained);
        for (token, change) in changes.tokens_sorted() {
            let listed = self.tokens.entry(token).or_default();
            *listed = listed.adjusted(&change);
        }
        Ok(())
    }

    fn entries(
        &self,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Error>,
    ) -> Result<TrainedMessages, Error> {
        let others = self.others.iter().map(|(token, listed)| (&**token, listed));
        let tokens = self.tokens.iter();
        let tokens = tokens.map(|(token, listed)| (token.as_bytes(), listed));
        let mut tokens: Vec<_> = tokens.chain(others).collect();
        tokens.sort_unstable_by_key(|(token, _)| *token);
        for (token, listed) in tokens {
            if !listed.is_unlisted() {
                visit(listed.entry(token))?;
            }
        }
        Ok(self.trained)
    }

    fn replace(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), Error> {
        *self = Self::default();
        self.trained = trained;
        for entry in entries {
            self.set(entry.token, entry.into());
        }
        Ok(())
    }
}
