//! The accounts as files of other programs, written by the built program and
//! read by those others: Dovecot, Courier, tinycdb, and a reader of cdb in Python.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use common::dovecot::{AUTH_GROUP, Dovecot, OWNER, published, share};
use common::{Host, passwd, with_input};
use tests::overlaid;
use tests::programs::peer;

/// What is published, and the command counts its runs.
fn section(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[publish]\nqmail_users = \"{folder}/users\"\nqmail_control = \"{folder}/control\"\n\
         cmd5checkpw = \"{folder}/authuser\"\ndovecot = \"{folder}/dovecot\"\n\
         courier = \"{folder}/userdb\"\nrun = [\"sh\", \"-c\", \"echo x >>{folder}/ran\"]\n\
         [[route]]\ndomain = \"*\"\nhost = \"relay.example.net\"\nport = 26\n\
         [[route]]\ndomain = \"secret.example\"\nhost = \"relay.example.net\"\nuser = \"u\"\npassword = \"p\"\n"
    )
}

/// Looks keys up as the format says, in a language that shares no code with us.
const READER: &str = "\
import struct, sys
data = open(sys.argv[1], 'rb').read()
def find(key):
    h = 5381
    for b in key:
        h = ((h * 33) & 0xffffffff) ^ b
    begin, slots = struct.unpack_from('<II', data, (h & 255) * 8)
    for n in range(slots):
        at = begin + ((h >> 8) + n) % slots * 8
        found, record = struct.unpack_from('<II', data, at)
        if record == 0:
            return None
        klen, dlen = struct.unpack_from('<II', data, record)
        if found == h and data[record + 8:record + 8 + klen] == key:
            return data[record + 8 + klen:record + 8 + klen + dlen]
# As qmail-lspawn looks a local name up.
for name in sys.argv[2:]:
    name = name.encode()
    value = find(b'!' + name + b'\\0')
    rest = b''
    if value is None:
        ends = find(b'')
        for n in range(len(name), -1, -1):
            if n and name[n - 1] not in ends:
                continue
            value = find(b'!' + name[:n])
            if value is not None:
                rest = name[n:]
                break
    if value is None:
        print('none')
    else:
        user, uid, gid, home, dash, ext = value.split(b'\\0')
        print(user.decode(), home.decode().split('/data/')[1], 'qmail' + dash.decode() + (ext + rest).decode())
";

#[test]
fn every_change_is_published_and_others_read_it() {
    let published = tempfile::tempdir().unwrap();
    let at = |name: &str| published.path().join(name);
    for folder in ["users", "control"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    let host = Host::new(&section(published.path()));
    let said = passwd(&host, "anna@example.org", &[], "secret");
    // Whoever sets a password learns who cannot check it.
    for file in ["authuser: cmd5checkpw", "userdb: Courier"] {
        let expected = format!("{}/{file} cannot check argon2", published.path().display());
        assert!(said.contains(&expected), "{said}");
    }
    assert_eq!(read("authuser"), "");
    passwd(&host, "bob@example.org", &["--keep-clear"], "kept");
    assert_eq!(read("authuser"), "bob@example.org:kept\n");
    let line = read("userdb");
    let (name, fields) = line.trim_end().split_once('\t').unwrap();
    let hash = fields.rsplit_once("|systempw=").unwrap().1;
    assert_eq!(name, "bob@example.org");
    assert!(
        fields.contains("/data/mail/example.org/bob/Maildir|"),
        "{fields}"
    );
    // By crypt(3) of the system.
    let crypt = "import crypt, sys; print(crypt.crypt('kept', sys.argv[1]), end='')";
    let output = Command::new("python3")
        .args(["-W", "ignore", "-c", crypt, hash])
        .output();
    assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), hash);
    assert_eq!(read("dovecot").lines().count(), 2);
    for secret in ["authuser", "userdb", "dovecot"] {
        let mode = fs::metadata(at(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{secret}");
    }

    // Other changes do not say so again.
    let mut command = host.command();
    let output = command
        .args(["domain", "add", "example.net"])
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    for alias in [
        &["info@example.org", "anna@example.org", "x@example.com"][..],
        &["bob@example.org", "bob@example.org", "anna@example.org"],
        &["@example.net", "anna@example.org"],
    ] {
        host.run(&[&["alias", "add"], alias].concat());
    }
    assert_eq!(read("control/locals"), "");
    assert_eq!(read("control/rcpthosts"), "example.net\nexample.org\n");
    assert_eq!(
        read("control/virtualdomains"),
        "example.net:example.net\nexample.org:example.org\n"
    );
    assert_eq!(read("control/smtproutes"), ":relay.example.net:26\n");
    assert!(read("users/assign").ends_with(":::\n.\n"));
    let cases = [
        ("example.org-anna", "anna mail/example.org/anna qmail"),
        (
            "example.org-anna-list",
            "anna mail/example.org/anna qmail-list",
        ),
        ("example.org-anna+x", "anna mail/example.org/anna qmailx"),
        ("example.org-info", "alias published qmail-example.org-info"),
        ("example.org-bob", "alias published qmail-example.org-bob"),
        ("example.org-bob-x", "bob mail/example.org/bob qmail-x"),
        ("example.org-nobody", "none"),
        (
            "example.net-any.one",
            "alias published qmail-example.net-any.one",
        ),
    ];
    let names = cases.map(|(name, _)| name);
    let output = Command::new("python3")
        .args(["-c", READER])
        .arg(at("users/cdb"))
        .args(names)
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        found.lines().collect::<Vec<_>>(),
        cases.map(|(_, value)| value),
        "{output:?}"
    );
    let instructions = |name: &str| {
        let path = host.data().join("published").join(format!(".qmail-{name}"));
        fs::read_to_string(path).unwrap()
    };
    assert_eq!(
        instructions("example:org-info"),
        "&anna@example.org\n&x@example.com\n"
    );
    assert_eq!(instructions("example:net-default"), "&anna@example.org\n");
    let to_bob = instructions("example:org-bob");
    assert!(
        to_bob.ends_with("/bob/Maildir/\n&anna@example.org\n"),
        "{to_bob}"
    );
    // tinycdb finds as many records as there are lines, and the ends.
    let output = peer("cdb").arg("-s").arg(at("users/cdb")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let n = read("users/assign").lines().count();
    assert!(
        said.contains(&format!("number of records: {n}\n")),
        "{said}"
    );

    // Nothing has changed, nothing runs; a dry run changes nothing.
    let ran = read("ran");
    host.run(&["user", "list"]);
    assert_eq!(read("ran"), ran);
    fs::remove_file(at("authuser")).unwrap();
    fs::write(at("control/rcpthosts"), "example.com\nexample.org\n").unwrap();
    let publish = |arguments: &[&str]| {
        let output = host
            .command()
            .arg("publish")
            .args(arguments)
            .output()
            .unwrap();
        // anna's argon2id, and a route with a password.
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            told.contains("the route for secret.example needs a password"),
            "{told}"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let said = publish(&["--dry-run"]);
    let expected = format!(
        "{0}/control/rcpthosts:\n  - example.com\n  + example.net\n{0}/authuser:\n  + bob@example.org\n",
        published.path().display()
    );
    assert_eq!(said, expected);
    assert!(!at("authuser").exists() && read("ran") == ran);
    publish(&[]);
    assert_eq!(read("authuser"), "bob@example.org:kept\n");
    assert_eq!(publish(&["--dry-run"]), "");
    host.run(&["alias", "remove", "info@example.org"]);
    assert!(
        !host
            .data()
            .join("published/.qmail-example:org-info")
            .exists()
    );

    // What was changed behind its back is put right at the start.
    fs::write(at("dovecot"), "").unwrap();
    let server = host.serve();
    assert_eq!(read("dovecot").lines().count(), 2);
    drop(server);
    let output = host.command().arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in ["wrong  publishes: ", "anna@example.org is not in "] {
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn what_cannot_be_published_is_told_and_the_change_stands() {
    let published = tempfile::tempdir().unwrap();
    let folder = published.path().join("gone");
    fs::create_dir(&folder).unwrap();
    let control = published.path();
    let host = Host::new(&format!(
        "[publish]\nqmail_users = {folder:?}\nqmail_control = {control:?}\n"
    ));
    fs::remove_dir_all(&folder).unwrap();
    let add = ["domain", "add", "new.example"];
    let output = host.command().args(add).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for text in [
        "it is done, but could not be published",
        folder.to_str().unwrap(),
    ] {
        assert!(said.contains(text), "{said}");
    }
    assert!(host.run(&["domain", "list"]).contains("new.example"));
    // What can be written is.
    let hosts = fs::read_to_string(control.join("rcpthosts")).unwrap();
    assert!(hosts.contains("new.example"), "{hosts}");
    let output = host.command().arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let missing = format!("wrong  publishes: there is no folder {}", folder.display());
    assert!(said.contains(&missing), "{said}");
    // Mail goes on all the same.
    let server = host.serve();
    server.signal("TERM");
    assert!(server.wait_and_log().contains("ended"));
}

#[test]
fn users_log_in_to_dovecot_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let host = Host::new(&format!("[publish]\ndovecot = {users:?}\n"));
    let maildir = host.data().join("mail/example.org/anna/Maildir");
    fs::write(maildir.join("new/1.x"), "Subject: published\n\nx\n").unwrap();
    if !host.give_to_owner(folder.path()) {
        return;
    }
    fs::remove_file(&users).unwrap();
    share(folder.path());
    let group = nix::unistd::Group::from_name(AUTH_GROUP).unwrap().unwrap();
    passwd(&host, "anna@example.org", &[], "secret höher");
    let found = fs::metadata(&users).unwrap();
    assert_eq!(
        (found.mode() & 0o777, found.gid()),
        (0o640, group.gid.as_raw())
    );
    // Hashes of other hosts, by crypt(3) of libxcrypt.
    let mut import = host.command();
    import.args(["user", "import", "-"]);
    let hashes = [
        (
            "six",
            "$6$rounds=5000$saltstring$E/oSqAJZbRniHS1dRyquM0Wrmif5f3ZBo34HGdrnw35rKcNNpue2CQzT5hDyCeU380vQ7xywCJxc2y7LNpBbg/",
            "secret-6",
        ),
        (
            "five",
            "$5$saltstring$t0FDj.SMxxVvXnQINu8.WkdjLPHB7GuRSy3sbpTAKl0",
            "secret-5",
        ),
        ("one", "$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.", "secret-1"),
        (
            "two",
            "$2y$05$abcdefghijklmnopqrstuuW6lIaGaqwH1wlfyn7x/ASngXzSZeec.",
            "secret-b",
        ),
        ("des", "saNXwI3fzeJT.", "secretde"),
    ];
    let text = hashes
        .map(|(name, hash, _)| format!("[users.'{name}@example.org']\npassword = '{hash}'\n"));
    let output = with_input(import, &text.concat());
    assert!(output.status.success(), "{output:?}");

    let dovecot = Dovecot::start(&host, &published(&users));
    let mut logins = vec![
        ("anna", "secret höher", true),
        ("anna", "guess", false),
        ("bob", "", false),
    ];
    logins.extend(hashes.map(|(name, _, password)| (name, password, true)));
    for (name, password, can) in logins {
        let expected = match (name, can) {
            ("anna", true) => "imap OK 1\npop3 1\n",
            (_, true) => "imap OK 0\npop3 0\n",
            _ => "imap refused\npop3 refused\n",
        };
        assert_eq!(
            dovecot.login(&format!("{name}@example.org"), password),
            expected,
            "{name}"
        );
    }
    // What a client moves to Junk is learned, and moved on.
    let server = host.serve_as_owner();
    must_have_no_privileges(&server);
    dovecot.move_to_junk("anna@example.org", "secret höher");
    let line = server.wait_for_line("message learned");
    assert!(
        line.contains("anna@example.org") && line.contains("label=\"spam\""),
        "{line}"
    );
}

/// It was root until it listened.
fn must_have_no_privileges(server: &common::Server) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let owner = nix::unistd::User::from_name(OWNER).unwrap().unwrap();
    for (name, expected) in [
        (
            "Uid",
            [owner.uid.as_raw().to_string().as_str(); 4].join("\t"),
        ),
        (
            "Gid",
            [owner.gid.as_raw().to_string().as_str(); 4].join("\t"),
        ),
        ("CapPrm", "0000000000000000".into()),
        ("CapEff", "0000000000000000".into()),
    ] {
        let line = format!("{name}:\t{expected}\n");
        assert!(status.contains(&line), "{line} is not in {status}");
    }
    let groups = status.lines().find(|line| line.starts_with("Groups:"));
    let groups = groups.unwrap().trim_start_matches("Groups:").trim();
    assert!(
        groups.is_empty() || groups == owner.gid.as_raw().to_string(),
        "{groups}"
    );
}

#[test]
fn courier_takes_what_is_published() {
    if !overlaid::is_possible() {
        tests::skip("only root can lay Courier over the system");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let userdb = dir.path().join("userdb");
    let host = Host::new(&format!("[publish]\ncourier = {userdb:?}\n"));
    passwd(&host, "anna@example.org", &["--keep-clear"], "kept höher");
    let output = overlaid::run(dir.path(), COURIER);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "yes\nno\n", "{output:?}");
}

const COURIER: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/courier/authdaemon
sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/' /etc/courier/authdaemonrc
cp $DIR/userdb /etc/courier/userdb
chmod 600 /etc/courier/userdb
export LD_LIBRARY_PATH=/usr/lib/courier-authlib PATH=$PATH:/usr/sbin
makeuserdb
set -a
. /etc/courier/authdaemonrc
set +a
/usr/lib/courier/courier-authlib/authdaemond >&2 &
n=0
until [ -S /run/courier/authdaemon/socket ]; do
    n=$((n + 1)) && [ $n -lt 600 ]
    sleep 0.1
done
for password in 'kept höher' guess; do
    authtest -s imap anna@example.org "$password" >&2 && echo yes || echo no
done
kill $!
"#;
