//! SRS, the Sender Rewriting Scheme: mail that is sent on to others carries a
//! sender of our domain, which SPF lets us use, and its reports find their way
//! back.
//!
//! Source: M. Weng Wong, "Sender Rewriting Scheme" (2003), and the addresses
//! that libsrs2 and postsrsd write:
//!
//! ```text
//! x@example.net      SRS0=HASH=DAY=example.net=x@example.org
//! SRS0=…@a.example   SRS1=HASH=a.example==…@example.org
//! SRS1=…=a.example==…@b.example   the same with our hash
//! ```
//!
//! Each host trusts its own hash only. HASH is an HMAC-SHA-256 with a key of
//! the host's, cut to 40 bits in base32: who guesses tries 10^12 addresses at
//! RCPT. It is over lower case, since hosts on the way may change the case.
//! DAY counts modulo 1024; an address holds for three weeks. One of the form
//! SRS1 has no day: the host before us looks at its own.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::smtp::{Domain, LocalPart, Mailbox};

/// Rewrites senders and knows what it has written.
#[derive(Clone)]
pub struct Srs {
    key: [u8; 32],
}

/// Why an address is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is no address of this scheme.
    #[error("it is no address of SRS")]
    Malformed,
    /// Its hash is another.
    #[error("its hash is not ours")]
    Forged,
    /// It was made too long ago.
    #[error("it is older than {MAX_DAYS} days")]
    Expired,
}

/// How long reports may take.
pub const MAX_DAYS: u64 = 21;
const HASH_BYTES: usize = 5;
/// RFC 4648 §6.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl Srs {
    /// With a key that is made of the host's secret.
    pub fn new(secret: &[u8]) -> Self {
        let key = hmac(secret, b"srs").finalize().into_bytes();
        Self { key: key.into() }
    }

    /// `sender` as a sender of `domain`, on a day since 1970; `None` when it is
    /// at an address literal, or becomes too long.
    pub fn rewrite(&self, sender: &Mailbox, domain: &Domain, day: u64) -> Option<Mailbox> {
        let from = sender.domain.name()?;
        let local = sender.local_part.as_str();
        let text = match (tagged(local, "SRS0"), tagged(local, "SRS1")) {
            (Some(rest), _) => self.passed_on(from, rest),
            (_, Some(rest)) if first_host(rest).is_some() => {
                let (host, rest) = first_host(rest)?;
                self.passed_on(host, rest)
            }
            _ => {
                let signed = format!("{}={from}={local}", day_of(day));
                format!("SRS0={}={signed}", self.hash(&signed))
            }
        };
        Some(Mailbox {
            local_part: LocalPart::new(&text).ok()?,
            domain: domain.clone(),
        })
    }

    /// The form SRS1: `rest` begins with the separator that `host` wrote.
    fn passed_on(&self, host: &str, rest: &str) -> String {
        let signed = format!("{host}={rest}");
        format!("SRS1={}={signed}", self.hash(&signed))
    }

    /// Where reports to an address of ours go.
    ///
    /// # Errors
    /// When we have not written it, or too long ago.
    pub fn unwrap(&self, local_part: &LocalPart, day: u64) -> Result<Mailbox, Wrong> {
        let local = local_part.as_str();
        if let Some(rest) = tagged(local, "SRS0") {
            let mut parts = rest[1..].splitn(4, '=');
            let mut next = || parts.next().ok_or(Wrong::Malformed);
            let (hash, made, domain, local) = (next()?, next()?, next()?, next()?);
            self.must_be(hash, &format!("{made}={domain}={local}"))?;
            let made = day_from(made).ok_or(Wrong::Malformed)?;
            if (day % DAYS + DAYS - made) % DAYS > MAX_DAYS {
                return Err(Wrong::Expired);
            }
            return mailbox(local, domain);
        }
        let rest = tagged(local, "SRS1").ok_or(Wrong::Malformed)?;
        let (hash, signed) = rest[1..].split_once('=').ok_or(Wrong::Malformed)?;
        self.must_be(hash, signed)?;
        let (domain, rest) = signed.split_once('=').ok_or(Wrong::Malformed)?;
        mailbox(&format!("SRS0{rest}"), domain)
    }

    fn hash(&self, signed: &str) -> String {
        let bytes = hmac(&self.key, signed.to_lowercase().as_bytes());
        let bytes = bytes.finalize().into_bytes();
        let number = bytes[..HASH_BYTES]
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        base32(number, HASH_BYTES * 8 / 5)
    }

    fn must_be(&self, hash: &str, signed: &str) -> Result<(), Wrong> {
        // No more can be learned from the time this takes than whether the
        // address holds, which the reply says.
        match self.hash(signed).eq_ignore_ascii_case(hash) {
            true => Ok(()),
            false => Err(Wrong::Forged),
        }
    }
}

impl std::fmt::Debug for Srs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srs").finish_non_exhaustive()
    }
}

/// Whether a local part looks like one of this scheme.
pub fn is_srs(local_part: &LocalPart) -> bool {
    let text = local_part.as_str();
    tagged(text, "SRS0").or(tagged(text, "SRS1")).is_some()
}

/// What follows `tag`, with the separator, which may be any of three.
fn tagged<'a>(local: &'a str, tag: &str) -> Option<&'a str> {
    let (start, rest) = local.split_at_checked(tag.len())?;
    let is_tagged = start.eq_ignore_ascii_case(tag) && rest.starts_with(['=', '+', '-']);
    is_tagged.then_some(rest)
}

/// Of `=HASH=host=REST`, the host and REST, as another host wrote it.
fn first_host(rest: &str) -> Option<(&str, &str)> {
    let (_, rest) = rest[1..].split_once('=')?;
    let (host, rest) = rest.split_once('=')?;
    let is_host = matches!(Domain::parse(host), Ok(Domain::Name(_)));
    (is_host && rest.starts_with(['=', '+', '-'])).then_some((host, rest))
}

fn mailbox(local: &str, domain: &str) -> Result<Mailbox, Wrong> {
    Ok(Mailbox {
        local_part: LocalPart::new(local).map_err(|_| Wrong::Malformed)?,
        domain: Domain::parse(domain).map_err(|_| Wrong::Malformed)?,
    })
}

/// Two digits.
const DAYS: u64 = 1024;

fn day_of(day: u64) -> String {
    base32(day % DAYS, 2)
}

fn day_from(text: &str) -> Option<u64> {
    let digit = |byte: u8| {
        let byte = byte.to_ascii_lowercase();
        BASE32.iter().position(|digit| *digit == byte)
    };
    match text.as_bytes() {
        [high, low] => Some((digit(*high)? * 32 + digit(*low)?) as u64),
        _ => None,
    }
}

fn base32(number: u64, digits: usize) -> String {
    let digit = |n: usize| char::from(BASE32[(number >> (5 * n) & 31) as usize]);
    (0..digits).rev().map(digit).collect()
}

fn hmac(key: &[u8], text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC takes keys of any length");
    mac.update(text);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Mailbox {
        Mailbox::parse(text.as_bytes()).unwrap()
    }

    fn ours() -> Domain {
        Domain::parse("example.org").unwrap()
    }

    #[test]
    fn senders_come_back_through_one_two_and_three_hosts() {
        let [ours, second, third] = [b"a", b"b", b"c"].map(|secret| Srs::new(secret));
        let domains = ["a.example", "b.example", "c.example"].map(|n| Domain::parse(n).unwrap());
        for text in [
            "X.y@example.net",
            "a=b=c@example.net",
            "\"a b\"@example.net",
            "SRS0@x.net",
        ] {
            let sender = parsed(text);
            let one = ours.rewrite(&sender, &domains[0], 20_000).unwrap();
            let two = second.rewrite(&one, &domains[1], 20_000).unwrap();
            let three = third.rewrite(&two, &domains[2], 20_000).unwrap();
            assert!(two.to_string().starts_with("SRS1=") || text.contains('"'));
            // The third goes back to the first.
            for (srs, mailbox, expected) in [
                (&third, &three, &one),
                (&second, &two, &one),
                (&ours, &one, &sender),
            ] {
                let found = srs.unwrap(&mailbox.local_part, 20_005);
                assert_eq!(found.as_ref(), Ok(expected), "{mailbox}");
            }
        }
    }

    #[test]
    fn forged_old_and_malformed_addresses() {
        let srs = Srs::new(b"secret");
        let good = srs
            .rewrite(&parsed("x@example.net"), &ours(), 20_000)
            .unwrap();
        let text = good.local_part.as_str().to_owned();
        let check = |text: &str, day| {
            let found = srs.unwrap(&LocalPart::new(text).unwrap(), day);
            found.map(|mailbox| mailbox.to_string())
        };
        assert_eq!(text.len(), "SRS0=12345678=12=example.net=x".len());
        for (text, day, expected) in [
            (text.clone(), 20_000, Ok("x@example.net")),
            (text.to_lowercase(), 20_021, Ok("x@example.net")),
            (text.to_uppercase(), 20_000, Ok("X@example.net")),
            (text.clone(), 20_022, Err(Wrong::Expired)),
            // The day before it was made is as good as 1,023 days after.
            (text.clone(), 19_999, Err(Wrong::Expired)),
            (text.replace("=x", "=y"), 20_000, Err(Wrong::Forged)),
            (text.replace(".net", ".com"), 20_000, Err(Wrong::Forged)),
            ("SRS0=x".into(), 20_000, Err(Wrong::Malformed)),
            (
                "SRS1=aaaaaaaa=example.net==x".into(),
                20_000,
                Err(Wrong::Forged),
            ),
            ("SRS1=".into(), 20_000, Err(Wrong::Malformed)),
            ("anna".into(), 20_000, Err(Wrong::Malformed)),
        ] {
            let found = check(&text, day);
            assert_eq!(found.as_deref().map_err(|wrong| *wrong), expected, "{text}");
        }
        assert!(Srs::new(b"other").unwrap(&good.local_part, 20_000).is_err());
        let literal = parsed("x@[192.0.2.1]");
        assert_eq!(srs.rewrite(&literal, &ours(), 1), None);
        let long = parsed(&format!("{}@example.net", "x".repeat(500)));
        assert_eq!(srs.rewrite(&long, &ours(), 1), None);
    }

    proptest! {
        #[test]
        fn whatever_is_rewritten_comes_back(
            local in "[ -~äß]{1,60}", domain in "[a-z]{1,9}\\.[a-z]{2,5}", day in 0_u64..100_000, age in 0..=MAX_DAYS
        ) {
            let srs = Srs::new(b"secret");
            let sender = Mailbox {
                local_part: LocalPart::new(&local).unwrap(),
                domain: Domain::parse(&domain).unwrap(),
            };
            let written = srs.rewrite(&sender, &ours(), day).unwrap();
            // Over the wire, with the quotes that it may need.
            let read = Mailbox::parse(written.to_string().as_bytes()).unwrap();
            let found = srs.unwrap(&read.local_part, day + age);
            if !is_srs(&sender.local_part) {
                prop_assert_eq!(found, Ok(sender));
            }
            prop_assert_eq!(&read.domain, &ours());
        }

        #[test]
        fn nothing_else_is_taken(local in "(SRS[01][=+-])?[ -~]{1,80}") {
            let found = Srs::new(b"secret").unwrap(&LocalPart::new(&local).unwrap(), 20_000);
            prop_assert!(found.is_err());
        }
    }
}
