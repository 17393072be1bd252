//! One message scored by several stores.

use super::{Extrema, Params, Score, Scorer};
use crate::classic::words_as_tokens;
use crate::store::TokenLookup;
use crate::{Error, Token};

/// Scores one message by each of several stores, as [`score`](fn@super::score) does, and reads
/// it once. A store that cannot be read costs the others nothing.
///
/// Memory is that of one, and for each store that of its evidence.
pub fn score_each(
    message: &[u8],
    stores: &[impl TokenLookup],
    params: &Params,
) -> Vec<Result<Score, Error>> {
    score_words(words_as_tokens(message), stores, params)
}

fn score_words(
    mut words: impl Iterator<Item = Token>,
    stores: &[impl TokenLookup],
    params: &Params,
) -> Vec<Result<Score, Error>> {
    let mut scorer = Scorer::default();
    let mut found: Vec<_> = stores
        .iter()
        .map(|_| Ok(Extrema::new(params.n_extrema)))
        .collect();
    loop {
        let batch: Vec<Token> = words.by_ref().take(Scorer::MAX_WORDS).collect();
        if batch.is_empty() {
            break;
        }
        for (store, found) in stores.iter().zip(&mut found) {
            let Ok(extrema) = found else { continue };
            scorer.known.forget();
            scorer.fill(&mut batch.iter().copied());
            if let Err(error) = scorer.offer_to(extrema, store, params) {
                *found = Err(error);
            }
        }
    }
    found
        .into_iter()
        .map(|extrema| extrema.map(Extrema::score))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::tests::{decisive, trained_on};
    use super::*;
    use crate::classic::score;
    use crate::store::Memory;
    use crate::{Label, TokenCounts, TrainedMessages};

    /// One that can be read so many times.
    struct Failing(Memory, Cell<usize>);

    impl TokenLookup for Failing {
        fn lookup(
            &self,
            tokens: &[Token],
            counts: &mut Vec<TokenCounts>,
        ) -> Result<TrainedMessages, Error> {
            let Failing(store, left) = self;
            let Some(next) = left.get().checked_sub(1) else {
                return Err(Error::Damaged {
                    path: "store".into(),
                    detail: "it is torn".into(),
                });
            };
            left.set(next);
            store.lookup(tokens, counts)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn each_of_several_stores_scores_as_alone(
            taught in vec(vec((0usize..60, any::<bool>()), 0..40), 0..6),
            beginning in vec(0usize..80, 0..200),
            n_filling in prop_oneof![Just(0), 0usize..4 * Scorer::MAX_WORDS],
            end in vec(0usize..80, 0..200),
        ) {
            let stores = taught.iter().map(|words| {
                let mut store = Memory::default();
                for (n, is_spam) in words {
                    let label = if *is_spam { Label::Spam } else { Label::Ham };
                    trained_on(&format!("w{n} w{}", n / 2), label, &mut store);
                }
                store
            });
            let stores: Vec<Memory> = stores.collect();
            let filling = (0..n_filling).map(|n| 80 + n % 30_000);
            let numbers = beginning.into_iter().chain(filling).chain(end);
            let message: String = numbers.map(|n| format!("w{n} ")).collect();
            let (message, params) = (message.as_bytes(), Params::bmf());
            let n_words = words_as_tokens(message).count();
            let mut n_read = 0;
            let words = words_as_tokens(message).inspect(|_| n_read += 1);
            let scores = score_words(words, &stores, &params);
            prop_assert_eq!(n_read, n_words, "each word is read once");
            prop_assert_eq!(scores.len(), stores.len());
            for (store, together) in stores.iter().zip(scores) {
                prop_assert_eq!(together.unwrap(), score(message, store, &params).unwrap());
            }
        }
    }

    #[test]
    fn a_store_that_fails_costs_the_others_nothing() {
        let message = b"first late ".repeat(Scorer::MAX_WORDS);
        let stores = [0, 1, 9].map(|n_reads| {
            let mut store = Memory::default();
            trained_on("late", Label::Spam, &mut store);
            Failing(store, Cell::new(n_reads))
        });
        let scores = score_each(&message, &stores, &Params::bmf());
        let [Err(_), Err(_), Ok(last)] = &scores[..] else {
            panic!("{scores:?}");
        };
        assert_eq!(decisive(last), ["first", "late"]);
        assert!(score_each(&message, &[] as &[Memory], &Params::bmf()).is_empty());
    }
}
