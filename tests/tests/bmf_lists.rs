//! Databases that Debian's bmf made, read by ours: its Berkeley DB lists, the
//! same in the other byte order, its export, and text lists that people edit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use fastrand::Rng;

use tests::programs::{built, peer};
use tests::run::{Input, Outcome, run, scratch};

const HEADER: &str = "# bogofilter wordlist (format version A):";

/// `n` different words of 3 to 20 letters, as a message.
fn words(n: usize, seed: u64) -> String {
    let mut rng = Rng::with_seed(seed);
    let words: BTreeMap<String, ()> = (0..n)
        .map(|number| {
            let letters: String = (0..rng.usize(0..14)).map(|_| rng.lowercase()).collect();
            // Letters of base 16, so that no two are the same.
            let number: String = format!("{number:05x}")
                .chars()
                .map(|c| (b'g' + c.to_digit(16).unwrap() as u8) as char)
                .collect();
            (format!("{letters}{number}"), ())
        })
        .collect();
    let lines: Vec<_> = words.into_keys().collect();
    format!("Subject: words\n\nfirst {}\n", lines.join(" first "))
}

/// A folder with the Berkeley DB lists of Debian's bmf, which it was taught
/// `n_words` of ham and half as many of spam.
fn learned(dir: &Path, n_words: usize) {
    for (mode, n, seed) in [("-n", n_words, 1), ("-s", n_words / 2, 2), ("-s", 10, 1)] {
        let mail = words(n, seed);
        let mut bmf = peer("bmf");
        bmf.arg(mode).args(["-f", "db", "-d"]).arg(dir);
        let code = run(&mut bmf, Input::Bytes(mail.as_bytes())).code();
        assert_eq!(code, i32::from(mode == "-n"));
    }
}

/// The lists that `bmfconv -e` makes of the database in `dir`.
fn exported(mut bmfconv: Command, dir: &Path) -> [Vec<u8>; 2] {
    let current = scratch();
    bmfconv.arg("-e").arg("-d").arg(dir).current_dir(&current);
    let outcome = run(&mut bmfconv, Input::Empty);
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    ["goodlist.txt", "spamlist.txt"].map(|name| fs::read(current.path().join(name)).unwrap())
}

fn ours() -> Command {
    Command::new(built("bmfconv"))
}

#[test]
fn a_large_berkeley_database_is_imported_to_the_last_count() {
    let dir = scratch();
    learned(dir.path(), 120_000);
    let files = ["goodlist.db", "spamlist.db"].map(|name| dir.path().join(name));
    let before = files.each_ref().map(|file| fs::read(file).unwrap());
    let expected = exported(peer("bmfconv"), dir.path());
    assert!(expected[0].iter().filter(|c| **c == b'\n').count() > 120_000);
    let old = files.each_ref().map(|file| fs::read(file).unwrap());
    assert!(old == before, "bmfconv -e changes nothing");
    assert!(exported(ours(), dir.path()) == expected);
    // Imported by then, once; the old files are as they were.
    assert!(dir.path().join("bmf.mdb").exists());
    assert!(exported(ours(), dir.path()) == expected);
    assert!(files.each_ref().map(|file| fs::read(file).unwrap()) == before);
}

#[test]
fn a_berkeley_database_of_the_other_byte_order_is_imported() {
    let (dir, other) = (scratch(), scratch());
    learned(dir.path(), 5_000);
    for name in ["goodlist.db", "spamlist.db"] {
        let mut dump = peer("db5.3_dump");
        let dumped = run(dump.arg(dir.path().join(name)), Input::Empty);
        assert_eq!(dumped.code(), 0, "{}", dumped.stderr);
        let swapped = swap_counts(&String::from_utf8(dumped.stdout).unwrap());
        let mut load = peer("db5.3_load");
        load.args(["-c", "db_lorder=4321"])
            .arg(other.path().join(name));
        let loaded = run(&mut load, Input::Bytes(swapped.as_bytes()));
        assert_eq!(loaded.code(), 0, "{}", loaded.stderr);
    }
    assert!(exported(ours(), other.path()) == exported(peer("bmfconv"), dir.path()));
}

/// A dump with the bytes of each value reversed: db5.3_load knows the order
/// of libdb's own numbers only.
fn swap_counts(dump: &str) -> String {
    let (mut is_value, mut swapped) = (false, String::new());
    for line in dump.lines() {
        match line.strip_prefix(' ') {
            Some(value) if is_value => {
                let bytes: Vec<_> = (0..4).rev().map(|n| &value[2 * n..][..2]).collect();
                swapped += &format!(" {}\n", bytes.concat());
            }
            _ => swapped += &format!("{line}\n"),
        }
        is_value = line.starts_with(' ') && !is_value;
    }
    swapped
}

#[test]
fn of_many_at_once_one_imports_and_all_see_it() {
    let dir = scratch();
    learned(dir.path(), 2_000);
    let text = exported(peer("bmfconv"), dir.path());
    let expected = scored(dir.path(), &text);
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut bmf = Command::new(built("bmf"));
                    bmf.args(["-t", "-f", "db", "-d"]).arg(dir.path());
                    run(&mut bmf, Input::Bytes(words(40, 1).as_bytes()))
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for outcome in &outcomes {
        assert!(outcome.stdout == expected, "{}", outcome.stderr);
    }
    let n_notes = outcomes.iter().filter(|o| o.stderr.contains("imported"));
    assert_eq!(n_notes.count(), 1);
}

/// The report of Debian's bmf with these text lists, which lie beside `dir`.
fn scored(dir: &Path, lists: &[Vec<u8>; 2]) -> Vec<u8> {
    let text = dir.join("text");
    fs::create_dir(&text).unwrap();
    for (name, list) in ["goodlist.txt", "spamlist.txt"].iter().zip(lists) {
        fs::write(text.join(name), list).unwrap();
    }
    let mut bmf = peer("bmf");
    bmf.args(["-t", "-f", "text", "-d"]).arg(&text);
    run(&mut bmf, Input::Bytes(words(40, 1).as_bytes())).stdout
}

/// What a person may make of a list: the same result, or refused by both.
#[test]
fn edited_text_lists_are_read_as_bmf_reads_them() {
    let lines = [
        "",
        "foo 3\n",
        "foo 3\r\n",
        "FOO 3\nZebra 9\n",
        "; note\n#x 3\nfoo 3\n\n",
        "foo x\n",
        "foo 3x\n",
        "foo  7\n",
        "foo \t3\n",
        "foo 1 2\n",
        "foo -3\n",
        "foo +05\n",
        "foo 4294967296\n",
        "quux 99999999999999999999\n",
        "aaaaaaaaaaaaaaaaaaaa 3\n",
        "f\u{e9}o 3\n",
        // Refused.
        "foo 3",
        "foo\n",
        "foo\t9\n",
        " 3\n",
        "aaaaaaaaaaaaaaaaaaaaa 3\n",
    ];
    let lists = lines.iter().map(|lines| format!("{HEADER} 7\n{lines}"));
    let headers = [
        String::new(),
        format!("{HEADER}7\nfoo 3\n"),
        format!("{HEADER}  7 8\r\nfoo 3\n"),
        format!("{HEADER} -2\nfoo 3\n"),
        format!("{HEADER} 4294967296\nfoo 3\n"),
        format!("{HEADER} x\nfoo 3\n"),
        "foo 3\n".into(),
        format!(";c\n{HEADER} 7\n"),
        "# bogofilter wordlist (format version B): 7\n".into(),
    ];
    for list in lists.chain(headers) {
        for mode in ["-n", "-S", "-t"] {
            let (theirs, ours) = [peer("bmf"), Command::new(built("bmf"))]
                .map(|bmf| edited(bmf, mode, &list))
                .into();
            assert_eq!(ours, theirs, "bmf {mode} with {list:?}");
        }
    }
}

/// Exit code, standard output and the lists after a run with `list` as the
/// ham list.
fn edited(mut bmf: Command, mode: &str, list: &str) -> (i32, String, [Vec<u8>; 2]) {
    let dir = scratch();
    fs::write(dir.path().join("goodlist.txt"), list).unwrap();
    bmf.args([mode, "-f", "text", "-d"]).arg(dir.path());
    let outcome = run(
        &mut bmf,
        Input::Bytes(b"Subject: hello\n\nfoo bar bazzle Foo zebra\n"),
    );
    let read = |name| fs::read(dir.path().join(name)).unwrap_or_default();
    (
        outcome.code(),
        String::from_utf8(outcome.stdout.clone()).unwrap(),
        ["goodlist.txt", "spamlist.txt"].map(read),
    )
}
