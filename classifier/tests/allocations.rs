//! Scoring asks for memory for a message, not for each of its words.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use classifier::classic::{Params, Scorer, message_tokens};
use classifier::store::{Durability, Memory, TokenStore};
use classifier::{Changes, Label};

/// Counts what this thread asks for.
struct Counting;

thread_local! {
    static N: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N.set(N.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn message(n_words: usize, seed: usize) -> Vec<u8> {
    let words =
        (0..n_words).map(|n| format!("w{} <b>and</b> 10.0.{}.1\n", n * seed % 5_000, n % 250));
    format!("Subject: words\n\n{}", words.collect::<String>()).into_bytes()
}

#[test]
fn scoring_allocates_nothing_for_a_word() {
    let mut store = Memory::default();
    let mut changes = Changes::default();
    changes.learn(Label::Spam, &message_tokens(&message(3_000, 7)));
    store.apply(&changes, Durability::Synced).expect("memory");

    let mut scorer = Scorer::default();
    let mut allocations = |mail: &[u8]| {
        let before = N.get();
        let score = scorer.score(mail, &store, &Params::bmf()).expect("memory");
        assert_eq!(score.evidence.len(), 15);
        N.get() - before
    };
    let long = message(4_000, 3);
    allocations(&long);
    for mail in [&long, &message(20, 1), &message(500, 11)] {
        // The slots, how far each is from 0.5, and the evidence, which grows
        // to its size in three steps.
        let n = allocations(mail);
        assert!(n <= 5, "{n} allocations");
    }
}
