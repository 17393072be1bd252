//! Mail from programs of this machine: `sendmail` and `qmail-queue`, called as
//! scripts call them.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
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

/// As somebody who is away has it.
const VACATION: &str = r#"#!/bin/sh
[ -n "$SENDER" ] || exit 0
sed '/^$/q' | grep -qiE '^(Precedence|List-Id|Auto-Submitted):' && exit 0
grep -qxF "$SENDER" told 2>/dev/null && exit 0
postern sendmail -f '' -- "$SENDER" <<END || exit 111
From: $RECIPIENT
To: $SENDER
Subject: away
Auto-Submitted: auto-replied

I am away until Monday.
END
echo "$SENDER" >>told
"#;

/// A mailing list at anna-list, anna-list-subscribe and anna-list-unsubscribe.
const LIST: &str = r#"#!/bin/sh
case $EXT in
list-subscribe)
    echo "$SENDER" >>subscribers ;;
list-unsubscribe)
    grep -vxF "$SENDER" subscribers >left; mv left subscribers ;;
list)
    grep -qxF "$SENDER" subscribers || { echo "only subscribers may write here"; exit 100; }
    { echo "List-Id: <$LOCAL.$HOST>"; cat; } |
        postern sendmail -i -f "$LOCAL-owner@$HOST" -- $(cat subscribers) || exit 111 ;;
*)
    echo "there is no command $DEFAULT"; exit 100 ;;
esac
"#;

fn program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// A host where programs may run, and find ours.
fn host_with_programs() -> Host {
    let host = Host::new("[programs]\npath = \"$DIR/bin:/usr/bin:/bin\"\n");
    let bin = host.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let (postern, config) = (env!("CARGO_BIN_EXE_postern"), host.config());
    let script = format!(
        "#!/bin/sh\nexec {postern} --config {} \"$@\"\n",
        config.display()
    );
    program(&bin.join("postern"), &script);
    host.run(&["domain", "set", "example.org", "--programs", "on"]);
    host
}

#[test]
fn a_vacation_program_answers_each_sender_once() {
    let host = host_with_programs();
    let home = host.data().join("mail/example.org/anna");
    program(&home.join("vacation"), VACATION);
    std::fs::write(home.join(".qmail"), "|./vacation\n./Maildir/\n").unwrap();
    let _server = host.serve();
    for (n, (from, text, n_answers)) in [
        ("bob@example.org", "Subject: first\n\nx\n", 1),
        ("bob@example.org", "Subject: second\n\nx\n", 1),
        ("", "Subject: a report\n\nx\n", 1),
        ("postmaster@example.org", "List-Id: <x>\n\nx\n", 1),
    ]
    .into_iter()
    .enumerate()
    {
        let (code, _, said) = sendmail(&host, &["-f", from, "anna"], text);
        assert_eq!((code, said.as_str()), (0, ""));
        // The program comes before the mailbox.
        host.wait_for_mail("anna", "", n + 1);
        assert_eq!(host.mail("bob", "").len(), n_answers, "{from} {text}");
    }
    let answer = String::from_utf8(host.mail("bob", "").remove(0)).unwrap();
    assert!(answer.starts_with("Return-Path: <>\n"), "{answer}");
    assert!(
        answer.contains("\nFrom: anna@example.org\nTo: bob@example.org\nSubject: away\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("\n\nI am away until Monday.\n"),
        "{answer}"
    );
}

#[test]
fn a_mailing_list_is_a_program_behind_an_extension() {
    let host = host_with_programs();
    host.run(&["user", "add", "carol@example.org"]);
    let home = host.data().join("mail/example.org/anna");
    program(&home.join("list"), LIST);
    for (file, text) in [
        (".qmail-list", "|./list\n"),
        (".qmail-list-default", "|./list\n"),
        (".qmail-list-owner", "./Maildir/\n"),
    ] {
        std::fs::write(home.join(file), text).unwrap();
    }
    let _server = host.serve();
    let done = || host.run(&["queue", "list"]).is_empty().then_some(());
    let write = |from: &str, to: &str| {
        let to = format!("anna-list{to}@example.org");
        let text = format!("Subject: from {from}\n\nto the list\n");
        let (code, _, said) = sendmail(&host, &["-f", from, &to], &text);
        assert_eq!((code, said.as_str()), (0, ""));
        common::wait_for("an empty queue", done);
    };
    for from in ["bob@example.org", "carol@example.org"] {
        write(from, "-subscribe");
    }
    write("bob@example.org", "");
    for user in ["bob", "carol"] {
        let mail = String::from_utf8(host.mail(user, "").remove(0)).unwrap();
        for part in [
            "Return-Path: <anna-list-owner@example.org>\n",
            "\nList-Id: <anna-list.example.org>\n",
            "\nSubject: from bob@example.org\n",
            "\n\nto the list\n",
        ] {
            assert!(mail.contains(part), "{part:?} is not in {mail}");
        }
    }
    // Who may not write, or commands what is not known, is told so.
    write("carol@example.org", "-unsubscribe");
    for (to, why) in [
        ("", "only subscribers may write here"),
        ("-explain", "there is no command explain"),
    ] {
        let before = host.mail("carol", "").len();
        write("carol@example.org", to);
        let mail = host.mail("carol", "");
        assert_eq!(mail.len(), before + 1, "{to}");
        let told = mail
            .iter()
            .any(|mail| String::from_utf8_lossy(mail).contains(why));
        assert!(told, "{why:?} is told nobody");
    }
    assert_eq!(host.mail("bob", "").len(), 1);
    // Reports about subscribers reach the owner.
    write("", "-owner");
    assert_eq!(host.mail("anna", "").len(), 1);
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
