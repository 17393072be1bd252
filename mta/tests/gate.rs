//! The gate with a DNS zone on loopback and real clients.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Command, Stdio};

use common::Host;
use common::dns::Dns;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Each client has an address of its own. 127.0.0.1 may relay. The reverse
/// name of all is localhost, which the resolver knows by itself.
const GOOD: &str = "127.0.0.10";
const LISTED: &str = "127.0.0.12";
const WELCOME: &str = "127.0.0.13";

fn zone() -> Dns {
    Dns::start(&[
        // Other addresses have no name.
        "--local=/in-addr.arpa/",
        "--local=/ip6.arpa/",
        "--mx-host=example.net,mx.example.net,10",
        "--dns-rr=null.example.net,15,000000",
        "--host-record=mx.example.net,127.0.0.10",
        "--host-record=mx.example.net,192.0.2.10,2001:db8::10",
        "--ptr-record=11.2.0.192.in-addr.arpa,gone.example.net",
        "--host-record=ip-192-0-2-14.example.net,192.0.2.14",
        "--address=/12.0.0.127.block.example.com/127.0.0.2",
        "--address=/13.0.0.127.block.example.com/127.0.0.2",
        "--address=/13.0.0.127.allow.example.com/127.0.5.1",
        "--address=/bad.example.net.names.example.com/127.0.0.4",
        "--host-record=bad.example.net,127.0.0.200",
        "--txt-record=12.0.0.127.block.example.com,see https://example.com/why",
    ])
}

fn host(dns: &Dns, more: &str) -> Host {
    Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\n[gate]\ngreeting_delay_seconds = 0\n{more}\
         [[gate.dns_list]]\nzone = \"block.example.com\"\nabout = \"address\"\n\
         [[gate.dns_list]]\nzone = \"allow.example.com\"\nabout = \"address\"\nweight = -2.0\n\
         [[gate.dns_list]]\nzone = \"names.example.com\"\nabout = \"domain\"\nweight = 1\n",
        dns.port
    ))
}

/// One message by Python's smtplib from an address; what it was refused with.
fn send(server: SocketAddr, client: &str, helo: &str, from: &str, to: &str) -> Result<(), String> {
    const SCRIPT: &str = "\
import smtplib, sys
host, port, client, helo, sender, to = sys.argv[1:]
try:
    with smtplib.SMTP(host, int(port), helo, 60, (client, 0)) as client:
        client.sendmail(sender, [to], b'Subject: x\\r\\n\\r\\nx\\r\\n')
except smtplib.SMTPRecipientsRefused as refused:
    code, text = list(refused.recipients.values())[0]
    sys.exit(f'{code} {text.decode()}')
";
    let output = Command::new("python3")
        .args(["-c", SCRIPT, &server.ip().to_string()])
        .args([&server.port().to_string(), client, helo, from, to])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// A connection from an address of its own.
fn connect_from(client: &str, server: SocketAddr) -> TcpStream {
    let client = SocketAddrV4::new(client.parse::<Ipv4Addr>().unwrap(), 0);
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &client).unwrap();
    connect(&stream, &server).unwrap();
    stream.into()
}

#[test]
fn clients_are_judged_by_what_the_dns_says() {
    let dns = zone();
    let host = host(&dns, "");
    let server = host.serve();
    let smtp = server.smtp[0];
    let (mx, from, anna) = ("mx.example.net", "x@example.net", "anna@example.org");
    for (client, helo, from, expected) in [
        (GOOD, mx, from, ""),
        (GOOD, mx, "", ""),
        (
            GOOD,
            "mail.example.org",
            from,
            "554 5.7.1 a mail host is not called mail.example.org: it is this host's own name",
        ),
        (
            GOOD,
            mx,
            "x@gone.example.net",
            "450 4.1.8 the sender's domain gone.example.net has no mail host",
        ),
        (
            GOOD,
            mx,
            "x@null.example.net",
            "554 5.7.27 the sender's domain null.example.net takes no mail",
        ),
        (
            GOOD,
            mx,
            "x@bad.example.net",
            "554 5.7.1 bad.example.net is listed at names.example.com (127.0.0.4)",
        ),
        // The name server does not speak about it: that is no reason.
        (GOOD, mx, "x@elsewhere.test", ""),
        (
            LISTED,
            mx,
            from,
            "554 5.7.1 127.0.0.12 is listed at block.example.com (127.0.0.2): see https://example.com/why",
        ),
        // One list weighs more than the other, and than other rules.
        (WELCOME, "localhost", from, ""),
        (GOOD, "gone.example.net", from, ""),
        // Relays are not asked.
        ("127.0.0.1", "localhost", "x@gone.example.net", ""),
    ] {
        let found = send(smtp, client, helo, from, anna)
            .err()
            .unwrap_or_default();
        assert_eq!(found, expected, "{client} {helo} {from}");
    }
    let line = server.wait_for_line("rule=\"dns-lists\" from=x@bad");
    for field in [
        " to=anna@example.org",
        " origin_ip=127.0.0.10",
        " origin_rdns=\"localhost\"",
        " encryption=\"(none)\"",
        " reason=\"dns-lists: bad.example.net is listed",
    ] {
        assert!(line.contains(field), "{field} is not in {line}");
    }
    let story = host.run(&["why", "-n", "100", anna]);
    for part in [
        "turned away from <x@example.net> for <anna@example.org>, by 127.0.0.12:",
        "554 5.7.1 127.0.0.12 is listed",
        "because dns-lists: 127.0.0.12 is listed",
        "passed the gate\n    unresolvable-helo: gone.example.net, as the client calls itself, has no \
         address (suspect)\n",
        "passed the gate\n    dns-lists: 127.0.0.13 is listed at block.example.com (127.0.0.2); \
         127.0.0.13 is listed at allow.example.com (127.0.5.1) (allow)\n    \
         odd-helo: a mail host is not called localhost: it is no full name (refuse)\n",
        "no-sender-domain: the DNS does not tell about elsewhere.test",
    ] {
        assert!(story.contains(part), "{part:?} is not in {story}");
    }
    assert_eq!(host.mail("anna", "").len(), 6);
}

#[test]
fn who_speaks_first_is_refused_at_rcpt() {
    let dns = zone();
    let host = host(&dns, "");
    let text = std::fs::read_to_string(host.config()).unwrap();
    let text = text.replace("greeting_delay_seconds = 0", "greeting_delay_seconds = 1");
    std::fs::write(host.config(), text).unwrap();
    let server = host.serve();
    let mut client = connect_from(GOOD, server.smtp[0]);
    let said = "EHLO mx.example.net\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<anna@example.org>\r\n\
                RCPT TO:<nobody@example.org>\r\nQUIT\r\n";
    client.write_all(said.as_bytes()).unwrap();
    let replies: Vec<String> = BufReader::new(client).lines().map(Result::unwrap).collect();
    let early = "554 5.7.1 \"EHLO mx.example.net\" came before the greeting";
    let last = &replies[replies.len() - 4..];
    assert_eq!(last, ["250 2.1.0 ok", early, early, "221 2.0.0 bye"]);
    let (mx, from) = ("mx.example.net", "x@example.net");
    send(server.smtp[0], GOOD, mx, from, "anna@example.org").unwrap();
}

#[test]
fn the_gate_can_be_tried_without_a_client() {
    let dns = zone();
    let host = host(&dns, "");
    let test = |ip: &str, more: &[&str]| {
        let mut command = host.command();
        command.args(["gate", "test", "--ip", ip, "--helo", "mx.example.net"]);
        command.args(["--from", "x@example.net", "--to", "anna@example.org"]);
        let output = command.args(more).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let listed =
        "127.0.0.12 is listed at block.example.com (127.0.0.2): see https://example.com/why";
    assert_eq!(test(GOOD, &[]), (Some(0), "pass\n".into()));
    assert_eq!(test("127.0.0.1", &[]), (Some(0), "relays\n".into()));
    let expected = format!("refuse\n  dns-lists: {listed} (refuse)\n554 5.7.1 {listed}\n");
    assert_eq!(test(LISTED, &[]), (Some(1), expected));
    let expected = format!(
        "{{\"type\":\"gate\",\"version\":1,\"verdict\":\"refuse\",\"reply\":\"554 5.7.1 {listed}\",\
         \"findings\":[{{\"rule\":\"dns-lists\",\"effect\":\"refuse\",\"evidence\":\"{listed}\"}}]}}\n"
    );
    assert_eq!(test(LISTED, &["--json"]), (Some(1), expected));
    let dialled = "ip-192-0-2-14.example.net, the reverse name of 192.0.2.14, holds it";
    let unresolvable = "gone.example.net, the reverse name of 192.0.2.11, has no address";
    for (ip, expected) in [
        ("192.0.2.10", "pass\n".to_owned()),
        ("2001:db8::10", "pass\n".to_owned()),
        (
            "192.0.2.14",
            format!("suspect\n  address-in-reverse-name: {dialled} (suspect)\n"),
        ),
        (
            "192.0.2.11",
            format!("suspect\n  unresolvable-reverse-name: {unresolvable} (suspect)\n"),
        ),
        ("192.0.2.12", refused("192.0.2.12")),
        ("2001:db8::11", refused("2001:db8::11")),
    ] {
        assert_eq!(test(ip, &[]).1, expected, "{ip}");
    }
}

fn refused(ip: &str) -> String {
    let why = format!("{ip} has no reverse name");
    format!("refuse for now\n  no-reverse-name: {why} (refuse for now)\n450 4.7.25 {why}\n")
}
