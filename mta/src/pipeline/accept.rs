//! A message is taken over: scanned, planned, judged, and then delivered or
//! queued, before it is answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::time::SystemTime;

use classifier::modern::{Features, features};
use tracing::{info, warn};

use super::clamd::Scan;
use super::signing::is_ours;
use super::verdict::{self, Opinion};
use super::{Inner, ScannerDown, VirusPolicy, refusal, seconds, trouble};
use crate::accounts::{Delivery, SpamPolicy, User};
use crate::authentication::foreign;
use crate::authentication::incoming::{Checked, Wish};
use crate::delivery::content::Content;
use crate::delivery::instructions::Instruction;
use crate::delivery::local::{Delivered, Job};
use crate::handover::{Answer, Refusal};
use crate::journal::Event;
use crate::message::Message;
use crate::queue::{Entry, Recipient, State};
use crate::smtp::{Client, Envelope, Protocol, Reply, ReversePath, trace};

/// Up to so many Maildirs a message is delivered while the client waits; for
/// more the queue's two syncs are sooner done.
const MAX_DIRECT: usize = 8;

/// A message on its way.
pub(super) struct Incoming<'a> {
    id: &'a str,
    pub(super) envelope: &'a Envelope,
    now: SystemTime,
    /// With our trace field on top.
    bytes: Vec<u8>,
    /// Whether it is filed as spam whatever the filter says.
    to_junk: bool,
    /// Where it goes, each place once.
    pub(super) targets: Vec<Target>,
    /// For each recipient of the envelope, which targets; none when it is
    /// refused.
    by_recipient: Vec<Vec<usize>>,
}

pub(super) struct Target {
    pub(super) delivery: Delivery,
    /// The recipient of the envelope that led here first.
    pub(super) recipient: usize,
    opinion: Option<Opinion>,
}

impl Target {
    /// Whether its user wants spam refused.
    fn may_be_refused(&self) -> bool {
        match &self.delivery {
            Delivery::Local { user, .. } => user.settings.spam == SpamPolicy::Refuse,
            Delivery::Remote(_) => false,
        }
    }

    fn is_refused(&self) -> bool {
        self.may_be_refused() && self.opinion.as_ref().is_some_and(Opinion::is_spam)
    }
}

impl Incoming<'_> {
    /// Refuses spam for each recipient all of whose places want that. SMTP has
    /// one reply for all, so that there all must agree.
    fn refuse_spam(&mut self) {
        let targets = &self.targets;
        let is_refused = |all: &[usize]| all.iter().all(|n| targets[*n].is_refused());
        if !self.envelope.is_lmtp() && !targets.iter().all(Target::is_refused) {
            return;
        }
        for all in &mut self.by_recipient {
            if is_refused(all) {
                all.clear();
            }
        }
    }

    /// The targets that get it.
    fn wanted(&self) -> BTreeSet<usize> {
        self.by_recipient.iter().flatten().copied().collect()
    }

    /// LMTP's reply for each recipient, from its targets; of SMTP the one.
    fn answer(&self, mut reply: impl FnMut(&[usize]) -> Reply) -> Answer {
        if !self.envelope.is_lmtp() {
            return Answer::All(reply(&[]));
        }
        let each = self.by_recipient.iter().map(|targets| match &targets[..] {
            [] => spam().reply,
            targets => reply(targets),
        });
        Answer::Each(each.collect())
    }
}

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
        // What is queued is judged when it is delivered.
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

    /// Where it goes. That was asked at RCPT and is asked again: an account
    /// may have changed meanwhile.
    fn plan(&self, incoming: &mut Incoming<'_>) -> Result<(), Refusal> {
        let mut known: HashMap<String, usize> = HashMap::new();
        for (n, recipient) in incoming.envelope.recipients.iter().enumerate() {
            let mailbox = self.mailbox(&recipient.forward_path)?;
            let plan = self.resolve(&mailbox).map_err(|refused| {
                // One who has just gone must not cost the others theirs.
                let is_alone = incoming.envelope.recipients.len() == 1;
                if is_alone {
                    refused
                } else {
                    refusal(trouble(), refused.reason)
                }
            })?;
            for dead in &plan.dead {
                warn!(alias = %mailbox, target = %dead, "an alias names nobody");
            }
            let mut targets = Vec::new();
            for delivery in plan.deliveries {
                let key = match &delivery {
                    Delivery::Remote(address) => address.to_string(),
                    Delivery::Local {
                        user, extension, ..
                    } => format!("{} {extension:?}", user.address),
                };
                let target = *known.entry(key).or_insert_with(|| {
                    incoming.targets.push(Target {
                        delivery,
                        recipient: n,
                        opinion: None,
                    });
                    incoming.targets.len() - 1
                });
                targets.push(target);
            }
            incoming.by_recipient.push(targets);
        }
        Ok(())
    }

    fn judge_all(&self, incoming: &mut Incoming<'_>, content: &Content) {
        let mut once: Option<Features> = None;
        let id = incoming.id;
        for target in &mut incoming.targets {
            if let Delivery::Local { user, .. } = &target.delivery {
                target.opinion = self.judge(id, user, content, &mut once);
            }
        }
    }

    /// What the filter says to `user`; nothing when it is off or cannot tell,
    /// which must not hold mail up.
    pub(super) fn judge(
        &self,
        id: &str,
        user: &User,
        content: &Content,
        once: &mut Option<Features>,
    ) -> Option<Opinion> {
        if !user.settings.filter {
            return None;
        }
        let message = content.bytes();
        let features = once.get_or_insert_with(|| features(message));
        match verdict::judge(message, features, user, &*self.models) {
            Err(reason) => {
                warn!(queue_id = id, user = %user.address, reason, "not judged");
                None
            }
            Ok(opinion) => Some(opinion),
        }
    }

    /// The header fields that tell `user` of `opinion`, and whether it is filed
    /// in Junk: then it is marked, so that it teaches nothing.
    pub(super) fn file_by(
        &self,
        user: &User,
        opinion: Option<&Opinion>,
        to_junk: bool,
        content: &Content,
    ) -> (String, bool) {
        let is_spam = opinion.is_some_and(Opinion::is_spam);
        let is_junk = (is_spam || to_junk) && user.settings.spam != SpamPolicy::Tag;
        let mark = match opinion {
            _ if !is_junk => String::new(),
            Some(opinion) if is_spam => opinion.mark.clone(),
            _ => match self.models.mark_key(&user.address.to_string()) {
                Ok(key) => key.map_or_else(String::new, |key| key.field_of(content.bytes())),
                Err(reason) => {
                    warn!(user = %user.address, reason, "filed without a mark");
                    String::new()
                }
            },
        };
        (
            opinion.map(Opinion::fields).unwrap_or_default() + &mark,
            is_junk,
        )
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

    fn note_opinion(&self, id: &str, target: &Target, now: SystemTime) {
        if let (Delivery::Local { user, .. }, Some(opinion)) = (&target.delivery, &target.opinion) {
            self.note(id, now, judged(user, opinion));
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

    /// Whether it goes to mailboxes alone, and to few.
    fn goes_straight(&self, incoming: &Incoming<'_>) -> bool {
        let recipients = &incoming.envelope.recipients;
        let wants_success = recipients
            .iter()
            .any(|r| r.notify.is_some_and(|notify| notify.success));
        let to_mailboxes = |target: &Target| match &target.delivery {
            Delivery::Remote(_) => false,
            Delivery::Local {
                user, extension, ..
            } => {
                match self.deliverer.instructions(user, extension.as_ref()) {
                    Ok(None) => true,
                    Ok(Some(said)) => said
                        .all
                        .iter()
                        .all(|one| matches!(one, Instruction::Maildir(_))),
                    // The queue waits until it can be known.
                    Err(_) => false,
                }
            }
        };
        !wants_success
            && incoming.targets.len() <= MAX_DIRECT
            && incoming.targets.iter().all(to_mailboxes)
    }

    /// Delivers to the wanted targets, and queues it for those who failed,
    /// unless they are all that one reply is for: then that reply is the
    /// failure. Should the queue fail here, the client sends again, and who had
    /// it gets it twice.
    fn deliver_all(
        &self,
        incoming: &Incoming<'_>,
        wanted: &BTreeSet<usize>,
        content: &Content,
    ) -> Result<Answer, Refusal> {
        let mut failures: BTreeMap<usize, Reply> = BTreeMap::new();
        for n in wanted {
            if let Err(reply) = self.deliver_now(incoming, &incoming.targets[*n], content) {
                failures.insert(*n, reply);
            }
        }
        let mut waiting = BTreeSet::new();
        let mut reply = |group: &[usize]| {
            let has_failed = |n: &&usize| failures.contains_key(*n);
            let (failed, fine): (Vec<usize>, Vec<usize>) = group.iter().partition(has_failed);
            if fine.is_empty() {
                return worst(failed.iter().filter_map(|n| failures.get(n)));
            }
            waiting.extend(failed);
            positive(incoming.id)
        };
        let answer = match incoming.envelope.is_lmtp() {
            true => incoming.answer(&mut reply),
            false => Answer::All(reply(&wanted.iter().copied().collect::<Vec<_>>())),
        };
        if !waiting.is_empty() {
            self.enqueue(incoming, &waiting)?;
        }
        match answer {
            Answer::All(reply) if !reply.code.is_positive() => {
                Err(refusal(reply, "no mailbox could be delivered to".into()))
            }
            answer => Ok(answer),
        }
    }

    fn deliver_now(
        &self,
        incoming: &Incoming<'_>,
        target: &Target,
        content: &Content,
    ) -> Result<Delivered, Reply> {
        let Delivery::Local {
            user,
            extension,
            address,
        } = &target.delivery
        else {
            return Err(trouble());
        };
        let opinion = target.opinion.as_ref();
        let (fields, is_junk) = self.file_by(user, opinion, incoming.to_junk, content);
        let delivered = self.deliverer.deliver(&Job {
            reverse_path: &incoming.envelope.reverse_path,
            user,
            extension: extension.as_ref(),
            address,
            content,
            fields: &fields,
            is_junk,
            now: incoming.now,
        })?;
        self.rotate(user, is_junk, incoming.now);
        let (id, to) = (incoming.id, address.to_string());
        let place = delivered.places.join(", ");
        info!(queue_id = id, forward_path = to, place, "delivered");
        self.note(id, incoming.now, Event::Delivered { to, place });
        Ok(delivered)
    }

    /// Queues it for these, once for each sender that it has there: all of it,
    /// or nothing.
    fn enqueue(&self, incoming: &Incoming<'_>, targets: &BTreeSet<usize>) -> Result<(), Refusal> {
        let mut ids = Vec::new();
        for (sender, targets) in self.by_sender(incoming, targets)? {
            let id = match ids.is_empty() {
                true => incoming.id.to_owned(),
                false => self.ids.next(incoming.now),
            };
            if let Err(error) = self.enqueue_part(incoming, &id, sender, &targets) {
                self.take_back(&ids);
                return Err(refusal(disk_reply(&error), error.to_string()));
            }
            ids.push(id);
        }
        for id in &ids {
            self.agenda.add(seconds(incoming.now), id);
        }
        Ok(())
    }

    fn enqueue_part(
        &self,
        incoming: &Incoming<'_>,
        id: &str,
        sender: ReversePath,
        targets: &[usize],
    ) -> io::Result<()> {
        let recipients: Vec<Recipient> = targets
            .iter()
            .filter_map(|n| incoming.targets.get(*n))
            .map(|target| {
                let named = &incoming.envelope.recipients[target.recipient];
                entry_recipient(target.delivery.address().clone(), named, incoming.now)
            })
            .collect();
        let to = recipients
            .iter()
            .map(|recipient| recipient.address.to_string())
            .collect();
        let entry = Entry {
            reverse_path: sender,
            ..entry(incoming, recipients)
        };
        self.queue.accept(&entry, &[&incoming.bytes], id)?;
        info!(queue_id = id, "queued");
        if id != incoming.id {
            let (what, child) = ("forward".to_owned(), id.to_owned());
            self.note(incoming.id, incoming.now, Event::Begot { what, child });
        }
        self.note(id, incoming.now, Event::Queued { to });
        Ok(())
    }
}

pub(super) fn judged(user: &User, opinion: &Opinion) -> Event {
    let evidence = opinion.evidence.iter();
    Event::Judged {
        user: user.address.to_string(),
        verdict: opinion.class.name().into(),
        probability: opinion.probability,
        required: opinion.required,
        evidence: evidence
            .map(|one| (one.place.to_string(), one.what.to_string(), one.log_odds))
            .collect(),
    }
}

fn entry(incoming: &Incoming<'_>, recipients: Vec<Recipient>) -> Entry {
    let envelope = incoming.envelope;
    Entry {
        arrived: seconds(incoming.now),
        reverse_path: envelope.reverse_path.clone(),
        client: client(&envelope.client),
        body: envelope.body,
        smtputf8: envelope.smtputf8,
        ret: envelope.ret,
        envid: envelope.envid.clone(),
        is_double_bounce: false,
        recipients,
        to_junk: incoming.to_junk,
        is_warned: false,
        is_held: false,
    }
}

fn entry_recipient(
    address: crate::smtp::Mailbox,
    named: &crate::smtp::Recipient,
    now: SystemTime,
) -> Recipient {
    Recipient {
        address,
        notify: named.notify,
        orcpt: named.orcpt.clone(),
        state: State::new(seconds(now)),
    }
}

fn spam() -> Refusal {
    let text = "this message looks like spam to its recipients";
    let reason = "the filter of everybody whom it would reach calls it spam";
    refusal(Reply::new(554, (5, 7, 1), text), reason.into())
}

/// A transient failure before a permanent one: whoever may still succeed must
/// be tried again.
fn worst<'a>(failures: impl Iterator<Item = &'a Reply>) -> Reply {
    let first = failures.min_by_key(|reply| reply.code);
    first.cloned().unwrap_or_else(trouble)
}

fn positive(id: &str) -> Reply {
    Reply::new(250, (2, 0, 0), format!("ok {id}"))
}

fn kept(id: &str) -> Answer {
    Answer::All(positive(id))
}

fn disk_reply(error: &io::Error) -> Reply {
    Reply::for_full_disk(error).unwrap_or_else(trouble)
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
