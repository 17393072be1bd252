//! What the DNS says, and whether other hosts can be reached.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::records::{Kind, Record, State};
use super::{Finding, Level};
use crate::config::Config;
use crate::remote::dns::{Dns, Found, RData, RecordType, text};

/// For each question, and for another host's greeting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the name servers of the configuration.
pub struct Asking {
    dns: Dns,
}

impl Asking {
    /// Those of `config`, or the system's.
    ///
    /// # Errors
    /// With the reason when there are none.
    pub fn new(config: &Config) -> Result<Self, String> {
        let dns = Dns::new(config.remote.dns.as_deref())?;
        Ok(Self { dns })
    }

    /// The addresses of a name, perhaps none.
    ///
    /// # Errors
    /// With the reason when that cannot be known.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let mut addresses = self.dns.known_addresses(name).await?;
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// How a record compares with what is there.
    pub async fn compare(&self, record: &Record) -> State {
        let (kind, value): (_, fn(&RData) -> Option<String>) = match record.kind {
            Kind::A => (RecordType::A, address),
            Kind::Aaaa => (RecordType::AAAA, address),
            Kind::Mx => (RecordType::MX, |data| match data {
                RData::MX(mx) => Some(format!("{} {}", mx.preference, text(&mx.exchange))),
                _ => None,
            }),
            Kind::Ptr => (RecordType::PTR, |data| match data {
                RData::PTR(name) => Some(text(&name.0)),
                _ => None,
            }),
            Kind::Srv => (RecordType::SRV, |data| match data {
                RData::SRV(srv) => Some(format!(
                    "{} {} {} {}",
                    srv.priority,
                    srv.weight,
                    srv.port,
                    text(&srv.target)
                )),
                _ => None,
            }),
            Kind::Txt => (RecordType::TXT, |data| match data {
                RData::TXT(txt) => {
                    let strings: Vec<u8> = txt.txt_data.concat();
                    Some(String::from_utf8_lossy(&strings).into_owned())
                }
                _ => None,
            }),
        };
        let found = self.dns.ask(&record.name, kind, value).await;
        record.compare(found.map(|found| match found {
            Found::Records(records) => records,
            Found::NoRecords | Found::NoName => Vec::new(),
        }))
    }

    /// Whether mail can leave: the relay of a route for everything, else a
    /// host that takes mail of `domain`.
    pub async fn way_out(&self, config: &Config, domain: &str) -> Finding {
        let mend = match config.remote.relay() {
            Some(_) => "see to the [[route]] of all mail, and to the host that it names",
            None => {
                "many providers close port 25 until they are asked; or name a relay with \
                 [[route]], domain = \"*\""
            }
        };
        let unreachable = |name: &str, reason: &str| {
            let text = format!("no mail can leave: {name}: {reason}");
            Finding::bad("way out", Level::Critical, text, mend)
        };
        let (host, port) = match config.remote.relay() {
            Some((host, port)) => (host.to_string(), port),
            None => match self.exchanger(domain).await {
                Ok(host) => (host, config.remote.port),
                Err(reason) => return unreachable(domain, &reason),
            },
        };
        // Within TLS from the first byte nobody greets in clear.
        let greets = port != 465;
        let name = format!("{host}:{port}");
        let addresses = match host.trim_matches(['[', ']']).parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.addresses(&host).await,
        };
        let addresses = match addresses {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => return unreachable(&name, "it has no address"),
            Err(reason) => return unreachable(&name, &reason),
        };
        let mut reason = String::new();
        for address in addresses {
            match timeout(PATIENCE, greeting(SocketAddr::new(address, port), greets)).await {
                Ok(Ok(said)) => return Finding::ok("way out", format!("{name} says {said:?}")),
                Ok(Err(error)) => reason = format!("{address}: {error}"),
                Err(_) => reason = format!("{address} does not answer"),
            }
        }
        unreachable(&name, &reason)
    }

    async fn exchanger(&self, domain: &str) -> Result<String, String> {
        let found = self.dns.ask(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some((mx.preference, text(&mx.exchange))),
            _ => None,
        });
        Ok(match found.await? {
            Found::Records(mut records) => {
                records.sort_unstable();
                records.remove(0).1
            }
            Found::NoRecords => domain.to_owned(),
            Found::NoName => return Err(format!("there is no domain {domain}")),
        })
    }
}

fn address(data: &RData) -> Option<String> {
    match data {
        RData::A(address) => Some(address.0.to_string()),
        RData::AAAA(address) => Some(address.0.to_string()),
        _ => None,
    }
}

/// What a host greets with, and takes leave.
async fn greeting(address: SocketAddr, greets: bool) -> std::io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let mut line = String::from("nothing before TLS");
    if greets {
        line.clear();
        stream.read_line(&mut line).await?;
        stream.get_mut().write_all(b"QUIT\r\n").await?;
    }
    let line = line.trim_end().to_owned();
    match line.starts_with('2') || !greets {
        true => Ok(line),
        false => Err(std::io::Error::other(format!("it says {line:?}"))),
    }
}
