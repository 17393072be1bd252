//! What the DNS should say of a domain and its host, and how that compares
//! with what it says.

use std::net::IpAddr;

use mail_auth::common::to_a_label;
use serde::Serialize;

use crate::authentication::keys::quoted;
use crate::gate::lookup::reverse_name;

/// One record as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The name, without the dot at its end.
    pub name: String,
    /// The kind.
    pub kind: Kind,
    /// The value as it stands in a zone, but texts without quotes.
    pub value: String,
    /// What goes wrong without it.
    pub why: &'static str,
}

/// The kinds that are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Kind {
    A,
    Aaaa,
    Mx,
    Ptr,
    Srv,
    Txt,
}

/// What records are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Whose mail it is.
    pub domain: &'a str,
    /// What the host is called.
    pub host: &'a str,
    /// Its addresses, as the outside sees them.
    pub addresses: &'a [IpAddr],
    /// What programs of users are served with: names of RFC 6186 and RFC 8314
    /// with their ports.
    pub services: Vec<(&'static str, u16)>,
    /// Names and texts of the keys that sign.
    pub keys: Vec<(String, String)>,
    /// Whether all mail leaves by another host.
    pub is_relayed: bool,
}

/// How a record compares with what the DNS says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    /// It is there.
    There,
    /// It is not.
    Missing,
    /// Something else is.
    Differs {
        /// What.
        found: Vec<String>,
    },
    /// Nobody answers.
    Unknown {
        /// Why not.
        reason: String,
    },
}

/// All records of a domain, in the order of a zone.
pub fn records(facts: &Facts<'_>) -> Vec<Record> {
    // As the DNS has names.
    let domain = &*to_a_label(facts.domain);
    let host = facts.host;
    let record = |name: String, kind, value: String, why| Record {
        name,
        kind,
        value,
        why,
    };
    let mut all = Vec::new();
    let mx = format!("10 {host}.");
    all.push(record(domain.into(), Kind::Mx, mx, "mail finds this host"));
    let why = "the host has an address";
    for address in facts.addresses {
        let kind = match address {
            IpAddr::V4(_) => Kind::A,
            IpAddr::V6(_) => Kind::Aaaa,
        };
        all.push(record(host.into(), kind, address.to_string(), why));
    }
    let why = "many hosts refuse an address that does not lead back to its name";
    for address in facts.addresses {
        let name = reverse_name(*address);
        all.push(record(name, Kind::Ptr, format!("{host}."), why));
    }
    // Only the relay's administrator knows from where it sends.
    let (spf, why) = match facts.is_relayed {
        false => ("v=spf1 mx -all", "others know which hosts may send as you"),
        true => (
            "v=spf1 mx ~all",
            "others know which hosts may send as you; before ~all put what your relay says, such as include:...",
        ),
    };
    all.push(record(domain.into(), Kind::Txt, spf.into(), why));
    if host != domain {
        let why = "others know who sends the reports of this host";
        all.push(record(host.into(), Kind::Txt, "v=spf1 a -all".into(), why));
    }
    for (name, text) in &facts.keys {
        let why = "signatures can be checked";
        all.push(record(name.clone(), Kind::Txt, text.clone(), why));
    }
    let name = format!("_dmarc.{domain}");
    let value = format!("v=DMARC1; p=none; rua=mailto:postmaster@{domain}");
    let why = "others tell you who sends as you; p=quarantine when you know";
    all.push(record(name, Kind::Txt, value, why));
    // RFC 6186 §3, RFC 8314 §5.1.
    for (service, port) in &facts.services {
        let name = format!("_{service}._tcp.{domain}");
        let why = "mail programs of users set themselves up";
        all.push(record(name, Kind::Srv, format!("0 1 {port} {host}."), why));
    }
    all
}

impl Record {
    /// A line of a zone.
    pub fn line(&self) -> String {
        let value = match self.kind {
            Kind::Txt => quoted(&self.value),
            _ => self.value.clone(),
        };
        format!("{}. IN {} {value}", self.name, self.kind.name())
    }

    /// Against the values that the DNS has for its name and kind.
    pub fn compare(&self, found: Result<Vec<String>, String>) -> State {
        let found = match found {
            Ok(found) => found,
            Err(reason) => return State::Unknown { reason },
        };
        let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
        // Other texts of the same name, such as proofs of owners, are no matter.
        let purpose = self.value.split([' ', ';']).next().unwrap_or_default();
        let is_about = |text: &&String| self.kind != Kind::Txt || text.starts_with(purpose);
        let found: Vec<String> = found.iter().filter(is_about).cloned().collect();
        let is_it = |text: &String| match self.kind {
            // The number is the zone's own choice.
            Kind::Mx => {
                let exchanger = |text: &str| plain(text.rsplit(' ').next().unwrap_or(text));
                exchanger(text) == exchanger(&self.value)
            }
            // Blanks mean nothing in those that are needed.
            Kind::Txt => without_blanks(text) == without_blanks(&self.value),
            _ => plain(text) == plain(&self.value),
        };
        if found.iter().any(is_it) {
            State::There
        } else if found.is_empty() {
            State::Missing
        } else {
            State::Differs { found }
        }
    }
}

impl Kind {
    /// As zones write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Ptr => "PTR",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
        }
    }
}

fn without_blanks(text: &str) -> String {
    text.split_ascii_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_holds_what_a_domain_needs() {
        let keys = vec![(
            "k._domainkey.example.org".into(),
            "p=".to_owned() + &"A".repeat(300),
        )];
        let facts = Facts {
            domain: "example.org",
            host: "mail.example.org",
            addresses: &["192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            services: vec![("submission", 587), ("imaps", 993)],
            keys,
            is_relayed: false,
        };
        let lines: Vec<String> = records(&facts).iter().map(Record::line).collect();
        let key = format!(
            "k._domainkey.example.org. IN TXT \"p={}\" \"{}\"",
            "A".repeat(253),
            "A".repeat(47)
        );
        let expected = [
            "example.org. IN MX 10 mail.example.org.",
            "mail.example.org. IN A 192.0.2.7",
            "mail.example.org. IN AAAA 2001:db8::1",
            "7.2.0.192.in-addr.arpa. IN PTR mail.example.org.",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR mail.example.org.",
            "example.org. IN TXT \"v=spf1 mx -all\"",
            "mail.example.org. IN TXT \"v=spf1 a -all\"",
            &key,
            "_dmarc.example.org. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@example.org\"",
            "_submission._tcp.example.org. IN SRV 0 1 587 mail.example.org.",
            "_imaps._tcp.example.org. IN SRV 0 1 993 mail.example.org.",
        ];
        assert_eq!(lines, expected);
        let relayed = Facts {
            is_relayed: true,
            ..facts
        };
        let lines: Vec<String> = records(&relayed).iter().map(Record::line).collect();
        assert_eq!(lines[5], "example.org. IN TXT \"v=spf1 mx ~all\"");
        let abroad = Facts {
            domain: "b\u{fc}cher.example",
            ..relayed
        };
        let all = records(&abroad);
        assert_eq!(
            all[0].line(),
            "xn--bcher-kva.example. IN MX 10 mail.example.org."
        );
        assert!(all.iter().all(|record| record.line().is_ascii()));
    }

    #[test]
    fn records_are_compared() {
        let record = |kind, value: &str| Record {
            name: "example.org".into(),
            kind,
            value: value.into(),
            why: "",
        };
        let mx = record(Kind::Mx, "10 mail.example.org.");
        let spf = record(Kind::Txt, "v=spf1 mx -all");
        let differs = |found: &str| State::Differs {
            found: vec![found.into()],
        };
        for (record, found, expected) in [
            (&mx, &["5 Mail.Example.org"][..], State::There),
            (
                &mx,
                &["5 a.example.net", "9 mail.example.org."],
                State::There,
            ),
            (&mx, &["5 a.example.net"], differs("5 a.example.net")),
            (&mx, &[], State::Missing),
            (&spf, &["proof=1", "v=spf1 mx -all"], State::There),
            (&spf, &["v=spf1  mx -all "], State::There),
            (&spf, &["proof=1"], State::Missing),
            (&spf, &["v=spf1 -all"], differs("v=spf1 -all")),
        ] {
            let found = found.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(record.compare(Ok(found)), expected);
        }
        let unknown = mx.compare(Err("late".into()));
        assert_eq!(
            unknown,
            State::Unknown {
                reason: "late".into()
            }
        );
    }
}
