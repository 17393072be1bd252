//! The listeners: accept, read a request, have it answered, write the reply.
//!
//! Everything is bounded ([`Limits`]): connections, those of one user, bytes
//! in memory, time. Who is too slow, too long or none of ours is turned away
//! and costs the others nothing: each connection is a task of its own, and
//! what waits for a disk runs on threads of its own.

use std::collections::HashMap;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use classifier::cli::wire::{HEADER_LEN, Header, Malformed, Refusal, Reply, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::debug;

use crate::service::Service;
use crate::users::Peer;

/// How much whoever asks may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes.
    pub message_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// Connections of one user at once; of all over TCP together.
    pub connections_per_user: usize,
    /// From the first byte of a request to its last, and for its reply. A
    /// connection without a request may last as long.
    pub patience: Duration,
}

/// A database that is taken over, or a user that is imported, may be so long.
const MAX_LONG: usize = 256 << 20;

/// What all requests in memory may take, at least as much as the longest one.
const MEMORY: usize = 512 << 20;

/// What listeners share.
pub struct Desk {
    pub(crate) service: Arc<Service>,
    pub(crate) limits: Limits,
    connections: Arc<Semaphore>,
    by_user: Mutex<HashMap<Option<u32>, usize>>,
    memory: Arc<Semaphore>,
    work: Arc<Semaphore>,
}

impl Desk {
    /// With room for what `limits` allow.
    pub fn new(service: Arc<Service>, limits: Limits) -> Self {
        let n_workers = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            service,
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
            by_user: Mutex::default(),
            memory: Arc::new(Semaphore::new(MEMORY / KIB)),
            work: Arc::new(Semaphore::new(n_workers)),
        }
    }

    /// A place for a connection of `peer`, if there is one.
    fn admit(self: &Arc<Self>, peer: Peer) -> Option<Seat> {
        let user = match peer {
            Peer::Uid(uid) => Some(uid),
            Peer::Anybody => None,
        };
        let permit = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let n = by_user.entry(user).or_default();
        if *n >= self.limits.connections_per_user {
            return None;
        }
        *n += 1;
        Some(Seat {
            desk: Arc::clone(self),
            user,
            _permit: permit,
        })
    }

    /// Waits for room for a request of so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> io::Result<impl Drop + use<>> {
        let n = bytes.div_ceil(KIB).clamp(1, MEMORY / KIB) as u32;
        let room = Arc::clone(&self.memory).acquire_many_owned(n);
        let room = timeout(self.limits.patience, room).await;
        room.map_err(io::Error::from)?.map_err(io::Error::other)
    }

    /// Runs `work` where it may wait for a disk, and counts how long it took.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> T + Send + 'static,
    ) -> io::Result<T> {
        let begun = Instant::now();
        let permit = Arc::clone(&self.work).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let service = Arc::clone(&self.service);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&service)
        });
        let done = done.await.map_err(io::Error::other);
        self.service.metrics.answered(begun.elapsed());
        done
    }
}

const KIB: usize = 1 << 10;

/// A connection's place, given back when it is dropped.
struct Seat {
    desk: Arc<Desk>,
    user: Option<u32>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let by_user = self.desk.by_user.lock();
        let mut by_user = by_user.unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = by_user.get_mut(&self.user) {
            *n -= 1;
            if *n == 0 {
                by_user.remove(&self.user);
            }
        }
    }
}

/// Makes a socket at `path` that everybody may connect to: who it is decides
/// later. One that is left of a killed daemon is replaced, one that somebody
/// listens at is not, nor is any other file.
///
/// # Errors
/// When it cannot be made.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::other("there is something that is no socket"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::other("somebody listens there already"));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves `bmf` until `stopping` turns to true.
///
/// # Errors
/// When no connection can be accepted any more.
pub async fn serve(
    listener: UnixListener,
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    each_unix(listener, desk, stopping, |stream, peer, desk| async move {
        converse(stream, peer, &desk).await
    })
    .await
}

/// Accepts connections and gives each to a task of `serve`.
pub(crate) async fn each_unix<F>(
    listener: UnixListener,
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
    serve: impl Fn(UnixStream, Peer, Arc<Desk>) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let accept = |context: &mut Context<'_>| listener.poll_accept(context);
    each(accept, stopping, |(stream, _)| {
        let Ok(peer) = stream.peer_cred() else { return };
        let peer = Peer::Uid(peer.uid());
        spawn(&desk, peer, serve(stream, peer, Arc::clone(&desk)));
    })
    .await
}

/// As [`each_unix`], over TCP, where nobody knows who it is.
pub(crate) async fn each_tcp<F>(
    listener: TcpListener,
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
    serve: impl Fn(tokio::net::TcpStream, Arc<Desk>) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let accept = |context: &mut Context<'_>| listener.poll_accept(context);
    each(accept, stopping, |(stream, _)| {
        spawn(&desk, Peer::Anybody, serve(stream, Arc::clone(&desk)));
    })
    .await
}

/// Calls `take` with whatever `accept` gives.
async fn each<C>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<C>>,
    mut stopping: watch::Receiver<bool>,
    take: impl Fn(C),
) -> io::Result<()> {
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => return Ok(()),
            accepted = poll_fn(&mut accept) => match accepted {
                Ok(connection) => take(connection),
                Err(error) => pause(&error).await,
            },
        }
    }
}

/// Until no new work may begin.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error: who could say so has gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Too many open files, mostly: it passes when connections end.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "connection not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn spawn(
    desk: &Arc<Desk>,
    peer: Peer,
    conversation: impl Future<Output = io::Result<()>> + Send + 'static,
) {
    let Some(seat) = desk.admit(peer) else {
        desk.service.metrics.turned_away.add();
        debug!(?peer, "too many connections");
        return;
    };
    tokio::spawn(async move {
        let _open = seat.desk.service.metrics.connection();
        if let Err(error) = conversation.await {
            seat.desk.service.metrics.broken.add();
            debug!(?peer, %error, "connection broken");
        }
    });
}

/// One connection of `bmf`.
async fn converse(mut stream: UnixStream, peer: Peer, desk: &Desk) -> io::Result<()> {
    loop {
        let mut head = [0; HEADER_LEN];
        // A client that has nothing more to ask has gone.
        if patient(desk, stream.read(&mut head[..1])).await? == 0 {
            return Ok(());
        }
        patient(desk, stream.read_exact(&mut head[1..])).await?;
        let header = match Header::parse(&head) {
            Ok(header) => header,
            Err(error) => return refuse(&mut stream, desk, error).await,
        };
        let len = header.len as usize;
        let limit = match header.may_be_long() {
            true => MAX_LONG,
            false => desk.limits.message_bytes + HEADER_LEN + (64 << 10),
        };
        if len > limit {
            let reason = format!("it takes no more than {limit} bytes");
            let reply = Reply::Refused(Refusal::Failed, reason);
            return patient(desk, stream.write_all(&reply.to_bytes())).await;
        }
        let room = desk.room(len).await?;
        let content = patient(desk, read(&mut stream, len)).await?;
        let reply = desk.work(move |service| {
            let _room = room;
            match Request::parse(header, &content) {
                Ok(request) => service.answer(peer, &request, now()),
                Err(error) => Reply::Refused(Refusal::NoRequest, error.to_string()),
            }
        });
        let reply = reply.await?.to_bytes();
        patient(desk, stream.write_all(&reply)).await?;
    }
}

async fn refuse(stream: &mut UnixStream, desk: &Desk, error: Malformed) -> io::Result<()> {
    let reply = Reply::Refused(Refusal::NoRequest, error.to_string());
    patient(desk, stream.write_all(&reply.to_bytes())).await
}

/// Memory is taken as the bytes come, not as they are announced.
async fn read(stream: &mut (impl AsyncRead + Unpin), len: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(len.min(64 << 10));
    let n = stream.take(len as u64).read_to_end(&mut content).await?;
    match n == len {
        true => Ok(content),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub(crate) async fn patient<T>(
    desk: &Desk,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(desk.limits.patience, work).await?
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Answers every request over HTTP with the counters.
///
/// # Errors
/// When no connection can be accepted any more.
pub async fn serve_metrics(
    listener: TcpListener,
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    each_tcp(listener, desk, stopping, |mut stream, desk| async move {
        patient(&desk, metrics(&mut stream, &desk)).await
    })
    .await
}

async fn metrics(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    desk: &Desk,
) -> io::Result<()> {
    // The request is read to its blank line and not looked at.
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < 8 << 10 {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    let service = &desk.service;
    let text = service
        .metrics
        .to_text(&service.host().model_cache(), &service.live().totals());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
