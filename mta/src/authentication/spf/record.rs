//! What a record says by the grammar of RFC 7208 §12.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a text is a record of SPF, well-formed or not: RFC 7208 §4.5.
pub fn is_record(text: &[u8]) -> bool {
    let (version, rest) = text.split_at(text.len().min(6));
    version.eq_ignore_ascii_case(b"v=spf1") && matches!(rest.first(), None | Some(b' '))
}

/// A record without what says nothing of a client of IPv4, or of IPv6, and
/// without modifiers that nobody has defined. `None`: it is malformed.
///
/// The letters within a macro, and that no modifier stands twice, are left to
/// who evaluates it.
pub fn read(record: &[u8], is_ipv4: bool) -> Option<String> {
    let text = std::str::from_utf8(record).ok()?;
    let mut terms = text.split(' ').filter(|term| !term.is_empty());
    let mut read = terms.next()?.to_owned();
    for term in terms {
        if is_said(term, is_ipv4)? {
            read = read + " " + term;
        }
    }
    Some(read)
}

/// Whether a term says anything; `None`: it is malformed.
fn is_said(term: &str, is_ipv4: bool) -> Option<bool> {
    let qualified = term.strip_prefix(['+', '-', '?', '~']);
    let directive = qualified.unwrap_or(term);
    let end = directive.find([':', '/', '=']);
    let (name, rest) = directive.split_at(end.unwrap_or(directive.len()));
    let value = rest.get(1..).unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let mut said = true;
    let is_right = match (name.as_str(), rest.bytes().next()) {
        ("redirect" | "exp", Some(b'=')) if qualified.is_none() => is_domain(value),
        // §6: whatever has the form of a modifier, also `a=` and `all=`.
        (name, Some(b'=')) if qualified.is_none() => {
            said = false;
            let is_of_name = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
            name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(is_of_name)
                && ends_with_macro(value).is_some()
        }
        ("all" | "ptr", None) => true,
        ("include" | "exists" | "ptr", Some(b':')) => is_domain(value),
        ("a" | "mx", _) => match without_lengths(rest)? {
            "" => true,
            domain => is_domain(domain.strip_prefix(':')?),
        },
        ("ip4", Some(b':')) => {
            said = is_ipv4;
            let (address, length) = value.split_once('/').unwrap_or((value, "32"));
            address.parse::<Ipv4Addr>().is_ok() && is_length(length, 32)
        }
        ("ip6", Some(b':')) => {
            said = !is_ipv4;
            let (address, length) = value.split_once('/').unwrap_or((value, "128"));
            address.parse::<Ipv6Addr>().is_ok() && is_length(length, 128)
        }
        _ => false,
    };
    is_right.then_some(said)
}

/// What stands before `/24//64`: §5.6.
fn without_lengths(rest: &str) -> Option<&str> {
    let without = |rest, mark: &str, most| match str::rsplit_once(rest, mark) {
        Some((before, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            is_length(digits, most).then_some(before)
        }
        _ => Some(rest),
    };
    without(without(rest, "//", 128)?, "/", 32)
}

fn is_length(digits: &str, most: u8) -> bool {
    let is_plain = digits == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    is_plain && digits.parse::<u8>().is_ok_and(|length| length <= most)
}

/// Whether it is a domain-spec (§7.1), which ends with a macro or like a name.
/// One without macros must be a name that the DNS can have.
fn is_domain(text: &str) -> bool {
    let Some(ends_with_macro) = ends_with_macro(text) else {
        return false;
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_top = |label: &str| {
        let is_of_label = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        label.bytes().all(is_of_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.bytes().all(|b| b.is_ascii_digit())
    };
    let mut labels = name.split('.');
    let can_be = text.contains('%') || labels.all(|label| (1..=63).contains(&label.len()));
    ends_with_macro || can_be && name.rsplit_once('.').is_some_and(|(_, top)| is_top(top))
}

/// Whether a macro-string (§7.1) ends with a macro; `None`: it is none.
fn ends_with_macro(text: &str) -> Option<bool> {
    let (mut rest, mut is_macro) = (text, false);
    while let Some(first) = rest.bytes().next() {
        is_macro = first == b'%';
        rest = match (first, rest.as_bytes().get(1)) {
            (b'%', Some(b'%' | b'_' | b'-')) => &rest[2..],
            (b'%', Some(b'{')) => rest.split_once('}')?.1,
            (b'!'..=b'$' | b'&'..=b'~', _) => &rest[1..],
            _ => return None,
        };
    }
    Some(is_macro)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_right_say_something_or_are_malformed() {
        for (term, of_ipv4, of_ipv6) in [
            ("-all", Some(true), Some(true)),
            ("all:", None, None),
            ("all=x", Some(false), Some(false)),
            ("-all=x", None, None),
            ("a=example.org", Some(false), Some(false)),
            ("A", Some(true), Some(true)),
            ("a:", None, None),
            ("a/", None, None),
            ("?mx:b.org/24//64", Some(true), Some(true)),
            ("mx//64", Some(true), Some(true)),
            ("a:b.org/8/64", None, None),
            ("a:b.org/x.org", Some(true), Some(true)),
            ("ip4:192.0.2.0/24", Some(true), Some(false)),
            ("ip4:192.0.2.0/+4", None, None),
            ("ip4:192.0.2", None, None),
            ("ip4:192.0.02.1", None, None),
            ("ip6:::/0", Some(false), Some(true)),
            ("ip6:::/00", None, None),
            ("ip6", None, None),
            ("include:%{d}", Some(true), Some(true)),
            ("include:%{d", None, None),
            ("include:b..org", None, None),
            ("include:b.org.", Some(true), Some(true)),
            ("exists:%{i}._spf.%{d2}", Some(true), Some(true)),
            ("exists:%x.org", None, None),
            ("exists", None, None),
            ("redirect=_spf.b.org", Some(true), Some(true)),
            ("redirect:b.org", None, None),
            ("exp=%{d}.b.123", None, None),
            ("ptr:b.org", Some(true), Some(true)),
            ("\u{e4}", None, None),
            ("x_y.z=1%", None, None),
            ("b", None, None),
            ("+", None, None),
        ] {
            assert_eq!(is_said(term, true), of_ipv4, "{term}");
            assert_eq!(is_said(term, false), of_ipv6, "{term}");
        }
    }

    #[test]
    fn records_are_read_whole_or_not() {
        let of = |text: &str| read(text.as_bytes(), true);
        assert_eq!(
            of("v=spf1  ip6:::/0 x=y -all ").as_deref(),
            Some("v=spf1 -all")
        );
        assert_eq!(of("v=spf1 a\tmx -all"), None);
        assert_eq!(read(b"v=spf1 \xff -all", true), None);
        for (text, expected) in [
            ("V=SPF1", true),
            ("v=spf1 x", true),
            ("v=spf10", false),
            ("", false),
        ] {
            assert_eq!(is_record(text.as_bytes()), expected, "{text}");
        }
    }
}
