//! Every message of the corpora, scored and passed through by our bmf and by
//! Debian's against databases trained on part of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use tests::differential::{Format, Pair, comparable, has_late_mark, lists};
use tests::programs::corpus;
use tests::run::{Input, run, scratch};

const CORPORA: [&str; 3] = ["spamassassin", "csdmc2010", "badmime"];

#[test]
fn every_message_scores_on_text_lists_as_with_the_original() {
    // The original reads the whole lists for each message: they stay small.
    compare(Format::Text, 60, 1);
}

#[test]
fn every_third_message_scores_on_a_database_as_with_the_original() {
    compare(Format::Db, 20, 3);
}

/// Trains both programs on every `train_every`-th message, compares what they
/// learned, and then what they say of every `score_every`-th message.
fn compare(format: Format, train_every: usize, score_every: usize) {
    let messages: Vec<_> = CORPORA
        .iter()
        .filter_map(|name| corpus(name))
        .flat_map(|folder| files_below(&folder))
        .collect();
    if messages.is_empty() {
        return;
    }
    let folder = scratch();
    let originals = folder.path().join("original");
    let ours = folder.path().join("ours");
    thread::scope(|scope| {
        scope.spawn(|| train(Pair::Original, format, &originals, &messages, train_every));
        scope.spawn(|| train(Pair::Ours, format, &ours, &messages, train_every));
    });
    assert!(
        lists(Pair::Ours, format, &ours) == lists(Pair::Original, format, &originals),
        "the lists differ after training every {train_every}th message"
    );

    let differing = Mutex::new(Vec::new());
    let next = Mutex::new(messages.iter().step_by(score_every).enumerate());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some((number, message)) = { next.lock().unwrap().next() } {
                    // Report and passthrough in one; now and then without
                    // `-p`, for the exit code, which repeats the report.
                    let mbox = has_late_mark(&fs::read(message).unwrap());
                    let options = if mbox || number % 10 == 0 {
                        "-t"
                    } else {
                        "-tp"
                    };
                    let said = |pair, database| score(pair, format, database, message, options);
                    if said(Pair::Ours, &ours) != said(Pair::Original, &originals) {
                        differing.lock().unwrap().push(message);
                    }
                }
            });
        }
    });
    let differing = differing.into_inner().unwrap();
    assert!(
        differing.is_empty(),
        "{} of {} messages differ, such as {:#?}",
        differing.len(),
        messages.len(),
        &differing[..differing.len().min(10)]
    );
}

/// Registers every `every`-th message, in turn as spam and as non-spam where
/// its folder does not say what it is.
fn train(pair: Pair, format: Format, database: &Path, messages: &[PathBuf], every: usize) {
    for (number, message) in messages.iter().step_by(every).enumerate() {
        let path = message.to_string_lossy();
        let spam = path.contains("/spam-") || (!path.contains("-ham-") && number % 2 == 0);
        let mut bmf = pair.bmf();
        bmf.args(["-f", format.name(), "-d"]).arg(database);
        bmf.arg(if spam { "-s" } else { "-n" });
        // Some of the badmime files hold no token, which is an error in both.
        run(&mut bmf, Input::File(message));
    }
}

/// Exit code and standard output for one message.
fn score(
    pair: Pair,
    format: Format,
    database: &Path,
    message: &Path,
    options: &str,
) -> (i32, Vec<u8>) {
    let mut bmf = pair.bmf();
    bmf.args(["-f", format.name(), "-d"])
        .arg(database)
        .arg(options);
    let outcome = run(&mut bmf, Input::File(message));
    comparable(&outcome)
}

/// The files below a folder, sorted; the index files of a corpus are among
/// them, and as good an input as any.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
