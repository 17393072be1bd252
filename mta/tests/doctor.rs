//! `postern dns` and `postern doctor`, before a name server on loopback: what
//! the one prints is entered, and then both are content.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use common::Host;
use common::dns::Dns;
use serde_json::Value;

const AUTHORITY: [&str; 3] = [
    "--local=/example.org/",
    "--local=/in-addr.arpa/",
    "--local=/ip6.arpa/",
];

fn ask(host: &Host, arguments: &[&str]) -> (i32, String) {
    let output: Output = host.command().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "", "{arguments:?}");
    let code = output.status.code().unwrap();
    (code, String::from_utf8(output.stdout).unwrap())
}

fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A host that asks this name server, and sends all its mail to a port.
fn host(dns: &Dns, port: u16) -> Host {
    Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\n[[route]]\ndomain = \"*\"\nhost = \"127.0.0.1\"\n\
         port = {port}\n",
        dns.port
    ))
}

/// A record as dnsmasq takes it.
fn option(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap();
    let (name, value) = (text("name"), text("value"));
    let words: Vec<&str> = value
        .split(' ')
        .map(|word| word.trim_end_matches('.'))
        .collect();
    match text("kind") {
        "A" | "AAAA" => format!("--host-record={name},{value}"),
        "MX" => format!("--mx-host={name},{},{}", words[1], words[0]),
        "PTR" => format!("--ptr-record={name},{}", words[0]),
        "SRV" => format!(
            "--srv-host={name},{},{},{},{}",
            words[3], words[2], words[0], words[1]
        ),
        "TXT" => {
            // On its command line dnsmasq knows no quotes.
            let parts = value.as_bytes().chunks(200);
            let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
            format!("--txt-record={name},{}", parts.join(","))
        }
        kind => panic!("{kind}"),
    }
}

#[test]
fn what_dns_prints_is_what_doctor_wants() {
    let elsewhere = Host::new("");
    let server = elsewhere.serve();
    let port = server.smtp[0].port();

    let empty = Dns::start(&AUTHORITY);
    let ill = host(&empty, port);
    let addresses = ["--address", "192.0.2.7", "--address", "2001:db8::7"];
    let (code, zone) = ask(&ill, &[&["dns"], &addresses[..]].concat());
    assert_eq!(code, 1);
    let first = "example.org. IN MX 10 mail.example.org.\n;   MISSING (mail finds this host)\n";
    assert!(zone.starts_with(first), "{zone}");
    assert!(zone.contains("\n7.2.0.192.in-addr.arpa. IN PTR mail.example.org.\n"));
    let (code, json) = ask(
        &ill,
        &[&["dns", "example.org", "--json"], &addresses[..]].concat(),
    );
    let records = objects(&json);
    assert_eq!((code, zone.lines().count()), (1, 2 * records.len()));
    assert!(records.iter().all(|record| record["state"] == "missing"));

    let (code, said) = ask(&ill, &["doctor"]);
    assert_eq!(code, 2, "{said}");
    for part in [
        "critical  dns: example.org has no such MX record: mail finds this host\n          \
         mend: enter: example.org. IN MX 10 mail.example.org.\n",
        "critical  dns: mail.example.org has no address",
        "ok        way out: 127.0.0.1:",
        "ok        rights: ",
        "ok        queue: empty",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let options: Vec<String> = records.iter().map(option).collect();
    let options = options.iter().map(String::as_str);
    let options: Vec<&str> = AUTHORITY.into_iter().chain(options).collect();
    let full = Dns::start(&options);
    // The same host, for each has keys of its own.
    let of = |dns: &Dns| format!("dns = [\"127.0.0.1:{}\"]", dns.port);
    let text = fs::read_to_string(ill.config()).unwrap();
    fs::write(ill.config(), text.replace(&of(&empty), &of(&full))).unwrap();
    let well = ill;
    let (code, zone) = ask(&well, &["dns"]);
    assert_eq!((code, zone.matches("MISSING").count()), (0, 0), "{zone}");
    let (_, json) = ask(&well, &["doctor", "--json"]);
    let of = |check: &str| {
        let findings = objects(&json).into_iter();
        let mut found = findings.filter(|finding| finding["check"] == check);
        let finding = found.next().unwrap();
        (finding["level"].clone(), finding["text"].clone())
    };
    for check in [
        "dns",
        "way out",
        "certificate",
        "rights",
        "watches",
        "queue",
        "clock",
    ] {
        assert_eq!(of(check).0, "ok", "{:?}", of(check));
    }

    // Nobody listens there any more, and others can read the key.
    server.signal("TERM");
    server.wait();
    let key = well.data().join("tls/key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = ask(&well, &["doctor"]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("critical  way out: no mail can leave: 127.0.0.1:"),
        "{said}"
    );
    let mend = format!("mend: chmod go= {}", key.display());
    assert!(said.contains(&mend), "{said}");
}

#[test]
fn a_certificate_that_ends_is_told_of() {
    let host = Host::new("");
    let end = |year| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["mail.example.org".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(host.data().join("tls/cert.pem"), certificate.pem()).unwrap();
        fs::write(host.data().join("tls/key.pem"), key.serialize_pem()).unwrap();
        let output = host.command().arg("check").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("cert.pem"))
            .collect();
        (output.status.code().unwrap(), lines.join("\n"))
    };
    let (code, said) = end(2020);
    assert!(code == 1 && said.contains("has expired"), "{said}");
    let (code, said) = end(3000);
    assert!(code == 0 && !said.contains("expire"), "{said}");
}
