//! The built program on real mailboxes.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, SystemTime};

use classifier::Label;
use classifier::mark::MarkKey;
use classifier::modern::Act;
use classifier_rocksdb::HostStore;
use tempfile::TempDir;
use tests::programs::peer_library;
use trainer::taught::{Taught, make_classic};

mod check;

/// A host with mailboxes below `home`.
struct Host {
    dir: TempDir,
}

impl Host {
    /// With a configuration to which the place of the mailboxes is added.
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        let patterns = format!("mailboxes.patterns = ['{}/*/Maildir']", home.display());
        let own = format!(
            "database.path = '{0}/lib'\nservice.socket = '{0}/socket'",
            dir.path().display()
        );
        let config = [&own, &patterns, config].join("\n");
        fs::write(dir.path().join("bmfd.toml"), config).unwrap();
        Self { dir }
    }

    fn path(&self, user: &str, below: &str) -> PathBuf {
        self.dir
            .path()
            .join("home")
            .join(user)
            .join("Maildir")
            .join(below)
    }

    fn folders(&self, user: &str, folders: &[&str]) {
        for folder in folders {
            for half in ["cur", "new", "tmp"] {
                fs::create_dir_all(self.path(user, folder).join(half)).unwrap();
            }
        }
    }

    /// Writes a message that was received `days` ago.
    fn put(&self, user: &str, path: &str, days: u64) {
        let path = self.path(user, path);
        fs::write(&path, "Subject: x\n\nmail\n").unwrap();
        let ago = Duration::from_secs(days * 24 * 60 * 60 + 60);
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    fn names(&self, user: &str, folder: &str) -> Vec<String> {
        names(&self.path(user, folder))
    }

    fn bmfd(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bmfd"));
        command
            .arg("--config")
            .arg(self.dir.path().join("bmfd.toml"))
            .args(args);
        command
    }
}

impl Host {
    /// Makes all of it another one's, which only root can.
    fn give_to(&self, uid: u32) -> bool {
        let mut chown = Command::new("chown");
        chown.args(["-R", &uid.to_string()]).arg(self.dir.path());
        chown.output().unwrap().status.success()
    }

    /// Where others may run it, too.
    fn bmfd_of_others(&self) -> Command {
        let program = self.dir.path().join("bmfd");
        // By another process: one that a test forks meanwhile would keep what
        // this one writes open, and the program could not be run.
        let mut cp = Command::new("cp");
        let copied = cp.arg(env!("CARGO_BIN_EXE_bmfd")).arg(&program).status();
        assert!(copied.unwrap().success());
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(self.dir.path().join("bmfd.toml"));
        command
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Two users with three learned messages each, of which two are too many.
fn over_quota() -> Host {
    let host = Host::new("[rotation.'Junk.Learned']\nmax_messages = 2\n");
    for user in ["anna", "bert"] {
        host.folders(user, &["", ".Junk", ".Junk.Learned"]);
        host.put(user, ".Junk.Learned/cur/1.h,S=17:2,S", 30);
        host.put(user, ".Junk.Learned/cur/2.h,S=17:2,FS", 90);
        host.put(user, ".Junk.Learned/cur/3.h\n,S=17:2,S", 60);
        fs::write(host.path(user, "maildirsize"), "1000S\n51 3\n").unwrap();
    }
    host
}

#[test]
fn a_dry_run_prints_and_deletes_nothing() {
    let host = over_quota();
    let output = host.bmfd(&["rotate", "--dry-run", "bert"]);
    assert_eq!(
        text(&output.stdout),
        "bert: Junk/Learned: delete 3.h\\n,S=17:2,S (60 days old, 17 bytes): \
         more messages than the folder's quota allows\n"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(host.names("bert", ".Junk.Learned/cur").len(), 3);
}

#[test]
fn each_deletion_is_logged_and_leaves_the_quota_right() {
    let host = over_quota();
    let output = host.bmfd(&["rotate", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let status = host.bmfd(&["status", "anna"]);
    let status = text(&status.stdout);
    let rotated = "ago, 1 messages rotated out, from Junk/Learned\n";
    assert!(status.ends_with(rotated), "{status}");
    for user in ["anna", "bert"] {
        assert_eq!(
            host.names(user, ".Junk.Learned/cur"),
            ["1.h,S=17:2,S", "2.h,S=17:2,FS"]
        );
        let maildirsize = fs::read_to_string(host.path(user, "maildirsize")).unwrap();
        assert_eq!(maildirsize, "1000S\n51 3\n-17 -1\n");
    }
    let log: Vec<_> = text(&output.stderr).lines().collect();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(
        log[0].contains("message deleted user=\"anna\" folder=Junk/Learned file=3.h\\n,S=17:2,S")
    );

    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    let mut line = lines[1].clone();
    assert!(line["received"].take().as_u64().is_some());
    let expected = serde_json::json!({
        "type": "deletion", "version": 1, "user": "bert", "folder": "Junk/Learned",
        "message": "3.h\\n,S=17:2,S", "received": null, "bytes": 17,
        "reason": "more messages than the folder's quota allows", "outcome": "deleted",
    });
    assert_eq!(line, expected);
}

#[test]
fn in_a_spam_folder_what_was_not_learned_yet_stays() {
    let host = Host::new("[rotation.Junk]\nmax_messages = 1\n");
    host.folders("anna", &["", ".Junk"]);
    for n in 1..=3 {
        host.put("anna", &format!(".Junk/cur/{n}.h:2,"), n);
    }
    let filed = "Subject: filed\n\nfiled by the filter\n";
    let field = {
        let path = host.dir.path().join("lib");
        let database = HostStore::open(&path, &Default::default()).unwrap();
        MarkKey::of_user(&database.secret().unwrap(), "anna").field_of(filed.as_bytes())
    };
    fs::write(host.path("anna", ".Junk/cur/2.h:2,"), field + filed).unwrap();
    assert_eq!(host.bmfd(&["rotate"]).status.code(), Some(0));
    assert_eq!(host.names("anna", ".Junk/cur"), ["1.h:2,", "3.h:2,"]);
    assert_eq!(host.bmfd(&["once"]).status.code(), Some(0));
    assert_eq!(host.bmfd(&["rotate"]).status.code(), Some(0));
    assert_eq!(host.names("anna", ".Junk/cur").len(), 1);
}

/// A user may put spam among the learned himself.
#[test]
fn among_the_learned_what_was_not_learned_yet_stays() {
    let host = Host::new("[rotation.'Junk.Learned']\nmax_messages = 1\n");
    host.folders("anna", &["", ".Junk", ".Junk.Learned"]);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let path = host.dir.path().join("lib");
    let database = HostStore::open(&path, &Default::default()).unwrap();
    let lesson = [(b"Subject: old\n\nold\n".to_vec(), Act::Learn(Label::Spam))];
    let mut taught = Taught::of(&database, "anna").unwrap();
    taught.learn(&lesson, now.as_secs() - 26 * 60 * 60).unwrap();
    drop((taught, database));
    for n in 1..=2 {
        let path = host.path("anna", &format!(".Junk.Learned/cur/{n}.h:2,S"));
        fs::write(path, format!("Subject: {n}\n\nmail {n}\n")).unwrap();
    }
    assert_eq!(host.bmfd(&["rotate"]).status.code(), Some(0));
    assert_eq!(host.names("anna", ".Junk.Learned/cur").len(), 2);
    assert_eq!(host.bmfd(&["once"]).status.code(), Some(0));
    assert_eq!(host.bmfd(&["rotate"]).status.code(), Some(0));
    assert_eq!(host.names("anna", ".Junk.Learned/cur").len(), 1);
    let status = host.bmfd(&["status", "anna"]);
    assert!(text(&status.stdout).starts_with("anna: modern, 0 ham, 3 spam"));
}

/// Of a machine without a battery, which begins in 1970.
#[test]
fn a_lesson_from_1970_keeps_no_mail_of_before_from_rotation() {
    let host = Host::new("[rotation.'Junk.Learned']\nmax_messages = 1\n");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let path = host.dir.path().join("lib");
    for (user, is_classic) in [("anna", false), ("bert", true)] {
        host.folders(user, &["", ".Junk.Learned"]);
        let database = HostStore::open(&path, &Default::default()).unwrap();
        if is_classic {
            make_classic(&database, user).unwrap();
        }
        let mut taught = Taught::of(&database, user).unwrap();
        for (n, time) in [(8, 100), (9, now.as_secs())] {
            let raw = format!("Subject: old {n}\n\nold {n}\n").into_bytes();
            let lesson = (raw, Act::Learn(Label::Spam));
            taught.learn(&[lesson], time).unwrap();
        }
        drop((taught, database));
        for n in 1..=2 {
            let path = host.path(user, &format!(".Junk.Learned/cur/{n}.h:2,S"));
            fs::write(path, format!("Subject: {n}\n\nmail {n}\n")).unwrap();
        }
        assert_eq!(host.bmfd(&["rotate"]).status.code(), Some(0));
        assert_eq!(host.names(user, ".Junk.Learned/cur").len(), 1, "{user}");
    }
}

#[test]
fn a_pass_learns_and_moves_and_the_next_one_has_nothing_to_do() {
    let host = Host::new("learning.move_after_seconds = 0\n");
    for user in ["anna", "bert"] {
        host.folders(user, &["", ".Junk"]);
    }
    host.put("anna", ".Junk/cur/1.h:2,S", 3);
    let dry = host.bmfd(&["once", "--dry-run"]);
    assert_eq!(
        text(&dry.stdout),
        "anna: Junk: learn 1.h:2,S as spam: the user filed it as spam\n\
         anna: Junk: move 1.h:2,S to the learned folder\n"
    );
    assert!(!host.dir.path().join("lib").exists());
    assert_eq!(host.names("anna", ".Junk/cur"), ["1.h:2,S"]);

    let output = host.bmfd(&["once"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "");
    let log = text(&output.stderr);
    assert!(
        log.contains("message learned user=\"anna\" folder=Junk file=1.h:2,S"),
        "{log}"
    );
    assert!(log.contains("message moved"), "{log}");
    assert_eq!(host.names("anna", ".Junk.Learned/cur"), ["1.h:2,S"]);
    assert_eq!(text(&host.bmfd(&["once"]).stderr), "");

    // Taken back by moving it out.
    fs::rename(
        host.path("anna", ".Junk.Learned/cur/1.h:2,S"),
        host.path("anna", "cur/1.h:2,S"),
    )
    .unwrap();
    let output = host.bmfd(&["once", "anna"]);
    let log = text(&output.stderr);
    assert!(
        log.contains("label=\"ham\" reason=it left the spam folder"),
        "{log}"
    );
}

/// Nobody sees the moves themselves: the ledger knows where it was.
#[test]
fn moves_in_vain_are_told_once_by_passes_too() {
    let host = Host::new("learning.move_after_seconds = 0\n");
    host.folders("anna", &["", ".Junk", ".Archive"]);
    host.put("anna", ".Junk/cur/1.h:2,S", 3);
    assert_eq!(host.bmfd(&["once"]).status.code(), Some(0));
    let (from, to) = (".Junk.Learned/cur/1.h:2,S", ".Archive/cur/1.h:2,S");
    fs::rename(host.path("anna", from), host.path("anna", to)).unwrap();
    host.put("anna", ".Junk/cur/2.h:2,S", 3);
    // Somebody else's, which is not read; only root can make it that.
    let is_foreign = chown(host.path("anna", ".Junk/cur/2.h:2,S"), Some(1), None).is_ok();
    for _ in 0..2 {
        host.bmfd(&["once"]);
        let output = host.bmfd(&["status", "anna"]);
        let said = text(&output.stdout);
        let archived = "taught nothing (spam that was archived), from a spam folder to Archive";
        assert_eq!(said.matches(archived).count(), 1, "{said}");
        let n_in_vain = 1 + usize::from(is_foreign);
        assert_eq!(
            said.matches("taught nothing (").count(),
            n_in_vain,
            "{said}"
        );
    }
}

#[test]
fn nobody_waits_for_all_mail_of_another() {
    let host = Host::new("");
    assert_eq!(host.bmfd(&["once"]).status.code(), Some(1));
    host.folders("anna", &["", ".Junk"]);
    host.folders("bert", &["", ".Junk"]);
    for n in 0..600 {
        let path = host.path("anna", &format!(".Junk/cur/{n}.h:2,S"));
        fs::write(path, format!("Subject: {n}\n\nmail {n}\n")).unwrap();
    }
    host.put("bert", ".Junk/cur/1.h:2,S", 3);
    let output = host.bmfd(&["once"]);
    let log: Vec<_> = text(&output.stderr).lines().collect();
    assert_eq!(log.len(), 601);
    let bert = log.iter().position(|line| line.contains("bert")).unwrap();
    assert!(bert < 600, "after all of anna's");
}

/// A user has one model, of whichever engine.
#[test]
fn moves_teach_the_classic_engine_where_that_is_the_users() {
    let host = Host::new("learning.move_after_seconds = 0\n");
    for user in ["anna", "bert"] {
        host.folders(user, &["", ".Junk"]);
        host.put(user, ".Junk/cur/1.h:2,S", 3);
    }
    let lib = host.dir.path().join("lib");
    let database = HostStore::open(&lib, &Default::default()).unwrap();
    make_classic(&database, "anna").unwrap();
    drop(database);
    let status = |user: &str| {
        let output = host.bmfd(&["status", user]);
        text(&output.stdout).lines().next().unwrap().to_owned()
    };
    assert_eq!(host.bmfd(&["once"]).status.code(), Some(0));
    assert!(status("anna").starts_with("anna: classic, 0 ham, 1 spam; last learned "));
    assert!(status("bert").starts_with("bert: modern, 0 ham, 1 spam; last learned "));
    fs::rename(
        host.path("anna", ".Junk.Learned/cur/1.h:2,S"),
        host.path("anna", "cur/1.h:2,S"),
    )
    .unwrap();
    assert_eq!(host.bmfd(&["once"]).status.code(), Some(0));
    assert!(status("anna").starts_with("anna: classic, 1 ham, 0 spam; last learned "));
    let database = HostStore::open(&lib, &Default::default()).unwrap();
    assert_eq!(database.engines("anna").unwrap(), ["classic"]);
    assert_eq!(database.engines("bert").unwrap(), ["modern"]);
}

/// As it is set up where all mail belongs to one user.
#[test]
fn the_virtual_mail_user_may_run_it() {
    const VMAIL: u32 = 12_345;
    let host = Host::new("learning.move_after_seconds = 0\n");
    host.folders("anna", &["", ".Junk"]);
    host.put("anna", ".Junk/cur/1.h:2,S", 3);
    if !host.give_to(VMAIL) {
        tests::skip("only root can give folders away");
        return;
    }
    let mut command = host.bmfd_of_others();
    let output = command.arg("once").uid(VMAIL).gid(VMAIL).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let moved = fs::metadata(host.path("anna", ".Junk.Learned/cur/1.h:2,S")).unwrap();
    assert_eq!(moved.uid(), VMAIL);
}

#[test]
fn a_database_of_somebody_else_is_not_used() {
    let host = Host::new("");
    host.folders("anna", &["", ".Junk"]);
    let lib = host.dir.path().join("lib");
    fs::create_dir_all(&lib).unwrap();
    if chown(&lib, Some(1), None).is_err() {
        tests::skip("only root can give folders away");
        return;
    }
    let output = host.bmfd(&["once"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("it belongs to uid 1"));
}

#[test]
fn a_database_that_another_process_has_open_is_left_alone() {
    let host = Host::new("");
    host.folders("anna", &["", ".Junk"]);
    host.put("anna", ".Junk/cur/1.h:2,S", 3);
    let database = HostStore::open(&host.dir.path().join("lib"), &Default::default()).unwrap();
    // Each waits for half a minute, which passes in a second.
    let quickly = |mut command: Command| {
        command.env("LD_PRELOAD", peer_library("faketime/libfaketime.so.1"));
        command.env("FAKETIME", "+0 x30").output().unwrap()
    };
    thread::scope(|scope| {
        for command in ["once", "status"] {
            let host = &host;
            scope.spawn(move || {
                let output = quickly(host.command(&[command]));
                assert_eq!(output.status.code(), Some(2), "{command}");
                let said = text(&output.stderr);
                assert!(said.contains("waiting for the database"), "{said}");
                assert!(said.contains("lib is locked"), "{said}");
                assert!(said.contains("and nobody listens at"), "{said}");
            });
        }
    });
    drop(database);
    assert_eq!(host.bmfd(&["once"]).status.code(), Some(0));
}

#[test]
fn one_bad_mailbox_does_not_stop_the_others() {
    let host = over_quota();
    let home = host.dir.path().join("home");
    fs::create_dir(home.join("a")).unwrap();
    symlink("../bert/Maildir", home.join("a/Maildir")).unwrap();
    let output = host.bmfd(&["rotate"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("mailbox left alone user=\"a\""));
    assert_eq!(host.names("bert", ".Junk.Learned/cur").len(), 2);
}

#[test]
fn what_cannot_be_done_is_said() {
    fn check(config: &str, args: &[&str], expected: &str) {
        let output = Host::new(config).bmfd(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let complaint = text(&output.stderr);
        assert!(complaint.contains(expected), "{complaint}");
        assert_eq!(text(&output.stdout), "");
    }
    check("", &["rotate", "nobody"], "nobody has no mailbox");
    check(
        "[folder]",
        &["rotate"],
        "bmfd.toml:4: unknown field `folder`",
    );
    check(
        "",
        &["rotate", "--config", "/dev/null/x"],
        "cannot read \"/dev/null/x\"",
    );
    check(
        "",
        &["rotate", "--config", "/missing"],
        "no configuration; docs/bmfd.toml is one to begin with",
    );
    check(
        "",
        &["status", "nobody"],
        "there is no user nobody: no mailbox",
    );
    check(
        "",
        &["backup", "/missing/copy"],
        "cannot make /missing/copy: there is no folder /missing",
    );
    check(
        "",
        &["learn", "anna", "--ham", "INBOX", "--spam", "INBOX"],
        "INBOX cannot be both ham and spam",
    );
    check(
        "rotation.Junk.max_bytes = '10M'",
        &["rotate"],
        "expected a whole number above 0",
    );
    check("", &[], "Usage: bmfd");
    check("", &["rotate", "--what"], "unexpected argument");
}

#[test]
fn a_new_user_is_started_from_sorted_folders() {
    let host = Host::new("");
    host.folders("anna", &["", ".Junk", ".Lists"]);
    for n in 0..40 {
        fs::write(
            host.path("anna", &format!("cur/{n}.h:2,")),
            format!("Subject: lunch {n}\n\nlunch {n}\n"),
        )
        .unwrap();
        fs::write(
            host.path("anna", &format!(".Junk/cur/{n}.h:2,")),
            format!("Subject: pills {n}\n\npills {n}\n"),
        )
        .unwrap();
    }
    let output = host.bmfd(&[
        "learn", "anna", "--ham", "INBOX", "--ham", "Lists", "--spam", "Junk",
    ]);
    assert_eq!(
        text(&output.stdout),
        "anna: 40 ham, 40 spam learned\n",
        "{output:?}"
    );
    assert_eq!(host.names("anna", ".Junk/cur").len(), 40, "it stays there");
    // A pass has nothing more to learn from it.
    let dry = host.bmfd(&["once", "--dry-run"]);
    assert_eq!(text(&dry.stdout), "");
    let output = host.bmfd(&["learn", "anna", "--spam", "Nothing"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("anna has no folder Nothing"));
}
