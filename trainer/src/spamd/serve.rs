//! Connections of `spamc`: one request each.

use std::io::{self, Read};
use std::sync::Arc;

use classifier::cli::wire::Reply;
use classifier::cli::{Mode, Output};
use flate2::read::ZlibDecoder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::{Command, Failure, Head, MAX_HEAD, PONG, head_len, judged, told};
use crate::service::{Service, plain};
use crate::socket::{Desk, each_tcp, each_unix, now, patient};
use crate::users::Peer;

/// Serves a Unix socket, where the peer's identity decides, until `stopping`
/// turns to true.
///
/// # Errors
/// When no connection can be accepted any more.
pub async fn unix(
    listener: UnixListener,
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    each_unix(listener, desk, stopping, |stream, peer, desk| async move {
        converse(stream, peer, true, &desk).await
    })
    .await
}

/// Serves TCP, where nobody knows who it is, so that it learns only if
/// `may_tell` says so.
///
/// # Errors
/// When no connection can be accepted any more.
pub async fn tcp(
    listener: TcpListener,
    may_tell: bool,
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    each_tcp(listener, desk, stopping, move |stream, desk| async move {
        converse(stream, Peer::Anybody, may_tell, &desk).await
    })
    .await
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    may_tell: bool,
    desk: &Desk,
) -> io::Result<()> {
    desk.service.metrics.spamd.add();
    let response = match patient(desk, receive(&mut stream, desk)).await? {
        None => return Ok(()),
        Some(Err(failure)) => failure.to_bytes(),
        Some(Ok((head, message))) => {
            let limit = desk.limits.message_bytes;
            let room = desk.room(message.len()).await?;
            let answer = desk.work(move |service| {
                let _room = room;
                answer(service, peer, may_tell, &head, message, limit)
            });
            answer.await?.unwrap_or_else(|failure| failure.to_bytes())
        }
    };
    patient(desk, stream.write_all(&response)).await?;
    patient(desk, stream.shutdown()).await
}

/// The request and its message; `None`: there is none.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    desk: &Desk,
) -> io::Result<Option<Result<(Head, Vec<u8>), Failure>>> {
    let mut bytes = Vec::new();
    let len = loop {
        if let Some(len) = head_len(&bytes) {
            break len;
        }
        if bytes.len() > MAX_HEAD {
            return Ok(Some(Err(Failure::protocol(
                "the header lines are too long",
            ))));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            // Some send a PING without the blank line.
            match bytes.len() {
                0 => return Ok(None),
                len => break len,
            }
        }
    };
    let head = match Head::parse(&bytes[..len]) {
        Ok(head) => head,
        Err(failure) => return Ok(Some(Err(failure))),
    };
    let mut message = bytes.split_off(len);
    if head.has_message() {
        let limit = desk.limits.message_bytes;
        let wanted = head.content_length.unwrap_or(limit + 1);
        if head.content_length.is_some_and(|length| length > limit) {
            let reason = format!("a message of more than {limit} bytes is not taken");
            return Ok(Some(Err(Failure::data(reason))));
        }
        let rest = wanted.saturating_sub(message.len()) as u64;
        stream.take(rest).read_to_end(&mut message).await?;
        if message.len() > limit {
            let reason = format!("a message of more than {limit} bytes is not taken");
            return Ok(Some(Err(Failure::data(reason))));
        }
        if head
            .content_length
            .is_some_and(|length| length != message.len())
        {
            return Ok(Some(Err(Failure::protocol(
                "Content-length is not the message's",
            ))));
        }
    }
    Ok(Some(Ok((head, message))))
}

fn answer(
    service: &Service,
    peer: Peer,
    may_tell: bool,
    head: &Head,
    message: Vec<u8>,
    limit: usize,
) -> Result<Vec<u8>, Failure> {
    let failed = |error: classifier::Error| {
        let refused = crate::service::Refused::from(error);
        Failure::refused(refused.refusal, &refused.reason)
    };
    if head.command == Command::Ping {
        return Ok(PONG.into());
    }
    if head.command == Command::Skip {
        return Ok(Vec::new());
    }
    let message = match head.is_compressed {
        true => inflated(&message, limit)?,
        false => message,
    };
    let user = service.whose(peer, &head.user);
    let user = user.map_err(|refused| Failure::refused(refused.refusal, &refused.reason))?;
    if head.command == Command::Tell {
        if !may_tell {
            let reason = "TCP tells nobody's identity, so that it may not learn";
            return Err(Failure::refused(
                classifier::cli::wire::Refusal::NotYours,
                reason,
            ));
        }
        let act = head.act()?;
        let is_changed = match act {
            Some(act) => service.teach(&user, act, &message, now()).map_err(failed)?,
            None => false,
        };
        return Ok(told(act, is_changed));
    }
    let output = match head.command {
        Command::Report | Command::ReportIfSpam => Output::Explanation,
        _ => Output::Nothing,
    };
    let ask = plain(Mode::Test, output);
    match service.message(&user, &ask, &message, now()) {
        Ok(Reply::Verdict(verdict)) => Ok(judged(head.command, &verdict, &message)),
        // Nothing speaks for spam.
        Ok(_) => Ok(judged(head.command, &Default::default(), &message)),
        Err(error) => Err(failed(error)),
    }
}

/// At most `limit` bytes, whatever the compressed ones claim to be.
fn inflated(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    let read = ZlibDecoder::new(bytes)
        .take(limit as u64 + 1)
        .read_to_end(&mut message);
    match read {
        Ok(n) if n <= limit => Ok(message),
        Ok(_) => Err(Failure::data("the message is too long")),
        Err(error) => Err(Failure::data(format!("cannot be uncompressed: {error}"))),
    }
}
