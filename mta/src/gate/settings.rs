//! What can be said of the gate.

use std::path::PathBuf;
use std::time::Duration;

use super::decision::Action;
use super::greylist;
use crate::config::network::Network;

/// All of it.
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
    /// The file with the administrator's rules.
    pub rules: Option<PathBuf>,
    /// Who is told to come again.
    pub greylist: greylist::Settings,
    /// How often one network may connect.
    pub connections_per_minute: u32,
    /// And how many recipients it may ask for.
    pub recipients_per_minute: u32,
    /// The longest that a refusal is held back; each of a session takes a
    /// second more than the one before.
    pub tarpit: Duration,
    /// The table of plugins.
    pub plugins: Option<PathBuf>,
    /// How long one may take.
    pub plugin_time: Duration,
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
    /// Its sender's domain says by SPF that mail does not come from there.
    pub spf_fail: Action,
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

impl Settings {
    /// Whether reverse names count.
    pub(super) fn needs_reverse_names(&self) -> bool {
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            greeting_delay: Duration::from_secs(3),
            policy: Policy::default(),
            dns_lists: Vec::new(),
            dns_time: Duration::from_secs(5),
            rules: None,
            greylist: greylist::Settings::default(),
            connections_per_minute: 120,
            recipients_per_minute: 600,
            tarpit: Duration::from_secs(5),
            plugins: None,
            plugin_time: Duration::from_secs(30),
        }
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
            spf_fail: Action::Pass,
        }
    }
}
