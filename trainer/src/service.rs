//! What whoever asks may do with which model, and doing it.
//!
//! No sockets here: [`crate::socket`] and [`crate::spamd`] carry requests and
//! answers. A call may wait for a disk, so that it belongs on a thread for
//! such work.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use classifier::classic::{Params, Scorer};
use classifier::cli::wire::{Ask, Refusal, Reply, Request, Verdict};
use classifier::cli::{Engine, Mode, Output, answer};
use classifier::import::Lists;
use classifier::mark::MarkKey;
use classifier::modern::{Act, Canonical, Exported, Keep};
use classifier::store::{Durability, ModelStore, TokenLookup, TokenStore};
use classifier::{Error, Label, TrainedMessages};
use classifier_rocksdb::HostStore;
use tokio::sync::watch;

use crate::admin;
use crate::config::Config;
use crate::journal::{Event, Journal, What};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::taught::{self, Entry, Taught};
use crate::users::{self, Peer};

/// The models of all users, as those may use them who ask over a socket.
pub struct Service {
    /// The configuration, and each new one.
    config: watch::Receiver<Arc<Config>>,
    host: HostStore,
    live: Arc<Live>,
    /// Counts what was done.
    pub metrics: Metrics,
    /// One database at a time is taken over: it is in memory meanwhile.
    taking_over: Mutex<()>,
    /// Those who are noted to ask for themselves.
    own: Mutex<HashSet<String>>,
}

impl Service {
    /// With the database that the configuration names, and what is seen of
    /// mailboxes.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        live: Arc<Live>,
    ) -> Result<Self, crate::Error> {
        let host = config.borrow().databases.host()?;
        Ok(Self {
            config,
            host,
            live,
            metrics: Metrics::default(),
            taking_over: Mutex::new(()),
            own: Mutex::default(),
        })
    }

    /// The database.
    pub fn host(&self) -> &HostStore {
        &self.host
    }

    /// What is seen of mailboxes.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Does what `peer` wants. `now` is in seconds since 1970.
    pub fn answer(&self, peer: Peer, request: &Request<'_>, now: u64) -> Reply {
        let outcome = match request {
            Request::Message { ask, user, message } => {
                self.metrics.messages.add();
                self.whose(peer, user).and_then(|whose| {
                    if user.is_empty() && ask.mode.act().is_some() {
                        self.note_own(&whose)?;
                    }
                    Ok(self.message(&whose, ask, message, now)?)
                })
            }
            Request::TakeOver { engine, text } => self
                .whose(peer, "")
                .and_then(|user| Ok(self.take_over(&user, *engine, text, now)?)),
            Request::Command { args, input } => {
                let me = rustix::process::geteuid().as_raw();
                match peer {
                    Peer::Uid(uid) if uid == 0 || uid == me => {
                        // It may take a while, in which a new one comes.
                        let config = Arc::clone(&self.config.borrow());
                        Ok(admin::answer(&config, &self.live, args, input, now))
                    }
                    _ => Err(Refused::not_yours(
                        "only root and bmfd's own user may".into(),
                    )),
                }
            }
        };
        outcome.unwrap_or_else(|refused| {
            self.metrics.refused.add();
            Reply::Refused(refused.refusal, refused.reason)
        })
    }

    /// Lessons of `user` may wait in his home folder from now on, should the
    /// daemon not answer.
    fn note_own(&self, user: &str) -> Result<(), Error> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.contains(user) {
            return Ok(());
        }
        let store = self.host.user(user);
        if store.note(OWN)?.is_none() {
            store.put_note(OWN, b"", Durability::Relaxed)?;
        }
        own.insert(user.to_owned());
        Ok(())
    }

    /// All who have ever taught something for themselves over the socket.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn own_users(&self) -> Result<Vec<String>, Error> {
        let mut users = self.host.users()?;
        let mut failed = None;
        users.retain(|user| match self.host.user(user).note(OWN) {
            Ok(note) => note.is_some(),
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        failed.map_or(Ok(users), Err)
    }

    /// Whose model `peer` means by `wanted`, if it may use that one; empty:
    /// its own.
    ///
    /// # Errors
    /// When it may not, or nobody knows who it is.
    pub fn whose(&self, peer: Peer, wanted: &str) -> Result<String, Refused> {
        let (own, may_name_others) = match peer {
            Peer::Anybody => (None, true),
            Peer::Uid(uid) => {
                let own = users::name(uid).map_err(|error| Refused {
                    refusal: Refusal::TryAgain,
                    reason: format!("cannot look up uid {uid}: {error}"),
                })?;
                let config = self.config.borrow();
                let is_mail_user = own.is_some() && own == config.listening.mail_user;
                let is_bmfd = uid == rustix::process::geteuid().as_raw();
                (own, uid == 0 || is_bmfd || is_mail_user)
            }
        };
        match own {
            Some(own) if wanted.is_empty() || wanted == own => Ok(own),
            _ if wanted.is_empty() => Err(nameless(peer)),
            _ if !users::is_name(wanted) => Err(Refused::not_yours(format!(
                "{wanted:?} cannot be the name of a user"
            ))),
            _ if may_name_others => Ok(wanted.into()),
            Some(own) => Err(Refused::not_yours(format!(
                "{own} may not use the model of {wanted}"
            ))),
            None => Err(nameless(peer)),
        }
    }

    /// Judges or learns a message, as `bmf` would.
    ///
    /// # Errors
    /// When the database fails, or the model is of another engine.
    pub fn message(&self, user: &str, ask: &Ask, message: &[u8], now: u64) -> Result<Reply, Error> {
        let engine = taught::engine(&self.host, user)?;
        if let (Some(wanted), Some(found)) = (ask.engine, engine)
            && wanted != found
        {
            return Err(Error::OtherEngine {
                path: format!("the model of {user}").into(),
                found: found.name().into(),
                wanted: wanted.name().into(),
            });
        }
        if !answer::is_message(message) {
            return Ok(Reply::NoWord);
        }
        let engine = match (engine, ask.engine) {
            (Some(engine), _) => engine,
            (None, Some(Engine::Classic)) if ask.mode != Mode::Test => {
                taught::make_classic(&self.host, user)?;
                Engine::Classic
            }
            (None, wanted) => wanted.unwrap_or(Engine::Modern),
        };
        let mut reply = match engine {
            Engine::Classic => self.classic(user, ask, message, now)?,
            Engine::Modern => answer::modern(ask, message, &mut self.host.model(user), now)?,
        };
        if let Reply::Verdict(verdict) = &mut reply {
            self.metrics.verdict(ask.mode, verdict.is_spam);
            if verdict.is_spam && ask.mode.label().is_none() {
                self.mark(user, message, verdict)?;
            }
        }
        if let Some(label) = ask.mode.label() {
            self.note(user, What::Learned(label), "bmf", now);
        }
        Ok(reply)
    }

    /// What is delivered with this verdict was filed by the filter.
    fn mark(&self, user: &str, message: &[u8], verdict: &mut Verdict) -> Result<(), Error> {
        let field = self.mark_key(user)?.field_of(message);
        verdict.header_fields.extend_from_slice(field.as_bytes());
        Ok(())
    }

    fn mark_key(&self, user: &str) -> Result<MarkKey, Error> {
        Ok(MarkKey::of_user(&self.host.secret()?, user))
    }

    /// Learns or forgets what `act` says; whether that changed anything.
    ///
    /// # Errors
    /// When the database fails; then nothing was learned.
    pub fn teach(&self, user: &str, act: Act, message: &[u8], now: u64) -> Result<bool, Error> {
        let digest = Canonical::new(message).digest();
        let mut taught = Taught::of(&self.host, user)?;
        let learned = |taught: &Taught| -> Result<Option<Label>, Error> {
            Ok(match taught.entries(&[digest])?.first() {
                Some(Some(Entry::Learned(learned))) => Some(learned.label),
                _ => None,
            })
        };
        let before = learned(&taught)?;
        taught.learn(&[(message.into(), act)], now)?;
        let after = learned(&taught)?;
        let is_changed = before != after;
        if is_changed {
            let what = after.map_or(What::Forgotten, What::Learned);
            self.note(user, what, "spamd", now);
            self.metrics.learned.add();
        }
        Ok(is_changed)
    }

    fn classic(&self, user: &str, ask: &Ask, message: &[u8], now: u64) -> Result<Reply, Error> {
        let mut store = self.host.user(user);
        // Asked before what it says is learned, with the constants of who asks.
        let reply = answer::classic(ask, || {
            Scorer::default().score(message, &store, &ask.params())
        })?;
        if let Some(act) = ask.mode.act() {
            let keep = Keep::default();
            store.learn(&[(message, act)], now, &keep, ask.durability())?;
        }
        Ok(reply)
    }

    /// Makes the database that a user had for himself, if any, his model here,
    /// once. A model that is here already, from what he taught by moving mail,
    /// keeps what it has learned.
    fn take_over(&self, user: &str, engine: Engine, text: &[u8], now: u64) -> Result<Reply, Error> {
        let _alone = self
            .taking_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let source = Path::new("the database that was handed over");
        let taken_over = Reply::TakenOver(self.mark_key(user)?);
        if text.is_empty() {
            self.note_own(user)?;
            return Ok(taken_over);
        }
        match engine {
            Engine::Modern => {
                let exported = Exported::read(&mut &*text, source)?;
                let mut store = self.host.model(user);
                // What is known by its digest is not added again, so that a
                // second time changes nothing.
                store.change(Durability::Synced, &mut |view| exported.merging(view))?;
            }
            Engine::Classic => {
                let lists = Lists::from_text(text, source)?;
                if let Some(refused) = self.take_over_counts(user, &lists, text)? {
                    return Ok(refused);
                }
            }
        }
        self.note_own(user)?;
        self.note(user, What::TakenOver, engine.name(), now);
        self.metrics.taken_over.add();
        Ok(taken_over)
    }

    /// Counts have no ledger of what was learned before: the digest of the
    /// whole, noted before and after, tells a repetition from another one.
    fn take_over_counts(
        &self,
        user: &str,
        lists: &Lists,
        text: &[u8],
    ) -> Result<Option<Reply>, Error> {
        let mut store = self.host.user(user);
        let digest = Canonical::new(text).digest();
        let trained = store.lookup(&[], &mut Vec::new())?;
        let is_known = store.note(TAKING_OVER)?.as_deref() == Some(&digest);
        if trained != TrainedMessages::default() {
            let reason = format!("{user} has a model here already; `bmfd user remove` makes room");
            return Ok((!is_known).then_some(Reply::Refused(Refusal::Failed, reason)));
        }
        // The counts are replaced wholly, and take the notes of before with
        // them; so the engine is noted after them.
        store.replace(lists.trained(), &mut lists.entries())?;
        store.put_note(TAKING_OVER, &digest, Durability::Synced)?;
        taught::make_classic(&self.host, user)?;
        Ok(None)
    }

    /// What is not noted is missing in the status only.
    fn note(&self, user: &str, what: What, from: &str, now: u64) {
        let event = Event {
            time: now,
            what,
            from: from.into(),
        };
        if let Err(error) = Journal::of(&self.host, user).add(&[event]) {
            tracing::warn!(user, %error, "journal not written");
        }
    }
}

/// Noted of who asks for himself.
const OWN: &str = "own";
const TAKING_OVER: &str = "taken-over";

/// How a message is asked about by who has no options to give.
pub fn plain(mode: Mode, output: Output) -> Ask {
    Ask {
        mode,
        output,
        engine: None,
        syncs: true,
        n_extrema: Params::bmf().n_extrema as u32,
    }
}

/// Why something was not done.
#[derive(Debug)]
pub struct Refused {
    /// Of which kind.
    pub refusal: Refusal,
    /// For people.
    pub reason: String,
}

impl Refused {
    fn not_yours(reason: String) -> Self {
        Self {
            refusal: Refusal::NotYours,
            reason,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            refusal: match error.is_transient() {
                true => Refusal::TryAgain,
                false => Refusal::Failed,
            },
            reason: error.to_string(),
        }
    }
}
fn nameless(peer: Peer) -> Refused {
    Refused::not_yours(match peer {
        Peer::Uid(uid) => format!("uid {uid} has no name in the user database; name a user"),
        Peer::Anybody => "nobody knows who is asking; name a user".into(),
    })
}
