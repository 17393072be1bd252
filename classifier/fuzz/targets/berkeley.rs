//! Any bytes as a Berkeley DB file: a list or a reason, in bounded time.
#![no_main]

use classifier::store::berkeley::List;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if let Ok(list) = List::parse(file) {
        let length: usize = list.tokens.iter().map(|(token, _)| token.len()).sum();
        assert!(list.tokens.len() <= file.len() && length <= 64 * file.len());
    }
});
