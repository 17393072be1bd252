//! One client before the gate: what is decided of each of its recipients and
//! of its messages.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Now, SystemTime};

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::warn;

use super::Gate;
use super::decision::{Effect, Finding, Findings, Rule};
use super::gather::{Gathered, Question, names};
use super::greylist::{Standing, Whom};
use super::judge::{Facts, judge};
use super::plugins::{End, Event, Outcome, Plugins, SENDER, Said};
use super::rules::{RELAYCLIENT, Ruled};
use super::told;
use crate::config::network::Network;
use crate::handover::{Decision, GateLevel, Host, Refusal, TurnedAway, Wishes};
use crate::smtp::{Client, Envelope, ForwardPath, Reply, ReversePath, trace};

/// A client that may not relay.
#[derive(Debug)]
pub struct Visit {
    pub(super) gate: Arc<Gate>,
    pub(super) address: IpAddr,
    pub(super) early: Option<String>,
    pub(super) gathered: Gathered,
    pub(super) said: Said,
    asked_plugins: Asked,
    n_refused: u64,
    /// What is kept until the message comes.
    pub(super) message: Pending,
}

/// What plugins know already.
#[derive(Debug, Default)]
struct Asked {
    connection: Option<Outcome>,
    helo: Option<(String, Outcome)>,
    mail: Option<(ReversePath, Outcome)>,
    n_recipients: usize,
}

/// What is known of a message that has not come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// What was found of the recipients that were accepted.
    pub(super) seen: Vec<String>,
    /// Those whose messages no rule has let in whatever they hold.
    pub(super) looked_at: Vec<String>,
    /// Recipients in place of others, by plugins.
    pub(super) changed: Vec<(ForwardPath, ForwardPath)>,
    /// And a sender.
    pub(super) sender: Option<ReversePath>,
    /// The client's names, and of each whether it leads back.
    pub(super) names: Vec<(String, bool)>,
    /// Whether a rule lets the client send anywhere for what it is. One that
    /// may write to some recipient is still a stranger, whose mail must not
    /// be signed in our name.
    pub(super) is_ours: bool,
    /// Whether the client was greylisted and came again.
    pub(super) came_again: bool,
}

/// What was decided of a recipient.
struct Judged {
    decision: Decision,
    findings: Findings,
    facts: Facts,
}

/// How much of an early talker's words is kept.
const MAX_EARLY: usize = 64;

impl Gate {
    /// A client has connected.
    pub fn visit(self: &Arc<Self>, address: IpAddr) -> Visit {
        let address = address.to_canonical();
        Visit {
            gate: Arc::clone(self),
            address,
            early: None,
            gathered: Gathered::begin(self, address),
            said: Said::default(),
            asked_plugins: Asked::default(),
            n_refused: 0,
            message: Pending::default(),
        }
    }

    /// What would be found of a client that waits for its greeting, and whether
    /// it may write to anybody. Plugins are not asked, and nothing is noted.
    pub async fn try_out(
        self: &Arc<Self>,
        question: Question<'_>,
        wishes: Wishes,
    ) -> (Findings, bool) {
        let mut visit = self.visit(question.address);
        let (facts, ruled) = visit.ask(&question).await;
        let mut findings = visit.findings(&facts, &ruled, wishes);
        let (from, to) = paths(&question);
        if visit.is_greylisted(&findings, &ruled, wishes)
            && let Some(greylist) = &self.greylist
        {
            let client = (question.address, from.as_str(), to.as_str());
            let standing = greylist.look(&self.settings.greylist, client, seconds());
            findings.0.extend(standing.map_or_else(unknown, finding));
        }
        (findings, ruled.variables.contains_key(RELAYCLIENT))
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
    /// host says. Each refusal is answered later than the one before.
    pub async fn check<H: Host>(
        &mut self,
        host: &H,
        envelope: &Envelope,
        to: &ForwardPath,
    ) -> Decision {
        if envelope.recipients.is_empty() {
            self.message = Pending::default();
        }
        let judged = self.judge(host, envelope, to).await;
        self.tell(host, envelope, to, &judged).await;
        if let Decision::Refuse(_) = judged.decision {
            let tarpit = Duration::from_secs(self.n_refused).min(self.gate.settings.tarpit);
            self.n_refused += 1;
            sleep(tarpit).await;
        }
        judged.decision
    }

    /// Whether a plugin has ended the connection.
    pub fn end(&self) -> Option<End> {
        self.said.end
    }

    async fn judge<H: Host>(&mut self, host: &H, envelope: &Envelope, to: &ForwardPath) -> Judged {
        let network = Network::of_client(self.address);
        if !self.gate.recipients.admit(network, Now::now()) {
            let evidence = format!("{network} sends to too many recipients a minute");
            return self.refused_early(Finding {
                rule: Rule::Rates,
                effect: Effect::RefuseForNow,
                evidence,
            });
        }
        let wishes = host.wishes(to).await;
        let question = Question {
            address: self.address,
            helo: envelope.client.helo.as_deref().unwrap_or_default(),
            reverse_path: &envelope.reverse_path,
            forward_path: to,
        };
        let (facts, ruled) = self.ask(&question).await;
        let findings = self.findings(&facts, &ruled, wishes);
        let mut judged = Judged {
            decision: Decision::Accept,
            findings,
            facts,
        };
        if let Some(finding) = judged.findings.refusal() {
            judged.decision = refuse(finding);
            return judged;
        }
        self.let_in(host, envelope, &question, &ruled, wishes, &mut judged)
            .await;
        judged
    }

    /// After nothing speaks against the client for sure: plugins, the host,
    /// and greylisting.
    async fn let_in<H: Host>(
        &mut self,
        host: &H,
        envelope: &Envelope,
        question: &Question<'_>,
        ruled: &Ruled,
        wishes: Wishes,
        judged: &mut Judged,
    ) {
        let mut client = envelope.client.clone();
        client.may_relay = ruled.variables.contains_key(RELAYCLIENT);
        let asked = self.plugins(envelope, question, ruled, wishes, &client);
        let (outcome, sender, recipient) = asked.await;
        if let Some((reply, plugin)) = outcome.refusal {
            let finding = Finding {
                rule: Rule::Plugins,
                effect: match reply.code.is_permanent() {
                    true => Effect::Refuse,
                    false => Effect::RefuseForNow,
                },
                evidence: format!("{plugin} says {reply}"),
            };
            let reason = finding.to_string();
            judged.findings.0.push(finding);
            judged.decision = Decision::Refuse(Refusal { reply, reason });
            return;
        }
        client.may_relay |= outcome.is_trusted;
        let asked = host.check_recipient(&client, &sender, &recipient, envelope.size);
        judged.decision = asked.await;
        if judged.decision != Decision::Accept {
            return;
        }
        if !client.may_relay && self.is_greylisted(&judged.findings, ruled, wishes) {
            let finding = self.greylist(question).await;
            judged.findings.0.extend(finding);
        }
        if let Some(finding) = judged.findings.refusal() {
            judged.decision = refuse(finding);
            return;
        }
        self.message.is_ours |= ruled.is_ours;
        let is_allowed = judged.findings.deciding().is_some();
        if !is_allowed && !client.may_relay {
            self.message.looked_at.push(recipient.to_string());
        }
        self.message.names = names(&judged.facts);
        if recipient != *question.forward_path {
            let pair = (question.forward_path.clone(), recipient);
            self.message.changed.push(pair);
        }
        self.message.sender = Some(sender).filter(|sender| *sender != envelope.reverse_path);
    }

    fn findings(&self, facts: &Facts, ruled: &Ruled, wishes: Wishes) -> Findings {
        let mut findings = Findings::default();
        if let Some((effect, line)) = ruled.decides {
            findings.0.push(Finding {
                rule: Rule::Rules,
                effect,
                evidence: format!("line {line} of the rules"),
            });
        }
        if wishes.gate != GateLevel::Off && !self.gathered.is_settled() {
            let judged = judge(&self.gate.host, &self.gate.settings, facts).0;
            let counts = |finding: &Finding| !ruled.skips.contains(&finding.rule);
            findings.0.extend(judged.into_iter().filter(counts));
        }
        findings
    }

    fn is_greylisted(&self, findings: &Findings, ruled: &Ruled, wishes: Wishes) -> bool {
        let by_settings = match self.gate.settings.greylist.whom {
            Whom::Nobody => false,
            Whom::Suspects => findings.is_suspect(),
            Whom::All => findings.deciding().is_none(),
        };
        by_settings && wishes.gate == GateLevel::On && !ruled.skips.contains(&Rule::Greylist)
    }

    /// A finding unless the client is known.
    async fn greylist(&mut self, question: &Question<'_>) -> Option<Finding> {
        let gate = Arc::clone(&self.gate);
        let (address, (from, to)) = (self.address, paths(question));
        let asked = tokio::task::spawn_blocking(move || {
            let greylist = gate.greylist.as_ref()?;
            let client = (address, from.as_str(), to.as_str());
            Some(greylist.ask(&gate.settings.greylist, client, seconds()))
        });
        match asked.await {
            Ok(None) => None,
            Ok(Some(Ok(standing))) => {
                self.message.came_again |= standing == Standing::CameAgain;
                finding(standing)
            }
            Ok(Some(Err(error))) => unknown(error),
            Err(error) => unknown(error),
        }
    }

    /// Runs the plugins of all that was said so far, each once; the sender and
    /// recipient they leave.
    async fn plugins(
        &mut self,
        envelope: &Envelope,
        question: &Question<'_>,
        ruled: &Ruled,
        wishes: Wishes,
        client: &Client,
    ) -> (Outcome, ReversePath, ForwardPath) {
        let mut sender = envelope.reverse_path.clone();
        let mut recipient = question.forward_path.clone();
        let plugins = self.gate.plugins();
        let Some(plugins) = plugins.filter(|_| !ruled.variables.contains_key("NOSPP")) else {
            return (Outcome::default(), sender, recipient);
        };
        self.asked_plugins.n_recipients += 1;
        let counts = (envelope.recipients.len(), self.asked_plugins.n_recipients);
        let may_write = wishes.is_local || client.may_relay;
        self.said.see(question, ruled, counts, may_write);
        let mut all = Outcome::default();
        for event in [Event::Connection, Event::Helo, Event::Mail, Event::Rcpt] {
            let outcome = match self.asked_plugins.known(event, question) {
                Some(outcome) => outcome,
                None => self.run(&plugins, event).await,
            };
            self.asked_plugins.note(event, question, &outcome);
            match (event, &outcome.change) {
                (Event::Mail, Some(text)) => {
                    // Also where the plugin has said so of another recipient.
                    self.said.environment.insert(SENDER.into(), text.clone());
                    sender = ReversePath::parse(text.as_bytes()).unwrap_or(sender);
                }
                (Event::Rcpt, Some(text)) => {
                    recipient = ForwardPath::parse(text.as_bytes()).unwrap_or(recipient);
                }
                _ => {}
            }
            all.is_trusted |= outcome.is_trusted && matches!(event, Event::Rcpt);
            all.refusal = outcome.refusal;
            if event == Event::Mail && all.refusal.is_none() {
                let stored = self.said.refuse_recipients.clone();
                all.refusal = stored.map(|reply| (reply, "a plugin before".to_owned()));
            }
            if all.refusal.is_some() {
                break;
            }
        }
        (all, sender, recipient)
    }

    /// Plugins take their time in a thread of their own.
    pub(super) async fn run(&mut self, plugins: &Arc<Plugins>, event: Event) -> Outcome {
        let (plugins, mut said) = (Arc::clone(plugins), self.said.clone());
        let running = tokio::task::spawn_blocking(move || {
            let outcome = plugins.run(event, &mut said);
            (outcome, said)
        });
        match running.await {
            Ok((outcome, said)) => {
                self.said = said;
                outcome
            }
            Err(error) => Outcome {
                refusal: Some((
                    Reply::new(451, (4, 3, 0), "trouble here"),
                    error.to_string(),
                )),
                ..Outcome::default()
            },
        }
    }

    fn refused_early(&self, finding: Finding) -> Judged {
        Judged {
            decision: refuse(&finding),
            findings: Findings(vec![finding]),
            facts: Facts::of(self.address),
        }
    }

    /// The line in the log, and the story of a recipient who gets nothing.
    async fn tell<H: Host>(
        &mut self,
        host: &H,
        envelope: &Envelope,
        to: &ForwardPath,
        judged: &Judged,
    ) {
        let Judged {
            decision,
            findings,
            facts,
        } = judged;
        let rule = findings.refusal().map(|finding| finding.rule.name());
        told::log(envelope, to, decision, rule, facts.reverse_name());
        match decision {
            Decision::Accept => {
                for line in findings.lines() {
                    if !self.message.seen.contains(&line) {
                        self.message.seen.push(line);
                    }
                }
            }
            Decision::Refuse(refusal) => {
                let whom = TurnedAway {
                    client: envelope.client.clone(),
                    from: envelope.reverse_path.to_string(),
                    to: vec![to.to_string()],
                    refusal: refusal.clone(),
                    seen: findings.lines(),
                };
                host.turned_away(whom).await;
            }
        }
    }
}

impl Asked {
    fn known(&self, event: Event, question: &Question<'_>) -> Option<Outcome> {
        match event {
            Event::Connection => self.connection.clone(),
            Event::Helo => {
                let (helo, outcome) = self.helo.as_ref()?;
                (helo == question.helo).then(|| outcome.clone())
            }
            Event::Mail => {
                let (sender, outcome) = self.mail.as_ref()?;
                (sender == question.reverse_path).then(|| outcome.clone())
            }
            Event::Rcpt | Event::Data => None,
        }
    }

    fn note(&mut self, event: Event, question: &Question<'_>, outcome: &Outcome) {
        match event {
            Event::Connection => self.connection = Some(outcome.clone()),
            Event::Helo => self.helo = Some((question.helo.to_owned(), outcome.clone())),
            Event::Mail => self.mail = Some((question.reverse_path.clone(), outcome.clone())),
            Event::Rcpt | Event::Data => {}
        }
    }

    /// The next message begins anew.
    fn forget_message(&mut self) {
        (self.mail, self.n_recipients) = (None, 0);
    }
}

impl Visit {
    /// What was kept of a message that has come.
    pub(super) fn take_message(&mut self) -> Pending {
        self.asked_plugins.forget_message();
        std::mem::take(&mut self.message)
    }
}

fn refuse(finding: &Finding) -> Decision {
    Decision::Refuse(Refusal {
        reply: finding.reply(),
        reason: finding.to_string(),
    })
}

fn paths(question: &Question<'_>) -> (String, String) {
    (
        question.reverse_path.to_string(),
        question.forward_path.to_string(),
    )
}

/// What greylisting leads to.
fn finding(standing: Standing) -> Option<Finding> {
    let (effect, evidence) = match standing {
        Standing::Early { seconds } => (
            Effect::RefuseForNow,
            format!("this host does not know yours, try again in {seconds} seconds"),
        ),
        Standing::CameAgain => (Effect::Pass, "the client has come again".to_owned()),
        Standing::Known => (Effect::Pass, "mail has come from its network".to_owned()),
        Standing::Full => (Effect::Unknown, "the greylist is full".to_owned()),
    };
    Some(Finding {
        rule: Rule::Greylist,
        effect,
        evidence,
    })
}

/// Mail does not wait for a file of ours.
fn unknown(error: impl std::fmt::Display) -> Option<Finding> {
    warn!(%error, "nobody is greylisted");
    Some(Finding {
        rule: Rule::Greylist,
        effect: Effect::Unknown,
        evidence: error.to_string(),
    })
}

pub(super) fn seconds() -> u64 {
    trace::seconds(SystemTime::now())
}
