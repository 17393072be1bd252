//! What is found of mail from outside, once for each message: SPF (RFC 7208),
//! DKIM (RFC 6376), ARC (RFC 8617), DMARC (RFC 9989) and the reverse name
//! (RFC 8601 §3), written down as one Authentication-Results field (RFC 8601).
//!
//! Nothing is refused here. What the DNS does not tell in time is `temperror`.
//! Bounded are: the time of all together, lookups of SPF (10, RFC 7208
//! §4.6.4), signatures that are looked at, and what they may name.

use std::net::IpAddr;
use std::time::Duration;

use mail_auth::common::to_a_label;
use mail_auth::dkim::Canonicalization;
use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    ArcOutput, AuthenticatedMessage, AuthenticationResults, DkimOutput, DkimResult, DmarcOutput,
    DmarcResult, DnsError, Error, IprevOutput, IprevResult, MessageAuthenticator, SpfOutput,
    SpfResult,
};
use tokio::time::{Instant, timeout_at};

use super::spf;
use crate::remote::dns::Dns;
use crate::smtp::{Domain, Envelope, Protocol, ReversePath};

/// Looks at mail from outside.
#[derive(Clone)]
pub struct Verifier {
    dns: MessageAuthenticator,
    asking: Dns,
    host: String,
    patience: Duration,
}

/// Who brings a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub address: IpAddr,
    /// What it calls itself.
    pub helo: String,
    /// Whom it is from.
    pub reverse_path: ReversePath,
}

impl Origin {
    /// Of mail that comes from outside; `None` for those whom we know.
    pub fn of(envelope: &Envelope) -> Option<Self> {
        let client = &envelope.client;
        let by_smtp = matches!(client.protocol, Protocol::Smtp | Protocol::Esmtp);
        if !by_smtp || client.account.is_some() || client.may_relay {
            return None;
        }
        Some(Self {
            address: client.peer?.ip().to_canonical(),
            helo: client.helo.clone().unwrap_or_default(),
            reverse_path: envelope.reverse_path.clone(),
        })
    }
}

/// What was found of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The results, as they stand in the field, without folding.
    pub results: Vec<String>,
    /// What its author's domain asks to be done with it.
    pub wish: Wish,
}

/// What the domain of an author wants done with mail that fails DMARC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing, or it has not failed.
    #[default]
    None,
    /// It goes where spam goes.
    Quarantine,
    /// It is refused.
    Reject,
}

/// RFC 6376 §6.1 leaves it to us how many signatures are looked at.
const MAX_SIGNATURES: usize = 10;
/// Fields that a signature may name, and that a message may have to be
/// looked at: both are multiplied.
const MAX_NAMED: usize = 200;
const MAX_FIELDS: usize = 1000;
/// The longest identity of a signature: names are shorter, and both stand in
/// the results.
const MAX_ADDRESS: usize = 512;

impl Verifier {
    /// Of the host that calls itself `host`. All that is asked about one
    /// message ends within `patience`.
    pub(crate) fn new(dns: &Dns, host: &str, patience: Duration) -> Self {
        Self {
            dns: MessageAuthenticator(dns.resolver().clone()),
            asking: dns.clone(),
            host: host.to_owned(),
            patience,
        }
    }

    /// Whether SPF forbids the sender's domain to the client, before there is a
    /// message.
    ///
    /// # Errors
    /// With the reason when the DNS does not tell.
    pub async fn is_forbidden(&self, origin: &Origin) -> Result<bool, String> {
        let end = Instant::now() + self.patience;
        let spf = self.spf_of_sender(origin, end).await;
        match spf.result() {
            SpfResult::TempError => Err(format!(
                "the DNS does not tell about SPF of {}",
                spf.domain()
            )),
            result => Ok(result == SpfResult::Fail),
        }
    }

    /// Looks at `message`, whose lines end with CRLF. Not on the time of the
    /// caller: what fails on some message must cost nobody else.
    pub async fn check_apart(&self, origin: Origin, message: Vec<u8>) -> Checked {
        let verifier = self.clone();
        let checking = tokio::spawn(async move { verifier.check(&origin, &message).await });
        checking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a message could not be looked at");
            Checked::failed()
        })
    }

    /// Looks at `message`, whose lines end with CRLF.
    pub async fn check(&self, origin: &Origin, message: &[u8]) -> Checked {
        let begin = Instant::now();
        // The last third is DMARC's, which needs what the others have found.
        let (soon, end) = (begin + self.patience * 2 / 3, begin + self.patience);
        let parsed = parse(message).map(bounded).unwrap_or_default();
        let address = origin.address;
        let (iprev, helo, sender, dkim, arc) = tokio::join!(
            in_time(soon, self.dns.verify_iprev(address), || IprevOutput {
                result: IprevResult::TempError(late()),
                ptr: None,
            }),
            self.spf_of_helo(origin, soon),
            self.spf_of_sender(origin, soon),
            in_time(soon, self.dns.verify_dkim(&parsed), || {
                let signatures = parsed.dkim_headers.iter();
                let late = |found| DkimOutput::temp_err(late()).with_signature(found);
                signatures.map(|found| late(&found.header)).collect()
            }),
            in_time(soon, self.dns.verify_arc(&parsed), || {
                ArcOutput::default().with_result(DkimResult::TempError(late()))
            }),
        );
        let spf = match origin.reverse_path {
            ReversePath::Null => &helo,
            ReversePath::Mailbox(_) => &sender,
        };
        let domain = sender_domain(origin);
        let dmarc = self
            .dns
            .verify_dmarc(DmarcParameters::new(&parsed, &dkim, &domain, spf));
        let dmarc = in_time(end, dmarc, || {
            DmarcOutput::default()
                .with_domain(parsed.from().rsplit('@').next().unwrap_or_default())
                .with_dkim_result(DmarcResult::TempError(late()))
        });
        let dmarc = dmarc.await;
        let mut results = Vec::new();
        let mut write = |part: AuthenticationResults<'_>| results.push(self.written(&part));
        let new = || AuthenticationResults::new(&self.host);
        write(new().with_iprev_result(&iprev, address));
        if is_name(&origin.helo) {
            write(new().with_spf_ehlo_result(&helo, address, &origin.helo));
        }
        let from = origin.reverse_path.mailbox();
        if let Some(from) = from.filter(|from| from.domain.name().is_some()) {
            let from = from.to_string();
            write(new().with_spf_mailfrom_result(&sender, address, &from, &origin.helo));
        }
        for one in &dkim {
            write(new().with_dkim_result(one, parsed.from()));
        }
        if !parsed.ams_headers.is_empty() || parsed.has_arc_errors {
            write(new().with_arc_result(&arc, address));
        }
        if is_name(dmarc.domain()) {
            write(new().with_dmarc_result(&dmarc));
        }
        if dkim.is_empty() {
            results.push("dkim=none".to_owned());
        }
        Checked {
            results,
            wish: wish(&dmarc),
        }
    }

    async fn spf_of_helo(&self, origin: &Origin, end: Instant) -> SpfOutput {
        let helo = &*to_a_label(&origin.helo);
        if !is_name(helo) {
            return SpfOutput::new(helo.to_owned());
        }
        let address = origin.address;
        let asked = || SpfParameters::verify_ehlo(address, helo, &self.host);
        let found = spf::verify(&self.dns, &self.asking, address, asked);
        in_time(end, found, || late_spf(helo)).await
    }

    async fn spf_of_sender(&self, origin: &Origin, end: Instant) -> SpfOutput {
        let Some(mailbox) = origin.reverse_path.mailbox() else {
            return SpfOutput::new(String::new());
        };
        let domain = sender_domain(origin);
        let sender = format!("{}@{domain}", mailbox.local_part.as_str());
        let helo = &*to_a_label(&origin.helo);
        let address = origin.address;
        let asked = || SpfParameters::verify_mail_from(address, helo, &self.host, &sender);
        let found = spf::verify(&self.dns, &self.asking, address, asked);
        in_time(end, found, || late_spf(&domain)).await
    }

    /// One result, without the host's name before it, in printable ASCII: it
    /// holds words of strangers.
    fn written(&self, results: &AuthenticationResults<'_>) -> String {
        let text = results.to_string();
        let text = text.strip_prefix(&self.host).unwrap_or(&text);
        let text = text.trim_start_matches([';', '\r', '\n', '\t']);
        let printable = |c: char| if matches!(c, ' '..='~') { c } else { '_' };
        text.chars().map(printable).collect()
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = f.debug_struct("Verifier");
        all.field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Checked {
    /// When it could not be looked at.
    pub fn failed() -> Self {
        Self {
            results: vec!["dkim=temperror".into(), "dmarc=temperror".into()],
            wish: Wish::None,
        }
    }

    /// The field, whole lines, for the top of the message; nothing of what was
    /// not looked at.
    pub fn field(&self, host: &str) -> String {
        if self.results.is_empty() {
            return String::new();
        }
        let mut field = format!("Authentication-Results: {host}");
        for result in &self.results {
            field.push_str(";\n\t");
            field.push_str(result);
        }
        field + "\n"
    }
}

fn parse(message: &[u8]) -> Option<AuthenticatedMessage<'_>> {
    let mut parsed = AuthenticatedMessage::parse(message)?;
    let cut = super::without_blank_end(message);
    let is_relaxed = |way: &Canonicalization| *way == Canonicalization::Relaxed;
    if cut.len() < message.len() && parsed.body_hashes.iter().any(|(way, ..)| is_relaxed(way)) {
        let right = AuthenticatedMessage::parse(cut)?.body_hashes;
        for (hash, right) in parsed.body_hashes.iter_mut().zip(right) {
            if is_relaxed(&right.0) {
                *hash = right;
            }
        }
    }
    Some(parsed)
}

/// Without what would take long to look at.
fn bounded(mut message: AuthenticatedMessage<'_>) -> AuthenticatedMessage<'_> {
    if message.headers.len() > MAX_FIELDS {
        message.dkim_headers.clear();
        message.ams_headers.clear();
        message.as_headers.clear();
        message.aar_headers.clear();
    }
    message.dkim_headers.retain(|signature| {
        let found = &signature.header;
        let identity = found.i.rsplit('@').next().unwrap_or_default();
        found.h.len() <= MAX_NAMED
            && found.i.len() <= MAX_ADDRESS
            && is_name(&format!("{}._domainkey.{}", found.s, found.d))
            && (identity.is_empty() || is_name(identity))
    });
    message.dkim_headers.truncate(MAX_SIGNATURES);
    message.errors.truncate(MAX_SIGNATURES);
    // A chain is whole or none.
    if message
        .ams_headers
        .iter()
        .any(|one| one.header.h.len() > MAX_NAMED)
    {
        message.ams_headers.clear();
    }
    message
}

/// Whether it is a name of the DNS: nothing else can have records, nor stand
/// unquoted in the results (RFC 8601 §2.2).
fn is_name(text: &str) -> bool {
    let name = to_a_label(text);
    name.is_ascii() && name.contains('.') && matches!(Domain::parse(&name), Ok(Domain::Name(_)))
}

fn wish(dmarc: &DmarcOutput) -> Wish {
    match (dmarc.result(), dmarc.policy()) {
        (DmarcResult::Fail(_), Policy::Reject) => Wish::Reject,
        (DmarcResult::Fail(_), Policy::Quarantine) => Wish::Quarantine,
        _ => Wish::None,
    }
}

/// That of the sender, or of the client when there is none: RFC 7208 §2.4.
fn sender_domain(origin: &Origin) -> String {
    let mailbox = origin.reverse_path.mailbox();
    let domain = mailbox.and_then(|mailbox| mailbox.domain.name());
    to_a_label(domain.unwrap_or(&origin.helo)).into_owned()
}

async fn in_time<T>(end: Instant, asked: impl Future<Output = T>, late: impl FnOnce() -> T) -> T {
    timeout_at(end, asked).await.unwrap_or_else(|_| late())
}

fn late() -> Error {
    Error::Dns(DnsError::Resolver("no answer in time".into()))
}

fn late_spf(domain: &str) -> SpfOutput {
    SpfOutput::new(domain.to_owned()).with_result(SpfResult::TempError)
}

/// As it goes over the wire, which is what was signed.
pub fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + message.len() / 32);
    for line in message.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                wire.extend_from_slice(line);
                wire.extend_from_slice(b"\r\n");
            }
            None => wire.extend_from_slice(line),
        }
    }
    wire
}

#[cfg(test)]
mod rfc7208;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::gate::testing::{Habit, TROUBLE, name_server};

    fn origin() -> Origin {
        Origin {
            address: "192.0.2.7".parse().unwrap(),
            helo: "mx.example.net".into(),
            reverse_path: ReversePath::parse(b"x@example.net").unwrap(),
        }
    }

    const SIGNED: &str = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.net; s=x; c=relaxed/relaxed;\r\n\
        \th=From; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\nFrom: x@example.net\r\n\r\n";

    #[tokio::test]
    async fn trouble_with_the_dns_is_temperror_in_time() {
        const PATIENCE: Duration = Duration::from_millis(900);
        for habit in TROUBLE {
            let (server, _) = name_server(habit).await;
            // A query may wait longer than all may.
            let dns = Dns::new(Some(&[server])).unwrap();
            let verifier = Verifier::new(&dns, "mail.example.org", PATIENCE);
            let begin = Instant::now();
            let found = verifier.check_apart(origin(), SIGNED.into()).await;
            assert!(begin.elapsed() < PATIENCE * 2, "{habit:?}");
            for method in ["iprev", "spf", "dkim", "dmarc"] {
                let mut of_method = found.results.iter().filter(|one| one.starts_with(method));
                assert!(
                    of_method.all(|one| one.starts_with(&format!("{method}=temperror"))),
                    "{habit:?}: {found:?}"
                );
            }
            assert_eq!(found.results.len(), 5, "{habit:?}: {found:?}");
            assert_eq!(found.wish, Wish::None);
            assert!(verifier.is_forbidden(&origin()).await.is_err());
        }
    }

    #[tokio::test]
    async fn questions_are_bounded_and_answers_kept() {
        let (server, asked) = name_server(Habit::Lists).await;
        let asked = || asked.load(Ordering::Relaxed);
        let dns = Dns::new(Some(&[server])).unwrap();
        let verifier = Verifier::new(&dns, "mail.example.org", Duration::from_secs(20));
        let signature = |n| SIGNED.replace("s=x;", &format!("s=x{n};"));
        let signatures: String = (0..50).map(signature).collect();
        let message = signatures.replace("From: x@example.net\r\n\r\n", "") + SIGNED;
        let found = verifier.check(&origin(), message.as_bytes()).await;
        let n_signatures = |results: &[String]| {
            let dkim = results.iter().filter(|one| one.starts_with("dkim="));
            dkim.count()
        };
        assert_eq!(n_signatures(&found.results), MAX_SIGNATURES);
        let first = asked();
        // A key for each signature, and of both SPFs, DMARC and the name some.
        assert!(
            (MAX_SIGNATURES..MAX_SIGNATURES + 15).contains(&first),
            "{first}"
        );
        let again = verifier.check(&origin(), message.as_bytes()).await;
        assert_eq!(again, found);
        // What this server says of names lacks how long there are none.
        assert!(asked() - first < 5, "{first}, then {}", asked() - first);
    }

    #[tokio::test]
    async fn any_message_is_looked_at_and_soon() {
        let dns = Dns::new(Some(&["127.0.0.1:9".parse().unwrap()])).unwrap();
        let verifier = Verifier::new(&dns, "mail.example.org", Duration::from_millis(50));
        let field = "DKIM-Signature: v=1; a=rsa-sha256; d=x.org; s=x; h=a; bh=AAAA; b=AAAA\r\n";
        let names = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; d=x.org; s=x; h={}; bh=AA==; b=AA==\r\n",
            "a:".repeat(100_000)
        );
        let fields = "a: b\r\n".repeat(100_000);
        for message in [
            String::new(),
            "\r\n".into(),
            "From".into(),
            "From: \r\n\r\n".into(),
            "From: x@a.org, y@b.org\r\n\r\n".into(),
            format!("{}From: x@example.net\r\n\r\n \r\n", field.repeat(5_000)),
            names.repeat(20) + &fields + "From: x@example.net\r\n\r\n",
            "ARC-Seal: i=1\r\nARC-Message-Signature: i=99; h=a\r\nFrom: x@\u{1}\r\n\r\n".into(),
        ] {
            let begin = Instant::now();
            let found = verifier.check_apart(origin(), message.into_bytes()).await;
            assert!(begin.elapsed() < Duration::from_secs(5));
            assert!(
                found.results.len() <= MAX_SIGNATURES * 2 + 5,
                "{}",
                found.results.len()
            );
            let field = found.field("mail.example.org");
            assert!(field.is_ascii() && field.lines().skip(1).all(|line| line.starts_with('\t')));
        }
    }
}
