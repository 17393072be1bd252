//! One connection to another host, and what is sent over it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::error;

use super::dialogue::{Capabilities, Replies, Wire};
use super::letter::Letter;
use super::{Credentials, Parcel, REPORTS, Results};
use crate::smtp::Reply;

/// What a connection is made with.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// What we call ourselves.
    pub(super) host: String,
    pub(super) connect_time: Duration,
    pub(super) reply_time: Duration,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
}

/// How much TLS there must be.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// Where it is offered, whoever the other is (RFC 7435).
    Offered(Arc<ClientConfig>),
    /// By STARTTLS.
    Required(Arc<ClientConfig>),
    /// From the first byte (RFC 8314 §3.3).
    Implicit(Arc<ClientConfig>),
    /// After TLS has failed where it was only offered.
    None,
}

/// Why a connection is of no use. The reply is what the next host's failure,
/// or the recipients, are told.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nobody answered, or not in SMTP.
    Unreachable(Reply),
    /// The handshake failed.
    Tls(Reply),
    /// The server does not want us.
    Refused(Reply),
}

impl Broken {
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::Unreachable(reply) | Self::Tls(reply) | Self::Refused(reply) => reply,
        }
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection on which mail can be sent.
pub(super) struct Connection {
    stream: Box<dyn Bytes>,
    replies: Replies,
    capabilities: Capabilities,
    manner: Manner,
    /// Whom it leads to, for people.
    peer: String,
}

impl Connection {
    /// Connects, greets, and logs in, to `host` at `address`.
    pub(super) async fn open(
        host: &str,
        address: SocketAddr,
        manner: &Manner,
    ) -> Result<Self, Broken> {
        let peer = format!("{host} [{}]", address.ip());
        let unreachable = |error: io::Error| {
            let text = format!("cannot connect to {peer}: {error}");
            Broken::Unreachable(Reply::new(451, (4, 4, 1), text))
        };
        let connected = timeout(manner.connect_time, TcpStream::connect(address)).await;
        let stream = connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut connection = Self {
            stream: Box::new(stream),
            replies: Replies::default(),
            capabilities: Capabilities::default(),
            manner: manner.clone(),
            peer,
        };
        if let Security::Implicit(config) = &manner.security {
            connection = connection.encrypted(host, config).await?;
        }
        connection.expect("its greeting", &[2]).await?;
        connection.greet().await?;
        connection.secure(host).await
    }

    async fn secure(mut self, host: &str) -> Result<Self, Broken> {
        let config = match &self.manner.security {
            Security::Offered(config) if self.capabilities.starttls => Arc::clone(config),
            Security::Required(config) => Arc::clone(config),
            _ => return self.logged_in().await,
        };
        if !self.capabilities.starttls {
            let text = format!("{} offers no TLS, which the route requires", self.peer);
            return Err(Broken::Refused(Reply::new(451, (4, 7, 5), text)));
        }
        self.say("STARTTLS\r\n").await?;
        self.expect("STARTTLS", &[2]).await?;
        if self.replies.has_more() {
            let text = format!("{} said more than it was asked before TLS", self.peer);
            return Err(Broken::Tls(Reply::new(451, (4, 7, 5), text)));
        }
        let mut encrypted = self.encrypted(host, &config).await?;
        // RFC 3207 §4.2: what was said in clear does not count.
        encrypted.greet().await?;
        encrypted.logged_in().await
    }

    async fn encrypted(mut self, host: &str, config: &Arc<ClientConfig>) -> Result<Self, Broken> {
        let failed = |peer: &str, error: &dyn std::fmt::Display| {
            let text = format!("no TLS with {peer}: {error}");
            Broken::Tls(Reply::new(451, (4, 7, 5), text))
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| failed(&self.peer, &e))?;
        let connector = TlsConnector::from(Arc::clone(config));
        let handshake = timeout(
            self.manner.connect_time,
            connector.connect(name, self.stream),
        );
        let stream = handshake
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| failed(&self.peer, &error))?;
        self.stream = Box::new(stream);
        Ok(self)
    }

    async fn logged_in(mut self) -> Result<Self, Broken> {
        let Some(credentials) = self.manner.credentials.clone() else {
            return Ok(self);
        };
        let Some(lines) = self.capabilities.auth(&credentials) else {
            let text = format!("{} lets nobody log in by PLAIN or LOGIN", self.peer);
            return Err(Broken::Refused(Reply::new(451, (4, 7, 0), text)));
        };
        let last = lines.len() - 1;
        for (n, line) in lines.iter().enumerate() {
            self.say(line).await?;
            let classes: &[u16] = if n == last { &[2] } else { &[3] };
            self.expect("AUTH", classes).await?;
        }
        Ok(self)
    }

    /// RFC 5321 §4.1.4: EHLO, and HELO where that is not known.
    async fn greet(&mut self) -> Result<(), Broken> {
        let host = self.manner.host.clone();
        self.say(&format!("EHLO {host}\r\n")).await?;
        let reply = self.reply().await?;
        if reply.code.is_positive() {
            self.capabilities = Capabilities::read(&reply);
            return Ok(());
        }
        if !reply.code.is_permanent() {
            return Err(self.refused("EHLO", &reply));
        }
        self.say(&format!("HELO {host}\r\n")).await?;
        self.capabilities = Capabilities::default();
        self.expect("HELO", &[2]).await.map(drop)
    }

    /// Sends a parcel. `Err` when the connection is of no use any more, with
    /// what is known of each recipient.
    pub(super) async fn send(&mut self, parcel: &Parcel<'_>) -> Result<Results, Results> {
        let n = parcel.recipients.len();
        let octets = parcel.message.octets();
        if let Some(reply) = self.capabilities.refuses(parcel, octets) {
            return Ok(vec![Err(reply); n]);
        }
        self.transact(parcel)
            .await
            .map_err(|broken| vec![Err(broken.reply()); n])
    }

    async fn transact(&mut self, parcel: &Parcel<'_>) -> Result<Results, Broken> {
        let octets = parcel.message.octets();
        let mail = self.capabilities.mail(parcel, octets);
        let rcpts = parcel.recipients.iter();
        let rcpts: Vec<String> = rcpts.map(|one| self.capabilities.rcpt(one)).collect();
        let pipelined = self.capabilities.pipelining;
        if pipelined {
            // RFC 2920 §3.1: DATA is the last of a group.
            self.say(&(mail.clone() + &rcpts.concat() + "DATA\r\n"))
                .await?;
        } else {
            self.say(&mail).await?;
        }
        let mail_reply = self.reply().await?;
        let is_begun = mail_reply.code.is_positive();
        let mut results: Results = Vec::new();
        for rcpt in &rcpts {
            if !pipelined && !is_begun {
                break;
            }
            if !pipelined {
                self.say(rcpt).await?;
            }
            let reply = self.reply().await?;
            results.push(match reply.code.is_positive() {
                true => Ok(self.taken()),
                false => Err(negative(reply)),
            });
        }
        if !is_begun {
            results = vec![Err(negative(mail_reply)); rcpts.len()];
        }
        let some = results.iter().any(Result::is_ok);
        if !pipelined && !some {
            self.reset().await?;
            return Ok(results);
        }
        if !pipelined {
            self.say("DATA\r\n").await?;
        }
        let go_on = self.reply().await?;
        let end = match (go_on.code.is_intermediate(), some) {
            (true, true) => {
                self.write_letter(parcel.message).await?;
                self.reply().await?
            }
            // RFC 2920 §3.1: without recipients the message is empty.
            (true, false) => {
                self.say(".\r\n").await?;
                self.reply().await?
            }
            (false, _) => go_on,
        };
        if !end.code.is_positive() {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(negative(end.clone()));
            }
            self.reset().await?;
        }
        Ok(results)
    }

    /// Whether the connection is fit for another parcel.
    async fn reset(&mut self) -> Result<(), Broken> {
        self.say("RSET\r\n").await?;
        self.expect("RSET", &[2]).await.map(drop)
    }

    /// Says goodbye, without waiting for an answer.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            self.stream.write_all(b"QUIT\r\n").await?;
            self.stream.shutdown().await
        };
        let _ = timeout(Duration::from_secs(5), goodbye).await;
    }

    fn taken(&self) -> String {
        match self.capabilities.dsn {
            true => format!("{}{REPORTS}", self.peer),
            false => self.peer.clone(),
        }
    }

    async fn say(&mut self, text: &str) -> Result<(), Broken> {
        self.write(text.as_bytes()).await
    }

    /// An error leaves the message without its end, so that nobody takes it for
    /// a whole one.
    async fn write_letter(&mut self, letter: &Letter) -> Result<(), Broken> {
        let (mut wire, mut at) = (Wire::default(), 0);
        loop {
            let piece = letter.piece(at).await.map_err(|error| {
                error!(%error, "a queue file cannot be read");
                let text = "this host cannot read the message";
                Broken::Unreachable(Reply::new(451, (4, 3, 0), text))
            })?;
            at += piece.len() as u64;
            let mut bytes = wire.push(&piece);
            let is_last = at >= letter.size();
            if is_last {
                bytes.extend_from_slice(wire.end());
            }
            self.write(&bytes).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let written = timeout(self.manner.reply_time, written).await;
        written
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.lost(&error))
    }

    async fn reply(&mut self) -> Result<Reply, Broken> {
        let mut buffer = [0; 4096];
        loop {
            match self.replies.next() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(_) => {
                    let text = format!("{} does not speak SMTP", self.peer);
                    return Err(Broken::Unreachable(Reply::new(451, (4, 5, 0), text)));
                }
            }
            let read = timeout(self.manner.reply_time, self.stream.read(&mut buffer)).await;
            match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(0) => return Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.replies.receive(&buffer[..n]),
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    /// A reply of one of these classes.
    async fn expect(&mut self, to: &str, classes: &[u16]) -> Result<Reply, Broken> {
        let reply = self.reply().await?;
        match classes.contains(&(reply.code.get() / 100)) {
            true => Ok(reply),
            false => Err(self.refused(to, &reply)),
        }
    }

    /// Before MAIL nothing is said of the message yet: another host, or
    /// another time, may do (RFC 5321 §4.2.4.2 on 5yz greetings).
    fn refused(&self, to: &str, reply: &Reply) -> Broken {
        let text = format!("{} answers {to} with {reply}", self.peer);
        Broken::Refused(Reply::new(451, (4, 3, 0), text))
    }

    fn lost(&self, error: &io::Error) -> Broken {
        let text = format!("lost the connection with {}: {error}", self.peer);
        Broken::Unreachable(Reply::new(451, (4, 4, 2), text))
    }
}

/// A server that says something strange (2yz to DATA, 3yz to RCPT) is asked
/// again later.
fn negative(reply: Reply) -> Reply {
    if reply.code.is_transient() || reply.code.is_permanent() {
        return reply;
    }
    Reply::new(451, (4, 5, 0), format!("that server answered {reply}"))
}
