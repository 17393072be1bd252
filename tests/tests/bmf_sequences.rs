//! Random sequences of runs over awkward mail: our bmf does what Debian's does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tests::differential::{Case, Pair, minimise};
use tests::programs::repository;

/// How many sequences a run of the tests tries.
const N_CASES: u64 = 2_500;

fn differs(case: &Case) -> bool {
    case.is_compared() && case.transcript(Pair::Ours) != case.transcript(Pair::Original)
}

#[test]
fn random_sequences_give_what_the_original_gives() {
    let next = AtomicU64::new(0);
    let first_differing = thread::scope(|scope| {
        let workers: Vec<_> = (0..thread::available_parallelism().unwrap().get())
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= N_CASES {
                            return None;
                        }
                        if differs(&Case::generate(seed)) {
                            // The others need not go on.
                            next.store(N_CASES, Ordering::Relaxed);
                            return Some(seed);
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().unwrap())
            .min()
    });
    let Some(seed) = first_differing else { return };

    let case = minimise(Case::generate(seed), differs);
    let expected = case.transcript(Pair::Original);
    let folder = repository().join(format!("tests/data/bmf/found-{seed}"));
    case.save(&folder, &expected).unwrap();
    panic!(
        "seed {seed} differs from the original; minimised as {}\n{:?}\nexpected:\n{}\ngot:\n{}",
        folder.display(),
        case,
        expected.to_bytes().escape_ascii(),
        case.transcript(Pair::Ours).to_bytes().escape_ascii(),
    );
}
