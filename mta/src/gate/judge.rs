//! What is found in facts, without asking anybody.
//!
//! ```
//! use mta::gate::judge::{Facts, judge};
//! use mta::gate::{Settings, decision::Rule};
//!
//! let facts = Facts::of("192.0.2.7".parse().unwrap());
//! let findings = judge("mail.example.org", &Settings::default(), &facts);
//! assert_eq!(findings.refusal().unwrap().rule, Rule::NoReverseName);
//! ```

use std::net::IpAddr;

use super::decision::{Action, Effect, Finding, Findings, Rule};
use super::reverse::holds;
use super::{DnsList, Settings};
use crate::smtp::Domain;

/// What is known, or why it is not.
pub type Fact<T> = Result<T, String>;

/// What was learned of a client, its sender and recipient.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The client's address.
    pub address: IpAddr,
    /// What it said before the greeting.
    pub early: Option<String>,
    /// What it calls itself.
    pub helo: Option<String>,
    /// Whether that name has an address.
    pub helo_resolves: Fact<bool>,
    /// The names of its address.
    pub reverse: Fact<Vec<ReverseName>>,
    /// The sender's domain; nothing for a null reverse-path, and for an
    /// address in its place.
    pub sender: Option<(String, Fact<SenderDomain>)>,
    /// Whether that domain forbids the client by SPF.
    pub is_forbidden: Fact<bool>,
    /// Of each list what it says; each question once.
    pub listings: Vec<Listed>,
}

/// A name of the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReverseName {
    /// The name.
    pub name: String,
    /// The addresses it has.
    pub addresses: Fact<Vec<IpAddr>>,
}

impl ReverseName {
    /// Whether one of its addresses is this one, so that whoever owns the
    /// name has agreed.
    pub fn leads_back(&self, address: IpAddr) -> bool {
        let addresses = self.addresses.as_ref().map(Vec::as_slice);
        let mut addresses = addresses.unwrap_or_default().iter();
        addresses.any(|one| one.to_canonical() == address.to_canonical())
    }

    fn has_none(&self) -> bool {
        self.addresses.as_ref().is_ok_and(Vec::is_empty)
    }
}

/// What the DNS says of mail for a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderDomain {
    /// There is a host for it.
    TakesMail,
    /// There is none with an address.
    NoHost,
    /// It says that it takes none: RFC 7505.
    NullMx,
}

/// What a DNS list says.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The list.
    pub list: DnsList,
    /// What it was asked about.
    pub about: String,
    /// Its answers that count, and what it says to them; none: not listed.
    pub answers: Fact<Option<(String, String)>>,
}

impl Facts {
    /// Of a client that nothing else is known of, as if it had no names.
    pub fn of(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            early: None,
            helo: None,
            helo_resolves: Ok(true),
            reverse: Ok(Vec::new()),
            sender: None,
            is_forbidden: Ok(false),
            listings: Vec::new(),
        }
    }

    /// The first name of the client's address.
    pub fn reverse_name(&self) -> Option<&str> {
        let first = self.reverse.as_ref().ok()?.first();
        first.map(|reverse| reverse.name.as_str())
    }
}

/// Judges a client of the host that calls itself `host`.
pub fn judge(host: &str, settings: &Settings, facts: &Facts) -> Findings {
    let policy = &settings.policy;
    let mut found = Found(Vec::new());
    dns_lists(&mut found, &facts.listings);
    if let Some(said) = &facts.early {
        let evidence = format!("{said:?} came before the greeting");
        found.by(
            policy.early_talker,
            Rule::EarlyTalker,
            Effect::Refuse,
            evidence,
        );
    }
    reverse_names(&mut found, settings, facts);
    if let Some(helo) = &facts.helo {
        helo_name(&mut found, host, settings, facts, helo);
    }
    match &facts.is_forbidden {
        Ok(false) => {}
        Ok(true) => {
            let domain = facts.sender.as_ref().map_or("", |(domain, _)| domain);
            let evidence = format!(
                "{domain} says by SPF that {} does not send for it",
                facts.address
            );
            found.by(policy.spf_fail, Rule::SpfFail, Effect::Refuse, evidence);
        }
        Err(reason) => found.unknown(Rule::SpfFail, reason),
    }
    if let Some((domain, hosts)) = &facts.sender {
        let evidence = |text: &str| format!("the sender's domain {domain} {text}");
        let (effect, text) = match hosts {
            Ok(SenderDomain::TakesMail) => return Findings(found.0),
            Ok(SenderDomain::NoHost) => (Effect::RefuseForNow, evidence("has no mail host")),
            // RFC 7505 §4.2.
            Ok(SenderDomain::NullMx) => (Effect::Refuse, evidence("takes no mail")),
            Err(reason) => {
                found.unknown(Rule::NoSenderDomain, reason);
                return Findings(found.0);
            }
        };
        found.by(policy.no_sender_domain, Rule::NoSenderDomain, effect, text);
    }
    Findings(found.0)
}

struct Found(Vec<Finding>);

impl Found {
    fn note(&mut self, rule: Rule, effect: Effect, evidence: String) {
        self.0.push(Finding {
            rule,
            effect,
            evidence,
        });
    }

    /// Where the policy for `rule` is `action`.
    fn by(&mut self, action: Action, rule: Rule, refusal: Effect, evidence: String) {
        match action {
            Action::Pass => {}
            Action::Suspect => self.note(rule, Effect::Suspect, evidence),
            Action::Refuse => self.note(rule, refusal, evidence),
        }
    }

    fn unknown(&mut self, rule: Rule, reason: &str) {
        self.note(rule, Effect::Unknown, reason.to_owned());
    }
}

/// A sum of 1 refuses, one of -1 allows. In between, what is above 0 makes
/// suspect.
fn dns_lists(found: &mut Found, listings: &[Listed]) {
    let mut sum = 0.0;
    let mut evidence = Vec::new();
    for listed in listings {
        let zone = &listed.list.zone;
        match &listed.answers {
            Ok(None) => {}
            Ok(Some((answers, text))) => {
                sum += listed.list.weight;
                let mut said = format!("{} is listed at {zone} ({answers})", listed.about);
                if !text.is_empty() {
                    said = said + ": " + text;
                }
                evidence.push(said);
            }
            Err(reason) => found.unknown(Rule::DnsLists, reason),
        }
    }
    if evidence.is_empty() {
        return;
    }
    let effect = match sum {
        sum if sum >= 1.0 => Effect::Refuse,
        sum if sum <= -1.0 => Effect::Allow,
        sum if sum > 0.0 => Effect::Suspect,
        _ => Effect::Pass,
    };
    found.note(Rule::DnsLists, effect, evidence.join("; "));
}

/// All transient: names are put right, and those who cannot do it give up.
fn reverse_names(found: &mut Found, settings: &Settings, facts: &Facts) {
    let policy = &settings.policy;
    let address = facts.address;
    let names = match &facts.reverse {
        Ok(names) => names,
        Err(reason) => return found.unknown(Rule::NoReverseName, reason),
    };
    if names.is_empty() {
        let evidence = format!("{address} has no reverse name");
        let (rule, effect) = (Rule::NoReverseName, Effect::RefuseForNow);
        return found.by(policy.no_reverse_name, rule, effect, evidence);
    }
    let all = || {
        let names: Vec<&str> = names.iter().map(|one| one.name.as_str()).collect();
        names.join(", ")
    };
    let rule = Rule::UnresolvableReverseName;
    let has_some = |one: &ReverseName| one.addresses.is_ok() && !one.has_none();
    if names.iter().all(ReverseName::has_none) {
        let evidence = format!("{}, the reverse name of {address}, has no address", all());
        let action = policy.unresolvable_reverse_name;
        found.by(action, rule, Effect::RefuseForNow, evidence);
    } else if !names.iter().any(has_some) {
        let reasons = names.iter().filter_map(|one| one.addresses.as_ref().err());
        reasons.for_each(|reason| found.unknown(rule, reason));
    }
    if names.iter().all(|one| holds(&one.name, address)) {
        let evidence = format!("{}, the reverse name of {address}, holds it", all());
        let (action, rule) = (policy.address_in_reverse_name, Rule::AddressInReverseName);
        found.by(action, rule, Effect::Refuse, evidence);
    }
}

fn helo_name(found: &mut Found, host: &str, settings: &Settings, facts: &Facts, helo: &str) {
    let policy = &settings.policy;
    let odd = |why: &str| format!("a mail host is not called {helo}: {why}");
    let why = match Domain::parse(helo) {
        Ok(Domain::Literal(address)) if address.to_canonical() != facts.address => {
            "it is another address"
        }
        Ok(Domain::Literal(_)) => return,
        // RFC 5321 §2.3.5: names are full ones.
        Ok(Domain::Name(name)) if !name.contains('.') => "it is no full name",
        Ok(Domain::Name(name)) if *name == *host => "it is this host's own name",
        Ok(Domain::Name(name)) if name.parse::<IpAddr>().is_ok() => "brackets are missing",
        Err(_) if helo.parse::<IpAddr>().is_ok() => "brackets are missing",
        Err(_) => "it is no name",
        Ok(Domain::Name(_)) => "",
    };
    if !why.is_empty() {
        return found.by(policy.odd_helo, Rule::OddHelo, Effect::Refuse, odd(why));
    }
    let rule = Rule::UnresolvableHelo;
    match &facts.helo_resolves {
        Ok(true) => {}
        Ok(false) => {
            let evidence = format!("{helo}, as the client calls itself, has no address");
            let action = policy.unresolvable_helo;
            found.by(action, rule, Effect::RefuseForNow, evidence);
        }
        Err(reason) => found.unknown(rule, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::About;

    const HOST: &str = "mail.example.org";

    fn honest() -> Facts {
        Facts {
            helo: Some("mx.example.net".into()),
            reverse: Ok(vec![named("mx.example.net")]),
            sender: Some(("example.net".into(), Ok(SenderDomain::TakesMail))),
            ..Facts::of("192.0.2.7".parse().unwrap())
        }
    }

    fn named(name: &str) -> ReverseName {
        ReverseName {
            name: name.into(),
            addresses: Ok(vec!["192.0.2.99".parse().unwrap()]),
        }
    }

    fn found(facts: &Facts) -> String {
        judge(HOST, &Settings::default(), facts).lines().join("\n")
    }

    #[test]
    fn an_honest_host_passes() {
        assert_eq!(found(&honest()), "");
    }

    #[test]
    fn each_rule_names_what_it_saw() {
        type Change = fn(&mut Facts);
        let cases: &[(Change, &str)] = &[
            (
                |facts| facts.early = Some("EHLO x".into()),
                "early-talker: \"EHLO x\" came before the greeting (refuse)",
            ),
            (
                |facts| facts.reverse = Ok(Vec::new()),
                "no-reverse-name: 192.0.2.7 has no reverse name (refuse for now)",
            ),
            (
                |facts| facts.reverse = Err("time is up".into()),
                "no-reverse-name: time is up (unknown)",
            ),
            (
                |facts| facts.reverse.as_mut().unwrap()[0].addresses = Ok(Vec::new()),
                "unresolvable-reverse-name: mx.example.net, the reverse name of 192.0.2.7, has no address (suspect)",
            ),
            (
                |facts| facts.reverse.as_mut().unwrap()[0].addresses = Err("SERVFAIL".into()),
                "unresolvable-reverse-name: SERVFAIL (unknown)",
            ),
            (
                |facts| facts.reverse = Ok(vec![named("dsl-192-0-2-7.example.net")]),
                "address-in-reverse-name: dsl-192-0-2-7.example.net, the reverse name of 192.0.2.7, holds it (suspect)",
            ),
            (
                // One good name is enough.
                |facts| {
                    facts
                        .reverse
                        .as_mut()
                        .unwrap()
                        .push(named("p192.0.2.7.example.net"))
                },
                "",
            ),
            (
                |facts| facts.helo_resolves = Ok(false),
                "unresolvable-helo: mx.example.net, as the client calls itself, has no address (suspect)",
            ),
            (
                |facts| facts.sender = Some(("x.test".into(), Ok(SenderDomain::NoHost))),
                "no-sender-domain: the sender's domain x.test has no mail host (refuse for now)",
            ),
            (
                |facts| facts.sender = Some(("x.test".into(), Ok(SenderDomain::NullMx))),
                "no-sender-domain: the sender's domain x.test takes no mail (refuse)",
            ),
            (
                |facts| facts.is_forbidden = Err("late".into()),
                "spf-fail: late (unknown)",
            ),
            // Unless it is asked for.
            (|facts| facts.is_forbidden = Ok(true), ""),
            (
                |facts| facts.sender = Some(("x.test".into(), Err("garbage".into()))),
                "no-sender-domain: garbage (unknown)",
            ),
        ];
        for (change, expected) in cases {
            let mut facts = honest();
            change(&mut facts);
            assert_eq!(found(&facts), *expected);
        }
    }

    #[test]
    fn what_mail_hosts_are_not_called() {
        for (helo, why) in [
            ("mx.example.net", ""),
            ("[192.0.2.7]", ""),
            ("[192.0.2.8]", "it is another address"),
            ("192.0.2.7", "brackets are missing"),
            ("2001:db8::1", "brackets are missing"),
            ("localhost", "it is no full name"),
            ("Mail.Example.org", "it is this host's own name"),
            ("!!", "it is no name"),
        ] {
            let mut facts = honest();
            facts.helo = Some(helo.into());
            let expected = match why {
                "" => String::new(),
                why => format!("odd-helo: a mail host is not called {helo}: {why} (refuse)"),
            };
            assert_eq!(found(&facts), expected);
        }
    }

    #[test]
    fn lists_are_weighed_together() {
        let listed = |weight: f64, answers| Listed {
            list: DnsList {
                zone: "list.test".into(),
                about: About::Address,
                weight,
                answers: Vec::new(),
            },
            about: "192.0.2.7".into(),
            answers,
        };
        let hit = |weight| listed(weight, Ok(Some(("127.0.0.2".into(), "see x".into()))));
        for (listings, expected) in [
            (vec![listed(1.0, Ok(None))], None),
            (vec![hit(1.0)], Some(Effect::Refuse)),
            (vec![hit(0.5)], Some(Effect::Suspect)),
            (vec![hit(0.5), hit(0.5)], Some(Effect::Refuse)),
            (vec![hit(1.0), hit(-1.0)], Some(Effect::Pass)),
            (vec![hit(-1.0)], Some(Effect::Allow)),
            (vec![listed(1.0, Err("late".into()))], Some(Effect::Unknown)),
            (
                vec![listed(1.0, Err("late".into())), hit(1.0)],
                Some(Effect::Refuse),
            ),
        ] {
            let mut facts = honest();
            facts.listings = listings;
            let findings = judge(HOST, &Settings::default(), &facts);
            assert_eq!(findings.0.last().map(|last| last.effect), expected);
        }
        let mut facts = honest();
        facts.listings = vec![hit(1.0)];
        let expected = "dns-lists: 192.0.2.7 is listed at list.test (127.0.0.2): see x (refuse)";
        assert_eq!(found(&facts), expected);
    }
}
