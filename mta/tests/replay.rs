//! What `postern replay` says of mail that another host has dealt with, and that
//! it changes nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use common::snapshot::snapshot;
use common::{Clamd, EICAR, Host};
use tests::programs::built;

fn message(to: &str, ip: &str, spam: &str, words: &str) -> String {
    format!(
        "Return-Path: <x@example.net>\nDelivered-To: {to}\n\
         Received: from mx.example.net (HELO mx) ({ip}) by old with SMTP; date\n{spam}\
         Subject: {words}\n\n{words} now\n"
    )
}

#[test]
fn what_would_happen_stands_beside_what_did() {
    let dir = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(dir.path());
    let rules = dir.path().join("rules");
    fs::write(
        &rules,
        "deny address 203.0.113.0/24\ndeny header \"subject: *lottery*\"\n",
    )
    .unwrap();
    let host = Host::new(&format!(
        "[scanner]\nclamd = {:?}\n[gate]\nrules = {rules:?}\n",
        clamd.socket
    ));
    // Bob's filter knows something.
    let database = dir.path().join("bmf");
    for n in 0..20 {
        for (flag, words) in [("-s", "cheap watches"), ("-n", "shall we meet")] {
            let text = dir.path().join("text");
            fs::write(
                &text,
                message("bob@example.org", "192.0.2.7", "", &format!("{words} {n}")),
            )
            .unwrap();
            let mut bmf = Command::new(built("bmf"));
            bmf.args(["--engine", "classic", flag, "-d"])
                .arg(&database)
                .arg("-i")
                .arg(&text);
            assert!(bmf.status().unwrap().code().unwrap() < 2);
        }
    }
    let folder = database.display().to_string();
    host.run(&["model", "import", "bob@example.org", &folder]);
    host.run(&["alias", "add", "out@example.org", "far@example.com"]);
    let home = host.data().join("mail/example.org/anna");
    fs::write(home.join(".qmail-list"), "&bob@example.org\n").unwrap();

    let old = dir.path().join("Maildir");
    let yes = "X-Spam-Status: Yes, hits=1\n";
    let no = "X-Spam-Status: No, hits=0\n";
    let virus = EICAR.concat();
    let mail = [
        ("cur/1", "bob@example.org", "192.0.2.7", no, "cheap watches"),
        (
            ".Junk/new/2",
            "example.org-bob@example.org",
            "192.0.2.7",
            "",
            "cheap watches",
        ),
        (
            "new/3",
            "bob@example.org",
            "192.0.2.7",
            yes,
            "shall we meet",
        ),
        (
            "new/4",
            "bob@example.org",
            "203.0.113.9",
            no,
            "shall we meet",
        ),
        ("new/5", "bob@example.org", "192.0.2.7", "", "lottery"),
        (
            "new/6",
            "nobody@example.org",
            "192.0.2.7",
            "",
            "shall we meet",
        ),
        ("new/7", "out@example.org", "192.0.2.7", "", "shall we meet"),
        ("new/8", "bob@example.org", "192.0.2.7", "", &virus),
        (
            "new/9",
            "anna-list@example.org",
            "192.0.2.7",
            "",
            "shall we meet",
        ),
    ];
    for (path, to, ip, spam, words) in mail {
        let path = old.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(path.parent().unwrap().with_file_name("cur")).unwrap();
        let text = match words == virus {
            false => message(to, ip, spam, words),
            // Where every scanner looks: a message of nothing else.
            true => format!("Delivered-To: {to}\n\n{words}\n"),
        };
        fs::write(path, text).unwrap();
    }
    fs::write(old.join("new/10"), "Subject: to nobody\n\nx\n").unwrap();
    fs::write(old.join("maildirsize"), "x").unwrap();
    let mailbox = dir.path().join("mbox");
    let text = message("bob@example.org", "192.0.2.7", no, "cheap watches");
    fs::write(
        &mailbox,
        format!("From x@example.net date\n{text}\nFrom y date\n{text}"),
    )
    .unwrap();

    let before = [snapshot(&host.data()), snapshot(&old)];
    let said = host.run(&["replay", &old.display().to_string(), "--json"]);
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let would: BTreeMap<String, (String, String)> = lines
        .iter()
        .filter(|line| line["type"] == "replayed")
        .map(|line| {
            let file = line["file"].as_str().unwrap().rsplit('/').next().unwrap();
            let would = &line["would"];
            let place = &would["deliveries"][0];
            let place = format!("{} {}", place["to"], place["place"]).replace('"', "");
            let outcome = would["outcome"].as_str().unwrap().to_owned();
            (file.to_owned(), (outcome, place))
        })
        .collect();
    for (file, outcome, place) in [
        ("1", "spam", "bob@example.org Junk"),
        ("2", "spam", "bob@example.org Junk"),
        ("3", "ham", "bob@example.org INBOX"),
        ("4", "refused", "null null"),
        ("5", "refused", "null null"),
        ("6", "no-user", "null null"),
        ("7", "relayed", "far@example.com elsewhere"),
        ("8", "virus", "null null"),
        ("9", "unsure", "anna@example.org .qmail-list"),
        ("10", "unknown-recipient", "null null"),
    ] {
        assert_eq!(
            would[file],
            (outcome.into(), place.into()),
            "{file}\n{said}"
        );
    }
    assert_eq!(would.len(), 10);
    let counts = &lines.last().unwrap()["counts"];
    for (what, n) in [
        ("ham -> spam", 1),
        ("spam -> spam", 1),
        ("spam -> ham", 1),
        ("ham -> refused", 1),
        ("unjudged -> refused", 1),
    ] {
        assert_eq!(counts[what], n, "{what}: {counts}");
    }
    // For people, and for others than the message says.
    let path = mailbox.display().to_string();
    let said = host.run(&["replay", &path, "--to", "anna@example.org"]);
    let expected = format!("ham -> unsure  {path}:1\n    anna@example.org: INBOX, unsure ");
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.ends_with("\n       2  ham -> unsure\n"), "{said}");
    // A spool, such as qmail's queue/mess.
    let spool = dir.path().join("mess");
    fs::create_dir_all(spool.join("7")).unwrap();
    fs::write(spool.join("7/1009"), &text).unwrap();
    let said = host.run(&["replay", &spool.display().to_string()]);
    let expected = format!("ham -> spam  {}\n", spool.join("7/1009").display());
    assert!(said.starts_with(&expected), "{said}");
    assert!(
        before == [snapshot(&host.data()), snapshot(&old)],
        "something was changed"
    );
}
