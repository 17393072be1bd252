//! Questions to the DNS, and which hosts take mail of a domain: RFC 5321 §5.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
pub(crate) use hickory_resolver::proto::rr::{RData, RecordType};

use crate::smtp::Reply;

/// Answers that are kept, as long as they say.
const CACHE: u64 = 32 * 1024;

/// Asks the DNS. A host has one, so that nothing is asked twice.
#[derive(Clone)]
pub(crate) struct Dns {
    resolver: TokioResolver,
}

/// What the DNS says of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    Records(Vec<T>),
    /// The name is there, and has none of that kind.
    NoRecords,
    NoName,
}

impl Dns {
    /// With these servers, or those of the system. A question is given up after
    /// six seconds; who has less time must see to that.
    pub(crate) fn new(servers: Option<&[SocketAddr]>) -> Result<Self, String> {
        let mut builder = match servers {
            Some(servers) => {
                let servers = servers.iter().map(name_server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio()
                .map_err(|error| format!("there are no name servers: {error}"))?,
        };
        // Many messages are on their way at once.
        let options = builder.options_mut();
        options.max_active_requests = 1024;
        options.cache_size = CACHE;
        // Three times in all: clients that wait have time for more than one.
        (options.timeout, options.attempts) = (Duration::from_secs(2), 2);
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver })
    }

    /// For who asks more than we do.
    pub(crate) fn resolver(&self) -> &TokioResolver {
        &self.resolver
    }

    /// The hosts that take mail of `domain`, the preferred ones first; those
    /// that are no better than `ourselves` are left out.
    pub(super) async fn exchangers(
        &self,
        domain: &str,
        ourselves: &str,
    ) -> Result<Vec<String>, Reply> {
        let found = self.ask(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some((mx.preference, text(&mx.exchange))),
            _ => None,
        });
        match found.await.map_err(unanswered)? {
            Found::NoName => Err(Reply::new(
                550,
                (5, 1, 2),
                format!("there is no domain {domain}"),
            )),
            // RFC 5321 §5.1: the domain itself, as if by an MX of preference 0.
            Found::NoRecords => Ok(vec![domain.to_owned()]),
            Found::Records(records) => chosen(domain, records, ourselves, any_number()),
        }
    }

    /// The addresses of a host.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Reply> {
        let addresses = self.known_addresses(host).await.map_err(unanswered)?;
        if addresses.is_empty() {
            // RFC 5321 §5.1, and RFC 7505 §5 on what to say.
            return Err(Reply::new(550, (5, 1, 2), format!("{host} has no address")));
        }
        Ok(addresses)
    }

    /// The addresses of a host, perhaps none. An error only if there may be
    /// some that nobody tells of.
    pub(crate) async fn known_addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let six = self.ask(host, RecordType::AAAA, |data| match data {
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        let four = self.ask(host, RecordType::A, |data| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        });
        let (six, four) = tokio::join!(six, four);
        let mut addresses = Vec::new();
        let mut trouble = None;
        for found in [six, four] {
            match found {
                Ok(Found::Records(records)) => addresses.extend(records),
                Ok(_) => {}
                Err(reason) => trouble = Some(reason),
            }
        }
        match trouble {
            Some(reason) if addresses.is_empty() => Err(reason),
            _ => Ok(addresses),
        }
    }

    /// RFC 5321 §5.1: whatever is no answer is an error that passes.
    pub(crate) async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        wanted: impl Fn(&RData) -> Option<T>,
    ) -> Result<Found<T>, String> {
        // With the dot no search list is tried.
        let Ok(asked) = Name::from_utf8(format!("{name}.")) else {
            return Ok(Found::NoName);
        };
        match self.resolver.lookup(asked, kind).await {
            Ok(lookup) => {
                let answers = lookup.answers().iter();
                let records: Vec<T> = answers.filter_map(|record| wanted(&record.data)).collect();
                Ok(match records.is_empty() {
                    true => Found::NoRecords,
                    false => Found::Records(records),
                })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                Ok(match none.response_code == ResponseCode::NXDomain {
                    true => Found::NoName,
                    false => Found::NoRecords,
                })
            }
            Err(error) => Err(format!("the DNS does not tell about {name}: {error}")),
        }
    }
}

fn unanswered(reason: String) -> Reply {
    Reply::new(451, (4, 4, 3), reason)
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let at_port = |mut config: ConnectionConfig| {
        config.port = address.port();
        config
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Without the dot at its end; the root is empty.
pub(crate) fn text(name: &Name) -> String {
    name.to_utf8().trim_end_matches('.').to_ascii_lowercase()
}

/// Orders what MX records say, equal ones by `random`.
fn chosen(
    domain: &str,
    mut records: Vec<(u16, String)>,
    ourselves: &str,
    random: u64,
) -> Result<Vec<String>, Reply> {
    // RFC 7505: "." alone says that the domain takes no mail.
    if records.iter().all(|(_, host)| host.is_empty()) {
        let text = format!("{domain} takes no mail");
        return Err(Reply::new(556, (5, 1, 10), text));
    }
    records.retain(|(_, host)| !host.is_empty());
    let order = |host: &str| {
        // FNV-1a, so that each host gets its turn.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        host.bytes().fold(random, mix)
    };
    records.sort_by_cached_key(|(preference, host)| (*preference, order(host)));
    records.dedup();
    // RFC 5321 §5.1: we are one of them; only better ones do not lead back.
    let own = records.iter().find(|(_, host)| host == ourselves);
    if let Some(limit) = own.map(|(preference, _)| *preference) {
        records.retain(|(preference, _)| *preference < limit);
    }
    if records.is_empty() {
        let text = format!("mail for {domain} leads back to this host");
        return Err(Reply::new(550, (5, 4, 6), text));
    }
    Ok(records.into_iter().map(|(_, host)| host).collect())
}

fn any_number() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| u64::from(since.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchangers_are_ordered() {
        let choose = |records: &[(u16, &str)]| {
            let records = records.iter().map(|(n, host)| (*n, (*host).to_owned()));
            chosen("example.net", records.collect(), "mx.example.org", 7)
                .map_err(|reply| reply.to_string())
        };
        for (records, expected) in [
            (&[(20, "b"), (10, "a")][..], Ok("a b")),
            (&[(10, "a"), (10, "a")], Ok("a")),
            (&[(0, "")], Err("556 5.1.10 example.net takes no mail")),
            (&[(0, ""), (5, "a")], Ok("a")),
            (
                &[(5, "a"), (10, "mx.example.org"), (10, "b"), (20, "c")],
                Ok("a"),
            ),
            (
                &[(10, "mx.example.org"), (20, "c")],
                Err("550 5.4.6 mail for example.net leads back to this host"),
            ),
        ] {
            let found = choose(records).map(|hosts| hosts.join(" "));
            assert_eq!(
                found.as_deref().map_err(String::as_str),
                expected,
                "{records:?}"
            );
        }
    }

    #[test]
    fn equal_exchangers_take_turns() {
        let records = || ["a", "b", "c"].map(|host| (10, host.to_owned())).to_vec();
        let first = |random| chosen("x", records(), "me", random).unwrap().remove(0);
        let firsts: std::collections::BTreeSet<String> = (0..100).map(first).collect();
        assert_eq!(firsts.len(), 3);
    }
}
