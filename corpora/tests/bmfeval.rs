//! The program as people call it.

#![allow(clippy::unwrap_used)] // The helpers of a test may fail as it may.

use std::os::unix::process::ExitStatusExt;
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
            "protocol",
            "sha256",
            "type",
            "version"
        ]
    );
    assert_eq!(one[0]["n_orders"], 2);
    let protocol = serde_json::json!({
        "feedback": "immediate", "own_verdicts": null, "wrong_percent": 5.0,
        "corrected_after": null, "seed": 1, "shuffles": [1, 2],
    });
    assert_eq!(one[0]["protocol"], protocol);
}

/// In process they share their memory, and nothing lies on a disk; so both are
/// measured on what they would have written.
#[test]
fn our_engines_take_memory_and_room() {
    let (_folder, mail) = collection(60);
    let filters = ["classic", "modern", "modern-ledger"];
    let options = filters.map(|filter| ["-f", filter]).concat();
    let said = succeeds(&[&["run", mail.as_str(), "--json"], options.as_slice()].concat());
    let figure = |n: usize, name: &str| {
        let line: serde_json::Value = serde_json::from_str(said.lines().nth(n).unwrap()).unwrap();
        line["cost"][name].as_u64()
    };
    let database = |n| figure(n, "database_bytes").unwrap();
    assert!(database(0) > 30_000 && database(0) < 300_000, "{said}");
    // Once that of modern was always the table of buckets.
    assert!(database(1) > 30_000 && database(1) < 1_000_000, "{said}");
    assert!(database(2) > database(1), "{said}");
    if Path::new("/usr/bin/time").exists() {
        for n in 0..filters.len() {
            let memory = figure(n, "peak_memory_bytes").unwrap();
            assert!(memory > 1 << 20 && memory < 64 << 20, "{said}");
        }
    } else {
        eprintln!("SKIPPED: memory needs time(1)");
    }
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
        table.contains("1-ROCA%")
            && table.contains("feedback immediate, seed 1, in order of reception"),
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

/// Our engines, driven by the jig that we drive, answer as they do in process.
#[test]
fn the_jig_both_ways() {
    let (folder, mail) = collection(40);
    // Ham, spam: the modern engine lets the messages of a lone class wait, by
    // the second in which they came.
    let index = Path::new(&mail).join("index");
    let lines = std::fs::read_to_string(&index).unwrap();
    let (mut ham, mut spam): (Vec<_>, Vec<_>) = lines.lines().partition(|l| l.starts_with("ham"));
    let first = [ham.remove(0), spam.remove(0)];
    let reordered: Vec<_> = first.into_iter().chain(ham).chain(spam).collect();
    std::fs::write(&index, reordered.join("\n")).unwrap();
    let results = text(&folder.path().join("results"));
    for (engine, in_process) in [("classic", "classic"), ("modern", "modern-ledger")] {
        let scripts = text(&folder.path().join(format!("our-{engine}")));
        succeeds(&["jig", "--engine", engine, "scripts", &scripts]);
        let jig = format!("jig:{scripts}");
        succeeds(&[
            "run",
            &mail,
            "-f",
            in_process,
            "-f",
            &jig,
            "--results",
            &results,
        ]);
        let answers = |name: &str| {
            let path = Path::new(&results).join(format!("1-{name}.results"));
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(answers(in_process), answers(&format!("our-{engine}")));
    }
}

#[test]
fn replay_reads_a_database_and_leaves_it_alone() {
    let (folder, mail) = collection(60);
    for engine in ["classic", "modern"] {
        let scripts = text(&folder.path().join(engine));
        succeeds(&["jig", "--engine", engine, "scripts", &scripts]);
        let commands = |name: &str, arguments: &[&str]| {
            let done = Command::new(Path::new(&scripts).join(name))
                .args(arguments)
                .current_dir(folder.path())
                .status();
            assert!(done.unwrap().success());
        };
        // A database that the jig's commands leave in the current folder.
        commands("initialize", &[]);
        let index = std::fs::read_to_string(Path::new(&mail).join("index")).unwrap();
        for line in index.lines() {
            let (label, path) = line.split_once(' ').unwrap();
            commands("train", &[label, &format!("{mail}/{path}"), label, "none"]);
        }
        let database = folder.path().join("bmfeval-jig");
        let bytes = || std::fs::read(database.join("bmf.mdb")).unwrap();
        let before = bytes();
        let data = format!("{mail}/data");
        let said = succeeds(&["replay", "-d", &text(&database), &data]);
        assert_eq!(said.lines().count(), 60);
        let spam = |line: &&str| line.starts_with("spam ");
        let n_spam = said.lines().filter(spam).count();
        let labels = index.lines().filter(spam).count();
        assert!(n_spam > labels / 2 && n_spam <= labels, "{n_spam}: {said}");
        let only = succeeds(&[
            "replay",
            "-d",
            &text(&database),
            "--only",
            "spam",
            "--json",
            &data,
        ]);
        assert_eq!(only.lines().count(), n_spam);
        let line: serde_json::Value = serde_json::from_str(only.lines().next().unwrap()).unwrap();
        assert!(line["why"].as_array().unwrap().len() > 3, "{line}");
        assert_eq!(bytes(), before, "{engine}");
        fails(&["replay", "-d", &scripts, &data], "no such database");
    }
}

/// Told to end it leaves no folder, no command and no daemon behind.
#[test]
fn a_signal_ends_what_filters_left() {
    for signal in ["INT", "TERM"] {
        let (folder, mail) = collection(5);
        let adapter = folder.path().join("slow.toml");
        let pids = ["daemon", "command"].map(|name| folder.path().join(name));
        let text_of = format!(
            r#"
programs = ["sh"]
initialise = "sh -c 'sleep 600 >/dev/null 2>&1 & echo $! > {0}'"
pid_file = "{0}"
classify = "sh -c 'sleep 600 & echo $! > {1}; wait'"
train_ham = "true"
train_spam = "true"
score = '([0-9]+)'
[verdict.exit_code]
spam = 0
ham = 1
"#,
            text(&pids[0]),
            text(&pids[1])
        );
        std::fs::write(&adapter, text_of).unwrap();
        let work = folder.path().join("missing/work");
        let mut program = Command::new(env!("CARGO_BIN_EXE_bmfeval"))
            .args(["run", &mail, "-f", &text(&adapter), "--work", &text(&work)])
            .spawn()
            .unwrap();
        let written = |path: &Path| std::fs::read_to_string(path).is_ok_and(|t| t.ends_with('\n'));
        while !written(&pids[1]) {
            assert_eq!(program.try_wait().unwrap(), None);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let pid = program.id().to_string();
        let killed = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(killed.unwrap().success());
        let ended = program.wait().unwrap();
        let number = if signal == "INT" { 2 } else { 15 };
        assert_eq!(ended.signal(), Some(number), "{ended}");
        assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0);
        for pid in pids {
            let pid = std::fs::read_to_string(pid).unwrap();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            // Nobody may have waited for it yet.
            let is_gone = stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "));
            assert!(is_gone, "{pid}");
        }
    }
}

/// What can be measured and is odd stands on standard error.
#[test]
fn odd_collections_are_pointed_out() {
    let (_folder, mail) = collection(20);
    let index = Path::new(&mail).join("index");
    let lines = std::fs::read_to_string(&index).unwrap();
    let said = |index_text: &str, options: &[&str]| {
        std::fs::write(&index, index_text).unwrap();
        let output = bmfeval(&[&["run", mail.as_str()], options].concat());
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(said(&lines, &["--strip-header", "subject:"]), "");
    let unmatched = said(&lines, &["--strip-header", "*-lable"]);
    assert!(
        unmatched.ends_with("has a header field *-lable\n"),
        "{unmatched}"
    );
    let no_spam = said(&lines.replace("spam ", "SPAM "), &[]);
    assert!(
        no_spam.ends_with("holds no spam to classify\n"),
        "{no_spam}"
    );
}

#[test]
fn bad_calls_say_what_is_wrong() {
    let (folder, mail) = collection(5);
    fails(&["run"], "no collection given");
    fails(&["run", "/no/such/place"], "/no/such/place");
    fails(&["run", &mail, "-f", "nonsense"], "no such filter");
    fails(&["run", &mail, "--feedback", "folds:1"], "two folds");
    fails(
        &["run", &mail, "-f", "classic", "-f", "classic"],
        "classic and classic are both called classic",
    );
    fails(&["run", &mail, "--wrong", "120"], "percentage");
    fails(&["run", &mail, "--corrected-after", "3"], "--wrong");
    fails(&["run", &mail, "--own-verdicts", "none"], "own:PERCENT");
    fails(&["run", &mail, "--strip-header", ""], "header field");
    fails(&["run", &mail, &mail], "are the same");
    fails(
        &["run", "/nowhere", "--html", "/no/such/page"],
        "/no/such/page",
    );
    fails(&["run", "/nowhere", "--results", "/proc/r"], "/proc/r");
    fails(&["generate", "--messages", "0", "/nowhere"], "--messages");
    let no_file = bmfeval(&["run", "/no/such/place"]).stderr;
    let no_file = String::from_utf8(no_file).unwrap();
    assert_eq!(no_file.matches("os error 2").count(), 1, "{no_file}");
    fails(&["generate", &mail], "index");
    let empty = text(folder.path());
    std::fs::write(folder.path().join("goodlist.db"), "").unwrap();
    fails(&["replay", "-d", &empty, &mail], "bmfconv --from");
    fails(
        &["run", "--ham", &mail, "--spam", &format!("{empty}/none")],
        "none",
    );
    fails(
        &["fetch", "spamassassin", "--from", "file:///nowhere", &empty],
        "file:///nowhere",
    );
}
