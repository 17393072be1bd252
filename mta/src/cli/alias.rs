//! `postern alias`: names that lead to others, `@domain` the catch-all.

use std::io::Write;

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::accounts::{self, Export, Import, Places};
use crate::accounts::{Accounts, Address, Directory, Kind};

/// What is done with aliases.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a name lead to one or more addresses; one that also names itself keeps a copy
    Add(Target),
    /// Let it lead there and nowhere else
    Set(Target),
    /// Remove an alias, or only some of where it leads
    Remove {
        /// Its name, @domain for the catch-all
        #[arg(value_parser = accounts::address)]
        alias: Address,
        /// Only these of where it leads
        #[arg(value_parser = accounts::target)]
        targets: Vec<String>,
    },
    /// Print all aliases
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Enter what a TOML file holds; everything else stays
    Import(Import),
    /// Print the aliases as TOML
    Export(Export),
}

impl Command {
    /// Whether the accounts are others afterwards.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::Export(_))
    }
}

/// An alias and where it leads.
#[derive(Args, Debug)]
pub struct Target {
    /// Its name, @domain for what nobody else has
    #[arg(value_parser = accounts::address)]
    alias: Address,
    /// Addresses here or elsewhere
    #[arg(required = true, value_parser = accounts::target)]
    targets: Vec<String>,
}

/// A line of `list --json`.
#[derive(Serialize)]
struct Listed {
    r#type: &'static str,
    version: u32,
    alias: String,
    targets: Vec<String>,
}

/// Does it.
///
/// # Errors
/// With the reason.
pub fn run(command: Command, places: &Places, out: &mut dyn Write) -> anyhow::Result<()> {
    let accounts = places.open()?;
    match command {
        Command::Add(Target { alias, targets }) => {
            let mut all = targets_of(&alias, &accounts)?;
            for target in targets {
                if !all.contains(&target) {
                    all.push(target);
                }
            }
            put(&alias, &all, &accounts)
        }
        Command::Set(Target { alias, targets }) => put(&alias, &targets, &accounts),
        Command::Remove { alias, targets } => {
            let before = targets_of(&alias, &accounts)?;
            ensure!(!before.is_empty(), "there is no alias {alias}");
            for target in &targets {
                ensure!(before.contains(target), "{alias} does not lead to {target}");
            }
            let stays = |target: &&String| !targets.is_empty() && !targets.contains(target);
            let left: Vec<String> = before.iter().filter(stays).cloned().collect();
            put(&alias, &left, &accounts)
        }
        Command::List { json } => {
            let listed = accounts
                .aliases(None)?
                .into_iter()
                .map(|(alias, targets)| Listed {
                    r#type: "alias",
                    version: 1,
                    alias: alias.to_string(),
                    targets,
                });
            let listed: Vec<Listed> = listed.collect();
            let line = |row: &Listed| format!("{:<30} {}", row.alias, row.targets.join(", "));
            accounts::print(&listed, json, line, out)
        }
        Command::Import(import) => import.run(&accounts),
        Command::Export(export) => export.run(&accounts, Kind::Aliases, out),
    }
}

fn targets_of(alias: &Address, accounts: &Accounts) -> anyhow::Result<Vec<String>> {
    let targets = accounts.alias(alias)?;
    Ok(targets.iter().map(ToString::to_string).collect())
}

fn put(alias: &Address, targets: &[String], accounts: &Accounts) -> anyhow::Result<()> {
    let domain = &alias.domain;
    ensure!(
        accounts.domain(domain)?.is_some(),
        "there is no domain {domain}; add it first"
    );
    accounts.change(|change| change.put_alias(alias, targets))?;
    Ok(())
}
