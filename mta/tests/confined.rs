//! What programs of users can reach: their own user's folder, and nothing else
//! of the host.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{Host, swaks};
use mta::confinement;

/// Tries everything that it should not, and what it may.
const SCRIPT: &str = r#"#!/bin/sh
exec >tried 2>&1
cat "$FILE" "$BOB"/Maildir/new/*
ls "$BOB" ..
cat ../../../accounts.db ../../../tls/key.pem
ls ../../../queue
cat "/proc/$SERVER/root$FILE"
ln -s "$FILE" link && cat link
ln "$FILE" stolen && cat stolen
mv "$FILE" moved && cat moved
echo evil >"$OUTSIDE"
$KILL $SERVER
mkdir -p one two && echo moved >one/file && mv one/file two/file && cat two/file
grep Subject
exit 0
"#;

/// Since Linux 6.12.
fn keeps_signals() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}

#[test]
fn a_program_reaches_its_own_user_only() {
    let is_kept = std::thread::spawn(|| confinement::keep_writes_to(&[]).unwrap());
    if !is_kept.join().unwrap() {
        return tests::skip("this kernel lacks Landlock, so that nothing is hidden");
    }
    let host = Host::new("");
    host.run(&["domain", "set", "example.org", "--programs", "on"]);
    let homes = host.data().join("mail/example.org");
    let script = host.path("script");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // Outside of all that is for passing things, wherever this is built.
    let folders = [
        Some(env!("CARGO_TARGET_TMPDIR").into()),
        std::env::home_dir(),
    ];
    let is_shared = |folder: &PathBuf| {
        ["/tmp", "/var/tmp", "/dev"]
            .iter()
            .any(|f| folder.starts_with(f))
    };
    let folder = folders
        .into_iter()
        .flatten()
        .find(|folder| !is_shared(folder));
    let outside = folder.unwrap().join("postern-test-outside");
    let _ = fs::remove_file(&outside);

    let server = host.serve();
    let send = |to: &str, subject: &str| {
        let mut swaks = swaks(server.smtp[0]);
        swaks.args(["--from", "x@example.net", "--to", to, "--header", subject]);
        let output = swaks.output().unwrap();
        common::said(&output).unwrap();
    };
    send("bob@example.org", "Subject: secret-of-bob");
    host.wait_for_mail("bob", "", 1);
    let new = fs::read_dir(homes.join("bob/Maildir/new")).unwrap().next();
    let line = format!(
        "|BOB={} FILE={} KILL='{}' OUTSIDE={} SERVER={} {}\n./Maildir/\n",
        homes.join("bob").display(),
        new.unwrap().unwrap().path().display(),
        if keeps_signals() { "kill -9" } else { "true" },
        outside.display(),
        server.id(),
        script.display()
    );
    fs::write(homes.join("anna/.qmail"), line).unwrap();
    send("anna@example.org", "Subject: own-of-anna");
    host.wait_for_mail("anna", "", 1);

    let tried = fs::read_to_string(homes.join("anna/tried")).unwrap();
    for secret in ["secret-of-bob", "SQLite", "PRIVATE KEY", "Maildir:", "evil"] {
        assert!(!tried.contains(secret), "{secret}: {tried}");
    }
    for own in ["moved\n", "own-of-anna"] {
        assert!(tried.contains(own), "{own}: {tried}");
    }
    assert!(!outside.exists());
    assert!(
        tried.contains("denied") || tried.contains("not permitted"),
        "{tried}"
    );
    // It is still there, and takes mail.
    send("bob@example.org", "Subject: later");
    host.wait_for_mail("bob", "", 2);
}
