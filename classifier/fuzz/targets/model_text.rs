//! Any bytes as an exported model: they are read or refused, and what was read
//! is the same after it was written.
#![no_main]

use std::path::Path;

use classifier::modern::{Exported, export};
use classifier::store::model::{MemoryModel, ModelStore};
use classifier::store::Durability;
use libfuzzer_sys::fuzz_target;

fn written(text: &[u8]) -> Option<Vec<u8>> {
    let path = Path::new("fuzz");
    let exported = Exported::read(&mut &*text, path).ok()?;
    let mut store = MemoryModel::default();
    // Counts that no store takes are refused here.
    store
        .change(Durability::Relaxed, &mut |view| exported.replacing(view))
        .ok()?;
    let mut text = Vec::new();
    export(&store, &mut text, path).ok()?;
    Some(text)
}

fuzz_target!(|bytes: &[u8]| {
    let text = [b"postern-model 3\n", bytes].concat();
    if let Some(once) = written(&text) {
        assert_eq!(written(&once).expect("what was written"), once);
    }
});
