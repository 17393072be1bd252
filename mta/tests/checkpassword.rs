//! The checkpassword interface, both ways: a program checks logins for the
//! server, and the built program does for others.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::dovecot::{Dovecot, OWNER};
use common::{Host, passwd, swaks};

/// Runs `postern checkpassword PROGRAM` with `input` on descriptor 3, as a shell
/// hands it on.
fn ask(host: &Host, input: &[u8], program: &str) -> Output {
    let postern = host.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"])
        .arg(postern.get_program())
        .args(postern.get_args())
        .args(["checkpassword", "sh", "-c", program])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn others_ask_for_our_accounts() {
    let host = Host::new("");
    passwd(&host, "anna@example.org", &[], "secret");
    passwd(&host, "bob@example.org", &["--keep-clear"], "tanstaaf");
    // The digest by an implementation of HMAC-MD5 that is not ours.
    let digest = Command::new("python3")
        .args([
            "-c",
            "import hmac; print(hmac.new(b'tanstaaf', b'<1@mx>', 'md5').hexdigest(), end='')",
        ])
        .output()
        .unwrap();
    let digest = String::from_utf8(digest.stdout).unwrap();
    let cram = format!("bob@example.org\0{digest}\0<1@mx>\0");
    let replayed = format!("bob@example.org\0{digest}\0<2@mx>\0");
    for (input, code) in [
        (&b"anna@example.org\0secret\0\0"[..], Some(0)),
        (b"Anna@EXAMPLE.org\0secret\0<1.2@pop>\0", Some(0)),
        (b"anna@example.org\0guess\0\0", Some(1)),
        (b"anna\0secret\0\0", Some(1)),
        (b"nobody@example.org\0secret\0\0", Some(1)),
        (b"bob@example.org\0tanstaaf\0\0", Some(0)),
        (cram.as_bytes(), Some(0)),
        (replayed.as_bytes(), Some(1)),
        // A digest is no password.
        (
            b"anna@example.org\0d41d8cd98f00b204e9800998ecf8427e\0<1@mx>\0",
            Some(1),
        ),
        (b"anna@example.org\0secret", Some(2)),
        (b"", Some(2)),
    ] {
        let output = ask(&host, input, "exit 0");
        assert_eq!(output.status.code(), code, "{input:?}: {output:?}");
    }
    let program =
        "test ! -e /dev/fd/3 && pwd && printf '%s|%s|%s' \"$USER\" \"$HOME\" \"$SHELL\"; exit 7";
    let output = ask(&host, b"anna@example.org\0secret\0\0", program);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let home = host.data().join("mail/example.org/anna");
    let expected = format!("{0}\nanna@example.org|{0}|/bin/sh", home.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);

    // Without descriptor 3, and without accounts.
    let output = host
        .command()
        .args(["checkpassword", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    fs::rename(host.data().join("accounts.db"), host.path("gone")).unwrap();
    let output = ask(&host, b"anna@example.org\0secret\0\0", "exit 0");
    assert_eq!(output.status.code(), Some(111), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("there are no accounts"), "{said}");
}

/// A program that knows anna's password, and answers CRAM-MD5.
fn program(path: &Path) {
    let script = "\
#!/usr/bin/env python3
import hmac, os, sys
name, secret, stamp = os.read(3, 512).split(b'\\0')[:3]
known = {b'anna@example.org': b'secret', b'nobody@example.org': b'secret'}
if name == b'bob@example.org':
    sys.exit(111)
stored = known.get(name)
if stamp:
    right = stored and hmac.new(stored, stamp, 'md5').hexdigest().encode() == secret
else:
    right = stored == secret
if not right:
    sys.exit(1)
print('Tr0ub4dor goes nowhere')
os.execvp(sys.argv[1], sys.argv[1:])
";
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_program_checks_logins_for_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpassword");
    program(&path);
    let host = Host::new(&format!(
        "[login]\ncheckpassword = [{path:?}, \"true\"]\ncheckpassword_cram_md5 = true\n"
    ));
    let said = host.run(&["check"]);
    assert!(said.contains("ok     passwords: asked of "), "{said}");
    let server = host.serve();
    for (user, password, mechanism, expected) in [
        ("anna@example.org", "secret", "PLAIN", "235 2.7.0"),
        ("Anna@example.org", "secret", "LOGIN", "235 2.7.0"),
        ("anna@example.org", "secret", "CRAM-MD5", "235 2.7.0"),
        ("anna@example.org", "guess", "PLAIN", "535 5.7.8"),
        ("anna@example.org", "guess", "CRAM-MD5", "535 5.7.8"),
        ("bob@example.org", "secret", "PLAIN", "454 4.7.0"),
        // Not one of our users.
        ("nobody@example.org", "secret", "PLAIN", "535 5.7.8"),
    ] {
        let output = swaks(server.submission[0])
            .args([
                "--tls",
                "--auth",
                mechanism,
                "--from",
                user,
                "--to",
                "bob@example.org",
            ])
            .args(["--auth-user", user, "--auth-password", password])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(expected), "{user} {mechanism}: {said}");
        assert!(!said.contains("SCRAM"), "{said}");
        assert_eq!(
            output.status.success(),
            expected.starts_with("235"),
            "{said}"
        );
    }
    assert_eq!(host.mail("bob", "").len(), 3);
    fs::remove_file(&path).unwrap();
    let output = host.command().arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("wrong  passwords: ") && said.contains("checkpassword"),
        "{said}"
    );
    let line = server.wait_for_line("cannot tell now: exit code 111");
    assert!(line.contains("login refused"), "{line}");
}

#[test]
fn one_host_asks_another() {
    let knows = Host::new("");
    passwd(&knows, "anna@example.org", &["--keep-clear"], "secret");
    let program = knows.command();
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    let asks = Host::new(&format!(
        "[login]\ncheckpassword = [{}, \"checkpassword\", \"true\"]\ncheckpassword_cram_md5 = true\n",
        words.join(", ")
    ));
    let server = asks.serve();
    let mut n = 0;
    for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5"] {
        for (password, is_right) in [("secret", true), ("guess", false)] {
            let output = swaks(server.submission[1])
                .args([
                    "--tls-on-connect",
                    "--auth",
                    mechanism,
                    "--from",
                    "anna@example.org",
                ])
                .args(["--to", "bob@example.org", "--auth-user", "anna@example.org"])
                .args(["--auth-password", password])
                .output()
                .unwrap();
            assert_eq!(output.status.success(), is_right, "{mechanism}: {output:?}");
            n += usize::from(is_right);
            assert_eq!(asks.mail("bob", "").len(), n);
        }
    }
}

#[test]
fn dovecot_asks_for_our_accounts() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new("");
    passwd(&host, "anna@example.org", &[], "secret");
    if !host.give_to_owner(folder.path()) {
        return;
    }
    let postern = host.command();
    let words = std::iter::once(postern.get_program()).chain(postern.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let databases = format!(
        "passdb {{\n driver = checkpassword\n args = {} checkpassword\n}}\n\
         userdb {{\n driver = static\n args = uid={OWNER} gid={OWNER} home={}/mail/%d/%n\n}}\n\
         mail_location = maildir:~/Maildir\nservice auth {{\n user = {OWNER}\n}}\n",
        words.join(" "),
        host.data().display()
    );
    let dovecot = Dovecot::start(&host, &databases);
    for (name, password, expected) in [
        ("anna@example.org", "secret", "imap OK 0\npop3 0\n"),
        ("anna@example.org", "guess", "imap refused\npop3 refused\n"),
        ("bob@example.org", "secret", "imap refused\npop3 refused\n"),
    ] {
        assert_eq!(dovecot.login(name, password), expected, "{name}");
    }
}
