//! The protocol between `spamc` and `spamd`, so that a mail server or recipe
//! that calls `spamc` asks bmfd instead.
//!
//! Bytes only; [`serve`] carries them. Written from the protocol's own text
//! (SpamAssassin, spamd/PROTOCOL, version 1.5): a request is a line `COMMAND
//! SPAMC/1.5`, header lines, a blank line and, if the command takes one, a
//! message, whose end is that of the connection's data or what
//! `Content-length` says.
//!
//! Deliberately absent: reporting to the network (`Set: remote`), which is not
//! done and not claimed, and SpamAssassin's points: a score is the probability
//! that the message is spam, from 0 to 1, beside what is required of spam.

use std::fmt::Write as _;

use classifier::Label;
use classifier::classic;
use classifier::cli::wire::{Refusal, Verdict};
use classifier::modern::Act;

pub mod serve;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Is somebody there?
    Ping,
    /// Nothing.
    Skip,
    /// The verdict.
    Check,
    /// The verdict and the names of what decided.
    Symbols,
    /// The verdict and its reasons.
    Report,
    /// The same, the reasons only if it is spam.
    ReportIfSpam,
    /// The header section with the verdict in it.
    Headers,
    /// The message with the verdict in it.
    Process,
    /// That it learns.
    Tell,
}

/// A request without its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What is wanted.
    pub command: Command,
    /// Bytes of the message; `None`: all that comes.
    pub content_length: Option<usize>,
    /// Whose model; empty: nothing was said.
    pub user: String,
    /// Whether the message is compressed by zlib.
    pub is_compressed: bool,
    class: Option<Label>,
    sets: bool,
    removes: bool,
}

/// Why a request is refused, as one of the exit codes of sysexits.h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    reason: String,
}

impl Failure {
    /// It is no request.
    pub fn protocol(reason: impl Into<String>) -> Self {
        Self {
            code: 76,
            reason: reason.into(),
        }
    }

    /// The message cannot be read.
    pub fn data(reason: impl Into<String>) -> Self {
        Self {
            code: 65,
            reason: reason.into(),
        }
    }

    /// What the service has refused.
    pub fn refused(refusal: Refusal, reason: &str) -> Self {
        let code = match refusal {
            Refusal::Failed => 70,
            Refusal::TryAgain => 75,
            Refusal::NotYours => 77,
            Refusal::NoRequest => 76,
        };
        let reason = reason.replace(['\r', '\n'], " ");
        Self { code, reason }
    }

    /// The whole response.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("SPAMD/1.1 {} {}\r\n\r\n", self.code, self.reason).into_bytes()
    }
}

/// Longer heads are none.
pub const MAX_HEAD: usize = 8 << 10;

/// Where the head in `bytes` ends, its blank line included; `None`: there is
/// more to come.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'\n') {
        let line = &bytes[start..at];
        // A request that is a single line has no header lines either.
        if line.is_empty() || line == b"\r" {
            return Some(at + 1);
        }
        start = at + 1;
    }
    None
}

impl Head {
    /// Understands the lines before the message.
    ///
    /// # Errors
    /// When it is no request.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split_whitespace();
        let command = match words.next().unwrap_or_default() {
            "PING" => Command::Ping,
            "SKIP" => Command::Skip,
            "CHECK" => Command::Check,
            "SYMBOLS" => Command::Symbols,
            "REPORT" => Command::Report,
            "REPORT_IFSPAM" => Command::ReportIfSpam,
            "HEADERS" => Command::Headers,
            "PROCESS" => Command::Process,
            "TELL" => Command::Tell,
            other => return Err(Failure::protocol(format!("no command {other:?}"))),
        };
        if !words.next().is_some_and(|word| word.starts_with("SPAMC/")) {
            return Err(Failure::protocol(
                "the first line names no version of SPAMC",
            ));
        }
        let mut head = Self {
            command,
            content_length: None,
            user: String::new(),
            is_compressed: false,
            class: None,
            sets: false,
            removes: false,
        };
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| Failure::protocol(format!("no header line: {line:?}")))?;
            head.field(&name.to_ascii_lowercase(), value.trim())?;
        }
        Ok(head)
    }

    fn field(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let is_local = || value.split(',').any(|word| word.trim() == "local");
        match name {
            "content-length" => {
                let length = value.parse();
                self.content_length =
                    Some(length.map_err(|_| Failure::protocol("Content-length is no number"))?);
            }
            "user" => self.user = value.into(),
            "compress" if value.eq_ignore_ascii_case("zlib") => self.is_compressed = true,
            "compress" => return Err(Failure::protocol("no compression but zlib")),
            "message-class" => {
                self.class = Some(match value.to_ascii_lowercase().as_str() {
                    "spam" => Label::Spam,
                    "ham" => Label::Ham,
                    _ => return Err(Failure::protocol("Message-class is spam or ham")),
                });
            }
            "set" => self.sets = is_local(),
            "remove" => self.removes = is_local(),
            // As the protocol says, what is not known is passed over.
            _ => {}
        }
        Ok(())
    }

    /// Whether a message follows.
    pub fn has_message(&self) -> bool {
        !matches!(self.command, Command::Ping | Command::Skip)
    }

    /// What is to be learned; `None`: nothing that is ours to do.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn act(&self) -> Result<Option<Act>, Failure> {
        match (self.sets, self.removes, self.class) {
            (true, true, _) => Err(Failure::protocol("Set and Remove of the same")),
            (true, false, Some(label)) => Ok(Some(Act::Correct(label))),
            (true, false, None) => Err(Failure::protocol("Set without a Message-class")),
            (false, true, _) => Ok(Some(Act::Forget)),
            (false, false, _) => Ok(None),
        }
    }
}

/// The response to [`Command::Ping`].
pub const PONG: &[u8] = b"SPAMD/1.5 0 PONG\r\n";

/// The response to a lesson.
pub fn told(act: Option<Act>, is_changed: bool) -> Vec<u8> {
    let done = match (act, is_changed) {
        (Some(Act::Forget), true) => "DidRemove: local\r\n",
        (Some(_), true) => "DidSet: local\r\n",
        (_, _) => "",
    };
    format!("SPAMD/1.1 0 EX_OK\r\n{done}Content-length: 0\r\n\r\n").into_bytes()
}

/// The response about a message. What `verdict` prints is the explanation.
pub fn judged(command: Command, verdict: &Verdict, message: &[u8]) -> Vec<u8> {
    let is_spam = verdict.is_spam;
    let fields = String::from_utf8_lossy(&verdict.header_fields);
    let number = |name: &str| {
        let at = fields
            .find(name)
            .map_or("0", |at| &fields[at + name.len()..]);
        let word = at.split_whitespace().next().unwrap_or("0");
        word.trim_end_matches(',').to_owned()
    };
    let body = match command {
        Command::Symbols => symbol(is_spam, &fields).into(),
        Command::Report => verdict.printed.clone(),
        Command::ReportIfSpam if is_spam => verdict.printed.clone(),
        Command::Process => marked(message, &verdict.header_fields),
        Command::Headers => {
            let all = marked(message, &verdict.header_fields);
            let end = head_len(&all).unwrap_or(all.len());
            all[..end].to_vec()
        }
        _ => Vec::new(),
    };
    let word = if is_spam { "True" } else { "False" };
    let mut head = String::from("SPAMD/1.1 0 EX_OK\r\n");
    let _ = write!(
        head,
        "Content-length: {}\r\nSpam: {word} ; {} / {}\r\n\r\n",
        body.len(),
        number("hits="),
        number("required=")
    );
    let mut response = head.into_bytes();
    response.extend_from_slice(&body);
    response
}

/// A name for each class, for rules that look for one.
fn symbol(is_spam: bool, fields: &str) -> &'static str {
    match (is_spam, fields.contains("X-Spam-Unsure")) {
        (true, _) => "BMF_SPAM",
        (false, true) => "BMF_UNSURE",
        (false, false) => "BMF_HAM",
    }
}

fn marked(message: &[u8], fields: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + fields.len());
    // `spamc` sends a message's own line ends, and gets them back.
    let crlf = message.iter().position(|b| *b == b'\n');
    let is_crlf = crlf.is_some_and(|at| at > 0 && message[at - 1] == b'\r');
    let fields = match is_crlf {
        true => String::from_utf8_lossy(fields)
            .replace('\n', "\r\n")
            .into_bytes(),
        false => fields.to_vec(),
    };
    let copied = classic::passthrough(message, &fields, &mut out);
    copied.expect("memory can be written to");
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Head, Failure> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn requests_of_spamc() {
        let head = parse(
            "TELL SPAMC/1.5\r\nUser: anna\r\nMessage-class: spam\r\nSet: local, remote\r\n\
             Content-length: 17\r\nX-Other: x\r\n\r\n",
        );
        let head = head.unwrap();
        assert_eq!((head.command, head.user.as_str()), (Command::Tell, "anna"));
        assert_eq!(head.content_length, Some(17));
        assert_eq!(head.act(), Ok(Some(Act::Correct(Label::Spam))));
        let head = parse("TELL SPAMC/1.2\nremove: local\nMessage-class: HAM\n\n").unwrap();
        assert_eq!(head.act(), Ok(Some(Act::Forget)));
        let head = parse("TELL SPAMC/1.2\nSet: remote\nMessage-class: spam\n\n").unwrap();
        assert_eq!(head.act(), Ok(None));
        assert!(!parse("PING SPAMC/1.2\r\n\r\n").unwrap().has_message());
        assert!(
            parse("CHECK SPAMC/1.5\nCompress: zlib\n\n")
                .unwrap()
                .is_compressed
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "",
            "GET / HTTP/1.1\r\n\r\n",
            "check SPAMC/1.5\n\n",
            "CHECK\n\n",
            "CHECK SPAMC/1.5\nUser\n\n",
            "CHECK SPAMC/1.5\nContent-length: -1\n\n",
            "CHECK SPAMC/1.5\nCompress: lzma\n\n",
            "TELL SPAMC/1.5\nMessage-class: maybe\n\n",
        ] {
            assert_eq!(parse(text).unwrap_err().code, 76, "{text}");
        }
        let both = parse("TELL SPAMC/1.5\nSet: local\nRemove: local\n\n").unwrap();
        assert!(both.act().is_err());
        assert!(
            parse("TELL SPAMC/1.5\nSet: local\n\n")
                .unwrap()
                .act()
                .is_err()
        );
    }

    fn verdict() -> Verdict {
        Verdict {
            is_spam: true,
            header_fields: b"X-Spam-Status: Yes, hits=0.99 required=0.90, tests=bmf\n".to_vec(),
            printed: b"why".to_vec(),
        }
    }

    #[test]
    fn responses() {
        let response = |command| {
            let bytes = judged(command, &verdict(), b"A: b\r\n\r\ntext");
            String::from_utf8(bytes).unwrap()
        };
        let head = "SPAMD/1.1 0 EX_OK\r\nContent-length: ";
        let spam = "Spam: True ; 0.99 / 0.90\r\n\r\n";
        assert_eq!(response(Command::Check), format!("{head}0\r\n{spam}"));
        assert_eq!(
            response(Command::Symbols),
            format!("{head}8\r\n{spam}BMF_SPAM")
        );
        assert_eq!(
            response(Command::ReportIfSpam),
            format!("{head}3\r\n{spam}why")
        );
        let field = "X-Spam-Status: Yes, hits=0.99 required=0.90, tests=bmf\r\n";
        let message = format!("A: b\r\n{field}\r\ntext");
        let expected = format!("{head}{}\r\n{spam}{message}", message.len());
        assert_eq!(response(Command::Process), expected);
        assert!(response(Command::Headers).ends_with(&format!("A: b\r\n{field}\r\n")));
        let told = String::from_utf8(told(Some(Act::Forget), true)).unwrap();
        assert!(told.contains("DidRemove: local\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_refused(bytes: Vec<u8>) {
            drop(Head::parse(&bytes));
            drop(Head::parse(&[b"CHECK SPAMC/1.5\n", &bytes[..]].concat()));
        }

        #[test]
        fn any_message_is_answered(message: Vec<u8>, fields: Vec<u8>) {
            let verdict = Verdict { header_fields: fields, ..verdict() };
            for command in [Command::Headers, Command::Process, Command::Symbols] {
                judged(command, &verdict, &message);
            }
        }

        #[test]
        fn the_head_is_found_wherever_data_is_cut(cut in 0..30_usize) {
            let whole = b"CHECK SPAMC/1.5\r\nUser: a\r\n\r\nmessage";
            let found = head_len(&whole[..cut.min(whole.len())]);
            prop_assert_eq!(found, (cut >= 28).then_some(28));
        }
    }
}
