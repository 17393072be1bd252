//! Passwords by the built program: set, kept, carried to another host, and
//! nowhere in clear.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Host, with_input};
use mta::accounts::{Accounts, Address, Directory, Homes, Password, is_right};

/// `postern ARGS` on the host in `data`, with `input`.
fn postern(data: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("--data").arg(data).args(args);
    with_input(command, input)
}

fn done(data: &Path, args: &[&str], input: &str) -> String {
    let output = postern(data, args, input);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn stored(data: &Path, name: &str) -> Option<Password> {
    let accounts = Accounts::open(&data.join("accounts.db"), Homes::new(data.join("mail")));
    let user = accounts.unwrap().user(&Address::new(name, "example.org"));
    user.unwrap().unwrap().settings.password
}

/// Whether a file below `folder` holds `text`.
fn is_somewhere(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_somewhere(&path, text),
            false => fs::read(&path)
                .is_ok_and(|bytes| memchr::memmem::find(&bytes, text.as_bytes()).is_some()),
        }
    })
}

#[test]
fn a_password_is_set_changed_and_taken_away() {
    let host = Host::new("");
    let data = host.data();
    let passwd = ["user", "passwd", "anna@example.org"];
    assert_eq!(stored(&data, "anna"), None);
    for (args, password) in [
        (&passwd[..], "Tr0ub4dor&3"),
        (
            &["user", "set", "anna@example.org", "--password-stdin"],
            "correct horse",
        ),
    ] {
        assert_eq!(done(&data, args, &format!("{password}\n")), "");
        let hash = stored(&data, "anna");
        assert!(is_right(
            hash.as_ref().map(|password| &password.hash),
            password.as_bytes()
        ));
        assert!(!is_right(
            hash.as_ref().map(|password| &password.hash),
            b"Tr0ub4dor&4"
        ));
        assert!(!is_somewhere(&data, password), "{password} lies in clear");
    }
    // Other settings and another address leave it.
    let before = stored(&data, "anna");
    done(
        &data,
        &["user", "set", "anna@example.org", "--spam", "tag"],
        "",
    );
    done(
        &data,
        &["user", "rename", "anna@example.org", "ann@example.org"],
        "",
    );
    assert_eq!(stored(&data, "ann"), before);
    done(
        &data,
        &["user", "passwd", "ann@example.org", "--remove"],
        "",
    );
    assert_eq!(stored(&data, "ann"), None);
}

#[test]
fn what_is_no_password_changes_nothing() {
    let host = Host::new("");
    let data = host.data();
    for (args, input, reason) in [
        (&["user", "passwd", "anna@example.org"][..], "\n", "empty"),
        (
            &["user", "add", "new@example.org", "--password-stdin"],
            "",
            "empty",
        ),
        (&["user", "passwd", "who@example.org"], "x\n", "no user"),
    ] {
        let output = postern(&data, args, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said.contains(reason), "{args:?}: {said}");
    }
    assert_eq!(stored(&data, "anna"), None);
    assert!(!done(&data, &["user", "list"], "").contains("new@"));
}

#[test]
fn hashes_move_to_another_host_as_they_are() {
    let (one, other) = (Host::new(""), Host::new(""));
    let hashed = "[users.\"old@example.org\"]\n\
                  password = \"$5$saltstring$t0FDj.SMxxVvXnQINu8.WkdjLPHB7GuRSy3sbpTAKl0\"\n";
    done(&one.data(), &["user", "import", "-"], hashed);
    done(
        &one.data(),
        &["user", "passwd", "anna@example.org"],
        "secret\n",
    );
    done(
        &one.data(),
        &["user", "passwd", "bob@example.org", "--keep-clear"],
        "kept\n",
    );
    let text = done(&one.data(), &["user", "export"], "");
    assert!(text.contains("clear-password = \"kept\""), "{text}");
    assert!(text.contains(hashed), "{text}");
    done(&other.data(), &["user", "import", "-"], &text);
    assert_eq!(done(&other.data(), &["user", "export"], ""), text);
    let hash = stored(&other.data(), "old");
    assert!(is_right(
        hash.as_ref().map(|password| &password.hash),
        b"secret-5"
    ));
    let hash = stored(&other.data(), "anna");
    assert!(is_right(
        hash.as_ref().map(|password| &password.hash),
        b"secret"
    ));
    let json = done(&other.data(), &["user", "list", "--json"], "");
    assert!(json.contains("\"password\":\"sha256-crypt\""), "{json}");
    assert!(!json.contains('$'), "{json}");
}
