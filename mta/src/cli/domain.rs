//! `postern domain`: whose mail is received here.

use std::io::Write;
use std::time::SystemTime;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::accounts::{self, Export, Import, Places};
use super::dkim;
use crate::accounts::{Accounts, Address, Directory, Domain, Kind};
use crate::handover::GateLevel;

/// What is done with domains.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive mail of a domain, and make keys to sign what it sends
    Add(Settings),
    /// Change what is said of a domain
    Set(Settings),
    /// Receive no more mail of a domain, which must have no users and aliases left
    Remove {
        /// Its name
        #[arg(value_parser = accounts::domain)]
        domain: String,
    },
    /// Print all domains
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Enter what a TOML file holds; everything else stays
    Import(Import),
    /// Print the domains as TOML
    Export(Export),
}

impl Command {
    /// Whether the accounts are others afterwards.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::Export(_))
    }
}

/// A domain and what may be said of it.
#[derive(Args, Debug)]
pub struct Settings {
    /// Its name
    #[arg(value_parser = accounts::domain)]
    domain: String,
    /// Who gets mail for its postmaster when no user or alias is called so
    #[arg(long, value_name = "ADDRESS", value_parser = accounts::target)]
    postmaster: Option<String>,
    /// Whether .qmail files of all its users may run programs
    #[arg(long, value_name = "on|off", value_parser = accounts::on_or_off)]
    programs: Option<bool>,
    /// How the gate is kept for its users: on, no-greylist or off
    #[arg(long, value_name = "on|no-greylist|off")]
    gate: Option<GateLevel>,
}

/// A line of `list --json`.
#[derive(Serialize)]
struct Listed {
    r#type: &'static str,
    version: u32,
    domain: String,
    postmaster: Option<String>,
    programs: bool,
    gate: String,
    users: usize,
}

/// Does it.
///
/// # Errors
/// With the reason.
pub fn run(
    command: Command,
    places: &Places,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let accounts = places.open()?;
    match command {
        Command::Add(settings) => {
            let known = accounts.domain(&settings.domain)?;
            ensure!(
                known.is_none(),
                "{} is there already; use set",
                settings.domain
            );
            dkim::make_first(&settings.domain, places, now)?;
            put(settings, Domain::default(), &accounts, out)
        }
        Command::Set(settings) => {
            let Some(domain) = accounts.domain(&settings.domain)? else {
                bail!("there is no domain {}", settings.domain);
            };
            put(settings, domain, &accounts, out)
        }
        Command::Remove { domain } => remove(&domain, &accounts),
        Command::List { json } => list(&accounts, json, out),
        Command::Import(import) => import.run(&accounts),
        Command::Export(export) => export.run(&accounts, Kind::Domains, out),
    }
}

fn put(
    settings: Settings,
    mut domain: Domain,
    accounts: &Accounts,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    domain.name = settings.domain;
    if let Some(to) = settings.postmaster {
        let postmaster = Address::new("postmaster", &domain.name);
        let alias = accounts.alias(&postmaster)?;
        if accounts.user(&postmaster)?.is_some() || !alias.is_empty() {
            writeln!(
                out,
                "{postmaster} is a user or an alias, and gets that mail in place of {to}"
            )?;
        }
        domain.postmaster = Some(to);
    }
    domain.programs = settings.programs.unwrap_or(domain.programs);
    domain.gate = settings.gate.unwrap_or(domain.gate);
    Ok(accounts.change(|change| change.put_domain(&domain))?)
}

fn remove(domain: &str, accounts: &Accounts) -> anyhow::Result<()> {
    let users = accounts.users(Some(domain))?.len();
    let aliases = accounts.aliases(Some(domain))?.len();
    ensure!(
        users + aliases == 0,
        "{domain} still has {users} users and {aliases} aliases; remove them first"
    );
    let removed = accounts.change(|change| change.remove_domain(domain))?;
    ensure!(removed, "there is no domain {domain}");
    Ok(())
}

fn list(accounts: &Accounts, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let users = accounts.users(None)?;
    let listed = accounts.domains()?.into_iter().map(|domain| Listed {
        r#type: "domain",
        version: 1,
        users: users
            .iter()
            .filter(|user| user.address.domain == domain.name)
            .count(),
        domain: domain.name,
        postmaster: domain.postmaster,
        programs: domain.programs,
        gate: domain.gate.to_string(),
    });
    let listed: Vec<Listed> = listed.collect();
    accounts::print(
        &listed,
        json,
        |row| {
            let postmaster = row
                .postmaster
                .as_ref()
                .map(|to| format!("  postmaster: {to}"));
            let gate = match row.gate.as_str() {
                "on" => String::new(),
                gate => format!("  gate: {gate}"),
            };
            let programs = if row.programs { "  programs" } else { "" };
            let postmaster = postmaster.unwrap_or_default();
            format!(
                "{:<30} {:>5} users{postmaster}{programs}{gate}",
                row.domain, row.users
            )
        },
        out,
    )
}
