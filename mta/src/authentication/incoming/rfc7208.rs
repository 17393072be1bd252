//! The test suite of openspf.org for RFC 7208, asked of the verifier by a name
//! server that has its zones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mail_auth::SpfResult;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Origin, Verifier};
use crate::remote::dns::Dns;
use crate::smtp::ReversePath;

const SUITE: &str = include_str!("../../../tests/data/spf/rfc7208-tests.json");

/// What the suite does not ask: whoever has the reverse zone of an address
/// writes any name there, and `a=` is a modifier that nobody has defined.
const OURS: &str = r#"{
    "tests": {
        "p-forged": {"helo": "x.example", "host": "1.2.3.4", "mailfrom": "x@p.example", "result": ["fail"]},
        "p-honest": {"helo": "x.example", "host": "1.2.3.5", "mailfrom": "x@p.example", "result": ["pass"]},
        "a-modifier": {"helo": "x.example", "host": "1.2.3.4", "mailfrom": "x@a.example", "result": ["fail"]},
        "included-malformed": {"helo": "x.example", "host": "1.2.3.4", "mailfrom": "x@i.example", "result": ["permerror"]}
    },
    "zonedata": {
        "4.3.2.1.in-addr.arpa": [{"PTR": "good.example"}],
        "5.3.2.1.in-addr.arpa": [{"PTR": "good.example"}],
        "good.example": [{"A": "1.2.3.5"}],
        "good.example.ok.example": [{"A": "127.0.0.2"}],
        "p.example": [{"TXT": "v=spf1 exists:%{p}.ok.example -all"}],
        "a.example": [{"TXT": "v=spf1 a=all.example -all"}],
        "all.example": [{"A": "1.2.3.4"}],
        "i.example": [{"TXT": "v=spf1 include:b.example -all"}],
        "b.example": [{"TXT": "v=spf1 ip4:1.2.3.4/33 -all"}]
    }
}"#;

/// Where something else is found, by why; docs/authentication.md tells what
/// comes of it.
const DIFFERENT: &[(&str, &[(&str, &str)])] = &[
    (
        "A name that the DNS cannot have, made by a macro, is no match (§4.8); mail-auth takes it for trouble of the DNS.",
        &[
            ("hello-domain-literal", "temperror"),
            ("invalid-domain-long-via-macro", "temperror"),
            ("invalid-hello-macro", "temperror"),
            ("macro-mania-in-domain", "temperror"),
        ],
    ),
    (
        "mail-auth ends a name at a colon or slash.",
        &[
            ("a-colon-domain", "permerror"),
            ("a-colon-domain-ip4mapped", "permerror"),
            ("mx-colon-domain", "permerror"),
            ("mx-colon-domain-ip4mapped", "permerror"),
        ],
    ),
    (
        "mail-auth takes AAAA records for what `exists` (§5.7).",
        &[("exists-ip6only", "pass")],
    ),
    (
        "As before RFC 7208: questions without an answer are not counted (§4.6.4: they should be); all questions are.",
        &[("void-over-limit", "neutral")],
    ),
];

/// Senders that are refused at MAIL, so that nobody asks.
const NO_PATHS: &[&str] = &[
    "dorky-sentinel",
    "emptylabel",
    "nolocalpart",
    "toolonglabel",
];

#[derive(Deserialize)]
struct Scenario {
    tests: BTreeMap<String, Test>,
    zonedata: BTreeMap<String, Vec<Value>>,
}

#[derive(Clone, Deserialize)]
struct Test {
    helo: String,
    host: String,
    mailfrom: String,
    result: Vec<String>,
}

/// A domain's records, by kind; `TIMEOUT`: what is not there is not answered.
type Zone = BTreeMap<String, Vec<Value>>;

#[tokio::test(flavor = "multi_thread")]
async fn results_are_those_of_the_suite_but_for_what_is_listed() {
    let mut scenarios: Vec<Scenario> = serde_json::from_str(SUITE).unwrap();
    scenarios.push(serde_json::from_str(OURS).unwrap());
    let mut asked = JoinSet::new();
    let (mut no_paths, mut n_tests) = (Vec::new(), 0);
    for scenario in scenarios {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zones = scenario.zonedata.into_iter();
        let zone: Zone = zones
            .map(|(name, records)| (name.to_lowercase(), records))
            .collect();
        tokio::spawn(serve(socket, zone));
        let dns = Dns::new(Some(&[address])).unwrap();
        let verifier = Verifier::new(&dns, "receiver.example.org", Duration::from_secs(9));
        for (name, test) in scenario.tests {
            n_tests += 1;
            let Ok(reverse_path) = ReversePath::parse(test.mailfrom.as_bytes()) else {
                no_paths.push(name);
                continue;
            };
            let origin = Origin {
                address: test.host.parse::<IpAddr>().unwrap().to_canonical(),
                helo: test.helo,
                reverse_path,
            };
            let verifier = verifier.clone();
            asked.spawn(async move {
                // Longer than any answer takes; some never come.
                let end = Instant::now() + Duration::from_secs(8);
                let spf = match origin.reverse_path {
                    ReversePath::Null => verifier.spf_of_helo(&origin, end).await,
                    ReversePath::Mailbox(_) => verifier.spf_of_sender(&origin, end).await,
                };
                (name, word(spf.result()), test.result)
            });
        }
    }
    let mut different = Vec::new();
    while let Some(one) = asked.join_next().await {
        let (name, found, expected) = one.unwrap();
        if !expected.iter().any(|word| word == found) {
            different.push((name, found));
        }
    }
    different.sort();
    no_paths.sort();
    assert_eq!(n_tests, 203 + 4);
    let different: Vec<(&str, &str)> = different
        .iter()
        .map(|(name, found)| (name.as_str(), *found))
        .collect();
    assert_eq!(no_paths, NO_PATHS);
    let mut listed: Vec<(&str, &str)> = DIFFERENT
        .iter()
        .flat_map(|(_, tests)| *tests)
        .copied()
        .collect();
    listed.sort();
    assert_eq!(different, listed);
}

fn word(result: SpfResult) -> &'static str {
    match result {
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::SoftFail => "softfail",
        SpfResult::Neutral => "neutral",
        SpfResult::TempError => "temperror",
        SpfResult::PermError => "permerror",
        SpfResult::None => "none",
    }
}

async fn serve(socket: UdpSocket, zone: Zone) {
    let mut query = [0; 512];
    while let Ok((n, client)) = socket.recv_from(&mut query).await {
        if let Some(answer) = answer(&zone, &query[..n]) {
            socket.send_to(&answer, client).await.unwrap();
        }
    }
}

/// `None`: no answer comes.
fn answer(zone: &Zone, query: &[u8]) -> Option<Vec<u8>> {
    let mut labels: Vec<String> = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += 1 + label.len();
    }
    let mut name = labels.join(".");
    let kind = query[at + 2];
    let mut answer = query[..at + 5].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    // A name that leads to another one, and it back, ends somewhere.
    for _ in 0..4 {
        let Some(records) = zone.get(&name) else {
            if answer[7] == 0 {
                answer[3] = 0x83;
            }
            break;
        };
        let word = match kind {
            1 => "A",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            28 => "AAAA",
            _ => return Some(answer),
        };
        let of = |word: &str| -> Vec<&Value> {
            records
                .iter()
                .filter_map(|record| record.get(word))
                .collect()
        };
        let mut found = of(word);
        // What the suite calls SPF is a TXT record where there is no other.
        if word == "TXT" && found.is_empty() {
            found = of("SPF");
        }
        found.retain(|record| *record != "NONE");
        let alias = of("CNAME").first().and_then(|name| name.as_str());
        if found.is_empty() && alias.is_none() {
            let is_late = records.iter().any(|record| record == "TIMEOUT");
            return (!is_late).then_some(answer);
        }
        let mut add = |kind: u8, data: &[u8]| {
            answer[7] += 1;
            answer.extend(wire(&name));
            answer.extend([0, kind, 0, 1, 0, 0, 0, 60]);
            answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            answer.extend(data);
        };
        for record in found {
            add(kind, &data(kind, record));
        }
        let Some(alias) = alias else { break };
        add(5, &wire(alias));
        name = alias.trim_end_matches('.').to_lowercase();
    }
    Some(answer)
}

fn data(kind: u8, record: &Value) -> Vec<u8> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match kind {
        1 => text(record)
            .parse::<std::net::Ipv4Addr>()
            .unwrap()
            .octets()
            .into(),
        28 => text(record)
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
            .into(),
        15 => {
            let preference = u16::try_from(record[0].as_u64().unwrap()).unwrap();
            [&preference.to_be_bytes()[..], &wire(&text(&record[1]))].concat()
        }
        16 => {
            let strings = match record.as_array() {
                // No text is an empty one.
                Some(strings) if strings.is_empty() => vec![String::new()],
                Some(strings) => strings.iter().map(text).collect(),
                None => vec![text(record)],
            };
            let bytes = strings.into_iter().flat_map(|string| {
                // Characters of the suite are bytes.
                let bytes: Vec<u8> = string.chars().map(|c| u8::try_from(c).unwrap()).collect();
                if bytes.is_empty() {
                    return vec![0];
                }
                let parts = bytes.chunks(255).map(|part| {
                    let length = u8::try_from(part.len()).unwrap();
                    [&[length][..], part].concat()
                });
                parts.collect::<Vec<_>>().concat()
            });
            bytes.collect()
        }
        _ => wire(&text(record)),
    }
}

/// A name as the DNS has it.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.trim_end_matches('.').split('.');
    let mut wire = Vec::new();
    for label in labels.filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}
