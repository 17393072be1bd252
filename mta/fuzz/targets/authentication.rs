//! What is read of strangers' addresses and header fields: senders that are
//! rewritten come back, no other address is taken for one, and of a message
//! only the fields go that bear our name. A record of SPF that is read once is
//! read to the same when it is read again.
#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../src/authentication/foreign.rs"]
mod foreign;
#[path = "../../src/handover.rs"]
mod handover;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/authentication/spf/record.rs"]
mod record;
#[path = "../../src/smtp/mod.rs"]
mod smtp;
#[path = "../../src/authentication/srs.rs"]
mod srs;

use libfuzzer_sys::fuzz_target;
use smtp::{Domain, LocalPart, Mailbox};

const HOST: &str = "mail.example.org";

fuzz_target!(|bytes: &[u8]| {
    let once = foreign::without(bytes, HOST).into_owned();
    assert_eq!(*foreign::without(&once, HOST), once);
    let mut left = bytes.iter();
    assert!(once.iter().all(|byte| left.any(|one| one == byte)));

    if let Some(read) = record::read(bytes, true) {
        assert_eq!(record::read(read.as_bytes(), true).as_ref(), Some(&read));
        assert!(record::read(bytes, false).is_some());
    }

    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().next().unwrap_or_default();
    let srs = srs::Srs::new(b"secret");
    if let Ok(local) = LocalPart::new(first) {
        assert!(srs.unwrap(&local, 20_000).is_err());
    }
    let Ok(sender) = Mailbox::parse(first.as_bytes()) else {
        return;
    };
    let ours = Domain::parse("example.org").unwrap();
    if let Some(written) = srs.rewrite(&sender, &ours, 20_000) {
        let read = Mailbox::parse(written.to_string().as_bytes()).unwrap();
        let back = srs.unwrap(&read.local_part, 20_001).unwrap();
        assert!(back == sender || srs::is_srs(&sender.local_part));
    }
});
