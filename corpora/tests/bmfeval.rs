//! The program as people call it.

#![allow(clippy::unwrap_used)] // The helpers of a test may fail as it may.

use std::path::Path;
use std::process::{Command, Output};

fn bmfeval(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bmfeval"));
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = bmfeval(arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(arguments: &[&str], expected: &str) {
    let output = bmfeval(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(expected), "{said}");
}

/// A generated collection in a folder of its own.
fn collection(n_messages: usize) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let mail = text(&folder.path().join("mail"));
    succeeds(&[
        "generate",
        "--seed",
        "3",
        "--messages",
        &n_messages.to_string(),
        &mail,
    ]);
    (folder, mail)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Without times, which differ from run to run.
fn figures(json: &str) -> Vec<serde_json::Value> {
    let lines = json.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .map(|mut line: serde_json::Value| {
            line.as_object_mut().unwrap().remove("cost");
            line
        })
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let (_folder, mail) = collection(150);
    let run = |jobs: &str| {
        let options = [
            "run",
            &mail,
            "--shuffles",
            "2",
            "--wrong",
            "5",
            "--json",
            "-j",
            jobs,
        ];
        figures(&succeeds(&options))
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one, two);
    let fields: Vec<&String> = one[0].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "collection",
            "filter",
            "learning_curve",
            "measures",
            "n_orders",
            "sha256",
            "type",
            "version"
        ]
    );
    assert_eq!(one[0]["n_orders"], 2);
}

#[test]
fn page_results_and_comparison() {
    let (folder, mail) = collection(120);
    let (page, results) = (
        folder.path().join("page.html"),
        folder.path().join("results"),
    );
    let table = succeeds(&[
        "run",
        &mail,
        "-f",
        "classic",
        "--html",
        &text(&page),
        "--results",
        &text(&results),
    ]);
    assert!(
        table.contains("1-ROCA%") && table.contains("classic"),
        "{table}"
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.ends_with("</html>\n") && page.matches("<svg").count() == 3);
    assert!(
        !page.contains("http://") && !page.contains("<script"),
        "nothing is loaded"
    );
    let results = text(&results.join("1-classic.results"));
    let same = succeeds(&["compare", &results, &results]);
    assert!(
        same.contains("+0.0000 (+0.0000 to +0.0000), paired bootstrap p = 1.000"),
        "{same}"
    );
    let json = succeeds(&["compare", "--json", &results, &results]);
    assert_eq!(figures(&json)[0]["type"], "comparison");
}

/// Our engine, driven by the jig that we drive, answers as it does in process.
#[test]
fn the_jig_both_ways() {
    let (folder, mail) = collection(40);
    let scripts = text(&folder.path().join("ours"));
    succeeds(&["jig", "scripts", &scripts]);
    let results = text(&folder.path().join("results"));
    let jig = format!("jig:{scripts}");
    succeeds(&[
        "run",
        &mail,
        "-f",
        "classic",
        "-f",
        &jig,
        "--results",
        &results,
    ]);
    let answers = |name: &str| std::fs::read_to_string(Path::new(&results).join(name)).unwrap();
    assert_eq!(answers("1-classic.results"), answers("1-ours.results"));
}

#[test]
fn replay_reads_a_database_and_leaves_it_alone() {
    let (folder, mail) = collection(60);
    let scripts = text(&folder.path().join("ours"));
    succeeds(&["jig", "scripts", &scripts]);
    // A database that the jig's commands leave in the current folder.
    let index = std::fs::read_to_string(Path::new(&mail).join("index")).unwrap();
    for line in index.lines() {
        let (label, path) = line.split_once(' ').unwrap();
        let train = Path::new(&scripts).join("train");
        let done = Command::new(train)
            .args([label, &format!("{mail}/{path}"), label, "none"])
            .current_dir(folder.path())
            .status();
        assert!(done.unwrap().success());
    }
    let database = folder.path().join("bmfeval-jig");
    let bytes = || std::fs::read(database.join("bmf.mdb")).unwrap();
    let before = bytes();
    let data = format!("{mail}/data");
    let said = succeeds(&["replay", "-d", &text(&database), &data]);
    assert_eq!(said.lines().count(), 60);
    assert!(
        said.contains("\nspam 0.9") && said.contains("\nham 0.0"),
        "{said}"
    );
    assert_eq!(bytes(), before);
    fails(&["replay", "-d", &scripts, &data], "no such database");
}

#[test]
fn bad_calls_say_what_is_wrong() {
    let (folder, mail) = collection(5);
    fails(&["run"], "no collection given");
    fails(&["run", "/no/such/place"], "/no/such/place");
    fails(&["run", &mail, "-f", "nonsense"], "no such filter");
    fails(&["run", &mail, "--feedback", "folds:1"], "two folds");
    fails(&["run", &mail, "--wrong", "120"], "percentage");
    fails(&["generate", &mail], "index");
    let empty = text(folder.path());
    fails(
        &["run", "--ham", &mail, "--spam", &format!("{empty}/none")],
        "none",
    );
    fails(
        &["fetch", "spamassassin", "--from", "file:///nowhere", &empty],
        "file:///nowhere",
    );
}
