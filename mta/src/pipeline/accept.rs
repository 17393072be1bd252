//! A message is taken over: scanned, planned, judged, and then delivered or
//! queued, before it is answered.

use std::io;
use std::time::SystemTime;

use tracing::{info, warn};

use super::clamd::Scan;
use super::incoming::{Incoming, Target, spam};
use super::placing::{disk_reply, entry, entry_recipient, positive};
use super::signing::is_ours;
use super::{Inner, ScannerDown, VirusPolicy, refusal, trouble};
use crate::authentication::foreign;
use crate::authentication::incoming::{Checked, Wish};
use crate::delivery::content::Content;
use crate::handover::{Answer, Refusal};
use crate::journal::Event;
use crate::message::Message;
use crate::smtp::{Client, Envelope, Protocol, Reply, trace};

impl Inner {
    /// Answers the end of data. Everything here may block.
    pub(super) fn take_over(
        &self,
        envelope: &Envelope,
        message: &Message,
        checked: Option<Checked>,
    ) -> Answer {
        let now = SystemTime::now();
        let id = self.ids.next(now);
        self.note(
            &id,
            now,
            Event::Received {
                from: envelope.reverse_path.to_string(),
                to: all_paths(envelope),
                client: client(&envelope.client),
                account: envelope.client.account.clone(),
                bytes: message.len(),
            },
        );
        if !envelope.gate.is_empty() {
            let seen = envelope.gate.clone();
            self.note(&id, now, Event::Passed { seen });
        }
        if let Some(Checked { results, .. }) = &checked {
            let results = results.clone();
            self.note(&id, now, Event::Authenticated { results });
        }
        let checked = checked.unwrap_or_default();
        self.take(envelope, message, &checked, &id, now).unwrap_or_else(|refusal| {
            info!(queue_id = id, reply = %refusal.reply, reason = refusal.reason, "message refused");
            self.refused(&id, now, all_paths(envelope), &refusal);
            Answer::All(refusal.reply)
        })
    }

    fn refused(&self, id: &str, now: SystemTime, to: Vec<String>, refusal: &Refusal) {
        let event = Event::Refused {
            to,
            came: None,
            reply: refusal.reply.to_string(),
            reason: refusal.reason.clone(),
            seen: Vec::new(),
        };
        self.note(id, now, event);
    }

    fn take(
        &self,
        envelope: &Envelope,
        message: &Message,
        checked: &Checked,
        id: &str,
        now: SystemTime,
    ) -> Result<Answer, Refusal> {
        let wish = self.obeyed(checked)?;
        let unreadable = |error: io::Error| refusal(trouble(), error.to_string());
        let raw = message.bytes().map_err(unreadable)?;
        if let Some(account) = &envelope.client.account {
            self.check_from(account, &raw)?;
        }
        let host = &self.settings.host;
        let mut bytes = checked.field(host).into_bytes();
        bytes.extend_from_slice(trace::received(envelope, host, id, now).as_bytes());
        let begin = bytes.len();
        bytes.extend_from_slice(&foreign::without(&raw, host));
        drop(raw);
        let mut incoming = Incoming {
            id,
            envelope,
            now,
            bytes,
            to_junk: wish == Wish::Quarantine,
            targets: Vec::new(),
            by_recipient: Vec::new(),
        };
        if let Some(answer) = self.scan(&incoming, message)? {
            return Ok(answer);
        }
        self.plan(&mut incoming)?;
        let content = Content::new(&incoming.bytes);
        let goes_straight = self.goes_straight(&incoming);
        // What is queued is judged when it is delivered; what could be refused
        // and is queued, once more then. To carry that along, queue files would
        // hold a verdict, and with it the user's mark, that is out of date at a
        // later attempt; it saves a tenth of a millisecond where a user refuses
        // spam and the mail cannot go straight.
        if goes_straight || incoming.targets.iter().any(Target::may_be_refused) {
            self.judge_all(&mut incoming, &content);
        }
        incoming.refuse_spam();
        let wanted = incoming.wanted();
        for (n, target) in incoming.targets.iter().enumerate() {
            if goes_straight || !wanted.contains(&n) {
                self.note_opinion(id, target, now);
            }
        }
        if wanted.is_empty() {
            return Err(spam());
        }
        self.tell_refused(&incoming);
        if goes_straight {
            self.deliver_all(&incoming, &wanted, &content)
        } else {
            if is_ours(&envelope.client) {
                let fields = self.signatures(id, now, &incoming.bytes[begin..]);
                incoming.bytes.splice(begin..begin, fields.into_bytes());
            }
            self.enqueue(&incoming, &wanted)?;
            Ok(incoming.answer(|_| positive(id)))
        }
    }

    /// An answer when the scanner settles it.
    fn scan(&self, incoming: &Incoming<'_>, message: &Message) -> Result<Option<Answer>, Refusal> {
        let Some(clamd) = &self.settings.clamd else {
            return Ok(None);
        };
        let scanned = clamd.scan(message);
        let result = match &scanned {
            Ok(Scan::Clean) => "clean".to_owned(),
            Ok(Scan::Infected(name)) => name.clone(),
            Err(error) => format!("no answer: {error}"),
        };
        self.note(incoming.id, incoming.now, Event::Scanned { result });
        match (scanned, self.settings.scanner_down) {
            (Ok(Scan::Clean), _) => Ok(None),
            (Ok(Scan::Infected(name)), _) => self.infected(incoming, &name).map(Some),
            (Err(error), ScannerDown::Pass) => {
                warn!(clamd = %clamd.address, %error, "mail passes unscanned");
                Ok(None)
            }
            (Err(error), ScannerDown::Defer) => {
                let reply = Reply::new(
                    451,
                    (4, 7, 1),
                    "the virus scanner does not answer, try again later",
                );
                Err(refusal(
                    reply,
                    format!("clamd at {}: {error}", clamd.address),
                ))
            }
        }
    }

    fn infected(&self, incoming: &Incoming<'_>, name: &str) -> Result<Answer, Refusal> {
        match self.settings.virus {
            VirusPolicy::Refuse => {
                let reply = Reply::new(554, (5, 7, 1), format!("this message holds {name}"));
                Err(refusal(reply, format!("the virus scanner found {name}")))
            }
            VirusPolicy::Discard => {
                info!(queue_id = incoming.id, virus = name, "message discarded");
                self.note(incoming.id, incoming.now, Event::Discarded);
                Ok(kept(incoming.id))
            }
            VirusPolicy::Quarantine => {
                let recipients = incoming.envelope.recipients.iter();
                let recipients = recipients.filter_map(|recipient| {
                    let address = self.mailbox(&recipient.forward_path).ok()?;
                    Some(entry_recipient(address, recipient, incoming.now))
                });
                let entry = entry(incoming, recipients.collect());
                let kept_there = self
                    .quarantine
                    .accept(&entry, &[&incoming.bytes], incoming.id);
                kept_there.map_err(|error| refusal(disk_reply(&error), error.to_string()))?;
                info!(queue_id = incoming.id, virus = name, "message quarantined");
                self.note(incoming.id, incoming.now, Event::Quarantined);
                Ok(kept(incoming.id))
            }
        }
    }

    /// What the domain of the author wishes, where that counts.
    fn obeyed(&self, checked: &Checked) -> Result<Wish, Refusal> {
        let obeys = self.settings.authentication.as_ref();
        match checked.wish {
            _ if !obeys.is_some_and(|settings| settings.obeys) => Ok(Wish::None),
            Wish::Reject => {
                // RFC 7372 §3.4.
                let text = "the domain of its author asks to refuse it (DMARC)";
                let reply = Reply::new(550, (5, 7, 26), text);
                Err(refusal(reply, checked.results.join("; ")))
            }
            wish => Ok(wish),
        }
    }

    /// Notes for whom it was refused while others get it.
    fn tell_refused(&self, incoming: &Incoming<'_>) {
        let all = all_paths(incoming.envelope).into_iter();
        let refused = all.zip(&incoming.by_recipient);
        let refused = refused.filter(|(_, targets)| targets.is_empty());
        let refused: Vec<String> = refused.map(|(path, _)| path).collect();
        if !refused.is_empty() {
            self.refused(incoming.id, incoming.now, refused, &spam());
        }
    }
}

fn kept(id: &str) -> Answer {
    Answer::All(positive(id))
}

fn all_paths(envelope: &Envelope) -> Vec<String> {
    envelope
        .recipients
        .iter()
        .map(|recipient| recipient.forward_path.to_string())
        .collect()
}

pub(super) fn client(client: &Client) -> String {
    let peer = client
        .peer
        .map_or("local".to_owned(), |peer| peer.to_string());
    let helo = client.helo.as_deref().unwrap_or("-");
    let protocol = match client.protocol {
        Protocol::Smtp => "SMTP",
        Protocol::Esmtp => "ESMTP",
        Protocol::Lmtp => "LMTP",
        Protocol::Local => "local",
    };
    format!("{peer} {helo} {protocol}")
}
