//! The built program, as `postern init` makes it, with real clients: Python's
//! smtplib, and swaks where TLS and odd clients matter.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use classifier::Label;
use classifier::modern::Act;
use classifier::store::lmdb::Access;
use common::{Clamd, EICAR, Host, said};
use trainer::database::Databases;
use trainer::taught;

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

/// What a user has put where it belongs, for the server to learn from.
fn teach(host: &Host, user: &str, folder: &str, n: usize, text: &str) {
    let maildir = host.data().join("mail/example.org").join(user);
    let folder = maildir.join("Maildir").join(folder);
    let path = folder.join(format!("tmp/{n}"));
    fs::write(&path, text).unwrap();
    fs::rename(path, folder.join(format!("cur/{n}.x:2,S"))).unwrap();
}

fn databases(host: &Host) -> Databases {
    Databases::new(&host.data().join("models"), 1 << 20).unwrap()
}

/// Twenty of each, into the model that a server will find.
fn learn_all(databases: &Databases, user: &str, mail: &[(&str, Label)]) {
    let all = (0..20).flat_map(|n| mail.iter().map(move |(text, label)| (n, text, label)));
    let lessons =
        all.map(|(n, text, label)| (format!("{text}{n}\n").into_bytes(), Act::Learn(*label)));
    let mut taught = databases.taught(user, Access::ReadWrite).unwrap();
    taught.learn(&lessons.collect::<Vec<_>>(), 1_000).unwrap();
}

const LEARNS_AT_ONCE: &str = "[learning]\nkeep_before_ham_hours = 0\nmove_after_seconds = 0\n";

#[test]
fn spam_goes_to_junk_and_a_virus_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(dir.path());
    let host = Host::new(&format!(
        "[scanner]\nclamd = \"{}\"\n",
        clamd.socket.display()
    ));
    // Forty messages make nobody sure.
    host.run(&["user", "set", "anna@example.org", "--threshold", "0.5"]);
    let spam = "Subject: Cheap watches\n\nBuy cheap watches now, click here\n";
    let ham = "Subject: Lunch\n\nShall we meet tomorrow, Anna asks\n";
    learn_all(
        &databases(&host),
        "anna@example.org",
        &[(spam, Label::Spam), (ham, Label::Ham)],
    );
    let server = host.serve();
    let both = ["anna@example.org", "bob@example.org"];
    for text in [spam, ham] {
        let message = text.replace('\n', "\r\n");
        send(server.smtp[0], "x@example.net", &both, message.as_bytes()).unwrap();
    }
    let [junk] = &host.mail("anna", "Junk")[..] else {
        panic!("{}", host.run(&["why", "anna@example.org"]));
    };
    assert_eq!(as_sent(junk), spam.as_bytes());
    let junk = String::from_utf8_lossy(junk).into_owned();
    assert!(junk.contains("\nX-Spam-Status: Yes, hits="), "{junk}");
    assert_eq!(host.mail("anna", "").len(), 1, "the ham");
    // Each by his own model: bob has none.
    assert_eq!(
        (host.mail("bob", "Junk").len(), host.mail("bob", "").len()),
        (0, 2)
    );
    let story = host.run(&["why", "-n", "2", "anna@example.org"]);
    for part in [
        "  spam for anna@example.org: probability 0.",
        "subject: ",
        "delivered to anna@example.org: Junk ",
    ] {
        assert!(story.contains(part), "{part:?} is not in {story}");
    }

    assert!(host.run(&["check"]).contains("ok     virus scanner"));
    let refused = send(server.smtp[0], "x@example.net", &both, &virus()).unwrap_err();
    assert!(
        refused.starts_with("554 5.7.1") && refused.contains("Eicar"),
        "{refused}"
    );
    assert_eq!(host.mail("anna", "").len(), 1);
    assert_eq!(host.mail("bob", "").len(), 2);
    let story = host.run(&["why", "bob@example.org"]);
    assert!(story.contains("Eicar"), "{story}");
}

/// What is counted is what the log tells when it tells all.
#[test]
fn a_message_is_tokenised_once_however_many_recipients_have_models() {
    let host = Host::new("");
    let users: Vec<String> = (0..12).map(|n| format!("u{n}@example.org")).collect();
    let learned = [
        ("Subject: a\n\nwatches\n", Label::Spam),
        ("Subject: b\n\nlunch\n", Label::Ham),
    ];
    let models = databases(&host);
    for (n, user) in users.iter().enumerate() {
        host.run(&["user", "add", user]);
        // Every other one has counts of bmf.
        if n % 2 == 1 {
            taught::make_classic(&models.host().unwrap(), user).unwrap();
        }
        learn_all(&models, user, &learned);
    }
    drop(models);
    host.run(&["user", "set", &users[0], "--spam", "refuse"]);
    let mut command = host.serving();
    command.arg("--verbose");
    let server = host.try_serve(command).unwrap();
    for (users, n_tokenised) in [
        // Straight to the mailboxes; by the queue; and where the queue comes
        // after an answer that depends on the verdict.
        (&users[1..6], 1),
        (&users[1..], 1),
        (&users[..], 2),
    ] {
        let text = b"Subject: a\r\n\r\nlunch\r\n";
        let to: Vec<&str> = users.iter().map(String::as_str).collect();
        send(server.smtp[0], "x@example.net", &to, text).unwrap();
        let (mut tokenised, mut read, mut delivered) = (0, 0, 0);
        while delivered < users.len() {
            let line = server.wait_for_line("");
            tokenised += usize::from(line.contains("tokenised"));
            read += usize::from(line.contains("read for counts of bmf"));
            delivered += usize::from(line.contains(" queue_id=") && line.contains("delivered"));
        }
        let times = (tokenised, read);
        assert_eq!(times, (n_tokenised, n_tokenised), "{} users", users.len());
    }
    let story = host.run(&["why", "-n", "1", "u11@example.org"]);
    let n_judged = story.matches("@example.org: probability 0.").count();
    assert_eq!(n_judged, 12, "{story}");
}

fn virus() -> Vec<u8> {
    format!("Subject: invoice\r\n\r\n{}\r\n", EICAR.concat()).into_bytes()
}

#[test]
fn a_virus_is_discarded_or_kept_apart_and_mail_passes_without_a_scanner() {
    let dir = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(dir.path());
    let with = |more: &str| {
        let clamd = clamd.socket.display();
        Host::new(&format!("[scanner]\nclamd = \"{clamd}\"\n{more}"))
    };
    let to = ["anna@example.org", "info@example.org"];
    let story = |host: &Host, parts: &[&str]| {
        let story = host.run(&["why", "anna@example.org"]);
        for part in parts {
            assert!(story.contains(part), "{part:?} is not in {story}");
        }
    };
    let nothing_there = |host: &Host| {
        assert!(host.mail("anna", "").is_empty() && host.mail("bob", "").is_empty());
        assert_eq!(host.run(&["queue", "list"]), "");
    };

    let host = with("virus = \"discard\"\n");
    host.run(&["alias", "add", "info@example.org", "bob@example.org"]);
    let server = host.serve();
    send(server.smtp[0], "x@example.net", &to, &virus()).unwrap();
    nothing_there(&host);
    story(
        &host,
        &["virus scanner: Eicar", "discarded, because of the virus"],
    );
    assert_eq!(host.run(&["queue", "list", "--quarantine"]), "");
    drop(server);

    let host = with("virus = \"quarantine\"\n");
    host.run(&["alias", "add", "info@example.org", "bob@example.org"]);
    let server = host.serve();
    for _ in 0..2 {
        send(server.smtp[0], "x@example.net", &to, &virus()).unwrap();
    }
    nothing_there(&host);
    story(&host, &["virus scanner: Eicar", "put into quarantine"]);
    let listed = host.run(&["queue", "list", "--quarantine"]);
    let ids: Vec<&str> = listed
        .lines()
        .filter(|line| !line.starts_with(' '))
        .collect();
    let ids: Vec<&str> = ids
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let [first, second] = ids[..] else {
        panic!("{listed}");
    };
    let shown = host.run(&["queue", "show", "--quarantine", "--raw", first]);
    assert!(shown.contains(&EICAR.concat()), "{shown}");
    // Where the scanner was wrong it goes on, to aliases too.
    host.run(&["queue", "release", "--quarantine", first]);
    host.run(&["queue", "drop", "--quarantine", second]);
    assert_eq!(host.run(&["queue", "list", "--quarantine"]), "");
    for user in ["anna", "bob"] {
        let mail = host.wait_for_mail(user, "", 1);
        let text = String::from_utf8_lossy(&mail[0]).into_owned();
        assert!(text.contains(&EICAR.concat()), "{text}");
    }
    story(&host, &["by the administrator: drop"]);
    drop(server);

    let host = with("when_down = \"pass\"\n");
    let server = host.serve();
    drop(clamd.process);
    common::wait_for("the end of clamd", || {
        UnixStream::connect(&clamd.socket).err()
    });
    send(
        server.smtp[0],
        "x@example.net",
        &to[..1],
        b"Subject: x\r\n\r\nx\r\n",
    )
    .unwrap();
    assert_eq!(host.mail("anna", "").len(), 1);
    story(&host, &["virus scanner: no answer: "]);
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

/// Mail, model and stories.
#[test]
fn what_is_a_users_moves_and_goes_with_the_user() {
    let host = Host::new(LEARNS_AT_ONCE);
    host.run(&["alias", "add", "info@example.org", "anna@example.org"]);
    // Whom `init` made would get its mail.
    host.run(&[
        "user",
        "remove",
        "postmaster@example.org",
        "--mail",
        "erase",
    ]);
    host.run(&[
        "domain",
        "set",
        "example.org",
        "--postmaster",
        "anna@example.org",
    ]);
    let server = host.serve();
    let (smtp, from) = (server.smtp[0], "x@example.net");
    let spam = "Subject: watches\n\nCheap watches\n";
    teach(&host, "anna", ".Junk", 1, spam);
    let line = server.wait_for_line("message learned");
    assert!(
        line.contains("anna@example.org") && line.contains("label=\"spam\""),
        "{line}"
    );
    let text = b"Subject: kept\r\n\r\nx\r\n";
    send(smtp, from, &["anna@example.org"], text).unwrap();
    let id = |user: &str| {
        let story = host.run(&["why", "-n", "1", user]);
        story.lines().next().unwrap().to_owned()
    };
    let first = id("anna@example.org");
    let users = || {
        let models = host.data().join("models");
        let databases = Databases::new(&models, 1 << 20).unwrap();
        databases.host().unwrap().users().unwrap()
    };
    host.run(&["user", "rename", "anna@example.org", "ann@example.org"]);
    for to in ["ann", "info", "postmaster"] {
        send(smtp, from, &[&format!("{to}@example.org")], text).unwrap();
    }
    assert_eq!(host.mail("ann", "").len(), 4);
    let story = host.run(&["why", "ann@example.org"]);
    for part in [
        first.as_str(),
        "received from <x@example.net> for anna@example.org",
        "anna@example.org is called ann@example.org from now on",
    ] {
        assert!(story.contains(part), "{part:?} is not in {story}");
    }
    let learned_spam = host.wait_for_mail("ann", "Junk.Learned", 1);
    assert_eq!(learned_spam, [spam.as_bytes()]);
    server.signal("TERM");
    server.wait();
    assert_eq!(users(), ["ann@example.org"]);

    // Without a server too.
    host.run(&["user", "rename", "ann@example.org", "anna@example.org"]);
    assert_eq!(users(), ["anna@example.org"]);

    // Nothing goes while something leads there.
    let remove = ["user", "remove", "anna@example.org", "--mail", "erase"];
    let output = host.command().args(remove).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    host.run(&["alias", "remove", "info@example.org"]);
    host.run(&[
        "domain",
        "set",
        "example.org",
        "--postmaster",
        "bob@example.org",
    ]);
    host.run(&remove);
    assert!(users().is_empty());
    assert!(!host.data().join("mail/example.org/anna").exists());
    let journal = fs::read_to_string(host.data().join("journal")).unwrap();
    for name in ["ann@", "anna@", "\"user\""] {
        assert!(!journal.contains(name), "{journal}");
    }
    assert!(journal.contains("x@example.net"), "{journal}");
}
