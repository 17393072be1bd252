//! The facts about one client, each asked for once.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::Gate;
use super::judge::{Fact, Facts, Listed, ReverseName, SenderDomain};
use super::rules::{Ruled, Subject};
use super::visit::Visit;
use crate::authentication::incoming::Origin;
use crate::smtp::{Domain, ForwardPath, ReversePath};

/// One recipient of a client.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// What it calls itself.
    pub helo: &'a str,
    /// Whom its mail is from.
    pub reverse_path: &'a ReversePath,
    /// Whom it is for.
    pub forward_path: &'a ForwardPath,
}

/// What is known so far.
#[derive(Debug)]
pub(super) struct Gathered {
    about_client: AboutClient,
    about_helo: Option<(String, Fact<bool>)>,
    about_sender: Option<(String, AboutSender)>,
    about_spf: Option<(Origin, Fact<bool>)>,
}

/// Asked from the first moment, so that the greeting delay is time to answer.
#[derive(Debug)]
enum AboutClient {
    /// The rules say all about its address.
    Settled,
    Asking(JoinHandle<Names>),
    Known(Names),
}

type Names = (Fact<Vec<ReverseName>>, Vec<Listed>);
type AboutSender = (Fact<SenderDomain>, Vec<Listed>);

impl Gate {
    async fn names(&self, address: IpAddr) -> Names {
        let lists = &self.settings.dns_lists;
        let by_name = async {
            let reverse = match self.needs_reverse_names() {
                true => self.lookup.reverse(address).await,
                false => Ok(Vec::new()),
            };
            let names = reverse.as_ref().map(Vec::as_slice).unwrap_or_default();
            let names: Vec<&str> = names.iter().map(|one| one.name.as_str()).collect();
            let listings = self.lookup.domain_listings(lists, &names).await;
            (reverse, listings)
        };
        let by_address = self.lookup.address_listings(lists, address);
        let ((reverse, more), mut listings) = tokio::join!(by_name, by_address);
        listings.extend(more);
        (reverse, listings)
    }

    async fn sender(&self, domain: &str) -> AboutSender {
        let domains = [domain];
        let lists = &self.settings.dns_lists;
        let listings = self.lookup.domain_listings(lists, &domains);
        let hosts = async {
            match self.settings.policy.no_sender_domain.looks() {
                true => self.lookup.sender_domain(domain).await,
                false => Ok(SenderDomain::TakesMail),
            }
        };
        tokio::join!(hosts, listings)
    }

    async fn is_forbidden(&self, origin: &Origin) -> Fact<bool> {
        match self.settings.policy.spf_fail.looks() {
            true => self.verifier.is_forbidden(origin).await,
            false => Ok(false),
        }
    }

    /// An address in brackets needs none.
    async fn helo_resolves(&self, helo: &str) -> Fact<bool> {
        if !self.settings.policy.unresolvable_helo.looks() {
            return Ok(true);
        }
        match Domain::parse(helo) {
            Ok(Domain::Name(name)) if name.contains('.') => self.lookup.has_address(&name).await,
            _ => Ok(true),
        }
    }
}

impl Gathered {
    /// Asks about an address, unless the rules settle everything.
    pub(super) fn begin(gate: &Arc<Gate>, address: IpAddr) -> Self {
        let about_client = match gate.rules().settles(address) {
            true => AboutClient::Settled,
            false => {
                let gate = Arc::clone(gate);
                AboutClient::Asking(tokio::spawn(async move { gate.names(address).await }))
            }
        };
        Self {
            about_client,
            about_helo: None,
            about_sender: None,
            about_spf: None,
        }
    }

    /// Whether nothing was asked.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.about_client, AboutClient::Settled)
    }

    async fn client(about: &mut AboutClient) -> Names {
        if let AboutClient::Asking(asking) = about {
            let failed = |error: tokio::task::JoinError| (Err(error.to_string()), Vec::new());
            *about = AboutClient::Known(asking.await.unwrap_or_else(failed));
        }
        match about {
            AboutClient::Known(names) => names.clone(),
            _ => (Ok(Vec::new()), Vec::new()),
        }
    }

    async fn all(&mut self, gate: &Gate, question: &Question<'_>) -> Facts {
        let helo = question.helo;
        let domain = question.reverse_path.mailbox();
        let domain = domain.and_then(|mailbox| mailbox.domain.name());
        let about_helo = async {
            match self.about_helo.take() {
                Some((asked, fact)) if asked == helo => (asked, fact),
                _ => (helo.to_owned(), gate.helo_resolves(helo).await),
            }
        };
        let about_sender = async {
            let domain = domain?;
            match self.about_sender.take() {
                Some((asked, facts)) if asked == domain => Some((asked, facts)),
                _ => Some((domain.to_owned(), gate.sender(domain).await)),
            }
        };
        let origin = Origin {
            address: question.address.to_canonical(),
            helo: helo.to_owned(),
            reverse_path: question.reverse_path.clone(),
        };
        let about_spf = async {
            match self.about_spf.take() {
                Some((asked, fact)) if asked == origin => (asked, fact),
                _ => {
                    let fact = gate.is_forbidden(&origin).await;
                    (origin, fact)
                }
            }
        };
        let about_client = Self::client(&mut self.about_client);
        let ((reverse, mut listings), about_helo, about_sender, about_spf) =
            tokio::join!(about_client, about_helo, about_sender, about_spf);
        if let Some((_, (_, more))) = &about_sender {
            // The same domain may have been asked about already.
            let new = |listed: &&Listed| !listings.contains(listed);
            let more: Vec<Listed> = more.iter().filter(new).cloned().collect();
            listings.extend(more);
        }
        let sender = about_sender.clone();
        let facts = Facts {
            helo: Some(helo.to_owned()),
            helo_resolves: about_helo.1.clone(),
            reverse,
            sender: sender.map(|(domain, (hosts, _))| (domain, hosts)),
            is_forbidden: about_spf.1.clone(),
            listings,
            ..Facts::of(question.address)
        };
        (self.about_helo, self.about_sender) = (Some(about_helo), about_sender);
        self.about_spf = Some(about_spf);
        facts
    }
}

impl Visit {
    /// All facts that count, and what the rules say to them.
    pub(super) async fn ask(&mut self, question: &Question<'_>) -> (Facts, Ruled) {
        let gate = Arc::clone(&self.gate);
        let mut facts = match self.gathered.is_settled() {
            true => Facts::of(question.address),
            false => self.gathered.all(&gate, question).await,
        };
        facts.early.clone_from(&self.early);
        let recipient = question.forward_path.to_string();
        let ruled = subject(&facts, question, &[&recipient], |subject| {
            gate.rules().ask(subject)
        });
        (facts, ruled)
    }
}

/// What rules look at.
pub(super) fn subject<T>(
    facts: &Facts,
    question: &Question<'_>,
    recipients: &[&str],
    ask: impl FnOnce(&Subject<'_>) -> T,
) -> T {
    let names = names(facts);
    let names: Vec<(&str, bool)> = names
        .iter()
        .map(|(name, back)| (name.as_str(), *back))
        .collect();
    let sender = match question.reverse_path {
        ReversePath::Null => String::new(),
        ReversePath::Mailbox(mailbox) => mailbox.to_string(),
    };
    ask(&Subject {
        address: question.address,
        names: &names,
        helo: question.helo,
        sender: &sender,
        recipients,
    })
}

/// The names of the client, and of each whether it leads back.
pub(super) fn names(facts: &Facts) -> Vec<(String, bool)> {
    let names = facts
        .reverse
        .as_ref()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let back = |one: &ReverseName| (one.name.clone(), one.leads_back(facts.address));
    names.iter().map(back).collect()
}
