//! Any bytes as what a store keeps of a model: they are read or refused, by
//! every reader of them, and what can be changed can be read afterwards.
#![no_main]

use std::path::Path;

use classifier::Label;
use classifier::modern::{
    Act, Base, Exported, Keep, Lesson, Params, Stored, Weights, export, features, learn, learned,
    score,
};
use classifier::store::model::{MemoryModel, ModelChanges, ModelStore};
use classifier::store::Durability;
use libfuzzer_sys::fuzz_target;

const MAIL: &[u8] = b"Subject: a b c\n\nSome words, and more of them.\n";

/// Records: the first byte says what they are, the second a number.
fn changes(bytes: &[u8], digest: [u8; 16]) -> ModelChanges {
    let mut changes = ModelChanges::default();
    let mut rest = bytes;
    while let Some(([kind, number, len], after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(after.len().min(usize::from(*len) * 8));
        rest = after;
        let number = u32::from(*number);
        match kind % 4 {
            0 => changes.state = Some(record.to_vec()),
            1 => drop(changes.pages.insert(number * 4, Some(record.to_vec()))),
            2 => drop(changes.pages.insert((1 << 16) + number, Some(record.to_vec()))),
            _ => changes.enter = vec![(number.into(), digest, record.to_vec())],
        }
    }
    changes
}

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz");
    if let Ok(base) = Base::parse(bytes.to_vec(), path) {
        let store = MemoryModel::over(base.into());
        store.judge(&[features(MAIL)], &Params::default()).expect("a new model");
    }
    let digest = classifier::modern::Canonical::new(MAIL).digest();
    let planned = changes(bytes, digest);
    let mut store = MemoryModel::default();
    store
        .change(Durability::Relaxed, &mut |_| Ok(planned.clone()))
        .expect("memory takes all");
    let _ = learned(&store, &digest);
    let was_readable = Stored::open(&store)
        .map(|stored| {
            score(&features(MAIL), &stored, &Params::default());
            Stored::load(&store).expect("the same bytes").to_model().trained()
        })
        .is_ok();
    let mut text = Vec::new();
    if export(&store, &mut text, path).is_ok() {
        Exported::read(&mut &text[..], path).expect("what was exported");
    }
    for act in [Act::Learn(Label::Spam), Act::Correct(Label::Ham), Act::OwnVerdict, Act::Forget] {
        let lesson = Lesson::new(MAIL, act);
        let keep = Keep::default();
        let taught = learn(&mut store, &[lesson], 1, &keep, Durability::Relaxed);
        if taught.is_ok() {
            assert!(was_readable);
            Stored::open(&store).expect("it was just written");
        }
    }
});
