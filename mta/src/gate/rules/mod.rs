//! What the administrator says of clients: one file of rules, a line each.
//!
//! ```
//! use mta::gate::rules::Rules;
//!
//! let rules = Rules::parse(
//!     "# our own\n\
//!      allow  address 192.0.2.0/24  RELAYCLIENT=\"\"\n\
//!      allow  name .example.net  recipient anna@example.org\n\
//!      deny   sender @example.com\n\
//!      deny   header \"Subject: *lottery*\"\n\
//!      skip   no-reverse-name,odd-helo  address 198.51.100.7\n",
//! )?;
//! assert_eq!(rules.lines().len(), 5);
//! let (line, reason) = Rules::parse("# none\n\nallow adress 192.0.2.1").unwrap_err();
//! assert_eq!((line, &reason[..9]), (3, "\"adress\" "));
//! # Ok::<(), (usize, String)>(())
//! ```
//!
//! The first line whose conditions are all true, and that allows, denies or
//! defers, decides. Lines that skip or set count wherever they stand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::decision::{Effect, Rule};
use crate::config::network::Network;

pub mod glob;
mod parse;
mod pattern;

use glob::Glob;
use pattern::{AddressPattern, NamePattern};

/// All lines, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it stands, counted from 1.
    pub number: usize,
    does: Does,
    conditions: Vec<Condition>,
    variables: Vec<(String, String)>,
}

/// What a line does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Does {
    Decide(Effect),
    Skip(Vec<Rule>),
    Set,
}

/// All of a line's must be true.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Address(Network),
    /// Of the client, by the DNS.
    Name(NamePattern),
    Helo(NamePattern),
    Sender(AddressPattern),
    Recipient(AddressPattern),
    /// Whole fields, unfolded.
    Header(Glob),
}

/// What rules look at.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// Its names, and of each whether it leads back to the address.
    pub names: &'a [(&'a str, bool)],
    /// What it calls itself.
    pub helo: &'a str,
    /// The reverse-path, "" for the null one.
    pub sender: &'a str,
    /// Whoever may get the message, one or more.
    pub recipients: &'a [&'a str],
}

/// What rules say of a client and a recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruled {
    /// What decides, and in which line.
    pub decides: Option<(Effect, usize)>,
    /// The rules that do not count.
    pub skips: Vec<Rule>,
    /// What is set for the client's session.
    pub variables: BTreeMap<String, String>,
    /// Whether the client may relay for what it is, not for what it says.
    pub is_ours: bool,
}

/// The variable that lets a client write to anybody.
pub(super) const RELAYCLIENT: &str = "RELAYCLIENT";

impl Rules {
    /// All lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What they say before there is a message.
    pub fn ask(&self, subject: &Subject<'_>) -> Ruled {
        let mut ruled = Ruled::default();
        for line in self.lines.iter().filter(|line| line.holds(subject)) {
            match &line.does {
                Does::Decide(_) if ruled.decides.is_some() => continue,
                Does::Decide(effect) => ruled.decides = Some((*effect, line.number)),
                Does::Skip(rules) => ruled.skips.extend(rules),
                Does::Set => {}
            }
            ruled.is_ours |= line.relays() && line.is_of_client();
            ruled.variables.extend(line.variables.iter().cloned());
        }
        ruled
    }

    /// Whether the address alone decides, so that nothing need be asked.
    pub fn settles(&self, address: IpAddr) -> bool {
        for line in &self.lines {
            let applies = line.conditions.iter().all(|condition| match condition {
                Condition::Address(network) => network.contains(address),
                Condition::Header(_) => false,
                _ => true,
            });
            if applies && matches!(line.does, Does::Decide(_)) {
                let is_address = |condition: &Condition| matches!(condition, Condition::Address(_));
                return line.conditions.iter().all(is_address);
            }
        }
        false
    }

    /// Whether any line asks for the client's name.
    pub fn need_names(&self) -> bool {
        let mut conditions = self.lines.iter().flat_map(|line| &line.conditions);
        conditions.any(|condition| matches!(condition, Condition::Name(_)))
    }

    /// Whether any line asks for header fields.
    pub fn need_header(&self) -> bool {
        self.lines.iter().any(Line::needs_header)
    }

    /// The first line that a header section is refused by, and the field.
    pub fn refuse_header(
        &self,
        subject: &Subject<'_>,
        section: &[u8],
    ) -> Option<(Effect, usize, String)> {
        let fields = glob::unfolded(section);
        let mut lines = self.lines.iter().filter(|line| line.needs_header());
        lines.find_map(|line| {
            let Does::Decide(effect) = line.does else {
                return None;
            };
            let field = line.field(subject, &fields)?;
            Some((effect, line.number, field.to_owned()))
        })
    }
}

impl Line {
    fn relays(&self) -> bool {
        let mut variables = self.variables.iter();
        variables.any(|(name, _)| name == RELAYCLIENT)
    }

    /// Whether it is true of all that a client sends. HELO, sender and
    /// recipient are only what it says.
    fn is_of_client(&self) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.all(|one| matches!(one, Condition::Address(_) | Condition::Name(_)))
    }

    fn needs_header(&self) -> bool {
        let is_header = |condition: &Condition| matches!(condition, Condition::Header(_));
        self.conditions.iter().any(is_header)
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        // Whoever owns an address gives it any name; only one that leads back
        // does good.
        let is_trusted = !matches!(
            self.does,
            Does::Decide(Effect::Refuse | Effect::RefuseForNow)
        );
        self.conditions.iter().all(|condition| match condition {
            Condition::Address(network) => network.contains(subject.address),
            Condition::Name(pattern) => subject
                .names
                .iter()
                .any(|(name, leads_back)| (*leads_back || !is_trusted) && pattern.fits(name)),
            Condition::Helo(pattern) => pattern.fits(subject.helo),
            Condition::Sender(pattern) => pattern.fits(subject.sender),
            Condition::Recipient(pattern) => subject.recipients.iter().any(|one| pattern.fits(one)),
            Condition::Header(_) => false,
        })
    }

    /// The field that all conditions about fields fit, if the others hold.
    fn field<'f>(&self, subject: &Subject<'_>, fields: &'f [String]) -> Option<&'f str> {
        let (about_fields, others): (Vec<_>, Vec<_>) = self
            .conditions
            .iter()
            .cloned()
            .partition(|condition| matches!(condition, Condition::Header(_)));
        let others = Line {
            conditions: others,
            ..self.clone()
        };
        if !others.holds(subject) {
            return None;
        }
        let fits = |field: &&String| {
            about_fields.iter().all(|condition| match condition {
                Condition::Header(glob) => glob.fits(field),
                _ => true,
            })
        };
        fields.iter().find(fits).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "\
set     address 127.0.0.0/8  NOSPP=\"\" WHO=\"a b\"
allow   address 192.0.2.0/24  RELAYCLIENT=\"\"
deny    address 192.0.2.7
allow   name .example.net
deny    name dsl.example.com
defer   helo localhost
allow   sender <>  recipient anna@example.org
deny    sender @example.com
deny    recipient old@
skip    dns-lists,odd-helo  recipient @example.org
deny    header \"Subject: *lottery*\"
defer   header \"X-Mailer: bulk*\"  recipient bob@example.org
set     recipient @partner.test  RELAYCLIENT=\"\"
set     name .example.com  RELAYCLIENT=\"\"
";

    fn ask(change: impl FnOnce(&mut Subject<'_>)) -> String {
        let rules = Rules::parse(RULES).unwrap();
        let mut subject = Subject {
            address: "203.0.113.1".parse().unwrap(),
            names: &[],
            helo: "mx.example.net",
            sender: "x@example.net",
            recipients: &["bob@example.test"],
        };
        change(&mut subject);
        let ruled = rules.ask(&subject);
        let decides = ruled
            .decides
            .map(|(effect, line)| format!("{} {line}", effect.name()));
        let skips = ruled.skips.iter().map(|rule| format!(" -{}", rule.name()));
        let variables = ruled
            .variables
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        let ours = ruled.is_ours.then(|| " ours".to_owned());
        decides.unwrap_or_default() + &skips.chain(variables).chain(ours).collect::<String>()
    }

    #[test]
    fn the_first_line_that_fits_decides() {
        assert_eq!(ask(|_| {}), "");
        assert_eq!(
            ask(|s| s.address = "127.9.9.9".parse().unwrap()),
            " NOSPP= WHO=a b"
        );
        assert_eq!(
            ask(|s| s.address = "::ffff:192.0.2.7".parse().unwrap()),
            "allow 2 RELAYCLIENT= ours"
        );
        let to_partner: &[&str] = &["x@partner.test"];
        assert_eq!(ask(|s| s.recipients = to_partner), " RELAYCLIENT=");
        let named = &[("mx.example.com", true)];
        assert_eq!(ask(|s| s.names = named), " RELAYCLIENT= ours");
        let both = |s: &mut Subject<'_>| (s.names, s.recipients) = (named, to_partner);
        assert_eq!(ask(both), " RELAYCLIENT= ours");
        assert_eq!(ask(|s| s.names = &[("example.net", true)]), "allow 4");
        assert_eq!(ask(|s| s.names = &[("mx.Example.net", true)]), "allow 4");
        // Anybody can call an address so.
        assert_eq!(ask(|s| s.names = &[("mx.example.net", false)]), "");
        assert_eq!(ask(|s| s.names = &[("notexample.net", true)]), "");
        assert_eq!(ask(|s| s.names = &[("dsl.example.com", false)]), "refuse 5");
        assert_eq!(ask(|s| s.names = &[("a.dsl.example.com", false)]), "");
        assert_eq!(ask(|s| s.helo = "LocalHost"), "refuse for now 6");
        let to_anna: &[&str] = &["Anna@Example.org"];
        assert_eq!(ask(|s| s.recipients = to_anna), " -dns-lists -odd-helo");
        let null = |s: &mut Subject<'_>| (s.sender, s.recipients) = ("", &["anna@example.org"]);
        assert_eq!(ask(null), "allow 7 -dns-lists -odd-helo");
        for sender in [
            "x@example.com",
            "X@a.Example.com",
            "prvs=12ab=x@example.com",
        ] {
            assert_eq!(ask(|s| s.sender = sender), "refuse 8", "{sender}");
        }
        assert_eq!(ask(|s| s.sender = "x@notexample.com"), "");
        assert_eq!(ask(|s| s.recipients = &["old@any.test"]), "refuse 9");
    }

    #[test]
    fn header_fields_are_looked_at_unfolded() {
        let rules = Rules::parse(RULES).unwrap();
        let ask = |section: &str, to: &str| {
            let subject = Subject {
                address: "203.0.113.1".parse().unwrap(),
                names: &[],
                helo: "",
                sender: "",
                recipients: &[to],
            };
            rules.refuse_header(&subject, section.as_bytes())
        };
        let section = "Received: x\nSUBJECT:  win the\n\tBig  Lottery now\nX-Mailer: bulk 1\n";
        let field = "SUBJECT: win the Big Lottery now".to_owned();
        let expected = Some((Effect::Refuse, 11, field));
        assert_eq!(ask(section, "bob@example.org"), expected);
        let section = "Subject: hello\nX-Mailer: bulk 1\n";
        let expected = Some((Effect::RefuseForNow, 12, "X-Mailer: bulk 1".to_owned()));
        assert_eq!(ask(section, "bob@example.org"), expected);
        assert_eq!(ask(section, "anna@example.org"), None);
    }

    #[test]
    fn an_address_may_settle_everything() {
        let rules = Rules::parse(
            "deny header \"a: b\"\nallow sender a@b.org address 192.0.2.1\ndeny address 192.0.2.0/24\n",
        )
        .unwrap();
        let settles = |address: &str| rules.settles(address.parse().unwrap());
        assert!(settles("192.0.2.2"));
        assert!(!settles("192.0.2.1"), "the sender counts");
        assert!(!settles("192.0.3.1"));
    }
}
