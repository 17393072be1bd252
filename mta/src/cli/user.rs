//! `postern user`: who has a mailbox here.

use std::io::Write;
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use trainer::admin;
use trainer::cli::administer;

use super::accounts::{self, Export, Import, Places};
use super::password;
use crate::accounts::{
    Accounts, Address, Directory, Kind, OverQuota, SpamPolicy, User, UserSettings, parse_bytes,
    print_bytes,
};
use crate::handover::GateLevel;
use crate::journal::Event;
use crate::queue::Ids;

#[cfg(test)]
mod tests;

/// What is done with users.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give somebody a mailbox
    Add(Settings),
    /// Change what is said of a user
    Set(Settings),
    /// Give a user a new password, from standard input; a terminal is asked for it
    Passwd {
        /// The address
        #[arg(value_parser = accounts::user_address)]
        user: Address,
        /// Take the password away: nobody can log in then
        #[arg(long, conflicts_with = "keep_clear")]
        remove: bool,
        /// Also keep the password itself, for CRAM-MD5; whoever reads accounts.db reads it
        ///
        /// CRAM-MD5 is offered once the server has started anew with such a user.
        #[arg(long)]
        keep_clear: bool,
    },
    /// Give a user another address
    ///
    /// Mail, what was learned and stories go with it; aliases and domains that
    /// name the user name the new address.
    Rename {
        /// The address so far
        #[arg(value_parser = accounts::user_address)]
        from: Address,
        /// The new one
        #[arg(value_parser = accounts::user_address)]
        to: Address,
    },
    /// Remove a user
    Remove {
        /// The address
        #[arg(value_parser = accounts::user_address)]
        user: Address,
        /// What becomes of the mail, of what was learned, and of what `why` tells
        #[arg(long, value_enum)]
        mail: MailOfRemoved,
    },
    /// Print what is known of a user, and which names lead there
    Show {
        /// The address
        #[arg(value_parser = accounts::user_address)]
        user: Address,
    },
    /// Print all users
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Only those of this domain
        #[arg(value_parser = accounts::domain)]
        domain: Option<String>,
    },
    /// Enter what a TOML file holds; everything else stays
    Import(Import),
    /// Print the users as TOML
    Export(Export),
}

impl Command {
    /// Whether the accounts are others afterwards.
    pub(super) fn changes(&self) -> bool {
        !matches!(
            self,
            Self::List { .. } | Self::Show { .. } | Self::Export(_)
        )
    }

    /// Whom it is about, if it is one user whose settings or password change.
    pub(super) fn about(&self) -> Option<String> {
        match self {
            Self::Add(settings) | Self::Set(settings) => Some(settings.user.to_string()),
            Self::Passwd { user, .. } => Some(user.to_string()),
            _ => None,
        }
    }
}

/// What becomes of the mail of somebody who is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MailOfRemoved {
    /// All stays
    Keep,
    /// All is deleted
    Erase,
}

/// A user and what may be said of one.
#[derive(Args, Debug)]
pub struct Settings {
    /// The address
    #[arg(value_parser = accounts::user_address)]
    user: Address,
    /// What the mailbox may hold: 500M, 2G; none for no limit
    #[arg(long, value_name = "SIZE|none", value_parser = bytes_or_none)]
    quota: Option<Limit>,
    /// How many messages it may hold; none for no limit
    #[arg(long, value_name = "N|none", value_parser = number_or_none)]
    quota_messages: Option<Limit>,
    /// What happens to mail for a full mailbox: defer or refuse
    #[arg(long, value_name = "defer|refuse")]
    over_quota: Option<OverQuota>,
    /// Whether mail is scored
    #[arg(long, value_name = "on|off", value_parser = accounts::on_or_off)]
    filter: Option<bool>,
    /// The probability above which mail is spam, as 0.99
    #[arg(long, value_name = "P", value_parser = probability)]
    threshold: Option<f64>,
    /// What becomes of spam: folder, tag or refuse
    #[arg(long, value_name = "folder|tag|refuse")]
    spam: Option<SpamPolicy>,
    /// Whether .qmail files may run programs, also where the domain does not say so
    #[arg(long, value_name = "on|off", value_parser = accounts::on_or_off)]
    programs: Option<bool>,
    /// How the gate is kept: on, no-greylist, off, or as the domain says
    #[arg(long, value_name = "on|no-greylist|off|default", value_parser = gate_or_default)]
    gate: Option<Gate>,
    /// Read a password from the first line of standard input; a terminal is asked for it
    #[arg(long)]
    password_stdin: bool,
}

/// How the gate is kept, or what the domain says.
#[derive(Clone, Copy, Debug)]
struct Gate(Option<GateLevel>);

/// A number or no limit.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<u64>);

/// A line of `list --json`.
#[derive(Serialize)]
struct Listed {
    r#type: &'static str,
    version: u32,
    user: String,
    quota_bytes: Option<u64>,
    quota_messages: Option<u64>,
    over_quota: String,
    filter: bool,
    threshold: Option<f64>,
    spam: String,
    programs: bool,
    gate: Option<String>,
    /// How the password was hashed.
    password: Option<String>,
    /// Whether SCRAM recognizes it.
    scram: bool,
    /// Whether it is kept itself, for CRAM-MD5.
    keeps_clear: bool,
}

impl Listed {
    fn of(user: User) -> Self {
        let UserSettings {
            quota,
            over_quota,
            filter,
            threshold,
            spam,
            programs,
            gate,
            password,
        } = user.settings;
        Self {
            r#type: "user",
            version: 1,
            user: user.address.to_string(),
            quota_bytes: quota.bytes,
            quota_messages: quota.messages,
            over_quota: over_quota.to_string(),
            filter,
            threshold,
            spam: spam.to_string(),
            programs,
            gate: gate.map(|gate| gate.to_string()),
            scram: password.as_ref().is_some_and(|p| p.scram.is_some()),
            keeps_clear: password.as_ref().is_some_and(|p| p.clear.is_some()),
            password: password.map(|password| password.hash.scheme().to_string()),
        }
    }
}

/// Does it.
///
/// # Errors
/// With the reason.
pub fn run(command: Command, places: &Places, out: &mut dyn Write) -> anyhow::Result<()> {
    let accounts = places.open()?;
    match command {
        Command::Add(settings) => add(&settings, &accounts),
        Command::Set(settings) => {
            let Some(mut user) = accounts.user(&settings.user)? else {
                bail!("there is no user {}", settings.user);
            };
            ensure!(
                !settings.says_nothing(),
                "nothing is to be changed; `postern user set --help` lists what can be"
            );
            // What `passwd` sets meanwhile stays.
            user.settings.password = None;
            settings.apply(&mut user.settings)?;
            Ok(accounts.change(|change| change.put_user(&user))?)
        }
        Command::Passwd {
            user,
            remove,
            keep_clear,
        } => passwd(&user, remove, keep_clear, &accounts),
        Command::Rename { from, to } => rename(&from, &to, &accounts, places),
        Command::Remove { user, mail } => remove(&user, mail, &accounts, places),
        Command::Show { user } => show(&user, &accounts, out),
        Command::List { json, domain } => list(&accounts, domain.as_deref(), json, out),
        Command::Import(import) => import.run(&accounts),
        Command::Export(export) => export.run(&accounts, Kind::Users, out),
    }
}

fn add(settings: &Settings, accounts: &Accounts) -> anyhow::Result<()> {
    let address = &settings.user;
    ensure!(
        accounts.user(address)?.is_none(),
        "{address} is there already; use set"
    );
    must_know(address, accounts)?;
    let mut user = User {
        address: address.clone(),
        settings: UserSettings::default(),
    };
    settings.apply(&mut user.settings)?;
    // The mailbox first: mail must find one as soon as there is the user.
    accounts.homes().mailbox(address)?;
    Ok(accounts.change(|change| change.put_user(&user))?)
}

fn passwd(
    address: &Address,
    remove: bool,
    keep_clear: bool,
    accounts: &Accounts,
) -> anyhow::Result<()> {
    ensure!(
        accounts.user(address)?.is_some(),
        "there is no user {address}"
    );
    let password = match remove {
        true => None,
        false => Some(password::read(keep_clear)?),
    };
    accounts.change(|change| change.set_password(address, password.as_ref()))?;
    Ok(())
}

fn must_know(address: &Address, accounts: &Accounts) -> anyhow::Result<()> {
    let domain = &address.domain;
    ensure!(
        accounts.domain(domain)?.is_some(),
        "there is no domain {domain}; add it first"
    );
    Ok(())
}

/// What the users' filters have learned: in a database that the server has
/// open, or nobody.
struct Models(Option<trainer::config::Config>);

impl Models {
    fn of(places: &Places) -> anyhow::Result<Self> {
        let data = std::path::absolute(places.data())?;
        if !data.join("models").exists() {
            return Ok(Self(None));
        }
        let config = crate::config::models_in(&data).map_err(anyhow::Error::msg)?;
        Ok(Self(Some(config)))
    }

    /// Does `command`, if there is anything of `user`.
    fn change(&self, user: &Address, command: &admin::Command) -> anyhow::Result<()> {
        let Some(config) = &self.0 else {
            return Ok(());
        };
        let ask = |command| administer(config, command, SystemTime::now());
        let users = ask(&admin::Command::List)?;
        let name = user.to_string();
        let mut names = users.split(|b| *b == b'\n');
        if names.any(|other| other == name.as_bytes()) {
            ask(command).with_context(|| format!("cannot change the model of {user}"))?;
        }
        Ok(())
    }

    fn rename(&self, from: &Address, to: &Address) -> anyhow::Result<()> {
        let command = admin::Command::Rename {
            from: from.to_string(),
            to: to.to_string(),
        };
        self.change(from, &command)
    }
}

/// The folder is renamed while no user leads to it, so that no mail goes where
/// it would be missed; meanwhile there is no such user.
fn rename(
    from: &Address,
    to: &Address,
    accounts: &Accounts,
    places: &Places,
) -> anyhow::Result<()> {
    let models = Models::of(places)?;
    ensure!(accounts.user(from)?.is_some(), "there is no user {from}");
    ensure!(accounts.user(to)?.is_none(), "there is a user {to} already");
    must_know(to, accounts)?;
    models.rename(from, to)?;
    let renamed = accounts.change(|change| {
        change.rename_user(from, to)?;
        accounts.homes().rename(from, to)
    });
    if let Err(error) = renamed {
        if !accounts.homes().home(from).is_ok_and(|home| home.exists()) {
            accounts.homes().rename(to, from)?;
        }
        models.rename(to, from)?;
        return Err(error.into());
    }
    let event = Event::Renamed {
        from: from.to_string(),
        to: to.to_string(),
    };
    let noted = places.note(&Ids::default().next(SystemTime::now()), event);
    noted.with_context(|| format!("{to} has all but the stories of {from}"))
}

/// The account goes last, so that whatever fails before can be done again.
fn remove(
    user: &Address,
    mail: MailOfRemoved,
    accounts: &Accounts,
    places: &Places,
) -> anyhow::Result<()> {
    let homes = accounts.homes();
    let is_known = accounts.user(user)?.is_some();
    let has_mail = homes.home(user).is_ok_and(|home| home.exists());
    let erases = mail == MailOfRemoved::Erase;
    ensure!(is_known || erases && has_mail, "there is no user {user}");
    let (aliases, domains) = accounts.change(|change| change.leading_to(user))?;
    let aliases: Vec<String> = aliases.iter().map(ToString::to_string).collect();
    ensure!(
        aliases.is_empty(),
        "these aliases lead to {user}, change them first: {}",
        aliases.join(", ")
    );
    ensure!(
        domains.is_empty(),
        "{user} is the postmaster of {}; set another one first",
        domains.join(", ")
    );
    if erases {
        homes.erase(user)?;
        let command = admin::Command::Remove {
            user: user.to_string(),
        };
        Models::of(places)?.change(user, &command)?;
        let forgotten = places.journal_file().forget(&user.to_string());
        forgotten.with_context(|| format!("cannot change {}", places.journal().display()))?;
    }
    accounts.change(|change| change.remove_user(user))?;
    if erases {
        // What came meanwhile.
        homes.erase(user)?;
    }
    Ok(())
}

fn show(address: &Address, accounts: &Accounts, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(user) = accounts.user(address)? else {
        bail!("there is no user {address}");
    };
    let (aliases, domains) = accounts.change(|change| change.leading_to(address))?;
    let or = |names: Vec<String>, none: &str| match names.is_empty() {
        true => none.to_owned(),
        false => names.join(", "),
    };
    let aliases = aliases.iter().map(ToString::to_string).collect();
    let home = accounts.homes().home(address).map_err(anyhow::Error::msg)?;
    let row = Listed::of(user);
    let messages = row.quota_messages.map(|n| format!("{n} messages"));
    let quota = row.quota_bytes.map(print_bytes).into_iter().chain(messages);
    let on_or_off = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
    let password = match (row.password, row.scram, row.keeps_clear) {
        (None, ..) => "none, so that nobody can log in".to_owned(),
        (Some(scheme), scram, clear) => {
            let scram = if scram { ", SCRAM" } else { "" };
            let clear = if clear { ", kept for CRAM-MD5" } else { "" };
            format!("{scheme}{scram}{clear}")
        }
    };
    for (what, said) in [
        ("user", row.user),
        ("folder", home.display().to_string()),
        ("aliases", or(aliases, "none")),
        ("postmaster of", or(domains, "no domain")),
        ("password", password),
        ("quota", or(quota.collect(), "none")),
        ("over quota", row.over_quota),
        ("filter", on_or_off(row.filter)),
        (
            "threshold",
            row.threshold
                .map_or("the model's".into(), |t| t.to_string()),
        ),
        ("spam", row.spam),
        ("programs", on_or_off(row.programs)),
        ("gate", row.gate.unwrap_or("as the domain says".into())),
    ] {
        writeln!(out, "{what:<14} {said}")?;
    }
    Ok(())
}

fn list(
    accounts: &Accounts,
    domain: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if let Some(name) = domain {
        ensure!(
            accounts.domain(name)?.is_some(),
            "there is no domain {name}"
        );
    }
    let listed: Vec<Listed> = accounts
        .users(domain)?
        .into_iter()
        .map(Listed::of)
        .collect();
    accounts::print(&listed, json, line, out)
}

fn line(row: &Listed) -> String {
    let quota = row.quota_bytes.map_or("no quota".into(), print_bytes);
    let filter = match (row.filter, row.threshold) {
        (false, _) => "not filtered".to_owned(),
        (true, None) => format!("spam: {}", row.spam),
        (true, Some(threshold)) => format!("spam above {threshold}: {}", row.spam),
    };
    let programs = if row.programs { "  programs" } else { "" };
    let gate = row.gate.as_ref().map(|gate| format!("  gate: {gate}"));
    let gate = gate.unwrap_or_default();
    format!("{:<30} {quota:>9}  {filter}{programs}{gate}", row.user)
}

impl Settings {
    fn says_nothing(&self) -> bool {
        matches!(
            self,
            Self {
                user: _,
                quota: None,
                quota_messages: None,
                over_quota: None,
                filter: None,
                threshold: None,
                spam: None,
                programs: None,
                gate: None,
                password_stdin: false,
            }
        )
    }

    fn apply(&self, settings: &mut UserSettings) -> anyhow::Result<()> {
        if let Some(Limit(bytes)) = self.quota {
            settings.quota.bytes = bytes;
        }
        if let Some(Limit(messages)) = self.quota_messages {
            settings.quota.messages = messages;
        }
        settings.over_quota = self.over_quota.unwrap_or(settings.over_quota);
        settings.filter = self.filter.unwrap_or(settings.filter);
        settings.threshold = self.threshold.or(settings.threshold);
        settings.spam = self.spam.unwrap_or(settings.spam);
        settings.programs = self.programs.unwrap_or(settings.programs);
        settings.gate = self.gate.map_or(settings.gate, |Gate(gate)| gate);
        if self.password_stdin {
            settings.password = Some(password::read(false)?);
        }
        Ok(())
    }
}

fn bytes_or_none(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    parse_bytes(text).map(|bytes| Limit(Some(bytes)))
}

fn gate_or_default(text: &str) -> Result<Gate, String> {
    if text == "default" {
        return Ok(Gate(None));
    }
    text.parse().map(|gate| Gate(Some(gate)))
}

fn number_or_none(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let number = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    Ok(Limit(Some(number)))
}

fn probability(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|p| (0.0..1.0).contains(p))
        .ok_or_else(|| "write a probability from 0 to below 1, as 0.99".into())
}
