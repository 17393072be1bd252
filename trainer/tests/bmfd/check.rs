//! `bmfd check`, word for word.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{Host, text};

/// What `bmfd check` prints, but for how many watches there may be.
fn checked(host: &Host, args: &[&str]) -> (Option<i32>, Vec<String>) {
    let output = host.bmfd(&[&["check"], args].concat());
    assert_eq!(text(&output.stderr), "");
    let lines = text(&output.stdout)
        .lines()
        .map(|line| match line.split_once(" of ") {
            Some((watches, _)) if line.starts_with("watches") => watches.to_owned(),
            _ => line.to_owned(),
        });
    (output.status.code(), lines.collect())
}

#[test]
fn check_says_what_there_is_and_what_is_wrong() {
    let host = Host::new("");
    let database = host.dir.path().join("lib");
    let database = format!("database: {} is not there yet", database.display());
    let no_mailbox = "no mailbox found; see mailboxes.patterns in the configuration";
    let lines = [no_mailbox, &database, "watches: 0"]
        .map(str::to_owned)
        .into();
    assert_eq!(checked(&host, &[]), (Some(1), lines));

    host.folders("anna", &["", ".Junk", ".Junk.2024", ".Lists", ".Trash"]);
    let path = |user| host.path(user, "").display().to_string();
    let path = |user| path(user).trim_end_matches('/').to_owned();
    let anna = format!("anna: {}: 2 spam, 2 counting", path("anna"));
    let lines = [&anna, &database, "watches: 9"].map(str::to_owned).into();
    assert_eq!(checked(&host, &[]), (Some(0), lines));

    host.folders("bert", &["", ".Lists"]);
    fs::remove_dir(host.path("bert", ".Lists/new")).unwrap();
    let bert = format!(
        "bert: {0}: 0 spam, 1 counting; cannot open \"{0}/.Lists/new\": \
         entity not found; no spam folder; make Junk or Spam",
        path("bert")
    );
    let lines = [bert, database].into();
    assert_eq!(checked(&host, &["bert"]), (Some(1), lines));
}

#[test]
fn check_looks_at_what_the_configuration_names() {
    let host = Host::new("service.mail_user = 'no such user'\nwatching.only_poll = true\n");
    host.folders("anna", &["", ".Junk"]);
    let path = host.dir.path().join("bmfd.toml");
    let base = host.dir.path().join("base");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!("database.base = '{}'\n{config}", base.display()),
    )
    .unwrap();
    let base = base.display();
    let wrong = [
        format!("base model: {base}; cannot read {base}: No such file or directory (os error 2)"),
        "mail user: no such user; there is no such user of the system, \
         and nobody may name others"
            .to_owned(),
        "watches: none, all mailboxes are polled".to_owned(),
    ];
    let (code, lines) = checked(&host, &[]);
    assert_eq!((code, &lines[2..]), (Some(1), &wrong[..]));

    fs::write(&path, config.replace("no such user", "root")).unwrap();
    let (code, lines) = checked(&host, &[]);
    assert_eq!((code, &*lines[2]), (Some(0), "mail user: root"));
}

/// Nobody can move what lies in a folder that he may not write to.
#[test]
fn check_says_what_it_may_not_do() {
    const OTHER: u32 = 12_345;
    let host = Host::new("");
    host.folders("anna", &["", ".Junk"]);
    let junk = host.path("anna", ".Junk/cur");
    fs::set_permissions(&junk, Permissions::from_mode(0o500)).unwrap();
    let mut command = host.bmfd_of_others();
    if rustix::process::geteuid().is_root() {
        // Who may do anything finds nothing wrong.
        assert!(host.give_to(OTHER));
        command.uid(OTHER);
    }
    let output = command.args(["check", "anna"]).output().unwrap();
    let line = text(&output.stdout).lines().next().unwrap();
    let path = host.path("anna", "").display().to_string();
    let path = path.trim_end_matches('/');
    let expected = format!(
        "anna: {path}: 0 spam, 1 counting; cannot move messages in \"{path}/.Junk\": \
         Permission denied (os error 13); no spam folder; make Junk or Spam"
    );
    assert_eq!(
        (output.status.code(), line),
        (Some(1), &*expected),
        "{output:?}"
    );
}

#[test]
fn dovecot_is_asked_only_where_folders_are_looked_into() {
    let host = Host::new("");
    let at = |name| host.dir.path().join(name);
    let (asked, doveconf) = (at("asked"), at("doveconf"));
    fs::write(&doveconf, format!("#!/bin/sh\n: >{}\n", asked.display())).unwrap();
    fs::set_permissions(&doveconf, Permissions::from_mode(0o755)).unwrap();
    let bmfd = |command: &str| {
        let mut bmfd = Command::new(env!("CARGO_BIN_EXE_bmfd"));
        bmfd.env("PATH", host.dir.path());
        bmfd.arg("--config").arg(at("bmfd.toml")).arg(command);
        bmfd.output().unwrap()
    };
    let status = bmfd("status");
    assert_eq!((status.status.code(), asked.exists()), (Some(0), false));
    bmfd("check");
    assert!(asked.exists());
}
