//! How the server asks the rest of the host, and how it hands mail over.
//!
//! The server knows protocols and sockets; accounts, queue and delivery stand
//! behind the trait [`Host`] and know neither.

use std::future::Future;

use crate::message::Message;
use crate::smtp::{Attempt, Client, Envelope, ForwardPath, Reply, ReversePath};

/// Accounts, queue and delivery, as the server sees them.
///
/// The futures may be dropped when the client has gone: dropping those that
/// only ask must leave nothing behind. That of [`Host::commit`]
/// is always awaited to its end, also during a shutdown.
pub trait Host: Send + Sync + 'static {
    /// AUTH by SCRAM asks what a proof begins with; that nobody has the name
    /// must not show. CRAM-MD5 asks for nobody's, and uses the nonce only.
    fn salt(&self, name: String) -> impl Future<Output = Result<Salt, Refusal>> + Send;

    /// AUTH asks whether somebody may be taken for an account. The answer may
    /// come late, so that guessing takes long.
    fn log_in(&self, client: &Client, attempt: Attempt) -> impl Future<Output = Login> + Send;

    /// MAIL asks whether `client.account` may send as `reverse_path`.
    fn check_sender(
        &self,
        client: &Client,
        reverse_path: &ReversePath,
    ) -> impl Future<Output = Decision> + Send;

    /// RCPT asks whether mail of `client` from `reverse_path` may go to
    /// `forward_path`, and has room there; `size` is that of the envelope.
    /// Without knowledge (a database that does not answer) the refusal is
    /// transient. `client.may_relay` says whether other people's domains are
    /// allowed.
    fn check_recipient(
        &self,
        client: &Client,
        reverse_path: &ReversePath,
        forward_path: &ForwardPath,
        size: u64,
    ) -> impl Future<Output = Decision> + Send;

    /// What the gate should know of a recipient.
    fn wishes(&self, forward_path: &ForwardPath) -> impl Future<Output = Wishes> + Send {
        let _ = forward_path;
        std::future::ready(Wishes::default())
    }

    /// Notes who was refused before there was a message.
    fn turned_away(&self, whom: TurnedAway) -> impl Future<Output = ()> + Send {
        drop(whom);
        std::future::ready(())
    }

    /// Takes a message over. A positive reply is the promise that it is on
    /// disk, data and name, and will reach its recipients or come back; when
    /// anything else is answered nothing of it may be left.
    fn commit(&self, envelope: Envelope, message: Message) -> impl Future<Output = Answer> + Send;
}

/// What a proof by SCRAM begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salt {
    /// Printable, and never the same.
    pub nonce: String,
    /// Of the account.
    pub salt: Vec<u8>,
    /// How often its password is hashed.
    pub iterations: u32,
}

/// Whether somebody has proved who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// 235.
    As {
        /// The account's name.
        account: String,
        /// By SCRAM: that we know the account too.
        signature: Option<[u8; 32]>,
    },
    /// 535, or 454 when it cannot be known now.
    Refused(Refusal),
}

/// Whether a sender or a recipient is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 250.
    Accept,
    /// What the client is told, and why.
    Refuse(Refusal),
}

/// A refusal as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is told: transient (4yz) or permanent (5yz).
    pub reply: Reply,
    /// What the log and `postern why` say; not for the client.
    pub reason: String,
}

/// How the gate is kept for a recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GateLevel {
    /// As for the host.
    #[default]
    On,
    /// Nobody is told to come again.
    NoGreylist,
    /// Only the administrator's rules count.
    Off,
}

/// What the gate should know of a recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Whether it is one of ours.
    pub is_local: bool,
    /// How the gate is kept.
    pub gate: GateLevel,
}

/// Recipients who get nothing from a client, for their story.
#[derive(Clone, Debug)]
pub struct TurnedAway {
    /// Who came.
    pub client: Client,
    /// With mail from whom.
    pub from: String,
    /// For whom.
    pub to: Vec<String>,
    /// What it was told, and why.
    pub refusal: Refusal,
    /// What the gate found.
    pub seen: Vec<String>,
}

/// What is answered to the end of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The same for all recipients.
    All(Reply),
    /// One reply for each recipient of the envelope, in its order: for LMTP
    /// (RFC 2033 §4.2). SMTP has but one reply; unless all are positive or all
    /// negative, a transient one is given there, so that nothing is lost.
    Each(Vec<Reply>),
}
