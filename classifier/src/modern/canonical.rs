//! The part of a message that stays the same on its way to a folder.
//!
//! Delivery adds header fields on top, marks, and other line ends; none of
//! these is evidence, and none may make the same message look like another
//! one when a person corrects its verdict later.

use std::borrow::Cow;

use memchr::{memchr, memmem};
use sha2::{Digest as _, Sha256};

/// Names a message in the ledger, whatever delivery did to it since: the
/// first half of a SHA-256, so that nobody can write a message that passes
/// for another one.
pub type Digest = [u8; 16];

/// A message without what delivery adds, lines ended by LF.
#[derive(Debug)]
pub struct Canonical {
    bytes: Vec<u8>,
    body_start: usize,
}

impl Canonical {
    /// Takes any bytes; what is no header field ends the header section.
    /// Cost: one pass over the header section and one copy of the message.
    pub fn new(raw: &[u8]) -> Self {
        let raw = with_lf(raw);
        let mut bytes = Vec::with_capacity(raw.len() + 1);
        let mut rest = &raw[..];
        if is_mbox_mark(rest) {
            rest = after_line(rest);
        }
        let mut keep = true;
        while !rest.is_empty() && rest[0] != b'\n' {
            let after = after_line(rest);
            let line = &rest[..rest.len() - after.len()];
            if line[0] != b' ' && line[0] != b'\t' {
                let Some(colon) = memchr(b':', line) else {
                    break;
                };
                keep = !is_added_by_delivery(line[..colon].trim_ascii_end());
            }
            if keep {
                bytes.extend_from_slice(line);
            }
            rest = after;
        }
        let body_start = bytes.len();
        if !rest.starts_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(rest);
        Self { bytes, body_start }
    }

    /// Header section and body.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The header section without the empty line that ends it.
    pub fn header_section(&self) -> &[u8] {
        &self.bytes[..self.body_start]
    }

    /// The same for all copies of a message: without the fields that each hop
    /// adds, without the `>` that an mbox puts before `From `, and without
    /// empty lines at the end.
    /// Cost: one pass over the message.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (name, body) in self.fields() {
            if !is_added_by_hop(name) {
                for part in [name, b":", body, b"\n"] {
                    hasher.update(part);
                }
            }
        }
        let mut body = self.bytes[self.body_start..].trim_ascii_end();
        while let Some(at) = memmem::find(body, b"\n>") {
            let quotes = body[at + 1..].iter().take_while(|b| **b == b'>').count();
            let quoted = at + 1 + quotes;
            let is_mark = body[quoted..].starts_with(b"From ");
            hasher.update(&body[..if is_mark { at + 1 } else { quoted }]);
            body = &body[quoted..];
        }
        hasher.update(body);
        let mut digest = Digest::default();
        digest.copy_from_slice(&hasher.finalize()[..16]);
        digest
    }

    /// Field names with their bodies, still folded and encoded.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.header_section();
        std::iter::from_fn(move || {
            let colon = memchr(b':', rest)?;
            let mut end = colon;
            loop {
                end = memchr(b'\n', &rest[end..]).map_or(rest.len(), |at| end + at + 1);
                if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let field = (
                rest[..colon].trim_ascii(),
                rest[colon + 1..end].trim_ascii(),
            );
            rest = &rest[end..];
            Some(field)
        })
    }
}

fn with_lf(raw: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(raw, b"\r\n").is_none() {
        return Cow::Borrowed(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memmem::find(rest, b"\r\n") {
        bytes.extend_from_slice(&rest[..at]);
        bytes.push(b'\n');
        rest = &rest[at + 2..];
    }
    bytes.extend_from_slice(rest);
    Cow::Owned(bytes)
}

fn is_mbox_mark(line: &[u8]) -> bool {
    line.starts_with(b"From ") || line.starts_with(b">From ")
}

fn after_line(bytes: &[u8]) -> &[u8] {
    memchr(b'\n', bytes).map_or(&[], |at| &bytes[at + 1..])
}

/// Fields that a message gathers under way: evidence, but not the same in
/// each copy.
fn is_added_by_hop(field_name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [
        b"Received",
        b"X-Received",
        b"Received-SPF",
        b"Authentication-Results",
    ];
    NAMES.iter().any(|n| n.eq_ignore_ascii_case(field_name))
}

/// Fields that a delivery agent, a mail reader or a spam filter writes into
/// a message that has arrived.
fn is_added_by_delivery(field_name: &[u8]) -> bool {
    const NAMES: [&[u8]; 15] = [
        b"Return-Path",
        b"Delivered-To",
        b"X-Original-To",
        b"Envelope-To",
        b"Delivery-Date",
        b"Status",
        b"X-Status",
        b"X-UID",
        b"X-UIDL",
        b"X-Keywords",
        b"X-Account-Key",
        b"Content-Length",
        b"Lines",
        b"X-Evolution",
        // A new one whenever mbsync brings a message from host to host.
        b"X-TUID",
    ];
    const PREFIXES: [&[u8]; 2] = [b"X-Spam-", b"X-Mozilla-"];
    NAMES.iter().any(|n| n.eq_ignore_ascii_case(field_name))
        || PREFIXES.iter().any(|p| {
            field_name
                .get(..p.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(p))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &[u8], expected: &[u8]) {
        let canonical = Canonical::new(raw);
        assert_eq!(
            canonical.as_bytes().escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    #[test]
    fn drops_what_delivery_adds() {
        check(b"", b"\n");
        check(b"body without header\n", b"\nbody without header\n");
        check(b"Subject: a\r\n\r\nb\r\n", b"Subject: a\n\nb\n");
        check(
            b"From a@b Mon\nReturn-Path: <a@b>\nX-Spam-Status: Yes,\n\thits=1\nSubject: a\n b\nstatus: RO\n\nReturn-Path: body\n",
            b"Subject: a\n b\n\nReturn-Path: body\n",
        );
        check(b"Subject: no body", b"Subject: no body\n");
    }

    #[test]
    fn the_digest_survives_delivery() {
        let digest = |raw: &[u8]| Canonical::new(raw).digest();
        let sent = b"Subject: a\n b\n\nhello\n>From me\n>x\n";
        for arrived in [
            &b"From a@b Mon\nReceived: from c\n\tby d\nX-Spam-Status: No\nSubject: a\n b\n\nhello\n>>From me\n>x\n\n"[..],
            b"Received: e\r\nSubject: a\r\n b\r\n\r\nhello\r\nFrom me\r\n>x\r\n",
            b"Subject: a\n b\nStatus: RO\nX-TUID: uRm0eLeXt6Zs\n\nhello\n>From me\n>x",
        ] {
            assert_eq!(digest(arrived), digest(sent), "{}", arrived.escape_ascii());
        }
        for other in [
            &b"Subject: a\n c\n\nhello\n>From me\n>x\n"[..],
            b"Subject: a\n b\n\nhello\n>From me\nx\n",
            b"Subject: a\n b\n\nhello",
            b"",
        ] {
            assert_ne!(digest(other), digest(sent), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn fields_are_whole() {
        let canonical = Canonical::new(b"A: b\n\tc\nD : e\n\nF: g");
        let fields: Vec<_> = canonical.fields().collect();
        assert_eq!(fields, [(&b"A"[..], &b"b\n\tc"[..]), (b"D", b"e")]);
    }
}
