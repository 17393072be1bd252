//! Configurations that would not work: said before mail is at stake.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{Host, wait_for};

#[test]
fn what_would_not_work_is_found_by_check() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new("");
    let check = || {
        let output = host.command().arg("check").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    for alias in [
        ["dead@example.org", "nobody@example.org"],
        ["round@example.org", "about@example.org"],
        ["about@example.org", "round@example.org"],
        ["info@example.org", "anna@example.org"],
        ["anna@example.org", "anna@example.org"],
    ] {
        host.run(&[&["alias", "add"], &alias[..]].concat());
    }
    let text = fs::read_to_string(host.config()).unwrap();
    let taken = taken.local_addr().unwrap();
    fs::write(
        host.config(),
        text.replacen("127.0.0.1:0", &taken.to_string(), 1),
    )
    .unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(1), "{said}");
    for part in [
        &format!("wrong  listens: cannot listen at {taken}: Address already in use"),
        "wrong  aliases: about@example.org leads back to itself by round@example.org; \
         dead@example.org leads to nobody@example.org, who is not there; \
         round@example.org leads back to itself by about@example.org\n",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    fs::write(host.config(), text).unwrap();
    let _server = host.serve();
    // It is known by its learning part, which may begin a moment later.
    wait_for("the server to be seen", || {
        check().1.contains("(the server runs)").then_some(())
    });
}

#[test]
fn a_configuration_that_is_not_there_is_said_once_and_costs_no_mail() {
    let host = Host::new("");
    let gone = host.path("gone.toml").display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["--config", &gone]).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let why = format!("cannot read \"{gone}\": No such file or directory (os error 2)\n");
    assert_eq!(run(&["check"]), (Some(2), format!("postern: {why}")));
    // Programs that send mail try again.
    let (code, said) = run(&["sendmail", "anna@example.org"]);
    assert_eq!((code, said), (Some(111), format!("sendmail: {why}")));
    assert_eq!(run(&["qmail-queue"]).0, Some(55));
    let listed = host.command().args(["sendmail", "-bp"]).output().unwrap();
    assert_eq!((listed.status.code(), listed.stdout), (Some(0), Vec::new()));
}

#[test]
fn what_is_somebody_elses_is_said_so() {
    if !rustix::process::geteuid().is_root() {
        tests::skip("only root can be somebody else");
        return;
    }
    let host = Host::new("");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(host.dir.path(), mode(0o755)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = host.command();
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        command.args(arguments).output().unwrap()
    };
    let said = String::from_utf8(run(&["user", "list"]).stderr).unwrap();
    let data = host.data().display().to_string();
    let expected =
        format!("postern: {data} is not yours: run this as root or as the owner of that folder\n");
    assert_eq!(said, expected);

    let text = fs::read_to_string(host.config()).unwrap();
    let text = text.replacen("127.0.0.1:0", "127.0.0.99:25", 1);
    fs::write(host.config(), text).unwrap();
    fs::set_permissions(host.config(), mode(0o644)).unwrap();
    let said = String::from_utf8(run(&["check"]).stdout).unwrap();
    let expected = "wrong  listens: cannot listen at 127.0.0.99:25: ports below 1024 are for root";
    assert!(said.contains(expected), "{said}");
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
