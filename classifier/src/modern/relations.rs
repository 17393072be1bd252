//! What belongs to the sender: whether links, identifier, replies and route of
//! a message lead to the domain that it says it is from.
//!
//! These say the same in every language, and of senders who were never heard
//! of. What is registered of a host is guessed from its labels; no list of
//! public suffixes is asked, since evidence may be wrong now and then.

use memchr::memmem;

use super::canonical::Canonical;

/// Links beyond this many are not read, nor bytes of one hop's field.
const MAX_LINKS: usize = 40;
const MAX_HOP_BYTES: usize = 300;

/// Calls `say` with all that is found.
pub(super) fn visit(canonical: &Canonical, links: &[&str], say: &mut impl FnMut(&str)) {
    let fields = Fields::read(canonical);
    let Some(sender) = fields.from.map(organisation) else {
        return;
    };
    let sender = sender.to_ascii_lowercase();
    visit_links(&sender, links, say);
    let is_own = |domain: &[u8]| organisation(domain).eq_ignore_ascii_case(&sender);
    say(match fields.message_id.map(is_own) {
        Some(true) => "the identifier is its own",
        Some(false) => "the identifier is another's",
        None => "there is no identifier",
    });
    match fields.reply_to.map(is_own) {
        Some(true) => say("replies go to it"),
        Some(false) => say("replies go elsewhere"),
        None => {}
    }
    say(match fields.to.map(is_own) {
        Some(true) => "it writes to its own domain",
        Some(false) => "it writes to another domain",
        None => "it writes to nobody",
    });
    if fields.has_route {
        say(match memmem::find(&fields.route, &sender) {
            Some(_) => "the route names it",
            None => "the route does not name it",
        });
    }
}

fn visit_links(sender: &[u8], links: &[&str], say: &mut impl FnMut(&str)) {
    /// Shorter ones stand in too many hosts by chance.
    const MIN_NAME_BYTES: usize = 4;
    let (mut own, mut other, mut is_named) = (false, false, false);
    let name = sender.split(|b| *b == b'.').next().unwrap_or_default();
    for link in links.iter().take(MAX_LINKS) {
        let Some(host) = host(link) else { continue };
        if organisation(host).eq_ignore_ascii_case(sender) {
            own = true;
        } else {
            other = true;
            is_named |= name.len() >= MIN_NAME_BYTES
                && memmem::find(&host.to_ascii_lowercase(), name).is_some();
        }
    }
    say(match (own, other) {
        (true, false) => "all links lead to it",
        (true, true) => "links lead to it and elsewhere",
        (false, true) => "all links lead elsewhere",
        (false, false) => "there are no links",
    });
    if is_named {
        say("a link bears its name and leads elsewhere");
    }
}

/// Whether a link to `url` shows the address of another host.
pub(super) fn shows_another(url: &str, shown: &str) -> bool {
    let is_address = shown.starts_with("http") || shown.starts_with("www.");
    if !is_address || shown.contains(char::is_whitespace) {
        return false;
    }
    match (host(url), host(shown)) {
        (Some(real), Some(shown)) => !organisation(real).eq_ignore_ascii_case(organisation(shown)),
        _ => false,
    }
}

/// The domains that the header section names.
#[derive(Default)]
struct Fields<'a> {
    from: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    reply_to: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    /// Who handed it over at each hop, in lower case.
    route: Vec<u8>,
    has_route: bool,
}

impl<'a> Fields<'a> {
    fn read(canonical: &'a Canonical) -> Self {
        const MAX_FIELDS: usize = 100;
        let mut fields = Self::default();
        for (name, body) in canonical.fields().take(MAX_FIELDS) {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            if is("From") {
                fields.from = fields.from.or_else(|| domain(body));
            } else if is("Message-ID") {
                fields.message_id = domain(body);
            } else if is("Reply-To") {
                fields.reply_to = domain(body);
            } else if is("To") {
                fields.to = domain(body);
            } else if is("Received") {
                fields.has_route = true;
                let by = memmem::find(body, b" by ").unwrap_or(body.len());
                let hop = body[..by.min(MAX_HOP_BYTES)].iter();
                fields.route.extend(hop.map(u8::to_ascii_lowercase));
                fields.route.push(b' ');
            }
        }
        fields
    }
}

/// The domain of the last address in a field body, however it is written.
fn domain(body: &[u8]) -> Option<&[u8]> {
    const MAX_BYTES: usize = 2_000;
    let body = &body[..body.len().min(MAX_BYTES)];
    let rest = &body[memchr::memrchr(b'@', body)? + 1..];
    let is_domain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let len = rest.iter().take_while(|b| is_domain(b)).count();
    (len > 0).then(|| &rest[..len])
}

/// The host of an absolute link; the domain of an address.
fn host(url: &str) -> Option<&[u8]> {
    let rest = match url.split_once("://") {
        Some((_, rest)) => rest,
        None => match url.strip_prefix("mailto:") {
            Some(address) => address.split_once('@')?.1,
            None => url,
        },
    };
    let end = rest.find(['/', ':', '?', '#', '>']).unwrap_or(rest.len());
    let host = &rest.as_bytes()[..end];
    host.contains(&b'.').then_some(host)
}

/// What is registered of a domain, as far as its labels tell: the last two, or
/// three where the second of a country is a short one, such as "co.uk".
fn organisation(domain: &[u8]) -> &[u8] {
    let mut dots = memchr::memrchr_iter(b'.', domain);
    let (Some(last), Some(second)) = (dots.next(), dots.next()) else {
        return domain;
    };
    let is_below_country = domain.len() - last == 3 && last - second <= 4;
    match (is_below_country, dots.next()) {
        (false, _) => &domain[second + 1..],
        (true, Some(third)) => &domain[third + 1..],
        (true, None) => domain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(header: &str, links: &[&str]) -> Vec<String> {
        let canonical = Canonical::new(format!("{header}\n\nb\n").as_bytes());
        let mut all = Vec::new();
        visit(&canonical, links, &mut |what| all.push(what.to_owned()));
        all
    }

    #[test]
    fn what_leads_to_the_sender_and_what_does_not() {
        let own = said(
            "Received: from mx.bank.example (mx.bank.example [192.0.2.1])\n by mail.example.net\n\
             From: \"a@b\" <info@mail.bank.example>\nReply-To: <info@bank.example>\n\
             To: ann@example.net\nMessage-ID: <1@MX.BANK.EXAMPLE>",
            &["https://www.bank.example/x", "mailto:info@bank.example"],
        );
        let expected = [
            "all links lead to it",
            "the identifier is its own",
            "replies go to it",
            "it writes to another domain",
            "the route names it",
        ];
        assert_eq!(own, expected);
        let forged = said(
            "Received: from dsl.example.com by mail.example.net with esmtp for bank.example\n\
             From: info@bank.example\nReply-To: x@example.com",
            &["http://bank.login.example.com/", "www.bank.example"],
        );
        let expected = [
            "links lead to it and elsewhere",
            "a link bears its name and leads elsewhere",
            "there is no identifier",
            "replies go elsewhere",
            "it writes to nobody",
            "the route does not name it",
        ];
        assert_eq!(forged, expected);
        assert!(said("Subject: nobody", &["http://example.com/"]).is_empty());
    }

    #[test]
    fn what_is_registered_of_a_domain() {
        let rows = [
            ("", ""),
            ("localhost", "localhost"),
            ("a.b.example.org", "example.org"),
            ("www.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("mail.example.de", "example.de"),
            ("...", "."),
        ];
        for (domain, registered) in rows {
            assert_eq!(organisation(domain.as_bytes()), registered.as_bytes());
        }
    }

    #[test]
    fn a_link_that_shows_another_host() {
        let rows = [
            ("http://a.example.org/x", "http://www.example.org", false),
            ("http://example.com/x", "http://www.example.org", true),
            ("http://example.com/x", "www.example.org", true),
            ("http://example.com/x", "click here", false),
            ("#top", "www.example.org", false),
        ];
        for (url, shown, is_another) in rows {
            assert_eq!(shows_another(url, shown), is_another, "{url} {shown}");
        }
    }
}
