//! `postern import`, carried out: hosts of qmail's kinds on the disk, what is made
//! of them, and what a second run changes.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use common::imported::NOTQMAIL;
use common::snapshot::snapshot_of_host;
use common::{Host, passwd};
use mta::accounts::{Accounts, Address, Directory, is_right};
use tests::programs::{built, peer};

/// A copy of a host on the disk. As root, folders of users are theirs.
struct Old(tempfile::TempDir);

impl Old {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(&path[1..]);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for user in ["joe", "high"] {
            let home = dir.path().join("home").join(user);
            if home.is_dir() && rustix::process::geteuid().is_root() {
                chown(home, Some(1000), Some(1000)).unwrap();
            }
        }
        Self(dir)
    }

    /// What is imported into a new host in `dir`, with the exit code.
    fn import(&self, dir: &Path, more: &[&str]) -> (String, i32) {
        let mut command = postern(dir);
        command
            .args(["import", "qmail", "--root"])
            .arg(self.0.path());
        command.arg(self.0.path().join("var/qmail")).args(more);
        said(&mut command)
    }
}

/// The built program with a configuration and a folder in `dir`.
fn postern(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("--config").arg(dir.join("postern.toml"));
    if !dir.join("postern.toml").exists() {
        command.arg("--data").arg(dir.join("data"));
    }
    command
}

fn said(command: &mut Command) -> (String, i32) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let errors = String::from_utf8(stderr).unwrap();
    let code = status.code().unwrap();
    assert!(code != 2, "{command:?}: {errors}");
    (String::from_utf8(stdout).unwrap(), code)
}

/// The system's user for a host that is made; only root may name one.
fn user() -> &'static [&'static str] {
    match rustix::process::geteuid().is_root() {
        true => &["--user", "root"],
        false => &[],
    }
}

#[test]
fn a_host_is_made_once_and_the_old_one_is_only_read() {
    let old = Old::new(NOTQMAIL);
    let before = snapshot_of_host(old.0.path());
    let new = tempfile::tempdir().unwrap();
    // Only read: nothing is made here either.
    let (planned, code) = old.import(new.path(), &["--dry-run"]);
    assert_eq!(code, 1);
    assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0);
    for text in [
        "user bob@mail.example.org\n",
        "alias list@example.org: a@example.net\n",
        "/var/qmail/control/virtualdomains:3: example.org:wrong\n    the domain is in locals too",
        "left out\n",
    ] {
        assert!(planned.contains(text), "{text}\nin {planned}");
    }
    let (done, code) = old.import(new.path(), user());
    assert_eq!((done, code), (planned, 1));
    let home = new.path().join("data/mail/mail.example.org/bob");
    assert!(home.join("Maildir/.Junk/new").is_dir());
    let text = fs::read_to_string(home.join(".qmail")).unwrap();
    assert_eq!(text, "./Maildir/\n|vacation\n&joe@mail.example.org\n");
    let (listed, _) = said(postern(new.path()).args(["user", "export", "--all"]));
    assert!(
        listed.contains("[users.\"joe@mail.example.org\"]"),
        "{listed}"
    );
    // It is a host.
    let (checked, code) = said(postern(new.path()).arg("check"));
    assert_eq!(code, 0, "{checked}");
    let rules = fs::read_to_string(new.path().join("data/gate.rules")).unwrap();
    assert!(
        rules.starts_with("deny sender spam@example.com\n"),
        "{rules}"
    );
    // A second run finds nothing to do and says the same of the old host.
    let made = snapshot_of_host(new.path());
    let (again, code) = old.import(new.path(), &[]);
    assert_eq!(code, 1);
    assert!(again.starts_with("\n"), "{again}");
    assert!(
        made == snapshot_of_host(new.path()),
        "a second run changed something"
    );
    // What was changed here since stays, and is told.
    fs::write(home.join(".qmail"), "&eve\n").unwrap();
    let target = ["alias", "set", "list@example.org", "joe@mail.example.org"];
    said(postern(new.path()).args(target));
    let config = new.path().join("postern.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("max_message_bytes = 20000000", "max_message_bytes = 1000");
    fs::write(&config, text).unwrap();
    let made = snapshot_of_host(new.path());
    let (again, _) = old.import(new.path(), &[]);
    assert!(
        made == snapshot_of_host(new.path()),
        "a third run changed something"
    );
    for text in [
        "bob/.qmail\n    it is there and says something else",
        "list@example.org\n    it is there and leads to joe@mail.example.org",
        "[smtp] max_message_bytes = 20000000",
    ] {
        assert!(again.contains(text), "{text}\nin {again}");
    }
    assert!(
        before == snapshot_of_host(old.0.path()),
        "the old host was changed"
    );
}

const HASHED: &str = "\
version = 1
[users.\"eve@example.org\"]
password = \"$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.\"
";

#[test]
fn what_is_published_comes_back() {
    let published = tempfile::tempdir().unwrap();
    let at = |name: &str| published.path().join(name).display().to_string();
    for folder in ["users", "control"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let host = Host::new(&format!(
        "[publish]\nqmail_users = \"{}\"\nqmail_control = \"{}\"\ncmd5checkpw = \"{}\"\n\
         [[route]]\ndomain = \"*\"\nhost = \"relay.example.net\"\nport = 26\n",
        at("users"),
        at("control"),
        at("users/authuser")
    ));
    for arguments in [
        "domain add example.net",
        "user add jo-ann.x@example.net",
        "alias add info@example.org bob@example.org x@example.com",
        "alias add anna@example.org anna@example.org y@example.com",
        "alias add a.b@example.net anna@example.org",
        "alias add @example.net bob@example.org",
    ] {
        host.run(&arguments.split(' ').collect::<Vec<_>>());
    }
    // cmd5checkpw has the password itself of one, and of another a hash.
    passwd(&host, "bob@example.org", &["--keep-clear"], "kept, too");
    let hashed = host.path("hashed.toml");
    fs::write(&hashed, HASHED).unwrap();
    host.run(&["user", "import", &hashed.display().to_string()]);
    let home = host.data().join("mail/example.org/bob");
    fs::write(home.join(".qmail-list"), "&anna@example.org\n").unwrap();
    fs::write(at("control/me"), "mail.example.org\n").unwrap();
    if rustix::process::geteuid().is_root() {
        // qmail delivers nothing as root.
        for folder in [published.path(), host.dir.path()] {
            fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let mut give = Command::new("chown");
        give.args(["-R", "1000:1000"]).arg(published.path());
        assert!(give.arg(host.data()).status().unwrap().success());
        host.run(&["publish"]);
    }
    let new = tempfile::tempdir().unwrap();
    let mut command = postern(new.path());
    command.args(["import", "qmail"]).arg(published.path());
    let (report, code) = said(command.args(user()));
    assert_eq!(code, 1, "{report}");
    let export = ["user", "export", "--all"];
    let (came, _) = said(postern(new.path()).args(export));
    // What is kept of a password is made anew, with a salt of its own.
    let known = |listed: &str| {
        let lines = listed
            .lines()
            .filter(|line| !line.contains("argon2") && !line.starts_with("scram"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(known(&came), known(&host.run(&export)), "{report}");
    assert!(came.contains("clear-password = \"kept, too\"\n"), "{came}");
    assert!(came.contains("password = \"$1$saltstri$"), "{came}");
    let config = fs::read_to_string(new.path().join("postern.toml")).unwrap();
    assert!(
        config.contains("[[route]]\ndomain = \"*\"\nhost = \"relay.example.net\"\nport = 26\n"),
        "{config}"
    );
    let list = new.path().join("data/mail/example.org/bob/.qmail-list");
    assert_eq!(fs::read_to_string(list).unwrap(), "&anna@example.org\n");
}

#[test]
fn eqmail_has_other_names_and_its_cdb_counts() {
    let old = Old::new(&[
        ("/var/qmail/etc/me", "mail.example.org\n"),
        ("/var/qmail/etc/locals", ""),
        ("/var/qmail/etc/virtualdomains", "example.org:exorg\n"),
        ("/var/qmail/etc/rcpthosts", "example.org\n"),
        ("/var/qmail/etc/morercpthosts", "more.example\n"),
        (
            "/var/qmail/var/users/assign",
            "=exorg-bob:bob:1:1:/srv/bob:::\n",
        ),
        ("/srv/anna/.qmail", ""),
    ]);
    // By another program than ours.
    let record = |key: &str, data: &str| format!("+{},{}:{key}->{data}\n", key.len(), data.len());
    let records = [
        record("!exorg-anna\0", "anna\x001000\x001000\x00/srv/anna\x00\x00"),
        record("!exorg-anna-", "anna\x001000\x001000\x00/srv/anna\x00-\x00"),
        record("", "-"),
        "\n".to_owned(),
    ];
    let text = old.0.path().join("records");
    fs::write(&text, records.concat()).unwrap();
    let status = peer("cdb")
        .arg("-c")
        .arg(old.0.path().join("var/qmail/var/users/cdb"))
        .arg(&text)
        .status();
    assert!(status.unwrap().success());
    let new = tempfile::tempdir().unwrap();
    let (report, code) = old.import(new.path(), &["--dry-run", "--json"]);
    assert_eq!(code, 1);
    let lines: Vec<serde_json::Value> = report
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let texts = |key: &str, is: &str, wanted: &str| {
        let lines = lines.iter().filter(|line| line[key] == is);
        let texts = lines.map(|line| line[wanted].as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(
        texts("type", "step", "text")[1..3],
        ["domain example.org", "user anna@example.org"],
        "{report}"
    );
    assert_eq!(
        texts("outcome", "left", "file"),
        [
            "/var/qmail/var/users/assign",
            "/var/qmail/etc/morercpthosts"
        ]
    );
}

#[test]
fn what_users_taught_bmf_comes_with_them() {
    let old = Old::new(&[
        ("/var/qmail/control/me", "mail.example.org\n"),
        ("/var/qmail/control/locals", "example.org\n"),
        (
            "/var/qmail/users/assign",
            "=bob:bob:1:1:/srv/bob:::\n=eve:eve:1:1:/srv/eve:::\n=zoe:zoe:1:1:/srv/zoe:::\n\
             =dan:dan:1:1:/srv/dan:::\n.\n",
        ),
        ("/srv/dan/x", ""),
        ("/srv/zoe/.bmf/goodlist.txt", "no list at all\n"),
        ("/srv/bob/x", ""),
        ("/srv/eve/x", ""),
    ]);
    // By Debian's bmf: Berkeley DB and text lists; by ours, of the modern engine.
    for (user, format) in [("bob", "db"), ("eve", "text"), ("dan", "db")] {
        let database = old.0.path().join("srv").join(user).join(".bmf");
        fs::create_dir(&database).unwrap();
        for n in 0..10 {
            for (flag, words) in [("-s", "cheap watches"), ("-n", "shall we meet")] {
                let message = old.0.path().join("message");
                fs::write(&message, format!("Subject: {words} {n}\n\n{words} now\n")).unwrap();
                let mut bmf = match user {
                    "dan" => Command::new(built("bmf")),
                    _ => peer("bmf"),
                };
                bmf.args(["-f", format, flag, "-d"])
                    .arg(&database)
                    .arg("-i")
                    .arg(&message);
                assert!(bmf.status().unwrap().code().unwrap() < 2);
            }
        }
    }
    let before = snapshot_of_host(old.0.path());
    let new = tempfile::tempdir().unwrap();
    let (report, code) = old.import(new.path(), user());
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("/srv/zoe/.bmf\n"), "{report}");
    let export = |name: &str, file: &str| {
        let to = new.path().join(name);
        let address = format!("{name}@example.org");
        let folder = to.display().to_string();
        said(postern(new.path()).args(["model", "export", &address, &folder]));
        fs::read_to_string(to.join(file)).unwrap()
    };
    for name in ["bob", "eve"] {
        let list = export(name, "spamlist.txt");
        assert!(
            list.contains(": 10\n") && list.contains("watches 20\n"),
            "{list}"
        );
    }
    let model = export("dan", "model.txt");
    assert!(model.contains("\nstate 0 10 10 "), "{model}");
    // bmf's files stay, and so does what came of them.
    assert!(
        before == snapshot_of_host(old.0.path()),
        "the old host was changed"
    );
    fs::remove_dir_all(old.0.path().join("srv/zoe/.bmf")).unwrap();
    let made = snapshot_of_host(new.path());
    let (again, code) = old.import(new.path(), &[]);
    assert_eq!((code, again.starts_with('\n')), (0, true), "{again}");
    assert!(
        made == snapshot_of_host(new.path()),
        "a second run changed something"
    );
    // Earlier builds wrote no version.
    let known = new.path().join("data/imported-models");
    let text = fs::read_to_string(&known).unwrap();
    let names = text.strip_prefix("postern imported-models 1\n").unwrap();
    fs::write(&known, names).unwrap();
    let (again, code) = old.import(new.path(), &[]);
    assert_eq!((code, again.starts_with('\n')), (0, true), "{again}");
}

#[test]
fn who_logged_in_logs_in_with_the_same_password() {
    let old = Old::new(&[
        ("/var/qmail/control/me", "example.org\n"),
        (
            "/var/qmail/users/assign",
            "=bob:bob:1:1:/srv/bob:::\n=eve:eve:1:1:/srv/eve:::\n.\n",
        ),
        (
            "/var/qmail/users/authuser",
            "bob@example.org:secret one\neve:$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.\n",
        ),
    ]);
    let new = tempfile::tempdir().unwrap();
    let (report, _) = old.import(new.path(), user());
    assert!(
        report.contains("\npassword of bob@example.org\n"),
        "{report}"
    );
    assert!(!report.contains("secret one") && !report.contains("saltstri"));
    let stored = |name: &str| {
        let accounts = Accounts::of_host(&new.path().join("data")).unwrap();
        let user = accounts.user(&Address::new(name, "example.org"));
        user.unwrap().unwrap().settings.password.unwrap()
    };
    let (bob, eve) = (stored("bob"), stored("eve"));
    assert!(is_right(Some(&bob.hash), b"secret one"));
    assert_eq!(bob.clear.as_deref(), Some("secret one"));
    assert_eq!(eve.hash.as_str(), "$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.");
    // A password that was set here stays.
    let made = snapshot_of_host(new.path());
    let (again, _) = old.import(new.path(), &[]);
    assert!(again.starts_with('\n'), "{again}");
    assert!(
        made == snapshot_of_host(new.path()),
        "a second run changed something"
    );
}
