//! A message that comes through the gate: rules about header fields, the
//! plugins of its end, and what both have changed.

use std::io;
use std::sync::Arc;

use tracing::info;

use super::decision::{Finding, Rule};
use super::plugins::Event;
use super::rules::Subject;
use super::visit::{Pending, Visit, seconds};
use crate::delivery::content::header_section;
use crate::handover::{Answer, Host, Refusal, TurnedAway};
use crate::message::Message;
use crate::smtp::{Envelope, Reply};

impl Visit {
    /// Hands a message over, unless it is refused by what it holds.
    pub async fn commit<H: Host>(
        &mut self,
        host: &H,
        mut envelope: Envelope,
        message: Message,
    ) -> Answer {
        let pending = self.take_message();
        let (message, refusal) = self.look(&envelope, &pending, message).await;
        let refusal = match refusal {
            None => self.end_of_data().await,
            refused => refused,
        };
        let message = match refusal {
            None => self.with_header(message).await,
            Some(refusal) => Err(refusal),
        };
        self.said.forget_message();
        let message = match message {
            Ok(message) => message,
            Err(refusal) => return turn_away(host, &envelope, refusal).await,
        };
        for recipient in &mut envelope.recipients {
            let mut changed = pending.changed.iter();
            if let Some((_, new)) = changed.find(|(old, _)| *old == recipient.forward_path) {
                recipient.forward_path = new.clone();
            }
        }
        if let Some(sender) = pending.sender {
            envelope.reverse_path = sender;
        }
        envelope.client.may_relay |= pending.is_ours;
        envelope.gate = pending.seen;
        let answer = host.commit(envelope, message).await;
        if pending.came_again && is_taken(&answer) {
            self.remember().await;
        }
        answer
    }

    /// What the rules say of its header section.
    async fn look(
        &self,
        envelope: &Envelope,
        pending: &Pending,
        message: Message,
    ) -> (Message, Option<Refusal>) {
        let rules = self.gate.rules();
        if !rules.need_header() || pending.looked_at.is_empty() {
            return (message, None);
        }
        let (address, recipients) = (self.address, pending.looked_at.clone());
        let names = pending.names.clone();
        let helo = envelope.client.helo.clone().unwrap_or_default();
        let sender = envelope.reverse_path.to_string();
        let looked = tokio::task::spawn_blocking(move || {
            let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
            let names: Vec<(&str, bool)> = names
                .iter()
                .map(|(name, back)| (name.as_str(), *back))
                .collect();
            let subject = Subject {
                address,
                names: &names,
                helo: &helo,
                sender: &sender,
                recipients: &recipients,
            };
            let found = message.bytes().map(|bytes| {
                let section = &bytes[..header_section(&bytes)];
                rules.refuse_header(&subject, section)
            });
            (message, found)
        });
        match looked.await {
            Ok((message, Ok(None))) => (message, None),
            Ok((message, Ok(Some((effect, line, field))))) => {
                let shown: String = field.chars().take(100).collect();
                let refusal = Finding {
                    rule: Rule::Rules,
                    effect,
                    evidence: format!("line {line} of the rules, about {shown:?}"),
                };
                (message, Some(refused(&refusal)))
            }
            Ok((message, Err(error))) => (message, Some(trouble(&error))),
            Err(error) => (Message::new(""), Some(trouble(&error))),
        }
    }

    /// What plugins say to the message, which they do not see.
    async fn end_of_data(&mut self) -> Option<Refusal> {
        if self.said.environment.is_empty() {
            // None was asked.
            return None;
        }
        let plugins = self.gate.plugins()?;
        let outcome = match self.said.refuse_message.take() {
            Some(reply) => Some((reply, "a plugin before".to_owned())),
            None => self.run(&plugins, Event::Data).await.refusal,
        };
        outcome.map(|(reply, plugin)| Refusal {
            reason: format!("{}: {plugin} says {reply}", Rule::Plugins.name()),
            reply,
        })
    }

    /// With the lines that plugins add to its header section.
    async fn with_header(&self, message: Message) -> Result<Message, Refusal> {
        if self.said.header.is_empty() {
            return Ok(message);
        }
        let header = self.said.header.join("\n") + "\n";
        let written = tokio::task::spawn_blocking(move || message.behind(header.as_bytes()));
        match written.await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(trouble(&error)),
            Err(error) => Err(trouble(&error)),
        }
    }

    async fn remember(&self) {
        let (gate, address) = (Arc::clone(&self.gate), self.address);
        let noted = tokio::task::spawn_blocking(move || match &gate.greylist {
            Some(greylist) => greylist.succeeded(address, seconds()),
            None => Ok(()),
        });
        let noted = noted.await.map_err(io::Error::other);
        if let Err(error) = noted.map(|noted| noted.map_err(|error| error.to_string())) {
            info!(%error, "a network is not remembered");
        }
    }
}

/// Whether anybody got it.
fn is_taken(answer: &Answer) -> bool {
    match answer {
        Answer::All(reply) => reply.code.is_positive(),
        Answer::Each(replies) => replies.iter().any(|reply| reply.code.is_positive()),
    }
}

async fn turn_away<H: Host>(host: &H, envelope: &Envelope, refusal: Refusal) -> Answer {
    let to: Vec<String> = envelope
        .recipients
        .iter()
        .map(|recipient| recipient.forward_path.to_string())
        .collect();
    let from = envelope.reverse_path.to_string();
    info!(
        from,
        to = to.join(", "),
        reason = refusal.reason,
        "message refused"
    );
    let reply = refusal.reply.clone();
    let whom = TurnedAway {
        client: envelope.client.clone(),
        from,
        to,
        refusal,
        seen: Vec::new(),
    };
    host.turned_away(whom).await;
    Answer::All(reply)
}

fn refused(finding: &Finding) -> Refusal {
    Refusal {
        reply: finding.reply(),
        reason: finding.to_string(),
    }
}

fn trouble(error: &dyn std::fmt::Display) -> Refusal {
    Refusal {
        reply: Reply::new(451, (4, 3, 0), "trouble here, try again later"),
        reason: error.to_string(),
    }
}
