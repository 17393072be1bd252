//! What our bmf adds to the original's command line, and how it ends where the
//! original does not end well: JSON, bounded waits, damaged databases, readers
//! that go away.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::differential::{Format, Pair};
use tests::run::{Input, Outcome, run, scratch};

const SPAM: &[u8] = b"Subject: cheap watches\n\nBuy cheap cheap watches now\n";
const FORGED: &[u8] = b"X-Spam-Status: No, forged\nSubject: cheap watches\n\nBuy!\n";
const PASSED: &[u8] = b"Subject: cheap watches\n\nBuy!\n";

fn bmf(format: Format, database: &Path, options: &[&str]) -> Command {
    let mut bmf = Pair::Ours.bmf();
    bmf.args(["-f", format.name(), "-d"])
        .arg(database)
        .args(options);
    bmf
}

fn trained(format: Format) -> tempfile::TempDir {
    let folder = scratch();
    for _ in 0..3 {
        let outcome = run(&mut bmf(format, folder.path(), &["-s"]), Input::Bytes(SPAM));
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    }
    folder
}

/// The message passes without any verdict, and one line holds `reason`.
#[track_caller]
fn assert_passed(outcome: &Outcome, code: i32, reason: &str) {
    assert_eq!(outcome.code(), code, "{outcome:?}");
    assert_eq!(outcome.stdout, PASSED);
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains(reason), "{outcome:?}");
}

#[test]
fn json_is_one_object_for_each_message() {
    let folder = trained(Format::Db);
    let mbox = b"From a\nSubject: cheap\n\ncheap words\nFrom b\nSubject: hello\n\nhello words\n";
    let outcome = run(
        &mut bmf(Format::Db, folder.path(), &["-t", "--json"]),
        Input::Bytes(mbox),
    );
    assert_eq!(outcome.stdout_text(), VERDICTS);
    assert_eq!(outcome.code(), 1);
}

/// Fields are only ever added within a version.
const VERDICTS: &str = r#"{"type":"verdict","version":1,"engine":"classic","verdict":"spam","hits":0.9850746268656716,"required":0.9,"tokens":[{"token":"words","spamicity":0.4,"ham":0,"spam":0},{"token":"cheap","spamicity":0.99,"ham":0,"spam":9}]}
{"type":"verdict","version":1,"engine":"classic","verdict":"ham","hits":0.2285714285714286,"required":0.9,"tokens":[{"token":"words","spamicity":0.4,"ham":0,"spam":0},{"token":"hello","spamicity":0.4,"ham":0,"spam":0},{"token":"subject","spamicity":0.4,"ham":0,"spam":0}]}
"#;

#[test]
fn a_locked_database_is_waited_for_no_longer_than_agreed() {
    for (format, lock) in [(Format::Text, "lists.lock"), (Format::Db, "bmf.mdb-writer")] {
        let folder = trained(format);
        let lock = File::create(folder.path().join(lock)).unwrap();
        lock.lock().unwrap();
        for (option, code) in [("--lock-wait=0", 2), ("--temp-fail", 75)] {
            let options = ["-s", "-p", "--lock-wait", "0", option];
            let mut learning = bmf(format, folder.path(), &options);
            let refused = run(&mut learning, Input::Bytes(FORGED));
            assert_passed_with_verdict(&refused, code);
        }
        drop(lock);
        let learned = run(&mut bmf(format, folder.path(), &["-s"]), Input::Bytes(SPAM));
        assert_eq!(learned.code(), 0, "{learned:?}");
    }
}

/// What the user said stands in the header also when it could not be kept, the
/// forged field does not.
#[track_caller]
fn assert_passed_with_verdict(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.code(), code, "{outcome:?}");
    let stdout = outcome.stdout_text();
    assert!(!stdout.contains("forged"), "{stdout}");
    assert!(stdout.ends_with("\n\nBuy!\n"), "{stdout}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains("is locked: waited 0 s"),
        "{outcome:?}"
    );
}

#[test]
fn temp_fail_leaves_other_failures_alone() {
    let folder = scratch();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    for format in [Format::Text, Format::Db] {
        let mut bmf = bmf(format, &file, &["-p", "--temp-fail"]);
        assert_passed(&run(&mut bmf, Input::Bytes(FORGED)), 2, "file");
    }
}

/// Changes the bytes of a file.
type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_or_newer_database_is_named_and_the_message_passes() {
    let damages: [(Damage, &str); 4] = [
        (|bytes| bytes.truncate(bytes.len() / 2), "damaged"),
        (|bytes| bytes.truncate(100), "damaged"),
        (|bytes| bytes.fill(b'x'), "damaged"),
        (|bytes| raise_version(bytes), "format version 2"),
    ];
    for (damage, reason) in damages {
        let folder = trained(Format::Db);
        let path = folder.path().join("bmf.mdb");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        for mode in ["-pt", "-p", "-ps"] {
            let mut bmf = bmf(Format::Db, folder.path(), &[mode]);
            assert_passed(&run(&mut bmf, Input::Bytes(FORGED)), 2, reason);
        }
        assert!(
            fs::read(&path).unwrap() == bytes,
            "{reason}: it was changed"
        );
    }
    let folder = trained(Format::Text);
    let path = folder.path().join("spamlist.txt");
    let list = fs::read_to_string(&path).unwrap();
    for damaged in [
        list.replace("version A", "version B"),
        list[..list.len() - 1].into(),
    ] {
        fs::write(&path, damaged).unwrap();
        let mut bmf = bmf(Format::Text, folder.path(), &["-p"]);
        assert_passed(
            &run(&mut bmf, Input::Bytes(FORGED)),
            2,
            "spamlist.txt is damaged",
        );
    }
}

/// In the record that says what the file is.
fn raise_version(bytes: &mut [u8]) {
    let record = b"\x01\0\0\0classic";
    let starts = 0..bytes.len() - record.len();
    let found: Vec<_> = starts.filter(|n| bytes[*n..].starts_with(record)).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at] = 2;
    }
}

#[test]
fn a_reader_that_goes_away_wants_no_complaint() {
    let folder = trained(Format::Db);
    let mut child = bmf(Format::Db, folder.path(), &["-p", "-t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    // It may end before it has read all.
    let _ = stdin.write_all(&SPAM.repeat(100_000));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stderr, b"");
    assert_eq!(output.status.code(), Some(2));
}
