//! Counts in memory: for tests, and for runs over a collection that end with
//! the process.

use std::collections::HashMap;

use super::{Durability, Entry, TokenLookup, TokenStore};
use crate::{Adjustment, Changes, Error, Token, TokenCounts, TrainedMessages};

/// A store that ends with the process.
///
/// Enters a token in a list as bmf's db format does: not because of a
/// subtraction alone.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    trained: TrainedMessages,
    tokens: HashMap<Box<[u8]>, Listed, foldhash::fast::RandomState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    ham: Option<u32>,
    spam: Option<u32>,
}

impl TokenLookup for Memory {
    fn lookup(
        &self,
        tokens: &[Token],
        counts: &mut Vec<TokenCounts>,
    ) -> Result<TrainedMessages, Error> {
        counts.clear();
        counts.extend(tokens.iter().map(|token| {
            let listed = self.tokens.get(token.as_bytes());
            listed.map_or_else(TokenCounts::default, |listed| TokenCounts {
                ham: listed.ham.unwrap_or(0),
                spam: listed.spam.unwrap_or(0),
            })
        }));
        Ok(self.trained)
    }
}

impl TokenStore for Memory {
    fn apply(&mut self, changes: &Changes, _: Durability) -> Result<(), Error> {
        self.trained = changes.messages_after(self.trained);
        for (token, change) in changes.tokens_sorted() {
            let listed = self.tokens.entry(token.as_bytes().into()).or_default();
            listed.ham = adjust(listed.ham, change.ham);
            listed.spam = adjust(listed.spam, change.spam);
        }
        Ok(())
    }

    fn entries(
        &self,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Error>,
    ) -> Result<TrainedMessages, Error> {
        let mut tokens: Vec<_> = self.tokens.iter().collect();
        tokens.sort_unstable_by_key(|(token, _)| *token);
        for (token, Listed { ham, spam }) in tokens {
            if ham.is_some() || spam.is_some() {
                visit(Entry {
                    token,
                    ham: *ham,
                    spam: *spam,
                })?;
            }
        }
        Ok(self.trained)
    }

    fn replace(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), Error> {
        self.trained = trained;
        self.tokens = entries
            .map(|Entry { token, ham, spam }| (token.into(), Listed { ham, spam }))
            .collect();
        Ok(())
    }
}

fn adjust(count: Option<u32>, adjustment: Option<Adjustment>) -> Option<u32> {
    match (count, adjustment) {
        (count, None) => count,
        (None, Some(a)) if !a.inserts => None,
        (count, Some(a)) => Some(a.apply(count.unwrap_or(0))),
    }
}
