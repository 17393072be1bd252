//! Mail that must come byte for byte, and ways to send it.

use std::io::Write;
use std::process::{Command, Stdio};

/// Messages that differ in what is easily changed on the way.
pub fn messages() -> Vec<Vec<u8>> {
    let all: Vec<u8> = (1..=255).filter(|b| !b"\r\n".contains(b)).collect();
    let bodies = [
        b".\n..\n.x\n.\n".to_vec(),
        [all.as_slice(), b"\n"].concat(),
        b"From here\n>From there\n \t \n\n\n\n".to_vec(),
        [b"x".repeat(900).as_slice(), b"\n"].concat(),
        b"0123456789 with more\n".repeat(30_000),
        Vec::new(),
    ];
    let head =
        "From: anna@example.org\nTo: bob@example.net\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n";
    let whole = bodies.iter().enumerate().map(|(n, body)| {
        let subject = format!("Message-ID: <{n}@example.org>\nSubject: {n}  folded\n\there\n\n");
        [head.as_bytes(), subject.as_bytes(), body].concat()
    });
    whole.collect()
}

/// What came, without the trace fields on top and the filter's at the end.
pub fn as_sent(mail: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(mail, b"From: anna@").unwrap();
    let end = at + memchr::memmem::find(&mail[at..], b"\n\n").unwrap() + 1;
    let head = mail[at..end].split_inclusive(|b| *b == b'\n');
    let kept = head.filter(|line| !line.starts_with(b"X-Spam-"));
    kept.chain([&mail[end..]]).flatten().copied().collect()
}

/// Whether each of them came, as it was sent.
pub fn assert_arrived(mail: &[Vec<u8>], log: &str) {
    let mut came: Vec<Vec<u8>> = mail.iter().map(|mail| as_sent(mail)).collect();
    let mut sent = messages();
    came.sort();
    sent.sort();
    assert_eq!(came.len(), sent.len(), "{log}");
    for (came, sent) in came.iter().zip(&sent) {
        let shown = || {
            String::from_utf8_lossy(came)
                .chars()
                .take(2000)
                .collect::<String>()
        };
        assert!(came == sent, "{}", shown());
    }
}

/// As it goes over the wire.
pub fn with_crlf(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|b| *b == b'\n');
    let ended = lines.flat_map(|line| [line.strip_suffix(b"\n").unwrap(), b"\r\n"]);
    ended.flatten().copied().collect()
}

/// Gives a message to a program.
pub fn give(mut command: Command, message: &[u8]) {
    let mut program = command.stdin(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(message).unwrap();
    assert!(program.wait().unwrap().success());
}

/// Sends standard input to anna by smtplib, at the port that is named.
const BY_SMTP: &str = "\
import smtplib, sys
with smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=60) as client:
    client.sendmail('x@example.net', ['anna@example.org'], sys.stdin.buffer.read(), ['BODY=8BITMIME'])
";

/// Gives a message to the server at `port`, for anna, as another host would.
pub fn by_smtp(port: u16, message: &[u8]) {
    let mut python = Command::new("python3");
    python.args(["-c", BY_SMTP, &port.to_string()]);
    give(python, &with_crlf(message));
}
