//! What the DNS is to say of a key.

use std::fmt;

use super::Key;

/// A TXT record to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its full name, without the dot at its end.
    pub name: String,
    /// All of its text.
    pub text: String,
}

impl Key {
    /// Its record for `domain`: RFC 6376 §3.6.1 and §3.6.2.
    pub fn record(&self, domain: &str) -> Record {
        let key_type = self.algorithm.key_type();
        let domain = mail_auth::common::to_a_label(domain);
        Record {
            name: format!("{}._domainkey.{domain}", self.selector),
            text: format!("v=DKIM1; k={key_type}; p={}", self.public),
        }
    }
}

impl Record {
    /// Whether `text`, as the DNS has it, holds the same key.
    pub fn is(&self, text: &[u8]) -> bool {
        let key = |text: &str| {
            let mut tags = text.split(';').filter_map(|tag| tag.split_once('='));
            let key = tags.find(|(name, _)| name.trim() == "p");
            key.map(|(_, key)| key.split_ascii_whitespace().collect::<String>())
        };
        key(&String::from_utf8_lossy(text)) == key(&self.text)
    }
}

impl fmt::Display for Record {
    /// As a line of a zone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. TXT {}", self.name, quoted(&self.text))
    }
}

/// A text as a zone has it: strings of a TXT record hold 255 octets at most
/// (RFC 1035 §3.3.14).
pub(crate) fn quoted(text: &str) -> String {
    let strings = text.as_bytes().chunks(255).map(|string| {
        let string = String::from_utf8_lossy(string);
        let string = string.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{string}\"")
    });
    strings.collect::<Vec<_>>().join(" ")
}
