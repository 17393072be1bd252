//! One client before the gate: what is learned of it while it waits, and what
//! is decided at each RCPT.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::info;

use super::Gate;
use super::decision::{Effect, Findings};
use super::judge::{Fact, Facts, Listed, ReverseName, SenderDomain, judge};
use crate::handover::{Decision, Host, Refusal, TurnedAway};
use crate::smtp::{Domain, Envelope, ForwardPath, ReversePath};

/// A client that may not relay.
#[derive(Debug)]
pub struct Visit {
    gate: Arc<Gate>,
    address: IpAddr,
    early: Option<String>,
    about_client: AboutClient,
    about_helo: Option<(String, Fact<bool>)>,
    about_sender: Option<(String, AboutSender)>,
    /// What was found of the recipients that were accepted.
    seen: Vec<String>,
}

/// Asked from the first moment, so that the greeting delay is time to answer.
#[derive(Debug)]
enum AboutClient {
    Asking(JoinHandle<Names>),
    Known(Names),
}

type Names = (Fact<Vec<ReverseName>>, Vec<Listed>);
type AboutSender = (Fact<SenderDomain>, Vec<Listed>);

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

/// How much of an early talker's words is kept.
const MAX_EARLY: usize = 64;

impl Gate {
    /// A client has connected.
    pub fn visit(self: &Arc<Self>, address: IpAddr) -> Visit {
        let gate = Arc::clone(self);
        Visit {
            gate: Arc::clone(self),
            address: address.to_canonical(),
            early: None,
            about_client: AboutClient::Asking(tokio::spawn(
                async move { gate.names(address).await },
            )),
            about_helo: None,
            about_sender: None,
            seen: Vec::new(),
        }
    }

    /// What would be found of a client that waits for its greeting.
    pub async fn try_out(self: &Arc<Self>, question: Question<'_>) -> Findings {
        let mut visit = self.visit(question.address);
        let facts = visit.facts(&question).await;
        judge(&self.host, &self.settings, &facts)
    }

    async fn names(&self, address: IpAddr) -> Names {
        let lists = &self.settings.dns_lists;
        let by_name = async {
            let reverse = match self.settings.needs_reverse_names() {
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
}

impl Visit {
    /// Waits as long as a client must for its greeting, and notes one that
    /// speaks meanwhile. Cancelled, it has changed nothing.
    pub async fn wait(&mut self, stream: &TcpStream) {
        let delay = self.gate.settings.greeting_delay;
        if delay == Duration::ZERO {
            return;
        }
        let end = Instant::now() + delay;
        let mut said = [0; MAX_EARLY];
        if let Ok(Ok(n)) = timeout_at(end, stream.peek(&mut said)).await
            && n > 0
        {
            let line = said[..n].split(|b| *b == b'\r' || *b == b'\n').next();
            self.early = Some(String::from_utf8_lossy(line.unwrap_or_default()).into_owned());
            sleep_until(end).await;
        }
    }

    /// Whether the client may write to `to`: what the gate says, then what the
    /// host says.
    pub async fn check<H: Host>(
        &mut self,
        host: &H,
        envelope: &Envelope,
        to: &ForwardPath,
    ) -> Decision {
        if envelope.recipients.is_empty() {
            self.seen.clear();
        }
        let client = &envelope.client;
        if client.may_relay {
            return host
                .check_recipient(client, &envelope.reverse_path, to)
                .await;
        }
        let question = Question {
            address: self.address,
            helo: client.helo.as_deref().unwrap_or_default(),
            reverse_path: &envelope.reverse_path,
            forward_path: to,
        };
        let facts = self.facts(&question).await;
        let findings = judge(&self.gate.host, &self.gate.settings, &facts);
        let decision = match findings.refusal() {
            Some(finding) => Decision::Refuse(Refusal {
                reply: finding.reply(),
                reason: finding.to_string(),
            }),
            None => {
                host.check_recipient(client, &envelope.reverse_path, to)
                    .await
            }
        };
        self.tell(host, envelope, to, &facts, findings, &decision);
        decision
    }

    /// What was found of those who get the message, once.
    pub fn seen(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    async fn facts(&mut self, question: &Question<'_>) -> Facts {
        let gate = Arc::clone(&self.gate);
        let helo = question.helo;
        let domain = sender_domain(question.reverse_path);
        let about_client = known(&mut self.about_client);
        let about_helo = async {
            match self.about_helo.take() {
                Some((asked, fact)) if asked == helo => (asked, fact),
                _ => (helo.to_owned(), helo_resolves(&gate, helo).await),
            }
        };
        let about_sender = async {
            let domain = domain?;
            match self.about_sender.take() {
                Some((asked, facts)) if asked == domain => Some((asked, facts)),
                _ => Some((domain.to_owned(), gate.sender(domain).await)),
            }
        };
        let (about_client, about_helo, about_sender) =
            tokio::join!(about_client, about_helo, about_sender);
        let (reverse, mut listings) = about_client;
        if let Some((_, (_, more))) = &about_sender {
            // The same domain may have been asked about already.
            let new = |listed: &&Listed| !listings.contains(listed);
            let more: Vec<Listed> = more.iter().filter(new).cloned().collect();
            listings.extend(more);
        }
        let facts = Facts {
            address: self.address,
            early: self.early.clone(),
            helo: Some(helo.to_owned()),
            helo_resolves: about_helo.1.clone(),
            reverse,
            sender: about_sender
                .clone()
                .map(|(domain, (hosts, _))| (domain, hosts)),
            listings,
        };
        self.about_helo = Some(about_helo);
        self.about_sender = about_sender;
        facts
    }

    /// One line in the log, with spamdyke's fields, and the story of a
    /// recipient who gets nothing.
    fn tell<H: Host>(
        &mut self,
        host: &H,
        envelope: &Envelope,
        to: &ForwardPath,
        facts: &Facts,
        findings: Findings,
        decision: &Decision,
    ) {
        let client = &envelope.client;
        let rule = match (decision, findings.deciding()) {
            (Decision::Refuse(_), Some(finding)) if finding.effect != Effect::Allow => {
                finding.rule.name()
            }
            (Decision::Refuse(_), _) => "recipient",
            (Decision::Accept, _) => "none",
        };
        let (message, reason) = match decision {
            Decision::Accept => ("recipient accepted", ""),
            Decision::Refuse(refusal) => ("recipient refused", refusal.reason.as_str()),
        };
        info!(
            rule,
            from = %envelope.reverse_path,
            to = %to,
            origin_ip = %self.address,
            origin_rdns = facts.reverse_name().unwrap_or("(unknown)"),
            auth = client.account.as_deref().unwrap_or("(unknown)"),
            encryption = client.tls.as_ref().map_or("(none)", |tls| tls.version),
            reason,
            "{message}"
        );
        match decision {
            Decision::Accept => {
                for line in findings.lines() {
                    if !self.seen.contains(&line) {
                        self.seen.push(line);
                    }
                }
            }
            Decision::Refuse(refusal) => host.turned_away(TurnedAway {
                client: client.clone(),
                from: envelope.reverse_path.to_string(),
                to: to.to_string(),
                refusal: refusal.clone(),
                seen: findings.lines(),
            }),
        }
    }
}

async fn known(about: &mut AboutClient) -> Names {
    if let AboutClient::Asking(asking) = about {
        let failed = |error: tokio::task::JoinError| (Err(error.to_string()), Vec::new());
        *about = AboutClient::Known(asking.await.unwrap_or_else(failed));
    }
    match about {
        AboutClient::Known(names) => names.clone(),
        AboutClient::Asking(_) => unreachable!("it was answered above"),
    }
}

/// An address in brackets needs none.
async fn helo_resolves(gate: &Gate, helo: &str) -> Fact<bool> {
    if !gate.settings.policy.unresolvable_helo.looks() {
        return Ok(true);
    }
    match Domain::parse(helo) {
        Ok(Domain::Name(name)) if name.contains('.') => gate.lookup.has_address(&name).await,
        _ => Ok(true),
    }
}

fn sender_domain(reverse_path: &ReversePath) -> Option<&str> {
    reverse_path.mailbox()?.domain.name()
}
