//! What the fields of a message say that its old host did.

use std::net::IpAddr;

use serde::Serialize;

use crate::gate::rules::glob::unfolded;

/// What the old host did, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Old {
    /// The folder of the Maildir; "" is the inbox.
    pub folder: Option<String>,
    /// Whom it was delivered to.
    pub delivered_to: Option<String>,
    /// The reverse-path.
    pub sender: Option<String>,
    /// The client that brought it from outside.
    pub address: Option<IpAddr>,
    /// The client's name in the DNS.
    pub name: Option<String>,
    /// What it called itself.
    pub helo: Option<String>,
    /// Whether its filter called it spam.
    pub spam: Option<bool>,
}

impl Old {
    /// Reads a header section.
    pub fn of(section: &[u8]) -> Self {
        let fields = unfolded(section);
        let of = |wanted: &str| {
            fields.iter().find_map(|field| {
                let (name, value) = field.split_once(':')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim())
            })
        };
        let mut old = Self {
            delivered_to: ["Delivered-To", "X-Original-To", "Envelope-To"]
                .iter()
                .find_map(|name| of(name))
                .map(|text| bare(text).to_owned()),
            sender: of("Return-Path").map(|text| bare(text).to_owned()),
            ..Self::default()
        };
        let word = of("X-Spam-Status").or(of("X-Spam-Flag"));
        old.spam = word.and_then(|text| {
            let text = text.to_ascii_lowercase();
            match (text.starts_with("yes"), text.starts_with("no")) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            }
        });
        let received = fields.iter().filter_map(|field| {
            let (name, value) = field.split_once(':')?;
            name.eq_ignore_ascii_case("Received").then_some(value)
        });
        for value in received {
            if old.client(value) {
                break;
            }
        }
        old
    }

    /// `from NAME (HELO x) (user@192.0.2.7) by ...` as qmail has it, or `from x
    /// (NAME [192.0.2.7]) by ...` as others; whether it names a client from
    /// outside.
    fn client(&mut self, value: &str) -> bool {
        let Some(from) = value.trim_start().strip_prefix("from ") else {
            return false;
        };
        let from = from.split(" by ").next().unwrap_or_default();
        let words: Vec<&str> = from
            .split(|c: char| c.is_whitespace() || "()[]@;".contains(c))
            .filter(|word| !word.is_empty())
            .collect();
        let address = words.iter().find_map(|word| {
            let word = word.strip_prefix("IPv6:").unwrap_or(word);
            word.parse::<IpAddr>().ok()
        });
        let Some(address) = address.filter(|address| !address.is_loopback()) else {
            return false;
        };
        let is_name = |word: &&&str| word.contains('.') && word.parse::<IpAddr>().is_err();
        let helo = words
            .iter()
            .position(|word| word.eq_ignore_ascii_case("HELO"));
        let (name, helo) = match helo {
            Some(at) => (words.first(), words.get(at + 1)),
            // The same word where qmail found both to be one.
            None if words.len() == 2 => (words.first(), words.first()),
            None => (words.get(1), words.first()),
        };
        let known = |word: &&&str| !word.eq_ignore_ascii_case("unknown");
        self.address = Some(address);
        self.name = name.filter(is_name).filter(known).map(ToString::to_string);
        self.helo = helo.map(ToString::to_string);
        true
    }
}

fn bare(text: &str) -> &str {
    text.trim().trim_start_matches('<').trim_end_matches('>')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_as_each_host_writes_them() {
        for (received, address, name, helo) in [
            (
                "from mx.example.net (HELO mail) (192.0.2.7) by x with SMTP; date",
                "192.0.2.7",
                Some("mx.example.net"),
                "mail",
            ),
            (
                "from unknown (HELO mail) (anna@192.0.2.7) by x with ESMTPA",
                "192.0.2.7",
                None,
                "mail",
            ),
            (
                "from mx.example.net (192.0.2.7) by x",
                "192.0.2.7",
                Some("mx.example.net"),
                "mx.example.net",
            ),
            (
                "from mail (mx.example.net [IPv6:2001:db8::1]) by x with ESMTPS id 1",
                "2001:db8::1",
                Some("mx.example.net"),
                "mail",
            ),
            (
                "from mail (unknown [192.0.2.7]) by x",
                "192.0.2.7",
                None,
                "mail",
            ),
        ] {
            let text = format!(
                "Delivered-To: bob@example.org\nReturn-Path: <x@example.net>\n\
                 Received: (qmail 1 invoked by uid 2); date\n\
                 Received: from localhost (127.0.0.1) by x\nReceived: {received}\n\
                 Received: from far.example (198.51.100.1) by y\nX-Spam-Status: Yes, hits=1\n"
            );
            let old = Old::of(text.as_bytes());
            let expected = Old {
                folder: None,
                delivered_to: Some("bob@example.org".into()),
                sender: Some("x@example.net".into()),
                address: Some(address.parse().unwrap()),
                name: name.map(str::to_owned),
                helo: Some(helo.into()),
                spam: Some(true),
            };
            assert_eq!(old, expected, "{received}");
        }
        assert_eq!(Old::of(b""), Old::default());
        assert_eq!(Old::of(b"X-Spam-Flag: NO\n").spam, Some(false));
    }
}
