//! The client's side of SMTP without a socket: what is said, and what the
//! answers mean (RFC 5321).
//!
//! Deliberately absent: BDAT, and turning 8-bit text into 7-bit text for
//! servers without 8BITMIME, which in truth take it.

use std::fmt::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memchr;

use super::{Credentials, Parcel};
use crate::printable::printable;
use crate::queue::Recipient;
use crate::smtp::{EnhancedCode, Notify, Reply, Return, ReversePath};

/// What a server says in answer to EHLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) pipelining: bool,
    pub(super) starttls: bool,
    eight_bit_mime: bool,
    smtputf8: bool,
    /// Whether it reports to the sender itself.
    pub(super) dsn: bool,
    /// RFC 1870; `None` when it says nothing, or no limit.
    max_octets: Option<u64>,
    auth: Vec<String>,
}

/// Collects replies from bytes.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    input: Vec<u8>,
    lines: Vec<String>,
    octets: usize,
}

/// What is wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonsense;

/// No honest reply is longer.
const MAX_REPLY: usize = 64 * 1024;

impl Replies {
    /// Takes what the server sent.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next reply, when all of it is there. Its text will stand in logs,
    /// reports and terminals.
    pub(crate) fn next(&mut self) -> Result<Option<Reply>, Nonsense> {
        while let Some(end) = memchr(b'\n', &self.input) {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            self.octets += line.len();
            if self.octets > MAX_REPLY {
                return Err(Nonsense);
            }
            let line = printable(&String::from_utf8_lossy(line.trim_ascii_end()));
            let is_last = !matches!(line.as_bytes().get(3), Some(b'-'));
            self.lines.push(line);
            if is_last {
                self.octets = 0;
                return parse(&std::mem::take(&mut self.lines)).map(Some);
            }
        }
        if self.input.len() > MAX_REPLY {
            return Err(Nonsense);
        }
        Ok(None)
    }

    /// Whether the server has said more than it was asked; behind STARTTLS
    /// that would be somebody in between (RFC 3207 §4.2).
    pub(super) fn has_more(&self) -> bool {
        !self.input.is_empty() || !self.lines.is_empty()
    }
}

/// The lines of one reply, without their ends.
fn parse(lines: &[String]) -> Result<Reply, Nonsense> {
    let code = lines
        .first()
        .and_then(|line| line.get(..3))
        .ok_or(Nonsense)?;
    let number: u16 = code.parse().map_err(|_| Nonsense)?;
    if !(200..=599).contains(&number) {
        return Err(Nonsense);
    }
    let mut enhanced = None;
    let mut text: Vec<&str> = Vec::new();
    for line in lines {
        if line.get(..3) != Some(code) {
            return Err(Nonsense);
        }
        let rest = line.get(4..).unwrap_or_default();
        match EnhancedCode::read(rest) {
            Some((code, rest)) if u16::from(code.class) == number / 100 => {
                enhanced.get_or_insert(code);
                text.push(rest);
            }
            _ => text.push(rest),
        }
    }
    Ok(Reply {
        enhanced,
        ..Reply::plain(number, text.join("\n"))
    })
}

impl Capabilities {
    /// Reads the answer to EHLO.
    pub(super) fn read(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.text.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else {
                continue;
            };
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "STARTTLS" => found.starttls = true,
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "DSN" => found.dsn = true,
                "SIZE" => {
                    let octets = words.next().and_then(|digits| digits.parse().ok());
                    found.max_octets = octets.filter(|n| *n > 0);
                }
                "AUTH" => found.auth.extend(words.map(str::to_ascii_uppercase)),
                _ => {}
            }
        }
        found
    }

    /// Why this server cannot take that parcel at all.
    pub(super) fn refuses(&self, parcel: &Parcel<'_>, octets: u64) -> Option<Reply> {
        if self.max_octets.is_some_and(|max| octets > max) {
            return Some(Reply::new(
                552,
                (5, 3, 4),
                "the message is too large for that server",
            ));
        }
        // RFC 6531 §3.5.
        (needs_utf8(parcel) && !self.smtputf8).then(|| {
            let text = "that server knows no addresses beyond ASCII";
            Reply::new(550, (5, 6, 7), text)
        })
    }

    /// MAIL, with the parameters that the server knows.
    pub(super) fn mail(&self, parcel: &Parcel<'_>, octets: u64) -> String {
        let entry = parcel.entry;
        let mut line = format!("MAIL FROM:<{}>", entry.reverse_path);
        if self.max_octets.is_some() {
            let _ = write!(line, " SIZE={octets}");
        }
        if self.eight_bit_mime && !parcel.message.is_ascii() {
            line.push_str(" BODY=8BITMIME");
        }
        if needs_utf8(parcel) {
            line.push_str(" SMTPUTF8");
        }
        if self.dsn {
            match entry.ret {
                Some(Return::Full) => line.push_str(" RET=FULL"),
                Some(Return::Headers) => line.push_str(" RET=HDRS"),
                None => {}
            }
            if let Some(envid) = &entry.envid {
                let _ = write!(line, " ENVID={}", xtext(envid));
            }
        }
        line.push_str("\r\n");
        line
    }

    /// RCPT, likewise.
    pub(super) fn rcpt(&self, recipient: &Recipient) -> String {
        let mut line = format!("RCPT TO:<{}>", recipient.address);
        if self.dsn {
            if let Some(notify) = recipient.notify {
                let _ = write!(line, " NOTIFY={}", notify_words(notify));
            }
            if let Some((kind, address)) = recipient.orcpt.as_ref().and_then(|o| o.split_once(';'))
            {
                let _ = write!(line, " ORCPT={kind};{}", xtext(address));
            }
        }
        line.push_str("\r\n");
        line
    }

    /// What to say to log in; `None` when the server knows neither PLAIN nor
    /// LOGIN. Each line is an answer to a 334, but the first.
    pub(super) fn auth(&self, credentials: &Credentials) -> Option<Vec<String>> {
        let Credentials { user, password } = credentials;
        let encode = |text: &str| BASE64_STANDARD.encode(text) + "\r\n";
        let knows = |name: &str| self.auth.iter().any(|known| known == name);
        if knows("PLAIN") {
            // RFC 4616.
            let plain = encode(&format!("\0{user}\0{password}"));
            return Some(vec![format!("AUTH PLAIN {plain}")]);
        }
        knows("LOGIN").then(|| vec!["AUTH LOGIN\r\n".into(), encode(user), encode(password)])
    }
}

fn needs_utf8(parcel: &Parcel<'_>) -> bool {
    let is_ascii = match &parcel.entry.reverse_path {
        ReversePath::Null => true,
        ReversePath::Mailbox(mailbox) => mailbox.is_ascii(),
    };
    let mut recipients = parcel.recipients.iter();
    parcel.entry.smtputf8 || !is_ascii || recipients.any(|recipient| !recipient.address.is_ascii())
}

/// RFC 3461 §4.1.
fn notify_words(notify: Notify) -> String {
    let words = [
        (notify.success, "SUCCESS"),
        (notify.failure, "FAILURE"),
        (notify.delay, "DELAY"),
    ];
    let chosen = words.iter().filter(|(is_wanted, _)| *is_wanted);
    let chosen: Vec<&str> = chosen.map(|(_, word)| *word).collect();
    if chosen.is_empty() {
        "NEVER".into()
    } else {
        chosen.join(",")
    }
}

/// RFC 3461 §4.
fn xtext(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' | 0..=32 | 127.. => {
                let _ = write!(encoded, "+{byte:02X}");
            }
            byte => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// A message as it goes over the wire: CRLF for LF, and transparency
/// (RFC 5321 §4.5.2).
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Whether something stands in the present line.
    in_line: bool,
}

impl Wire {
    /// What goes over the wire for the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() + piece.len() / 32 + 8);
        for line in piece.split_inclusive(|b| *b == b'\n') {
            if !self.in_line && line.starts_with(b".") {
                out.push(b'.');
            }
            self.in_line = !line.ends_with(b"\n");
            out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            if !self.in_line {
                out.extend_from_slice(b"\r\n");
            }
        }
        out
    }

    /// What ends it.
    pub(crate) fn end(&self) -> &'static [u8] {
        if self.in_line { b"\r\n.\r\n" } else { b".\r\n" }
    }
}

/// A whole message, with the dot at its end.
pub(crate) fn data(message: &[u8]) -> Vec<u8> {
    let mut wire = Wire::default();
    let mut out = wire.push(message);
    out.extend_from_slice(wire.end());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replies(pieces: &[&str]) -> Result<Vec<String>, Nonsense> {
        let mut replies = Replies::default();
        let mut found = Vec::new();
        for piece in pieces {
            replies.receive(piece.as_bytes());
            while let Some(reply) = replies.next()? {
                found.push(reply.to_string());
            }
        }
        Ok(found)
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        let text = "220 mx ESMTP\r\n250-2.1.0 a\r\n250 2.1.0 b\r\n550\r\n354 go\n";
        let whole = replies(&[text]).unwrap();
        assert_eq!(whole, ["220 mx ESMTP", "250 2.1.0 a b", "550", "354 go"]);
        for at in 0..text.len() {
            assert_eq!(replies(&[&text[..at], &text[at..]]).unwrap(), whole, "{at}");
        }
        let bytes: Vec<&str> = text.split_inclusive(|_| true).collect();
        assert_eq!(replies(&bytes).unwrap(), whole);
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_the_same_however_it_is_cut(
            text in "(([2-5][0-9]{2}[ -]?)?([245]\\.[0-9]\\.[0-9] )?[\x00-\x7f]{0,9}\n?){0,8}",
            at in any::<prop::sample::Index>(),
        ) {
            let (before, behind) = text.split_at(at.index(text.len() + 1));
            prop_assert_eq!(replies(&[before, behind]), replies(&[&text]));
        }
    }

    #[test]
    fn no_reply_reaches_a_terminal() {
        let said = replies(&["550 5.1.1 \x1b[2Jgone\x07\r\n"]).unwrap();
        assert_eq!(said, ["550 5.1.1 ?[2Jgone?"]);
    }

    #[test]
    fn nonsense_is_no_reply() {
        let long = format!("250-{}\r\n", "x".repeat(1000)).repeat(70);
        let endless = "x".repeat(MAX_REPLY + 1);
        for text in [
            "hello\r\n",
            "\r\n",
            "25\r\n",
            "099 x\r\n",
            "600 x\r\n",
            "250-a\r\n550 b\r\n",
            "é00 x\r\n",
            &long,
            &endless,
        ] {
            assert_eq!(
                replies(&[text]),
                Err(Nonsense),
                "{}",
                &text[..text.len().min(20)]
            );
        }
    }

    #[test]
    fn what_a_server_can() {
        let reply = Reply::plain(
            250,
            "mx\nPIPELINING\nsize 1000\nAUTH LOGIN plain\n8BITMIME\nDSN\nX-OTHER y",
        );
        let found = Capabilities::read(&reply);
        assert!(found.pipelining && found.eight_bit_mime && found.dsn && !found.starttls);
        assert_eq!(found.max_octets, Some(1000));
        let credentials = Credentials {
            user: "anna".into(),
            password: "secret".into(),
        };
        assert_eq!(
            found.auth(&credentials).unwrap(),
            ["AUTH PLAIN AGFubmEAc2VjcmV0\r\n"]
        );
        let login = Capabilities::read(&Reply::plain(250, "mx\nAUTH LOGIN CRAM-MD5"));
        assert_eq!(
            login.auth(&credentials).unwrap(),
            ["AUTH LOGIN\r\n", "YW5uYQ==\r\n", "c2VjcmV0\r\n"]
        );
        assert_eq!(Capabilities::default().auth(&credentials), None);
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    #[test]
    fn messages_on_the_wire() {
        for (message, expected) in [
            ("a\nb\n", "a\r\nb\r\n.\r\n"),
            (".\n..a\nb.\n", "..\r\n...a\r\nb.\r\n.\r\n"),
            ("no end", "no end\r\n.\r\n"),
            ("", ".\r\n"),
        ] {
            assert_eq!(data(message.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn xtext_and_notify() {
        assert_eq!(xtext("a+b=c d@é"), "a+2Bb+3Dc+20d@+C3+A9");
        assert_eq!(notify_words(Notify::default()), "NEVER");
        let both = Notify {
            success: true,
            delay: true,
            failure: false,
        };
        assert_eq!(notify_words(both), "SUCCESS,DELAY");
    }
}
