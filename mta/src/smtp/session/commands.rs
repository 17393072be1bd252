//! What each command does, one table: its name, when it may come, and its
//! handler.

use super::super::content::Content;
use super::super::parameters::{self, Mail};
use super::super::reply::Reply;
use super::message::too_large;
use super::{Action, Chunk, Envelope, Protocol, Session, State, Step};

struct Command {
    name: &'static str,
    /// Whether the order of commands (RFC 5321 §4.1.4) allows it.
    when: fn(&State) -> bool,
    /// Whether a client could send it for ever without mail coming nearer.
    idle: bool,
    /// Whether it means anything before a login that is demanded.
    free: bool,
    run: fn(&mut Session, &[u8]) -> Step,
}

#[rustfmt::skip]
const COMMANDS: &[Command] = &[
    Command { name: "HELO", when: outside_chunks, idle: true, free: true, run: Session::helo },
    Command { name: "EHLO", when: outside_chunks, idle: true, free: true, run: Session::ehlo },
    Command { name: "LHLO", when: outside_chunks, idle: true, free: true, run: Session::lhlo },
    Command { name: "STARTTLS", when: outside_transaction, idle: true, free: true, run: Session::starttls },
    Command { name: "AUTH", when: ready, idle: true, free: true, run: Session::auth },
    Command { name: "MAIL", when: ready, idle: true, free: false, run: Session::mail },
    Command { name: "RCPT", when: in_transaction, idle: false, free: false, run: Session::rcpt },
    Command { name: "DATA", when: in_transaction, idle: false, free: false, run: Session::data },
    // Its octets follow in any state, and before a login too.
    Command { name: "BDAT", when: any, idle: false, free: true, run: Session::bdat },
    Command { name: "RSET", when: any, idle: true, free: true, run: Session::rset },
    Command { name: "NOOP", when: any, idle: true, free: true, run: Session::noop },
    Command { name: "VRFY", when: outside_chunks, idle: true, free: false, run: Session::vrfy },
    Command { name: "HELP", when: outside_chunks, idle: true, free: true, run: Session::help },
    Command { name: "QUIT", when: any, idle: false, free: true, run: Session::quit },
];

/// What browsers send when a web page makes them speak to us.
const OF_OTHER_PROTOCOLS: [&[u8]; 3] = [b"CONNECT", b"GET", b"POST"];

fn any(_: &State) -> bool {
    true
}

fn outside_chunks(state: &State) -> bool {
    !matches!(state, State::BetweenChunks(..))
}

fn outside_transaction(state: &State) -> bool {
    matches!(state, State::Fresh | State::Ready)
}

fn ready(state: &State) -> bool {
    matches!(state, State::Ready)
}

fn in_transaction(state: &State) -> bool {
    matches!(state, State::Transaction(_))
}

impl Session {
    /// Does what `line`, without its CRLF, says.
    pub(super) fn command(&mut self, line: &[u8]) -> Step {
        let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
        let (verb, arguments) = (&line[..end], line[end..].trim_ascii());
        let named = |command: &&Command| verb.eq_ignore_ascii_case(command.name.as_bytes());
        let Some(command) = COMMANDS.iter().find(named) else {
            return self.unknown(verb);
        };
        if !command.free && self.must_log_in() {
            self.error(&must_log_in());
            return Step::Again;
        }
        if !(command.when)(&self.state) {
            self.error(&Reply::new(503, (5, 5, 1), "bad sequence of commands"));
            return Step::Again;
        }
        if command.idle {
            self.idle_commands += 1;
        }
        if self.idle_commands > self.settings.limits.idle_commands {
            let text = "too many commands without a message";
            self.farewell(&Reply::new(421, (4, 7, 0), text));
            return Step::Again;
        }
        (command.run)(self, arguments)
    }

    fn unknown(&mut self, verb: &[u8]) -> Step {
        let is_verb = |word: &&[u8]| verb.eq_ignore_ascii_case(word);
        if OF_OTHER_PROTOCOLS.iter().any(is_verb) {
            let text = "this is a mail server";
            self.farewell(&Reply::new(421, (4, 7, 0), text));
        } else {
            self.error(&Reply::new(500, (5, 5, 1), "command not known"));
        }
        Step::Again
    }

    fn helo(&mut self, arguments: &[u8]) -> Step {
        self.hello(arguments, Protocol::Smtp)
    }

    fn ehlo(&mut self, arguments: &[u8]) -> Step {
        self.hello(arguments, Protocol::Esmtp)
    }

    fn lhlo(&mut self, arguments: &[u8]) -> Step {
        self.hello(arguments, Protocol::Lmtp)
    }

    fn hello(&mut self, arguments: &[u8], protocol: Protocol) -> Step {
        if self.settings.lmtp != (protocol == Protocol::Lmtp) {
            // RFC 2033 §4.1: HELO and EHLO are of SMTP, LHLO is of LMTP.
            self.error(&Reply::new(500, (5, 5, 1), "command not known"));
            return Step::Again;
        }
        // Deviation: RFC 5321 §4.1.1.1 asks for a domain or an address, and
        // too many honest clients send something else.
        let printable = !arguments.is_empty() && arguments.iter().all(|b| matches!(b, 33..=126));
        if !printable || arguments.len() > 255 {
            self.error(&Reply::new(
                501,
                (5, 5, 4),
                "the name of the client is missing or malformed",
            ));
            return Step::Again;
        }
        self.client.helo = Some(String::from_utf8_lossy(arguments).into_owned());
        self.client.protocol = match self.settings.local {
            true => Protocol::Local,
            false => protocol,
        };
        // RFC 5321 §4.1.4: as RSET.
        self.reset();
        let mut text = self.settings.host.to_string();
        if protocol != Protocol::Smtp {
            for extension in self.extensions() {
                text.push('\n');
                text.push_str(&extension);
            }
        }
        self.reply(&Reply::plain(250, text));
        Step::Again
    }

    fn extensions(&self) -> Vec<String> {
        let size = format!("SIZE {}", self.settings.limits.message_octets);
        let mut extensions: Vec<_> = [
            "PIPELINING",
            &size,
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
        ]
        .map(str::to_owned)
        .into();
        if self.settings.starttls && self.client.tls.is_none() {
            extensions.push("STARTTLS".to_owned());
        }
        extensions.extend(self.auth_extension());
        // Some clients do not find those two in the last line.
        extensions.push("DSN".to_owned());
        extensions
    }

    fn starttls(&mut self, arguments: &[u8]) -> Step {
        if !self.settings.starttls {
            self.error(&Reply::new(502, (5, 5, 1), "there is no TLS here"));
        } else if self.client.tls.is_some() {
            self.error(&Reply::new(503, (5, 5, 1), "TLS is active already"));
        } else if !arguments.is_empty() {
            self.error(&Reply::new(501, (5, 5, 4), "syntax: STARTTLS"));
        } else if !self.input.is_empty() {
            // RFC 3207 §4.2, RFC 2920 §3.1: nothing may be pipelined behind
            // it. Somebody in between could have put it there in clear, to be
            // taken for the client's own words after the handshake.
            let text = "nothing may follow STARTTLS before its reply";
            self.farewell(&Reply::new(503, (5, 5, 1), text));
        } else {
            self.reply(&Reply::new(220, (2, 0, 0), "begin TLS"));
            self.state = State::StartingTls;
            self.start_tls = true;
        }
        Step::Again
    }

    fn mail(&mut self, arguments: &[u8]) -> Step {
        let mail = match Mail::parse(arguments) {
            Ok(mail) => mail,
            Err(reply) => {
                self.error(&reply);
                return Step::Again;
            }
        };
        let max = self.settings.limits.message_octets;
        // RFC 1870 §6.1.
        if mail.size.is_some_and(|size| size > max) {
            self.error(&too_large(max));
            return Step::Again;
        }
        if mail.auth && !self.settings.is_submission() {
            self.error(&parameters::unknown("AUTH"));
            return Step::Again;
        }
        let envelope = Box::new(Envelope {
            reverse_path: mail.reverse_path,
            size: mail.size.unwrap_or_default(),
            recipients: Vec::new(),
            body: mail.body,
            smtputf8: mail.smtputf8,
            ret: mail.ret,
            envid: mail.envid,
            client: self.client.clone(),
            gate: Vec::new(),
        });
        if self.client.account.is_none() {
            self.begin(envelope);
            return Step::Again;
        }
        let reverse_path = envelope.reverse_path.clone();
        self.state = State::CheckingSender(envelope);
        Step::Act(Action::CheckSender(reverse_path))
    }

    fn rcpt(&mut self, arguments: &[u8]) -> Step {
        let State::Transaction(envelope) = &self.state else {
            return Step::Again;
        };
        if envelope.recipients.len() >= self.settings.limits.recipients {
            // RFC 5321 §4.5.3.1.10: 452, which is no error of the client.
            self.reply(&Reply::new(452, (4, 5, 3), "too many recipients"));
            return Step::Again;
        }
        match parameters::recipient(arguments, envelope.smtputf8) {
            Ok(recipient) => {
                if let State::Transaction(envelope) = self.take_state() {
                    self.state = State::Checking(envelope, recipient.clone());
                }
                Step::Act(Action::CheckRecipient(recipient))
            }
            Err(reply) => {
                self.error(&reply);
                Step::Again
            }
        }
    }

    fn data(&mut self, arguments: &[u8]) -> Step {
        match self.take_state() {
            State::Transaction(envelope) if envelope.recipients.is_empty() => {
                self.state = State::Transaction(envelope);
                self.error(&no_recipients());
            }
            State::Transaction(envelope) if arguments.is_empty() => {
                self.reply(&Reply::plain(
                    354,
                    "end the message with a line that is a dot",
                ));
                self.message_began = Some(self.now);
                self.state = State::Data(envelope, Content::until_dot());
            }
            state => {
                self.state = state;
                self.error(&Reply::new(501, (5, 5, 4), "syntax: DATA"));
            }
        }
        Step::Again
    }

    fn bdat(&mut self, arguments: &[u8]) -> Step {
        let Some((octets, last)) = chunk(arguments) else {
            // Where the next command begins cannot be known.
            self.farewell(&Reply::new(501, (5, 5, 4), "syntax: BDAT octets [LAST]"));
            return Step::Again;
        };
        self.message_began.get_or_insert(self.now);
        let wanted = |envelope, content| Chunk::Wanted {
            envelope,
            content,
            last,
        };
        let chunk = match self.take_state() {
            State::BetweenChunks(envelope, content) => wanted(envelope, content),
            State::Transaction(envelope) if !envelope.recipients.is_empty() => {
                wanted(envelope, Content::counted())
            }
            State::Transaction(_) => Chunk::Refused(no_recipients()),
            _ if self.must_log_in() => Chunk::Refused(must_log_in()),
            _ => Chunk::Refused(Reply::new(503, (5, 5, 1), "bad sequence of commands")),
        };
        self.state = State::Chunk(chunk, octets);
        Step::Again
    }

    fn rset(&mut self, _: &[u8]) -> Step {
        self.reset();
        self.reply(&Reply::new(250, (2, 0, 0), "ok"));
        Step::Again
    }

    /// Ends a transaction; before EHLO nothing changes.
    fn reset(&mut self) {
        self.discard |= self.has_content();
        self.message_began = None;
        self.state = self.between_transactions();
    }

    fn noop(&mut self, _: &[u8]) -> Step {
        self.reply(&Reply::new(250, (2, 0, 0), "ok"));
        Step::Again
    }

    /// RFC 5321 §7.3: who the users are is not for everybody to ask.
    fn vrfy(&mut self, _: &[u8]) -> Step {
        self.reply(&Reply::new(252, (2, 0, 0), "send it and see"));
        Step::Again
    }

    fn help(&mut self, _: &[u8]) -> Step {
        self.reply(&Reply::new(214, (2, 0, 0), "see RFC 5321"));
        Step::Again
    }

    fn quit(&mut self, _: &[u8]) -> Step {
        self.farewell(&Reply::new(221, (2, 0, 0), "bye"));
        Step::Again
    }
}

/// `octets [LAST]`: RFC 3030 §2.
fn chunk(arguments: &[u8]) -> Option<(u64, bool)> {
    let text = str::from_utf8(arguments).ok()?;
    let (octets, rest) = text.split_once(' ').unwrap_or((text, ""));
    let last = match rest.trim_start() {
        "" => false,
        word if word.eq_ignore_ascii_case("LAST") => true,
        _ => return None,
    };
    let digits = octets.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| octets.parse().ok())?
        .map(|octets| (octets, last))
}

/// RFC 4954 §6.
fn must_log_in() -> Reply {
    Reply::new(530, (5, 7, 0), "log in first")
}

fn no_recipients() -> Reply {
    Reply::new(503, (5, 5, 1), "no recipient was accepted")
}
