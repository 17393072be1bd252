//! What stands in front of qmail: tcprules, spamdyke and lists of passwords,
//! and that tcprules means what the real `tcprulescheck` says.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::net::IpAddr;

use common::imported::{self, found};
use mta::config::network::Network;
use mta::gate::rules::{Rules, Subject};
use mta::import::Plan;
use mta::import::report::Outcome::{Carried, Changed, Left};

const HOST: &[(&str, &str)] = &[
    ("/var/qmail/control/me", "mail.example.org\n"),
    ("/var/qmail/control/locals", "example.org\n"),
    ("/var/qmail/control/rcpthosts", "example.org\n"),
    (
        "/var/qmail/users/assign",
        "=bob:bob:1:1:/srv/bob:::\n=eve:eve:1:1:/srv/eve:::\n.\n",
    ),
];

fn planned(files: &[(&str, &str)]) -> Plan {
    imported::planned(&[HOST, files].concat())
}

#[test]
fn tcprules_are_relay_networks_and_rules() {
    let plan = planned(&[(
        "/etc/tcp.smtp",
        "127.:allow,RELAYCLIENT=\"\"\n192.0.2.:allow,RELAYCLIENT=\"\",DATABYTES=\"5\"\n192.0.2.7:allow\n\
         198.51.100.:deny\n203.0.113.1-2:allow,RBLSMTPD=\"\",NOSPP=\"\"\n203.0.113.9:allow,RBLSMTPD=\"-go away\"\n\
         =.example.net:deny\n2001:db8::7:deny\n2001:db8:1::allow,RELAYCLIENT=\"\"\n2001:DB8::8:deny\n:allow,QMAILQUEUE=\"bin/scan\"\n",
    )]);
    let relays = plan.settings.value("smtp", "relay_networks").unwrap();
    assert_eq!(
        relays.to_string(),
        "[\"127.0.0.0/8\", \"::1\", \"192.0.2.0/30\", \"192.0.2.4/31\", \"192.0.2.6\", \"192.0.2.8/29\", \
         \"192.0.2.16/28\", \"192.0.2.32/27\", \"192.0.2.64/26\", \"192.0.2.128/25\", \"2001:db8:1::/48\"]"
    );
    assert_eq!(
        plan.rules,
        [
            "deny address 198.51.100.0/24",
            "skip dns-lists address 203.0.113.1",
            "skip dns-lists address 203.0.113.2",
            "set address 203.0.113.1 NOSPP=\"\"",
            "set address 203.0.113.2 NOSPP=\"\"",
            "deny address 203.0.113.9",
            "deny name .example.net",
            "deny address 2001:db8::7",
        ]
    );
    let lines = found(&plan, "/etc/tcp.smtp");
    let expected = [
        (Left, Some(10)),
        (Carried, Some(1)),
        (Left, Some(2)),
        (Carried, Some(3)),
        (Carried, Some(4)),
        (Carried, Some(5)),
        (Carried, Some(6)),
        (Changed, Some(7)),
        (Carried, Some(8)),
        (Carried, Some(9)),
        (Left, Some(11)),
    ];
    assert_eq!(lines, expected);
}

/// An address of a line, perhaps with ranges, of either family.
fn address(random: &mut fastrand::Rng) -> String {
    let mut address = String::new();
    if random.bool() {
        for _ in 0..random.usize(0..4) {
            address += &format!("{:x}:", random.u16(1..4));
        }
        if !address.is_empty() && random.bool() {
            address += &format!(":{}", random.u8(1..4));
        }
        return address;
    }
    for n in 0..random.usize(0..5) {
        let low = random.u8(0..3);
        address += &match random.u8(0..4) {
            0 => format!("{low}-{}", low + random.u8(0..2)),
            _ => low.to_string(),
        };
        address += if n == 3 { "" } else { "." };
    }
    address
}

/// The real program compiles the text and is asked about addresses; ours must
/// let in, keep out and relay for the same.
#[test]
fn tcprulescheck_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut denied = [0, 0];
    for _ in 0..20 {
        let mut text = String::new();
        for _ in 0..random.usize(1..9) {
            let does = ["allow", "deny", "allow,RELAYCLIENT=\"\"", "allow,A=/x/"];
            let does = does[random.usize(0..does.len())];
            text += &format!("{}:{does}\n", address(&mut random));
        }
        let (rules, cdb) = (dir.path().join("rules"), dir.path().join("cdb"));
        fs::write(&rules, &text).unwrap();
        let status = tests::programs::peer("tcprules")
            .arg(&cdb)
            .arg(dir.path().join("tmp"))
            .stdin(File::open(&rules).unwrap())
            .status();
        assert!(status.unwrap().success(), "{text}");
        let plan = planned(&[("/etc/tcp.smtp", &text)]);
        let relays = plan.settings.value("smtp", "relay_networks").unwrap();
        let relays: Vec<Network> = relays
            .as_array()
            .unwrap()
            .iter()
            .map(|network| network.as_str().unwrap().parse().unwrap())
            .collect();
        let rules = Rules::parse(&plan.rules.join("\n")).unwrap();
        for n in 0..30 {
            let address = match n % 2 {
                0 => IpAddr::from([(); 4].map(|()| random.u8(0..4))),
                _ => {
                    let [a, b, c] = [(); 3].map(|()| random.u16(0..4));
                    IpAddr::from([a, b, c, 0, 0, 0, 0, random.u16(1..4)])
                }
            };
            let output = tests::programs::peer("tcprulescheck")
                .arg(&cdb)
                .env("TCPREMOTEIP", address.to_string())
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let subject = Subject {
                address,
                names: &[],
                helo: "x",
                sender: "",
                recipients: &[],
            };
            let denies = rules.ask(&subject).decides.is_some();
            let may_relay = relays.iter().any(|network| network.contains(address));
            assert_eq!(
                denies,
                said.contains("deny connection"),
                "{address}\n{text}\n{said}"
            );
            assert_eq!(
                may_relay,
                said.contains("set environment variable RELAYCLIENT="),
                "{address}\n{text}\n{said}"
            );
            denied[n % 2] += usize::from(denies);
        }
    }
    assert!(denied[0] > 30 && denied[1] > 30, "{denied:?}");
}

const SPAMDYKE: &[(&str, &str)] = &[
    (
        "/etc/spamdyke.conf",
        "# typical\nlog-level=info\nidle-timeout-secs=300\ngreeting-delay-secs=5\nmax-recipients=20\n\
         reject-empty-rdns\nreject-unresolvable-rdns=yes\nreject-missing-sender-mx\n\
         reject-recipient=same-as-sender\ndns-blacklist-entry=zen.dnsbl.example\n\
         dns-blacklist-entry=gone.example\ndns-blacklist-entry=!gone.example\n\
         rhs-whitelist-entry=good.example\nip-blacklist-file=/etc/spamdyke.d/ip\n\
         ip-whitelist-entry=192.0.2\nsender-whitelist-file=/etc/spamdyke.d/missing\n\
         sender-blacklist-entry=@spam.example\nheader-blacklist-entry=Subject: *lottery*\n\
         graylist-level=always-create-dir\ngraylist-dir=/var/lib/gray\ngraylist-min-secs=300\n\
         graylist-max-secs=1814400\ngraylist-exception-rdns-entry=.example.net\n\
         tls-privatekey-password=hush\npolicy-url=https://mail.example.org/\nmax-recipients=50\n\
         config-file=/etc/spamdyke.d/more\nconfig-dir=/etc/spamdyke.d/local\nno-such-option=1\n",
    ),
    (
        "/etc/spamdyke.d/more",
        "rdns-blacklist-entry=.dsl.example\r\nconfig-file=/etc/spamdyke.conf\n",
    ),
    (
        "/etc/spamdyke.d/ip",
        "# bad\n198.51.100.7\n203.0.113.0/255.255.255.0\n10.1.2-3.\nnonsense\n",
    ),
    (
        "/etc/spamdyke.d/local/_recipient_/org/example/_at_/bob",
        "graylist-level=none\nreject-empty-rdns=no\n",
    ),
    (
        "/etc/spamdyke.d/local/_ip_/192/0",
        "filter-level=allow-all\n",
    ),
    (
        "/etc/spamdyke.d/local/_sender_/com/bad",
        "filter-level=reject-all\nsender-blacklist-entry=@x.example\n",
    ),
    ("/etc/spamdyke.d/local/readme", "filter-level=reject-all\n"),
];

#[test]
fn spamdyke_is_settings_and_rules() {
    let plan = planned(SPAMDYKE);
    assert_eq!(
        plan.rules,
        [
            "allow address 192.0.2.0/24",
            "deny address 198.51.100.7",
            "deny address 203.0.113.0/24",
            "deny address 10.1.2.0/24",
            "deny address 10.1.3.0/24",
            "deny sender @spam.example",
            "deny header \"subject: *lottery*\"",
            "skip greylist name .example.net",
            "deny name .dsl.example",
            "allow address 192.0.0.0/16",
            "skip greylist recipient bob@example.org",
            "skip no-reverse-name recipient bob@example.org",
            "deny sender @bad.com",
            "deny sender @x.example sender @bad.com",
        ]
    );
    let said = |section, key| plan.settings.value(section, key).unwrap().to_string();
    for (section, key, expected) in [
        ("smtp", "command_seconds", "300"),
        ("smtp", "max_recipients", "50"),
        ("gate", "greeting_delay_seconds", "5"),
        ("gate", "no_reverse_name", "\"refuse\""),
        ("gate", "unresolvable_reverse_name", "\"refuse\""),
        ("gate", "no_sender_domain", "\"refuse\""),
        ("gate", "greylist", "\"all\""),
        ("gate", "greylist_seconds", "300"),
        ("gate", "greylist_days", "21"),
    ] {
        assert_eq!(said(section, key), expected, "{section}.{key}");
    }
    let lists: Vec<String> = plan
        .settings
        .dns_lists
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lists,
        [
            "about = \"domain\"\nweight = -2.0\nzone = \"good.example\"\n",
            "about = \"address\"\nzone = \"zen.dnsbl.example\"\n",
        ]
    );
    let conf = found(&plan, "/etc/spamdyke.conf");
    for (line, outcome) in [
        (2, Carried),
        (5, Left),
        (9, Left),
        (16, Left),
        (20, Left),
        (23, Carried),
        (24, Left),
        (26, Carried),
        (29, Left),
    ] {
        assert!(
            conf.contains(&(outcome, Some(line))),
            "{line} {outcome:?}: {conf:?}"
        );
    }
    assert!(conf.contains(&(Left, None)), "a loop of files");
    assert_eq!(found(&plan, "/etc/spamdyke.d/ip"), [(Left, Some(5))]);
    assert_eq!(
        found(&plan, "/etc/spamdyke.d/local/readme"),
        [(Left, Some(1))]
    );
    assert!(!format!("{:?}", plan.report).contains("hush"));
    // Every option of every file is spoken of.
    for (path, text) in SPAMDYKE.iter().filter(|(path, _)| !path.ends_with("/ip")) {
        for (line, n) in text.lines().zip(1..) {
            let is_quiet = line.starts_with('#')
                || line.starts_with("config-file")
                || line.contains("gone.example");
            let is_found = found(&plan, path).iter().any(|(_, line)| *line == Some(n));
            assert!(is_quiet || is_found, "{path}:{n}");
        }
    }
}

#[test]
fn passwords_come_with_their_users() {
    let plan = planned(&[(
        "/var/qmail/users/authuser",
        "bob@example.org:secret one\neve:$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.\nghost:x\nnone\n",
    )]);
    let users = plan.accounts.users.iter();
    let with: Vec<(String, bool)> = users
        .map(|(address, user)| (address.to_string(), user.password.is_some()))
        .collect();
    assert_eq!(
        with,
        [
            ("bob@example.org".into(), true),
            ("eve@example.org".into(), true)
        ]
    );
    let lines = found(&plan, "/var/qmail/users/authuser");
    assert_eq!(
        lines,
        [
            (Left, Some(4)),
            (Carried, Some(1)),
            (Changed, Some(2)),
            (Left, Some(3))
        ]
    );
    let shown = format!("{plan:?}");
    assert!(
        !shown.contains("secret one") && !shown.contains("saltstri"),
        "{shown}"
    );
}
