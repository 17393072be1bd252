//! Brings parcels to other hosts: the way that a route or the DNS says, over
//! connections that are used again.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use super::client::{Broken, Connection, Manner, Security};
use super::destination::{Destination, Destinations};
use super::dns::Dns;
use super::{Parcel, Results, Route, Settings, WayOut, tls};
use crate::smtp::{Domain, Reply};

/// The way out of this host.
pub struct Outbound {
    settings: Settings,
    dns: Dns,
    anybody: Arc<ClientConfig>,
    /// Present when a route has a password.
    vouched: Option<Arc<ClientConfig>>,
    destinations: Destinations,
}

/// So many addresses of a destination are tried in one attempt: RFC 5321 §5.1
/// asks for at least two.
const MAX_ADDRESSES: usize = 8;

impl Outbound {
    /// A way out; must be made within a runtime.
    ///
    /// # Errors
    /// With the reason when the authorities for passwords cannot be known.
    pub(crate) fn new(settings: Settings, dns: &Dns) -> Result<Self, String> {
        let has_password = settings
            .routes
            .iter()
            .any(|route| route.credentials.is_some());
        let vouched = has_password.then(|| tls::vouched(&settings.ca_file));
        Ok(Self {
            dns: dns.clone(),
            anybody: tls::anybody(),
            vouched: vouched.transpose()?,
            destinations: Destinations::new(settings.connections_per_destination),
            settings,
        })
    }

    async fn bring(&self, parcel: Parcel<'_>) -> Results {
        let n = parcel.recipients.len();
        let destination = self.destinations.get(&self.key(parcel.domain));
        let _place = destination.enter();
        let _permit = destination.permit().await;
        if let Some(reply) = destination.is_dead(Instant::now()) {
            return vec![Err(reply); n];
        }
        if let Some(mut connection) = destination.reuse() {
            // That it has been closed meanwhile is no failure.
            if let Ok(results) = connection.send(&parcel).await {
                destination.leave(connection);
                return results;
            }
        }
        match self.connect(parcel.domain, &destination).await {
            Err(reply) => vec![Err(reply); n],
            Ok(mut connection) => match connection.send(&parcel).await {
                Ok(results) => {
                    destination.leave(connection);
                    results
                }
                Err(results) => results,
            },
        }
    }

    /// A connection to the first host that wants one.
    async fn connect(
        &self,
        domain: &Domain,
        destination: &Destination,
    ) -> Result<Connection, Reply> {
        let route = route(&self.settings.routes, domain);
        let manner = self.manner(route)?;
        let port = route.map_or(self.settings.port, |route| route.port);
        let mut failure = None;
        let mut is_silent = true;
        let mut n_tried = 0;
        for host in self.hosts(domain, route).await? {
            let addresses = match self.addresses(&host).await {
                Ok(addresses) => addresses,
                Err(reply) => {
                    failure = worst(failure, reply, false);
                    continue;
                }
            };
            for ip in addresses {
                n_tried += 1;
                if n_tried > MAX_ADDRESSES {
                    break;
                }
                let address = SocketAddr::new(ip, port);
                match open(&host, address, &manner).await {
                    Ok(connection) => {
                        destination.lives();
                        return Ok(connection);
                    }
                    Err(broken) => {
                        let spoke = !matches!(broken, Broken::Unreachable(_));
                        is_silent &= !spoke;
                        failure = worst(failure, broken.reply(), spoke);
                    }
                }
            }
        }
        let (_, failure) =
            failure.unwrap_or_else(|| (0, Reply::new(451, (4, 4, 1), "no host to connect to")));
        if n_tried > 0 && is_silent {
            destination.died(Instant::now() + self.settings.dead_time, &failure);
        }
        Err(failure)
    }

    async fn hosts(&self, domain: &Domain, route: Option<&Route>) -> Result<Vec<String>, Reply> {
        match (route.and_then(|route| route.host.as_ref()), domain) {
            (Some(host), _) => Ok(vec![bare(host)]),
            (None, Domain::Literal(_)) => Ok(vec![bare(domain)]),
            (None, Domain::Name(name)) => self.dns.exchangers(name, &self.settings.host).await,
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Reply> {
        match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.dns.addresses(host).await,
        }
    }

    fn manner(&self, route: Option<&Route>) -> Result<Manner, Reply> {
        let credentials = route.and_then(|route| route.credentials.clone());
        let config = match (&credentials, &self.vouched) {
            (Some(_), Some(vouched)) => Arc::clone(vouched),
            _ => Arc::clone(&self.anybody),
        };
        let is_implicit = route.is_some_and(|route| route.port == IMPLICIT_TLS);
        let is_required =
            credentials.is_some() || route.is_some_and(|route| route.port == SUBMISSION);
        Ok(Manner {
            host: self.settings.host.clone(),
            connect_time: self.settings.connect_time,
            reply_time: self.settings.reply_time,
            security: match (is_implicit, is_required) {
                (true, _) => Security::Implicit(config),
                (false, true) => Security::Required(config),
                (false, false) => Security::Offered(config),
            },
            credentials,
        })
    }

    /// What shares connections.
    fn key(&self, domain: &Domain) -> String {
        match route(&self.settings.routes, domain) {
            Some(Route {
                host: Some(host),
                port,
                domain,
                ..
            }) => format!("{host}:{port} for {domain}"),
            _ => domain.to_string(),
        }
    }
}

impl WayOut for Outbound {
    fn deliver<'a>(
        &'a self,
        parcel: Parcel<'a>,
    ) -> Pin<Box<dyn Future<Output = Results> + Send + 'a>> {
        Box::pin(self.bring(parcel))
    }

    fn room(&self, domain: &Domain) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.destinations.room(&self.key(domain))
    }
}

/// Submissions with TLS from the first byte: RFC 8314 §3.3.
const IMPLICIT_TLS: u16 = 465;
/// Submissions: what is sent there is no mail between hosts that would go in
/// clear rather than not at all (RFC 6409, RFC 8314 §3.3).
const SUBMISSION: u16 = 587;

/// Where TLS is only offered and fails, mail in clear is better than none
/// (RFC 7435 §3).
async fn open(host: &str, address: SocketAddr, manner: &Manner) -> Result<Connection, Broken> {
    match Connection::open(host, address, manner).await {
        Err(Broken::Tls(_)) if matches!(manner.security, Security::Offered(_)) => {
            let clear = Manner {
                security: Security::None,
                ..manner.clone()
            };
            Connection::open(host, address, &clear).await
        }
        opened => opened,
    }
}

/// The most specific route: of the domain, of the longest `.suffix`, `*`; none
/// where that one says by MX.
fn route<'a>(routes: &'a [Route], domain: &Domain) -> Option<&'a Route> {
    let name = domain.name().unwrap_or_default();
    let fits = |route: &&Route| match route.domain.as_str() {
        "*" => true,
        said if said.starts_with('.') => name.ends_with(said) && name.len() > said.len(),
        said => said == name,
    };
    let weight = |route: &&Route| match route.domain.as_str() {
        "*" => 0,
        // "a.b" counts more than ".b", and a name more than its suffixes.
        said => said.len() + usize::from(!said.starts_with('.')) * 1000,
    };
    let best = routes.iter().filter(fits).max_by_key(weight);
    best.filter(|route| route.host.is_some())
}

/// A name or an address without brackets.
fn bare(domain: &Domain) -> String {
    match domain {
        Domain::Name(name) => name.to_string(),
        Domain::Literal(address) => address.to_string(),
    }
}

/// The failure that is told: of what may still succeed before of what may not,
/// and of who spoke before of who did not; the first of equals.
fn worst(before: Option<(u8, Reply)>, reply: Reply, spoke: bool) -> Option<(u8, Reply)> {
    let rank = match (reply.code.is_transient(), spoke) {
        (true, true) => 2,
        (true, false) => 1,
        (false, _) => 0,
    };
    match before {
        Some((other, _)) if other >= rank => before,
        _ => Some((rank, reply)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_route_counts() {
        let named = |domain: &str| Route {
            domain: domain.into(),
            host: Some(Domain::parse("relay").unwrap()),
            port: 25,
            credentials: None,
        };
        let routes = ["*", ".net", "example.net", ".example.net"].map(named);
        for (domain, expected) in [
            ("example.org", "*"),
            ("example.net", "example.net"),
            ("a.example.net", ".example.net"),
            ("other.net", ".net"),
            ("net", "*"),
            ("[192.0.2.1]", "*"),
        ] {
            let domain = Domain::parse(domain).unwrap();
            let found = route(&routes, &domain).unwrap();
            assert_eq!(found.domain, expected, "{domain}");
            assert!(route(&routes[1..2], &Domain::parse("example.org").unwrap()).is_none());
        }
        // By MX, in spite of the route for all.
        let mut routes = routes;
        routes[2].host = None;
        let by_mx = Domain::parse("example.net").unwrap();
        assert_eq!(route(&routes, &by_mx), None);
        assert!(route(&routes, &Domain::parse("example.org").unwrap()).is_some());
    }
}
