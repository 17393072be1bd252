//! Any bytes as a message: the lexer's words keep what it promises, and
//! passthrough changes nothing but verdicts.
#![no_main]

use classifier::classic::{Lexer, message_tokens, passthrough};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let mut behind = 0;
    for word in Lexer::new(message) {
        let at = word.as_ptr() as usize - message.as_ptr() as usize;
        assert!(at >= behind, "words come in order and do not overlap");
        behind = at + word.len();
        assert!(word.is_ascii());
    }
    message_tokens(message);

    let passed = |message: &[u8]| {
        let mut out = Vec::new();
        passthrough(message, b"X-Spam-Status: No\n", &mut out).expect("memory takes all");
        out
    };
    let once = passed(message);
    assert_eq!(passed(&once), once, "an old verdict makes way for the new one");
});
