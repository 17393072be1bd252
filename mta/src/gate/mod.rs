//! The gate: who may speak, and to whom, before a message comes.
//!
//! | module | answers |
//! | --- | --- |
//! | [`decision`] | what can be found, and which of it decides |
//! | [`judge`] | what is found in facts; pure functions |
//! | [`rules`] | what the administrator says of clients |
//! | `reverse` | whether a reverse name holds its address |
//! | [`lookup`] | the facts, by the DNS |
//! | [`gather`] | the facts about one client, each once |
//! | [`visit`] | one client and its recipients |
//! | `message` | its messages |
//! | [`greylist`] | who has come again |
//! | [`plugins`] | what programs of the administrator say |
//! | [`rates`] | who comes too often |
//! | [`settings`] | what can be said of all this |
//!
//! Nothing is refused before RCPT: only then is it known whom a refusal would
//! cost a message, and the log can name sender and recipient. Programs of this
//! machine, LMTP, and whoever may relay pass unseen.
//!
//! Trouble is no reason: what the DNS does not tell speaks neither for nor
//! against a client.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

pub mod decision;
pub mod gather;
pub mod greylist;
pub mod judge;
pub mod lookup;
mod message;
pub mod plugins;
pub mod rates;
mod reverse;
pub mod rules;
pub mod settings;
#[cfg(test)]
pub(crate) mod testing;
pub mod told;
pub mod visit;

use greylist::{Greylist, Whom};
use lookup::Lookup;
use plugins::Plugins;
use plugins::table::Table;
use rates::{MINUTE, Rates};
use rules::Rules;

pub use settings::{About, DnsList, Policy, Settings};

use crate::Error;
use crate::authentication::incoming::Verifier;
use crate::config::network::Network;
use crate::remote::dns::Dns;

/// The gate of a host.
#[derive(Debug)]
pub struct Gate {
    /// What the host calls itself.
    host: String,
    settings: Settings,
    lookup: Lookup,
    verifier: Verifier,
    files: RwLock<Files>,
    /// Nothing where nobody is greylisted.
    greylist: Option<Greylist>,
    connections: Rates<Network>,
    recipients: Rates<Network>,
}

/// What is read again at a signal.
#[derive(Clone, Debug, Default)]
struct Files {
    rules: Arc<Rules>,
    plugins: Option<Arc<Plugins>>,
}

impl Gate {
    /// That remembers in the file `greylist`.
    ///
    /// # Errors
    /// When a file of the settings cannot be read or is wrong.
    pub(crate) fn open(
        host: &str,
        settings: Settings,
        dns: &Dns,
        greylist: &Path,
    ) -> Result<Self, Error> {
        let greylist = match settings.greylist.whom {
            Whom::Nobody => None,
            Whom::Suspects | Whom::All => Some(Greylist::open(greylist)?),
        };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            lookup: Lookup::new(dns, settings.dns_time),
            verifier: Verifier::new(dns, host, settings.dns_time),
            files: RwLock::new(Files::read(&settings)?),
            greylist,
            connections: Rates::new(settings.connections_per_minute, MINUTE),
            recipients: Rates::new(settings.recipients_per_minute, MINUTE),
            settings,
        })
    }

    /// Reads rules and plugins again; after an error those before stay.
    ///
    /// # Errors
    /// With the file and the line.
    pub fn read_again(&self) -> Result<(), Error> {
        let files = Files::read(&self.settings)?;
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
        Ok(())
    }

    /// Whether a client may connect once more this minute.
    pub fn admits(&self, address: IpAddr, now: Instant) -> bool {
        self.connections.admit(Network::of_client(address), now)
    }

    /// Forgets what greylisting need not know any more; blocks.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn tidy(&self) -> Result<(), Error> {
        match &self.greylist {
            Some(greylist) => greylist.tidy(&self.settings.greylist, visit::seconds()),
            None => Ok(()),
        }
    }

    fn rules(&self) -> Arc<Rules> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&files.rules)
    }

    fn plugins(&self) -> Option<Arc<Plugins>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.plugins.clone()
    }

    fn needs_reverse_names(&self) -> bool {
        self.settings.needs_reverse_names() || self.rules().need_names()
    }
}

impl Files {
    fn read(settings: &Settings) -> Result<Self, Error> {
        let mut files = Self::default();
        if let Some(path) = &settings.rules {
            files.rules = Arc::new(read_rules(path)?);
        }
        if let Some(path) = &settings.plugins {
            let table = Table::parse(&read(path)?);
            for line in &table.warnings {
                tracing::warn!("{}:{line}", path.display());
            }
            let home = path.parent().unwrap_or(Path::new("/"));
            files.plugins = (!table.is_empty()).then(|| {
                Arc::new(Plugins {
                    table,
                    home: home.to_owned(),
                    time: settings.plugin_time,
                })
            });
        }
        Ok(files)
    }
}

/// The rules in a file.
///
/// # Errors
/// When it cannot be read, or with the line that makes no sense.
pub(crate) fn read_rules(path: &Path) -> Result<Rules, Error> {
    Rules::parse(&read(path)?).map_err(|(line, reason)| Error::Config {
        path: path.to_owned(),
        line,
        reason,
    })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}
