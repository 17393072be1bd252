//! What this host would do with mail that another has dealt with, beside what
//! that one did, by the fields that it left. Delivers nothing, learns nothing,
//! and works on copies of accounts and models, so that nothing of the host
//! changes.
//!
//! | module | answers |
//! | --- | --- |
//! | [`old`] | what the old host's fields say |
//! | [`folder`] | which messages there are |
//!
//! The DNS is not asked: what it says of a client today was no matter when the
//! message came. So of the gate only the administrator's rules are tried.

pub mod folder;
pub mod old;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use classifier::modern::Class;
use serde::Serialize;
use trainer::admin;
use trainer::database::Databases;

use crate::accounts::{
    Accounts, Address, Delivery, Directory, Homes, Resolved, SpamPolicy, resolve,
};
use crate::config::Config;
use crate::delivery::content::header_section;
use crate::delivery::instructions;
use crate::gate::read_rules;
use crate::gate::rules::{Rules, Subject};
use crate::message::Message;
use crate::pipeline::clamd::Scan;
use crate::pipeline::verdict::{HostModels, judge};
use crate::smtp::Mailbox;
use old::Old;

/// The host as it is, in copies.
pub struct Host<'a> {
    config: &'a Config,
    rules: Rules,
    accounts: Accounts,
    models: HostModels,
    dir: tempfile::TempDir,
}

/// What would become of one message.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Would {
    /// The line of the rules that decides, and how.
    pub rule: Option<String>,
    /// What the virus scanner found.
    pub virus: Option<String>,
    /// Whose it would be.
    pub deliveries: Vec<Place>,
    /// In a word: refused, virus, no-user, relayed, spam, unsure, ham.
    pub outcome: &'static str,
}

/// One place where it would go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The user, or the address elsewhere.
    pub to: String,
    /// A folder, the name of instructions, or `elsewhere`.
    pub place: String,
    /// spam, unsure or ham; nothing where nothing is judged.
    pub verdict: Option<&'static str>,
    /// That it is spam.
    pub probability: Option<f64>,
}

impl<'a> Host<'a> {
    /// Copies what could change by being opened.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(config: &'a Config) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        for name in ["accounts.db", "accounts.db-wal"] {
            let from = config.data.join(name);
            if from.exists() {
                fs::copy(&from, dir.path().join(name))
                    .with_context(|| format!("cannot copy {}", from.display()))?;
            }
        }
        let (from, models) = (config.data.join("models"), dir.path().join("models"));
        // Only the server can tell a whole state of what it has open.
        if UnixStream::connect(config.data.join("bmfd.socket")).is_ok() {
            let command = admin::Command::Backup {
                dir: models.clone(),
            };
            trainer::cli::administer(&config.trainer, &command, SystemTime::now())?;
        } else if from.exists() {
            fs::create_dir(&models)?;
            for entry in fs::read_dir(&from)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    fs::copy(entry.path(), models.join(entry.file_name()))?;
                }
            }
        }
        let rules = match &config.gate.rules {
            None => Rules::default(),
            Some(path) => read_rules(path)?,
        };
        let homes = Homes::new(config.data.join("mail"));
        let databases = Databases::new(&models, 1 << 26).map_err(anyhow::Error::msg)?;
        Ok(Self {
            config,
            rules,
            accounts: Accounts::open(&dir.path().join("accounts.db"), homes)?,
            models: HostModels::new(databases),
            dir,
        })
    }

    /// What would become of a message for `recipient`, given what the old host
    /// says of where it came from.
    ///
    /// # Errors
    /// When the accounts, the models or the scanner cannot be asked.
    pub fn would(&self, message: &[u8], old: &Old, recipient: &Mailbox) -> anyhow::Result<Would> {
        let mut would = Would::default();
        if let Some(rule) = self.rule(message, old, recipient) {
            would.outcome = if rule.starts_with("allow") {
                ""
            } else {
                "refused"
            };
            would.rule = Some(rule);
            if would.outcome == "refused" {
                return Ok(would);
            }
        }
        let Resolved::Plan(plan) = resolve(recipient, &self.accounts)? else {
            would.outcome = "no-user";
            return Ok(would);
        };
        if let Some(clamd) = &self.config.pipeline.clamd {
            let mut whole = Message::new(self.dir.path());
            whole.write(message)?;
            let scanned = clamd.scan(&whole);
            let scanned = scanned.with_context(|| {
                format!("the virus scanner at {} does not answer", clamd.address)
            })?;
            if let Scan::Infected(name) = scanned {
                would.virus = Some(name);
                would.outcome = "virus";
                return Ok(would);
            }
        }
        let users = plan.deliveries.iter().filter_map(Delivery::user);
        let users: Vec<_> = users.collect();
        let mut opinions = judge(message, &users, &self.models).into_iter();
        would.outcome = "relayed";
        for delivery in plan.deliveries {
            let (user, extension) = match delivery {
                Delivery::Local {
                    user, extension, ..
                } => (user, extension),
                Delivery::Remote(mailbox) => {
                    would.deliveries.push(Place {
                        to: mailbox.to_string(),
                        place: "elsewhere".into(),
                        verdict: None,
                        probability: None,
                    });
                    continue;
                }
            };
            let opinion = opinions.next().transpose().map_err(anyhow::Error::msg)?;
            let opinion = opinion.flatten();
            let class = opinion.as_ref().map(|opinion| opinion.class);
            let verdict = class.map(Class::name);
            let wanted = extension.as_ref().map(|extension| extension.text.as_str());
            let home = self.accounts.homes().home(&user.address);
            let file = match home {
                Ok(home) => instructions::find(&home, wanted)?,
                Err(_) => None,
            };
            let place = match (&file, class, user.settings.spam) {
                (Some(found), ..) if !found.text.is_empty() => {
                    let name = found.path.file_name().unwrap_or_default();
                    name.to_string_lossy().into_owned()
                }
                (_, Some(Class::Spam), SpamPolicy::Folder | SpamPolicy::Refuse) => "Junk".into(),
                _ => "INBOX".into(),
            };
            // Of several users the one who gets it into the inbox is told.
            let word = verdict.unwrap_or("ham");
            if would.outcome == "relayed" || word == "ham" {
                would.outcome = word;
            }
            would.deliveries.push(Place {
                to: user.address.to_string(),
                place,
                verdict,
                probability: opinion.map(|opinion| opinion.probability),
            });
        }
        Ok(would)
    }

    fn rule(&self, message: &[u8], old: &Old, recipient: &Mailbox) -> Option<String> {
        let recipient = recipient.to_string();
        let names: Vec<(&str, bool)> = old.name.iter().map(|name| (&**name, true)).collect();
        let subject = Subject {
            address: old.address?,
            names: &names,
            helo: old.helo.as_deref().unwrap_or_default(),
            sender: old.sender.as_deref().unwrap_or_default(),
            recipients: &[&recipient],
        };
        if let Some((effect, line)) = self.rules.ask(&subject).decides {
            return Some(format!("{} by line {line}", effect.name()));
        }
        let section = &message[..header_section(message)];
        let refused = self.rules.refuse_header(&subject, section);
        refused.map(|(effect, line, _)| format!("{} by line {line}", effect.name()))
    }

    /// Whom the old host delivered to, as this one calls him: qmail puts what
    /// leads to a virtual domain before the address.
    ///
    /// # Errors
    /// When the accounts cannot be read.
    pub fn recipient(&self, delivered_to: &str) -> anyhow::Result<Option<Mailbox>> {
        let Ok(whole) = Mailbox::parse(delivered_to.as_bytes()) else {
            return Ok(None);
        };
        let mut tried = Some(whole.clone());
        while let Some(mailbox) = tried {
            let is_known = match Address::of(&mailbox) {
                Some(name) => self.accounts.domain(&name.domain)?.is_some(),
                None => false,
            };
            if is_known && matches!(resolve(&mailbox, &self.accounts)?, Resolved::Plan(_)) {
                return Ok(Some(mailbox));
            }
            let text = mailbox.to_string();
            let rest = text.split_once('-').map(|(_, rest)| rest.to_owned());
            tried = rest.and_then(|rest| Mailbox::parse(rest.as_bytes()).ok());
        }
        Ok(Some(whole))
    }

    /// Whether a path lies in the host's own folder of mail.
    pub fn is_own(&self, path: &Path) -> bool {
        path.starts_with(self.config.data.join("mail"))
    }
}
