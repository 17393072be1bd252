//! One way of a few messages through the host: in to mailboxes, through the
//! queue and on by a forward, in a process that can be watched and killed.

use std::collections::BTreeMap;
use std::env;
use std::fs;
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

/// Says to the test binary that it is the process to be watched.
const DATA: &str = "POSTERN_KILLED_DATA";
const N_MESSAGES: &str = "POSTERN_KILLED_MESSAGES";

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
    let n: usize = env::var(N_MESSAGES).unwrap().parse().unwrap();
    let host = open(Path::new(&data));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for number in 0..n {
        let mut message = Message::new(&data);
        message.write(text(number).as_bytes()).unwrap();
        let to = if number % 2 == 0 {
            "anna@example.org"
        } else {
            "bob@example.org"
        };
        let answer = runtime.block_on(host.commit(envelope(to), message));
        if matches!(answer, Answer::All(reply) if reply.code.is_positive()) {
            println!("kept {number}");
        }
    }
    runtime.block_on(host.run_due());
}

/// A message.
pub fn text(number: usize) -> String {
    format!("Subject: {number}\n\n{}the end\n", "a line\n".repeat(600))
}

/// A host with anna, whose mail goes straight to her mailbox, and bob, who
/// keeps a copy and forwards to carol, through the queue.
pub fn furnish(data: &Path) {
    fs::create_dir_all(data.join("mail")).unwrap();
    let accounts =
        Accounts::open(&data.join("accounts.db"), Homes::new(data.join("mail"))).unwrap();
    accounts
        .change(|change| {
            change.put_domain(&Domain {
                name: "example.org".into(),
                ..Domain::default()
            })?;
            for name in ["anna", "bob", "carol"] {
                let settings = UserSettings {
                    filter: false,
                    ..UserSettings::default()
                };
                let address = Address::new(name, "example.org");
                accounts.homes().mailbox(&address)?;
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

/// What the child says, which `command` starts to hand over `n` messages.
pub fn child_of(mut command: Command, data: &Path, n: usize) -> String {
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DATA, data)
        .env(N_MESSAGES, n.to_string())
        .env_remove("RUST_BACKTRACE");
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The messages that the child was told were kept.
pub fn kept(output: &str) -> Vec<usize> {
    let numbers = output.lines().filter_map(|line| line.split("kept ").nth(1));
    numbers
        .filter_map(|number| number.trim().parse().ok())
        .collect()
}

/// How often each message lies in a mailbox; all must be whole.
pub fn found(data: &Path, user: &str) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(data.join("mail/example.org").join(user).join("Maildir/new")).unwrap()
    {
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
