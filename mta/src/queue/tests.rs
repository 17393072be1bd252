//! The queue on a disk that fails, on one that loses power, and on a real one.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::time::SystemTime;

use super::disk::{Disk, Folder};
use super::format::tests::entry;
use super::testing::{Fault, Memory};
use super::{Event, Ids, Queue, Record, State, id_of};

/// What was promised of a message, and from which operation on.
#[derive(Clone, Debug)]
struct Promise {
    message: Vec<u8>,
    /// After how many operations it was accepted.
    accepted: usize,
    /// After how many the recipient was noted as done.
    noted: Option<usize>,
    /// After how many it began to be removed.
    removing: Option<usize>,
}

type Promises = BTreeMap<String, Promise>;

/// A queue at work: messages come, are tried, done, and go, by seed. Failures
/// are lived with.
fn work(disk: &Memory, seed: u64, n_steps: u64) -> Promises {
    let queue = Queue::new(disk.clone());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut promises = Promises::new();
    for step in 0..n_steps {
        let open: Vec<String> = promises
            .iter()
            .filter(|(_, promise)| promise.removing.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        if open.is_empty() || random.u8(..) < 100 {
            let message =
                format!("Subject: {step}\n\n{}", "x".repeat(random.usize(..50))).into_bytes();
            let id = id_of(step);
            let accepted = queue.accept(
                &entry(&["b@example.net"]),
                &[&message[..3], &message[3..]],
                &id,
            );
            if accepted.is_ok() {
                let promise = Promise {
                    message,
                    accepted: disk.n_ops(),
                    noted: None,
                    removing: None,
                };
                promises.insert(id, promise);
            }
            continue;
        }
        let id = random.choice(&open).unwrap();
        let promise = promises.get_mut(id).unwrap();
        let Ok(Some(mut taken)) = queue.take(id) else {
            panic!("{id} is lost");
        };
        if taken.entry.is_finished() {
            promise.removing = Some(disk.n_ops());
            let _ = queue.remove(taken);
            continue;
        }
        let event = match random.bool() {
            true => Event::Done(0, "ok".into()),
            false => Event::Deferred(0, step + 100, "later".into()),
        };
        let is_done = matches!(event, Event::Done(..));
        if taken.note(&[Record { at: step, event }]).is_ok() && is_done {
            promise.noted = Some(disk.n_ops());
        }
    }
    promises
}

/// What was promised before operation `n` must be on the disk.
fn check(disk: &Memory, promises: &Promises, n: usize, context: &str) {
    let queue = Queue::new(disk.clone());
    for (id, promise) in promises {
        if promise.accepted > n {
            continue;
        }
        let found = queue
            .take(id)
            .unwrap_or_else(|error| panic!("{context}: {id}: {error}"));
        let Some(taken) = found else {
            assert!(
                promise.removing.is_some_and(|removing| removing < n),
                "{context}: {id} is lost"
            );
            continue;
        };
        let mut message = Vec::new();
        taken.message().read_to_end(&mut message).unwrap();
        assert_eq!(message, promise.message, "{context}: {id}");
        let is_done = matches!(taken.entry.recipients[0].state, State::Done(_));
        assert!(
            is_done || promise.noted.is_none_or(|noted| noted > n),
            "{context}: {id} comes twice"
        );
    }
}

#[test]
fn nothing_promised_is_lost_in_any_power_cut() {
    for seed in 0..20 {
        let disk = Memory::default();
        let promises = work(&disk, seed, 60);
        assert!(
            (100..=400).contains(&disk.n_ops()),
            "{} operations",
            disk.n_ops()
        );
        let mut random = fastrand::Rng::with_seed(seed);
        for n in 0..=disk.n_ops() {
            let context = format!("seed {seed}, cut after {n}");
            check(&disk.after_cut(n, &mut |_| 0), &promises, n, &context);
            check(&disk.after_cut(n, &mut |all| all), &promises, n, &context);
            let mut any = |all: usize| random.usize(..=all);
            check(&disk.after_cut(n, &mut any), &promises, n, &context);
        }
    }
}

/// The harness itself: without the syncs it finds losses.
#[test]
fn a_disk_that_does_not_sync_is_caught() {
    let disk = Memory::default();
    let queue = Queue::new(disk.clone());
    let id = id_of(7);
    queue
        .accept(&entry(&["b@example.net"]), &[b"x"], &id)
        .unwrap();
    let n = disk.n_ops();
    let whole = |cut: usize| {
        Queue::new(disk.after_cut(cut, &mut |_| 0))
            .take(&id)
            .is_ok_and(|taken| taken.is_some())
    };
    assert!(whole(n) && !whole(n - 1) && !whole(0));
}

#[test]
fn nothing_promised_is_lost_when_any_operation_fails_or_kills() {
    for seed in 0..4 {
        for fault in [Fault::Fails, Fault::Killed] {
            for n in 0.. {
                let disk = Memory::default();
                disk.strike(n, fault);
                let promises = work(&disk, seed, 25);
                let struck = disk.heal();
                check(
                    &disk,
                    &promises,
                    usize::MAX,
                    &format!("seed {seed}, {fault:?} at {n}"),
                );
                // What was refused is not there, and what is there was promised.
                let left = Queue::new(disk.clone()).ids().unwrap();
                if fault == Fault::Fails {
                    let unknown = left.iter().filter(|id| !promises.contains_key(*id)).count();
                    assert_eq!(unknown, 0, "seed {seed}, failure at {n}");
                }
                if !struck {
                    assert!(n > 50, "{n}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_half_written_line_does_not_count_and_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(Folder::open(&dir.path().join("queue")).unwrap());
    let id = id_of(7);
    let message: &[u8] = b"no line feed at its end";
    queue
        .accept(&entry(&["b@example.net"]), &[message], &id)
        .unwrap();
    let path = dir.path().join("queue").join(&id);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("5 1 defer 99 later\n6 1 done");
    std::fs::write(&path, text).unwrap();
    let mut taken = queue.take(&id).unwrap().unwrap();
    assert_eq!(taken.entry.next_attempt(), Some(99));
    taken
        .note(&[Record {
            at: 7,
            event: Event::Hold,
        }])
        .unwrap();
    drop(taken);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.ends_with("its end5 1 defer 99 later\n7 * hold\n"),
        "{text}"
    );
    assert_eq!(queue.look(&id).unwrap().unwrap().entry.next_attempt(), None);
}

#[test]
fn one_works_on_a_message_at_a_time_and_others_may_look() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(Folder::open(dir.path()).unwrap());
    let other = Queue::new(Folder::open(dir.path()).unwrap());
    let ids = Ids::default();
    let accept = |queue: &Queue| {
        let id = ids.next(SystemTime::UNIX_EPOCH);
        queue
            .accept(&entry(&["b@example.net"]), &[b"x"], &id)
            .unwrap();
        id
    };
    let (first, second) = (accept(&queue), accept(&other));
    assert!(first < second, "the same microsecond gives two names");
    let again = queue.accept(&entry(&["b@example.net"]), &[b"y"], &first);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let taken = queue.take(&first).unwrap().unwrap();
    assert!(other.take(&first).unwrap().is_none());
    assert!(other.look(&first).unwrap().is_some());
    queue.remove(taken).unwrap();
    assert!(other.take(&first).unwrap().is_none());
    assert!(other.look(&first).unwrap().is_none());
    assert_eq!(other.ids().unwrap(), [second]);
    assert!(queue.take("../etc/pass").unwrap().is_none());
}

#[test]
fn what_is_no_queue_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(Folder::open(dir.path()).unwrap());
    for (n, text) in [
        "",
        "postern queue 1\n\n",
        "x\n\n",
        "postern queue 1\nfrom <>\nto <a@b>\nsize 9\n\nshort",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("0000000000{n}");
        std::fs::write(dir.path().join(&id), text).unwrap();
        let error = queue.take(&id).unwrap_err().to_string();
        assert!(error.contains(&id), "{error}");
    }
    std::fs::write(dir.path().join("README"), "").unwrap();
    assert_eq!(queue.ids().unwrap().len(), 4);
    assert_eq!(queue.disk().names().unwrap().len(), 5);
}
