//! What earlier versions left on disk, opened with today's programs; and what a
//! later version would leave, which is refused with a word on how to return.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use classifier::mark::MarkKey;
use classifier::store::lmdb::Moved;
use mta::accounts::{Accounts, Homes};
use mta::authentication::keys::Keys;
use mta::config::{Config, ForPrograms};
use mta::gate::greylist::{Greylist, Settings, Standing};
use mta::queue::disk::Folder;
use mta::queue::{Queue, State};
use tests::programs::built;
use trainer::admin;
use trainer::database::Databases;

const NOW: u64 = 1_764_188_000;
const SPAM: &[u8] = b"Subject: Cheap watches\n\nBuy cheap watches, click here now\n";
const HAM: &[u8] = b"Subject: Lunch\n\nShall we meet tomorrow, Anna asks again\n";
const RETURN: &str =
    "go back to the program that wrote it, or to a copy of before (docs/upgrades.md)";

fn archives() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/upgrades");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut archives: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "gz"))
        .collect();
    archives.sort();
    assert!(
        !archives.is_empty(),
        "scripts/upgrade-fixture makes the first"
    );
    archives
}

fn unpacked(archive: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .args(["--no-same-owner", "-xzf"])
        .arg(archive)
        .arg("-C")
        .arg(dir.path())
        .status();
    assert!(status.unwrap().success());
    dir
}

fn postern(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("--config").arg(data.with_extension("toml"));
    command.arg("--data").arg(data).args(arguments);
    command.output().unwrap()
}

/// What would be done to move in from the host below `old`.
fn plan_import(data: &Path, old: &Path) -> Output {
    let old = old.display().to_string();
    postern(
        data,
        &["import", "qmail", "/var/qmail", "--root", &old, "--dry-run"],
    )
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// bmf's exit code for a message: 0 spam, 1 ham.
fn bmf(arguments: &[&str], folder: &Path, message: &[u8]) -> Output {
    let input = folder.with_extension("message");
    fs::write(&input, message).unwrap();
    Command::new(built("bmf"))
        .arg("-t")
        .args(arguments)
        .arg("-d")
        .arg(folder)
        .stdin(fs::File::open(&input).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

/// What some versions did not keep yet; the last one keeps all of it.
fn of_later_versions(dir: &Path) -> Vec<&'static str> {
    let mut opened = Vec::new();
    let records = dir.join("data/dkim/example.org/keys.toml");
    if records.exists() {
        let keys = Keys::read(&dir.join("data"), "example.org").unwrap();
        let selectors: Vec<&str> = keys.keys.iter().map(|key| &*key.selector).collect();
        assert_eq!(selectors, ["20251126-rsa", "20251126-ed25519"]);
        opened.push("keys");
    }
    if let Some(moved) = Moved::in_dir(&dir.join("moved")).unwrap() {
        let key = MarkKey::of_user(&[7; MarkKey::LEN], "anna");
        assert_eq!((moved.since, moved.mark_key), (NOW, Some(key)));
        opened.push("mark");
    }
    let stream = dir.join("anna.user");
    if stream.exists() {
        let databases = Databases::new(&dir.join("other"), 1 << 20).unwrap();
        let host = databases.host().unwrap();
        let mut stream = fs::File::open(stream).unwrap();
        assert!(host.import("anna@example.org", &mut stream).unwrap());
        assert_eq!(host.engines("anna@example.org").unwrap(), ["modern"]);
        opened.push("stream");
    }
    let host = dir.join("moved-in");
    if host.exists() {
        let said = plan_import(&host, &dir.join("old"));
        let steps = String::from_utf8(said.stdout).unwrap();
        assert!(steps.contains("carried over\n"), "{steps}");
        assert!(!steps.contains("model of anna@example.org"), "{steps}");
        fs::remove_file(host.join("imported-models")).unwrap();
        let said = plan_import(&host, &dir.join("old"));
        let steps = String::from_utf8(said.stdout).unwrap();
        assert!(steps.contains("model of anna@example.org"), "{steps}");
        opened.push("imported models");
    }
    let configuration = dir.join("configuration");
    if configuration.exists() {
        let config = Config::read(&configuration.join("postern.toml")).unwrap();
        assert!(config.data.ends_with("moved-in"));
        trainer::config::Config::read_alone(&configuration.join("bmfd.toml")).unwrap();
        opened.push("configuration");
    }
    opened
}

#[test]
fn what_each_version_left_is_opened() {
    let mut later = Vec::new();
    for archive in archives() {
        let dir = unpacked(&archive);
        let at = |name: &str| dir.path().join(name);
        let data = at("data");
        // Accounts.
        let accounts = fs::read_to_string(archive.with_file_name("accounts.toml")).unwrap();
        assert_eq!(
            text(&postern(&data, &["user", "export", "--all"])),
            accounts
        );
        // Greylist: the network is known, another is not.
        let greylist = Greylist::open(&data.join("greylist.db")).unwrap();
        let ask = |ip: &str| {
            let client = (ip.parse().unwrap(), "y@example.net", "bob@example.org");
            greylist
                .ask(&Settings::default(), client, NOW + 400)
                .unwrap()
        };
        assert_eq!(ask("192.0.2.99"), Standing::Known);
        assert!(matches!(ask("198.51.100.1"), Standing::Early { .. }));
        // Queue.
        let queue = Queue::new(Folder::open(&data.join("queue")).unwrap());
        assert_eq!(queue.ids().unwrap(), ["00000000abc"]);
        let found = queue.look("00000000abc").unwrap().unwrap();
        assert_eq!(found.start(100).unwrap(), b"Subject: waits\n\nx\n");
        let states: Vec<bool> = found
            .entry
            .recipients
            .iter()
            .map(|one| matches!(one.state, State::Done(_)))
            .collect();
        assert_eq!((states, found.entry.is_held), (vec![true, false], true));
        // Journal.
        let story = text(&postern(&data, &["why", "bob@example.net"]));
        assert!(story.contains("mx.example.net"), "{story}");
        // Mail.
        let mail = data.join("mail/example.org/anna/Maildir/new/1764188000.M1P1.host");
        assert_eq!(fs::read(mail).unwrap(), b"Subject: kept\n\nx\n");
        // The host's models, of both engines.
        let config = mta::config::models_in(&data).unwrap();
        for user in ["anna@example.org", "bob@example.org"] {
            let command = admin::Command::Status {
                user: Some(user.into()),
            };
            let said = trainer::cli::administer(&config, &command, SystemTime::now()).unwrap();
            let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
            assert_eq!(
                (&said["ham"], &said["spam"]),
                (&20.into(), &20.into()),
                "{said}"
            );
        }
        // People's own databases.
        for (name, options) in [
            ("modern", &["-f", "db"][..]),
            ("classic", &["-f", "db"]),
            ("lists", &["-f", "text"]),
        ] {
            for (message, code) in [(SPAM, 0), (HAM, 1)] {
                let output = bmf(options, &at(name), message);
                assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
            }
        }
        // A model as text, and a base that users begin with.
        let status = Command::new(built("bmfconv"))
            .arg("-i")
            .arg("-d")
            .arg(at("again"))
            .current_dir(at("model"))
            .status();
        assert!(status.unwrap().success());
        assert_eq!(bmf(&[], &at("again"), SPAM).status.code(), Some(0));
        let base = at("base").display().to_string();
        assert_eq!(
            bmf(&["--base", &base], &at("empty"), SPAM).status.code(),
            Some(0)
        );
        later = of_later_versions(dir.path());
    }
    assert_eq!(
        later,
        ["keys", "mark", "stream", "imported models", "configuration"]
    );
}

/// Raises the version that stands somewhere in a file.
fn raise(path: &Path, from: &[u8], to: &[u8]) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from);
    let at = at.unwrap_or_else(|| panic!("{} has no {from:?}", path.display()));
    fs::write(path, [&bytes[..at], to, &bytes[at + from.len()..]].concat()).unwrap();
}

#[test]
fn one_step_back_is_refused_with_a_word_on_how_to_return() {
    let archive = archives().pop().unwrap();
    let dir = unpacked(&archive);
    let at = |name: &str| dir.path().join(name);
    let data = at("data");
    for name in ["accounts.db", "greylist.db"] {
        let database = rusqlite::Connection::open(data.join(name)).unwrap();
        let version: u32 = database
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert!(version > 0, "{name}");
        database
            .pragma_update(None, "user_version", version + 1)
            .unwrap();
    }
    let mut refused: Vec<String> = Vec::new();
    let homes = Homes::new(data.join("mail"));
    refused.push(
        Accounts::open(&data.join("accounts.db"), homes)
            .unwrap_err()
            .to_string(),
    );
    refused.push(
        Greylist::open(&data.join("greylist.db"))
            .unwrap_err()
            .to_string(),
    );
    raise(
        &data.join("queue/00000000abc"),
        b"postern queue 1",
        b"postern queue 2",
    );
    let queue = Queue::new(Folder::open(&data.join("queue")).unwrap());
    refused.push(queue.look("00000000abc").map(drop).unwrap_err().to_string());
    raise(
        &at("model/model.txt"),
        b"postern-model 3",
        b"postern-model 4",
    );
    let mut import = Command::new(built("bmfconv"));
    import
        .arg("-i")
        .arg("-d")
        .arg(at("again"))
        .current_dir(at("model"));
    let said = import.output().unwrap();
    refused.push(String::from_utf8(said.stderr).unwrap());
    raise(&data.join("journal"), b"{\"journal\":1", b"{\"journal\":2");
    let said = postern(&data, &["why", "bob@example.net"]);
    refused.push(String::from_utf8(said.stderr).unwrap());
    let keys = data.join("dkim/example.org/keys.toml");
    raise(&keys, b"version = 1", b"version = 2");
    let read = Keys::read(&data, "example.org");
    refused.push(read.unwrap_err().to_string());
    raise(&at("moved/bmf.mdb-moved"), b"version 1", b"version 2");
    let read = Moved::in_dir(&at("moved"));
    refused.push(read.unwrap_err().to_string());
    fs::write(at("accounts.toml"), "version = 2\n[lists]\n").unwrap();
    fs::create_dir(at("new")).unwrap();
    let text = at("accounts.toml").display().to_string();
    let said = postern(&at("new"), &["user", "import", &text]);
    refused.push(String::from_utf8(said.stderr).unwrap());
    raise(
        &at("moved-in/imported-models"),
        b"imported-models 1",
        b"imported-models 2",
    );
    raise(&at("base"), b"base\n\x03", b"base\n\x04");
    let base = at("base").display().to_string();
    let said = bmf(&["--base", &base], &at("empty"), SPAM);
    refused.push(String::from_utf8(said.stderr).unwrap());
    raise(&at("anna.user"), b"user\n\0\0\0\x03", b"user\n\0\0\0\x04");
    let databases = Databases::new(&at("other"), 1 << 20).unwrap();
    let host = databases.host().unwrap();
    let mut stream = fs::File::open(at("anna.user")).unwrap();
    let read = host.import("anna@example.org", &mut stream);
    refused.push(read.unwrap_err().to_string());
    let said = plan_import(&at("moved-in"), &at("old"));
    refused.push(String::from_utf8(said.stderr).unwrap());
    let of_host = at("configuration/postern.toml");
    raise(&of_host, b"\nversion = 1", b"\nversion = 2");
    refused.push(Config::read(&of_host).unwrap_err().to_string());
    let programs = ForPrograms::read(&of_host);
    refused.push(programs.unwrap_err().to_string());
    let of_bmfd = at("configuration/bmfd.toml");
    raise(&of_bmfd, b"\nversion = 1", b"\nversion = 2");
    let read = trainer::config::Config::read_alone(&of_bmfd);
    refused.push(read.unwrap_err().to_string());
    for reason in refused {
        assert!(reason.contains(RETURN), "{reason}");
        assert!(reason.contains("has format version"), "{reason}");
    }
    // What was refused is as it was.
    let text = fs::read_to_string(data.join("queue/00000000abc")).unwrap();
    assert!(text.starts_with("postern queue 2\n"));
}
