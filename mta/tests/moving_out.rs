//! A host moves out to Dovecot with Debian's `bmf` beside it, lives there, and
//! moves back, as docs/moving-out.md says.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::dovecot::Dovecot;
use common::{Host, passwd};
use tests::programs::{built, peer};

/// Runs it; exit codes up to `most` are good. Returns what it prints.
fn run(command: &mut Command, most: i32) -> String {
    let output = command.output().unwrap();
    let is_good = output.status.code().is_some_and(|code| code <= most);
    assert!(is_good, "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to), 0);
}

/// The messages below a folder, by path, without what Dovecot keeps there.
fn mail(maildir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![maildir.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let half = path.parent().and_then(Path::file_name).unwrap();
            if path.is_dir() {
                open.push(path);
            } else if half == "cur" || half == "new" {
                let name = path.strip_prefix(maildir).unwrap().to_owned();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// Ten of a kind, learned by a bmf.
fn teach(bmf: impl Fn() -> Command, folder: &Path, options: &[&str]) {
    let message = folder.with_extension("message");
    for n in 0..10 {
        for (flag, words) in [("-s", "cheap watches"), ("-n", "shall we meet")] {
            let text = format!("Subject: {words} {n}\n\n{words} now\n");
            fs::write(&message, text).unwrap();
            let mut command = bmf();
            command.args(options).args([flag, "-d"]).arg(folder);
            run(command.arg("-i").arg(&message), 1);
        }
    }
}

#[test]
fn out_to_dovecot_and_plain_bmf_and_back_without_loss() {
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let users = at("users");
    let host = Host::new(&format!("[publish]\ndovecot = {users:?}\n"));
    passwd(&host, "anna@example.org", &[], "secret höher");
    host.run(&[
        "alias",
        "add",
        "info@example.org",
        "anna@example.org",
        "x@example.net",
    ]);
    let maildir = host.data().join("mail/example.org/anna/Maildir");
    for (name, text) in [
        ("new/1.a", "Subject: new\n\nx\n"),
        ("cur/2.b:2,S", "Subject: read\n\nx\n"),
        (".Junk/cur/3.c:2,", "Subject: spam\n\n\u{0}x\n"),
    ] {
        fs::write(maildir.join(name), text).unwrap();
    }
    // Anna has a model of the modern engine, Bob bmf's counts.
    teach(
        || Command::new(built("bmf")),
        &at("anna"),
        &["--engine", "modern"],
    );
    teach(|| peer("bmf"), &at("bob"), &["-f", "text"]);
    for user in ["anna", "bob"] {
        let folder = at(user).display().to_string();
        host.run(&["model", "import", &format!("{user}@example.org"), &folder]);
    }
    if !host.give_to_owner(out.path()) {
        return;
    }

    // Out.
    let accounts = host.run(&["user", "export", "--all"]);
    for user in ["anna", "bob"] {
        let folder = at(&format!("{user}.bmf")).display().to_string();
        host.run(&["model", "export", &format!("{user}@example.org"), &folder]);
    }
    // As an administrator does: Dovecot's auth service reads what its group may.
    fs::remove_file(&users).unwrap();
    let group = nix::unistd::Group::from_name("daemon").unwrap().unwrap();
    chown(out.path(), None, Some(group.gid.as_raw())).unwrap();
    fs::set_permissions(out.path(), PermissionsExt::from_mode(0o2755)).unwrap();
    host.run(&["publish"]);
    let moved = at("mail");
    copy(&host.data().join("mail"), &moved);
    let old = host.data().join("mail").display().to_string();
    let text = fs::read_to_string(&users).unwrap();
    assert!(text.contains(&old), "{text}");
    fs::write(&users, text.replace(&old, &moved.display().to_string())).unwrap();
    // Nothing of ours is asked any more.
    fs::remove_dir_all(host.data().join("mail")).unwrap();
    let databases = format!(
        "passdb {{\n driver = passwd-file\n args = username_format=%u {0}\n}}\n\
         userdb {{\n driver = passwd-file\n args = username_format=%u {0}\n}}\n",
        users.display()
    );
    let dovecot = Dovecot::start(&host, &databases);
    let login = || dovecot.login("anna@example.org", "secret höher");
    assert_eq!(login(), "imap OK 2\npop3 2\n");
    dovecot.move_to_junk("anna@example.org", "secret höher");
    assert_eq!(login(), "imap OK 1\npop3 1\n");
    // Debian's bmf goes on with Bob's lists.
    let lists = at("bob.bmf");
    let spam = at("spam");
    fs::write(&spam, "Subject: cheap watches\n\ncheap watches again\n").unwrap();
    let mut bmf = peer("bmf");
    bmf.args(["-f", "text", "-t", "-d"])
        .arg(&lists)
        .arg("-i")
        .arg(&spam);
    assert_eq!(bmf.output().unwrap().status.code(), Some(0));
    let mut bmf = peer("bmf");
    run(
        bmf.args(["-f", "text", "-s", "-d"])
            .arg(&lists)
            .arg("-i")
            .arg(&spam),
        1,
    );
    let taught = fs::read_to_string(lists.join("spamlist.txt")).unwrap();
    assert!(taught.contains(": 11\n"), "{taught}");

    // And back, to a host that was never there.
    let new = tempfile::tempdir().unwrap();
    let postern = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["--config", "/nonexistent", "--data"]);
        command.arg(new.path().join("data"));
        command
    };
    fs::create_dir(new.path().join("data")).unwrap();
    let file = new.path().join("accounts.toml");
    fs::write(&file, &accounts).unwrap();
    run(postern().args(["user", "import"]).arg(&file), 0);
    copy(&moved, &new.path().join("data/mail"));
    for user in ["anna", "bob"] {
        let mut command = postern();
        command.args(["model", "import", &format!("{user}@example.org")]);
        run(command.arg(at(&format!("{user}.bmf"))), 0);
    }
    assert_eq!(
        run(postern().args(["user", "export", "--all"]), 0),
        accounts
    );
    let here = mail(&new.path().join("data/mail/example.org/anna/Maildir"));
    assert_eq!(here, mail(&moved.join("example.org/anna/Maildir")));
    let junk = here.keys().filter(|path| path.starts_with(".Junk"));
    assert_eq!((here.len(), junk.count()), (3, 2));
    let again = new.path().join("again");
    for (user, file) in [
        ("anna", "model.txt"),
        ("bob", "spamlist.txt"),
        ("bob", "goodlist.txt"),
    ] {
        let mut command = postern();
        let folder = again.join(user).join(file);
        command.args(["model", "export", &format!("{user}@example.org")]);
        run(command.arg(&folder), 0);
        let before = at(&format!("{user}.bmf")).join(file);
        assert!(
            fs::read(folder.join(file)).unwrap() == fs::read(before).unwrap(),
            "{file}"
        );
    }
}
