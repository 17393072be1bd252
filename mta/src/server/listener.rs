//! Who may connect: a bounded number of clients, and of each network.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, listen, socket_with, sockopt,
};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tracing::{Instrument, debug, debug_span, error, warn};

use super::driver::{Surroundings, drive, start_tls};
use super::stream::Stream;
use crate::config::network::Network;
use crate::gate::Gate;
use crate::gate::visit::Visit;
use crate::handover::Host;
use crate::smtp::session::{Session, Settings};

/// How its clients are spoken to.
#[derive(Clone, Debug)]
pub struct Manner {
    /// What holds for their sessions.
    pub settings: Arc<Settings>,
    /// The handshake comes before the greeting: RFC 8314 §3.3.
    pub implicit_tls: bool,
}

/// A socket that waits for clients; opened before there are any threads.
#[derive(Debug)]
pub enum Listener {
    /// Of an address.
    Tcp(std::net::TcpListener),
    /// Of this machine.
    Unix(std::os::unix::net::UnixListener),
}

/// The same, within a runtime.
enum Waiting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What all listeners of a server share.
#[derive(Debug)]
pub struct Shared<H> {
    /// What each driver needs.
    pub around: Surroundings<H>,
    /// Who decides about clients of other hosts.
    pub gate: Arc<Gate>,
    /// Who may send to other people's domains.
    pub relay_networks: Vec<Network>,
    /// The clients that are connected.
    pub clients: Clients,
}

/// How many are connected, and from where.
#[derive(Debug)]
pub struct Clients {
    max: usize,
    max_of_one: usize,
    count: Mutex<Count>,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_network: HashMap<Network, usize>,
}

/// A connected client; counted until it is dropped.
struct Seat<H> {
    shared: Arc<Shared<H>>,
    address: Option<IpAddr>,
}

/// As many clients may wait until they are accepted.
const BACKLOG: i32 = 1024;
/// After an error that is no client's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens a socket of an address. One of IPv6 takes IPv6 only, so that both can
/// be listened at.
///
/// # Errors
/// Those of the system.
pub fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address).map_err(|error| match error {
        Errno::ACCESS => {
            let text = "ports below 1024 are for root, or for who has CAP_NET_BIND_SERVICE";
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        error => error.into(),
    })?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Opens a Unix socket with these rights, in place of one that a dead server
/// has left.
///
/// # Errors
/// `AddrInUse` when somebody listens there; those of the system.
pub fn unix(path: &Path, mode: u32) -> io::Result<std::os::unix::net::UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    Ok(listener)
}

impl Clients {
    /// None are connected yet.
    pub fn new(max: usize, max_of_one: usize) -> Self {
        Self {
            max,
            max_of_one,
            count: Mutex::default(),
        }
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more, unless there are too many.
    fn admit(&self, address: Option<IpAddr>) -> bool {
        let mut count = self.count();
        let network = address.map(Network::of_client);
        let of_one = network.map_or(0, |one| count.by_network.get(&one).copied().unwrap_or(0));
        if count.all >= self.max || of_one >= self.max_of_one {
            return false;
        }
        count.all += 1;
        if let Some(network) = network {
            *count.by_network.entry(network).or_default() += 1;
        }
        true
    }

    fn leave(&self, address: Option<IpAddr>) {
        let mut count = self.count();
        count.all -= 1;
        let Some(network) = address.map(Network::of_client) else {
            return;
        };
        let left = count.by_network.get(&network).map_or(0, |n| n - 1);
        if left == 0 {
            count.by_network.remove(&network);
        } else {
            count.by_network.insert(network, left);
        }
    }
}

impl<H> Shared<H> {
    /// Whether a client may write to whomever before it has logged in, and its
    /// way through the gate, if it has to pass; nothing when its network
    /// connects too often.
    pub(super) fn receive(
        &self,
        peer: Option<SocketAddr>,
        manner: &Manner,
    ) -> Option<(bool, Option<Visit>)> {
        let address = peer.map(|peer| peer.ip().to_canonical());
        let settings = &manner.settings;
        let is_for_hosts = !settings.lmtp && !settings.is_submission();
        let is_listed = |address| {
            let mut networks = self.relay_networks.iter();
            networks.any(|network| network.contains(address))
        };
        let may_relay = settings.local || is_for_hosts && address.is_some_and(is_listed);
        let gated = address.filter(|_| is_for_hosts && !may_relay);
        if gated.is_some_and(|address| !self.gate.admits(address, Instant::now())) {
            return None;
        }
        Some((may_relay, gated.map(|address| self.gate.visit(address))))
    }
}

impl<H> Drop for Seat<H> {
    fn drop(&mut self) {
        self.shared.clients.leave(self.address);
    }
}

/// Takes clients until the server ends. Each session holds a clone of `alive`
/// until it has ended.
pub async fn accept<H: Host>(
    listener: Listener,
    manner: Manner,
    shared: Arc<Shared<H>>,
    alive: mpsc::Sender<()>,
) {
    let listener = match Waiting::of(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "cannot wait for clients"),
    };
    let mut stopping = shared.around.stopping.clone();
    while !*stopping.borrow_and_update() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = stopping.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        match accepted {
            Ok((stream, peer)) => welcome(stream, peer, &manner, &shared, &alive),
            Err(error) => {
                warn!(%error, "cannot accept a client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn welcome<H: Host>(
    stream: Stream,
    peer: Option<SocketAddr>,
    manner: &Manner,
    shared: &Arc<Shared<H>>,
    alive: &mpsc::Sender<()>,
) {
    let address = peer.map(|peer| peer.ip().to_canonical());
    if !shared.clients.admit(address) {
        warn!(peer = peer.map(tracing::field::display), "too many clients");
        // Within TLS there is nobody to read it yet.
        if !manner.implicit_tls {
            send_away(&stream);
        }
        return;
    }
    let seat = Seat {
        shared: Arc::clone(shared),
        address,
    };
    let Some((may_relay, visit)) = shared.receive(peer, manner) else {
        warn!(
            peer = peer.map(tracing::field::display),
            "its network connects too often"
        );
        send_away(&stream);
        return;
    };
    let manner = manner.clone();
    let alive = alive.clone();
    let span = debug_span!("session", peer = peer.map(tracing::field::display));
    let served = async move {
        let session = || Session::new(manner.settings, peer, may_relay, Instant::now());
        let around = &seat.shared.around;
        let served = match manner.implicit_tls {
            false => drive(stream, session(), visit, around).await,
            true => match Box::pin(start_tls(stream, around)).await {
                Ok((stream, tls)) => drive(stream, session().within(tls), visit, around).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = served {
            debug!(%error, "the connection broke");
        }
        drop((seat, alive));
    };
    tokio::spawn(served.instrument(span));
}

/// RFC 5321 §3.8: 421 in place of the greeting, as far as the socket takes it
/// at once.
fn send_away(stream: &Stream) {
    const REPLY: &[u8] = b"421 4.3.2 too many connections, try again later\r\n";
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = match stream {
        Stream::Tcp(stream) => rustix::net::send(stream, REPLY, flags),
        Stream::Unix(stream) => rustix::net::send(stream, REPLY, flags),
        Stream::Tls(_) => Ok(0),
    };
}

impl Waiting {
    fn of(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Replies are small and waited for.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}
