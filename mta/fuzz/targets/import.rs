//! What an old host's files say: whatever stands in them, nothing panics, and
//! what is written for our folders is read there as it was meant.
#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../src/import/assign.rs"]
mod assign;
#[path = "../../src/import/cdb.rs"]
mod cdb;
#[path = "../../src/import/control.rs"]
mod control;
#[path = "../../src/import/dotqmail.rs"]
mod dotqmail;
#[path = "../../src/handover.rs"]
mod handover;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/import/report.rs"]
mod report;
#[path = "../../src/import/routes.rs"]
mod routes;
#[path = "../../src/smtp/mod.rs"]
mod smtp;
#[path = "../../src/import/spamdyke.rs"]
mod spamdyke;
#[path = "../../src/import/tcprules.rs"]
mod tcprules;

mod source {
    pub struct Content {
        pub bytes: Vec<u8>,
        pub mode: u32,
    }
}

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let content = source::Content {
        bytes: bytes.to_vec(),
        mode: 0o644,
    };
    for line in control::list(&content) {
        control::keyed(&line);
        if let Ok(relay) = routes::relay(&line.text) {
            if let Some((_, password)) = relay.login.filter(|(_, password)| !password.is_empty()) {
                assert!(line.text.ends_with(&password));
            }
        }
    }
    control::number(&content);
    let assign = assign::Assign::parse(bytes);
    for one in &assign.all {
        assert!(assign.find(&one.key).is_some());
    }
    if let Ok(cdb) = assign::Assign::of_cdb(bytes) {
        assign.differences(&cdb);
    }
    let rewritten = dotqmail::rewrite(&content, Path::new("/home/x"), |address| address.to_owned());
    let again = source::Content {
        bytes: rewritten.text,
        mode: 0o644,
    };
    for (_, step) in dotqmail::steps(&again, Path::new("/ours")) {
        match step {
            dotqmail::Step::Maildir(path) | dotqmail::Step::Mbox(path) => {
                assert!(path.starts_with("/ours"), "{path:?}");
            }
            dotqmail::Step::Forward(address) => {
                assert!(smtp::Mailbox::parse(address.as_bytes()).is_ok(), "{address:?}");
            }
            dotqmail::Step::Program(_) => {}
        }
    }
    for said in spamdyke::parse(bytes) {
        let _ = spamdyke::conditions(&said.value);
    }
    // Few lines are as good as many, and overlap as much.
    let few: Vec<u8> = bytes.split_inclusive(|b| *b == b'\n').take(8).collect::<Vec<_>>().concat();
    let (rules, _) = tcprules::parse(&few);
    let networks = tcprules::networks(&rules);
    assert_eq!(networks.len(), rules.len());
});
