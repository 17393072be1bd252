//! One way of a few messages through the host: in to mailboxes, one of which is
//! made for them, through the queue and on by a forward, in a process that can
//! be watched and killed.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use mta::accounts::{Accounts, Address, Domain, Homes, User, UserSettings};
use mta::handover::{Answer, Host};
use mta::message::Message;
use mta::pipeline::verdict::HostModels;
use mta::pipeline::{Postern, Settings};
use trainer::database::Databases;

use super::envelope;

/// What comes for her goes straight to her mailbox.
pub const ANNA: &str = "anna@example.org";
/// He keeps a copy and forwards to carol, through the queue.
pub const BOB: &str = "bob@example.org";
/// She gets what bob forwards.
pub const CAROL: &str = "carol@example.org";
/// As anna, the first of his domain, and without a mailbox.
pub const DAVE: &str = "dave@example.net";

/// Says to the test binary that it is the process to be watched.
const DATA: &str = "POSTERN_KILLED_DATA";
const NUMBERS: &str = "POSTERN_KILLED_NUMBERS";

/// The host in the folder `data`.
pub fn open(data: &Path) -> Postern {
    let accounts =
        Accounts::open(&data.join("accounts.db"), Homes::new(data.join("mail"))).unwrap();
    let databases = Databases::new(&data.join("models"), 1 << 20).unwrap();
    let models = Box::new(HostModels::new(databases));
    let settings = Settings::new("mx.example.org");
    Postern::open(data, Arc::new(accounts), models, None, None, settings).unwrap()
}

/// In the process that is watched: hands messages over, says which were kept,
/// and works through the queue.
pub fn child() {
    let Some(data) = env::var_os(DATA) else {
        return;
    };
    let numbers = env::var(NUMBERS).unwrap();
    let (first, end) = numbers.split_once("..").unwrap();
    let numbers: Range<usize> = first.parse().unwrap()..end.parse().unwrap();
    let host = open(Path::new(&data));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for number in numbers {
        let mut message = Message::new(&data);
        message.write(text(number).as_bytes()).unwrap();
        let to = envelope(owners(number)[0]);
        let answer = runtime.block_on(host.commit(to, message));
        if matches!(answer, Answer::All(reply) if reply.code.is_positive()) {
            println!("kept {number}");
        }
    }
    runtime.block_on(host.run_due());
}

/// To whom a message is sent, and in whose mailboxes it must be then.
pub fn owners(number: usize) -> &'static [&'static str] {
    match number % 4 {
        0 => &[ANNA],
        2 => &[DAVE],
        _ => &[BOB, CAROL],
    }
}

/// A message.
pub fn text(number: usize) -> String {
    format!("Subject: {number}\n\n{}the end\n", "a line\n".repeat(600))
}

/// A host with those four.
pub fn furnish(data: &Path) {
    fs::create_dir_all(data.join("mail")).unwrap();
    let accounts =
        Accounts::open(&data.join("accounts.db"), Homes::new(data.join("mail"))).unwrap();
    accounts
        .change(|change| {
            for name in ["example.org", "example.net"] {
                change.put_domain(&Domain {
                    name: name.into(),
                    ..Domain::default()
                })?;
            }
            for user in [ANNA, BOB, CAROL, DAVE] {
                let settings = UserSettings {
                    filter: false,
                    ..UserSettings::default()
                };
                let (name, domain) = user.split_once('@').unwrap();
                let address = Address::new(name, domain);
                if user != DAVE {
                    accounts.homes().mailbox(&address)?;
                }
                change.put_user(&User { address, settings })?;
            }
            Ok(())
        })
        .unwrap();
    let bob = accounts
        .homes()
        .home(&Address::new("bob", "example.org"))
        .unwrap();
    fs::write(bob.join(".qmail"), "./Maildir/\n&carol@example.org\n").unwrap();
}

/// The child that hands over these messages.
pub fn handing_over(data: &Path, numbers: Range<usize>) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DATA, data)
        .env(NUMBERS, format!("{numbers:?}"));
    command
}

/// What a child says.
pub fn said_by(mut command: Command) -> String {
    let output = command.env_remove("RUST_BACKTRACE").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The messages that the child was told were kept.
pub fn kept(output: &str) -> Vec<usize> {
    let numbers = output.lines().filter_map(|line| line.split("kept ").nth(1));
    numbers
        .filter_map(|number| number.trim().parse().ok())
        .collect()
}

/// What lies where, by user.
pub fn all_found(data: &Path) -> BTreeMap<&'static str, BTreeMap<usize, usize>> {
    let users = [ANNA, BOB, CAROL, DAVE];
    users.map(|user| (user, found(data, user))).into()
}

/// How often each message lies in a mailbox; all must be whole.
fn found(data: &Path, user: &str) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    let (name, domain) = user.split_once('@').unwrap();
    let new = data.join("mail").join(domain).join(name);
    let Ok(files) = fs::read_dir(new.join("Maildir/new")) else {
        return found;
    };
    for file in files {
        let mail = fs::read_to_string(file.unwrap().path()).unwrap();
        let number = mail
            .split("\nSubject: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let number: usize = number.parse().unwrap();
        assert!(
            mail.ends_with(&text(number)),
            "{user} got a part of {number}"
        );
        *found.entry(number).or_insert(0) += 1;
    }
    found
}
