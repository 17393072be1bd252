//! The server's side of SMTP and LMTP: bytes and time come in, actions come
//! out (RFC 5321, and LMTP as RFC 2033 changes it).
//!
//! There is no socket and no clock here. Whoever drives a [`Session`] gives it
//! what the client sends, in pieces of any size, and does what [`Session::poll`]
//! says until it says nothing. Some actions are questions, and the session
//! reads no further before [`Session::resume`] has answered them.
//!
//! Deliberately absent: who may send what to whom, and which password is right
//! (both are answers to questions).
//!
//! ```
//! use std::time::Instant;
//! use mta::smtp::session::{Action, Session, Settings};
//!
//! let now = Instant::now();
//! let mut session = Session::new(Settings::new("mx.example.org"), None, false, now);
//! assert_eq!(session.poll(), Some(Action::Send(b"220 mx.example.org ESMTP\r\n".to_vec())));
//! session.receive(now, b"QUIT\r\n");
//! assert_eq!(session.poll(), Some(Action::Send(b"221 2.0.0 bye\r\n".to_vec())));
//! assert_eq!(session.poll(), Some(Action::Close));
//! ```

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use memchr::memchr;

use super::auth::Exchange;
use super::content::{Content, Defect};
use super::envelope::{Client, Envelope, Protocol, Recipient, Tls};
use super::limits::{MAX_AUTH_LINE, MAX_COMMAND_LINE};
use super::reply::Reply;
use crate::handover::Decision;

mod commands;
mod interface;
mod login;
mod message;
#[cfg(test)]
mod tests;

pub use interface::{Action, Outcome, Settings};

/// One connection of a client.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    client: Client,
    state: State,
    /// What the client has sent and we have not read; at most a command line
    /// between polls.
    input: Vec<u8>,
    /// Inside a command line that is too long.
    in_long_line: bool,
    /// Replies that have not been sent.
    output: Vec<u8>,
    /// What was last decoded of the message.
    decoded: Vec<u8>,
    /// The driver holds something that will not be committed.
    discard: bool,
    /// Refused commands, and commands that bring nothing, since the last
    /// message.
    errors: u32,
    idle_commands: u32,
    failed_logins: u32,
    now: Instant,
    /// When the client last said something whole: a command, or octets of a
    /// message.
    heard: Instant,
    /// When the client came.
    began: Instant,
    /// When the message that is being read began.
    message_began: Option<Instant>,
    /// STARTTLS was answered, and the driver does not know yet.
    start_tls: bool,
    shutting_down: bool,
}

/// What may come next. Each variant holds what is valid in it.
#[derive(Debug)]
enum State {
    /// No EHLO, HELO or LHLO yet.
    Fresh,
    /// Between mail transactions.
    Ready,
    /// AUTH waits for the client's next line.
    Authenticating(Exchange),
    /// AUTH waits for a salt.
    Salting(Exchange),
    /// The client has said all for AUTH, which waits for its decision.
    LoggingIn(Exchange),
    /// MAIL waits for its decision.
    CheckingSender(Box<Envelope>),
    /// After MAIL.
    Transaction(Box<Envelope>),
    /// RCPT waits for its decision.
    Checking(Box<Envelope>, Recipient),
    /// Between DATA and the end of data.
    Data(Box<Envelope>, Content),
    /// Within the octets of a BDAT command.
    Chunk(Chunk, u64),
    /// Between BDAT commands.
    BetweenChunks(Box<Envelope>, Content),
    /// The end of data waits for its answer, for so many recipients. The
    /// envelope is there until the question was asked.
    Committing(Option<Box<Envelope>>, usize),
    /// STARTTLS was answered 220.
    StartingTls,
    /// The last reply is on its way.
    Closing,
    Closed,
}

/// The octets of one BDAT command: RFC 3030 §2.
#[derive(Debug)]
enum Chunk {
    Wanted {
        envelope: Box<Envelope>,
        content: Content,
        last: bool,
    },
    /// Read over to stay in step; the reply was settled before.
    Refused(Reply),
}

/// What [`Session::poll`] found, before it borrows.
enum Step {
    Act(Action<'static>),
    Store,
    Again,
    Wait,
}

/// Replies of pipelined commands are sent together (RFC 2920 §3.2), but not
/// held back beyond this many bytes.
const MAX_OUTPUT: usize = 4096;

impl Session {
    /// A client has connected; the greeting is the first thing to be sent.
    /// `peer` is `None` for Unix sockets and for programs of this machine.
    pub fn new(
        settings: Arc<Settings>,
        peer: Option<SocketAddr>,
        may_relay: bool,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            client: Client {
                peer,
                helo: None,
                protocol: settings.protocol(),
                tls: None,
                account: None,
                may_relay,
            },
            state: State::Fresh,
            input: Vec::new(),
            in_long_line: false,
            output: Vec::new(),
            decoded: Vec::new(),
            discard: false,
            errors: 0,
            idle_commands: 0,
            failed_logins: 0,
            now,
            heard: now,
            began: now,
            message_began: None,
            start_tls: false,
            shutting_down: false,
            settings,
        };
        let name = if session.settings.lmtp {
            "LMTP"
        } else {
            "ESMTP"
        };
        let greeting = format!("{} {name}", session.settings.host);
        session.reply(&Reply::plain(220, greeting));
        session
    }

    /// The handshake came before the greeting: RFC 8314 §3.3.
    #[must_use]
    pub fn within(mut self, tls: Tls) -> Self {
        self.client.tls = Some(tls);
        self
    }

    /// Takes what the client sent. No bytes are a look at the clock.
    ///
    /// Call it only when [`Session::poll`] has nothing to do: then what is kept
    /// of `bytes` is bounded by their length and a command line.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        self.now = now;
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            // RFC 5321 §4.5.3.2.7.
            return self.farewell(&Reply::new(421, (4, 4, 2), "timed out"));
        }
        // Single bytes of a command give no more time for it.
        let whole = self.message_began.is_some() || memchr(b'\n', bytes).is_some();
        if whole && !bytes.is_empty() {
            self.heard = now;
        }
        self.input.extend_from_slice(bytes);
    }

    /// What to do next; `None` when the session waits for the client or for
    /// [`Session::resume`].
    pub fn poll(&mut self) -> Option<Action<'_>> {
        loop {
            match self.step() {
                Step::Act(action) => return Some(action),
                Step::Store => return Some(Action::Store(&self.decoded)),
                Step::Wait => return None,
                Step::Again => {}
            }
        }
    }

    /// The driver's answer to the action before. One that was not asked for
    /// is passed over.
    pub fn resume(&mut self, now: Instant, outcome: Outcome) {
        (self.now, self.heard) = (now, now);
        match (outcome, self.take_state()) {
            (Outcome::Recipient(decision), State::Checking(envelope, recipient)) => {
                self.decided(envelope, recipient, decision);
            }
            (Outcome::Sender(decision), State::CheckingSender(envelope)) => {
                self.sender_decided(envelope, decision);
            }
            (Outcome::Salted(salt), State::Salting(exchange)) => self.salted(exchange, salt),
            (Outcome::LoggedIn(login), State::LoggingIn(exchange)) => {
                self.logged_in(exchange, login);
            }
            (Outcome::Committed(answer), State::Committing(None, n)) => self.committed(n, answer),
            (Outcome::TlsStarted(tls), State::StartingTls) => {
                // RFC 3207 §4.2: everything said before is forgotten, also
                // what came in clear after our reply.
                self.client.tls = Some(tls);
                self.client.helo = None;
                self.client.protocol = self.settings.protocol();
                self.input.clear();
                self.state = State::Fresh;
            }
            (_, state) => self.state = state,
        }
    }

    /// [`Action::Store`] has failed, as on a full disk. The message is read to
    /// its end and then refused for now.
    pub fn not_stored(&mut self) {
        match &mut self.state {
            State::Data(_, content)
            | State::BetweenChunks(_, content)
            | State::Chunk(Chunk::Wanted { content, .. }, _) => content.fail(Defect::NotStored),
            // It was the last piece.
            State::Committing(Some(_), n) => {
                let n = *n;
                self.refuse(n, Defect::NotStored);
            }
            _ => {}
        }
    }

    /// When to call [`Session::receive`] without bytes.
    pub fn deadline(&self) -> Option<Instant> {
        let limits = &self.settings.limits;
        match self.state {
            State::Salting(_) | State::LoggingIn(_) | State::CheckingSender(_) => None,
            State::Checking(..) => None,
            State::Committing(..) | State::StartingTls => None,
            State::Closing | State::Closed => None,
            _ => {
                let command = self.heard + limits.command_time;
                let message = self.message_began.map(|began| began + limits.message_time);
                // A message has its own time; before and behind it, all are counted.
                let end = message.unwrap_or(self.began + limits.session_time);
                Some(end.min(command))
            }
        }
    }

    /// No more commands: a message that is being read is still answered, then
    /// the client is sent away with 421 (RFC 5321 §3.8).
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// Whether nothing would be lost by closing the connection now.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Fresh | State::Ready | State::Closed)
    }

    /// Who the client is, as far as it has said.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Who sends the message that is being transmitted.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.state {
            State::Transaction(envelope)
            | State::Checking(envelope, _)
            | State::Data(envelope, _)
            | State::BetweenChunks(envelope, _)
            | State::Chunk(Chunk::Wanted { envelope, .. }, _) => Some(envelope),
            _ => None,
        }
    }

    fn step(&mut self) -> Step {
        if mem::take(&mut self.discard) {
            return Step::Act(Action::Discard);
        }
        if self.output.len() > MAX_OUTPUT {
            return self.send();
        }
        match &mut self.state {
            State::Fresh
            | State::Ready
            | State::Authenticating(_)
            | State::Transaction(_)
            | State::BetweenChunks(..) => self.next_line(),
            State::Data(..) => self.read_data(),
            State::Chunk(..) => self.read_chunk(),
            State::Committing(envelope, _) => envelope
                .take()
                .map_or(Step::Wait, |envelope| Step::Act(Action::Commit(envelope))),
            State::Salting(_) | State::LoggingIn(_) | State::CheckingSender(_) => Step::Wait,
            State::Checking(..) => Step::Wait,
            State::StartingTls if !self.output.is_empty() => self.send(),
            State::StartingTls if mem::take(&mut self.start_tls) => Step::Act(Action::StartTls),
            State::StartingTls => Step::Wait,
            State::Closing => {
                let step = self.flushed_or(Step::Act(Action::Close));
                if matches!(step, Step::Act(Action::Close)) {
                    self.state = State::Closed;
                }
                step
            }
            State::Closed => Step::Wait,
        }
    }

    /// Sends what is to be sent, or does `otherwise`.
    fn flushed_or(&mut self, otherwise: Step) -> Step {
        if self.output.is_empty() {
            otherwise
        } else {
            self.send()
        }
    }

    fn send(&mut self) -> Step {
        Step::Act(Action::Send(mem::take(&mut self.output)))
    }

    /// A command, or what the client says within an exchange of AUTH.
    fn next_line(&mut self) -> Step {
        if self.shutting_down {
            let text = "the server is shutting down, try again";
            self.farewell(&Reply::new(421, (4, 3, 2), text));
            return Step::Again;
        }
        let max = match self.state {
            State::Authenticating(_) => MAX_AUTH_LINE,
            _ => MAX_COMMAND_LINE,
        };
        let Some(end) = memchr(b'\n', &self.input) else {
            if self.input.len() >= max {
                self.in_long_line = true;
                self.input.clear();
            }
            // An idle session keeps no buffer.
            if self.input.is_empty() {
                self.input = Vec::new();
                self.decoded = Vec::new();
            }
            return self.flushed_or(Step::Wait);
        };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        let too_long = mem::take(&mut self.in_long_line) || line.len() > max;
        // RFC 5321 §2.3.8: CR and LF only together.
        let whole = line.strip_suffix(b"\r\n");
        let whole = whole.filter(|line| memchr(b'\r', line).is_none());
        let exchange = match self.take_state() {
            State::Authenticating(exchange) => Some(exchange),
            state => {
                self.state = state;
                None
            }
        };
        match (whole, exchange) {
            (_, Some(_)) if too_long => self.exchange_ended(&Reply::new(
                500,
                (5, 5, 6),
                "the line of the exchange is too long",
            )),
            (_, None) if too_long => {
                self.error(&Reply::new(500, (5, 5, 2), "the line is too long"));
                Step::Again
            }
            (Some(line), Some(exchange)) => self.response(exchange, line),
            (Some(line), None) => self.command(line),
            (None, exchange) => {
                if exchange.is_some() {
                    self.state = State::Ready;
                }
                let text = "a line ends with CR LF, and neither stands alone";
                self.error(&Reply::new(500, (5, 5, 2), text));
                Step::Again
            }
        }
    }

    fn decided(&mut self, mut envelope: Box<Envelope>, recipient: Recipient, decision: Decision) {
        match decision {
            Decision::Accept => {
                envelope.recipients.push(recipient);
                self.state = State::Transaction(envelope);
                self.reply(&Reply::new(250, (2, 1, 5), "ok"));
            }
            Decision::Refuse(refusal) => {
                self.state = State::Transaction(envelope);
                self.error(&refusal.reply);
            }
        }
    }

    /// Closes after `reply`. What was stored is forgotten.
    fn farewell(&mut self, reply: &Reply) {
        self.reply(reply);
        self.discard |= self.has_content();
        self.message_began = None;
        self.input = Vec::new();
        self.state = State::Closing;
    }

    /// A reply to something wrong.
    fn error(&mut self, reply: &Reply) {
        self.reply(reply);
        self.count_error();
    }

    fn count_error(&mut self) {
        self.errors += 1;
        if self.errors >= self.settings.limits.errors {
            self.farewell(&Reply::new(421, (4, 7, 0), "too many errors"));
        }
    }

    fn reply(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    /// Without EHLO, HELO or LHLO there can be no transaction.
    fn between_transactions(&self) -> State {
        if self.client.helo.is_some() {
            State::Ready
        } else {
            State::Fresh
        }
    }

    fn take_state(&mut self) -> State {
        mem::replace(&mut self.state, State::Closed)
    }
}
