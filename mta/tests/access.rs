//! What came by SMTP as a real Dovecot shows it over IMAP: to Python's imaplib,
//! and to mbsync, which keeps a copy on a laptop. Byte for byte.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::dovecot::{Dovecot, published, share};
use common::exact::{assert_arrived, by_smtp, messages};
use common::{Host, passwd};
use tests::programs::peer;

const PASSWORD: &str = "secret word";

/// Over TLS by a tunnel, as mbsync's own TLS believes no certificate of ours.
fn mbsyncrc(laptop: &Path, imaps: u16) -> String {
    format!(
        "IMAPStore host\nTunnel \"openssl s_client -quiet -verify_quiet -connect 127.0.0.1:{imaps} 2>/dev/null\"\n\
         User anna@example.org\nPass \"{PASSWORD}\"\nAuthMechs LOGIN\n\n\
         MaildirStore laptop\nPath {laptop}/\nInbox {laptop}/INBOX\n\n\
         Channel all\nFar :host:\nNear :laptop:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState *\n",
        laptop = laptop.display(),
    )
}

#[test]
fn what_came_by_smtp_is_read_by_imap_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let host = Host::new(&format!("[publish]\ndovecot = {users:?}\n"));
    host.run(&["user", "set", "anna@example.org", "--spam", "tag"]);
    if !host.give_to_owner(folder.path()) {
        return;
    }
    fs::remove_file(&users).unwrap();
    share(folder.path());
    passwd(&host, "anna@example.org", &[], PASSWORD);
    let server = host.serve_as_owner();
    for message in messages() {
        by_smtp(server.smtp[0].port(), &message);
    }
    let dovecot = Dovecot::start(&host, &published(&users));

    let mail = dovecot.fetch("anna@example.org", PASSWORD);
    assert_arrived(&mail, "by imaplib");
    for mail in &mail {
        let top = String::from_utf8_lossy(mail).into_owned();
        assert!(top.starts_with("Return-Path: <x@example.net>\n"), "{top}");
    }

    let laptop = folder.path().join("laptop");
    fs::create_dir(&laptop).unwrap();
    let config = folder.path().join("mbsyncrc");
    fs::write(&config, mbsyncrc(&laptop, dovecot.imaps)).unwrap();
    let mut mbsync = peer("mbsync");
    let output = mbsync.arg("-c").arg(&config).arg("-a").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut kept = Vec::new();
    for half in ["new", "cur"] {
        let files = fs::read_dir(laptop.join("INBOX").join(half)).unwrap();
        kept.extend(files.map(|file| fs::read(file.unwrap().path()).unwrap()));
    }
    // Its own mark, by which it finds again what it has made.
    let unmarked = kept.iter().map(|mail| {
        let lines = mail.split_inclusive(|b| *b == b'\n');
        let lines = lines.filter(|line| !line.starts_with(b"X-TUID: "));
        lines.flatten().copied().collect()
    });
    assert_arrived(&unmarked.collect::<Vec<_>>(), "by mbsync");
}
