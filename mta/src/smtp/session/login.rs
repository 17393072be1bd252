//! AUTH (RFC 4954), and what holds for who has logged in.

use super::super::auth::{self, Exchange, Mechanism, Next};
use super::super::envelope::Protocol;
use super::super::limits::MAX_FAILED_LOGINS;
use super::super::reply::Reply;
use super::{Action, Envelope, Session, State, Step};
use crate::handover::{Decision, Login, Refusal, Salt};

impl Session {
    /// What EHLO says of AUTH: nothing where it would be refused.
    pub(super) fn auth_extension(&self) -> Option<String> {
        let is_allowed = self.client.tls.is_some() && self.client.account.is_none();
        let names: Vec<&str> = self.mechanisms().map(Mechanism::name).collect();
        (is_allowed && !names.is_empty()).then(|| format!("AUTH {}", names.join(" ")))
    }

    /// Those that work with this connection.
    fn mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        let can_bind = self.channel().is_some();
        let works = move |one: &Mechanism| can_bind || *one != Mechanism::ScramSha256Plus;
        self.settings.mechanisms.iter().copied().filter(works)
    }

    fn channel(&self) -> Option<&[u8; 32]> {
        self.client
            .tls
            .as_ref()
            .and_then(|tls| tls.exporter.as_ref())
    }

    /// Whether nothing but logging in brings the client further.
    pub(super) fn must_log_in(&self) -> bool {
        self.settings.is_submission() && self.client.account.is_none()
    }

    pub(super) fn auth(&mut self, arguments: &[u8]) -> Step {
        let mut words = arguments.split(|b| *b == b' ').filter(|w| !w.is_empty());
        let (name, initial, more) = (words.next(), words.next(), words.next());
        let named = |name: &[u8]| {
            self.mechanisms()
                .find(|one| name.eq_ignore_ascii_case(one.name().as_bytes()))
        };
        let mechanism = name.map(named);
        let refusal = if !self.settings.is_submission() {
            Reply::new(502, (5, 5, 1), "there is no AUTH here")
        } else if self.client.account.is_some() {
            Reply::new(503, (5, 5, 1), "you have logged in already")
        } else if self.client.protocol != Protocol::Esmtp {
            Reply::new(503, (5, 5, 1), "say EHLO first")
        } else if self.client.tls.is_none() {
            Reply::new(538, (5, 7, 11), "say STARTTLS first")
        } else if more.is_some() {
            Reply::new(501, (5, 5, 4), "syntax: AUTH mechanism [initial-response]")
        } else {
            match mechanism {
                None => Reply::new(501, (5, 5, 4), "syntax: AUTH mechanism [initial-response]"),
                Some(None) => Reply::new(504, (5, 5, 4), "this mechanism is not known"),
                Some(Some(mechanism)) => {
                    let exchange = Exchange::new(mechanism);
                    return match initial {
                        None => self.go_on(exchange, None),
                        // RFC 4954 §4: an empty one.
                        Some(b"=") => self.go_on(exchange, Some(Vec::new())),
                        Some(line) => self.response(exchange, line),
                    };
                }
            }
        };
        self.error(&refusal);
        Step::Again
    }

    /// A line of the client within an exchange.
    pub(super) fn response(&mut self, exchange: Exchange, line: &[u8]) -> Step {
        if line == b"*" {
            return self.exchange_ended(&Reply::new(501, (5, 7, 0), "cancelled"));
        }
        match auth::response(line) {
            Some(response) => self.go_on(exchange, Some(response)),
            None => self.exchange_ended(&Reply::new(501, (5, 5, 2), "this is no base64")),
        }
    }

    fn go_on(&mut self, mut exchange: Exchange, response: Option<Vec<u8>>) -> Step {
        let next = exchange.next(response, self.channel());
        self.follow(exchange, next)
    }

    fn follow(&mut self, exchange: Exchange, next: Next) -> Step {
        match next {
            Next::Challenge(text) => {
                self.reply(&auth::challenge(&text));
                self.state = State::Authenticating(exchange);
                Step::Again
            }
            Next::Salt(name) => {
                self.state = State::Salting(exchange);
                Step::Act(Action::FindSalt(name))
            }
            Next::Ask(attempt) => {
                self.state = State::LoggingIn(exchange);
                Step::Act(Action::LogIn(attempt))
            }
            Next::Done(account) => {
                self.welcome(account);
                Step::Again
            }
            Next::Refuse(reply) => self.exchange_ended(&reply),
        }
    }

    pub(super) fn salted(&mut self, mut exchange: Exchange, salt: Result<Salt, Refusal>) {
        match salt {
            Ok(salt) => {
                let next = exchange.salted(&salt, &self.settings.host);
                self.follow(exchange, next);
            }
            Err(refusal) => {
                self.exchange_ended(&refusal.reply);
            }
        }
    }

    /// The exchange has led nowhere.
    pub(super) fn exchange_ended(&mut self, reply: &Reply) -> Step {
        self.state = State::Ready;
        self.error(reply);
        Step::Again
    }

    fn welcome(&mut self, account: String) {
        self.state = State::Ready;
        self.client.account = Some(account);
        self.client.may_relay = true;
        self.reply(&Reply::new(235, (2, 7, 0), "welcome"));
    }

    pub(super) fn logged_in(&mut self, mut exchange: Exchange, login: Login) {
        match login {
            Login::As {
                account,
                signature: None,
            } => self.welcome(account),
            // SMTP's 235 carries no data: RFC 4954 §4 has the server's last
            // message in a challenge, which the client answers with nothing.
            Login::As {
                account,
                signature: Some(signature),
            } => {
                let next = exchange.proved(account, &signature);
                self.follow(exchange, next);
            }
            Login::Refused(refusal) => {
                self.failed_logins += 1;
                self.exchange_ended(&refusal.reply);
                if self.failed_logins >= MAX_FAILED_LOGINS {
                    self.farewell(&Reply::new(421, (4, 7, 0), "too many failed logins"));
                }
            }
        }
    }

    pub(super) fn sender_decided(&mut self, envelope: Box<Envelope>, decision: Decision) {
        match decision {
            Decision::Accept => self.begin(envelope),
            Decision::Refuse(refusal) => {
                self.state = State::Ready;
                self.error(&refusal.reply);
            }
        }
    }

    /// A mail transaction begins.
    pub(super) fn begin(&mut self, envelope: Box<Envelope>) {
        self.state = State::Transaction(envelope);
        self.reply(&Reply::new(250, (2, 1, 0), "ok"));
    }
}
