//! What a child does when a test started it.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use classifier::store::lmdb::{FaultGuard, Lmdb, Options};
use classifier::store::{Durability, Entry, TokenLookup, TokenStore};
use classifier::{Error, TrainedMessages};

use super::{learn, token};

/// Does nothing unless a test of this program started it.
#[test]
fn entry() {
    let Ok(command) = env::var("POSTERN_LMDB_CHILD") else {
        return;
    };
    let dir = PathBuf::from(env::var_os("POSTERN_LMDB_DIR").unwrap());
    if command == "abort-unguarded" {
        FaultGuard::new(&dir).unwrap();
        process::abort();
    }
    if command == "overflow-unguarded" {
        FaultGuard::new(&dir).unwrap();
        println!("{}", overflow(1));
    }
    let guard = FaultGuard::new(&Lmdb::path(&dir)).unwrap();
    let code = match guard.run(move || run(&command, &dir)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            2
        }
    };
    process::exit(code);
}

fn run(command: &str, dir: &Path) -> Result<(), Error> {
    let words: Vec<_> = command.split(' ').collect();
    match words[..] {
        ["train", first, n] => train(dir, first.parse().unwrap(), n.parse().unwrap()),
        ["train-until-killed"] => train_until_killed(dir),
        ["train-impatiently"] => {
            let options = Options {
                lock_wait: Duration::from_millis(200),
                ..Options::default()
            };
            learn(&mut Lmdb::open(dir, &options)?, 0, Durability::Synced)
        }
        ["read-until-killed"] => read_until_killed(dir),
        ["score"] => score(dir),
        ["score-until-killed"] => score_until_killed(dir),
        ["use"] => use_all(dir),
        ["import", n] => import(dir, n.parse().unwrap()),
        ["grow"] => {
            super::make(dir, 0, 300_000);
            Ok(())
        }
        ["train-until-full"] => train_until_full(dir),
        ["fill-then-train"] => {
            fill(dir);
            train(dir, 0, 1)
        }
        _ => panic!("no such command: {command}"),
    }
}

/// Uses up the stack.
#[expect(unconditional_recursion)]
fn overflow(n: u64) -> u64 {
    let page = std::hint::black_box([n; 512]);
    page[7] + overflow(n + 1) + page[8]
}

fn import(dir: &Path, ham: u32) -> Result<(), Error> {
    let mut store = Lmdb::open(dir, &Options::default())?;
    let names: Vec<_> = (0..5000).map(|n| format!("name{n}")).collect();
    let mut entries = names.iter().map(|name| Entry {
        token: name.as_bytes(),
        ham: Some(ham),
        spam: None,
    });
    if store.import(TrainedMessages { ham, spam: 0 }, &mut entries)? {
        println!("<imported {ham}>");
    }
    Ok(())
}

/// Learns each message in a process's whole life: opened, learned, closed.
fn train(dir: &Path, first: u32, n: u32) -> Result<(), Error> {
    for n in first..first + n {
        learn(
            &mut Lmdb::open(dir, &Options::default())?,
            n,
            Durability::Synced,
        )?;
    }
    Ok(())
}

/// Says on standard output when it begins, and then with each message that
/// is learned.
fn train_until_killed(dir: &Path) -> Result<(), Error> {
    say('#');
    for n in 0.. {
        let durability = [Durability::Synced, Durability::Relaxed][n as usize % 2];
        learn(&mut Lmdb::open(dir, &Options::default())?, n, durability)?;
        say('.');
    }
    Ok(())
}

fn say(mark: char) {
    let mut stdout = std::io::stdout();
    write!(stdout, "{mark}").unwrap();
    stdout.flush().unwrap();
}

/// Stops in the middle of a read transaction.
fn read_until_killed(dir: &Path) -> Result<(), Error> {
    let store = Lmdb::open(dir, &Options::read_only())?;
    store.entries(&mut |_| {
        say('#');
        std::io::stdin().read_exact(&mut [0]).unwrap();
        Ok(())
    })?;
    Ok(())
}

fn score(dir: &Path) -> Result<(), Error> {
    let store = Lmdb::open(dir, &Options::read_only())?;
    let mut counts = Vec::new();
    let trained = store.lookup(&[token("word0"), token("absent")], &mut counts)?;
    println!("<{} {} {}>", trained.ham, counts[0].ham, counts[1].ham);
    Ok(())
}

/// Says with each look whether it saw one state of the database.
fn score_until_killed(dir: &Path) -> Result<(), Error> {
    let store = Lmdb::open(dir, &Options::read_only())?;
    let words: Vec<_> = (0..300).map(|n| token(&format!("word{n}"))).collect();
    let mut counts = Vec::new();
    loop {
        let trained = store.lookup(&words, &mut counts)?;
        let is_one_state = counts.iter().all(|counts| counts.ham == trained.ham);
        say(if is_one_state { '+' } else { '-' });
    }
}

/// Everything that a store can be asked, in the order of growing danger.
fn use_all(dir: &Path) -> Result<(), Error> {
    let store = Lmdb::open(dir, &Options::read_only())?;
    let words: Vec<_> = (0..300).map(|n| token(&format!("word{n}"))).collect();
    let looked_up = store.lookup(&words, &mut Vec::new());
    let mut n_bytes = 0;
    let listed = store.entries(&mut |entry| {
        n_bytes += entry.token.len();
        Ok(())
    });
    drop(store);
    let mut store = Lmdb::open(dir, &Options::default())?;
    let learned = learn(&mut store, 1, Durability::Relaxed);
    looked_up.and(listed).and(learned)
}

fn train_until_full(dir: &Path) -> Result<(), Error> {
    train(dir, 0, 20)?;
    for n in 20.. {
        let mut store = Lmdb::open(dir, &Options::default())?;
        if let Err(error) = learn(&mut store, n, Durability::Synced) {
            drop(store);
            println!("<{} of {n}: {error}>", super::whole_messages(dir));
            return Ok(());
        }
        fill_a_little(dir, n);
    }
    Ok(())
}

fn fill_a_little(dir: &Path, n: u32) {
    // Also what a full disk leaves of this file takes room.
    let _ = std::fs::write(dir.join(format!("filler{n}")), [1; 8192]);
}

/// Leaves not a byte free beside the database.
fn fill(dir: &Path) {
    let mut filler = File::create(dir.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
}
