//! The gate with a DNS zone on loopback and real clients.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::dns::{Dns, connect_from};
use common::{Host, Talk, said};

/// Each client has an address of its own. 127.0.0.1 may relay. The reverse
/// name of all is localhost, which the resolver knows by itself.
const GOOD: &str = "127.0.0.10";
const LISTED: &str = "127.0.0.12";
const WELCOME: &str = "127.0.0.13";

const NO_GREYLIST: &str = "greylist = \"nobody\"\n";

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
    said(&output)
}

#[test]
fn clients_are_judged_by_what_the_dns_says() {
    let dns = zone();
    let host = host(&dns, NO_GREYLIST);
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
        "refused for anna@example.org, from <x@example.net> by 127.0.0.12:",
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
    let host = host(&dns, NO_GREYLIST);
    let test = |ip: &str, more: &[&str]| {
        let mut command = host.command();
        command.args(["gate", "test", "--ip", ip, "--helo", "mx.example.net"]);
        command.args(["--from", "x@example.net"]);
        if !more.contains(&"--to") {
            command.args(["--to", "anna@example.org"]);
        }
        let output = command.args(more).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let listed =
        "127.0.0.12 is listed at block.example.com (127.0.0.2): see https://example.com/why";
    assert_eq!(test(GOOD, &[]), (Some(0), "pass\n".into()));
    assert_eq!(test("127.0.0.1", &[]), (Some(0), "relays\n".into()));
    let nobody = "refuse\n550 5.1.1 no such user here\n".to_owned();
    let to = ["--to", "nobody@example.org"];
    assert_eq!(test(GOOD, &to), (Some(1), nobody));
    let unknown = "relays\n550 5.1.1 no such user here\n".to_owned();
    assert_eq!(test("127.0.0.1", &to), (Some(1), unknown));
    let to = ["--to", "x@elsewhere.test"];
    let denied = "refuse\n550 5.7.1 relaying denied\n".to_owned();
    assert_eq!(test(GOOD, &to), (Some(1), denied));
    assert_eq!(test("127.0.0.1", &to), (Some(0), "relays\n".into()));
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

/// A host with these lines in `[gate]`, rules and plugins of its own.
fn host_with(dns: &Dns, more: &str, rules: &str) -> Host {
    let more = format!("tarpit_seconds = 0\nrules = \"$DIR/rules\"\n{more}");
    let host = host(dns, &more);
    std::fs::write(host.path("rules"), rules).unwrap();
    host
}

#[test]
fn rules_decide_before_the_dns_and_are_read_again() {
    let dns = zone();
    let rules = "\
allow address 127.0.0.12
deny  address 127.0.0.10 sender @spam.test
deny  recipient bob@example.org
skip  odd-helo,no-sender-domain address 127.0.0.20
set   address 127.0.0.21 RELAYCLIENT=\"\"
deny  header \"subject: *lottery*\"
";
    let host = host_with(&dns, "", rules);
    let server = host.serve();
    let smtp = server.smtp[0];
    let (mx, from) = ("mx.example.net", "x@example.net");
    let (anna, bob) = ("anna@example.org", "bob@example.org");
    let against = "554 5.7.1 a rule of this host is against it";
    for (client, helo, from, to, expected) in [
        // Listed in the DNS, and by no name.
        (LISTED, "localhost", from, anna, ""),
        (GOOD, mx, "x@a.spam.test", anna, against),
        (GOOD, mx, from, bob, against),
        ("127.0.0.20", "localhost", "x@gone.example.net", anna, ""),
        (GOOD, mx, from, "x@example.net", "550 5.7.1 relaying denied"),
        ("127.0.0.21", mx, from, "x@example.net", ""),
    ] {
        let found = send(smtp, client, helo, from, to).err().unwrap_or_default();
        assert_eq!(found, expected, "{client} {from} {to}");
    }
    let subject = "Subject: x\r\nX: y\r\nSUBJECT: win\r\n the Lottery\r\n\r\nx";
    let found = send_message(smtp, GOOD, subject).unwrap_err();
    assert_eq!(found, against);
    assert_eq!(send_message(smtp, LISTED, subject), Ok(()));
    let story = host.run(&["why", "-n", "100", from]);
    let why = "because rules: line 6 of the rules, about \"SUBJECT: win the Lottery\" (refuse)";
    assert!(story.contains(why), "{story}");

    let path = host.path("rules");
    std::fs::write(&path, "deny address 127.0.0.12\nallow all\n").unwrap();
    server.signal("HUP");
    let line = server.wait_for_line("the gate stays as it was");
    assert!(line.contains("rules:2: all of what?"), "{line}");
    assert_eq!(send(smtp, LISTED, mx, from, anna), Ok(()));
    std::fs::write(&path, "deny address 127.0.0.12\n").unwrap();
    server.signal("HUP");
    server.wait_for_line("the gate's rules are read again");
    assert_eq!(send(smtp, LISTED, mx, from, anna), Err(against.to_owned()));
}

/// A whole message by smtplib.
fn send_message(server: SocketAddr, client: &str, message: &str) -> Result<(), String> {
    const SCRIPT: &str = "\
import smtplib, sys
host, port, client, message = sys.argv[1:]
try:
    with smtplib.SMTP(host, int(port), 'mx.example.net', 60, (client, 0)) as client:
        client.sendmail('x@example.net', ['anna@example.org'], message.encode())
except smtplib.SMTPDataError as refused:
    sys.exit(f'{refused.smtp_code} {refused.smtp_error.decode()}')
";
    let output = Command::new("python3")
        .args(["-c", SCRIPT, &server.ip().to_string()])
        .args([&server.port().to_string(), client, message])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    said(&output)
}

#[test]
fn suspects_come_again_unless_a_user_wants_no_greylist() {
    let dns = zone();
    let host = host_with(&dns, "greylist_seconds = 1\n", "");
    host.run(&["user", "set", "bob@example.org", "--gate", "no-greylist"]);
    let server = host.serve();
    let smtp = server.smtp[0];
    let (odd, from) = ("gone.example.net", "x@example.net");
    let (anna, bob) = ("anna@example.org", "bob@example.org");
    let later = "450 4.7.1 this host does not know yours, try again in 1 seconds";
    assert_eq!(send(smtp, GOOD, "mx.example.net", from, anna), Ok(()));
    assert_eq!(send(smtp, GOOD, odd, from, anna), Err(later.to_owned()));
    assert_eq!(send(smtp, GOOD, odd, from, bob), Ok(()));
    assert_eq!(
        send(smtp, GOOD, odd, from, "nobody@example.org").unwrap_err()[..3],
        *"550"
    );
    // Also over a restart.
    server.signal("TERM");
    server.wait();
    let server = host.serve();
    let smtp = server.smtp[0];
    common::wait_for("the end of the pause", || {
        send(smtp, GOOD, odd, from, anna).ok()
    });
    // From now on its network is known.
    assert_eq!(
        send(smtp, "127.0.0.99", odd, "new@example.net", anna),
        Ok(())
    );
    assert_eq!(host.mail("anna", "").len(), 3);
    assert_eq!(host.mail("bob", "").len(), 1);
    let story = host.run(&["why", anna]);
    for part in [
        "because greylist: this host does not know yours",
        "greylist: the client has come again (pass)",
        "greylist: mail has come from its network (pass)",
    ] {
        assert!(story.contains(part), "{part} is not in {story}");
    }
}

#[test]
fn users_and_domains_open_the_gate() {
    let dns = zone();
    let host = host(&dns, NO_GREYLIST);
    let server = host.serve();
    let (mx, from) = ("mx.example.net", "x@example.net");
    let refused = |to: &str| send(server.smtp[0], LISTED, mx, from, to).is_err();
    let (anna, bob) = ("anna@example.org", "bob@example.org");
    assert!(refused(anna) && refused(bob));
    host.run(&["user", "set", bob, "--gate", "off"]);
    assert!(refused(anna) && !refused(bob));
    host.run(&["domain", "set", "example.org", "--gate", "off"]);
    assert!(!refused(anna));
    host.run(&["user", "set", anna, "--gate", "on"]);
    assert!(refused(anna) && !refused(bob));
    assert_eq!(
        (host.mail("anna", "").len(), host.mail("bob", "").len()),
        (1, 2)
    );
}

#[test]
fn whoever_is_refused_waits_longer_each_time() {
    let dns = zone();
    let host = host(&dns, &format!("{NO_GREYLIST}tarpit_seconds = 2\n"));
    let server = host.serve();
    let mut client = Talk::new(connect_from(LISTED, server.smtp[0]));
    client.greet("EHLO").unwrap();
    client.ask("MAIL FROM:<x@example.net>\r\n", 250).unwrap();
    for seconds in [0, 1, 2, 2] {
        let begin = Instant::now();
        client.ask("RCPT TO:<anna@example.org>\r\n", 554).unwrap();
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_secs(seconds), "{waited:?}");
        // It is bounded, also on a busy machine.
        assert!(waited < Duration::from_secs(seconds + 30), "{waited:?}");
    }
}

#[test]
fn plugins_see_the_session_and_have_their_say() {
    let dns = zone();
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("policy");
    // As one would write it for qmail-spp.
    std::fs::write(
        &plugin,
        "#!/bin/sh\n\
         echo \"$SMTPRCPTHOSTSOK $SMTPRCPTCOUNT $SMTPRCPTCOUNTALL $TCPREMOTEIP $WHO $SMTPMAILFROM\" >>seen\n\
         case $SMTPRCPTTO in\n\
         old@*) echo Canna@example.org; echo \"HX-Original-To: $SMTPRCPTTO\"; echo N;;\n\
         spam@*) echo 'P553-5.7.1 see the policy'; echo 'E553 5.7.1 not wanted';;\n\
         out@*) echo O;;\n\
         end@*) echo 'R550 5.7.1 enough';;\n\
         gone@*) echo D;;\n\
         esac\n",
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&plugin, mode).unwrap();
    let table = folder.path().join("plugins");
    std::fs::write(
        &table,
        "[helo]\n:test \"$SMTPHELOHOST\" = mx.example.net || echo LR550 5.7.1 not by $SMTPHELOHOST\n\
         [mail]\n:test \"$SMTPMAILFROM\" || echo LD554 5.7.1 no reports today\n\
         :test \"$SMTPMAILFROM\" != former@example.net || echo Cx@example.net\n[rcpt]\npolicy\n",
    )
    .unwrap();
    let more = format!("plugins = \"{}\"\n", table.display());
    let host = host_with(&dns, &more, "set address 127.0.0.10 WHO=\"good\"\n");
    let server = host.serve();
    let smtp = server.smtp[0];
    let (mx, from) = ("mx.example.net", "x@example.net");
    for (helo, from, to, expected) in [
        (mx, from, "old@example.org", ""),
        (
            mx,
            from,
            "spam@example.org",
            "553 5.7.1 see the policy\n5.7.1 not wanted",
        ),
        (mx, from, "out@example.net", ""),
        (mx, from, "in@example.net", "550 5.7.1 relaying denied"),
        (
            "gone.example.net",
            from,
            "anna@example.org",
            "550 5.7.1 not by gone.example.net",
        ),
        (mx, from, "end@example.org", "550 5.7.1 enough"),
    ] {
        let found = send(smtp, GOOD, helo, from, to).err().unwrap_or_default();
        assert_eq!(found, expected, "{helo} {from} {to}");
    }
    let dropped = send(smtp, GOOD, mx, from, "gone@example.org").unwrap_err();
    assert!(dropped.contains("SMTPServerDisconnected"), "{dropped}");
    let report = send(smtp, GOOD, mx, "", "anna@example.org").unwrap_err();
    assert!(report.contains("no reports today"), "{report}");
    let mail = String::from_utf8(host.mail("anna", "").pop().unwrap()).unwrap();
    assert!(mail.contains("Delivered-To: anna@example.org\n"), "{mail}");
    let (trace, own) = mail.split_once("X-Original-To: old@example.org\n").unwrap();
    assert!(trace.contains("Received: from mx.example.net"), "{mail}");
    assert!(own.starts_with("Subject: x\n"), "{mail}");
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    let lines: Vec<&str> = seen.lines().take(3).collect();
    let expected = [
        "1 0 1 127.0.0.10 good x@example.net",
        "1 0 1 127.0.0.10 good x@example.net",
        "0 0 1 127.0.0.10 good x@example.net",
    ];
    assert_eq!(lines, expected);

    // A sender that one has changed is changed for all recipients.
    let mut client = Talk::new(connect_from(GOOD, smtp));
    assert_eq!(client.reply().unwrap(), 220);
    for line in [
        "EHLO mx.example.net",
        "MAIL FROM:<former@example.net>",
        "RCPT TO:<anna@example.org>",
        "RCPT TO:<bob@example.org>",
    ] {
        client.ask(&format!("{line}\r\n"), 250).unwrap();
    }
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    let senders: Vec<_> = seen.lines().rev().take(2).collect();
    let expected = [
        "1 1 2 127.0.0.10 good x@example.net",
        "1 0 1 127.0.0.10 good x@example.net",
    ];
    assert_eq!(senders, expected);
}

#[test]
fn a_network_that_comes_too_often_waits() {
    let dns = zone();
    let more = "connections_per_minute = 6\nrecipients_per_minute = 3\n";
    let host = host_with(&dns, more, "");
    let smtp = host.serve();
    let smtp_at = smtp.smtp[0];
    let (mx, from, anna) = ("mx.example.net", "x@example.net", "anna@example.org");
    for n in 0..3 {
        let client = format!("127.0.0.{}", 20 + n);
        assert_eq!(send(smtp_at, &client, mx, from, anna), Ok(()));
    }
    // On a slow machine one more may have become free.
    let found = (0..100).find_map(|_| send(smtp_at, GOOD, mx, from, anna).err());
    assert_eq!(
        found.unwrap(),
        "450 4.7.1 127.0.0.0/24 sends to too many recipients a minute"
    );
    // Another network.
    assert_eq!(send(smtp_at, "127.0.1.1", mx, from, anna), Ok(()));
    let mut greetings = (0..100).map(|_| {
        let mut line = String::new();
        BufReader::new(connect_from(GOOD, smtp_at))
            .read_line(&mut line)
            .unwrap();
        line
    });
    let refused = greetings.find(|line| line.starts_with("421 4.3.2 too many connections"));
    assert!(refused.is_some());
}
