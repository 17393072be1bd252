//! Moving in: what a qmail host says, in its control files, assignments,
//! `.qmail` files and what stands in front of it, as a configuration and
//! accounts of ours.
//!
//! What is to be done is planned from the old host's files alone, which are
//! only read; so a dry run prints what a real one does. What is there already
//! stays as it is, so that a second run changes nothing and one that was cut
//! off is finished by the next.
//!
//! | module | answers |
//! | --- | --- |
//! | [`source`] | what stands in the old host's files |
//! | [`control`] | how qmail reads a control file |
//! | [`assign`] | who has which local name |
//! | [`cdb`] | the same, as qmail reads it |
//! | [`names`] | whose mail an address is, by qmail's rules |
//! | [`dotqmail`] | what `.qmail` files say, and the same for our folders |
//! | `accounts` | users and aliases of ours |
//! | `host` | what the control files say, one by one |
//! | `routes` | smtproutes |
//! | [`tcprules`] | which clients may speak, and what holds for them |
//! | [`spamdyke`] | options of the filter in front of qmail |
//! | [`passwords`] | who logs in |
//! | [`settings`] | keys of our configuration |
//! | [`report`] | what became of each file and line |
//! | [`apply`] | doing it |

pub mod accounts;
pub mod apply;
pub mod assign;
pub mod cdb;
pub mod control;
pub mod dotqmail;
mod host;
pub mod names;
pub mod passwords;
pub mod report;
mod routes;
pub mod settings;
pub mod source;
pub mod spamdyke;
pub mod tcprules;

use std::collections::BTreeMap;
use std::path::PathBuf;

use accounts::Planned;
use report::Report;
use settings::Settings;
use source::Source;

/// Where the old host keeps what.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// qmail's folder, such as `/var/qmail`.
    pub qmail: PathBuf,
    /// The text of the server's rules, where it is not at its usual place.
    pub tcprules: Option<PathBuf>,
    /// spamdyke's file, likewise.
    pub spamdyke: Option<PathBuf>,
    /// The list of passwords, likewise.
    pub passwords: Option<PathBuf>,
    /// Our data folder, for files that the configuration names.
    pub data: PathBuf,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What the host calls itself.
    pub host: String,
    /// Keys of the configuration.
    pub settings: Settings,
    /// Files of the data folder that are nobody's but the host's, by name.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Lines of rules for the gate.
    pub rules: Vec<String>,
    /// The domains.
    pub domains: Vec<String>,
    /// Users and aliases.
    pub accounts: Planned,
    /// What became of everything.
    pub report: Report,
}

/// What is to be done to move the host in `places` of `source` here.
///
/// # Errors
/// When a file cannot be read, or the host has no name.
pub fn plan(source: &dyn Source, places: &Places) -> anyhow::Result<Plan> {
    host::plan(source, places)
}
