use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::files::{Fault, with_fault};
use super::*;
use crate::MessageTokens;
use crate::store::conformance::{self, Listing};

const HEADER: &str = "# bogofilter wordlist (format version A):";

fn open(dir: &Path) -> Text {
    Text::open(dir, Duration::from_secs(10)).unwrap()
}

fn message(words: &str) -> MessageTokens {
    let mut message = MessageTokens::default();
    for word in words.split(' ') {
        message.push(Token::new(word.as_bytes()).unwrap());
    }
    message
}

fn learn(label: Label, words: &str) -> Changes {
    let mut changes = Changes::default();
    changes.learn(label, &message(words));
    changes
}

/// bmf's `-S`: registered as spam, and taken back as ham.
fn relearn_as_spam(words: &str) -> Changes {
    let mut changes = learn(Label::Spam, words);
    changes.unlearn(Label::Ham, &message(words));
    changes
}

type Seen = (TrainedMessages, Vec<(String, Option<u32>, Option<u32>)>);

/// The lists as files, whatever state they are in.
fn files(dir: &Path) -> [String; 2] {
    ["goodlist.txt", "spamlist.txt"].map(|name| fs::read_to_string(dir.join(name)).unwrap())
}

/// Both lists as a reader sees them.
fn seen(dir: &Path) -> Seen {
    let mut rows = Vec::new();
    let trained = open(dir)
        .entries(&mut |e| {
            rows.push((String::from_utf8_lossy(e.token).into(), e.ham, e.spam));
            Ok(())
        })
        .unwrap();
    (trained, rows)
}

#[test]
fn behaves_like_memory() {
    conformance::check(64, Listing::WhenTouched, open);
}

#[test]
fn lists_are_bmfs_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = open(dir.path());
    text.apply(&learn(Label::Ham, "foo bar foo"), Durability::Synced)
        .unwrap();
    let ham = format!("{HEADER} 1\nbar 1\nfoo 2\n");
    // The other list is made, and is a file of no bytes.
    assert_eq!(files(dir.path()), [ham, String::new()]);
    let changes = relearn_as_spam("foo zoo");
    text.apply(&changes, Durability::Relaxed).unwrap();
    assert_eq!(
        files(dir.path()),
        [
            format!("{HEADER} 0\nbar 1\nfoo 1\nzoo 0\n"),
            format!("{HEADER} 1\nfoo 1\nzoo 1\n"),
        ]
    );
}

#[test]
fn keeps_the_mode_of_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("goodlist.txt");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let mut text = open(dir.path());
    text.apply(&learn(Label::Ham, "foo"), Durability::Synced)
        .unwrap();
    assert_eq!(mode() & 0o600, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    text.apply(&relearn_as_spam("foo"), Durability::Synced)
        .unwrap();
    assert_eq!(mode(), 0o640);
}

#[test]
fn damaged_list_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cut = format!("{HEADER} 7\nbar 1\nfo");
    fs::write(dir.path().join("spamlist.txt"), &cut).unwrap();
    let mut text = open(dir.path());
    let errors = [
        text.lookup(&[], &mut Vec::new()).unwrap_err(),
        text.apply(&learn(Label::Spam, "foo"), Durability::Synced)
            .unwrap_err(),
    ];
    for error in errors {
        let message = error.to_string();
        assert!(message.ends_with("spamlist.txt is damaged: line 3, the last one, was cut short"));
    }
    assert_eq!(
        fs::read_to_string(dir.path().join("spamlist.txt")).unwrap(),
        cut
    );
}

/// What a killed process leaves is one of the two states, at every step.
#[test]
fn killed_at_any_step_leaves_the_old_state_or_the_new() {
    let changes = [learn(Label::Ham, "bar zoo"), relearn_as_spam("bar zoo")];
    // Fewer steps would mean that one no longer passes by the counter.
    for (changes, least_steps) in changes.iter().zip([7, 13]) {
        for durability in [Durability::Synced, Durability::Relaxed] {
            let n_steps = (0..)
                .take_while(|n| is_killed(changes, durability, *n))
                .count();
            assert!(n_steps >= least_steps, "{n_steps}");
        }
    }
}

/// Whether the process that applies `changes` comes to step `n`, at which it
/// is killed.
fn is_killed(changes: &Changes, durability: Durability, n: usize) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut text = open(dir.path());
    text.apply(&learn(Label::Ham, "bar foo"), Durability::Synced)
        .unwrap();
    text.apply(&learn(Label::Spam, "foo"), Durability::Synced)
        .unwrap();
    let old = seen(dir.path());
    let mut outcome = Ok(());
    let killed = with_fault(Fault::Killed, n, || {
        outcome = text.apply(changes, durability);
    });
    let left = seen(dir.path());
    let new = expected(&old, changes);
    assert!(left == old || left == new, "step {n}: {left:?}");
    assert!(outcome.is_err() || left == new, "step {n}: lost");
    // Nor does what was left disturb the next one, who starts from it.
    let changes = relearn_as_spam("foo new");
    open(dir.path())
        .apply(&changes, Durability::Synced)
        .unwrap();
    assert_eq!(seen(dir.path()), expected(&left, &changes));
    assert_eq!(left_behind(dir.path()), [""; 0], "step {n}");
    killed
}

#[test]
fn without_sync_nothing_is_synced() {
    let comes_to = |step: usize, without_sync: bool| {
        let dir = tempfile::tempdir().unwrap();
        let mut text = open(dir.path());
        if without_sync {
            text = text.without_sync();
        }
        with_fault(Fault::Fails, step, || {
            let _ = text.apply(&relearn_as_spam("foo zoo"), Durability::Synced);
        })
    };
    let n_steps = |without_sync| (0..).take_while(|n| comes_to(*n, without_sync)).count();
    // Two lists, the folder in which they are made, and the one above it.
    assert_eq!(n_steps(false) - n_steps(true), 4);
}

/// A call that fails leaves the old state, and one that succeeds the new.
#[test]
fn failing_at_any_step_is_told_and_changes_nothing() {
    for changes in [learn(Label::Ham, "bar zoo"), relearn_as_spam("bar zoo")] {
        for n in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let mut text = open(dir.path());
            text.apply(&learn(Label::Ham, "bar foo"), Durability::Synced)
                .unwrap();
            let old = seen(dir.path());
            let mut outcome = Ok(());
            let failed = with_fault(Fault::Fails, n, || {
                outcome = text.apply(&changes, Durability::Relaxed);
            });
            let new = expected(&old, &changes);
            let state = if outcome.is_ok() { &new } else { &old };
            assert_eq!(&seen(dir.path()), state, "step {n}");
            if outcome.is_err() {
                assert_eq!(left_behind(dir.path()), [""; 0], "step {n}");
            }
            if !failed {
                break;
            }
        }
    }
}

/// The state after `changes`, by a store that was never interrupted.
fn expected((trained, rows): &Seen, changes: &Changes) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let mut text = open(dir.path());
    let mut entries = rows.iter().map(|(token, ham, spam)| Entry {
        token: token.as_bytes(),
        ham: *ham,
        spam: *spam,
    });
    text.replace(*trained, &mut entries).unwrap();
    text.apply(changes, Durability::Synced).unwrap();
    seen(dir.path())
}

/// Names of files that are no lists.
fn left_behind(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !matches!(name.as_str(), "goodlist.txt" | "spamlist.txt"))
        .collect()
}

#[test]
fn writers_lose_nothing_and_readers_see_whole_states() {
    let dir = tempfile::tempdir().unwrap();
    let (n_writers, n_changes) = (4, 25);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..n_writers)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..n_changes {
                        let mut changes = learn(Label::Spam, "foo");
                        changes.learn(Label::Ham, &message("foo"));
                        open(dir.path())
                            .apply(&changes, Durability::Relaxed)
                            .unwrap();
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            let (trained, _) = seen(dir.path());
            assert_eq!(trained.ham, trained.spam);
        }
    });
    let n = n_writers * n_changes;
    assert_eq!(seen(dir.path()).0, TrainedMessages { ham: n, spam: n });
}

#[test]
fn waits_for_a_lock_no_longer_than_agreed() {
    let dir = tempfile::tempdir().unwrap();
    let holder = open(dir.path());
    let _held = holder.folder.writer().unwrap();
    let mut text = Text::open(dir.path(), Duration::from_millis(20)).unwrap();
    let error = text
        .apply(&learn(Label::Ham, "foo"), Durability::Synced)
        .unwrap_err();
    assert!(error.is_transient());
    let owner = format!("held by process {}", std::process::id());
    assert!(error.to_string().ends_with(&owner), "{error}");
    // Readers do not wait.
    assert_eq!(seen(dir.path()).0, TrainedMessages::default());
}

#[test]
fn reading_makes_no_lists() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(seen(dir.path()), Seen::default());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn folder_is_made_but_none_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bmf");
    open(&path);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(Text::open(&path.join("a/b"), Duration::ZERO).is_err());
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Text::open(&file, Duration::ZERO).is_err());
}

#[test]
fn token_that_no_list_can_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = std::iter::once(Entry {
        token: b"a\nb",
        ham: Some(1),
        spam: None,
    });
    let error = open(dir.path())
        .replace(TrainedMessages::default(), &mut entries)
        .unwrap_err();
    assert!(error.to_string().contains("`a\\nb` holds a line feed"));
}
