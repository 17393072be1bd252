//! Threads share a database; processes do not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use classifier::Error;
use classifier::store::{Durability, TokenLookup, TokenStore};
use classifier_rocksdb::HostStore;

use super::{open, options, seen, spam, token};

/// Every message has all the words, so all counts are equal at any time.
#[test]
fn readers_see_messages_whole() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let words: Vec<_> = (0..100).map(|n| format!("word{n}")).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let tokens: Vec<_> = words.iter().map(|word| token(word)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [(); 3].map(|()| {
            scope.spawn(|| {
                let ann = host.user("ann");
                let mut counts = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let trained = ann.lookup(&tokens, &mut counts).unwrap();
                    assert!(counts.iter().all(|c| c.spam == trained.spam));
                }
            })
        });
        let writers = [(); 2].map(|()| {
            scope.spawn(|| {
                for _ in 0..300 {
                    let changes = spam(&words);
                    host.user("ann")
                        .apply(&changes, Durability::Relaxed)
                        .unwrap();
                }
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert_eq!(seen(&host.user("ann"), "word99"), (600, 600));
}

#[test]
fn a_second_process_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["shared::holds_it", "--exact", "--nocapture"])
        .env(HOLD, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("holding it")));

    let Err(error) = HostStore::open(dir.path(), &options()) else {
        panic!("two processes have it open");
    };
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.is_transient());
    let owner = format!("(process {})", child.id());
    assert!(error.to_string().contains(&owner), "{error}");

    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    open(dir.path());
}

#[test]
fn one_process_opens_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let files = || {
        let files = fs::read_dir(dir.path()).unwrap();
        let names: BTreeSet<_> = files.map(|file| file.unwrap().file_name()).collect();
        names
    };
    let before = files();
    for _ in 0..2 {
        let Err(error) = HostStore::open(dir.path(), &options()) else {
            panic!("open twice");
        };
        let owner = format!("(process {})", std::process::id());
        assert!(error.to_string().contains(&owner), "{error}");
    }
    assert_eq!(files(), before, "who is refused has touched files");
    drop(host);
    open(dir.path());
}

/// A child of the last owner has its open files until it is executed.
#[test]
fn what_is_held_for_an_instant_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let held = fs::File::open(dir.path()).unwrap();
    held.lock().unwrap();
    let Err(error) = HostStore::open(dir.path(), &options()) else {
        panic!("opened what somebody holds");
    };
    assert!(
        matches!(error, Error::Locked { owner: None, .. }),
        "{error}"
    );
    thread::scope(|scope| {
        let opened = scope.spawn(|| open(dir.path()));
        thread::sleep(std::time::Duration::from_millis(50));
        drop(held);
        drop(opened.join().unwrap());
    });
}

const HOLD: &str = "POSTERN_TEST_HOLD";

/// The other process of the test above.
#[test]
fn holds_it() {
    let Some(dir) = std::env::var_os(HOLD) else {
        return;
    };
    let _host = open(dir.as_ref());
    println!("\nholding it");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
