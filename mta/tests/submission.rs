//! Users of the host send their mail through the built program, with real
//! clients: swaks, Python's smtplib, and openssl for the versions of TLS.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use common::certificate::certificate;
use common::{Host, Server, by_scram, passwd, said, swaks, with_input};

const PASSWORD: &str = "Tr0ub4dor&3 höher";
const BODY: &str = "This is for nobody but Bob";

/// A host where anna has a password and gets the mail of info.
fn host() -> Host {
    let host = Host::new("");
    passwd(&host, "anna@example.org", &[], PASSWORD);
    host.run(&["alias", "add", "info@example.org", "anna@example.org"]);
    host
}

/// Whether swaks got its mail through, and all it said.
fn by_swaks(address: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let output = swaks(address)
        .args(["--from", "anna@example.org", "--to", "bob@example.org"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.success(),
        said + &String::from_utf8_lossy(&output.stderr),
    )
}

/// Everything that the server wrote: its log and all files, but mailboxes.
fn everything(host: &Host, server: Server) -> Vec<u8> {
    server.signal("TERM");
    let mut all = server.wait_and_log().into_bytes();
    let mut folders = vec![host.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend(Some(path).filter(|path| *path != host.data().join("mail")));
            } else if path.is_file() {
                all.extend(std::fs::read(path).unwrap());
            }
        }
    }
    all
}

#[test]
fn swaks_submits_by_each_mechanism_over_both_kinds_of_tls() {
    let host = host();
    // Also what is logged when all is.
    let mut command = host.serving();
    command.arg("--verbose");
    let server = host.try_serve(command).unwrap();
    let [starttls, implicit] = server.submission[..] else {
        panic!("{:?}", server.submission);
    };
    let login = [
        "--auth-user",
        "anna@example.org",
        "--auth-password",
        PASSWORD,
    ];
    let mut n = 0;
    for (address, tls) in [(starttls, "--tls"), (implicit, "--tls-on-connect")] {
        for mechanism in ["PLAIN", "LOGIN"] {
            let body = ["--body", BODY];
            let arguments = [&[tls, "--auth", mechanism], &login[..], &body].concat();
            let (sent, said) = by_swaks(address, &arguments);
            assert!(sent, "{mechanism} {tls}: {said}");
            assert!(said.contains(&format!("AUTH {mechanism}")), "{said}");
            n += 1;
            assert_eq!(host.mail("bob", "").len(), n);
        }
    }
    let mail = String::from_utf8(host.mail("bob", "").remove(0)).unwrap();
    assert!(mail.contains("with ESMTPSA (TLSv1.3 "), "{mail}");
    let story = host.run(&["why", "bob@example.org"]);
    assert!(
        story.contains(", logged in as anna@example.org\n"),
        "{story}"
    );

    // Nothing without TLS, nothing with another's password or none.
    for (address, tls, login, expected) in [
        (starttls, "", &login[..], "did not advertise authentication"),
        (
            starttls,
            "--tls",
            &[
                "--auth-user",
                "anna@example.org",
                "--auth-password",
                "Guess-1",
            ],
            "535 5.7.8",
        ),
        (
            implicit,
            "--tls-on-connect",
            &[
                "--auth-user",
                "bob@example.org",
                "--auth-password",
                "Guess-2",
            ],
            "535 5.7.8",
        ),
        (
            starttls,
            "--tls",
            &["--auth-user", "Guess-3", "--auth-password", "Guess-4"],
            "535 5.7.8",
        ),
        (starttls, "", &[], "530 5.7.0"),
        (implicit, "--tls-on-connect", &[], "530 5.7.0"),
        (
            server.smtp[0],
            "--tls",
            &login,
            "did not advertise authentication",
        ),
    ] {
        let auth: &[&str] = if login.is_empty() {
            &[]
        } else {
            &["--auth", "PLAIN"]
        };
        let arguments: Vec<&str> = [auth, login, &[tls]].concat();
        let arguments: Vec<&str> = arguments.into_iter().filter(|a| !a.is_empty()).collect();
        let (sent, said) = by_swaks(address, &arguments);
        assert!(!sent && said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(host.mail("bob", "").len(), n);

    // Neither passwords nor what was tried for one, nor their base64.
    let all = everything(&host, server);
    // The line of a recipient names the account, also where no gate is.
    let log = String::from_utf8_lossy(&all).into_owned();
    let accepted: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("recipient accepted rule=\"none\" from=anna@example.org"))
        .collect();
    assert_eq!(accepted.len(), n, "{log}");
    for field in [
        " to=bob@example.org",
        " origin_ip=127.0.0.1",
        " auth=\"anna@example.org\"",
        " encryption=\"TLSv1.3\"",
    ] {
        assert!(
            accepted[0].contains(field),
            "{field} is not in {}",
            accepted[0]
        );
    }
    let written = |text: &str| memchr::memmem::find(&all, text.as_bytes()).is_some();
    assert!(written("logged in account=\"anna@example.org\""));
    assert!(written("not the password of anna@example.org"));
    for secret in [
        PASSWORD,
        "Tr0ub4dor",
        "VHIwdWI0ZG9yJjMg",
        "AGFubmFAZXhhbXBsZS5vcmcA",
        "Guess-",
        "R3Vlc3Mt",
        // Bodies lie in mailboxes alone.
        BODY,
    ] {
        assert!(!written(secret), "{secret} was written");
    }
}

/// As Thunderbird would; returns why it was refused.
fn by_smtplib(
    address: SocketAddr,
    class: &str,
    from: &str,
    header: &str,
    to: &str,
) -> Result<(), String> {
    const SCRIPT: &str = "\
import smtplib, ssl, sys
host, port, kind, password, sender, header, to = sys.argv[1:]
context = ssl._create_unverified_context()
try:
    if kind in ('SMTP_SSL', 'login'):
        client = smtplib.SMTP_SSL(host, int(port), timeout=60, context=context)
    else:
        client = smtplib.SMTP(host, int(port), timeout=60)
        client.starttls(context=context)
    client.user, client.password = 'Anna@Example.ORG', password
    client.ehlo_or_helo_if_needed()
    if kind == 'login':
        client.login(client.user, password)
    else:
        client.auth('PLAIN', lambda c=None: '\\0%s\\0%s' % (client.user, password))
    client.sendmail(sender, [to], header + 'Subject: x\\r\\n\\r\\nx\\r\\n')
    client.quit()
except smtplib.SMTPSenderRefused as refused:
    sys.exit(f'{refused.smtp_code} {refused.smtp_error.decode()}')
except smtplib.SMTPResponseException as refused:
    sys.exit(f'{refused.smtp_code} {refused.smtp_error.decode()}')
";
    let output: Output = Command::new("python3")
        .args([
            "-c",
            SCRIPT,
            &address.ip().to_string(),
            &address.port().to_string(),
        ])
        .args([class, "anna plain", from, header, to])
        .output()
        .unwrap();
    said(&output)
}

#[test]
fn smtplib_submits_what_belongs_to_the_account_only() {
    let host = host();
    passwd(&host, "anna@example.org", &[], "anna plain");
    let server = host.serve();
    let (starttls, implicit) = (server.submission[0], server.submission[1]);
    for (address, class, from, header, expected) in [
        (
            starttls,
            "SMTP",
            "anna@example.org",
            "From: Anna <anna@example.org>\r\n",
            "",
        ),
        (
            implicit,
            "SMTP_SSL",
            "ANNA@example.org",
            "From: Anna+x@EXAMPLE.org\r\n",
            "",
        ),
        (
            implicit,
            "SMTP_SSL",
            "info@example.org",
            "From: info@example.org\r\n",
            "",
        ),
        (implicit, "SMTP_SSL", "", "From: info+y@example.org\r\n", ""),
        (
            implicit,
            "SMTP_SSL",
            "bob@example.org",
            "From: anna@example.org\r\n",
            "550 5.7.1 bob@example.org is not",
        ),
        (
            implicit,
            "SMTP_SSL",
            "x@example.net",
            "From: anna@example.org\r\n",
            "550 5.7.1 x@example.net is not",
        ),
        (
            starttls,
            "SMTP",
            "anna@example.org",
            "From: bob@example.org\r\n",
            "550 5.7.1 bob@example.org is not",
        ),
        (
            starttls,
            "SMTP",
            "anna@example.org",
            "From: anna@example.org\r\nFrom: bob@example.org\r\n",
            "550 5.7.1 the message has more than one",
        ),
        (
            starttls,
            "SMTP",
            "anna@example.org",
            "",
            "550 5.7.1 the message has no From",
        ),
    ] {
        let done = by_smtplib(address, class, from, header, "bob@example.org");
        match (expected, done) {
            ("", done) => assert_eq!(done, Ok(()), "{from} {header}"),
            (expected, Err(found)) => {
                assert!(found.starts_with(expected), "{from} {header}: {found}")
            }
            (_, Ok(())) => panic!("{from} {header} was sent"),
        }
    }
    assert_eq!(host.mail("bob", "").len(), 4);
    let story = host.run(&["why", "anna@example.org"]);
    assert!(
        story.contains("anna@example.org sent as bob@example.org"),
        "{story}"
    );
}

#[test]
fn openssl_speaks_each_version_of_tls() {
    let host = host();
    let server = host.serve();
    let (starttls, implicit) = (server.submission[0], server.submission[1]);
    for (address, version, protocol) in [
        (starttls, "-tls1_2", "TLSv1.2"),
        (starttls, "-tls1_3", "TLSv1.3"),
        (implicit, "-tls1_2", "TLSv1.2"),
        (implicit, "-tls1_3", "TLSv1.3"),
        (implicit, "-tls1_1", ""),
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-crlf", "-quiet", version, "-connect"]);
        openssl.arg(address.to_string());
        if address == starttls {
            openssl.args(["-starttls", "smtp"]);
        }
        let mut child = openssl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // NUL anna@example.org NUL and the password.
        let _ = input.write_all(
            b"EHLO c\nAUTH PLAIN AGFubmFAZXhhbXBsZS5vcmcAVHIwdWI0ZG9yJjMgaMO2aGVy\n\
              MAIL FROM:<anna@example.org>\nRCPT TO:<bob@example.org>\nDATA\n\
              From: anna@example.org\n\n.\nQUIT\n",
        );
        let output = child.wait_with_output().unwrap();
        drop(input);
        let said = String::from_utf8_lossy(&output.stdout);
        if protocol.is_empty() {
            assert!(!said.contains("250"), "{said}");
            continue;
        }
        assert!(
            said.contains("235 2.7.0") && said.contains("221 2.0.0"),
            "{said}"
        );
        let with = format!("with ESMTPSA ({protocol} ");
        let of_this = host
            .mail("bob", "")
            .iter()
            .filter(|mail| memchr::memmem::find(mail, with.as_bytes()).is_some())
            .count();
        assert_eq!(
            of_this,
            if address == starttls { 1 } else { 2 },
            "{protocol}"
        );
    }
    assert_eq!(host.mail("bob", "").len(), 4);
}

#[test]
fn guessing_takes_longer_each_time() {
    let host = host();
    let server = host.serve();
    let guess = |password: &str| {
        let login = [
            "--auth-user",
            "anna@example.org",
            "--auth-password",
            password,
        ];
        let arguments = [&["--tls-on-connect", "--auth", "PLAIN"], &login[..]].concat();
        let begin = std::time::Instant::now();
        let (sent, said) = by_swaks(server.submission[1], &arguments);
        assert_eq!(sent, password == PASSWORD, "{said}");
        begin.elapsed().as_secs()
    };
    for _ in 0..3 {
        guess("guess");
    }
    assert!(guess("guess") >= 1);
    assert!(guess("guess") >= 2);
    assert!(guess(PASSWORD) >= 4);
}

/// What gsasl says when it logs in over STARTTLS, and whether it could.
fn by_gsasl(host: &Host, address: SocketAddr, mechanism: &str, password: &str) -> (bool, String) {
    let output = tests::programs::peer("gsasl")
        .args(["--smtp", "--verbose", "--hostname", "mail.example.org"])
        .arg("--x509-ca-file")
        .arg(host.data().join("tls/cert.pem"))
        .args(["--mechanism", mechanism])
        .args([
            "--authentication-id",
            "anna@example.org",
            "--password",
            password,
        ])
        .args(["--connect", &format!("localhost:{}", address.port())])
        // Otherwise it takes the mechanism without channel binding for an
        // attack where the other is offered.
        .args((mechanism == "SCRAM-SHA-256").then_some("--no-cb"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stderr);
    (said.contains("235 2.7.0 welcome"), said)
}

#[test]
fn gsasl_logs_in_without_telling_the_password() {
    let host = host();
    passwd(&host, "bob@example.org", &["--keep-clear"], "another");
    certificate(&host.data().join("tls"), "localhost");
    let server = host.serve();
    let address = server.submission[0];
    for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"] {
        let (logged_in, said) = by_gsasl(&host, address, mechanism, PASSWORD);
        assert!(logged_in, "{mechanism}: {said}");
    }
    let (logged_in, said) = by_gsasl(&host, address, "SCRAM-SHA-256", "guess");
    assert!(!logged_in && said.contains("535 5.7.8"), "{said}");
    // Who keeps no password cannot be recognized by it.
    let (logged_in, said) = by_gsasl(&host, address, "CRAM-MD5", PASSWORD);
    assert!(!logged_in && said.contains("535 5.7.8"), "{said}");
    let line = server.wait_for_line("keeps no password");
    assert!(line.contains("mechanism=\"CRAM-MD5\""), "{line}");

    passwd(&host, "anna@example.org", &["--keep-clear"], PASSWORD);
    for mechanism in ["SCRAM-SHA-256-PLUS", "CRAM-MD5"] {
        let (logged_in, said) = by_gsasl(&host, address, mechanism, PASSWORD);
        assert!(logged_in, "{mechanism}: {said}");
    }
    let login = [
        "--auth-user",
        "anna@example.org",
        "--auth-password",
        PASSWORD,
    ];
    let arguments = [&["--tls", "--auth", "CRAM-MD5"], &login[..]].concat();
    let (sent, said) = by_swaks(address, &arguments);
    assert!(sent, "{said}");
    let mail = String::from_utf8(host.mail("bob", "").remove(0)).unwrap();
    assert!(mail.contains("with ESMTPSA"), "{mail}");
}

#[test]
fn whoever_logs_in_by_scram_sends_mail() {
    let host = host();
    passwd(&host, "anna@example.org", &[], "anna plain");
    let server = host.serve();
    let send = |password: &str| by_scram(server.submission[1], password);
    assert!(send("guess").unwrap_err().starts_with("535 5.7.8"));
    assert_eq!(send("anna plain"), Ok(()));
    let mail = String::from_utf8(host.mail("bob", "").remove(0)).unwrap();
    assert!(mail.contains("\nSubject: by SCRAM\n"), "{mail}");
    assert!(mail.contains("with ESMTPSA (TLSv1.3 "), "{mail}");
}

/// Python's smtplib tries CRAM-MD5 first where it is offered.
#[test]
fn cram_md5_is_offered_where_somebody_keeps_a_password_and_costs_others_nothing() {
    let host = host();
    passwd(&host, "anna@example.org", &[], "anna plain");
    let offered = |server: &Server| {
        let (_, said) = by_swaks(server.submission[0], &["--tls", "--quit-after", "HELO"]);
        said.contains("CRAM-MD5")
    };
    let server = host.serve();
    assert!(!offered(&server));
    server.signal("TERM");
    server.wait();
    passwd(&host, "bob@example.org", &["--keep-clear"], "another");
    let server = host.serve();
    assert!(offered(&server));
    let logins = (0..10).map(|_| {
        let from = "anna@example.org";
        let header = "From: anna@example.org\r\n";
        let begin = std::time::Instant::now();
        let sent = by_smtplib(server.submission[1], "login", from, header, from);
        assert_eq!(sent, Ok(()));
        begin.elapsed().as_secs()
    });
    // As guesses the last three would have waited for 16 seconds each.
    let took: Vec<u64> = logins.collect();
    assert!(took[7..].iter().any(|seconds| *seconds < 16), "{took:?}");
    assert!(
        server
            .wait_for_line("keeps no password")
            .contains("CRAM-MD5")
    );
}

#[test]
fn a_hash_of_another_host_is_replaced_at_the_login() {
    let host = host();
    let mut command = host.command();
    command.args(["user", "import", "-"]);
    let hash = "[users.'old@example.org']\npassword = '$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.'\n";
    assert!(with_input(command, hash).status.success());
    let server = host.serve();
    let login = [
        "--auth-user",
        "old@example.org",
        "--auth-password",
        "secret-1",
    ];
    let from = ["--from", "old@example.org"];
    let arguments = [&["--tls", "--auth", "PLAIN"], &login[..], &from].concat();
    for _ in 0..2 {
        let (sent, said) = by_swaks(server.submission[0], &arguments);
        assert!(sent, "{said}");
        let json = host.run(&["user", "list", "--json"]);
        let line = json.lines().find(|line| line.contains("old@")).unwrap();
        assert!(line.contains("\"password\":\"argon2\""), "{line}");
        assert!(line.contains("\"scram\":true"), "{line}");
    }
}
