//! Many processes at once, and those that are killed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use classifier::Error;
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Durability, TokenLookup};

use super::{Random, child, learn, make, succeeded, whole_messages};

#[test]
fn thirty_two_train_a_database_that_is_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new");
    let children: Vec<_> = (0..32)
        .map(|n| {
            let mut child = child(&folder, &format!("train {} 5", n * 5));
            child.stdout(Stdio::null()).stderr(Stdio::piped());
            child.spawn().unwrap()
        })
        .collect();
    for child in children {
        succeeded(child.wait_with_output().unwrap());
    }
    assert_eq!(whole_messages(&folder), 32 * 5);
}

#[test]
fn of_many_imports_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..8)
        .map(|n| {
            let mut child = child(dir.path(), &format!("import {n}"));
            child.stdout(Stdio::piped()).stderr(Stdio::piped());
            child.spawn().unwrap()
        })
        .collect();
    let said = children
        .into_iter()
        .map(|child| succeeded(child.wait_with_output().unwrap()));
    let imported: Vec<_> = said
        .filter_map(|said| Some(said.split_once("<imported ")?.1.as_bytes()[0]))
        .collect();
    assert_eq!(imported.len(), 1);
    let store = Lmdb::open(dir.path(), &Options::default()).unwrap();
    let trained = store.lookup(&[], &mut Vec::new()).unwrap();
    assert_eq!(trained.ham, u32::from(imported[0] - b'0'));
}

#[test]
fn readers_see_whole_messages_while_others_train() {
    let dir = tempfile::tempdir().unwrap();
    make_empty(dir.path());
    let mut trainer = child(dir.path(), "train 0 300").spawn().unwrap();
    let store = Lmdb::open(dir.path(), &Options::read_only()).unwrap();
    let store = &store;
    let mut seen = 0;
    while trainer.try_wait().unwrap().is_none() {
        let states: Vec<_> = thread::scope(|scope| {
            let look = || {
                let mut counts = Vec::new();
                let tokens = [super::token("word0"), super::token("word299")];
                let trained = store.lookup(&tokens, &mut counts).unwrap();
                assert_eq!([counts[0].ham, counts[1].ham], [trained.ham; 2]);
                trained.ham
            };
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(look)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(
            states.iter().all(|state| *state >= seen),
            "went back in time"
        );
        seen = states[0].min(states[1]);
    }
    assert!(trainer.wait().unwrap().success());
}

fn make_empty(dir: &std::path::Path) {
    drop(Lmdb::open(dir, &Options::default()).unwrap());
}

/// `POSTERN_FAULT_ROUNDS` asks for more moments than these.
#[test]
fn killed_writers_leave_whole_messages_and_no_lock() {
    let rounds = std::env::var("POSTERN_FAULT_ROUNDS").map_or(20, |n| n.parse().unwrap());
    for seed in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let random = &mut Random(seed);
        let mut victims: Vec<_> = (0..2)
            .map(|_| {
                let mut child = child(dir.path(), "train-until-killed");
                child.stdout(Stdio::piped());
                child.spawn().unwrap()
            })
            .collect();
        let mut acknowledged = 0;
        for victim in &mut victims {
            let stdout = victim.stdout.as_mut().unwrap();
            while read_byte(stdout) != Some(b'#') {}
            // Some at once, while the database is being made; the others
            // later, and at any point of a transaction.
            for _ in 0..random.below(2) * random.below(20) {
                acknowledged += u32::from(read_byte(stdout) == Some(b'.'));
            }
            let moment = Duration::from_micros(random.below(6000));
            let began = Instant::now();
            while began.elapsed() < moment {
                std::hint::spin_loop();
            }
            victim.kill().unwrap();
        }
        for victim in &mut victims {
            victim.wait().unwrap();
            let mut rest = String::new();
            let stdout = victim.stdout.as_mut().unwrap();
            stdout.read_to_string(&mut rest).unwrap();
            acknowledged += rest.bytes().filter(|byte| *byte == b'.').count() as u32;
        }
        let found = whole_messages(dir.path());
        // Each may have been killed between its commit and saying so.
        let expected = acknowledged..=acknowledged + 2;
        assert!(
            expected.contains(&found),
            "seed {seed}: {found} of {expected:?}"
        );
        succeeded(child(dir.path(), "train 1000 1").output().unwrap());
        assert_eq!(whole_messages(dir.path()), found + 1, "seed {seed}");
    }
}

fn read_byte(from: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte).ok().map(|()| byte[0])
}

#[test]
fn killed_readers_do_not_make_the_file_grow() {
    let train = |dir: &std::path::Path| {
        let mut store = Lmdb::open(dir, &Options::default()).unwrap();
        for _ in 0..100 {
            learn(&mut store, 0, Durability::Relaxed).unwrap();
        }
        drop(store);
        fs::metadata(Lmdb::path(dir)).unwrap().len()
    };
    let undisturbed = tempfile::tempdir().unwrap();
    make(undisturbed.path(), 10, 0);
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 10, 0);
    for _ in 0..3 {
        let mut reader = child(dir.path(), "read-until-killed");
        let reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut reader = reader.spawn().unwrap();
        while read_byte(reader.stdout.as_mut().unwrap()) != Some(b'#') {}
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
    assert_eq!(train(dir.path()), train(undisturbed.path()));
}

#[test]
fn waits_for_the_writer_no_longer_than_agreed() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1, 0);
    let mut lock = File::options();
    let mut lock = lock
        .write(true)
        .open(dir.path().join("bmf.mdb-writer"))
        .unwrap();
    lock.lock().unwrap();
    write!(lock, "{:<10}", 4711).unwrap();
    // Not so for readers.
    assert!(succeeded(child(dir.path(), "score").output().unwrap()).contains("<1 1 0>"));
    let output = child(dir.path(), "train-impatiently").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("locked") && errors.contains("process 4711"),
        "{errors}"
    );
    lock.unlock().unwrap();
    succeeded(child(dir.path(), "train-impatiently").output().unwrap());
}

#[test]
fn readers_beyond_the_table_get_a_place_when_one_is_free() {
    const PLACES: usize = 1024;
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1, 0);
    let options = Options {
        lock_wait: Duration::from_millis(50),
        ..Options::read_only()
    };
    let store = Lmdb::open(dir.path(), &options).unwrap();
    let look = || store.lookup(&[], &mut Vec::new());
    let (taken, tried) = (Barrier::new(PLACES), Barrier::new(PLACES));
    thread::scope(|scope| {
        // Opening took the first place, on this thread.
        for _ in 1..PLACES {
            let reader = thread::Builder::new().stack_size(64 * 1024);
            let reader = reader.spawn_scoped(scope, || {
                let found = look().map(|trained| trained.ham);
                taken.wait();
                tried.wait();
                assert_eq!(found.unwrap(), 1);
            });
            reader.unwrap();
        }
        taken.wait();
        let late = scope.spawn(look).join().unwrap();
        tried.wait();
        assert!(matches!(late, Err(Error::Locked { .. })), "{late:?}");
    });
    assert_eq!(
        thread::scope(|scope| scope.spawn(look).join().unwrap())
            .unwrap()
            .ham,
        1
    );
}
