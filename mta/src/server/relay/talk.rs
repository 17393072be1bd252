//! What a client says, what it hears, and what it should not have heard.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::super::run::Kind;
use super::generate::{NOBODY, Step, Visitor, World};
use super::programs::{Knows, Outcome};
use super::{Counts, canonical};

/// One connection from the client's side.
pub(super) struct Talk<'a> {
    world: &'a World,
    visitor: &'a Visitor,
    helo: String,
    sender: String,
    /// Who has logged in; empty before.
    account: String,
    has_guessed: bool,
    accepted: usize,
    /// Whether a plugin has said that none runs any more: surely, perhaps.
    is_over: bool,
    may_be_over: bool,
    pub(super) counts: Counts,
    /// Outside recipients that were accepted, and rightly.
    pub(super) may_get: BTreeSet<String>,
    /// To whom reports may go.
    pub(super) senders: BTreeSet<String>,
}

const MESSAGE: &str = "From: x\r\nSubject: hello\r\n\r\nGood morning\r\n.\r\n";

type Reader = BufReader<UnixStream>;

impl<'a> Talk<'a> {
    pub(super) fn new(world: &'a World, visitor: &'a Visitor) -> Self {
        Self {
            world,
            visitor,
            helo: String::new(),
            sender: String::new(),
            account: String::new(),
            has_guessed: false,
            accepted: 0,
            is_over: false,
            may_be_over: false,
            counts: Counts::new(),
            may_get: BTreeSet::new(),
            senders: BTreeSet::new(),
        }
    }

    pub(super) async fn all(&mut self, stream: UnixStream) -> Result<(), String> {
        let mut stream = BufReader::new(stream);
        hear(&mut stream).await?;
        for step in &self.visitor.steps {
            match self.say(&mut stream, step).await {
                Err(reason) if reason == GONE && self.world.may_hang_up(self.visitor) => {
                    self.count("hung up");
                    break;
                }
                said => said?,
            }
        }
        Ok(())
    }

    fn count(&mut self, why: &'static str) {
        *self.counts.entry(why).or_default() += 1;
    }

    async fn say(&mut self, stream: &mut Reader, step: &Step) -> Result<(), String> {
        match step {
            Step::Hello(name) => {
                let verb = match self.visitor.kind {
                    Kind::Lmtp { .. } => "LHLO",
                    _ => "EHLO",
                };
                if ask(stream, &format!("{verb} {name}")).await? == 250 {
                    (*name).clone_into(&mut self.helo);
                }
            }
            Step::Mail(sender) => {
                let sender = sender.as_ref().unwrap_or(&self.account);
                if ask(stream, &format!("MAIL FROM:<{sender}> SMTPUTF8")).await? == 250 {
                    self.senders.extend(canonical(sender));
                    let subject = (&*self.helo, &*canonical(sender).unwrap_or_default(), "");
                    let (by_mail, _) = self.world.plugins_say(self.visitor, subject);
                    self.senders.insert(by_mail.address);
                    self.sender = sender.clone();
                    self.accepted = 0;
                }
            }
            Step::Rcpt(path) => {
                let code = ask(stream, &format!("RCPT TO:<{path}>")).await?;
                self.answered(path, code)?;
            }
            Step::Data => self.data(stream).await?,
            Step::Reset => {
                ask(stream, "RSET").await?;
            }
            Step::LogIn { account, password } => {
                // More than a few would have to wait.
                let account = self.world.account(*account);
                let known = self.world.knows.unwrap_or(Knows::Passwords);
                let is_wrong = !known.takes(password) || account == NOBODY;
                if is_wrong && std::mem::replace(&mut self.has_guessed, true) {
                    return Ok(());
                }
                let said = STANDARD.encode(format!("\0{account}\0{password}"));
                let code = ask(stream, &format!("AUTH PLAIN {said}")).await?;
                if code == 235 && is_wrong {
                    return Err("a wrong password was right".into());
                }
                if code == 235 {
                    if self.world.knows.is_some() {
                        self.count("program");
                    }
                    self.account = account;
                }
            }
        }
        Ok(())
    }

    /// RCPT was answered.
    fn answered(&mut self, path: &str, code: u16) -> Result<(), String> {
        let written = canonical(path).unwrap_or_default();
        let sender = canonical(&self.sender).unwrap_or_default();
        let subject = (&*self.helo, &*sender, &*written);
        let (_, by_rcpt) = self.world.plugins_say(self.visitor, subject);
        let is_over = by_rcpt.is_over;
        let mut outcomes = Vec::new();
        if self.may_be_over {
            outcomes.push(Outcome {
                address: written.clone(),
                is_trusted: false,
                is_over: true,
            });
        }
        if !self.is_over {
            outcomes.push(by_rcpt);
        }
        // One that was refused may have met no plugin.
        self.may_be_over |= is_over;
        self.is_over |= is_over && code == 250;
        if self.is_over {
            self.count("over");
        }
        if code != 250 {
            self.count("refused");
            return Ok(());
        }
        self.accepted += 1;
        let mut is_right = false;
        for outcome in outcomes {
            if let Some(why) = self.reason(path, &written, &outcome) {
                is_right = true;
                self.count(why);
            }
        }
        match is_right {
            true => Ok(()),
            false => Err(format!("<{path}> was accepted from <{}>", self.sender)),
        }
    }

    /// Why it was right to accept a recipient of whom plugins have made this.
    fn reason(&mut self, path: &str, written: &str, outcome: &Outcome) -> Option<&'static str> {
        let to = &outcome.address;
        let is_changed = to != written;
        if self.world.is_ours(if is_changed { to } else { path }) {
            return Some(if is_changed { "changed" } else { "ours" });
        }
        let subject = (&*self.helo, &*self.sender, path);
        let why = self.world.why(self.visitor, subject);
        let why = why.or((!self.account.is_empty()).then_some("login"));
        let why = why.or(outcome.is_trusted.then_some("plugin"))?;
        self.may_get.insert(to.clone());
        Some(why)
    }

    async fn data(&mut self, stream: &mut Reader) -> Result<(), String> {
        if ask(stream, "DATA").await? != 354 {
            return Ok(());
        }
        write(stream, MESSAGE).await?;
        // RFC 2033 §4.2: a reply for each recipient.
        let n = match self.visitor.kind {
            Kind::Lmtp { .. } => self.accepted,
            _ => 1,
        };
        for _ in 0..n {
            hear(stream).await?;
        }
        Ok(())
    }
}

async fn ask(stream: &mut Reader, line: &str) -> Result<u16, String> {
    write(stream, &format!("{line}\r\n")).await?;
    hear(stream).await
}

/// The connection has ended.
const GONE: &str = "the server has gone";

async fn write(stream: &mut Reader, text: &str) -> Result<(), String> {
    let written = stream.get_mut().write_all(text.as_bytes()).await;
    written.map_err(|_| GONE.into())
}

/// The code of a reply.
async fn hear(stream: &mut Reader) -> Result<u16, String> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return Err(GONE.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            break;
        }
    }
    line[..3].parse().map_err(|_| format!("no reply: {line:?}"))
}
