//! Hashes in order, each once: half of the work of finding features, were it
//! done by comparing.
//!
//! Two passes of a radix sort put hashes in the order of their upper 16 bits.
//! Few that differ still share these, so that sorting by insertion has next to
//! nothing left to do. Whoever made a message of such hashes alone would make
//! it slow, not wrong: some thousand of them are a million steps.
//!
//! Rejected: three passes, which cost half as much again; one pass by 12 or 13
//! bits, which leaves more to insert than it saves; a hash table first that
//! leaves out all repetitions, which costs more than it saves: most come soon,
//! and a small table that forgets leaves out these ([`extend_with_new`]).

/// Bits of a digit. Its counters are few beside what there is to sort.
const DIGIT_BITS: u32 = 8;
const N_DIGITS: usize = 1 << DIGIT_BITS;
/// Fewer are sorted by comparing.
const MIN_RADIX: usize = 200;
/// Bits that hashes which came lately are told apart by; with more, next to none
/// are left out besides.
const LATELY_BITS: u32 = 11;
/// Hashes whose places are found at once.
const AT_ONCE: usize = 8;

/// Adds hashes to `to`, but for most of those that come again soon: two grams of
/// five do, and to leave them out costs a third of what sorting them does.
pub(super) fn extend_with_new(to: &mut Vec<u32>, hashes: impl ExactSizeIterator<Item = u32>) {
    // One hash for each value of the upper bits; at first, what belongs to
    // another value.
    let mut lately = [0; 1 << LATELY_BITS];
    lately[0] = u32::MAX;
    let start = to.len();
    to.resize(start + hashes.len(), 0);
    let (new, mut n) = (&mut to[start..], 0);
    for hash in hashes {
        let last = &mut lately[(hash >> (32 - LATELY_BITS)) as usize];
        new[n] = hash;
        n += usize::from(*last != hash);
        *last = hash;
    }
    to.truncate(start + n);
}

/// Sorts `hashes` and leaves each once. What `scratch` holds is lost; it is
/// there to be used again.
pub(super) fn sort_distinct(hashes: &mut Vec<u32>, scratch: &mut Vec<u32>) {
    if hashes.len() < MIN_RADIX {
        hashes.sort_unstable();
        hashes.dedup();
        return;
    }
    if scratch.len() < hashes.len() {
        scratch.resize(hashes.len(), 0);
    }
    let n = hashes.len();
    sort_by_digits(hashes, &mut scratch[..n]);
    let n_distinct = insert_distinct(hashes);
    hashes.truncate(n_distinct);
}

fn sort_by_digits(hashes: &mut [u32], scratch: &mut [u32]) {
    let low = |hash: u32| (hash >> (32 - 2 * DIGIT_BITS)) as usize % N_DIGITS;
    let high = |hash: u32| (hash >> (32 - DIGIT_BITS)) as usize % N_DIGITS;
    let (mut lows, mut highs) = ([0u32; N_DIGITS], [0u32; N_DIGITS]);
    for hash in &*hashes {
        lows[low(*hash)] += 1;
        highs[high(*hash)] += 1;
    }
    distribute(hashes, scratch, &mut lows, low);
    distribute(scratch, hashes, &mut highs, high);
}

/// Copies in the order of a digit, of which `counts` says how often each
/// value is there; what has the same value stays in its order.
///
/// Some places are found before anything is put there: a processor that cannot
/// tell whether what it writes is a counter that it reads next waits for each
/// hash, which takes twice as long.
fn distribute(
    from: &[u32],
    to: &mut [u32],
    counts: &mut [u32; N_DIGITS],
    digit: impl Fn(u32) -> usize,
) {
    let mut start = 0;
    for count in counts.iter_mut() {
        start += std::mem::replace(count, start);
    }
    let mut place = |hash| {
        let next = &mut counts[digit(hash)];
        *next += 1;
        *next as usize - 1
    };
    let (chunks, rest) = from.as_chunks::<AT_ONCE>();
    for hashes in chunks {
        for (place, hash) in hashes.map(&mut place).into_iter().zip(hashes) {
            to[place] = *hash;
        }
    }
    for hash in rest {
        to[place(*hash)] = *hash;
    }
}

/// Puts the few that are not in order in their place, and leaves each once at
/// the front; returns how many. Without a branch where nobody could foresee
/// it: which hashes are repetitions. There is at least one.
fn insert_distinct(hashes: &mut [u32]) -> usize {
    let (mut last, mut at_last) = (hashes[0], 0);
    for at in 1..hashes.len() {
        let hash = hashes[at];
        if hash < last {
            at_last = insert(hashes, at_last, hash);
            continue;
        }
        at_last += usize::from(hash != last);
        hashes[at_last] = hash;
        last = hash;
    }
    at_last + 1
}

/// Inserts a hash before the one at `at_last`. Returns where that is then.
#[cold]
fn insert(hashes: &mut [u32], at_last: usize, hash: u32) -> usize {
    match hashes[..=at_last].binary_search(&hash) {
        Ok(_) => at_last,
        Err(place) => {
            hashes.copy_within(place..=at_last, place + 1);
            hashes[place] = hash;
            at_last + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(mut hashes: Vec<u32>) {
        let mut expected = hashes.clone();
        expected.sort_unstable();
        expected.dedup();
        sort_distinct(&mut hashes, &mut vec![9; 3]);
        assert_eq!(hashes, expected);
    }

    #[test]
    fn ends_and_repetitions_are_sorted() {
        check(Vec::new());
        check(vec![7; 1_000]);
        check((0..2_000).rev().collect());
        check((0..2_000).map(|n| u32::MAX - n % 3).collect());
        check(
            (0..2_000u32)
                .map(|n| (n.wrapping_mul(0x9e37_79b9) % 700) << 20)
                .collect(),
        );
    }

    #[test]
    fn what_comes_again_soon_is_left_out_and_nothing_else() {
        let mut met = vec![7];
        let hashes = [0, u32::MAX, 7, 7, 0, 1 << 31, u32::MAX, 7];
        extend_with_new(&mut met, hashes.into_iter());
        assert_eq!(met, [7, 0, u32::MAX, 7, 0, 1 << 31, 7]);
    }

    proptest! {
        #[test]
        fn each_hash_is_met(
            hashes in proptest::collection::vec(any::<u32>(), 0..500),
            mask in any::<u32>(),
        ) {
            let hashes: Vec<_> = hashes.iter().map(|hash| hash & mask).collect();
            let mut met = Vec::new();
            extend_with_new(&mut met, hashes.iter().copied());
            let sets = [met, hashes].map(|all| all.into_iter().collect::<BTreeSet<_>>());
            prop_assert_eq!(&sets[0], &sets[1]);
        }

        #[test]
        fn sorts_as_by_comparing(
            hashes in proptest::collection::vec(any::<u32>(), 0..1_500),
            mask in any::<u32>(),
        ) {
            check(hashes.iter().map(|hash| hash & mask).collect());
        }
    }
}
