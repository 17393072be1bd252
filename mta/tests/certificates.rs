//! Certificates as the administrator names them: looked at before users need
//! them, shown by name, and read again when they change.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use common::certificate::{certificate, certificate_with};
use common::{Host, passwd};

/// The name in the certificate that openssl is shown when it asks for `name`.
fn shown(address: SocketAddr, name: &str, more: &[&str]) -> String {
    let ask = match name {
        "" => vec!["-noservername"],
        name => vec!["-servername", name],
    };
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(ask)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = said
        .lines()
        .find_map(|line| line.strip_prefix("subject=CN = "));
    subject.unwrap_or(&said).to_owned()
}

#[test]
fn without_a_certificate_nobody_can_log_in_and_that_is_said() {
    let host = Host::new("");
    passwd(&host, "anna@example.org", &[], "secret word");
    std::fs::remove_file(host.data().join("tls/cert.pem")).unwrap();
    let output = host.command().arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("wrong  certificate: users log in within TLS only"),
        "{said}"
    );
    assert!(
        said.contains("3 users, 1 of them with a password"),
        "{said}"
    );
    let output = host.command().arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no certificate"), "{said}");
}

#[test]
fn check_says_whom_a_certificate_is_for() {
    let host = Host::new("");
    let said = || {
        let output = host.command().arg("check").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = host.data().join("tls");
    certificate(&folder, "mail.example.org");
    assert!(
        said().contains("cert.pem for mail.example.org\n"),
        "{}",
        said()
    );
    // As openssl makes them unless it is told the names of hosts.
    certificate_with(&folder, &["-subj", "/CN=mail.example.org"]);
    assert!(said().contains("cert.pem for no DNS name"), "{}", said());
}

#[test]
fn certificates_are_shown_by_name_and_as_they_lie_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name);
    for (name, host) in [("a", "mail.example.org"), ("b", "*.example.net")] {
        std::fs::create_dir(dir(name)).unwrap();
        certificate(&dir(name), host);
    }
    let pair = |name: &str| {
        let (certificate, key) = (dir(name).join("cert.pem"), dir(name).join("key.pem"));
        format!("certificate = {certificate:?}\nkey = {key:?}\n")
    };
    let more = pair("b").replace('\n', ", ");
    let more = more.trim_end_matches(", ");
    let host = Host::new(&format!("[tls]\n{}more = [{{ {more} }}]\n", pair("a")));
    let said = host.run(&["check"]);
    assert!(said.contains("for *.example.net"), "{said}");
    let server = host.serve();
    let (starttls, implicit) = (server.submission[0], server.submission[1]);
    for (name, expected) in [
        ("mail.example.org", "mail.example.org"),
        ("mail.example.net", "*.example.net"),
        ("MAIL.example.NET", "*.example.net"),
        ("a.mail.example.net", "mail.example.org"),
        ("other.example.com", "mail.example.org"),
        ("", "mail.example.org"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            assert_eq!(shown(implicit, name, &[version]), expected, "{name}");
            let more = ["-starttls", "smtp", version];
            assert_eq!(shown(starttls, name, &more), expected, "{name}");
        }
    }
    // A key that does not fit changes nothing.
    std::fs::copy(dir("a").join("key.pem"), dir("b").join("key.pem")).unwrap();
    server.wait_for_line("the certificate stays as it was");
    assert_eq!(shown(implicit, "mail.example.net", &[]), "*.example.net");
    certificate(&dir("b"), "new.example.net");
    server.wait_for_line("certificate read again");
    assert_eq!(shown(implicit, "new.example.net", &[]), "new.example.net");
    assert_eq!(shown(implicit, "mail.example.net", &[]), "mail.example.org");
}
