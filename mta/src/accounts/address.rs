//! What an account is called: `anna@example.org`, in lower case.

use std::fmt;

use crate::smtp;
use crate::smtp::address::Malformed;

/// The name of a user or an alias. With an empty local part, `@example.org`,
/// that of a catch-all.
///
/// The hosts of a domain decide what its local parts mean (RFC 5321 §2.4):
/// here ASCII letters of either case are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Without the quotes that it may need on the wire.
    pub local_part: String,
    /// A name, no address literal.
    pub domain: String,
}

impl Address {
    /// In lower case.
    pub fn new(local_part: &str, domain: &str) -> Self {
        Self {
            local_part: local_part.to_ascii_lowercase(),
            domain: domain.to_ascii_lowercase(),
        }
    }

    /// Reads `anna@example.org`, or `@example.org`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if let Some(domain) = text.strip_prefix('@') {
            return Ok(Self::new("", &domain_name(domain)?));
        }
        let mailbox = smtp::Mailbox::parse(text.as_bytes())?;
        let domain = domain_name(&mailbox.domain.to_string())?;
        Ok(Self::new(mailbox.local_part.as_str(), &domain))
    }

    /// Of a mailbox; `None` at an address literal, where no account is.
    pub fn of(mailbox: &smtp::Mailbox) -> Option<Self> {
        let domain = mailbox.domain.name()?;
        Some(Self::new(mailbox.local_part.as_str(), domain))
    }

    /// Whether it stands for all local parts without an account.
    pub fn is_catch_all(&self) -> bool {
        self.local_part.is_empty()
    }

    /// As it stands in an envelope; `None` for a catch-all.
    pub fn mailbox(&self) -> Option<smtp::Mailbox> {
        Some(smtp::Mailbox {
            local_part: smtp::LocalPart::new(&self.local_part).ok()?,
            domain: smtp::Domain::parse(&self.domain).ok()?,
        })
    }
}

/// Reads a domain that can hold accounts.
pub(crate) fn domain_name(text: &str) -> Result<String, Malformed> {
    let domain = smtp::Domain::parse(text)?;
    match domain.name() {
        Some(name) => Ok(name.to_owned()),
        // An address literal is well-formed and yet no domain; what the
        // grammar says of a name that is none fits it.
        None => smtp::Domain::parse("").map(|_| String::new()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mailbox() {
            Some(mailbox) => mailbox.fmt(f),
            None => write!(f, "{}@{}", self.local_part, self.domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address() {
        for (text, expected) in [
            ("Anna@Example.org", Some("anna@example.org")),
            ("@Example.org", Some("@example.org")),
            (
                "\"anna smith\"@example.org",
                Some("\"anna smith\"@example.org"),
            ),
            ("anna", None),
            ("anna@[127.0.0.1]", None),
            ("@", None),
            ("", None),
        ] {
            let read = Address::parse(text).ok().map(|address| address.to_string());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }
}
