//! The gate: who may speak, and to whom, before a message comes.
//!
//! | module | answers |
//! | --- | --- |
//! | [`decision`] | what can be found, and which of it decides |
//! | [`judge`] | what is found in facts; pure functions |
//! | `reverse` | whether a reverse name holds its address |
//! | [`lookup`] | the facts, by the DNS |
//! | [`visit`] | one client, from its connection to its messages |
//!
//! Nothing is refused before RCPT: only then is it known whom a refusal would
//! cost a message, and the log can name sender and recipient. Programs of this
//! machine, LMTP, and whoever may relay pass unseen.
//!
//! Trouble is no reason: what the DNS does not tell speaks neither for nor
//! against a client.

use std::net::SocketAddr;
use std::time::Duration;

pub mod decision;
pub mod judge;
pub mod lookup;
mod reverse;
pub mod visit;

use decision::Action;
use lookup::Lookup;

use crate::config::network::Network;

/// What can be said of the gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long a client waits for the greeting.
    pub greeting_delay: Duration,
    /// What is done by each rule.
    pub policy: Policy,
    /// Whom to ask about a client and its sender.
    pub dns_lists: Vec<DnsList>,
    /// How long the DNS may take for everything about one recipient.
    pub dns_time: Duration,
}

/// What is done with a client that one of these is true of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// It speaks before the greeting.
    pub early_talker: Action,
    /// Its address has no reverse name.
    pub no_reverse_name: Action,
    /// Its reverse name has no address.
    pub unresolvable_reverse_name: Action,
    /// Its reverse name holds its address, as those of homes do.
    pub address_in_reverse_name: Action,
    /// It calls itself what no other mail host can be called.
    pub odd_helo: Action,
    /// What it calls itself has no address.
    pub unresolvable_helo: Action,
    /// Its sender's domain takes no mail.
    pub no_sender_domain: Action,
}

/// A DNS list: RFC 5782.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsList {
    /// Below which name it is.
    pub zone: String,
    /// What it lists.
    pub about: About,
    /// What being listed counts: above 0 against the client, below for it.
    pub weight: f64,
    /// Which answers count.
    pub answers: Vec<Network>,
}

/// What a DNS list lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Addresses of clients.
    Address,
    /// Domains: of the client's reverse name and of its sender.
    Domain,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            greeting_delay: Duration::from_secs(3),
            policy: Policy::default(),
            dns_lists: Vec::new(),
            dns_time: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Whether reverse names count.
    fn needs_reverse_names(&self) -> bool {
        let policy = &self.policy;
        let by_policy = [
            policy.no_reverse_name,
            policy.unresolvable_reverse_name,
            policy.address_in_reverse_name,
        ];
        let about_domains = |list: &DnsList| list.about == About::Domain;
        by_policy.into_iter().any(Action::looks) || self.dns_lists.iter().any(about_domains)
    }
}

impl Default for Policy {
    /// Refused is what no honest mail host does, suspected what few do.
    fn default() -> Self {
        Self {
            early_talker: Action::Refuse,
            no_reverse_name: Action::Refuse,
            unresolvable_reverse_name: Action::Suspect,
            address_in_reverse_name: Action::Suspect,
            odd_helo: Action::Refuse,
            unresolvable_helo: Action::Suspect,
            no_sender_domain: Action::Refuse,
        }
    }
}

/// The gate of a host.
#[derive(Debug)]
pub struct Gate {
    /// What the host calls itself.
    host: String,
    settings: Settings,
    lookup: Lookup,
}

impl Gate {
    /// That asks these name servers, or those of the system.
    ///
    /// # Errors
    /// With the reason when there are none.
    pub fn new(
        host: &str,
        settings: Settings,
        servers: Option<&[SocketAddr]>,
    ) -> Result<Self, String> {
        Ok(Self {
            host: host.to_ascii_lowercase(),
            lookup: Lookup::new(servers, settings.dns_time)?,
            settings,
        })
    }
}
