//! RocksDB's merge: what changes make of counts, and of each other.

use classifier::{Adjustment, Listed, TokenChange};
use rocksdb::MergeOperands;

use crate::layout::{decode_change, decode_counts, encode_change, encode_counts};

/// Names the operator in the database; another name makes RocksDB refuse it.
pub(crate) const NAME: &str = "postern.counts.1";

/// `counts` after all `changes`. `None` stands for damage, which RocksDB
/// reports as such to whoever reads.
pub(crate) fn full(_key: &[u8], counts: Option<&[u8]>, changes: &MergeOperands) -> Option<Vec<u8>> {
    let counts = counts.map_or(Some(Listed::default()), decode_counts)?;
    let change = composed(changes)?;
    Some(encode_counts(counts.adjusted(&change)))
}

/// One change that does what all `changes` do in turn.
pub(crate) fn partial(
    _key: &[u8],
    _counts: Option<&[u8]>,
    changes: &MergeOperands,
) -> Option<Vec<u8>> {
    Some(encode_change(&composed(changes)?))
}

fn composed(changes: &MergeOperands) -> Option<TokenChange> {
    changes
        .iter()
        .try_fold(TokenChange::default(), |change, next| {
            Some(then(change, decode_change(next)?))
        })
}

/// First `change`, then `next`.
fn then(change: TokenChange, next: TokenChange) -> TokenChange {
    TokenChange {
        ham: both(change.ham, next.ham),
        spam: both(change.spam, next.spam),
    }
}

fn both(first: Option<Adjustment>, next: Option<Adjustment>) -> Option<Adjustment> {
    match (first, next) {
        (Some(first), Some(next)) => Some(first.then(next)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = TokenChange> {
        let adjustment = (0..9u32, any::<bool>()).prop_map(|(n, plus)| {
            if plus {
                Adjustment::plus(n)
            } else {
                Adjustment::minus(n)
            }
        });
        let adjustment = proptest::option::of(adjustment);
        (adjustment.clone(), adjustment).prop_map(|(ham, spam)| TokenChange { ham, spam })
    }

    fn count() -> impl Strategy<Value = Option<u32>> {
        proptest::option::of(prop_oneof![0..9u32, u32::MAX - 9..=u32::MAX])
    }

    proptest! {
        /// RocksDB chooses which neighbours it combines, and when.
        #[test]
        fn grouping_does_not_matter(
            ham in count(),
            spam in count(),
            changes in proptest::collection::vec(change(), 0..9),
            cut in 0..9usize,
        ) {
            let counts = Listed { ham, spam };
            let in_turn = changes.iter().fold(counts, |counts, c| counts.adjusted(c));
            let (early, late) = changes.split_at(cut.min(changes.len()));
            let compose = |part: &[TokenChange]| {
                part.iter().copied().fold(TokenChange::default(), then)
            };
            let composed = then(compose(early), compose(late));
            prop_assert_eq!(counts.adjusted(&composed), in_turn);
        }
    }
}
