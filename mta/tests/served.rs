//! The built program, as `postern init` makes it, with real clients: Python's
//! smtplib, and swaks where TLS and odd clients matter.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use common::{Clamd, EICAR, Host, said};

/// Sends one message by Python's smtplib; returns what it was refused with.
fn send(address: SocketAddr, from: &str, to: &[&str], message: &[u8]) -> Result<(), String> {
    const SCRIPT: &str = "\
import smtplib, sys
host, port, sender, *to = sys.argv[1:]
try:
    with smtplib.SMTP(host, int(port), timeout=60) as client:
        client.sendmail(sender, to, sys.stdin.buffer.read())
except smtplib.SMTPResponseException as refused:
    sys.exit(f'{refused.smtp_code} {refused.smtp_error.decode()}')
except smtplib.SMTPRecipientsRefused as refused:
    code, text = list(refused.recipients.values())[0]
    sys.exit(f'{code} {text.decode()}')
";
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT, &address.ip().to_string()])
        .args([&address.port().to_string(), from])
        .args(to)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(message).unwrap();
    let output = python.wait_with_output().unwrap();
    said(&output)
}

/// Without what the host puts on top, and the filter's fields at the end of
/// the header section.
fn as_sent(mail: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(mail, b"Subject: ").unwrap();
    let end = at + memchr::memmem::find(&mail[at..], b"\n\n").unwrap() + 1;
    let head = mail[at..end].split_inclusive(|b| *b == b'\n');
    let kept = head.filter(|line| !line.starts_with(b"X-Spam-"));
    kept.chain([&mail[end..]]).flatten().copied().collect()
}

#[test]
fn mail_comes_in_by_smtp_and_lmtp_and_lies_there_byte_for_byte() {
    let host = Host::new("");
    let server = host.serve();
    let mut message = b"Subject: bytes\r\n\r\n".to_vec();
    // Everything but CR and LF, lines that begin with dots, and none at the end.
    message.extend((0..=255_u8).filter(|b| !b"\r\n\0".contains(b)));
    message.extend(b"\r\n.\r\n..\r\n.x\r\nFrom here\r\n\r\n\r\n");
    let expected: Vec<u8> = message.iter().copied().filter(|b| *b != b'\r').collect();
    for (n, address) in server.smtp.iter().enumerate() {
        send(*address, "x@example.net", &["anna@example.org"], &message).unwrap();
        let mail = host.mail("anna", "");
        assert_eq!(mail.len(), n + 1, "what was answered is there");
        assert_eq!(as_sent(mail.last().unwrap()), expected);
    }
    let top = String::from_utf8_lossy(&host.mail("anna", "")[0]).into_owned();
    for field in [
        "Return-Path: <x@example.net>\n",
        "Delivered-To: anna@example.org\n",
        "Received: from ",
        "\n\tby mail.example.org with ESMTP\n",
    ] {
        assert!(top.contains(field), "{field:?} is not in {top}");
    }

    // A large one, which leaves memory.
    let large = [
        b"Subject: large\r\n\r\n".as_slice(),
        &b"0123456789\r\n".repeat(100_000),
    ]
    .concat();
    send(
        server.smtp[0],
        "x@example.net",
        &["bob@example.org"],
        &large,
    )
    .unwrap();
    let expected: Vec<u8> = large.iter().copied().filter(|b| *b != b'\r').collect();
    assert_eq!(as_sent(&host.mail("bob", "")[0]), expected);

    // LMTP has a reply for each recipient.
    let said = dialogue(
        &host,
        &[
            "LHLO relay",
            "MAIL FROM:<>",
            "RCPT TO:<anna@example.org>",
            "RCPT TO:<nobody@example.org>",
            "RCPT TO:<bob@example.org>",
            "RCPT TO:<x@example.net>",
            "DATA",
            "Subject: by LMTP\r\n\r\nx\r\n.",
            "QUIT",
        ],
    );
    let codes: Vec<&str> = said.iter().map(|line| &line[..3]).collect();
    let expected = [
        "220", "250", "250", "250", "550", "250", "550", "354", "250", "250", "221",
    ];
    assert_eq!(codes, expected, "{said:#?}");
    assert_eq!(
        as_sent(host.mail("bob", "").last().unwrap()),
        b"Subject: by LMTP\n\nx\n"
    );
    server.signal("TERM");
    server.wait();
}

/// The last lines of the replies to lines that are all sent at once by LMTP.
fn dialogue(host: &Host, lines: &[&str]) -> Vec<String> {
    let mut stream = UnixStream::connect(host.path("lmtp")).unwrap();
    stream
        .write_all((lines.join("\r\n") + "\r\n").as_bytes())
        .unwrap();
    let said = BufReader::new(stream).lines().map(Result::unwrap);
    said.filter(|line| line.as_bytes()[3] == b' ').collect()
}

#[test]
fn who_is_not_known_is_refused_and_others_are_not_reached() {
    let host = Host::new("");
    let server = host.serve();
    let refused = |address: SocketAddr, to: &str| {
        send(address, "x@example.net", &[to], b"Subject: x\r\n\r\nx\r\n").unwrap_err()
    };
    assert!(refused(server.smtp[0], "nobody@example.org").starts_with("550 5.1.1"));
    // Only 127.0.0.1 is listed here.
    assert!(refused(server.smtp[1], "x@example.net").starts_with("550 5.7.1"));
    assert!(host.mail("anna", "").is_empty());
    let story = host.run(&["queue", "list"]);
    assert_eq!(story, "");
    let story = host.run(&["why", "nobody@example.org"]);
    assert!(
        story.contains("refused for nobody@example.org, from <"),
        "{story}"
    );
    assert!(
        story.contains("from <x@example.net> by 127.0.0.1:"),
        "{story}"
    );
}

#[test]
fn spam_goes_to_junk_and_a_virus_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(dir.path());
    let host = Host::new(&format!(
        "[scanner]\nclamd = \"{}\"\n",
        clamd.socket.display()
    ));
    host.run(&["user", "set", "anna@example.org", "--threshold", "0.4"]);
    let server = host.serve();
    assert!(host.run(&["check"]).contains("ok     virus scanner"));
    let virus = format!("Subject: invoice\r\n\r\n{}\r\n", EICAR.concat());
    let both = ["anna@example.org", "bob@example.org"];
    let refused = send(server.smtp[0], "x@example.net", &both, virus.as_bytes()).unwrap_err();
    assert!(
        refused.starts_with("554 5.7.1") && refused.contains("Eicar"),
        "{refused}"
    );
    assert!(host.mail("anna", "").is_empty() && host.mail("bob", "").is_empty());
    let story = host.run(&["why", "bob@example.org"]);
    assert!(story.contains("Eicar"), "{story}");
}

#[test]
fn starttls_is_offered_and_works() {
    let host = Host::new("");
    let server = host.serve();
    let address = server.smtp[0];
    let swaks = common::swaks(address)
        .args([
            "--from",
            "x@example.net",
            "--to",
            "anna@example.org",
            "--tls",
        ])
        .args(["--h-Subject", "by swaks"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&swaks.stdout);
    assert!(
        swaks.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&swaks.stderr)
    );
    let mail = String::from_utf8(host.mail("anna", "").remove(0)).unwrap();
    assert!(mail.contains("with ESMTPS (TLSv1.3 "), "{mail}");
    assert!(mail.contains("Subject: by swaks\n"), "{mail}");
    // The pair is read again without an end of service.
    server.signal("HUP");
    server.wait_for_line("certificate read again");
}

#[test]
fn a_shutdown_ends_what_was_begun_and_no_more() {
    let host = Host::new("");
    let server = host.serve();
    let mut stream = TcpStream::connect(server.smtp[0]).unwrap();
    let mut idle = BufReader::new(TcpStream::connect(server.smtp[0]).unwrap());
    let mut line = String::new();
    idle.read_line(&mut line).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut reply = move || replies.next().unwrap().unwrap();
    reply();
    stream
        .write_all(b"HELO x\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\nSubject: late\r\n\r\n")
        .unwrap();
    for code in ["250", "250", "250", "354"] {
        assert!(reply().starts_with(code));
    }
    server.signal("TERM");
    line.clear();
    idle.read_line(&mut line).unwrap();
    assert!(line.starts_with("421 4.3.2"), "{line}");
    // Nobody new comes in.
    common::wait_for("the listener's end", || {
        TcpStream::connect(server.smtp[0]).err()
    });
    stream
        .write_all(b"still there\r\n.\r\nMAIL FROM:<>\r\n")
        .unwrap();
    assert!(reply().starts_with("250 2.0.0"));
    assert!(reply().starts_with("421 4.3.2"));
    server.wait();
    assert_eq!(
        as_sent(&host.mail("anna", "")[0]),
        b"Subject: late\n\nstill there\n"
    );
}

#[test]
fn too_many_clients_are_told_so() {
    let host = Host::new(
        "[listen]\nsmtp = [\"127.0.0.1:0\"]\nlocal = \"\"\nmax_sessions = 20\nmax_sessions_per_client = 2\n",
    );
    let server = host.serve();
    let greeting = |stream: &TcpStream| {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    let first = TcpStream::connect(server.smtp[0]).unwrap();
    let second = TcpStream::connect(server.smtp[0]).unwrap();
    assert!(greeting(&first).starts_with("220") && greeting(&second).starts_with("220"));
    let third = TcpStream::connect(server.smtp[0]).unwrap();
    assert!(greeting(&third).starts_with("421 4.3.2"));
    drop(first);
    common::wait_for("a free place", || {
        let fourth = TcpStream::connect(server.smtp[0]).unwrap();
        greeting(&fourth).starts_with("220").then_some(())
    });
}

#[test]
fn what_is_wrong_with_a_configuration_is_found_before_serving() {
    let host = Host::new("");
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), text.replace("max_errors", "max_eror")).unwrap();
    for command in ["check", "serve"] {
        let output = host.command().arg(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("unknown field `max_eror`"), "{said}");
    }
}

#[test]
fn what_was_learned_moves_and_goes_with_its_user() {
    let host = Host::new("[learning]\nkeep_before_ham_hours = 0\n");
    let server = host.serve();
    let junk = host.data().join("mail/example.org/anna/Maildir/.Junk");
    let teach = |n: usize| {
        let path = junk.join(format!("tmp/{n}"));
        fs::write(&path, format!("Subject: watches {n}\n\nCheap watches\n")).unwrap();
        fs::rename(path, junk.join(format!("cur/{n}.x:2,S"))).unwrap();
    };
    teach(1);
    let line = server.wait_for_line("message learned");
    assert!(
        line.contains("anna@example.org") && line.contains("label=\"spam\""),
        "{line}"
    );
    host.run(&["user", "rename", "anna@example.org", "ann@example.org"]);
    server.signal("TERM");
    server.wait();
    let users = || {
        let models = host.data().join("models");
        let databases = trainer::database::Databases::new(&models, 1 << 20).unwrap();
        databases.host().unwrap().users().unwrap()
    };
    assert_eq!(users(), ["ann@example.org"]);
    // Without a server too.
    host.run(&["user", "rename", "ann@example.org", "anna@example.org"]);
    assert_eq!(users(), ["anna@example.org"]);
    host.run(&["user", "remove", "anna@example.org", "--mail", "erase"]);
    assert!(users().is_empty());
}
