//! What else comes from outside: answers of other hosts and of clamd, queue
//! files, `.qmail` files, and what programs hand to `qmail-queue` and
//! `checkpassword`. The first byte says which. Nothing panics, what is printed
//! is read again as the same, and nothing ends a line of ours.
//!
//! The parsers are compiled from their sources, so that neither RocksDB nor
//! tokio must be instrumented; what they ask of the rest stands here.
#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../src/pipeline/clamd.rs"]
mod clamd;
#[path = "../../src/remote/dialogue.rs"]
mod dialogue;
#[path = "../../src/queue/entry.rs"]
mod entry;
#[path = "../../src/queue/format.rs"]
mod format;
#[path = "../../src/handover.rs"]
mod handover;
#[path = "../../src/cli/inject.rs"]
mod inject;
#[path = "../../src/delivery/instructions.rs"]
mod instructions;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/printable.rs"]
mod printable;
#[path = "../../src/cli/qmail_queue.rs"]
mod qmail_queue;
#[path = "../../src/cli/checkpassword/request.rs"]
mod request;
#[path = "../../src/smtp/mod.rs"]
mod smtp;

mod queue {
    pub(crate) use crate::entry::{Entry, Recipient, Record};
}

mod remote {
    pub(crate) use crate::dialogue;
}

use std::io::{self, Cursor};
use std::path::PathBuf;

use dialogue::{Capabilities, Nonsense, Replies};
use libfuzzer_sys::fuzz_target;
use queue::{Entry, Recipient, Record};

/// As `remote` has it.
struct Credentials {
    user: String,
    password: String,
}

/// As `remote` has it.
struct Parcel<'a> {
    entry: &'a Entry,
    recipients: &'a [&'a Recipient],
    message: &'a Text,
}

struct Text;

impl Text {
    fn is_ascii(&self) -> bool {
        true
    }
}

/// What only the disk leads to.
#[derive(Debug)]
struct Error;

impl Error {
    fn io(_: &'static str, _: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        |_| Self
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 6 {
        0 => replies(bytes),
        1 => queue_file(&String::from_utf8_lossy(bytes)),
        2 => qmail(bytes),
        3 => {
            let _ = clamd::read_answer(&mut Cursor::new(bytes));
        }
        4 => {
            let _ = request::Request::parse(bytes);
        }
        _ => {
            if let Ok(envelope) = qmail_queue::parse(bytes) {
                let all = qmail_queue::expand(&envelope);
                assert!(all.iter().any(|(_, to)| !to.is_empty()));
            }
        }
    }
});

/// What another host answers, cut anywhere.
fn replies(bytes: &[u8]) {
    let (cut, bytes) = bytes.split_first().unwrap_or((&1, bytes));
    let whole = read(std::iter::once(bytes));
    let cut = read(bytes.chunks(usize::from(*cut).max(1)));
    assert_eq!(whole, cut);
    for text in whole.iter().flatten() {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// The replies in one line each, up to what is none.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Result<String, Nonsense>> {
    let (mut replies, mut found) = (Replies::default(), Vec::new());
    for piece in pieces {
        replies.receive(piece);
        loop {
            match replies.next() {
                Ok(None) => break,
                Ok(Some(reply)) => {
                    let _ = Capabilities::read(&reply);
                    found.push(Ok(reply.to_string()));
                }
                Err(nonsense) => {
                    found.push(Err(nonsense));
                    return found;
                }
            }
        }
    }
    found
}

fn queue_file(text: &str) {
    let (head, records) = text.split_once("\n\n").unwrap_or((text, ""));
    let Some((mut entry, size)) = Entry::parse(head) else {
        return;
    };
    let printed = entry.head(size);
    assert!(!printed.trim_end().contains("\n\n"), "{printed:?}");
    let again = Entry::parse(printed.trim_end_matches('\n'));
    assert_eq!(again.map(|(entry, size)| entry.head(size)), Some(printed));
    for line in records.lines() {
        let Some(record) = Record::parse(line) else {
            continue;
        };
        assert_eq!(record.line().matches('\n').count(), 1);
        entry.apply(&record);
        let _ = (entry.next_attempt(), entry.is_finished());
    }
}

fn qmail(bytes: &[u8]) {
    let found = instructions::Found {
        path: ".qmail".into(),
        text: bytes.to_owned(),
        default: None,
        is_executable: bytes.first() == Some(&b'#'),
    };
    for instruction in instructions::parse(&found, "example.org").unwrap_or_default() {
        if let instructions::Instruction::Maildir(path) | instructions::Instruction::Mbox(path) = instruction {
            let leads_out = path.is_absolute() || path.components().any(|part| part.as_os_str() == "..");
            assert!(!leads_out, "{path:?}");
        }
    }
}
