//! The chain of the old host, as its author ran it, with the real programs:
//! `.qmail` calls preline, that procmail, that clamdscan and our bmf.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{Clamd, EICAR, envelope};
use mta::accounts::{Accounts, Address, Domain, Homes, User, UserSettings};
use mta::handover::{Answer, Host};
use mta::message::Message;
use mta::pipeline::verdict::HostModels;
use mta::pipeline::{Postern, Settings};
use tests::programs::{built, peer};
use trainer::database::Databases;

const RC: &str = "\
HOME=$1
SHELL=/bin/sh
DEFAULT=$HOME/Maildir/
VIRUS=`clamdscan -v --fdpass --stdout -`
:0
* VIRUS ?? FOUND
/dev/null
INCLUDERC=$HOME/filter.rc
";

const FILTER: &str = "\
:0 fw
| bmf -p
:0
* ^X-Spam-Status: Yes
$HOME/Maildir/.Junk/
";

/// A folder with the programs by the names that the chain calls them.
fn programs(folder: &Path, clamd: &Clamd) -> PathBuf {
    let bin = folder.join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_postern"), bin.join("preline")).unwrap();
    symlink(built("bmf"), bin.join("bmf")).unwrap();
    let mut scripts = vec![(
        "clamdscan",
        format!("--config-file={}", clamd.config.display()),
    )];
    scripts.push(("procmail", String::new()));
    for (name, option) in scripts {
        let real = peer(name);
        let libraries = real
            .get_envs()
            .map(|(name, value)| format!("{}='{}' ", name.display(), value.unwrap().display()));
        let libraries: String = libraries.collect();
        let path = bin.join(name);
        let program = Path::new(real.get_program()).display().to_string();
        fs::write(
            &path,
            format!("#!/bin/sh\n{libraries}exec '{program}' {option} \"$@\"\n"),
        )
        .unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    bin
}

fn train(bmf: &Path, home: &Path) {
    for n in 0..60 {
        for (option, subject, text) in [
            ("-s", "Cheap watches", "Buy cheap watches now, click here"),
            ("-n", "Lunch", "Shall we meet tomorrow, Anna asks"),
        ] {
            let mail = home.join("lesson");
            // As it looks when it has come by the host.
            let received = "Received: by mx.example.org with local\n\tid 1k16m1y\n\t\
                for <anna@example.org>; Thu, 26 Nov 2026 21:56:27 +0000";
            let lesson = format!("{received}\nSubject: {subject}\n\n{text}, {n}\n");
            fs::write(&mail, lesson).unwrap();
            let input = fs::File::open(&mail).unwrap();
            let status = Command::new(bmf)
                .arg(option)
                .env("HOME", home)
                .stdin(input)
                .status();
            // 0 and 1 are its answers, spam and ham.
            assert!(matches!(status.unwrap().code(), Some(0 | 1)));
        }
    }
}

fn mail_in(folder: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder.join("new")) else {
        return Vec::new();
    };
    files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn the_chain_of_the_old_host_works_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    // Programs see nothing of the host's folder but the user's.
    let place = dir.path();
    let data = &*place.join("data");
    let clamd = Clamd::start(place);
    let bin = programs(place, &clamd);

    fs::create_dir_all(data.join("mail")).unwrap();
    let accounts =
        Accounts::open(&data.join("accounts.db"), Homes::new(data.join("mail"))).unwrap();
    let anna = Address::new("anna", "example.org");
    let settings = UserSettings {
        programs: true,
        // The user's own chain does it.
        filter: false,
        ..UserSettings::default()
    };
    accounts
        .change(|change| {
            change.put_domain(&Domain {
                name: "example.org".into(),
                ..Domain::default()
            })?;
            change.put_user(&User {
                address: anna.clone(),
                settings,
            })
        })
        .unwrap();
    accounts.homes().mailbox(&anna).unwrap();
    let home = accounts.homes().home(&anna).unwrap();
    let rc = place.join("procmailrc");
    // procmail forgets the environment; elsewhere these lie in /usr/bin.
    fs::write(&rc, format!("PATH={}:/usr/bin:/bin\n{RC}", bin.display())).unwrap();
    fs::write(home.join("filter.rc"), FILTER).unwrap();
    let line = format!("|preline procmail -m {} {}\n", rc.display(), home.display());
    fs::write(home.join(".qmail"), line).unwrap();
    train(&bin.join("bmf"), &home);

    let mut settings = Settings::new("mx.example.org");
    settings.programs.path = format!("{}:/usr/bin:/bin", bin.display());
    let databases = Databases::new(&data.join("models"), 1 << 20).unwrap();
    let models = Box::new(HostModels::new(databases));
    let host = Postern::open(data, Arc::new(accounts), models, None, None, settings).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let send = |text: String| {
        let mut message = Message::new(data);
        message.write(text.as_bytes()).unwrap();
        let answer = runtime.block_on(host.commit(envelope("anna@example.org"), message));
        assert!(
            matches!(&answer, Answer::All(reply) if reply.code.is_positive()),
            "{answer:?}"
        );
        runtime.block_on(host.run_due());
        let left = host.queue().ids().unwrap();
        let story = fs::read_to_string(data.join("journal")).unwrap();
        assert!(left.is_empty(), "{story}");
    };

    send("Subject: Lunch\n\nShall we meet tomorrow, Anna asks, again\n".into());
    send("Subject: Cheap watches\n\nBuy cheap watches now, click here, again\n".into());
    send(format!("Subject: Invoice\n\n{}\n", EICAR.concat()));

    let inbox = mail_in(&home.join("Maildir"));
    let junk = mail_in(&home.join("Maildir/.Junk"));
    assert_eq!(
        (inbox.len(), junk.len()),
        (1, 1),
        "inbox {inbox:#?}, junk {junk:#?}"
    );
    // procmail takes the line `From ` out for a Maildir.
    assert!(
        inbox[0].starts_with("Return-Path: <x@example.net>\n"),
        "{}",
        inbox[0]
    );
    assert!(
        inbox[0].contains("\nDelivered-To: anna@example.org\nReceived: by mx.example.org"),
        "{}",
        inbox[0]
    );
    assert!(
        inbox[0].contains("\nX-Spam-Status: No, hits="),
        "{}",
        inbox[0]
    );
    assert!(
        junk[0].contains("\nX-Spam-Status: Yes, hits="),
        "{}",
        junk[0]
    );
}

/// The same scanner asked by the host itself, in both ways.
#[test]
fn the_real_clamd_is_understood() {
    use mta::pipeline::clamd::{Address, Scan};
    let dir = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(dir.path());
    let scanner = mta::pipeline::clamd::Clamd::new(Address::Unix(clamd.socket.clone()));
    for padding in [0, 300_000] {
        for (text, is_clean) in [("harmless".to_owned(), true), (EICAR.concat(), false)] {
            let mut message = Message::new(dir.path());
            message
                .write(format!("Subject: x\n\n{text}\n").as_bytes())
                .unwrap();
            message.write(&vec![b'\n'; padding]).unwrap();
            let scan = scanner.scan(&message).unwrap();
            match scan {
                Scan::Clean => assert!(is_clean),
                Scan::Infected(name) => assert!(!is_clean && name.starts_with("Eicar"), "{name}"),
            }
        }
    }
}
