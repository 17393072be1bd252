use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::Collection;
use crate::experiment::{Experiment, Report};
use crate::generate::{Generator, Options};
use crate::protocol::{Feedback, Protocol, Record};

fn generated(n_messages: usize) -> Collection {
    let options = Options {
        seed: 1,
        n_messages,
        ..Options::default()
    };
    Collection::new("generated".to_owned(), Generator::new(&options).collect())
}

fn report(filter: FilterSpec, n_messages: usize, protocol: Protocol) -> Report {
    let work = tempfile::tempdir().unwrap();
    let collections = [generated(n_messages)];
    let experiment = Experiment {
        collections: &collections,
        filters: &[FilterSpec::Classic, filter],
        shuffles: &[None],
        protocol,
        results: None,
    };
    experiment.run(work.path(), &|| {}).unwrap().remove(0)
}

/// The filter, or `None` with a loud word when it is not installed.
fn installed(name: &str) -> Option<FilterSpec> {
    match FilterSpec::parse(name) {
        Ok(filter) => Some(filter),
        Err(error @ Error::NotInstalled { .. }) => {
            eprintln!("SKIPPED: {error}; set POSTERN_PEERS");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn bmf_answers_as_our_classic_engine() {
    let Some(bmf) = installed("bmf") else { return };
    let protocol = Protocol {
        wrong_percent: 20.0,
        corrected_after: Some(3),
        ..Protocol::online(1, Feedback::Immediate)
    };
    let report = report(bmf, 120, protocol);
    let [classic, bmf] = report.outcomes.as_slice() else {
        panic!("two filters");
    };
    // Before it knows a token bmf refuses to answer.
    let answers = classic.runs[0].records.iter().zip(&bmf.runs[0].records);
    for (n, (ours, theirs)) in answers.enumerate().skip(2) {
        assert_eq!(ours.answer.verdict, theirs.answer.verdict, "message {n}");
        assert!(
            (ours.answer.score - theirs.answer.score).abs() < 1e-6,
            "message {n}"
        );
    }
    let footprint = &bmf.cost.footprint;
    assert!(footprint.database_bytes > 10_000 && footprint.n_failures <= 1);
}

#[test]
fn bogofilter_learns() {
    let Some(bogofilter) = installed("bogofilter") else {
        return;
    };
    let report = report(bogofilter, 400, Protocol::online(1, Feedback::Immediate));
    let outcome = &report.outcomes[1];
    assert!(outcome.measures.one_minus_roca.unwrap().value < 25.0);
    assert_eq!(outcome.cost.footprint.n_failures, 0);
    assert_eq!(report.differences.len(), 1);
}

/// Those with a daemon behind them keep silent below 200 messages of a class.
#[test]
fn the_other_ready_filters_learn() {
    for name in ["spamprobe", "spamassassin", "rspamd"] {
        let Some(filter) = installed(name) else {
            continue;
        };
        let report = report(filter, 550, Protocol::online(1, Feedback::Immediate));
        let outcome = &report.outcomes[1];
        assert_eq!(outcome.cost.footprint.n_failures, 0, "{name}");
        assert!(outcome.cost.footprint.database_bytes > 100_000, "{name}");
        assert!(
            outcome.cost.footprint.peak_memory_bytes > Some(1 << 20),
            "{name}"
        );
        let last = &outcome.runs[0].records[500..];
        let called = |verdict, label| {
            let is = |r: &&Record| r.answer.verdict == verdict && r.label == label;
            last.iter().filter(is).count()
        };
        assert!(called(Verdict::Spam, Label::Spam) > 5, "{name}");
        let lost = called(Verdict::Spam, Label::Ham);
        assert!(called(Verdict::Ham, Label::Ham) > 2 * lost, "{name}");
    }
}

/// A daemon ends with its filter, also when nobody gets to the end of the run.
#[test]
fn a_daemon_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let with_daemon = COUNTING.replace(
        "classify",
        &format!(
            "initialise = \"sh -c 'sleep 600 >/dev/null 2>&1 & echo $! > {0}'\"\npid_file = \"{0}\"\nclassify",
            pid_file.display()
        ),
    );
    let work = tempfile::tempdir().unwrap();
    let filter = adapter(&with_daemon).unwrap().start(work.path()).unwrap();
    let pid = fs::read_to_string(&pid_file).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(filter);
    let state = || fs::read_to_string(process.join("stat")).unwrap_or_default();
    assert!(!process.exists() || state().contains(") Z "), "{}", state());
}

fn script(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A filter that calls everything what it was last told.
#[test]
fn drives_a_jig_filter() {
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), "initialize", "echo ham > last");
    script(
        folder.path(),
        "classify",
        "test -f \"$1\" && echo class=$(cat last) score=0.5 tfile=aux",
    );
    script(
        folder.path(),
        "train",
        "test -f \"$2\" && test \"$3\" = $(cat last) && test \"$4\" = aux && echo $1 > last",
    );
    script(folder.path(), "finalize", "rm last");
    let jig = FilterSpec::parse(&format!("jig:{}", folder.path().display())).unwrap();
    let report = report(jig, 30, Protocol::online(1, Feedback::Immediate));
    let outcome = &report.outcomes[1];
    assert_eq!(outcome.cost.footprint.n_failures, 0);
    for pair in outcome.runs[0].records.windows(2) {
        let said_spam = pair[1].answer.verdict == Verdict::Spam;
        assert_eq!(said_spam, pair[0].label == Label::Spam);
    }
    assert!(
        !folder.path().join("last").exists(),
        "the filter runs in a copy"
    );
}

fn adapter(text: &str) -> Result<FilterSpec, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.toml");
    fs::write(&path, text).unwrap();
    FilterSpec::parse(path.to_str().unwrap())
}

const COUNTING: &str = r#"
programs = ["sh"]
classify = "{program} -c 'wc -c < {message} > seen; echo $(cat seen)'"
train_ham = "true"
train_spam = "true"
score = '([0-9]+)'
[verdict.score]
spam_above = 1500
ham_below = 1400
"#;

#[test]
fn drives_an_adapter_of_ones_own() {
    let report = report(
        adapter(COUNTING).unwrap(),
        20,
        Protocol::online(1, Feedback::Immediate),
    );
    let collection = generated(20);
    for (record, message) in report.outcomes[1].runs[0]
        .records
        .iter()
        .zip(&collection.messages)
    {
        assert_eq!(record.answer.score, message.bytes.len() as f64);
        let verdict = match message.bytes.len() {
            n if n > 1500 => Verdict::Spam,
            n if n < 1400 => Verdict::Ham,
            _ => Verdict::Unsure,
        };
        assert_eq!(record.answer.verdict, verdict);
    }
}

#[test]
fn a_filter_that_fails_says_ham() {
    let broken = COUNTING.replace("echo $(cat seen)", "exit 7");
    let report = report(
        adapter(&broken).unwrap(),
        5,
        Protocol::online(1, Feedback::Immediate),
    );
    let outcome = &report.outcomes[1];
    assert!(
        outcome.runs[0]
            .records
            .iter()
            .all(|r| r.answer == Answer::FAILED)
    );
    assert_eq!(outcome.cost.footprint.n_failures, 5);
}

/// Exit code 1 of training once passed for success, as it does with bmf.
#[test]
fn training_that_fails_is_counted() {
    let n_failures = |adapter_text: &str| {
        let protocol = Protocol::online(1, Feedback::Immediate);
        let report = report(adapter(adapter_text).unwrap(), 5, protocol);
        report.outcomes[1].cost.footprint.n_failures
    };
    let failing = COUNTING.replace("\"true\"", "\"false\"");
    assert_eq!(n_failures(&failing), 5);
    let told = failing.replace("score =", "trained = [0, 1]\nscore =");
    assert_eq!(n_failures(&told), 0);
}

#[test]
fn the_adapter_in_the_documentation_is_one() {
    let text = include_str!("../../../docs/bmfeval.md");
    let (_, block) = text.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let program = r#"["bogofilter", "bogofilter-bdb"]"#;
    assert!(block.contains(program));
    adapter(&block.replace(program, r#"["sh"]"#)).unwrap();
}

#[test]
fn bad_adapters_say_what_is_wrong() {
    let check = |from: &str, to: &str, expected: &str| {
        let error = adapter(&COUNTING.replace(from, to))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("programs", "programmes", "programmes");
    check("([0-9]+)", "[0-9]+", "group");
    check("([0-9]+)", "([0-9]+", "regex");
    check("\"true\"", "\"\"", "not a command");
    check("{message}", "{mesage}", "no slot {mesage}");
    check("{message}", "{mesage}", "test.toml");
    check("\"sh\"", "\"no-such-program\"", "no-such-program");
    for out in ["/etc/conf", "../conf"] {
        let leaving = format!("{COUNTING}\n[files]\n\"{out}\" = \"\"\n");
        let error = adapter(&leaving).unwrap_err().to_string();
        assert!(error.contains("leads out of its folder"), "{error}");
    }
    let error = FilterSpec::parse("nonsense").unwrap_err().to_string();
    assert!(
        error.contains("classic, modern, modern-ledger, bmf, bogofilter"),
        "{error}"
    );
}

#[test]
fn threads_do_not_change_figures() {
    let measures = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let work = tempfile::tempdir().unwrap();
        let collections = [generated(150)];
        let experiment = Experiment {
            collections: &collections,
            filters: &[FilterSpec::Classic],
            shuffles: &[Some(1), Some(2), Some(3)],
            protocol: Protocol::online(7, Feedback::Partial(50.0)),
            results: None,
        };
        let reports = pool
            .install(|| experiment.run(work.path(), &|| {}))
            .unwrap();
        format!("{:?}", reports[0].outcomes[0].measures)
    };
    assert_eq!(measures(1), measures(3));
}
