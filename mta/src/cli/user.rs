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
    /// Give a user another address; mail and what was learned go with it
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
        /// What becomes of the mail and of what was learned
        #[arg(long, value_enum)]
        mail: MailOfRemoved,
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
        !matches!(self, Self::List { .. } | Self::Export(_))
    }
}

/// What becomes of the mail of somebody who is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MailOfRemoved {
    /// It stays on disk
    Keep,
    /// It is deleted
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
        Command::Rename { from, to } => rename(&from, &to, &accounts, &Models::of(places)?),
        Command::Remove { user, mail } => remove(&user, mail, &accounts, &Models::of(places)?),
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
    models: &Models,
) -> anyhow::Result<()> {
    ensure!(accounts.user(from)?.is_some(), "there is no user {from}");
    ensure!(accounts.user(to)?.is_none(), "there is a user {to} already");
    must_know(to, accounts)?;
    models.rename(from, to)?;
    let renamed = accounts.change(|change| {
        accounts.homes().rename(from, to)?;
        change.rename_user(from, to)
    });
    if let Err(error) = renamed {
        models.rename(to, from)?;
        return Err(error.into());
    }
    Ok(())
}

fn remove(
    user: &Address,
    mail: MailOfRemoved,
    accounts: &Accounts,
    models: &Models,
) -> anyhow::Result<()> {
    let name = user.to_string();
    let leads_here = |targets: &Vec<String>| targets.contains(&name);
    let aliases = accounts.aliases(None)?;
    let aliases: Vec<String> = aliases
        .iter()
        .filter(|(_, targets)| leads_here(targets))
        .map(|(alias, _)| alias.to_string())
        .collect();
    ensure!(
        aliases.is_empty(),
        "these aliases lead to {user}, change them first: {}",
        aliases.join(", ")
    );
    let removed = accounts.change(|change| change.remove_user(user))?;
    ensure!(removed, "there is no user {user}");
    if mail == MailOfRemoved::Erase {
        accounts.homes().erase(user)?;
        models.change(
            user,
            &admin::Command::Remove {
                user: user.to_string(),
            },
        )?;
    }
    Ok(())
}

fn list(
    accounts: &Accounts,
    domain: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let listed = accounts.users(domain)?.into_iter().map(|user| Listed {
        r#type: "user",
        version: 1,
        user: user.address.to_string(),
        quota_bytes: user.settings.quota.bytes,
        quota_messages: user.settings.quota.messages,
        over_quota: user.settings.over_quota.to_string(),
        filter: user.settings.filter,
        threshold: user.settings.threshold,
        spam: user.settings.spam.to_string(),
        programs: user.settings.programs,
        gate: user.settings.gate.map(|gate| gate.to_string()),
        scram: user
            .settings
            .password
            .as_ref()
            .is_some_and(|p| p.scram.is_some()),
        keeps_clear: user
            .settings
            .password
            .as_ref()
            .is_some_and(|p| p.clear.is_some()),
        password: user
            .settings
            .password
            .map(|password| password.hash.scheme().to_string()),
    });
    let listed: Vec<Listed> = listed.collect();
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
