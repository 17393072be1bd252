use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

use super::*;

fn collection(seed: u64, n_messages: usize) -> Vec<Message> {
    Generator::new(&Options {
        seed,
        n_messages,
        ..Options::default()
    })
    .collect()
}

/// FNV-1a, which std does not change under us as it may its own hasher.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn seed_1_is_pinned() {
    // A change of templates or code changes this number: then the figures of
    // the demonstration and of the README change too.
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for message in collection(1, 500) {
        message.bytes.hash(&mut hash);
        message.label.name().hash(&mut hash);
    }
    assert_eq!(format!("{:016x}", hash.finish()), "fd0038476e493ee6");
}

#[test]
fn a_longer_collection_begins_with_the_shorter_one() {
    let (short, long) = (collection(5, 20), collection(5, 40));
    assert!(short.iter().zip(&long).all(|(a, b)| a.bytes == b.bytes));
}

#[test]
fn both_labels_share_their_words() {
    let mut ham = HashSet::new();
    let mut spam = HashSet::new();
    for message in collection(1, 2000) {
        let parsed = MessageParser::new().parse(&message.bytes).unwrap();
        let words = match message.label {
            Label::Ham => &mut ham,
            Label::Spam => &mut spam,
        };
        let text = parsed.body_text(0).unwrap();
        let letters = |c: char| !c.is_alphabetic();
        words.extend(
            text.split(letters)
                .filter(|w| w.len() > 2)
                .map(str::to_lowercase),
        );
    }
    let shared = ham.intersection(&spam).count();
    assert!(shared * 10 > ham.len() * 6, "{shared} of {}", ham.len());
}

#[test]
fn an_independent_parser_finds_each_part() {
    for message in collection(2, 1500) {
        let parsed = MessageParser::new().parse(&message.bytes).unwrap();
        let name = &message.id;
        assert!(parsed.from().is_some(), "{name} has no From");
        assert!(
            parsed.date().is_some_and(|d| d.is_valid()),
            "{name} has no date"
        );
        assert!(parsed.message_id().is_some(), "{name} has no Message-ID");
        assert!(
            parsed.subject().is_some_and(|s| !s.contains("=?")),
            "{name}: subject"
        );
        let text = parsed.body_text(0).unwrap();
        assert!(
            !text.trim().is_empty() && !text.contains('\u{fffd}'),
            "{name}: {text}"
        );
        for attached in parsed.attachments() {
            assert!(attached.attachment_name().is_some() && attached.contents().len() > 100);
        }
    }
}

#[test]
fn lines_keep_to_the_limit_of_rfc_5322() {
    for message in collection(3, 1500) {
        let too_long = message
            .bytes
            .split(|b| *b == b'\n')
            .find(|line| line.len() > 998);
        assert!(too_long.is_none(), "{}", message.id);
    }
}

#[test]
fn only_reserved_hosts_appear() {
    for message in collection(4, 1000) {
        let text = String::from_utf8_lossy(&message.bytes);
        for (at, _) in text.match_indices("https://") {
            let host = text[at + 8..].split('/').next().unwrap_or_default();
            // Some spam hides characters without width in every word.
            let host = host.replace('\u{200b}', "");
            let soft_break = host.contains('=');
            let reserved = [".example", ".test", ".invalid"];
            assert!(
                soft_break || reserved.iter().any(|top| host.ends_with(top)),
                "{host}"
            );
        }
    }
}

#[test]
fn an_existing_collection_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    write_collection(folder.path(), collection(1, 2).into_iter()).unwrap();
    let again = write_collection(folder.path(), collection(1, 2).into_iter());
    assert!(again.unwrap_err().to_string().contains("index"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_seed_panics(seed: u64) {
        prop_assert_eq!(collection(seed, 30).len(), 30);
    }
}
