//! What `bmf` and `bmfd` say to each other over a Unix socket.
//!
//! Bytes only: no socket, no clock. Both sides use this module, so that there
//! is one parser. A client connects, sends a request, reads its reply, and so
//! on until it closes the connection. Integers are big-endian.
//!
//! # Frame, version 1
//!
//! | bytes | |
//! | --- | --- |
//! | 0-2 | `bmf` |
//! | 3 | version, 1 |
//! | 4 | kind |
//! | 5-7 | 0 |
//! | 8-11 | bytes that follow |
//!
//! # Requests
//!
//! | kind | | what follows |
//! | --- | --- | --- |
//! | 1 | a message | mode (0 register, 1 test, 2 ham, 3 spam, 4 to ham, 5 to spam); output (0 nothing, 1 report, 2 JSON, 3 explanation, 4 terse); engine (0 any, 1 classic, 2 modern); 1: need not be on disk before the reply, else 0; 4 bytes: tokens that decide; a text: whose model, empty for one's own; the rest: the message |
//! | 2 | a database to take over | engine (1, 2); the rest: the database as text, nothing if there is none |
//! | 3 | a command for administrators | 2 bytes: how many arguments; the arguments, texts; the rest: its input |
//!
//! # Replies
//!
//! | kind | | what follows |
//! | --- | --- | --- |
//! | 128 | a verdict | 1: spam, else 0; 4 bytes: length of the header fields; the header fields; the rest: what is to be printed |
//! | 129 | no word in the message | |
//! | 130 | taken over | 32 bytes: the key by which mail for the client's user is marked ([`MarkKey`]) |
//! | 131 | refused | 1: try again later, 2: not your model, 3: another version or no request, else 0; the rest: the reason, UTF-8 |
//! | 132 | a command's output | exit code; the rest: the output |
//!
//! A *text* is 2 bytes, its length, and as many bytes of UTF-8.
//!
//! A side that finds another version, or what is no frame, says so (131) if it
//! is the daemon, and closes the connection.
//!
//! ```
//! use classifier::cli::wire::{Header, Reply, HEADER_LEN};
//!
//! let bytes = Reply::NoWord.to_bytes();
//! let header = Header::parse(bytes.first_chunk().expect("a header"))?;
//! assert_eq!(Reply::parse(header, &bytes[HEADER_LEN..])?, Reply::NoWord);
//! # Ok::<(), classifier::cli::wire::Malformed>(())
//! ```

use super::{Engine, Mode, Output};
use crate::mark::MarkKey;

/// The version that this program speaks.
pub const VERSION: u8 = 1;

/// Bytes before what follows.
pub const HEADER_LEN: usize = 12;

const MAGIC: &[u8; 3] = b"bmf";
const MESSAGE: u8 = 1;
const TAKE_OVER: u8 = 2;
const COMMAND: u8 = 3;
const VERDICT: u8 = 128;
const NO_WORD: u8 = 129;
const TAKEN_OVER: u8 = 130;
const REFUSED: u8 = 131;
const PRINTED: u8 = 132;

/// The beginning of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: u8,
    /// How many bytes follow.
    pub len: u32,
}

/// Why bytes are no frame of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin as frames do.
    #[error("this is no frame")]
    NoFrame,
    /// The other side is older or newer.
    #[error(
        "the other side speaks version {0}, and this one speaks version 1: install bmf and bmfd of the same version, \
             or go back to it (docs/upgrades.md)"
    )]
    Version(u8),
    /// There is no such kind from that side.
    #[error("there is no kind {0}")]
    Kind(u8),
    /// What follows makes no sense.
    #[error("a frame of kind {0} makes no sense")]
    Content(u8),
}

impl Header {
    /// # Errors
    /// When it is no header of this version.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, Malformed> {
        let [b'b', b'm', b'f', version, kind, zeros @ ..] = *bytes else {
            return Err(Malformed::NoFrame);
        };
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let [0, 0, 0, len @ ..] = zeros else {
            return Err(Malformed::NoFrame);
        };
        Ok(Self {
            kind,
            len: u32::from_be_bytes(len),
        })
    }

    /// Whether this request may be longer than a message: it carries what
    /// somebody's whole database holds.
    pub fn may_be_long(self) -> bool {
        matches!(self.kind, TAKE_OVER | COMMAND)
    }
}

/// What is asked about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What to learn from it.
    pub mode: Mode,
    /// What to print about it.
    pub output: Output,
    /// The engine that the model must be of.
    pub engine: Option<Engine>,
    /// Whether what was learned must be on disk before the reply.
    pub syncs: bool,
    /// Tokens that decide, in the classic engine.
    pub n_extrema: u32,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// That a message is judged, learned, or both.
    Message {
        /// How.
        ask: Ask,
        /// Whose model; empty: the client's own.
        user: &'a str,
        /// Any bytes.
        message: &'a [u8],
    },
    /// That the client's database becomes its model here.
    TakeOver {
        /// Of which engine it is.
        engine: Engine,
        /// All of it; empty when there is none.
        text: &'a [u8],
    },
    /// What only an administrator may.
    Command {
        /// As on the command line of `bmfd`.
        args: Vec<&'a str>,
        /// Its standard input.
        input: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// All of the frame but the message itself, which may be long and need
    /// not be copied.
    pub fn message_head(ask: Ask, user: &str, message_len: usize) -> Option<Vec<u8>> {
        let user_len = u16::try_from(user.len()).ok()?;
        let mut content = vec![
            mode_number(ask.mode),
            output_number(ask.output),
            engine_number(ask.engine),
            u8::from(!ask.syncs),
        ];
        content.extend_from_slice(&ask.n_extrema.to_be_bytes());
        content.extend_from_slice(&user_len.to_be_bytes());
        content.extend_from_slice(user.as_bytes());
        let mut head = header(MESSAGE, content.len().checked_add(message_len)?)?;
        head.extend_from_slice(&content);
        Some(head)
    }

    /// The whole frame. `None`: it were too long.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Message { ask, user, message } => {
                let mut frame = Self::message_head(*ask, user, message.len())?;
                frame.extend_from_slice(message);
                Some(frame)
            }
            Self::TakeOver { engine, text } => {
                let mut frame = header(TAKE_OVER, text.len().checked_add(1)?)?;
                frame.push(engine_number(Some(*engine)));
                frame.extend_from_slice(text);
                Some(frame)
            }
            Self::Command { args, input } => {
                let mut content = u16::try_from(args.len()).ok()?.to_be_bytes().to_vec();
                for arg in args {
                    content.extend_from_slice(&u16::try_from(arg.len()).ok()?.to_be_bytes());
                    content.extend_from_slice(arg.as_bytes());
                }
                let mut frame = header(COMMAND, content.len().checked_add(input.len())?)?;
                frame.extend_from_slice(&content);
                frame.extend_from_slice(input);
                Some(frame)
            }
        }
    }

    /// Understands what follows `header`.
    ///
    /// # Errors
    /// When it is no request.
    pub fn parse(header: Header, content: &'a [u8]) -> Result<Self, Malformed> {
        let kind = header.kind;
        let parsed = match kind {
            MESSAGE => Self::parse_message(content),
            TAKE_OVER => content.split_first().and_then(|(engine, text)| {
                let engine = engine_of(*engine)??;
                Some(Self::TakeOver { engine, text })
            }),
            COMMAND => Self::parse_command(content),
            kind => return Err(Malformed::Kind(kind)),
        };
        parsed.ok_or(Malformed::Content(kind))
    }

    fn parse_message(content: &'a [u8]) -> Option<Self> {
        let ([mode, output, engine, relaxed], mut rest) = content.split_first_chunk()?;
        let ask = Ask {
            mode: mode_of(*mode)?,
            output: output_of(*output)?,
            engine: engine_of(*engine)?,
            syncs: *relaxed == 0,
            n_extrema: take_u32(&mut rest)?,
        };
        let user = take_text(&mut rest)?;
        Some(Self::Message {
            ask,
            user,
            message: rest,
        })
    }

    fn parse_command(mut content: &'a [u8]) -> Option<Self> {
        let n = take_u16(&mut content)?;
        let mut args = Vec::new();
        for _ in 0..n {
            args.push(take_text(&mut content)?);
        }
        Some(Self::Command {
            args,
            input: content,
        })
    }
}

/// What is to be said of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is spam.
    pub is_spam: bool,
    /// The header fields of `-p`, each line ended by LF.
    pub header_fields: Vec<u8>,
    /// For standard output.
    pub printed: Vec<u8>,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be.
    Failed,
    /// The same request may be done later.
    TryAgain,
    /// The client may not read or write that model.
    NotYours,
    /// It is none, or of another version.
    NoRequest,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer to a message.
    Verdict(Verdict),
    /// There is nothing to score in the message.
    NoWord,
    /// It is not done.
    Refused(Refusal, String),
    /// The client's database is held here; what it files by a verdict of its
    /// own is marked with this key.
    TakenOver(MarkKey),
    /// What a command prints.
    Printed {
        /// Its exit code.
        exit: u8,
        /// Its output.
        output: Vec<u8>,
    },
}

impl Reply {
    /// The whole frame. What were too long is refused instead.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, parts): (u8, [&[u8]; 3]) = match self {
            Self::Verdict(verdict) => {
                let Verdict {
                    is_spam,
                    header_fields,
                    printed,
                } = verdict;
                let mut head = vec![u8::from(*is_spam)];
                head.extend_from_slice(&(header_fields.len() as u32).to_be_bytes());
                return frame(VERDICT, &[&head, header_fields, printed]);
            }
            Self::NoWord => (NO_WORD, [&[]; 3]),
            Self::Refused(refusal, reason) => {
                let number = [match refusal {
                    Refusal::Failed => 0,
                    Refusal::TryAgain => 1,
                    Refusal::NotYours => 2,
                    Refusal::NoRequest => 3,
                }];
                return frame(REFUSED, &[&number, reason.as_bytes()]);
            }
            Self::TakenOver(key) => return frame(TAKEN_OVER, &[key.as_bytes()]),
            Self::Printed { exit, output } => return frame(PRINTED, &[&[*exit], output]),
        };
        frame(kind, &parts)
    }

    /// Understands what follows `header`.
    ///
    /// # Errors
    /// When it is no reply.
    pub fn parse(header: Header, content: &[u8]) -> Result<Self, Malformed> {
        let kind = header.kind;
        let parsed = match kind {
            VERDICT => Self::parse_verdict(content),
            NO_WORD => content.is_empty().then_some(Self::NoWord),
            REFUSED => content.split_first().map(|(number, reason)| {
                let refusal = match number {
                    1 => Refusal::TryAgain,
                    2 => Refusal::NotYours,
                    3 => Refusal::NoRequest,
                    _ => Refusal::Failed,
                };
                Self::Refused(refusal, String::from_utf8_lossy(reason).into_owned())
            }),
            TAKEN_OVER => MarkKey::from_bytes(content).map(Self::TakenOver),
            PRINTED => content.split_first().map(|(exit, output)| Self::Printed {
                exit: *exit,
                output: output.to_vec(),
            }),
            kind => return Err(Malformed::Kind(kind)),
        };
        parsed.ok_or(Malformed::Content(kind))
    }

    fn parse_verdict(content: &[u8]) -> Option<Self> {
        let (is_spam, mut rest) = content.split_first()?;
        let len = take_u32(&mut rest)?;
        let (header_fields, printed) = rest.split_at_checked(len as usize)?;
        Some(Self::Verdict(Verdict {
            is_spam: *is_spam == 1,
            header_fields: header_fields.to_vec(),
            printed: printed.to_vec(),
        }))
    }
}

fn header(kind: u8, len: usize) -> Option<Vec<u8>> {
    let len = u32::try_from(len).ok()?;
    let mut bytes = Vec::with_capacity(HEADER_LEN + 64);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, kind, 0, 0, 0]);
    bytes.extend_from_slice(&len.to_be_bytes());
    Some(bytes)
}

fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum();
    match header(kind, len) {
        Some(mut bytes) => {
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            bytes
        }
        None => Reply::Refused(Refusal::Failed, "the reply is too long".into()).to_bytes(),
    }
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    let (n, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u16::from_be_bytes(*n))
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (n, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*n))
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = take_u16(bytes)?;
    let (text, rest) = bytes.split_at_checked(len.into())?;
    *bytes = rest;
    str::from_utf8(text).ok()
}

const MODES: [Mode; 6] = [
    Mode::Register,
    Mode::Test,
    Mode::Ham,
    Mode::Spam,
    Mode::ToHam,
    Mode::ToSpam,
];

const OUTPUTS: [Output; 5] = [
    Output::Nothing,
    Output::Report,
    Output::Json,
    Output::Explanation,
    Output::Terse,
];

fn mode_number(mode: Mode) -> u8 {
    MODES.iter().take_while(|other| **other != mode).count() as u8
}

fn mode_of(number: u8) -> Option<Mode> {
    MODES.get(usize::from(number)).copied()
}

fn output_number(output: Output) -> u8 {
    OUTPUTS.iter().take_while(|other| **other != output).count() as u8
}

fn output_of(number: u8) -> Option<Output> {
    OUTPUTS.get(usize::from(number)).copied()
}

fn engine_number(engine: Option<Engine>) -> u8 {
    match engine {
        None => 0,
        Some(Engine::Classic) => 1,
        Some(Engine::Modern) => 2,
    }
}

fn engine_of(number: u8) -> Option<Option<Engine>> {
    match number {
        0 => Some(None),
        1 => Some(Some(Engine::Classic)),
        2 => Some(Some(Engine::Modern)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask() -> impl Strategy<Value = Ask> {
        let engine = prop_oneof![
            Just(None),
            Just(Some(Engine::Classic)),
            Just(Some(Engine::Modern))
        ];
        (0..6_u8, 0..4_u8, engine, any::<bool>(), any::<u32>()).prop_map(
            |(mode, output, engine, syncs, n_extrema)| Ask {
                mode: mode_of(mode).unwrap(),
                output: output_of(output).unwrap(),
                engine,
                syncs,
                n_extrema,
            },
        )
    }

    fn parsed(bytes: &[u8]) -> Request<'_> {
        let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
        assert_eq!(header.len as usize, bytes.len() - HEADER_LEN);
        Request::parse(header, &bytes[HEADER_LEN..]).unwrap()
    }

    proptest! {
        #[test]
        fn requests_come_back(ask in ask(), user: String, message: Vec<u8>, args: Vec<String>) {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            for request in [
                Request::Message { ask, user: &user, message: &message },
                Request::TakeOver { engine: Engine::Modern, text: &message },
                Request::Command { args, input: &message },
            ] {
                let bytes = request.to_bytes().unwrap();
                prop_assert_eq!(parsed(&bytes), request);
            }
        }

        #[test]
        fn replies_come_back(is_spam: bool, fields: Vec<u8>, printed: Vec<u8>, reason: String) {
            let verdict = Verdict { is_spam, header_fields: fields, printed: printed.clone() };
            for reply in [
                Reply::Verdict(verdict),
                Reply::NoWord,
                Reply::TakenOver(MarkKey::of_user(&[1; 32], &reason)),
                Reply::Refused(Refusal::NotYours, reason),
                Reply::Printed { exit: 1, output: printed },
            ] {
                let bytes = reply.to_bytes();
                let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
                prop_assert_eq!(Reply::parse(header, &bytes[HEADER_LEN..]), Ok(reply));
            }
        }

        #[test]
        fn any_bytes_are_understood_or_refused(kind: u8, bytes: Vec<u8>, head: [u8; HEADER_LEN]) {
            let _ = Header::parse(&head);
            let header = Header { kind, len: bytes.len() as u32 };
            if let Ok(request) = Request::parse(header, &bytes) {
                prop_assert_eq!(Request::parse(header, &bytes), Ok(request));
            }
            drop(Reply::parse(header, &bytes));
        }
    }

    /// The format is a promise between programs of different days.
    #[test]
    fn bytes_of_version_1() {
        let ask = Ask {
            mode: Mode::ToSpam,
            output: Output::Json,
            engine: Some(Engine::Classic),
            syncs: false,
            n_extrema: 15,
        };
        let request = Request::Message {
            ask,
            user: "ann",
            message: b"m",
        };
        assert_eq!(
            request.to_bytes().unwrap(),
            b"bmf\x01\x01\0\0\0\0\0\0\x0e\x05\x02\x01\x01\0\0\0\x0f\0\x03annm"
        );
        let reply = Reply::Verdict(Verdict {
            is_spam: true,
            header_fields: b"X: y\n".to_vec(),
            printed: b"p".to_vec(),
        });
        assert_eq!(
            reply.to_bytes(),
            b"bmf\x01\x80\0\0\0\0\0\0\x0b\x01\0\0\0\x05X: y\np"
        );
        let refused = Reply::Refused(Refusal::TryAgain, "full".into());
        assert_eq!(refused.to_bytes(), b"bmf\x01\x83\0\0\0\0\0\0\x05\x01full");
    }

    #[test]
    fn another_version_is_named() {
        let check = |bytes: &[u8; HEADER_LEN], expected| {
            assert_eq!(Header::parse(bytes), Err(expected));
        };
        check(b"bmf\x02\x01\0\0\0\0\0\0\0", Malformed::Version(2));
        check(b"bmf\x01\x01\x01\0\0\0\0\0\0", Malformed::NoFrame);
        check(b"GET / HTTP/1", Malformed::NoFrame);
    }
}
