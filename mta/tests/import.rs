//! Hosts of qmail's kinds, made by hand with what goes wrong on them, and what
//! `postern import` makes of them.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::Host;
use common::imported::found;
use mta::import::report::Outcome;
use mta::import::source::Content;
use mta::import::{Places, Plan, plan};

/// A host as netqmail and notqmail have it. Users of the system are uid 1000.
const NOTQMAIL: &[(&str, &str)] = &[
    (
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\nnone:x:1001:1001::/home/none:/bin/sh\nHigh:x:1000:1000::/home/high:/bin/sh\n",
    ),
    ("/var/qmail/control/me", "mail.example.org \nsecond line\n"),
    (
        "/var/qmail/control/locals",
        "# ours\nexample.org\nEXAMPLE.org\nmail.example.org\nwin.example\r\nlast.example",
    ),
    (
        "/var/qmail/control/virtualdomains",
        "joe.example:joe\nshop.example:shop\nexample.org:wrong\nexcept.example:\n.wild.example:shop\nno colon\nanna@part.example:shop\n",
    ),
    ("/var/qmail/control/databytes", "20000000 bytes\n"),
    ("/var/qmail/control/queuelifetime", "604800\n"),
    ("/var/qmail/control/timeoutsmtpd", "no number\n"),
    ("/var/qmail/control/concurrencyremote", "100\n"),
    ("/var/qmail/control/helohost", "other.example.org\n"),
    (
        "/var/qmail/control/smtpgreeting",
        "mail.example.org ready\n",
    ),
    ("/var/qmail/control/defaulthost", ""),
    ("/var/qmail/control/doublebounceto", "\n"),
    (
        "/var/qmail/control/badmailfrom",
        "spam@example.com\n@example.net\n.example.test\nnobody\n",
    ),
    ("/var/qmail/control/unheard-of", "x\n"),
    (
        "/var/qmail/users/assign",
        "\
=bob:bob:10007:10007:/srv/bob:::
=bob.x:bob:10007:10007:/srv/bob:-:x:
+bob-:bob:10007:10007:/srv/bob:-::
=eve:eve:10008:10008:/srv/eve:::
=admin:root:0:0:/root:::
+shop-:vmail:5000:5000:/srv/shop:-::
=bob:eve:10008:10008:/srv/eve:::
+joker:eve:10008:10008:/srv/eve:::
.
after the dot
",
    ),
    ("/srv/bob/.qmail", "/srv/bob/Maildir/\n|vacation\n&joe\n"),
    ("/srv/bob/.qmail-x", "./x/Maildir/\n"),
    ("/srv/bob/.qmail-News", "./never/\n"),
    ("/srv/eve/Maildir/new/1.x", "mail\n"),
    ("/srv/shop/.qmail-anna", "./anna/Maildir/\n"),
    (
        "/srv/shop/.qmail-info",
        "&anna@shop.example\n&shop-joe.x\nbob\n",
    ),
    ("/srv/shop/.qmail-joe:x", "./joe/Maildir/\n"),
    ("/srv/shop/.qmail-orders", "|/usr/local/bin/orders\n"),
    ("/srv/shop/.qmail-null", "# nobody\n"),
    (
        "/srv/shop/.qmail-both",
        "./anna/Maildir/\n&bob@example.net\n",
    ),
    ("/srv/shop/.qmail-default", "|bouncesaying 'nobody'\n"),
    ("/home/joe/.qmail-sales", "&bob\n"),
    ("/home/joe/.qmail-default", "./Maildir/\n"),
    ("/home/joe/Maildir/cur/1.x:2,S", "mail\n"),
    ("/home/high/x", ""),
    ("/var/qmail/alias/.qmail-postmaster", "&joe"),
    ("/var/qmail/alias/.qmail-root", "joe\nbob@Example.org\n"),
    ("/var/qmail/alias/.qmail-list", "&a@example.net\n"),
    ("/var/qmail/alias/.qmail-list-owner", "&joe\n"),
    ("/var/qmail/alias/.qmail-team-default", "&joe\n"),
    ("/var/qmail/alias/.qmail-default", "&eve\n"),
    ("/var/qmail/queue/mess/3/33", "waits\n"),
];

fn tree(files: &[(&str, &str)]) -> BTreeMap<PathBuf, Content> {
    let content = |text: &str| Content {
        bytes: text.into(),
        mode: 0o644,
    };
    let files = files.iter();
    files
        .map(|(path, text)| (path.into(), content(text)))
        .collect()
}

fn places() -> Places {
    Places {
        qmail: "/var/qmail".into(),
        data: "/var/lib/postern".into(),
        ..Places::default()
    }
}

fn planned(files: &[(&str, &str)]) -> Plan {
    plan(&tree(files), &places()).unwrap()
}

/// The accounts, a line each.
fn accounts(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (address, user) in &plan.accounts.users {
        let files: Vec<String> = user
            .files
            .iter()
            .map(|(name, content)| {
                let text = String::from_utf8_lossy(&content.bytes);
                format!(" {name}={}", text.trim_end().replace('\n', "|"))
            })
            .collect();
        lines.push(format!("{address}{}", files.concat()));
    }
    for (address, targets) in &plan.accounts.aliases {
        lines.push(format!("{address}: {}", targets.join(" ")));
    }
    lines
}

#[test]
fn a_classic_host_with_its_traps() {
    let plan = planned(NOTQMAIL);
    assert_eq!(plan.host, "mail.example.org");
    assert_eq!(
        plan.domains,
        [
            "mail.example.org",
            "example.org",
            "win.example",
            "last.example",
            "joe.example",
            "shop.example"
        ]
    );
    let expected = "\
anna@shop.example
bob@mail.example.org .qmail=./Maildir/||vacation|&joe@mail.example.org .qmail-x=./x/Maildir/
eve@mail.example.org
joe@mail.example.org .qmail-default=./Maildir/ .qmail-sales=&bob@mail.example.org
joe.x@shop.example
null@shop.example .qmail=# nobody
orders@shop.example .qmail=|/usr/local/bin/orders";
    let all = accounts(&plan);
    let users: Vec<&String> = all.iter().filter(|line| !line.contains(": ")).collect();
    assert_eq!(users, expected.lines().collect::<Vec<_>>());
    for line in [
        // Other domains of a user, and the extension `.x`, which a dot makes.
        "bob@example.org: bob@mail.example.org",
        "bob.x@mail.example.org: bob-x@mail.example.org",
        "bob.x@last.example: bob-x@mail.example.org",
        "bob-x@win.example: bob-x@mail.example.org",
        // A user's extensions as a domain.
        "sales@joe.example: joe-sales@mail.example.org",
        "@joe.example: joe-default@mail.example.org",
        // Files of one folder as users and aliases.
        "info@shop.example: anna@shop.example joe.x@shop.example bob@mail.example.org",
        "both@shop.example: anna@shop.example bob@example.net",
        // The alias user.
        "postmaster@example.org: joe@mail.example.org",
        "root@mail.example.org: joe@mail.example.org bob@example.org",
        "list@example.org: a@example.net",
        "@example.org: eve@mail.example.org",
        // Of all names that begin so, the one that is nothing more.
        "joker@example.org: eve@mail.example.org",
    ] {
        assert!(all.iter().any(|one| one == line), "{line}\nin {all:#?}");
    }
    for line in [
        "@shop.example",
        "admin@",
        "high@",
        "none@",
        "shop-",
        "joker5",
    ] {
        assert!(
            !all.iter().any(|one| one.starts_with(line)),
            "{line}\nin {all:#?}"
        );
    }
}

#[test]
fn what_is_not_carried_over_is_named() {
    use Outcome::{Carried, Changed, Left, ToDo};
    let plan = planned(NOTQMAIL);
    for (file, expected) in [
        ("control/locals", &[(Changed, Some(5)), (Carried, None)][..]),
        (
            "control/virtualdomains",
            &[
                (Left, Some(6)),
                (Carried, Some(1)),
                (Carried, Some(2)),
                (Left, Some(3)),
                (Left, Some(4)),
                (Changed, Some(5)),
                (Left, Some(7)),
            ],
        ),
        ("control/rcpthosts", &[(Changed, None)]),
        ("control/databytes", &[(Carried, Some(1))]),
        ("control/queuelifetime", &[(Carried, Some(1))]),
        ("control/timeoutsmtpd", &[(Left, Some(1))]),
        ("control/concurrencyremote", &[(Left, Some(1))]),
        ("control/helohost", &[(Left, Some(1))]),
        ("control/smtpgreeting", &[(Carried, Some(1))]),
        ("control/defaulthost", &[(Left, Some(1))]),
        ("control/doublebounceto", &[(Left, None)]),
        (
            "control/badmailfrom",
            &[
                (Carried, Some(1)),
                (Changed, Some(2)),
                (Changed, Some(3)),
                (Left, Some(4)),
            ],
        ),
        ("control/unheard-of", &[(Left, None)]),
        (
            "users/assign",
            &[
                (Left, Some(7)),
                (Carried, None),
                (Left, Some(8)),
                (Left, Some(5)),
            ],
        ),
        ("alias/.qmail-team-default", &[(Left, None)]),
        ("alias/.qmail-list", &[(Changed, None), (Carried, None)]),
        ("queue/mess", &[(ToDo, None)]),
        (
            "/srv/bob/.qmail",
            &[(Carried, Some(1)), (ToDo, Some(2)), (Carried, None)],
        ),
        ("/srv/bob/.qmail-News", &[(Left, None)]),
        ("/srv/shop/.qmail-default", &[(Left, None)]),
        ("/srv/eve/Maildir", &[(ToDo, None)]),
    ] {
        let path = match file.starts_with('/') {
            true => file.to_owned(),
            false => format!("/var/qmail/{file}"),
        };
        assert_eq!(found(&plan, &path), expected, "{file}");
    }
    assert_eq!(
        plan.rules,
        [
            "deny sender spam@example.com",
            "deny sender @example.net",
            "deny sender @example.test"
        ]
    );
    let said = |section, key| plan.settings.value(section, key).unwrap().as_integer();
    assert_eq!(said("smtp", "max_message_bytes"), Some(20_000_000));
    assert_eq!(said("queue", "lifetime_hours"), Some(168));
    // Every file of the folder is named.
    let names = NOTQMAIL
        .iter()
        .filter(|(path, _)| path.contains("/control/"));
    for (path, _) in names {
        assert!(!found(&plan, path).is_empty(), "{path}");
    }
}

#[test]
fn open_errors_and_empty_files_are_not_defaults() {
    // Present and empty: nothing is local, and nobody's mail is received.
    let me = ("/var/qmail/control/me", "mx.example.org\n");
    let bob = ("/var/qmail/users/assign", "=bob:bob:1:1:/srv/bob:::\n.\n");
    let with = |more: &[(&'static str, &'static str)]| planned(&[&[me, bob], more].concat());
    let plan = with(&[]);
    assert_eq!(plan.domains, ["mx.example.org"]);
    assert_eq!(accounts(&plan), ["bob@mx.example.org"]);
    let plan = with(&[
        ("/var/qmail/control/locals", "\n"),
        ("/var/qmail/control/rcpthosts", ""),
    ]);
    assert!(plan.domains.is_empty() && accounts(&plan).is_empty());
    // Mail for others that is received is not ours to receive.
    let plan = with(&[(
        "/var/qmail/control/rcpthosts",
        "mx.example.org\n.example.net\nb.example",
    )]);
    let expected = [
        (Outcome::Changed, Some(2)),
        (Outcome::Changed, Some(3)),
        (Outcome::Carried, None),
    ];
    assert_eq!(found(&plan, "/var/qmail/control/rcpthosts"), expected);
    let rules = ["example.net", "b.example"];
    let rules = rules.map(|domain| format!("set recipient @{domain} RELAYCLIENT=\"\""));
    assert_eq!((plan.domains.len(), plan.rules), (1, rules.to_vec()));
    // A domain that a wildcard leads to has its name from rcpthosts.
    let plan = with(&[
        ("/var/qmail/control/rcpthosts", "a.wild.example\n"),
        ("/var/qmail/control/virtualdomains", ".wild.example:bob\n"),
        ("/var/qmail/alias/.qmail-bob-info", "x@example.net\n"),
    ]);
    assert_eq!(plan.domains, ["mx.example.org", "a.wild.example"]);
    assert!(accounts(&plan).contains(&"info@a.wild.example: x@example.net".into()));
    // Without its last line qmail refuses the text.
    let files = [
        me,
        ("/var/qmail/users/assign", "=bob:bob:1:1:/srv/bob:::\n"),
    ];
    let cut = planned(&files);
    assert_eq!(accounts(&cut), Vec::<String>::new());
    assert_eq!(
        found(&cut, "/var/qmail/users/assign")[0],
        (Outcome::Left, None)
    );
    // A host has a name.
    let error = mta::import::plan(&tree(&[bob]), &places()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/var/qmail/control/me is missing"),
        "{error}"
    );
}

#[test]
fn routes_keep_their_passwords_to_themselves() {
    let plan = planned(&[
        ("/var/qmail/control/me", "mx.example.org\n"),
        (
            "/var/qmail/control/smtproutes",
            ":relay.example:587 anna secret word\n.direct.example:\nb.example:[192.0.2.1]\n\
             c.example:x|u|p|q\nb.example:relay.example\nd.example:relay:port u secret\nnone\n",
        ),
    ]);
    let routes: Vec<String> = plan
        .settings
        .routes
        .iter()
        .map(|table| table.to_string().replace('\n', " "))
        .collect();
    assert_eq!(
        routes,
        [
            "domain = \"*\" host = \"relay.example\" password_file = \"/var/lib/postern/secrets/route-1\" port = 587 user = \"anna\" ",
            "domain = \".direct.example\" ",
            "domain = \"c.example\" host = \"x\" password_file = \"/var/lib/postern/secrets/route-4\" user = \"u\" ",
            "domain = \"b.example\" host = \"relay.example\" ",
        ]
    );
    assert_eq!(plan.secrets["secrets/route-1"], b"secret word\n");
    assert_eq!(plan.secrets["secrets/route-4"], b"p|q\n");
    let said = format!("{:?}", plan.report);
    assert!(
        !said.contains("secret word") && !said.contains("u secret"),
        "{said}"
    );
    use Outcome::{Carried, Changed, Left};
    assert_eq!(
        found(&plan, "/var/qmail/control/smtproutes"),
        [
            (Left, Some(7)),
            (Changed, Some(1)),
            (Carried, Some(2)),
            (Left, Some(3)),
            (Changed, Some(4)),
            (Carried, Some(5)),
            (Left, Some(6)),
        ]
    );
}

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

type Snapshot = BTreeMap<PathBuf, (u32, Option<(i64, i64)>, Vec<u8>)>;

/// Everything below a folder, with rights, and of files when they changed:
/// SQLite's own come and go while its database is read.
fn snapshot(folder: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let (time, bytes) = match found.is_dir() {
            true => (None, Vec::new()),
            false => {
                let time = (found.mtime(), found.mtime_nsec());
                (Some(time), fs::read(&path).unwrap())
            }
        };
        if found.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        all.insert(path, (found.mode(), time, bytes));
    }
    all
}

#[test]
fn a_host_is_made_once_and_the_old_one_is_only_read() {
    let old = Old::new(NOTQMAIL);
    let before = snapshot(old.0.path());
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
    let made = snapshot(new.path());
    let (again, code) = old.import(new.path(), &[]);
    assert_eq!(code, 1);
    assert!(again.starts_with("\n"), "{again}");
    assert!(
        made == snapshot(new.path()),
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
    let made = snapshot(new.path());
    let (again, _) = old.import(new.path(), &[]);
    assert!(
        made == snapshot(new.path()),
        "a third run changed something"
    );
    for text in [
        "bob/.qmail\n    it is there and says something else",
        "list@example.org\n    it is there and leads to joe@mail.example.org",
        "[smtp] max_message_bytes = 20000000",
    ] {
        assert!(again.contains(text), "{text}\nin {again}");
    }
    assert!(before == snapshot(old.0.path()), "the old host was changed");
}

#[test]
fn what_is_published_comes_back() {
    let published = tempfile::tempdir().unwrap();
    let at = |name: &str| published.path().join(name).display().to_string();
    for folder in ["users", "control"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let host = Host::new(&format!(
        "[publish]\nqmail_users = \"{}\"\nqmail_control = \"{}\"\n\
         [[route]]\ndomain = \"*\"\nhost = \"relay.example.net\"\nport = 26\n",
        at("users"),
        at("control")
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
    assert_eq!(came, host.run(&export), "{report}");
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
    let status = tests::programs::peer("cdb")
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
    let steps: Vec<&str> = lines
        .iter()
        .filter(|line| line["type"] == "step")
        .map(|line| line["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps[1..3],
        ["domain example.org", "user anna@example.org"],
        "{report}"
    );
    let left: Vec<&str> = lines
        .iter()
        .filter(|line| line["outcome"] == "left")
        .map(|line| line["file"].as_str().unwrap())
        .collect();
    assert_eq!(
        left,
        [
            "/var/qmail/var/users/assign",
            "/var/qmail/etc/morercpthosts"
        ]
    );
}

#[test]
fn what_cannot_come_says_what_to_do_instead() {
    let plan = planned(&[
        ("/var/qmail/control/me", "mail.example.org\n"),
        ("/var/qmail/control/locals", "a.example.org\n"),
        (
            "/var/qmail/control/rcpthosts",
            "backup.example\n.example.org\n.wild.example\npart.example\n",
        ),
        (
            "/var/qmail/control/virtualdomains",
            ".wild.example:eve\nx@part.example:eve\n",
        ),
        (
            "/var/qmail/control/authsenders",
            "bob@a.example.org:relay.example:587|bob|secret\n@x.example|eve|secret\n",
        ),
        (
            "/var/qmail/users/assign",
            "=eve:eve:1:1:/srv/eve:::\n+sales:eve:1:1:/srv/eve:::\n.\n",
        ),
        ("/srv/eve/x", ""),
    ]);
    for (file, line, text, why) in [
        (
            "control/rcpthosts",
            Some(1),
            "backup.example",
            "as a rule of the gate",
        ),
        (
            "control/rcpthosts",
            Some(2),
            ".example.org",
            "those above are taken",
        ),
        (
            "control/rcpthosts",
            Some(3),
            ".wild.example",
            "`postern domain add`",
        ),
        (
            "control/rcpthosts",
            Some(4),
            "part.example",
            "part of it is ours",
        ),
        (
            "control/authsenders",
            Some(1),
            "bob@a.example.org:relay.example:587 ...",
            "a [[route]] of domain",
        ),
        (
            "control/authsenders",
            Some(2),
            "@x.example ...",
            "a [[route]] of domain",
        ),
        (
            "users/assign",
            Some(2),
            "+sales",
            "an alias for each other name",
        ),
        (
            "control/envnoathost",
            None,
            "mail.example.org",
            "`postern domain add`",
        ),
    ] {
        let path = Path::new("/var/qmail").join(file);
        let mut findings = plan.report.findings.iter();
        let found = findings.find(|one| one.file == path && one.line == line);
        let found = found.unwrap();
        assert_ne!(found.outcome, Outcome::Carried);
        assert_eq!(found.text, text);
        assert!(found.why.contains(why), "{found}");
    }
    assert_eq!(
        plan.rules,
        ["set recipient @backup.example RELAYCLIENT=\"\""]
    );
    assert!(!format!("{:?}", plan.report).contains("secret"));
}

#[test]
fn what_users_taught_bmf_comes_with_them() {
    let old = Old::new(&[
        ("/var/qmail/control/me", "mail.example.org\n"),
        ("/var/qmail/control/locals", "example.org\n"),
        (
            "/var/qmail/users/assign",
            "=bob:bob:1:1:/srv/bob:::\n=eve:eve:1:1:/srv/eve:::\n=zoe:zoe:1:1:/srv/zoe:::\n.\n",
        ),
        ("/srv/zoe/.bmf/goodlist.txt", "no list at all\n"),
        ("/srv/bob/x", ""),
        ("/srv/eve/x", ""),
    ]);
    // By Debian's bmf: Berkeley DB and text lists.
    for (user, format) in [("bob", "db"), ("eve", "text")] {
        let database = old.0.path().join("srv").join(user).join(".bmf");
        fs::create_dir(&database).unwrap();
        for n in 0..10 {
            for (flag, words) in [("-s", "cheap watches"), ("-n", "shall we meet")] {
                let message = old.0.path().join("message");
                fs::write(&message, format!("Subject: {words} {n}\n\n{words} now\n")).unwrap();
                let mut bmf = tests::programs::peer("bmf");
                bmf.args(["-f", format, flag, "-d"])
                    .arg(&database)
                    .arg("-i")
                    .arg(&message);
                assert!(bmf.status().unwrap().code().unwrap() < 2);
            }
        }
    }
    let before = snapshot(old.0.path());
    let new = tempfile::tempdir().unwrap();
    let (report, code) = old.import(new.path(), user());
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("/srv/zoe/.bmf\n"), "{report}");
    for name in ["bob", "eve"] {
        let to = new.path().join(name);
        let address = format!("{name}@example.org");
        let folder = to.display().to_string();
        said(postern(new.path()).args(["model", "export", &address, &folder]));
        let list = fs::read_to_string(to.join("spamlist.txt")).unwrap();
        assert!(
            list.contains(": 10\n") && list.contains("watches 20\n"),
            "{list}"
        );
    }
    // bmf's files stay, and so does what came of them.
    assert!(before == snapshot(old.0.path()), "the old host was changed");
    fs::remove_dir_all(old.0.path().join("srv/zoe/.bmf")).unwrap();
    let made = snapshot(new.path());
    let (again, code) = old.import(new.path(), &[]);
    assert_eq!((code, again.starts_with('\n')), (0, true), "{again}");
    assert!(
        made == snapshot(new.path()),
        "a second run changed something"
    );
}
