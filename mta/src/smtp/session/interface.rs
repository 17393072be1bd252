//! What a driver tells a session, and what a session tells its driver.

use std::sync::Arc;

use super::super::address::ReversePath;
use super::super::auth::{Attempt, Mechanism};
use super::super::envelope::{Envelope, Protocol, Recipient, Tls};
use super::super::limits::Limits;
use crate::handover::{Answer, Decision, Login, Refusal, Salt};

/// What is the same for all sessions of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What we call ourselves.
    pub host: Arc<str>,
    /// LMTP in place of SMTP.
    pub lmtp: bool,
    /// Clients are programs of this machine; the trace field says so.
    pub local: bool,
    /// Whether the driver can start TLS.
    pub starttls: bool,
    /// How users of ours log in who send their mail here: within TLS, and
    /// nothing goes without (RFC 6409 §4.3). Empty where nobody logs in.
    pub mechanisms: Vec<Mechanism>,
    /// What a client may ask for.
    pub limits: Limits,
}

impl Settings {
    /// SMTP without TLS, with the default limits.
    pub fn new(host: &str) -> Arc<Self> {
        Arc::new(Self {
            host: host.into(),
            lmtp: false,
            local: false,
            starttls: false,
            mechanisms: Vec::new(),
            limits: Limits::default(),
        })
    }

    /// Whether this is for users of ours, and nobody else.
    pub fn is_submission(&self) -> bool {
        !self.mechanisms.is_empty()
    }

    /// What a client speaks before it has said more.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self { lmtp: true, .. } => Protocol::Lmtp,
            Self { local: true, .. } => Protocol::Local,
            _ => Protocol::Smtp,
        }
    }
}

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Write this to the client.
    Send(Vec<u8>),
    /// Ask what a proof by SCRAM of this name begins with; answer with
    /// [`Outcome::Salted`].
    FindSalt(String),
    /// Ask whether somebody may be taken for an account; answer with
    /// [`Outcome::LoggedIn`].
    LogIn(Attempt),
    /// Ask whether who has logged in may send as this; answer with
    /// [`Outcome::Sender`].
    CheckSender(ReversePath),
    /// Ask whether this recipient is accepted; answer with
    /// [`Outcome::Recipient`].
    CheckRecipient(Recipient),
    /// Append this to the message. [`not_stored`](super::Session::not_stored) if that fails.
    Store(&'a [u8]),
    /// Forget what was stored: the message does not come.
    Discard,
    /// Hand over what was stored; answer with [`Outcome::Committed`].
    Commit(Box<Envelope>),
    /// Begin the TLS handshake; answer with [`Outcome::TlsStarted`].
    StartTls,
    /// Close the connection; nothing comes after it.
    Close,
}

/// The answer to an action that is a question.
#[derive(Debug)]
pub enum Outcome {
    /// To [`Action::FindSalt`].
    Salted(Result<Salt, Refusal>),
    /// To [`Action::LogIn`].
    LoggedIn(Login),
    /// To [`Action::CheckSender`].
    Sender(Decision),
    /// To [`Action::CheckRecipient`].
    Recipient(Decision),
    /// To [`Action::Commit`].
    Committed(Answer),
    /// To [`Action::StartTls`]. After a failed handshake the connection is
    /// closed instead.
    TlsStarted(Tls),
}
