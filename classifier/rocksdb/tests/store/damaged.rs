//! Damaged files: an error that names the database, or whole messages; never
//! a panic. A log or a manifest that is cut short cannot be told from one that
//! a crash left, and opens in the state of an earlier moment.

use std::fs;
use std::path::{Path, PathBuf};

use classifier::Error;
use classifier::store::{Durability, TokenStore};
use classifier_rocksdb::{HostStore, Options};
use proptest::prelude::*;

use super::{listed, options, spam};

const USERS: [&str; 2] = ["ann", "bob"];
const MESSAGES: u32 = 60;

/// A database with tables, and with messages that only the log has: one log,
/// since nothing here fills the write buffer of an admin who chose nothing.
fn filled(dir: &Path) -> PathBuf {
    let path = dir.join("filled");
    let host = HostStore::open(&path, &Options::default()).unwrap();
    for part in 0..2 {
        for message in 0..MESSAGES / 2 {
            let words: Vec<_> = (0..20).map(|n| format!("w{part}-{message}-{n}")).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            for name in USERS {
                let durability = Durability::Relaxed;
                host.user(name).apply(&spam(&words), durability).unwrap();
            }
        }
        if part == 0 {
            // Writes a table.
            host.checkpoint(&dir.join("checkpoint")).unwrap();
        }
    }
    path
}

/// Opens the database and reads all of it; the number of messages found.
fn read_all(path: &Path) -> Result<u32, Error> {
    let host = HostStore::open(path, &options())?;
    let mut messages = 0;
    for name in host.users()? {
        let (trained, rows) = listed(&host.user(&name))?;
        assert_eq!(rows.len(), trained.spam as usize * 20, "of {name}");
        messages += trained.spam;
    }
    Ok(messages)
}

/// A copy of the folder `from`.
fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

/// The largest file in `dir` whose name holds `part`.
fn find(dir: &Path, part: &str) -> PathBuf {
    fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().contains(part))
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap()
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

fn cut_in_half(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

fn empty(file: &Path) {
    fs::write(file, []).unwrap();
}

fn overwrite(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let (start, end) = (bytes.len() / 4, bytes.len() / 2);
    bytes[start..end].fill(b'Z');
    fs::write(file, &bytes).unwrap();
}

#[test]
fn damage_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path());
    assert_eq!(read_all(copied(&filled).path()).unwrap(), 2 * MESSAGES);

    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 4] = [
        ("remove", remove),
        ("cut", cut_in_half),
        ("empty", empty),
        ("overwrite", overwrite),
    ];
    for part in ["CURRENT", "MANIFEST-", ".sst", ".log"] {
        for (harm, damage) in harms {
            let copy = copied(&filled);
            damage(&find(copy.path(), part));
            let result = read_all(copy.path());
            let may_be_a_crash = match part {
                ".log" => harm == "cut" || harm == "empty",
                // RocksDB then knows the tables of an earlier moment.
                "MANIFEST-" => harm == "cut",
                _ => false,
            };
            if may_be_a_crash {
                let found = result.unwrap();
                assert!(found < 2 * MESSAGES, "{harm} {part}: {found}");
                continue;
            }
            let error = result.expect_err(&format!("{harm} {part}"));
            assert!(
                matches!(error, Error::Damaged { .. }),
                "{harm} {part}: {error:?}"
            );
            let place = copy.path().to_str().unwrap();
            assert!(error.to_string().contains(place), "{error}");
        }
    }
}

/// With a record so marked, RocksDB alone would never come back.
#[test]
fn a_record_of_a_recycled_log_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path());
    for part in ["MANIFEST-", ".log"] {
        let copy = copied(&filled);
        let file = find(copy.path(), part);
        let mut bytes = fs::read(&file).unwrap();
        let first_len = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        let second_kind = 7 + first_len + 6;
        bytes[second_kind] |= 4;
        fs::write(&file, bytes).unwrap();
        let error = read_all(copy.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_file_is_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    let error = read_all(&file).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

/// Any bytes anywhere. An abort inside RocksDB would end this test too.
#[test]
fn random_damage_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path());
    let damage = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let bytes = proptest::collection::vec(any::<u8>(), 1..200);
    proptest!(ProptestConfig { cases: 30, failure_persistence: None, ..Default::default() },
        |((file, offset) in damage, bytes in bytes)| {
        let copy = copied(&filled);
        let files: Vec<_> = fs::read_dir(copy.path()).unwrap().map(|f| f.unwrap().path()).collect();
        let file = file.get(&files);
        let mut contents = fs::read(file).unwrap();
        let offset = offset.index(contents.len().max(1));
        for (to, byte) in contents.iter_mut().skip(offset).zip(bytes) {
            *to = byte;
        }
        fs::write(file, contents).unwrap();
        match read_all(copy.path()) {
            Ok(found) => prop_assert!(found <= 2 * MESSAGES),
            Err(error) => prop_assert!(!error.is_transient(), "{error}"),
        }
    });
}
