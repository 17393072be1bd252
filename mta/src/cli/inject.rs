//! Gives a message to the server, as `postern sendmail` and `postern qmail-queue`
//! do: SMTP over the socket for programs of this machine.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::remote::dialogue::{Replies, data};
use crate::smtp::Reply;

/// A message and where it goes; addresses as they are said in SMTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// Who gets reports; empty for nobody.
    pub from: &'a str,
    /// Where it goes.
    pub to: &'a [String],
    /// With LF line ends.
    pub message: &'a [u8],
}

/// Why a message was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// The server does not answer.
    NoServer(io::Error),
    /// It refuses; transient or permanent. The address is that of a recipient
    /// whom it does not take.
    Refused(Option<String>, Reply),
}

/// For an answer: as long as a scanner may think, and more.
const PATIENCE: Duration = Duration::from_secs(600);

/// Hands a message over, to all its recipients or to none.
///
/// # Errors
/// When the server at `socket` does not take it.
pub fn inject(socket: &Path, letter: &Letter<'_>) -> Result<(), NotTaken> {
    let mut talk = Talk {
        stream: UnixStream::connect(socket).map_err(NotTaken::NoServer)?,
        replies: Replies::default(),
    };
    for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
        set(&talk.stream, Some(PATIENCE)).map_err(NotTaken::NoServer)?;
    }
    talk.expect(2, None)?;
    talk.ask("EHLO localhost", 2)?;
    let wants_utf8 = !letter.from.is_ascii() || letter.to.iter().any(|to| !to.is_ascii());
    let utf8 = if wants_utf8 { " SMTPUTF8" } else { "" };
    talk.ask(
        &format!("MAIL FROM:<{}> BODY=8BITMIME{utf8}", letter.from),
        2,
    )?;
    for to in letter.to {
        talk.say(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
        talk.expect(2, Some(to))?;
    }
    talk.ask("DATA", 3)?;
    talk.say(&data(letter.message))?;
    talk.expect(2, None)
}

struct Talk {
    stream: UnixStream,
    replies: Replies,
}

impl Talk {
    fn ask(&mut self, line: &str, class: u16) -> Result<(), NotTaken> {
        self.say(format!("{line}\r\n").as_bytes())?;
        self.expect(class, None)
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), NotTaken> {
        self.stream.write_all(bytes).map_err(NotTaken::NoServer)
    }

    fn expect(&mut self, class: u16, about: Option<&String>) -> Result<(), NotTaken> {
        let reply = self.reply().map_err(NotTaken::NoServer)?;
        match reply.code.get() / 100 == class {
            true => Ok(()),
            false => Err(NotTaken::Refused(about.cloned(), reply)),
        }
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut buffer = [0; 4096];
        loop {
            match self.replies.next() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(_) => return Err(io::Error::other("it does not speak SMTP")),
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.replies.receive(&buffer[..n]),
            }
        }
    }
}

impl NotTaken {
    /// Whether it may be taken later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoServer(_) => true,
            Self::Refused(_, reply) => !reply.code.is_permanent(),
        }
    }
}

impl std::fmt::Display for NotTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoServer(error) => write!(f, "the server does not answer: {error}"),
            Self::Refused(None, reply) => write!(f, "{reply}"),
            Self::Refused(Some(address), reply) => write!(f, "{address}: {reply}"),
        }
    }
}

/// An address with a domain.
pub fn with_domain(address: &str, domain: &str) -> String {
    match address.contains('@') || address.is_empty() {
        true => address.to_owned(),
        false => format!("{address}@{domain}"),
    }
}
