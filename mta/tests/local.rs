//! Mail from programs of this machine: `sendmail` and `qmail-queue`, called as
//! scripts call them.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use common::Host;

/// Runs sendmail with `input`; its exit code and what it complains.
fn sendmail(host: &Host, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut process = host
        .command()
        .arg("sendmail")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have refused before it reads.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn sendmail_takes_mail_as_scripts_give_it() {
    let host = Host::new("");
    let text = "To: anna\nBcc: bob@example.org\nSubject: from a script\n\nfirst\n.\nlast\n";
    let (code, _, said) = sendmail(&host, &["-t"], text);
    assert_eq!(
        code, 111,
        "without a server it is to be tried again: {said}"
    );

    let _server = host.serve();
    let (code, _, said) = sendmail(&host, &["-t", "-oi", "-f", "cron@example.org"], text);
    assert_eq!((code, said.as_str()), (0, ""));
    for user in ["anna", "bob"] {
        let mail = String::from_utf8(host.mail(user, "").remove(0)).unwrap();
        assert!(
            mail.starts_with("Return-Path: <cron@example.org>\n"),
            "{mail}"
        );
        assert!(
            mail.contains("\nReceived: by mail.example.org with local\n"),
            "{mail}"
        );
        assert!(mail.contains("\nFrom: cron@example.org\nDate: "), "{mail}");
        assert!(!mail.contains("Bcc"), "{mail}");
        assert!(mail.ends_with("\n\nfirst\n.\nlast\n"), "{mail}");
    }
    // Without -i the dot ends it.
    let (code, _, _) = sendmail(&host, &["anna"], "Subject: short\n\nfirst\n.\nlast\n");
    assert_eq!(code, 0);
    assert!(
        host.mail("anna", "")
            .iter()
            .any(|mail| mail.ends_with(b"\n\nfirst\n"))
    );

    let (code, _, said) = sendmail(&host, &["anna", "nobody"], "Subject: x\n\nx\n");
    assert_eq!(code, 100);
    assert!(said.contains("nobody@example.org: 550 5.1.1"), "{said}");
    let (code, _, said) = sendmail(&host, &["-t"], "Subject: x\n\nx\n");
    assert_eq!((code, said.as_str()), (100, "sendmail: no recipients\n"));
    assert_eq!(host.mail("anna", "").len(), 2, "all recipients or none");

    let session = "HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nSubject: -bs\r\n\r\nx\r\n.\r\nQUIT\r\n";
    let (code, out, _) = sendmail(&host, &["-bs"], session);
    assert!(
        code == 0 && out.contains("\r\n354 ") && out.ends_with("221 2.0.0 bye\r\n"),
        "{out}"
    );
    assert_eq!(host.mail("bob", "").len(), 2);
}

/// Calls it by its own name, with a message and an envelope in files.
fn qmail_queue(host: &Host, message: &str, envelope: &[u8]) -> i32 {
    let link = host.path("qmail-queue");
    if !link.exists() {
        symlink(env!("CARGO_BIN_EXE_postern"), &link).unwrap();
    }
    let file = |name: &str, content: &[u8]| {
        std::fs::write(host.path(name), content).unwrap();
        File::open(host.path(name)).unwrap()
    };
    let mut command = Command::new(link);
    command.arg("--config").arg(host.config());
    command
        .stdin(file("message", message.as_bytes()))
        .stdout(file("envelope", envelope));
    command
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .code()
        .unwrap()
}

#[test]
fn qmail_queue_takes_descriptors_and_answers_by_exit_code() {
    let host = Host::new("");
    let message = "Subject: queued\n\nx\n";
    let envelope = b"Flist-owner-@example.org-@[]\0Tanna@example.org\0Tbob\0\0";
    assert_eq!(qmail_queue(&host, message, envelope), 74);
    let _server = host.serve();
    assert_eq!(qmail_queue(&host, message, envelope), 0);
    for (user, sender) in [
        ("anna", "list-owner-anna=example.org@example.org"),
        ("bob", "list-owner-bob@example.org"),
    ] {
        let mail = String::from_utf8(host.mail(user, "").remove(0)).unwrap();
        assert!(
            mail.starts_with(&format!("Return-Path: <{sender}>\n")),
            "{mail}"
        );
        assert!(
            mail.contains("\nSubject: queued\n") && mail.ends_with("\n\nx\n"),
            "{mail}"
        );
    }
    assert_eq!(
        qmail_queue(&host, message, b"F\0Tnobody@example.org\0\0"),
        31
    );
    assert_eq!(qmail_queue(&host, message, b"F\0Tanna@example.org\0"), 91);
    let long = [b"F\0T".as_slice(), &[b'x'; 1100], b"@example.org\0\0"].concat();
    assert_eq!(qmail_queue(&host, message, &long), 11);
}
