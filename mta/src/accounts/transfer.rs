//! All accounts as TOML and back, for those who keep them in git.
//!
//! ```toml
//! version = 1
//!
//! [domains."example.org"]
//! postmaster = "anna@example.org"
//!
//! [users."anna@example.org"]
//! quota = "2G"
//!
//! [aliases]
//! "info@example.org" = ["anna@example.org", "bob@example.net"]
//! "@example.org" = ["anna@example.org"]
//! ```
//!
//! What is the default is left out; a text without `version` is of version 1.
//! Importing enters what the text names and leaves everything else, in one
//! transaction.

use std::collections::BTreeMap;

use mailbox::Quota;
use serde::{Deserialize, Serialize};

use super::address::domain_name;
use super::database::Change;
use super::{Accounts, Address, Domain, Password, User, UserSettings, parse_bytes, print_bytes};
use crate::Error;
use crate::error::newer_toml;
use crate::handover::GateLevel;
use crate::smtp;

/// The accounts as they stand in a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Everything {
    /// Of the text; missing in those that people write.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    domains: BTreeMap<String, RawDomain>,
    /// By address.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    users: BTreeMap<String, RawUser>,
    /// By address.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    aliases: BTreeMap<String, Vec<String>>,
}

/// Of the text: raised when it says what earlier programs would not understand.
const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDomain {
    #[serde(skip_serializing_if = "Option::is_none")]
    postmaster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<String>,
}

/// One user, as text and `--json` show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct RawUser {
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    over_quota: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spam: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<String>,
    /// Its hash; a password in clear is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scram: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear_password: Option<String>,
}

impl Everything {
    /// Whatever `accounts` hold.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(accounts: &Accounts) -> Result<Self, Error> {
        let domains = accounts.domains()?.into_iter();
        let users = accounts.users(None)?.into_iter();
        let aliases = accounts.aliases(None)?.into_iter();
        Ok(Self {
            version: Some(VERSION),
            domains: domains
                .map(|domain| (domain.name.clone(), raw_domain(domain)))
                .collect(),
            users: users
                .map(|user| (user.address.to_string(), raw_user(&user.settings)))
                .collect(),
            aliases: aliases
                .map(|(address, targets)| (address.to_string(), targets))
                .collect(),
        })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// With line and reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(reason) = newer_toml(text, VERSION) {
            return Err(reason);
        }
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// As [`Everything::parse`] reads it.
    pub fn print(&self) -> String {
        toml::to_string(self).expect("strings, numbers and tables of them are TOML")
    }

    /// Only the domains, the users or the aliases.
    #[must_use]
    pub fn only(self, kind: Kind) -> Self {
        let mut only = Self {
            version: self.version,
            ..Self::default()
        };
        match kind {
            Kind::Domains => only.domains = self.domains,
            Kind::Users => only.users = self.users,
            Kind::Aliases => only.aliases = self.aliases,
        }
        only
    }

    /// Enters all of it, or nothing. Returns the users.
    ///
    /// # Errors
    /// With the reason.
    pub fn enter(self, accounts: &Accounts) -> anyhow::Result<Vec<Address>> {
        let checked = self.check().map_err(anyhow::Error::msg)?;
        let known = accounts.domains()?;
        let is_known = |name: &str| {
            known
                .iter()
                .chain(&checked.domains)
                .any(|domain| domain.name == name)
        };
        let users = checked.users.iter().map(|user| &user.address);
        for address in users.chain(checked.aliases.iter().map(|(address, _)| address)) {
            anyhow::ensure!(
                is_known(&address.domain),
                "{address}: there is no domain {}; add it first",
                address.domain
            );
        }
        accounts.change(|change| checked.enter(change))?;
        Ok(checked.users.into_iter().map(|user| user.address).collect())
    }

    fn check(self) -> Result<Checked, String> {
        let mut checked = Checked::default();
        for (name, raw) in self.domains {
            let wrong = |error: &dyn std::fmt::Display| format!("domain {name:?}: {error}");
            let postmaster = raw.postmaster.as_deref().map(target).transpose();
            checked.domains.push(Domain {
                name: domain_name(&name).map_err(|error| wrong(&error))?,
                postmaster: postmaster.map_err(|error| wrong(&error))?,
                programs: raw.programs.unwrap_or(false),
                gate: raw
                    .gate
                    .map_or(Ok(GateLevel::default()), |word| word.parse())
                    .map_err(|error: String| wrong(&error))?,
            });
        }
        for (name, raw) in self.users {
            let wrong = |error: &dyn std::fmt::Display| format!("user {name:?}: {error}");
            let address = Address::parse(&name).map_err(|error| wrong(&error))?;
            checked.users.push(User {
                address,
                settings: raw.check().map_err(|error| wrong(&error))?,
            });
        }
        for (name, targets) in self.aliases {
            let wrong = |error: &dyn std::fmt::Display| format!("alias {name:?}: {error}");
            let address = Address::parse(&name).map_err(|error| wrong(&error))?;
            let targets: Result<_, _> = targets.iter().map(|text| target(text)).collect();
            let targets = targets.map_err(|error| wrong(&error))?;
            checked.aliases.push((address, targets));
        }
        Ok(checked)
    }
}

/// Which part of the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The domains.
    Domains,
    /// The users.
    Users,
    /// The aliases.
    Aliases,
}

#[derive(Default)]
struct Checked {
    domains: Vec<Domain>,
    users: Vec<User>,
    aliases: Vec<(Address, Vec<String>)>,
}

impl Checked {
    fn enter(&self, change: &Change<'_>) -> Result<(), Error> {
        self.domains
            .iter()
            .try_for_each(|domain| change.put_domain(domain))?;
        self.users
            .iter()
            .try_for_each(|user| change.put_user(user))?;
        self.aliases
            .iter()
            .try_for_each(|(address, targets)| change.put_alias(address, targets).map(drop))
    }
}

impl RawUser {
    fn check(self) -> Result<UserSettings, String> {
        let default = UserSettings::default();
        let scram = self.scram.map(|text| text.parse()).transpose()?;
        let password = match (self.password, scram, self.clear_password) {
            (None, None, None) => None,
            (None, ..) => return Err("scram and clear-password belong to a password".into()),
            (Some(hash), scram, clear) => Some(Password {
                hash: hash.parse()?,
                scram: scram.map(Box::new),
                clear,
            }),
        };
        if self
            .threshold
            .is_some_and(|threshold| !(0.0..1.0).contains(&threshold))
        {
            return Err("threshold is a probability, from 0 to below 1".into());
        }
        Ok(UserSettings {
            quota: Quota {
                bytes: self.quota.as_deref().map(parse_bytes).transpose()?,
                messages: self.quota_messages,
            },
            over_quota: self
                .over_quota
                .map_or(Ok(default.over_quota), |word| word.parse())?,
            filter: self.filter.unwrap_or(default.filter),
            threshold: self.threshold,
            spam: self.spam.map_or(Ok(default.spam), |word| word.parse())?,
            programs: self.programs.unwrap_or(default.programs),
            gate: self.gate.map(|word| word.parse()).transpose()?,
            password,
        })
    }
}

/// Where an alias may lead: an address in full.
fn target(text: &str) -> Result<String, smtp::address::Malformed> {
    smtp::Mailbox::parse(text.as_bytes()).map(|mailbox| mailbox.to_string())
}

fn raw_domain(domain: Domain) -> RawDomain {
    RawDomain {
        postmaster: domain.postmaster,
        programs: domain.programs.then_some(true),
        gate: (domain.gate != GateLevel::On).then(|| domain.gate.to_string()),
    }
}

fn raw_user(settings: &UserSettings) -> RawUser {
    let default = UserSettings::default();
    let password = settings.password.as_ref();
    let word = |word: String, default: String| (word != default).then_some(word);
    RawUser {
        quota: settings.quota.bytes.map(print_bytes),
        quota_messages: settings.quota.messages,
        over_quota: word(
            settings.over_quota.to_string(),
            default.over_quota.to_string(),
        ),
        filter: (settings.filter != default.filter).then_some(settings.filter),
        threshold: settings.threshold,
        spam: word(settings.spam.to_string(), default.spam.to_string()),
        programs: (settings.programs != default.programs).then_some(settings.programs),
        gate: settings.gate.map(|gate| gate.to_string()),
        password: password.map(|password| password.hash.as_str().to_owned()),
        scram: password.and_then(|password| Some(password.scram.as_ref()?.to_string())),
        clear_password: password.and_then(|password| password.clear.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Homes;
    use proptest::prelude::*;

    const TEXT: &str = "\
version = 1

[domains.\"example.org\"]
postmaster = \"anna@example.org\"
programs = true
gate = \"no-greylist\"

[users.\"anna@example.org\"]
quota = \"2G\"
spam = \"tag\"
password = \"$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.\"
scram = \"SCRAM-SHA-256$4096:YQ==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"
clear-password = \"secret-1\"

[users.\"bob@example.org\"]
over-quota = \"refuse\"
filter = false
threshold = 0.99
gate = \"off\"

[aliases]
\"@example.org\" = [\"anna@example.org\"]
\"info@example.org\" = [\"anna@example.org\", \"bob@example.net\"]
";

    #[test]
    fn a_text_comes_back_from_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let accounts =
            Accounts::open(&dir.path().join("accounts.db"), Homes::new(dir.path())).unwrap();
        for _ in 0..2 {
            let users = Everything::parse(TEXT).unwrap().enter(&accounts).unwrap();
            assert_eq!(users.len(), 2);
            assert_eq!(Everything::of(&accounts).unwrap().print(), TEXT);
        }
        let users = Everything::of(&accounts).unwrap().only(Kind::Users).print();
        let users = users.strip_prefix("version = 1\n").unwrap();
        assert!(TEXT.contains(users.trim()), "{users}");
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_is_entered() {
        let dir = tempfile::tempdir().unwrap();
        let accounts =
            Accounts::open(&dir.path().join("accounts.db"), Homes::new(dir.path())).unwrap();
        for (text, reason) in [
            (
                "[users]\n'anna@example.org' = {}",
                "there is no domain example.org",
            ),
            ("[domains.'a b']", "domain \"a b\""),
            (
                "[domains.'example.org']\n[users]\nanna = {}",
                "user \"anna\"",
            ),
            (
                "[aliases]\n'a@example.org' = ['b']",
                "alias \"a@example.org\"",
            ),
            ("[users.'a@example.org']\nquota = 'much'", "is no size"),
            ("[users.'a@example.org']\nthreshold = 1.5", "probability"),
            (
                "[users.'a@example.org']\nspam = 'eat'",
                "folder, tag, refuse",
            ),
            (
                "[users.'a@example.org']\npassword = 'in clear'",
                "no hash of a password",
            ),
            (
                "[users.'a@example.org']\nclear-password = 'x'",
                "belong to a password",
            ),
            ("[users.'a@example.org']\nquoat = '1G'", "unknown field"),
            ("version = 2\n[lists]\n", "has format version 2"),
        ] {
            let error = match Everything::parse(text) {
                Err(error) => error,
                Ok(all) => all.enter(&accounts).unwrap_err().to_string(),
            };
            assert!(error.contains(reason), "{text}: {error}");
            assert!(accounts.domains().unwrap().is_empty(), "{text}");
        }
    }

    proptest! {
        /// What an administrator has in git may be anything.
        #[test]
        fn any_text_is_accounts_or_refused(
            text in "(version = [0-3]\n)?((domains|users|aliases)?\\.?\"[a-z@.]{0,9}\" ?= ?(\\{(quota|spam|postmaster|password) = \"[!-~]{0,9}\"\\}|\\[\"[a-z@.]{0,9}\"\\])\n|\\[(users|aliases)\\]\n|\\PC{0,9}\n){0,6}",
        ) {
            if let Ok(all) = Everything::parse(&text) {
                prop_assert_eq!(Everything::parse(&all.print()), Ok(all));
            }
        }
    }
}
