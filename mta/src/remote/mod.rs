//! The way out: mail for other hosts.
//!
//! | module | answers |
//! | --- | --- |
//! | [`outbound`] | which way a parcel goes |
//! | `dns` | which hosts take mail of a domain |
//! | `destination` | how many connections there are, and which are free |
//! | `client` | one connection |
//! | `dialogue` | what is said over it, without a socket |
//! | [`letter`] | the message, which need not be in memory |
//! | `tls` | whom we believe |

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

mod client;
mod destination;
pub(crate) mod dialogue;
pub(crate) mod dns;
pub mod letter;
pub mod outbound;
mod tls;

use self::letter::Letter;
use crate::queue::{Entry, Recipient};
use crate::smtp::{Domain, Reply};

/// Mail for recipients of one domain.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// Where it goes.
    pub domain: &'a Domain,
    /// Its envelope, with recipients that are none of this parcel's.
    pub entry: &'a Entry,
    /// Those that are.
    pub recipients: &'a [&'a Recipient],
    /// The message.
    pub message: &'a Letter,
}

/// For each recipient of a parcel: who has it now, or what was answered.
pub type Results = Vec<Result<String, Reply>>;

/// Ends the name of a host that reports to the sender itself, so that we do
/// not (RFC 3461 §4.2, "relayed").
pub(crate) const REPORTS: &str = " (which reports)";

/// Whoever brings mail to other hosts.
pub trait WayOut: Send + Sync + 'static {
    /// Delivers a parcel; one result for each of its recipients, in order.
    fn deliver<'a>(
        &'a self,
        parcel: Parcel<'a>,
    ) -> Pin<Box<dyn Future<Output = Results> + Send + 'a>>;

    /// When so much mail for `domain` is on its way that more would only wait:
    /// a future that ends when there may be room.
    fn room(&self, _domain: &Domain) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }
}

/// What can be said of the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What we call ourselves.
    pub host: String,
    /// Name servers; `None` for those of the system.
    pub dns: Option<Vec<SocketAddr>>,
    /// Connections at once to one destination. Default: 20.
    pub connections_per_destination: usize,
    /// For a connection to come about. Default: 30 seconds.
    pub connect_time: Duration,
    /// For each answer. Default: 5 minutes, of RFC 5321 §4.5.3.2.
    pub reply_time: Duration,
    /// For how long a destination is left alone that nobody could reach.
    /// Default: 5 minutes.
    pub dead_time: Duration,
    /// Certificates of those whom we believe, PEM.
    pub ca_file: PathBuf,
    /// The port of hosts that are found by MX. Default: 25.
    pub port: u16,
    /// Mail that goes by other hosts.
    pub routes: Vec<Route>,
}

/// Mail of some domains goes by a host of the administrator's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `example.net`, `.example.net` for what lies below it, or `*`.
    pub domain: String,
    /// The host, whose MX does not count; `None`: by the domain's own MX, in
    /// spite of a wider route.
    pub host: Option<Domain>,
    /// Its port; 465 begins with TLS.
    pub port: u16,
    /// Who we are there.
    pub credentials: Option<Credentials>,
}

/// A user and a password at another host.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Settings {
    /// The host by which all mail leaves that no other route is for, and its
    /// port.
    pub fn relay(&self) -> Option<(&Domain, u16)> {
        let mut routes = self.routes.iter();
        let route = routes.find(|route| route.domain == "*")?;
        Some((route.host.as_ref()?, route.port))
    }

    /// The defaults, for a host of that name.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            dns: None,
            connections_per_destination: 20,
            connect_time: Duration::from_secs(30),
            reply_time: Duration::from_secs(300),
            dead_time: Duration::from_secs(300),
            ca_file: "/etc/ssl/certs/ca-certificates.crt".into(),
            port: 25,
            routes: Vec::new(),
        }
    }
}

impl fmt::Debug for Credentials {
    /// Without the password, which no log may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.user)
    }
}
