//! Addresses as they stand in an envelope: RFC 5321 §4.1.2 and §4.1.3, and
//! with UTF-8 in them RFC 6531 §3.3.
//!
//! Deliberately absent: addresses of header fields (RFC 5322), whose grammar
//! is another one.
//!
//! ```
//! use mta::smtp::Mailbox;
//!
//! let mailbox = Mailbox::parse(br#""anna smith"@Example.ORG"#)?;
//! assert_eq!(mailbox.local_part.as_str(), "anna smith");
//! assert_eq!(mailbox.to_string(), r#""anna smith"@example.org"#);
//! # Ok::<(), mta::smtp::address::Malformed>(())
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

/// The longest local part in octets. RFC 5321 §4.5.3.1.1 asks for 64 and for
/// more where that is possible; senders that put a whole other address into
/// theirs (VERP, SRS) need it.
pub const MAX_LOCAL_PART: usize = 512;
/// The longest domain in octets: RFC 5321 §4.5.3.1.2.
pub const MAX_DOMAIN: usize = 255;

/// `local-part@domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    /// What stands before the `@`.
    pub local_part: LocalPart,
    /// What stands after it.
    pub domain: Domain,
}

/// The local part, without the quotes that its text may need on the wire.
///
/// Holds no control characters. Upper and lower case differ (RFC 5321 §2.4);
/// whoever owns the domain may see that otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(Box<str>);

/// The domain of a mailbox, or what a client calls itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Domain {
    /// A name of the DNS with its ASCII letters in lower case, perhaps with
    /// U-labels (RFC 6531 §3.3); no dot at its end.
    Name(Box<str>),
    /// An address in brackets: RFC 5321 §4.1.3.
    Literal(IpAddr),
}

/// Where a message came from and its reports go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: of reports, which must not cause another report.
    Null,
    /// Somebody.
    Mailbox(Mailbox),
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain: RFC 5321 §4.5.1.
    Postmaster,
    /// Somebody.
    Mailbox(Mailbox),
}

/// Why something is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

impl Mailbox {
    /// Reads `local-part@domain`, all of it.
    ///
    /// # Errors
    /// When it does not follow the grammar or is too long.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let text = str::from_utf8(text).map_err(|_| Malformed("the address is not UTF-8"))?;
        let (local_part, rest) = LocalPart::read(text)?;
        let domain = rest
            .strip_prefix('@')
            .ok_or(Malformed("the address has no @ where one belongs"))?;
        Ok(Self {
            local_part,
            domain: Domain::parse(domain)?,
        })
    }

    /// Whether it can be sent to a server that does not know SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.local_part.0.is_ascii() && self.domain.is_ascii()
    }
}

impl LocalPart {
    /// Takes the plain text, `anna smith` and not `"anna smith"`.
    ///
    /// # Errors
    /// When it is empty, too long, or holds control characters.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Err(Malformed("the local part is empty"));
        }
        if text.len() > MAX_LOCAL_PART {
            return Err(Malformed("the local part is too long"));
        }
        if text.chars().any(char::is_control) {
            return Err(Malformed("the local part holds a control character"));
        }
        Ok(Self(text.into()))
    }

    /// The plain text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads one from the beginning of `text`; also gives what follows it.
    fn read(text: &str) -> Result<(Self, &str), Malformed> {
        if let Some(quoted) = text.strip_prefix('"') {
            return Self::read_quoted(quoted);
        }
        let end = text
            .find(|c: char| c != '.' && !is_atext(c))
            .unwrap_or(text.len());
        let (atoms, rest) = text.split_at(end);
        if !is_dot_string(atoms) {
            return Err(Malformed("the local part is malformed"));
        }
        Ok((Self::new(atoms)?, rest))
    }

    /// After the first quote: qcontent of RFC 5321 §4.1.2.
    fn read_quoted(quoted: &str) -> Result<(Self, &str), Malformed> {
        let mut plain = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Ok((Self::new(&plain)?, &quoted[at + 1..])),
                '\\' => match chars.next() {
                    Some((_, escaped @ ' '..='~')) => plain.push(escaped),
                    _ => return Err(Malformed("the local part is malformed")),
                },
                c => plain.push(c),
            }
        }
        Err(Malformed("the local part lacks its closing quote"))
    }
}

impl Domain {
    /// Reads a name or an address literal.
    ///
    /// # Errors
    /// When it is neither, or too long.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if let Some(literal) = text.strip_prefix('[') {
            let literal = literal.strip_suffix(']').and_then(parse_literal);
            return literal
                .map(Self::Literal)
                .ok_or(Malformed("the address literal is malformed"));
        }
        if text.len() > MAX_DOMAIN {
            return Err(Malformed("the domain is too long"));
        }
        if !text.split('.').all(is_label) {
            return Err(Malformed("the domain is malformed"));
        }
        Ok(Self::Name(text.to_ascii_lowercase().into()))
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Literal(_) => None,
        }
    }

    /// Whether there are no U-labels in it.
    pub fn is_ascii(&self) -> bool {
        self.name().is_none_or(str::is_ascii)
    }
}

impl ReversePath {
    /// Reads what stands between the angle brackets.
    ///
    /// # Errors
    /// When it is no address.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Ok(Self::Null);
        }
        Mailbox::parse(without_route(text)?).map(Self::Mailbox)
    }

    /// Whoever it is, if it is not null.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl ForwardPath {
    /// Reads what stands between the angle brackets.
    ///
    /// # Errors
    /// When it is no address.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.eq_ignore_ascii_case(b"postmaster") {
            return Ok(Self::Postmaster);
        }
        Mailbox::parse(without_route(text)?).map(Self::Mailbox)
    }

    /// Whoever it is, if a domain was given.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

/// Drops a source route, `@a,@b:`, which is accepted and ignored: RFC 5321
/// §4.1.2 and Appendix C.
fn without_route(text: &[u8]) -> Result<&[u8], Malformed> {
    let malformed = Malformed("the source route is malformed");
    if !text.starts_with(b"@") {
        return Ok(text);
    }
    // A colon may also stand in an IPv6 literal, but none before the end of
    // its bracket.
    let mut in_literal = false;
    let end = text.iter().position(|&b| {
        in_literal = (in_literal || b == b'[') && b != b']';
        b == b':' && !in_literal
    });
    let (route, rest) = text.split_at(end.ok_or(malformed)?);
    let hops = str::from_utf8(route).map_err(|_| malformed)?.split(',');
    for hop in hops {
        Domain::parse(hop.strip_prefix('@').ok_or(malformed)?)?;
    }
    Ok(&rest[1..])
}

/// RFC 5321 §4.1.3. General address literals, of which there are none, are
/// refused.
fn parse_literal(text: &str) -> Option<IpAddr> {
    const TAG: usize = "IPv6:".len();
    match text.split_at_checked(TAG) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
            address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// `sub-domain` of RFC 5321 §4.1.2 or a U-label: letters, digits, and hyphens
/// within; 63 octets as in RFC 1035 §2.3.4.
fn is_label(label: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || is_beyond_ascii(c);
    // Deviation: underscores, which no host should have and some have.
    let inner = |c: char| inner(c) || c == '_';
    !label.is_empty()
        && (label.len() <= 63 || !label.is_ascii())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(inner)
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty())
}

/// `atext` of RFC 5322 §3.2.3, with what RFC 6531 §3.3 adds.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_beyond_ascii(c)
}

fn is_beyond_ascii(c: char) -> bool {
    !c.is_ascii() && !c.is_control()
}

impl fmt::Display for LocalPart {
    /// As it goes over the wire, in quotes only where they are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) && self.0.chars().all(|c| c == '.' || is_atext(c)) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Self::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

impl fmt::Display for ReversePath {
    /// Without the angle brackets; nothing for the null reverse-path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mailbox().map_or(Ok(()), |mailbox| mailbox.fmt(f))
    }
}

impl fmt::Display for ForwardPath {
    /// Without the angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("postmaster"),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let parsed = Mailbox::parse(text.as_bytes()).ok();
        let printed = parsed.as_ref().map(ToString::to_string);
        assert_eq!(printed.as_deref(), expected, "{text:?}");
        if let (Some(mailbox), Some(printed)) = (parsed, printed) {
            assert_eq!(Mailbox::parse(printed.as_bytes()), Ok(mailbox));
        }
    }

    #[test]
    fn mailboxes() {
        let long = "x".repeat(MAX_LOCAL_PART);
        for (text, expected) in [
            ("anna@example.org", Some("anna@example.org")),
            ("Anna@Example.ORG", Some("Anna@example.org")),
            ("a.b+c-d=e@x-y.example", Some("a.b+c-d=e@x-y.example")),
            (r#""anna"@example.org"#, Some("anna@example.org")),
            (r#""a b"@example.org"#, Some(r#""a b"@example.org"#)),
            (r#""a\"b\\c"@x.org"#, Some(r#""a\"b\\c"@x.org"#)),
            (r#""a\bc"@x.org"#, Some("abc@x.org")),
            (r#""a@b"@x.org"#, Some(r#""a@b"@x.org"#)),
            ("a@[192.0.2.1]", Some("a@[192.0.2.1]")),
            ("a@[IPv6:2001:DB8::1]", Some("a@[IPv6:2001:db8::1]")),
            ("a@[ipv6:::1]", Some("a@[IPv6:::1]")),
            ("anna@bücher.example", Some("anna@bücher.example")),
            ("jürgen@example.org", Some("jürgen@example.org")),
            ("a@host_1.example", Some("a@host_1.example")),
            (&format!("{long}@x.org"), Some(&format!("{long}@x.org"))),
            ("", None),
            ("anna", None),
            ("@example.org", None),
            ("anna@", None),
            ("anna@example.org.", None),
            ("anna@.example.org", None),
            ("anna@-x.org", None),
            ("anna@x..org", None),
            ("a..b@x.org", None),
            (".a@x.org", None),
            ("a.@x.org", None),
            ("a b@x.org", None),
            ("a@b@x.org", None),
            (r#""a@x.org"#, None),
            (r#""a"b@x.org"#, None),
            (r#"""@x.org"#, None),
            ("\"a\nb\"@x.org", None),
            ("\"a\\\nb\"@x.org", None),
            ("a\0@x.org", None),
            ("a@[300.0.2.1]", None),
            ("a@[192.0.2.1", None),
            ("a@[2001:db8::1]", None),
            ("a@[tag:content]", None),
            (&format!("x{long}@x.org"), None),
            (&format!("a@{}org", "x.".repeat(130)), None),
            (&format!("a@{}.org", "x".repeat(64)), None),
        ] {
            check(text, expected);
        }
        assert!(Mailbox::parse(b"a\xff@x.org").is_err());
    }

    #[test]
    fn paths() {
        assert_eq!(ReversePath::parse(b""), Ok(ReversePath::Null));
        assert_eq!(
            ForwardPath::parse(b""),
            Err(Malformed("the local part is malformed"))
        );
        for postmaster in ["Postmaster", "POSTMASTER"] {
            let path = ForwardPath::parse(postmaster.as_bytes());
            assert_eq!(path, Ok(ForwardPath::Postmaster));
        }
        for (text, expected) in [
            ("@a.example:b@c.org", Some("b@c.org")),
            ("@a.example,@[IPv6:::1]:b@c.org", Some("b@c.org")),
            ("@a.example,b@c.org", None),
            ("@a.example", None),
            ("@:b@c.org", None),
            ("@a.example,:b@c.org", None),
        ] {
            let path = ForwardPath::parse(text.as_bytes()).ok();
            let printed = path.map(|path| path.to_string());
            assert_eq!(printed.as_deref(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(text in "(\"([ -~]|ü){0,9}\"|[a-z.+ü]{0,9})@[a-z0-9.-]{0,9}") {
            if let Ok(mailbox) = Mailbox::parse(text.as_bytes()) {
                prop_assert_eq!(Mailbox::parse(mailbox.to_string().as_bytes()), Ok(mailbox));
            }
        }

        #[test]
        fn any_plain_local_part_can_be_printed(text in "[ -~ü€]{1,40}") {
            let domain = Domain::parse("example.org").unwrap();
            let mailbox = Mailbox { local_part: LocalPart::new(&text).unwrap(), domain };
            prop_assert_eq!(Mailbox::parse(mailbox.to_string().as_bytes()), Ok(mailbox));
        }

        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = ReversePath::parse(&bytes);
            let _ = ForwardPath::parse(&bytes);
        }
    }
}
