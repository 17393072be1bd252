//! Mail of our domains is signed, and what dkimpy and OpenDKIM say of the
//! signatures; mail that is sent on carries a sender of ours, and its reports go
//! back.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use common::dkimpy::verify;
use common::dns::{Dns, connect_from};
use common::{Host, OPEN_GATE, Talk, opendkim, passwd, said, swaks, wait_for};

/// Gives a message to our sendmail.
fn send(host: &Host, from: &str, to: &str, message: &[u8]) {
    let mut sendmail = host
        .command()
        .args(["sendmail", "-i", "-f", from, "--", to])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    sendmail.stdin.take().unwrap().write_all(message).unwrap();
    assert_eq!(sendmail.wait().unwrap().code(), Some(0));
}

/// A message from a client that may not relay, and the last reply.
fn bring(server: SocketAddr, from: &str, to: &str, message: &str) -> String {
    bring_from("127.0.0.2", server, from, to, message)
}

fn bring_from(client: &str, server: SocketAddr, from: &str, to: &str, message: &str) -> String {
    let mut client = Talk::new(connect_from(client, server));
    client.greet("EHLO").unwrap();
    client.ask(&format!("MAIL FROM:<{from}>\r\n"), 250).unwrap();
    client
        .say(format!("RCPT TO:<{to}>\r\n").as_bytes())
        .unwrap();
    let reply = client.line().unwrap();
    if !reply.starts_with("250") {
        return reply;
    }
    client.ask("DATA\r\n", 354).unwrap();
    let text = message.replace('\n', "\r\n") + ".\r\n";
    client.say(text.as_bytes()).unwrap();
    client.line().unwrap()
}

/// A host for example.net, which has its own keys.
fn other() -> Host {
    let other = Host::new("");
    other.run(&["domain", "add", "example.net"]);
    other.run(&["user", "add", "bob@example.net", "--filter", "off"]);
    other
}

/// The mail of bob at the other host, once there are so many.
fn at_bob(other: &Host, n: usize) -> Vec<Vec<u8>> {
    let folder = other.data().join("mail/example.net/bob/Maildir/new");
    wait_for(&format!("{n} messages at the other host"), || {
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        let mail = files.iter().map(|path| fs::read(path).unwrap());
        (files.len() >= n).then(|| mail.collect())
    })
}

/// All mail goes to `other`.
fn host(other: SocketAddr, more: &str) -> Host {
    Host::new(&format!(
        "[[route]]\ndomain = \"*\"\nhost = \"127.0.0.1\"\nport = {}\n{more}",
        other.port()
    ))
}

fn results(mail: &[u8], host: &Host) -> Vec<String> {
    verify(mail, &host.run(&["dkim", "list", "--json"]))
}

/// Both signatures of example.org hold.
fn assert_signed(mail: &[u8], host: &Host) {
    let results = results(mail, host);
    let shown = String::from_utf8_lossy(mail);
    for (result, algorithm) in results.iter().zip(["rsa-sha256", "ed25519-sha256"]) {
        assert!(
            result.starts_with(&format!("{algorithm} example.org ")),
            "{result}"
        );
        assert!(result.ends_with(" True"), "{result}: {shown}");
    }
    assert_eq!(results.len(), 2, "{shown}");
    let others = opendkim::verify(mail, &host.run(&["dkim", "list", "--json"]));
    assert_eq!(others.len(), 2);
    for said in others {
        assert!(
            said.contains("d=example.org") && said.contains(" succeeded"),
            "{said}: {shown}"
        );
    }
}

#[test]
fn mail_of_users_and_programs_is_signed_with_both_keys() {
    let other = other();
    let receiver = other.serve();
    let host = host(receiver.smtp[0], "");
    let server = host.serve();
    let login = [
        "--auth",
        "--auth-user",
        "anna@example.org",
        "--auth-password",
        "secret",
    ];
    passwd(&host, "anna@example.org", &[], "secret");
    let sent = swaks(server.submission[0])
        .args([
            "--tls",
            "--from",
            "anna@example.org",
            "--to",
            "bob@example.net",
        ])
        .args(login)
        .output()
        .unwrap();
    assert_eq!(said(&sent), Ok(()));
    assert_signed(&at_bob(&other, 1)[0], &host);

    // What is easily changed on the way.
    let bodies = [
        "..\n.dots\nFrom here\n\u{e9} \t x \n\n\n".to_owned(),
        String::new(),
        "no line end".to_owned(),
        "0123456789 with more\n".repeat(30_000),
    ];
    for (n, body) in bodies.iter().enumerate() {
        let message = format!(
            "From: Anna <anna@example.org>\nTO: bob@example.net\nSubject: a\n\tfolded  \u{e9}\n\
             Received: by x\nList-Unsubscribe: <https://example.org/>\n\n{body}"
        );
        send(
            &host,
            "anna@example.org",
            "bob@example.net",
            message.as_bytes(),
        );
        assert_signed(&at_bob(&other, n + 2)[n + 1], &host);
    }
    let story = host.run(&["why", "bob@example.net"]);
    assert!(
        story.contains("  signed for example.org with 20"),
        "{story}"
    );
    // A field more is a broken signature, also where there was none.
    let mail = at_bob(&other, 1).remove(0);
    for field in [
        "From: eve@example.org\n",
        "Subject: x\n",
        "Reply-To: eve@example.com\n",
    ] {
        let changed = [field.as_bytes(), &mail].concat();
        let results = results(&changed, &host);
        assert!(
            results.iter().all(|result| !result.ends_with(" True")),
            "{results:?}"
        );
        let others = opendkim::verify(&changed, &host.run(&["dkim", "list", "--json"]));
        assert!(
            others.iter().all(|said| said.contains(" failed: ")),
            "{others:?}"
        );
    }
}

#[test]
fn what_is_not_ours_is_not_signed_and_carries_our_sender_when_it_is_sent_on() {
    let other = other();
    let receiver = other.serve();
    let host = host(receiver.smtp[0], "");
    for (alias, to) in [
        ("news", "bob@example.net"),
        ("both", "anna@example.org"),
        ("both", "bob@example.net"),
    ] {
        host.run(&["alias", "add", &format!("{alias}@example.org"), to]);
    }
    let server = host.serve();
    // From somebody else, by whom we let send anywhere.
    send(
        &host,
        "anna@example.org",
        "bob@example.net",
        b"From: x@example.com\n\nx\n",
    );
    assert_eq!(results(&at_bob(&other, 1)[0], &host), [""; 0]);

    // Even in our name.
    let text = "From: anna@example.org\nSubject: sent on\n\nx\n";
    for to in ["news@example.org", "both@example.org"] {
        let reply = bring(server.smtp[0], "X@example.com", to, text);
        assert!(reply.starts_with("250"), "{reply}");
    }
    let mail = at_bob(&other, 3);
    let senders: Vec<String> = mail[1..]
        .iter()
        .map(|mail| {
            assert_eq!(results(mail, &host), [""; 0]);
            let text = String::from_utf8_lossy(mail).into_owned();
            let path = text.strip_prefix("Return-Path: <").unwrap();
            path.split('>').next().unwrap().to_owned()
        })
        .collect();
    for sender in &senders {
        assert!(
            sender.starts_with("SRS0=") && sender.ends_with("=example.com=X@example.org"),
            "{sender}"
        );
    }
    // Who is here has it from whom it was.
    let own = host.wait_for_mail("anna", "", 1).remove(0);
    assert!(own.starts_with(b"Return-Path: <X@example.com>\n"));

    // .qmail files send on as aliases do, and our own senders stay.
    fs::write(
        host.data().join("mail/example.org/anna/.qmail"),
        "&bob@example.net\n",
    )
    .unwrap();
    bring(server.smtp[0], "y@example.com", "anna@example.org", text);
    assert!(at_bob(&other, 4)[3].starts_with(b"Return-Path: <SRS0="));
    send(
        &host,
        "bob@example.org",
        "anna@example.org",
        b"From: bob@example.org\n\nx\n",
    );
    assert!(at_bob(&other, 5)[4].starts_with(b"Return-Path: <bob@example.org>\n"));
    assert_signed(&at_bob(&other, 5)[4], &host);

    // Reports go back to where it came from, and nothing else does.
    other.run(&["domain", "add", "example.com"]);
    other.run(&["user", "add", "x@example.com", "--filter", "off"]);
    let report = "From: <>\nSubject: no such user\n\nx\n";
    let reply = bring(server.smtp[0], "", &senders[0], report);
    assert!(reply.starts_with("250"), "{reply}");
    let x = other.data().join("mail/example.com/x/Maildir/new");
    wait_for("a report", || fs::read_dir(&x).unwrap().next().map(drop));
    let forged = senders[0].replace("=X@", "=eve@");
    for (from, to, expected) in [
        ("", &forged, "550 5.1.1 "),
        ("z@example.com", &senders[0], "550 5.7.1 "),
    ] {
        let reply = bring(server.smtp[0], from, to, report);
        assert!(reply.starts_with(expected), "{reply}");
    }
    let story = host.run(&["why", &forged]);
    assert!(story.contains("its hash is not ours"), "{story}");
}

/// Whoever may relay for what he is speaks for us; who may write to somebody by
/// what he says, or by what a plugin says, does not.
#[test]
fn whom_rules_let_relay_is_signed_for_by_who_he_is_alone() {
    let other = other();
    let receiver = other.serve();
    for user in ["rule", "plugin"] {
        other.run(&[
            "alias",
            "add",
            &format!("{user}@example.net"),
            "bob@example.net",
        ]);
    }
    let gate = format!("{OPEN_GATE}rules = \"$DIR/rules\"\nplugins = \"$DIR/plugins\"\n");
    let host = host(receiver.smtp[0], &gate);
    let rules = "set address 127.0.0.3 RELAYCLIENT=\"\"\n\
                 set recipient rule@example.net RELAYCLIENT=\"\"\n";
    fs::write(host.path("rules"), rules).unwrap();
    let plugins = "[rcpt]\n:test \"$SMTPRCPTTO\" != plugin@example.net || echo O\n";
    fs::write(host.path("plugins"), plugins).unwrap();
    let server = host.serve();
    let text = "From: anna@example.org\nSubject: relayed\n\nx\n";
    let (stranger, ours) = ("127.0.0.2", "127.0.0.3");
    let reply = bring_from(
        stranger,
        server.smtp[0],
        "anna@example.org",
        "bob@example.net",
        text,
    );
    assert!(reply.starts_with("550 5.7.1 relaying denied"), "{reply}");
    for (n, (client, to, is_signed)) in [
        (stranger, "rule@example.net", false),
        (stranger, "plugin@example.net", false),
        (ours, "bob@example.net", true),
        (ours, "rule@example.net", true),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = bring_from(client, server.smtp[0], "anna@example.org", to, text);
        assert!(reply.starts_with("250"), "{client} {to}: {reply}");
        let mail = at_bob(&other, n + 1).remove(n);
        match is_signed {
            true => assert_signed(&mail, &host),
            false => assert_eq!(results(&mail, &host), [""; 0], "{client} {to}"),
        }
    }
}

#[test]
fn our_reports_are_signed_and_those_of_what_was_sent_on_go_back() {
    let other = other();
    let receiver = other.serve();
    let host = host(receiver.smtp[0], "");
    host.run(&["alias", "add", "dead@example.org", "nobody@example.net"]);
    let server = host.serve();
    // The sender is bob, so that the report arrives at the other host.
    let reply = bring(
        server.smtp[0],
        "bob@example.net",
        "dead@example.org",
        "From: bob@example.net\n\nx\n",
    );
    assert!(reply.starts_with("250"), "{reply}");
    let report = at_bob(&other, 1).remove(0);
    let text = String::from_utf8_lossy(&report);
    assert!(
        text.contains("From: MAILER-DAEMON@mail.example.org\n"),
        "{text}"
    );
    assert_signed(&report, &host);
}

#[test]
fn keys_are_rotated_while_mail_goes_out() {
    let other = other();
    let receiver = other.serve();
    // The name server knows nothing of the new keys at first.
    let empty = Dns::start(&[]);
    let host = host(
        receiver.smtp[0],
        &format!("[remote]\ndns = [\"127.0.0.1:{}\"]\n", empty.port),
    );
    let _server = host.serve();
    let message = b"From: anna@example.org\n\nx\n";
    let selectors = |mail: &[u8]| -> Vec<String> {
        let results = results(mail, &host);
        results
            .iter()
            .map(|result| result.split(' ').nth(2).unwrap().to_owned())
            .collect()
    };
    let out = host.run(&["dkim", "rotate", "example.org"]);
    assert_eq!(
        out.matches("._domainkey.example.org. TXT \"v=DKIM1; k=")
            .count(),
        2,
        "{out}"
    );
    send(&host, "anna@example.org", "bob@example.net", message);
    let before = selectors(&at_bob(&other, 1)[0]);
    let again = host
        .command()
        .args(["dkim", "rotate", "example.org"])
        .output()
        .unwrap();
    let complaint = said(&again).unwrap_err();
    assert!(complaint.contains("_domainkey.example.org"), "{complaint}");

    let records: Vec<String> = host
        .run(&["dkim", "list", "--json"])
        .lines()
        .map(|line| {
            let key: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = key["text"].as_str().unwrap();
            let strings: Vec<&str> = text
                .as_bytes()
                .chunks(255)
                .map(|part| std::str::from_utf8(part).unwrap())
                .collect();
            format!(
                "--txt-record={},{}",
                key["name"].as_str().unwrap(),
                strings.join(",")
            )
        })
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let dns = Dns::start(&[&["--local=/example.org/"], &records[..]].concat());
    let config = fs::read_to_string(host.config()).unwrap();
    let config = config.replace(&empty.port.to_string(), &dns.port.to_string());
    fs::write(host.config(), config).unwrap();
    host.run(&["dkim", "rotate", "example.org"]);
    // The running server signs with the new ones.
    send(&host, "anna@example.org", "bob@example.net", message);
    let mail = at_bob(&other, 2);
    let after = selectors(&mail[1]);
    assert_eq!(after.len(), 2);
    assert!(
        before.iter().all(|selector| !after.contains(selector)),
        "{before:?} {after:?}"
    );
    // What was signed before still verifies by what is published.
    for mail in &mail {
        assert_signed(mail, &host);
    }
    let none = host.run(&["dkim", "retire", "example.org"]);
    assert!(none.contains("No key"), "{none}");
    let gone = host.run(&["dkim", "retire", "example.org", "--now"]);
    assert_eq!(gone.matches("Remove 20").count(), 2, "{gone}");
    assert_eq!(host.run(&["dkim", "list", "--json"]).lines().count(), 2);
}
