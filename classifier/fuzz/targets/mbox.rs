//! Any bytes as an mbox: the messages together are the input, and how it
//! arrives makes no difference.
#![no_main]

use std::io::Read;

use classifier::classic::MessageReader;
use libfuzzer_sys::fuzz_target;

/// Gives out few bytes at a time.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

fn messages(source: impl Read) -> Vec<Vec<u8>> {
    let mut reader = MessageReader::new(source).expect("memory can be read");
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message().expect("memory can be read") {
        messages.push(message.to_vec());
    }
    messages
}

fuzz_target!(|input: (u8, &[u8])| {
    let (at_once, rest) = input;
    let mbox = [b"From ", rest].concat();
    let whole = messages(&mbox[..]);
    assert_eq!(whole.concat(), mbox);
    assert_eq!(messages(Drip(&mbox, 1 + usize::from(at_once))), whole);
});
