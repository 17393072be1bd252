//! Whose mail it is: what this host signs, and what it finds in mail of
//! others.
//!
//! | module | answers |
//! | --- | --- |
//! | [`incoming`] | what is found of mail of others: SPF, DKIM, ARC, DMARC |
//! | [`foreign`] | which fields only pretend to be ours |
//! | [`keys`] | which keys a domain has, and where each is in its life |
//! | [`signing`] | the signatures of a message: RFC 6376, RFC 8463 |
//! | [`spf`] | what a domain says of who may send for it: RFC 7208 |
//! | [`srs`] | whose name mail carries that is sent on |

pub mod foreign;
pub mod incoming;
pub mod keys;
pub mod signing;
pub mod spf;
pub mod srs;

use std::time::Duration;

use crate::delivery::content::header_section;

/// What can be said of how mail from outside is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the DNS may take for all that is asked about one message.
    pub patience: Duration,
    /// Whether what an author's domain wishes is done.
    pub obeys: bool,
}

impl Default for Settings {
    /// DMARC fails for honest mail that lists pass on, so that nobody is
    /// obeyed unasked.
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            obeys: false,
        }
    }
}

/// `message` without blanks at its end, which the relaxed canonicalization of
/// bodies ignores (RFC 6376 §3.4.4). mail-auth 0.13 counts lines of blanks
/// there; nobody else does.
fn without_blank_end(message: &[u8]) -> &[u8] {
    let head = header_section(message);
    let (_, body) = message.split_at(head);
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    // The line that ends the header section stays.
    let begin = memchr::memchr(b'\n', body).map_or(body.len(), |at| at + 1);
    let end = body.iter().rposition(|b| !is_blank(b));
    &message[..head + begin.max(end.map_or(0, |at| at + 1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_at_the_end_are_taken_off_the_body_only() {
        for (message, expected) in [
            ("A: b\n\nx\n", "A: b\n\nx"),
            ("A: b\n\nx \n \t\n\n", "A: b\n\nx"),
            ("A: b\r\n\r\nx\r\n \r\n", "A: b\r\n\r\nx"),
            ("A: b\n\n \n\n", "A: b\n\n"),
            ("A: b \n\n", "A: b \n\n"),
            ("A: b \n", "A: b \n"),
            ("A: b ", "A: b "),
            ("\n\n", "\n"),
            ("", ""),
        ] {
            let found = without_blank_end(message.as_bytes());
            assert_eq!(String::from_utf8_lossy(found), expected, "{message:?}");
        }
    }
}
