//! What the gate can find, as plain data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::smtp::Reply;

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// How often its network comes.
    Rates,
    /// What the administrator says.
    Rules,
    /// What DNS lists say together.
    DnsLists,
    /// Whether the client waited for the greeting.
    EarlyTalker,
    /// Whether its address has a name.
    NoReverseName,
    /// Whether that name has an address.
    UnresolvableReverseName,
    /// Whether that name holds the address.
    AddressInReverseName,
    /// Whether it can be called what it calls itself.
    OddHelo,
    /// Whether that name has an address.
    UnresolvableHelo,
    /// Whether its sender's domain takes mail.
    NoSenderDomain,
    /// Whether that domain lets the client send for it.
    SpfFail,
    /// What plugins say.
    Plugins,
    /// Whether it has come again.
    Greylist,
}

/// What is done with a client that a rule is true of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is not looked at.
    #[default]
    Pass,
    /// It is noted, and the client is greylisted where suspects are.
    Suspect,
    /// It is refused.
    Refuse,
}

/// What a finding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing else is held against the client.
    Allow,
    /// Nothing.
    Pass,
    /// It could not be known, which is as nothing.
    Unknown,
    /// The client is greylisted where suspects are.
    Suspect,
    /// The client may come again: 4yz.
    RefuseForNow,
    /// It need not: 5yz.
    Refuse,
}

/// One thing that was found, and in what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// By which rule.
    pub rule: Rule,
    /// What it leads to.
    pub effect: Effect,
    /// What was seen. It may hold what the client or the DNS has said.
    pub evidence: String,
}

/// Everything that was found of a client and one of its recipients. The
/// first finding that allows or refuses decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings(pub Vec<Finding>);

impl Rule {
    /// As it stands in the log and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rates => "rates",
            Self::Rules => "rules",
            Self::DnsLists => "dns-lists",
            Self::EarlyTalker => "early-talker",
            Self::NoReverseName => "no-reverse-name",
            Self::UnresolvableReverseName => "unresolvable-reverse-name",
            Self::AddressInReverseName => "address-in-reverse-name",
            Self::OddHelo => "odd-helo",
            Self::UnresolvableHelo => "unresolvable-helo",
            Self::NoSenderDomain => "no-sender-domain",
            Self::SpfFail => "spf-fail",
            Self::Plugins => "plugins",
            Self::Greylist => "greylist",
        }
    }
}

/// Those that may be skipped for some clients.
const SKIPPED: [Rule; 10] = [
    Rule::DnsLists,
    Rule::EarlyTalker,
    Rule::NoReverseName,
    Rule::UnresolvableReverseName,
    Rule::AddressInReverseName,
    Rule::OddHelo,
    Rule::UnresolvableHelo,
    Rule::NoSenderDomain,
    Rule::SpfFail,
    Rule::Greylist,
];

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = SKIPPED.into_iter();
        all.find(|rule| rule.name() == text).ok_or_else(|| {
            let names = SKIPPED.map(Self::name).join(", ");
            format!("{text:?} is no rule of the gate that can be skipped: {names}")
        })
    }
}

impl Action {
    /// Whether it is looked at.
    pub fn looks(self) -> bool {
        self != Self::Pass
    }
}

impl Effect {
    /// As it stands in a story.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Pass => "pass",
            Self::Unknown => "unknown",
            Self::Suspect => "suspect",
            Self::RefuseForNow => "refuse for now",
            Self::Refuse => "refuse",
        }
    }

    fn decides(self) -> bool {
        matches!(self, Self::Allow | Self::RefuseForNow | Self::Refuse)
    }
}

impl Findings {
    /// What decides; `None`: nothing speaks for or against the client for
    /// sure.
    pub fn deciding(&self) -> Option<&Finding> {
        self.0.iter().find(|finding| finding.effect.decides())
    }

    /// What it is refused by.
    pub fn refusal(&self) -> Option<&Finding> {
        self.deciding()
            .filter(|finding| finding.effect != Effect::Allow)
    }

    /// Whether something speaks against a client that nothing decides about.
    pub fn is_suspect(&self) -> bool {
        let mut all = self.0.iter();
        self.deciding().is_none() && all.any(|finding| finding.effect == Effect::Suspect)
    }

    /// For the log and stories, one line each.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl Finding {
    /// What the client is told. RFC 7372 has the codes for reverse names and
    /// SPF.
    pub fn reply(&self) -> Reply {
        let (permanent, transient) = match self.rule {
            Rule::NoReverseName | Rule::UnresolvableReverseName => ((5, 7, 25), (4, 7, 25)),
            Rule::NoSenderDomain => ((5, 7, 27), (4, 1, 8)),
            Rule::SpfFail => ((5, 7, 23), (4, 7, 23)),
            _ => ((5, 7, 1), (4, 7, 1)),
        };
        let text = match self.rule {
            // Where it stands is nobody else's business.
            Rule::Rules => "a rule of this host is against it".to_owned(),
            _ => self.evidence.clone(),
        };
        match self.effect {
            Effect::Refuse => Reply::new(554, permanent, text),
            _ => Reply::new(450, transient, text),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, effect) = (self.rule.name(), self.effect.name());
        write!(f, "{rule}: {} ({effect})", self.evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_decides_counts() {
        use Effect::{Allow, Pass, Refuse, RefuseForNow, Suspect, Unknown};
        for (effects, expected, is_suspect) in [
            (&[][..], None, false),
            (&[Pass, Unknown], None, false),
            (&[Pass, Suspect], None, true),
            (&[Suspect, Refuse, Allow], Some(Refuse), false),
            (&[Unknown, RefuseForNow, Refuse], Some(RefuseForNow), false),
            (&[Allow, Refuse, Suspect], Some(Allow), false),
        ] {
            let finding = |effect: &Effect| Finding {
                rule: Rule::OddHelo,
                effect: *effect,
                evidence: String::new(),
            };
            let findings = Findings(effects.iter().map(finding).collect());
            let deciding = findings.deciding().map(|finding| finding.effect);
            assert_eq!(deciding, expected, "{effects:?}");
            assert_eq!(findings.is_suspect(), is_suspect, "{effects:?}");
            let is_refused = expected.is_some_and(|effect| effect != Allow);
            assert_eq!(findings.refusal().is_some(), is_refused);
        }
    }
}
