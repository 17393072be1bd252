//! Does what a session says, until it says to close.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info, warn};

use super::stream::Stream;
use super::tls::{self, Certificates};
use crate::gate::plugins::End;
use crate::gate::told;
use crate::gate::visit::Visit;
use crate::handover::{Decision, Host, Login, TurnedAway};
use crate::message::Message;
use crate::smtp::session::{Action, Outcome, Session};
use crate::smtp::{Envelope, ForwardPath, Tls};

/// What a driver needs besides its client.
#[derive(Debug)]
pub struct Surroundings<H> {
    /// Who decides, and takes messages.
    pub host: Arc<H>,
    /// Where large messages lie while they come in.
    pub spool: Box<Path>,
    /// For TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Turns to true when the server ends.
    pub stopping: watch::Receiver<bool>,
}

/// After this, clients that are still sending when the server ends are cut
/// off: they were promised nothing.
pub const GRACE: Duration = Duration::from_secs(30);
/// For writing a reply, and for the TLS handshake: RFC 5321 §4.5.3.2 gives a
/// server 5 minutes; so long no client is without reading.
const PATIENCE: Duration = Duration::from_secs(60);
/// Read at once; one buffer for each thread, since idle clients need none.
const BUFFER: usize = 64 * 1024;

/// Serves one client.
///
/// What is done seldom has its state in a box, so that a client who waits costs
/// little.
///
/// Dropped half-way, it leaves nothing behind unless a message is being
/// handed over, which the host then ends without an answer.
///
/// # Errors
/// When the connection breaks.
pub async fn drive<H: Host>(
    mut stream: Stream,
    mut session: Session,
    mut visit: Option<Visit>,
    around: &Surroundings<H>,
) -> io::Result<()> {
    let mut message = Message::new(&*around.spool);
    let mut stopping = around.stopping.clone();
    let mut cut_off: Option<Instant> = None;
    if let (Some(visit), Stream::Tcp(stream)) = (&mut visit, &stream) {
        visit.wait(stream).await;
    }
    loop {
        let Some(action) = session.poll() else {
            if cut_off.is_none() && *stopping.borrow_and_update() {
                cut_off = Some(Instant::now() + GRACE);
                session.shut_down();
                continue;
            }
            let wakes = [session.deadline(), cut_off].into_iter().flatten().min();
            let wakes = wakes.unwrap_or_else(|| Instant::now() + PATIENCE);
            tokio::select! {
                // The end comes first: a busy client must not outrun it.
                biased;
                // An error means that nobody is left to stop us.
                _ = stopping.changed(), if cut_off.is_none() => {}
                n = read(&mut stream, &mut session) => if n? == 0 {
                    debug!("the client has gone");
                    return Ok(());
                },
                () = sleep_until(wakes.into()) => session.receive(Instant::now(), b""),
            }
            if cut_off.is_some_and(|at| at <= Instant::now()) {
                return Ok(());
            }
            continue;
        };
        match action {
            Action::Send(bytes) => send(&mut stream, &bytes).await?,
            Action::Store(bytes) => {
                if let Err(error) = store(&mut message, bytes).await {
                    warn!(%error, "a message cannot be stored");
                    session.not_stored();
                }
            }
            Action::Discard => message = Message::new(&*around.spool),
            Action::FindSalt(name) => {
                let salt = around.host.salt(name).await;
                if let Err(refusal) = &salt {
                    warn!(reason = refusal.reason, "logging in is not possible now");
                }
                session.resume(Instant::now(), Outcome::Salted(salt));
            }
            Action::LogIn(attempt) => {
                let client = session.client();
                let mechanism = attempt.mechanism.name();
                let login = around.host.log_in(client, attempt).await;
                let peer = client.peer.map(tracing::field::display);
                match &login {
                    Login::As { account, .. } => info!(account, mechanism, peer, "logged in"),
                    // What was said for a name may be a password.
                    Login::Refused(refusal) => info!(
                        mechanism,
                        peer,
                        reply = %refusal.reply,
                        reason = refusal.reason,
                        "login refused"
                    ),
                }
                session.resume(Instant::now(), Outcome::LoggedIn(login));
            }
            Action::CheckSender(from) => {
                let client = session.client();
                let decision = around.host.check_sender(client, &from).await;
                if let Decision::Refuse(refusal) = &decision {
                    info!(
                        reverse_path = %from,
                        account = client.account,
                        peer = client.peer.map(tracing::field::display),
                        reply = %refusal.reply,
                        reason = refusal.reason,
                        "sender refused"
                    );
                }
                session.resume(Instant::now(), Outcome::Sender(decision));
            }
            Action::CheckRecipient(recipient) => {
                let to = &recipient.forward_path;
                let decision = match (&mut visit, session.envelope()) {
                    (Some(visit), Some(envelope)) => {
                        Box::pin(visit.check(&*around.host, envelope, to)).await
                    }
                    (None, Some(envelope)) => Box::pin(ungated(&*around.host, envelope, to)).await,
                    (_, None) => unreachable!("RCPT without MAIL"),
                };
                match visit.as_ref().and_then(Visit::end) {
                    Some(End::AtOnce) => return Ok(()),
                    Some(End::AfterReply) => session.shut_down(),
                    None => {}
                }
                session.resume(Instant::now(), Outcome::Recipient(decision));
            }
            Action::Commit(envelope) => {
                let whole = mem::replace(&mut message, Message::new(&*around.spool));
                let host = &*around.host;
                let answer = match &mut visit {
                    Some(visit) => Box::pin(visit.commit(host, *envelope, whole)).await,
                    None => Box::pin(host.commit(*envelope, whole)).await,
                };
                session.resume(Instant::now(), Outcome::Committed(answer));
            }
            Action::StartTls => {
                let (encrypted, agreed) = Box::pin(start_tls(stream, around)).await?;
                stream = encrypted;
                session.resume(Instant::now(), Outcome::TlsStarted(agreed));
            }
            Action::Close => {
                let _ = timeout(PATIENCE, stream.shutdown()).await;
                return Ok(());
            }
        }
    }
}

/// For those who pass the gate unseen.
async fn ungated<H: Host>(host: &H, envelope: &Envelope, to: &ForwardPath) -> Decision {
    let (client, from) = (&envelope.client, &envelope.reverse_path);
    let decision = host.check_recipient(client, from, to, envelope.size).await;
    told::log(envelope, to, &decision, None, None);
    if let Decision::Refuse(refusal) = &decision {
        let whom = TurnedAway {
            client: client.clone(),
            from: from.to_string(),
            to: vec![to.to_string()],
            refusal: refusal.clone(),
            seen: Vec::new(),
        };
        host.turned_away(whom).await;
    }
    decision
}

/// Gives the session what has come; 0 when the client has gone.
async fn read(stream: &mut Stream, session: &mut Session) -> io::Result<usize> {
    thread_local! {
        static BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    }
    poll_fn(|context| {
        BYTES.with_borrow_mut(|bytes| {
            let mut buffer = ReadBuf::new(bytes);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            let read = buffer.filled();
            session.receive(Instant::now(), read);
            Poll::Ready(Ok(read.len()))
        })
    })
    .await
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    timeout(PATIENCE, written).await?
}

/// Appends to a message; the disk only from a thread that may wait for it.
async fn store(message: &mut Message, bytes: &[u8]) -> io::Result<()> {
    if !message.leaves_memory(bytes.len()) {
        return message.write(bytes);
    }
    let mut large = mem::replace(message, Message::new(""));
    let bytes = bytes.to_vec();
    let written = tokio::task::spawn_blocking(move || {
        let written = large.write(&bytes);
        (large, written)
    });
    let (large, written) = written.await.map_err(io::Error::other)?;
    *message = large;
    written
}

/// The TLS handshake. A server that ends does not wait for it.
pub(super) async fn start_tls<H>(
    stream: Stream,
    around: &Surroundings<H>,
) -> io::Result<(Stream, Tls)> {
    let (Stream::Tcp(plain), Some(certificates)) = (stream, &around.certificates) else {
        return Err(io::Error::other("TLS is not for this connection"));
    };
    let accepted = timeout(PATIENCE, certificates.acceptor().accept(plain));
    let mut stopping = around.stopping.clone();
    let encrypted = tokio::select! {
        accepted = accepted => accepted??,
        _ = stopping.wait_for(|stopping| *stopping) => {
            return Err(io::Error::other("the server ends"));
        }
    };
    let agreed = tls::agreed(encrypted.get_ref().1);
    Ok((Stream::Tls(Box::new(encrypted)), agreed))
}
