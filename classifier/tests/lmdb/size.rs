//! A model stays small, whatever it is taught and for however long.

use std::fs;
use std::path::Path;

use classifier::modern::{Act, Keep, Lesson, Stored, learn};
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Durability, ModelStore};
use classifier::{Error, Label};

/// A message of words that no other message has, so that it hits the whole
/// table and the filter is never sure of it.
fn mail(n: u32) -> Vec<u8> {
    let mut random = u64::from(n) + 1;
    let mut raw = format!("From: {n}@example.org\nSubject: {n}\n\n").into_bytes();
    for _ in 0..500 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        raw.extend_from_slice(format!("{:x} ", random >> 36).as_bytes());
    }
    raw
}

/// Bytes of all that readers of the model read, and of the ledger.
fn sizes(store: &Lmdb) -> Result<(usize, u64), Error> {
    let mut sizes = (0, 0);
    store.look(&mut |view| {
        Stored::open(view)?;
        let pages = view.pages(0..u32::MAX)?;
        sizes = (pages.iter().map(|(_, page)| page.len()).sum(), 0);
        view.entries_by_age(&mut |_, _, len| {
            sizes.1 += u64::from(len);
            true
        })
    })?;
    Ok(sizes)
}

fn file_bytes(dir: &Path) -> u64 {
    fs::metadata(Lmdb::path(dir)).unwrap().len()
}

#[test]
fn a_full_model_and_ledger_stay_within_their_bounds() {
    const MIB: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        engine: "modern",
        syncs: false,
        ..Options::default()
    };
    let mut store = Lmdb::open(dir.path(), &options).unwrap();
    let keep = Keep { bytes: MIB };
    for n in 0..1_500 {
        let label = [Label::Ham, Label::Spam][(n % 2) as usize];
        let lesson = Lesson::new(&mail(n), Act::Learn(label));
        learn(&mut store, &[lesson], n.into(), &keep, Durability::Relaxed).unwrap();
    }
    let (model, ledger) = sizes(&store).unwrap();
    assert!(model as u64 > 2 * MIB, "{model}: the table is not full");
    assert!(model as u64 <= 4 * MIB, "{model}");
    assert!(ledger <= keep.bytes, "{ledger}");
    // Beside both, LMDB keeps what its last changes freed, here of messages
    // as large as any.
    let file = file_bytes(dir.path());
    assert!(file <= 4 * MIB + keep.bytes + 5 * MIB, "{file}");
}
