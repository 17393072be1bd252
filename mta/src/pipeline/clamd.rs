//! Asking clamd whether a message holds something known to be harmful.
//!
//! Over a Unix socket a message that lies in a file is passed as a descriptor
//! (FILDES), everything else is sent (INSTREAM). Source: clamd(8). What is
//! neither `OK` nor `FOUND` is a failure of the scanner and never "clean".

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::message::Message;

/// A clamd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clamd {
    /// Where it listens.
    pub address: Address,
    /// For how long it may be silent. Default: a minute.
    pub patience: Duration,
}

/// Where a clamd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `/run/clamav/clamd.ctl`
    Unix(PathBuf),
    /// `127.0.0.1:3310`
    Tcp(SocketAddr),
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Nothing.
    Clean,
    /// This.
    Infected(String),
}

impl Clamd {
    /// A clamd that may think for a minute.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            patience: Duration::from_secs(60),
        }
    }

    /// Scans a message. Blocks.
    ///
    /// # Errors
    /// When it cannot be reached, does not answer, or could not scan it.
    pub fn scan(&self, message: &Message) -> io::Result<Scan> {
        match (&self.address, message.file()) {
            (Address::Unix(path), file) => {
                let mut stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(self.patience))?;
                stream.set_write_timeout(Some(self.patience))?;
                match file {
                    Some(file) => pass(&mut stream, file)?,
                    None => self.send(&mut stream, &message.bytes()?)?,
                }
                read_answer(&mut stream)
            }
            (Address::Tcp(address), _) => {
                let mut stream = TcpStream::connect_timeout(address, self.patience)?;
                stream.set_read_timeout(Some(self.patience))?;
                stream.set_write_timeout(Some(self.patience))?;
                self.send(&mut stream, &message.bytes()?)?;
                read_answer(&mut stream)
            }
        }
    }

    /// Sends it in chunks. A write that fails may follow an answer, "too
    /// large", which is read all the same.
    fn send(&self, stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let mut all = || {
            stream.write_all(b"zINSTREAM\0")?;
            for chunk in bytes.chunks(MAX_CHUNK) {
                let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                stream.write_all(&len.to_be_bytes())?;
                stream.write_all(chunk)?;
            }
            stream.write_all(&0_u32.to_be_bytes())
        };
        match all() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            sent => sent,
        }
    }
}

const MAX_CHUNK: usize = 64 * 1024;

/// Passes an open file; its offset does not matter to clamd.
fn pass(stream: &mut UnixStream, file: &File) -> io::Result<()> {
    stream.write_all(b"zFILDES\0")?;
    let descriptors = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        stream,
        &[IoSlice::new(b"\0")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// Reads an answer, of which no more than 4 KiB count.
pub(crate) fn read_answer(stream: &mut impl Read) -> io::Result<Scan> {
    let mut answer = Vec::new();
    let mut limited = stream.take(4096);
    loop {
        let mut byte = [0; 256];
        match limited.read(&mut byte) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&byte[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Reset after the answer was sent.
            Err(_) if answer.ends_with(b"\0") => break,
            Err(error) => return Err(error),
        }
        if answer.ends_with(b"\0") {
            break;
        }
    }
    parse_answer(&answer)
}

fn parse_answer(answer: &[u8]) -> io::Result<Scan> {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim_end_matches(['\0', '\n']);
    if let Some(found) = text.strip_suffix(" FOUND") {
        let name = found.split_once(": ").map_or(found, |(_, name)| name);
        return Ok(Scan::Infected(name.to_owned()));
    }
    if text.ends_with(": OK") {
        return Ok(Scan::Clean);
    }
    Err(io::Error::other(format!("clamd answers {text:?}")))
}

impl FromStr for Address {
    type Err = String;

    /// A path, or an address with a port.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| format!("{text:?} is neither a path nor an address with a port"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn answers_are_read_and_nothing_unknown_is_clean() {
        let infected = |name: &str| Some(Scan::Infected(name.to_owned()));
        for (answer, expected) in [
            ("stream: OK\0", Some(Scan::Clean)),
            ("fd[12]: OK\0", Some(Scan::Clean)),
            (
                "stream: Eicar-Test-Signature FOUND\0",
                infected("Eicar-Test-Signature"),
            ),
            (
                "stream: X.UNOFFICIAL(aa:68) FOUND\0",
                infected("X.UNOFFICIAL(aa:68)"),
            ),
            ("INSTREAM size limit exceeded. ERROR\0", None),
            ("UNKNOWN COMMAND\0", None),
            ("OK", None),
            ("", None),
        ] {
            assert_eq!(parse_answer(answer.as_bytes()).ok(), expected, "{answer:?}");
        }
    }

    /// A clamd that answers so, after it has read everything or nothing.
    fn scanned(answer: &'static [u8], reads: bool, large: bool) -> io::Result<Scan> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clamd");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            let mut buffer = [0; 4096];
            while reads && !all.ends_with(b"\0\0\0\0") && !all.ends_with(b"zFILDES\0\0") {
                let n = stream.read(&mut buffer).unwrap();
                all.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(answer).unwrap();
            all
        });
        let mut message = Message::new(dir.path());
        message
            .write(&vec![b'x'; if large { 300_000 } else { 100_000 }])
            .unwrap();
        let mut clamd = Clamd::new(Address::Unix(path));
        clamd.patience = Duration::from_secs(5);
        let scan = clamd.scan(&message);
        let all = server.join().unwrap();
        assert!(!reads || large || all.len() > 100_000);
        scan
    }

    #[test]
    fn a_message_is_sent_or_passed_and_a_hasty_answer_is_heard() {
        assert_eq!(scanned(b"stream: OK\0", true, false).unwrap(), Scan::Clean);
        assert_eq!(
            scanned(b"fd[1]: X FOUND\0", true, true).unwrap(),
            Scan::Infected("X".into())
        );
        assert!(scanned(b"INSTREAM size limit exceeded. ERROR\0", false, false).is_err());
        assert!(scanned(b"", true, false).is_err());
    }

    #[test]
    fn addresses() {
        for text in ["/run/clamav/clamd.ctl", "127.0.0.1:3310", "[::1]:3310"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!("localhost".parse::<Address>().is_err());
    }
}
