//! Modified UTF-7, in which IMAP servers write folder names on disk
//! (RFC 3501 §5.1.3).
//!
//! Decoding is strict: what another writer would have written differently is
//! refused, so that two folders are never shown under one name.

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

const BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// `text` as it stands on disk.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '&' {
            out.push_str("&-");
            rest = &rest[1..];
        } else if is_direct(first) {
            out.push(first);
            rest = &rest[1..];
        } else {
            let end = rest.find(is_direct).unwrap_or(rest.len());
            let utf16: Vec<u8> = rest[..end]
                .encode_utf16()
                .flat_map(u16::to_be_bytes)
                .collect();
            out.push('&');
            BASE64.encode_string(utf16, &mut out);
            out.push('-');
            rest = &rest[end..];
        }
    }
    out
}

/// The text that `encode` turns into `name`, or `None` when there is none.
pub(crate) fn decode(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (shifted, after) = rest[at + 1..].split_once('-')?;
        if shifted.is_empty() {
            out.push('&');
        } else {
            out.push_str(&decode_shifted(shifted)?);
        }
        rest = after;
    }
    out.push_str(rest);
    (encode(&out) == name).then_some(out)
}

fn decode_shifted(base64: &str) -> Option<String> {
    let bytes = BASE64.decode(base64).ok()?;
    let (pairs, odd) = bytes.as_chunks::<2>();
    let utf16: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    String::from_utf16(&utf16).ok().filter(|_| odd.is_empty())
}

/// Printable ASCII stands for itself, `&` as `&-`.
fn is_direct(c: char) -> bool {
    (' '..='~').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_pairs() {
        // The second row is the RFC's own example.
        for (text, name) in [
            ("Junk", "Junk"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("Hello ☺", "Hello &Jjo-"),
            ("a & b", "a &- b"),
            ("&☺", "&-&Jjo-"),
            ("😀", "&2D3eAA-"),
            ("a\nb", "a&AAo-b"),
            ("", ""),
        ] {
            assert_eq!(encode(text), name);
            assert_eq!(decode(name).as_deref(), Some(text));
        }
    }

    #[test]
    fn refuses_what_nobody_should_write() {
        for name in [
            "&",          // no end
            "&Jjo",       // no end
            "&AGE-",      // an `a` in disguise
            "&AC8-",      // a slash in disguise
            "&Jjo-&Jjo-", // one run in two
            "&Jj-",       // half a code unit
            "&2D0-",      // half a surrogate pair
            "&Jjp-",      // stray bits at the end
            "&J j-",      // not base64
            "Entwürfe",   // not encoded
        ] {
            assert_eq!(decode(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in any::<String>()) {
            let name = encode(&text);
            prop_assert!(name.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(decode(&name), Some(text));
        }

        #[test]
        fn what_decodes_encodes_back(name in "[ -~]{0,12}|(&[A-Za-z0-9+,]{0,6}-){0,3}") {
            if let Some(text) = decode(&name) {
                prop_assert_eq!(encode(&text), name);
            }
        }
    }
}
