//! bmf killed while it registers a message: the database holds that message
//! wholly or not at all, and the next run works.
//!
//! strace delivers SIGKILL in place of the n-th call of a run, so that a moment
//! is a number and comes again. `make faults` asks for more moments than the 20
//! of every run, by the number in `POSTERN_FAULTS`.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;

use tests::differential::{Format, Pair, lists, model};
use tests::programs::{built, peer};
use tests::run::{Input, run, scratch};

fn n_moments() -> usize {
    env::var("POSTERN_FAULTS").map_or(20, |number| number.parse().unwrap())
}

/// How a database lies on disk, and the engine that it is of.
#[derive(Clone, Copy, Debug)]
struct Kind {
    format: Format,
    engine: &'static str,
}

#[test]
fn text_lists_survive_a_kill_at_any_moment() {
    kill_registering(kind(Format::Text, "classic"), n_moments(), 1);
}

#[test]
fn a_database_survives_a_kill_at_any_moment() {
    kill_registering(kind(Format::Db, "classic"), n_moments(), 2);
}

#[test]
fn a_model_survives_a_kill_at_any_moment() {
    kill_registering(kind(Format::Db, "modern"), n_moments(), 3);
}

fn kind(format: Format, engine: &'static str) -> Kind {
    Kind { format, engine }
}

/// All that a database holds, but for the times in a ledger.
fn held(kind: Kind, database: &Path) -> [Vec<u8>; 2] {
    if kind.engine == "classic" {
        return lists(Pair::Ours, kind.format, database);
    }
    [Vec::new(), model(database).into_bytes()]
}

/// The message whose registration is cut short: enough new tokens for many
/// pages of a database.
fn mail() -> String {
    let words: String = (0..600)
        .map(|n| format!("word{n:03} number {n}\n"))
        .collect();
    format!("Subject: many words\n\n{words}")
}

/// Kills `bmf -s` at `n_moments` moments and checks after each that the
/// database opens at once and holds the message wholly or not at all.
fn kill_registering(kind: Kind, n_moments: usize, seed: u64) {
    let folder = scratch();
    let input = folder.path().join("mail");
    fs::write(&input, mail()).unwrap();
    let trained = folder.path().join("trained");
    register(
        kind,
        &trained,
        Input::Bytes(b"Subject: first mail\n\nof the number words\n"),
    );
    let before = held(kind, &trained);

    // A whole run shows the calls there are, and the lists it leads to.
    let whole = folder.path().join("whole");
    copy(&trained, &whole);
    let calls = traced_calls(kind, &whole, &input, &folder.path().join("calls"));
    let after = held(kind, &whole);
    assert!(after != before);

    let mut rng = Rng::with_seed(seed);
    let mut n_kept = 0;
    for _ in 0..n_moments {
        let (name, nth) = &calls[rng.usize(..calls.len())];
        let database = folder.path().join("killed");
        copy(&trained, &database);
        let fault = format!("inject={name}:signal=SIGKILL:when={nth}");
        let mut killed = traced(kind, &database, &folder.path().join("log"), &fault);
        let outcome = run(&mut killed, Input::File(&input));

        let moment = format!("{kind:?}, seed {seed}, killed at {name} number {nth}");
        assert_eq!(outcome.status.signal(), Some(9), "not killed: {moment}");
        let left = held(kind, &database);
        assert!(
            left == before || left == after,
            "{moment}: part of the message is left"
        );
        n_kept += usize::from(left == after);
        // The next one is not kept from working by what the killed one held.
        register(kind, &database, Input::File(&input));
        let next = held(kind, &database);
        assert!(
            next[1].len() >= after[1].len(),
            "{moment}: the next message is not learned"
        );
        fs::remove_dir_all(&database).unwrap();
    }
    println!(
        "{kind:?}: {n_moments} moments of {} calls, {n_kept} after the message was kept",
        calls.len()
    );
}

fn register(kind: Kind, database: &Path, input: Input<'_>) {
    let mut bmf = Pair::Ours.bmf();
    bmf.args(["--engine", kind.engine]);
    bmf.args(["-s", "-f", kind.format.name(), "-d"])
        .arg(database);
    let outcome = run(&mut bmf, input);
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
}

/// The calls of a run in order, each as its name and its number among those of
/// that name, which is how strace counts.
fn traced_calls(kind: Kind, database: &Path, input: &Path, log: &Path) -> Vec<(String, usize)> {
    let outcome = run(
        &mut traced(kind, database, log, "trace=all"),
        Input::File(input),
    );
    assert_eq!(outcome.code(), 0, "strace: {}", outcome.stderr);
    let mut counted = HashMap::new();
    fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once('('))
        .map(|(name, _)| {
            let nth = counted.entry(name.to_owned()).or_insert(0);
            *nth += 1;
            (name.to_owned(), *nth)
        })
        // The first call is strace's own start of the program.
        .filter(|(name, _)| name != "execve")
        .collect()
}

/// A command that registers the message under strace with this expression.
fn traced(kind: Kind, database: &Path, log: &Path, expression: &str) -> Command {
    let mut strace = peer("strace");
    strace.args(["-qq", "-o"]).arg(log).args(["-e", expression]);
    strace.arg(built("bmf"));
    strace.args(["--engine", kind.engine]);
    strace
        .args(["-s", "-f", kind.format.name(), "-d"])
        .arg(database);
    strace
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
