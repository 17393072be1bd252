//! A message as it is delivered: foreign verdicts taken out once, and what is
//! added for each recipient kept apart from it, so that nothing is copied.

use std::io::{self, Read};

use classifier::classic::passthrough;

use crate::smtp::{Mailbox, ReversePath};

/// A message without `X-Spam-*` fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    bytes: Vec<u8>,
    /// Where the header section ends: the blank line begins there.
    head: usize,
}

impl Content {
    /// Takes the foreign verdicts out of `message`.
    pub fn new(message: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(message.len());
        passthrough(message, b"", &mut bytes).expect("memory takes all that is written");
        let head = header_section(&bytes);
        Self { bytes, head }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The header section.
    pub fn header_section(&self) -> &[u8] {
        &self.bytes[..self.head]
    }

    /// The message with `above` on top and `fields` at the end of its header
    /// section; both whole lines.
    pub fn with<'a>(&'a self, above: &'a [u8], fields: &'a [u8]) -> Pieces<'a> {
        let head = self.header_section();
        let ended = head.is_empty() || head.ends_with(b"\n") || fields.is_empty();
        Pieces {
            pieces: [
                above,
                head,
                if ended { b"" } else { b"\n" },
                fields,
                &self.bytes[self.head..],
            ],
            at: 0,
        }
    }

    /// Whether it has been delivered to `address` before: qmail's rule,
    /// a whole line `Delivered-To: address`.
    pub fn was_delivered_to(&self, address: &Mailbox) -> bool {
        let wanted = delivered_to(address);
        let mut lines = self.header_section().split(|b| *b == b'\n');
        lines.any(|line| line.eq_ignore_ascii_case(wanted.trim_end().as_bytes()))
    }
}

/// The length of the header section: up to the first line that holds nothing.
pub fn header_section(message: &[u8]) -> usize {
    let mut at = 0;
    while at < message.len() {
        let rest = &message[at..];
        if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            return at;
        }
        at = memchr::memchr(b'\n', rest).map_or(message.len(), |n| at + n + 1);
    }
    message.len()
}

/// `Delivered-To: anna@example.org`, a whole line.
pub fn delivered_to(address: &Mailbox) -> String {
    format!("Delivered-To: {address}\n")
}

/// `Return-Path: <anna@example.org>`, a whole line: RFC 5321 §4.4.
pub fn return_path(reverse_path: &ReversePath) -> String {
    format!("Return-Path: <{reverse_path}>\n")
}

/// Pieces of a message as one reader.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    pieces: [&'a [u8]; 5],
    at: usize,
}

impl<'a> Pieces<'a> {
    /// The pieces, one after the other.
    pub fn pieces(&self) -> &[&'a [u8]] {
        &self.pieces
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.pieces.get_mut(self.at) {
            if !piece.is_empty() {
                return piece.read(buffer);
            }
            self.at += 1;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(message: &str, above: &str, fields: &str) -> String {
        let content = Content::new(message.as_bytes());
        let mut pieces = content.with(above.as_bytes(), fields.as_bytes());
        let mut text = String::new();
        assert_eq!(
            pieces.clone().len(),
            pieces.read_to_string(&mut text).unwrap() as u64
        );
        text
    }

    #[test]
    fn fields_stand_where_they_belong_and_foreign_ones_are_gone() {
        for (message, expected) in [
            (
                "A: b\n\nbody\n",
                "Return-Path: <>\nA: b\nX-Spam-Status: No\n\nbody\n",
            ),
            (
                "A: b\nX-Spam-Flag: YES\n\tfolded\n\nX-Spam-Flag: YES\n",
                "Return-Path: <>\nA: b\nX-Spam-Status: No\n\nX-Spam-Flag: YES\n",
            ),
            ("A: b", "Return-Path: <>\nA: b\nX-Spam-Status: No\n"),
            ("\nbody", "Return-Path: <>\nX-Spam-Status: No\n\nbody"),
            ("", "Return-Path: <>\nX-Spam-Status: No\n"),
        ] {
            assert_eq!(
                built(message, "Return-Path: <>\n", "X-Spam-Status: No\n"),
                expected
            );
        }
        assert_eq!(built("A: b", "", ""), "A: b");
    }

    #[test]
    fn the_same_as_bmf_writes() {
        for message in [
            "A: b\n\nbody\n",
            "A: b\nX-Spam-Flag: YES\n\n",
            "A: b",
            "\n\n",
            "",
        ] {
            let mut expected = Vec::new();
            passthrough(message.as_bytes(), b"X-Spam-Status: No\n", &mut expected).unwrap();
            assert_eq!(
                built(message, "", "X-Spam-Status: No\n").as_bytes(),
                expected,
                "{message:?}"
            );
        }
    }

    #[test]
    fn a_loop_is_seen_in_the_header_section_only() {
        let anna = Mailbox::parse(b"anna@example.org").unwrap();
        for (message, expected) in [
            ("Delivered-To: anna@example.org\n\n", true),
            ("A: b\ndelivered-to: Anna@example.org\n\n", true),
            (
                "Delivered-To: bob@example.org\n\nDelivered-To: anna@example.org\n",
                false,
            ),
            ("Delivered-To: anna@example.org.evil\n\n", false),
            ("", false),
        ] {
            assert_eq!(
                Content::new(message.as_bytes()).was_delivered_to(&anna),
                expected
            );
        }
    }
}
