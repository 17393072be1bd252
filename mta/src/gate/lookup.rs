//! The facts about a client, by the DNS: bounded in time, in parallel, and
//! kept as long as the answers say.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::judge::{Fact, Listed, ReverseName, SenderDomain};
use super::{About, DnsList};
use crate::remote::dns::{Dns, Found, RData, RecordType, text};

/// Asks the DNS for the gate.
#[derive(Clone)]
pub struct Lookup {
    dns: Dns,
    patience: Duration,
}

/// An address may have thousands of names.
const MAX_NAMES: usize = 4;
/// What a list says to a listing is for one reply.
const MAX_TEXT: usize = 300;

impl Lookup {
    /// Everything that is asked at once ends within `patience`.
    pub(crate) fn new(dns: &Dns, patience: Duration) -> Self {
        Self {
            dns: dns.clone(),
            patience,
        }
    }

    /// The names of an address, with whether they have one.
    pub async fn reverse(&self, address: IpAddr) -> Fact<Vec<ReverseName>> {
        let end = Instant::now() + self.patience;
        let asked = reverse_name(address);
        let names = self.dns.ask(&asked, RecordType::PTR, |data| match data {
            RData::PTR(name) => Some(text(&name.0)),
            _ => None,
        });
        let Found::Records(mut names) = in_time(end, &asked, names).await? else {
            return Ok(Vec::new());
        };
        names.sort_unstable();
        names.dedup();
        names.truncate(MAX_NAMES);
        let mut resolving = JoinSet::new();
        for name in names {
            let dns = self.dns.clone();
            resolving.spawn(async move {
                let addresses = in_time(end, &name, dns.known_addresses(&name)).await;
                ReverseName { name, addresses }
            });
        }
        let mut names = resolving.join_all().await;
        names.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(names)
    }

    /// Whether a name has an address.
    pub async fn has_address(&self, name: &str) -> Fact<bool> {
        has_address(&self.dns, Instant::now() + self.patience, name).await
    }

    /// Whether anybody takes mail for a domain: RFC 5321 §5.1.
    pub async fn sender_domain(&self, domain: &str) -> Fact<SenderDomain> {
        let end = Instant::now() + self.patience;
        let exchangers = self.dns.ask(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some((mx.preference, text(&mx.exchange))),
            _ => None,
        });
        let mut hosts = match in_time(end, domain, exchangers).await? {
            Found::NoName => return Ok(SenderDomain::NoHost),
            Found::NoRecords => vec![domain.to_owned()],
            Found::Records(mut records) => {
                records.sort_unstable();
                records.into_iter().map(|(_, host)| host).collect()
            }
        };
        if hosts.iter().all(String::is_empty) {
            return Ok(SenderDomain::NullMx);
        }
        hosts.retain(|host| !host.is_empty());
        let mut trouble = None;
        for host in hosts.iter().take(MAX_NAMES) {
            match has_address(&self.dns, end, host).await {
                Ok(true) => return Ok(SenderDomain::TakesMail),
                Ok(false) => {}
                Err(reason) => trouble = Some(reason),
            }
        }
        trouble.map_or(Ok(SenderDomain::NoHost), Err)
    }

    /// What the lists about addresses say of one.
    pub async fn address_listings(&self, lists: &[DnsList], address: IpAddr) -> Vec<Listed> {
        let lists = lists.iter().filter(|list| list.about == About::Address);
        let shown = address.to_canonical().to_string();
        let asked = reversed(address);
        self.listings(lists.map(|list| (list, shown.clone(), asked.clone())))
            .await
    }

    /// What the lists about domains say of these.
    pub async fn domain_listings(&self, lists: &[DnsList], domains: &[&str]) -> Vec<Listed> {
        let lists = lists.iter().filter(|list| list.about == About::Domain);
        let pairs = lists.flat_map(|list| {
            let one = move |domain: &&str| (list, (*domain).to_owned(), (*domain).to_owned());
            domains.iter().map(one)
        });
        self.listings(pairs).await
    }

    /// For each list, what is asked about, and how that stands in the question.
    async fn listings<'a>(
        &self,
        questions: impl Iterator<Item = (&'a DnsList, String, String)>,
    ) -> Vec<Listed> {
        let end = Instant::now() + self.patience;
        let mut asking = JoinSet::new();
        for (n, (list, about, asked)) in questions.enumerate() {
            let (dns, list) = (self.dns.clone(), list.clone());
            asking.spawn(async move {
                let answers = listing(&dns, end, &list, &asked).await;
                let listed = Listed {
                    list,
                    about,
                    answers,
                };
                (n, listed)
            });
        }
        let mut answered = asking.join_all().await;
        answered.sort_by_key(|(n, _)| *n);
        answered.into_iter().map(|(_, listed)| listed).collect()
    }
}

/// Where the names of an address stand: RFC 1035 §3.5, RFC 3596 §2.5.
pub fn reverse_name(address: IpAddr) -> String {
    let suffix = match address.to_canonical() {
        IpAddr::V4(_) => "in-addr.arpa",
        IpAddr::V6(_) => "ip6.arpa",
    };
    format!("{}.{suffix}", reversed(address))
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Lookup");
        all.field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

async fn in_time<T>(end: Instant, name: &str, asked: impl Future<Output = Fact<T>>) -> Fact<T> {
    let late = |_| Err(format!("the DNS does not tell about {name} in time"));
    timeout_at(end, asked).await.unwrap_or_else(late)
}

async fn has_address(dns: &Dns, end: Instant, name: &str) -> Fact<bool> {
    let addresses = in_time(end, name, dns.known_addresses(name)).await?;
    Ok(!addresses.is_empty())
}

/// RFC 5782 §2.1: A records say that, TXT records why.
async fn listing(
    dns: &Dns,
    end: Instant,
    list: &DnsList,
    about: &str,
) -> Fact<Option<(String, String)>> {
    let asked = format!("{about}.{}", list.zone);
    let answers = dns.ask(&asked, RecordType::A, |data| match data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    let Found::Records(answers) = in_time(end, &asked, answers).await? else {
        return Ok(None);
    };
    let Some(answers) = counted(list, &answers)? else {
        return Ok(None);
    };
    let texts = dns.ask(&asked, RecordType::TXT, |data| match data {
        RData::TXT(text) => Some(printable(&text.txt_data)),
        _ => None,
    });
    let said = match in_time(end, &asked, texts).await {
        Ok(Found::Records(texts)) => texts.into_iter().next().unwrap_or_default(),
        _ => String::new(),
    };
    Ok(Some((answers, said)))
}

/// The answers that count, in order. RFC 5782 §2.1 keeps them within
/// 127.0.0.0/8: anything else comes from a list that is gone, or from a name
/// server that makes answers up. Above 127.255 lists say that they do not
/// answer us.
fn counted(list: &DnsList, answers: &[Ipv4Addr]) -> Fact<Option<String>> {
    let is_wrong = |answer: &&Ipv4Addr| {
        let [first, second, ..] = answer.octets();
        first != 127 || second == 255
    };
    if let Some(wrong) = answers.iter().find(is_wrong) {
        return Err(format!("{} answers with {wrong}, which is none", list.zone));
    }
    let counts = |answer: &&Ipv4Addr| {
        let mut wanted = list.answers.iter();
        wanted.any(|network| network.contains(IpAddr::V4(**answer)))
    };
    let mut counting: Vec<String> = answers
        .iter()
        .filter(counts)
        .map(ToString::to_string)
        .collect();
    counting.sort_unstable();
    Ok((!counting.is_empty()).then(|| counting.join(", ")))
}

fn printable(strings: &[Box<[u8]>]) -> String {
    let bytes = strings
        .iter()
        .flat_map(|string| string.iter())
        .take(MAX_TEXT);
    bytes
        .map(|b| {
            if matches!(b, b' '..=b'~') {
                char::from(*b)
            } else {
                '?'
            }
        })
        .collect()
}

/// An address as DNS lists and reverse zones ask about it: octets or nibbles
/// backwards (RFC 5782 §2.1 and §2.4, RFC 1035 §3.5, RFC 3596 §2.5).
fn reversed(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(address) => {
            let mut text = String::with_capacity(63);
            for octet in address.octets().iter().rev() {
                let separator = if text.is_empty() { "" } else { "." };
                let (low, high) = (octet & 15, octet >> 4);
                let _ = write!(text, "{separator}{low:x}.{high:x}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::gate::testing::{Habit, TROUBLE, name_server};

    #[test]
    fn addresses_are_turned_round() {
        for (address, expected) in [
            ("192.0.2.7", "7.2.0.192"),
            ("::ffff:192.0.2.7", "7.2.0.192"),
            (
                "2001:db8::a1",
                "1.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2",
            ),
        ] {
            assert_eq!(reversed(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn answers_of_lists() {
        let list = |answers: &[&str]| DnsList {
            zone: "list.test".into(),
            about: About::Address,
            weight: 1.0,
            answers: answers.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let (any, some) = (list(&["127.0.0.0/8"]), list(&["127.0.0.4/30"]));
        for (list, answers, expected) in [
            (&any, &["127.0.0.2"][..], Ok(Some("127.0.0.2"))),
            (
                &any,
                &["127.0.0.4", "127.0.0.2"],
                Ok(Some("127.0.0.2, 127.0.0.4")),
            ),
            (&some, &["127.0.0.2"], Ok(None)),
            (&some, &["127.0.0.2", "127.0.0.6"], Ok(Some("127.0.0.6"))),
            (
                &any,
                &["192.0.2.1"],
                Err("list.test answers with 192.0.2.1, which is none"),
            ),
            (
                &any,
                &["127.0.0.2", "127.255.255.254"],
                Err("list.test answers with 127.255.255.254, which is none"),
            ),
        ] {
            let answers: Vec<_> = answers.iter().map(|text| text.parse().unwrap()).collect();
            let found = counted(list, &answers);
            let found = found.as_ref().map(Option::as_deref).map_err(String::as_str);
            assert_eq!(found, expected, "{answers:?}");
        }
    }

    fn blocklist(about: About) -> Vec<DnsList> {
        let list = |zone: &str| DnsList {
            zone: zone.into(),
            about,
            weight: 1.0,
            answers: vec!["127.0.0.0/8".parse().unwrap()],
        };
        ["a.test", "b.test", "c.test"].map(list).into()
    }

    #[tokio::test]
    async fn what_is_no_answer_is_not_known_in_time() {
        const PATIENCE: Duration = Duration::from_millis(400);
        let address = "192.0.2.7".parse().unwrap();
        for habit in TROUBLE {
            let (server, _) = name_server(habit).await;
            let lookup = Lookup::new(&Dns::new(Some(&[server])).unwrap(), PATIENCE);
            let begin = Instant::now();
            let lists = blocklist(About::Address);
            let (reverse, helo, sender, listings) = tokio::join!(
                lookup.reverse(address),
                lookup.has_address("mx.example.net"),
                lookup.sender_domain("example.net"),
                lookup.address_listings(&lists, address),
            );
            // Side by side, not one after the other.
            assert!(begin.elapsed() < PATIENCE * 2, "{habit:?}");
            assert!(reverse.is_err(), "{habit:?}: {reverse:?}");
            assert!(helo.is_err() && sender.is_err(), "{habit:?}");
            assert_eq!(listings.len(), 3);
            assert!(listings.iter().all(|listed| listed.answers.is_err()));
        }
    }

    #[tokio::test]
    async fn listings_are_asked_once() {
        let (server, asked) = name_server(Habit::Lists).await;
        let dns = Dns::new(Some(&[server])).unwrap();
        let lookup = Lookup::new(&dns, Duration::from_secs(10));
        let expected = Some(("127.0.0.2, 127.0.0.3".to_owned(), "listed: ?[m".to_owned()));
        let address = "2001:db8::1".parse().unwrap();
        let (by_address, by_domain) = (blocklist(About::Address), blocklist(About::Domain));
        for _ in 0..3 {
            let listings = lookup.address_listings(&by_address, address).await;
            assert_eq!(listings[2].list.zone, "c.test");
            let mut answers = listings.iter().map(|listed| &listed.answers);
            assert!(answers.all(|answers| *answers == Ok(expected.clone())));
            let domains = ["example.net", "example.com"];
            let listings = lookup.domain_listings(&by_domain, &domains).await;
            assert_eq!(listings.len(), 6);
        }
        // Nine names, an address and a text of each.
        assert_eq!(asked.load(Ordering::Relaxed), 18);
    }
}
