//! Files that are not what they should be: always an answer or a clear
//! error, never the end of the process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use classifier::Error;
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Durability, TokenLookup};

use super::{Random, child, learn, make, succeeded};

/// How many damaged copies `overwritten_anywhere` tries. `POSTERN_FAULT_ROUNDS`
/// asks for more.
const ROUNDS: u64 = 300;

#[test]
fn overwritten_anywhere() {
    let rounds = std::env::var("POSTERN_FAULT_ROUNDS").map_or(0, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    make(&sound, 3, 12_000);
    let (mut n_answers, mut n_errors, mut n_faults) = (0, 0, 0);
    for seed in 0..rounds.max(ROUNDS) {
        let copy = dir.path().join(seed.to_string());
        fs::create_dir(&copy).unwrap();
        fs::copy(Lmdb::path(&sound), Lmdb::path(&copy)).unwrap();
        damage(&Lmdb::path(&copy), &mut Random(seed));
        match outcome(&copy, seed) {
            errors if errors.is_empty() => n_answers += 1,
            errors if errors.contains("using it ended in") => n_faults += 1,
            _ => n_errors += 1,
        }
        fs::remove_dir_all(copy).unwrap();
    }
    let found = [n_answers, n_errors, n_faults];
    assert!(found.iter().all(|n| *n > 0), "too tame: {found:?}");
}

fn damage(path: &Path, random: &mut Random) {
    let file = File::options().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    if random.below(8) == 0 {
        file.set_len(random.below(len)).unwrap();
    }
    for _ in 0..random.below(20) {
        let n = [1, 2, 8, 64, 4096][random.below(5) as usize];
        let fill = random.below(4);
        let bytes: Vec<_> = (0..n)
            .map(|_| match fill {
                0 => 0,
                1 => 255,
                _ => random.below(256) as u8,
            })
            .collect();
        // Half of them where pages have their headers and offsets.
        let mut at = random.below(len);
        if random.below(2) == 0 {
            at = at / 4096 * 4096 + random.below(160);
        }
        file.write_all_at(&bytes, at).unwrap();
    }
}

/// What a child complains of that uses the database in every way.
fn outcome(dir: &Path, seed: u64) -> String {
    let mut command = child(dir, "use");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    // coreutils' bound against a loop without end.
    let mut bounded = std::process::Command::new("timeout");
    bounded
        .arg("20")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        bounded.env(name, value.unwrap());
    }
    let output = bounded.stdout(Stdio::null()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.signal(), None, "seed {seed}: {errors}");
    let code = output.status.code().unwrap();
    assert!(code == 0 || code == 2, "seed {seed}: {code} {errors}");
    assert_eq!(code == 2, !errors.is_empty(), "seed {seed}: {errors}");
    errors
}

#[test]
fn faults_of_the_program_itself_are_not_hidden() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["abort-unguarded", "overflow-unguarded"] {
        let output = child(dir.path(), command).output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{command}");
        if command == "overflow-unguarded" {
            let errors = String::from_utf8(output.stderr).unwrap();
            assert!(errors.contains("has overflowed its stack"), "{errors}");
        }
    }
}

fn open_error(dir: &Path) -> Error {
    Lmdb::open(dir, &Options::read_only()).unwrap_err()
}

#[test]
fn says_what_is_wrong_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1, 3000);
    let path = Lmdb::path(dir.path());
    let sound = fs::read(&path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        let error = open_error(dir.path());
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(b"# bogofilter wordlist", "shorter than its header");
    check(&[b'x'; 10_000], "no LMDB file");
    check(&sound[..4200], "second page of its header");
    check(&sound[..sound.len() / 2], "truncated");
    let mut no_page_size = sound.clone();
    no_page_size[40..44].fill(0);
    check(&no_page_size, "no LMDB file");
    fs::write(&path, &sound).unwrap();
    assert!(Lmdb::open(dir.path(), &Options::read_only()).is_ok());
}

#[test]
fn refuses_other_programs_and_newer_versions() {
    let dir = tempfile::tempdir().unwrap();
    let put = |key: &[u8], value: &[u8]| {
        let mut options = heed::EnvOpenOptions::new();
        // SAFETY: nobody else has this file.
        #[allow(unsafe_code)]
        let env = unsafe {
            options.flags(heed::EnvFlags::NO_SUB_DIR);
            options.open(Lmdb::path(dir.path())).unwrap()
        };
        let mut txn = env.write_txn().unwrap();
        let table: heed::Database<heed::types::Bytes, heed::types::Bytes> =
            env.create_database(&mut txn, None).unwrap();
        table.put(&mut txn, key, value).unwrap();
        txn.commit().unwrap();
    };
    put(b"key", b"value");
    let error = open_error(dir.path());
    assert!(error.to_string().contains("another program"), "{error}");
    put(b"\0bmf", b"\x02\0\0\0classic");
    let error = open_error(dir.path());
    assert!(
        matches!(
            error,
            Error::NewerFormat {
                found: 2,
                newest: 1,
                ..
            }
        ),
        "{error}"
    );
    put(b"\0bmf", b"\x01\0\0\0classic");
    assert!(Lmdb::open(dir.path(), &Options::read_only()).is_ok());
    put(b"\0messages", b"many");
    let store = Lmdb::open(dir.path(), &Options::read_only()).unwrap();
    let error = store.lookup(&[], &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("message counts"), "{error}");
}

#[test]
fn one_process_opens_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = Lmdb::open(dir.path(), &Options::default()).unwrap();
    let error = open_error(dir.path());
    assert!(error.to_string().contains("open already"), "{error}");
    drop(first);
    assert!(Lmdb::open(dir.path(), &Options::default()).is_ok());
}

#[test]
fn belongs_to_the_engine_that_first_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let modern = Options {
        engine: "modern",
        ..Options::default()
    };
    let mut store = Lmdb::open(dir.path(), &modern).unwrap();
    // Not the one that first opened.
    succeeded(child(dir.path(), "train 0 1").output().unwrap());
    let error = learn(&mut store, 0, Durability::Relaxed).unwrap_err();
    let Error::OtherEngine { found, wanted, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((found.as_str(), wanted.as_str()), ("classic", "modern"));
    drop(store);
    let error = Lmdb::open(dir.path(), &modern).unwrap_err();
    assert!(matches!(error, Error::OtherEngine { .. }), "{error}");
    assert_eq!(super::whole_messages(dir.path()), 1);
}

#[test]
fn a_file_without_content_is_a_new_one() {
    for blank in [&[][..], &[0; 4096], &[0; 8192]] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(Lmdb::path(dir.path()), blank).unwrap();
        let store = Lmdb::open(dir.path(), &Options::read_only()).unwrap();
        assert!(store.is_new().unwrap());
        assert_eq!(store.lookup(&[], &mut Vec::new()).unwrap().ham, 0);
        drop(store);
        let mut store = Lmdb::open(dir.path(), &Options::default()).unwrap();
        learn(&mut store, 0, Durability::Synced).unwrap();
        assert!(!store.is_new().unwrap());
        drop(store);
        assert_eq!(super::whole_messages(dir.path()), 1);
    }
}

#[test]
fn a_lock_file_may_be_missing_or_foreign() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1, 0);
    let lock = dir.path().join("bmf.mdb-lock");
    fs::remove_file(&lock).unwrap();
    succeeded(child(dir.path(), "score").output().unwrap());
    for content in [&b"x"[..], &[7; 100_000]] {
        fs::write(&lock, content).unwrap();
        succeeded(child(dir.path(), "train 1 1").output().unwrap());
    }
    assert_eq!(super::whole_messages(dir.path()), 3);
}
