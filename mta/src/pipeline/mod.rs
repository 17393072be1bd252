//! The host behind the server: it says whether a recipient is known, takes
//! messages over, and works through the queue.
//!
//! | module | answers |
//! | --- | --- |
//! | `recipients` | who may be written to, and where that leads |
//! | `accept` | what is done with a message before it is answered |
//! | `incoming` | where it goes |
//! | `judging` | what the filter says of it |
//! | `placing` | into which mailboxes or the queue it is put |
//! | `attempt` | what is done with a queued one |
//! | `runner` | when it is done |
//! | `forwarding` | what goes on to others, and in whose name |
//! | `reporting` | what senders are told |
//! | `login` | who may be taken for an account |
//! | `sender` | as whom an account may send |
//! | `signing` | what is signed |
//! | `memory` | how many messages are in memory at once |
//! | `rotation` | what goes when a folder is full |
//! | [`checkpassword`] | whether a program knows a password |
//! | [`clamd`] | whether it is harmful |
//! | [`verdict`] | whether a user's model calls it spam |
//!
//! A message is parsed, scanned and turned into features once, and judged for
//! each user. Mail for a few users whose instructions name mailboxes only goes
//! straight to the Maildirs before the reply, two syncs each, and never sees
//! the queue; everything else is queued first.

mod accept;
mod attempt;
pub mod checkpassword;
pub mod clamd;
mod forwarding;
mod incoming;
mod judging;
mod login;
mod memory;
mod placing;
mod recipients;
mod reporting;
mod rotation;
mod runner;
mod sender;
mod signing;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use self::checkpassword::Checkpassword;
use self::clamd::Clamd;
use self::login::Logins;
use self::memory::Memory;
pub use self::recipients::{plan, relaying_denied};
use self::runner::Agenda;
use self::verdict::Models;
use crate::accounts::Accounts;
use crate::authentication::incoming::{Checked, Origin, Verifier, with_crlf};
use crate::authentication::signing::Signers;
use crate::authentication::{self, srs::Srs};
use crate::delivery::local::Deliverer;
use crate::delivery::program::Limits;
use crate::gate::rates::Rates;
use crate::handover::{Answer, Decision, Host, Login, Refusal, Salt, TurnedAway, Wishes};
use crate::journal::{Came, Event, Journal, Line};
use crate::message::Message;
use crate::queue::disk::Folder;
use crate::queue::schedule::Schedule;
use crate::queue::{Ids, Queue};
use crate::remote::WayOut;
use crate::smtp::trace::seconds;
use crate::smtp::{Attempt, Client, Envelope, ForwardPath, Mechanism, Reply, ReversePath};

const HOUR: Duration = Duration::from_secs(3600);

/// What can be said of the host's dealings with mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What it calls itself: `mx.example.org`.
    pub host: String,
    /// Whose virus scanner is asked; without, none.
    pub clamd: Option<Clamd>,
    /// Who checks passwords in place of the accounts.
    pub checkpassword: Option<Checkpassword>,
    /// Whether hashes of other hosts stay as they are, since other programs
    /// check them too.
    pub keep_hashes: bool,
    /// How many messages an account may send within an hour. Default: 500.
    pub messages_per_hour: u32,
    /// And to how many recipients. Default: 2,000.
    pub recipients_per_hour: u32,
    /// What becomes of what it finds.
    pub virus: VirusPolicy,
    /// What happens while it does not answer.
    pub scanner_down: ScannerDown,
    /// When deliveries are tried again.
    pub schedule: Schedule,
    /// What programs of users may take.
    pub programs: Limits,
    /// How large the journal may grow. Default: 64 MiB.
    pub journal_bytes: u64,
    /// How mail from outside is looked at. Default: it is not.
    pub authentication: Option<authentication::Settings>,
    /// What bmfd is told: its quotas hold at each delivery. Default: nothing
    /// is rotated here.
    pub learning: Option<Arc<trainer::config::Config>>,
}

/// What becomes of harmful mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VirusPolicy {
    /// It is refused while the client waits. The default: senders learn of
    /// it, and nobody else.
    #[default]
    Refuse,
    /// It is accepted and forgotten.
    Discard,
    /// It is accepted and kept where only the admin sees it.
    Quarantine,
}

/// What happens while the scanner does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScannerDown {
    /// Clients are asked to come again: 451. The default.
    #[default]
    Defer,
    /// Mail passes unscanned.
    Pass,
}

impl Settings {
    /// The defaults, for a host of that name.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            clamd: None,
            checkpassword: None,
            keep_hashes: false,
            messages_per_hour: 500,
            recipients_per_hour: 2_000,
            virus: VirusPolicy::default(),
            scanner_down: ScannerDown::default(),
            schedule: Schedule::default(),
            programs: Limits::default(),
            journal_bytes: 64 << 20,
            authentication: None,
            learning: None,
        }
    }
}

/// A host: accounts, queue, filter and delivery together. Clones are the same
/// host.
#[derive(Clone)]
pub struct Postern {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    deliverer: Deliverer,
    queue: Queue,
    quarantine: Queue,
    ids: Ids,
    models: Box<dyn Models>,
    /// `None`: mail for others is refused.
    way_out: Option<Box<dyn WayOut>>,
    journal: Journal,
    agenda: Agenda,
    memory: Memory,
    logins: Logins,
    signers: Signers,
    verifier: Option<Verifier>,
    srs: Srs,
    /// What each account has sent.
    messages: Rates<String>,
    recipients: Rates<String>,
}

impl Postern {
    /// Opens the host whose folder is `data`: `queue`, `quarantine`, `spool`
    /// and `journal` are made there. Without a way out it only receives;
    /// without a verifier nobody looks at mail from outside.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(
        data: &Path,
        accounts: Arc<Accounts>,
        models: Box<dyn Models>,
        way_out: Option<Box<dyn WayOut>>,
        verifier: Option<Verifier>,
        settings: Settings,
    ) -> io::Result<Self> {
        let folder = |name| Folder::open(&data.join(name));
        let (queue, quarantine) = (folder("queue")?, folder("quarantine")?);
        folder("spool")?;
        // What lies in them is no safer than their names.
        File::open(data)?.sync_all()?;
        let limits = settings.programs.clone();
        let journal = Journal::new(data.join("journal"), settings.journal_bytes);
        let inner = Inner {
            srs: Srs::new(accounts.secret()),
            deliverer: Deliverer::new(accounts, &settings.host, limits, data.to_owned()),
            queue: Queue::new(queue),
            quarantine: Queue::new(quarantine),
            ids: Ids::default(),
            models,
            way_out,
            journal,
            agenda: Agenda::default(),
            memory: Memory::new(),
            logins: Logins::default(),
            signers: Signers::new(data),
            verifier,
            messages: Rates::new(settings.messages_per_hour, HOUR),
            recipients: Rates::new(settings.recipients_per_hour, HOUR),
            settings,
        };
        inner.reload()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// How users may log in, the best first. CRAM-MD5 only where somebody keeps
    /// the password that it needs: some clients try it before all others.
    ///
    /// # Errors
    /// When the accounts cannot be read.
    pub fn mechanisms(&self) -> Result<Vec<Mechanism>, crate::Error> {
        let told = [Mechanism::Plain, Mechanism::Login];
        let (mut mechanisms, cram_md5) = match &self.inner.settings.checkpassword {
            Some(program) => (told.to_vec(), program.cram_md5),
            None => {
                let scram = [Mechanism::ScramSha256Plus, Mechanism::ScramSha256];
                let users = self.inner.accounts().users(None)?;
                let mut passwords = users
                    .iter()
                    .filter_map(|user| user.settings.password.as_ref());
                let has_clear = passwords.any(|password| password.clear.is_some());
                ([scram, told].concat(), has_clear)
            }
        };
        mechanisms.extend(cram_md5.then_some(Mechanism::CramMd5));
        Ok(mechanisms)
    }

    /// The message, and what is found of it when it comes from outside.
    async fn look_at(
        &self,
        envelope: &Envelope,
        message: Message,
    ) -> io::Result<(Message, Option<Checked>)> {
        let (Some(verifier), Some(origin)) = (&self.inner.verifier, Origin::of(envelope)) else {
            return Ok((message, None));
        };
        let read = tokio::task::spawn_blocking(move || {
            let wire = with_crlf(&message.bytes()?);
            Ok::<_, io::Error>((message, wire))
        });
        let (message, wire) = read.await.map_err(io::Error::other)??;
        let checked = verifier.check_apart(origin, wire).await;
        Ok((message, Some(checked)))
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }
}

impl Host for Postern {
    async fn log_in(&self, client: &Client, attempt: Attempt) -> Login {
        let address = client.peer.map(|peer| peer.ip());
        login::log_in(&self.inner, address, attempt).await
    }

    async fn salt(&self, name: String) -> Result<Salt, Refusal> {
        login::salt(&self.inner, name).await
    }

    async fn check_sender(&self, client: &Client, reverse_path: &ReversePath) -> Decision {
        let inner = Arc::clone(&self.inner);
        let (account, reverse_path) = (client.account.clone(), reverse_path.clone());
        let account = account.unwrap_or_default();
        asked(move || {
            inner.check_reverse_path(&account, &reverse_path)?;
            let most = inner.settings.messages_per_hour;
            within(&inner.messages, account, &format!("send {most} messages"))
        })
        .await
    }

    async fn check_recipient(
        &self,
        client: &Client,
        reverse_path: &ReversePath,
        forward_path: &ForwardPath,
        size: u64,
    ) -> Decision {
        let inner = Arc::clone(&self.inner);
        let (client, forward_path) = (client.clone(), forward_path.clone());
        let from = reverse_path.to_string();
        asked(move || {
            inner.check(&client, &from, &forward_path, size)?;
            let Some(account) = client.account else {
                return Ok(());
            };
            let most = inner.settings.recipients_per_hour;
            let what = format!("write to {most} recipients");
            within(&inner.recipients, account, &what)
        })
        .await
    }

    async fn wishes(&self, forward_path: &ForwardPath) -> Wishes {
        let inner = Arc::clone(&self.inner);
        let forward_path = forward_path.clone();
        let asked = tokio::task::spawn_blocking(move || inner.wishes(&forward_path));
        asked.await.unwrap_or_default()
    }

    async fn turned_away(&self, whom: TurnedAway) {
        let inner = Arc::clone(&self.inner);
        let noted = tokio::task::spawn_blocking(move || {
            let now = SystemTime::now();
            let came = Came {
                from: whom.from,
                client: accept::client(&whom.client),
            };
            let event = Event::Refused {
                to: whom.to,
                came: Some(came),
                reply: whom.refusal.reply.to_string(),
                reason: whom.refusal.reason,
                seen: whom.seen,
            };
            // There may never be a message, so it has an ID of its own.
            inner.note(&inner.ids.next(now), now, event);
        });
        if let Err(error) = noted.await {
            warn!(%error, "a refusal is not noted");
        }
    }

    /// Puts the trace field on top: it names the message as the journal and
    /// the queue do.
    async fn commit(&self, envelope: Envelope, message: Message) -> Answer {
        let inner = Arc::clone(&self.inner);
        let _memory = self.inner.memory.for_message(message.len()).await;
        let (message, checked) = match self.look_at(&envelope, message).await {
            Ok(checked) => checked,
            Err(error) => {
                warn!(%error, "a message could not be read");
                return Answer::All(trouble());
            }
        };
        let taken =
            tokio::task::spawn_blocking(move || inner.take_over(&envelope, &message, checked));
        taken.await.unwrap_or_else(|error| {
            warn!(%error, "a message could not be taken over");
            Answer::All(trouble())
        })
    }
}

/// Counts something that an account does. Whoever has stolen its password
/// gets no further.
fn within(rates: &Rates<String>, account: String, what: &str) -> Result<(), Refusal> {
    let text = format!("{account} may {what} an hour, try again later");
    match rates.admit(account, Instant::now()) {
        true => Ok(()),
        false => Err(refusal(Reply::new(450, (4, 7, 1), text.clone()), text)),
    }
}

/// The answer of what blocks.
async fn asked(question: impl FnOnce() -> Result<(), Refusal> + Send + 'static) -> Decision {
    let asked = tokio::task::spawn_blocking(question).await;
    match asked.unwrap_or_else(|error| Err(refusal(trouble(), error.to_string()))) {
        Ok(()) => Decision::Accept,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

impl Inner {
    fn accounts(&self) -> &Accounts {
        self.deliverer.accounts()
    }

    /// Notes an event; that it could not be noted is only logged.
    fn note(&self, id: &str, now: SystemTime, event: Event) {
        let line = Line {
            at: seconds(now),
            id: id.to_owned(),
            event,
        };
        if let Err(error) = self.journal.note(&line) {
            warn!(%error, "the journal cannot be written");
        }
    }
}

fn refusal(reply: Reply, reason: String) -> Refusal {
    Refusal { reply, reason }
}

fn no_way_out() -> Reply {
    Reply::new(550, (5, 4, 4), "this host delivers to its own users only")
}

fn trouble() -> Reply {
    Reply::new(451, (4, 3, 0), "trouble here, try again later")
}
