//! bmf with the modern engine: which database is whose, what is learned, taken
//! back, printed and marked.

use std::fs;
use std::path::Path;

use tests::programs::built;
use tests::run::{Input, Outcome, run, scratch};

/// Runs `bmf` on the database in `folder`.
fn bmf(folder: &Path, args: &str, input: &str) -> Outcome {
    let mut bmf = std::process::Command::new(built("bmf"));
    bmf.arg("-d")
        .arg(folder.join("db"))
        .args(args.split_whitespace());
    run(&mut bmf, Input::Bytes(input.as_bytes()))
}

fn mail(n: usize, subject: &str, text: &str) -> String {
    format!("From: a{n}@example.org\nSubject: {subject} {n}\n\n{text}, number {n}\n")
}

fn spam(n: usize) -> String {
    mail(n, "Watches", "Cheap watches, click here")
}

fn ham(n: usize) -> String {
    mail(n, "Lunch", "Shall we have lunch tomorrow")
}

/// A database of 20 messages of each class.
fn train(folder: &Path) {
    for n in 0..20 {
        assert_eq!(bmf(folder, "-s", &spam(n)).code(), 0);
        assert_eq!(bmf(folder, "-n", &ham(n)).code(), 1);
    }
}

fn hits(folder: &Path, message: &str) -> f64 {
    let report = bmf(folder, "-t", message);
    let line = report.stdout_text();
    let line = line.lines().next().unwrap().to_owned();
    line.strip_prefix("# Spamicity: ").unwrap().parse().unwrap()
}

#[test]
fn learns_marks_and_explains() {
    let folder = scratch();
    train(folder.path());
    let [spam, ham] = [spam(30), ham(30)];
    assert_eq!(bmf(folder.path(), "-t", &spam).code(), 0);
    assert_eq!(bmf(folder.path(), "-t", &ham).code(), 1);
    assert!(hits(folder.path(), &spam) > 0.97 && hits(folder.path(), &ham) < 0.2);

    let marked = bmf(folder.path(), "-tp", &spam).stdout_text();
    assert!(
        marked.contains("\nX-Spam-Status: Yes, hits=0.9"),
        "{marked}"
    );
    assert!(marked.contains("\nX-Spam-Flag: YES\n\nCheap"), "{marked}");
    let marked = bmf(folder.path(), "-tp", &ham).stdout_text();
    assert!(marked.contains("\nX-Spam-Status: No, hits=0.0"), "{marked}");
    assert!(!marked.contains("Unsure"), "{marked}");

    let explained = bmf(folder.path(), "--explain -t", &spam).stdout_text();
    for expected in [
        "spam: hits=0.9",
        "log-odds  for spam",
        "text: cheap",
        "it would be unsure",
    ] {
        assert!(explained.contains(expected), "{expected} in {explained}");
    }
    let json = bmf(folder.path(), "--json -t", &spam).stdout_text();
    for expected in [
        r#"{"type":"verdict","version":1,"engine":"modern","verdict":"spam","hits":0.9"#,
        r#""place":"text","what":"cheap","#,
    ] {
        assert!(json.contains(expected), "{expected} in {json}");
    }
}

#[test]
fn what_it_does_not_know_is_unsure() {
    let folder = scratch();
    let fields = "\nX-Spam-Status: No, hits=0.500000 required=0.953247";
    for args in ["-tp", "-p", "-tp"] {
        let marked = bmf(folder.path(), args, &spam(1));
        assert_eq!(marked.code(), 0);
        let marked = marked.stdout_text();
        assert!(
            marked.contains(fields) && marked.contains("\nX-Spam-Unsure: YES\n\n"),
            "{marked}"
        );
    }
    assert_eq!(bmf(folder.path(), "-s", &spam(1)).code(), 0);
    let outcome = bmf(folder.path(), "-t", &spam(1));
    assert_eq!(
        (outcome.code(), outcome.stdout_text().trim()),
        (1, "# Spamicity: 0.500000")
    );
}

#[test]
fn a_database_knows_its_engine() {
    let folder = scratch();
    assert_eq!(bmf(folder.path(), "-s", &spam(1)).code(), 0);
    let refused = bmf(folder.path(), "--engine classic -t", &spam(1));
    assert_eq!(refused.code(), 2);
    let expected = "bmf.mdb belongs to the engine 'modern', not to 'classic'";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    // And is opened as what it is when nobody says.
    assert!(
        bmf(folder.path(), "--json -t", &spam(1))
            .stdout_text()
            .contains("modern")
    );

    let folder = scratch();
    let learned = bmf(folder.path(), "--engine classic -s", &spam(1));
    assert_eq!(learned.code(), 0);
    let refused = bmf(folder.path(), "--engine modern -p", &spam(1));
    assert_eq!((refused.code(), refused.stdout_text()), (2, spam(1)));
    let refused = bmf(folder.path(), "--engine modern -f text -t", &spam(1));
    assert_eq!(refused.code(), 2);
    assert!(refused.stderr.contains("use -f db"), "{}", refused.stderr);
}

/// Lists of bmf stay what they are; a folder without any begins as modern.
#[test]
fn a_new_database_is_modern_unless_bmf_was_there() {
    let is_of = |engine: &str, folder: &Path, args: &str| {
        let json = bmf(folder, &format!("--json {args}"), &spam(1)).stdout_text();
        json.contains(&format!(r#""engine":"{engine}""#))
    };
    let [new, old] = [scratch(), scratch()];
    assert_eq!(bmf(old.path(), "-f text -s", &spam(1)).code(), 0);
    for args in ["-t", "-s", "-t"] {
        assert!(is_of("modern", new.path(), args));
        assert!(is_of("classic", old.path(), args));
    }
    assert!(is_of("classic", new.path(), "-f text -t"));
}

#[test]
fn a_message_counts_once_and_is_taken_back_exactly() {
    let [straight, detour] = [scratch(), scratch()];
    for folder in [&straight, &detour] {
        train(folder.path());
    }
    let message = mail(77, "Offer", "Lunch watches for sale");
    assert_eq!(bmf(straight.path(), "-s", &message).code(), 0);
    // Wrong at first, twice, then corrected as it lies in a mailbox.
    let delivered = format!("X-Spam-Status: No\nReceived: from b\n{message}");
    for (args, code) in [("-n", 1), ("-n", 1), ("-S", 0), ("-S", 0), ("-s", 0)] {
        assert_eq!(bmf(detour.path(), args, &message).code(), code);
    }
    for probe in [&message, &spam(40), &ham(40)] {
        let hits = [&straight, &detour].map(|folder| hits(folder.path(), probe));
        assert_eq!(hits[0], hits[1]);
    }
    let before = hits(detour.path(), &message);
    assert_eq!(bmf(detour.path(), "-s", &delivered).code(), 0);
    assert_eq!(hits(detour.path(), &message), before);
    assert_eq!(bmf(detour.path(), "-N", &delivered).code(), 1);
    assert!(hits(detour.path(), &message) < before);
}

#[test]
fn its_own_verdict_teaches_only_when_it_is_sure() {
    let folder = scratch();
    train(folder.path());
    let file = folder.path().join("db/bmf.mdb");
    let state = || fs::read(&file).unwrap();
    let before = state();
    let unsure = mail(50, "Lunch watches", "Cheap lunch, click tomorrow");
    assert_eq!(bmf(folder.path(), "", &unsure).code(), 1);
    assert!(
        state() == before,
        "it learned from a message that it was unsure of"
    );
    assert_eq!(bmf(folder.path(), "", &spam(51)).code(), 0);
    assert!(state() != before);
}

#[test]
fn an_mbox_is_split_and_learned_wholly() {
    let folder = scratch();
    let mbox: String = (0..30)
        .map(|n| format!("From a@b Mon Jan  1 00:00:00 2024\n{}\n", spam(n)))
        .collect();
    assert_eq!(bmf(folder.path(), "-s", &mbox).code(), 0);
    for n in 0..5 {
        assert_eq!(bmf(folder.path(), "-n", &ham(n)).code(), 1);
    }
    // Each message alone was one of the mbox.
    let before = hits(folder.path(), &spam(60));
    for n in 0..30 {
        assert_eq!(bmf(folder.path(), "-s", &spam(n)).code(), 0);
    }
    assert_eq!(hits(folder.path(), &spam(60)), before);
    let report = bmf(folder.path(), "-t", &mbox).stdout_text();
    assert_eq!(report.matches("# Spamicity: ").count(), 30);
}

#[test]
fn text_holds_all_of_a_model() {
    let [folder, copy] = [scratch(), scratch()];
    train(folder.path());
    let bmfconv = |current: &Path, args: &[&str]| {
        let mut bmfconv = std::process::Command::new(built("bmfconv"));
        bmfconv.args(args).current_dir(current);
        run(&mut bmfconv, Input::Empty)
    };
    let text = |folder: &Path| {
        let outcome = bmfconv(folder, &["-e", "-d", "db"]);
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        fs::read_to_string(folder.join("model.txt")).unwrap()
    };
    let exported = text(folder.path());
    let n_lines = exported.lines().count() - 1;
    let head = format!("postern-model 3 {n_lines}\nstate 0 20 20 0\n");
    assert!(exported.starts_with(&head));
    fs::write(copy.path().join("model.txt"), &exported).unwrap();
    assert_eq!(bmfconv(copy.path(), &["-i", "-d", "db"]).code(), 0);
    assert_eq!(text(copy.path()), exported);

    // The copy can take back what the first one learned.
    for folder in [&folder, &copy] {
        assert_eq!(bmf(folder.path(), "-N", &spam(3)).code(), 1);
    }
    let hits = [&folder, &copy].map(|folder| hits(folder.path(), &spam(60)));
    assert_eq!(hits[0], hits[1]);

    let from = folder.path().join("db");
    let to = copy.path().join("third");
    let copied = [
        "--from",
        from.to_str().unwrap(),
        "--to",
        to.to_str().unwrap(),
        "--to-format",
        "db",
    ];
    for code in [0, 1] {
        let outcome = bmfconv(copy.path(), &copied);
        assert_eq!(outcome.code(), code, "{}", outcome.stderr);
    }
    fs::write(
        copy.path().join("model.txt"),
        exported.replace("state 0", "state x"),
    )
    .unwrap();
    let refused = bmfconv(copy.path(), &["-i", "-d", "db"]);
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr.contains("model.txt is damaged: line 2"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_sorted_folder_is_learned_at_once() {
    let at_once = scratch();
    let [maildir, mbox] = ["maildir", "mbox"].map(|name| at_once.path().join(name));
    fs::create_dir_all(maildir.join("cur")).unwrap();
    let mut all = String::new();
    for n in 0..20 {
        fs::write(maildir.join(format!("cur/{n}:2,S")), spam(n)).unwrap();
        all.push_str(&format!("From a@b Mon Jan  1 00:00:00 2024\n{}\n", ham(n)));
    }
    fs::write(&mbox, all).unwrap();
    // The second time there is nothing new.
    for _ in 0..2 {
        for (mode, folder) in [("-s", &maildir), ("-n", &mbox)] {
            let args = format!("{mode} --learn-folder {}", folder.display());
            let outcome = bmf(at_once.path(), &args, "");
            assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
            assert!(
                outcome.stderr.contains("read 20 messages"),
                "{}",
                outcome.stderr
            );
        }
    }
    assert!(hits(at_once.path(), &spam(30)) > 0.9 && hits(at_once.path(), &ham(30)) < 0.2);
    let refused = bmf(at_once.path(), "-t --learn-folder x", "");
    assert_eq!(refused.code(), 2);
    assert!(refused.stderr.contains("needs -s"), "{}", refused.stderr);
    let nowhere = format!("-s --learn-folder {}/none", at_once.path().display());
    assert_eq!(bmf(at_once.path(), &nowhere, "").code(), 2);
}

/// A host's base model: a new user judges by it, and learns alone.
#[test]
fn a_base_model_is_begun_with_and_never_changed() {
    let (host, user) = (scratch(), scratch());
    train(host.path());
    let base = user.path().join("base");
    let mut bmfconv = std::process::Command::new(built("bmfconv"));
    bmfconv.arg("--make-base").arg(&base).arg("--of");
    bmfconv.arg(host.path().join("db"));
    assert_eq!(run(&mut bmfconv, Input::Empty).code(), 0);
    let bytes = fs::read(&base).unwrap();
    assert!(bytes.len() < 16 << 20);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&base).unwrap().permissions());
    assert_eq!(mode & 0o444, 0o444, "all users are to read it");

    let with_base = |args: &str, message: &str| {
        let args = format!("--base {} {args}", base.display());
        bmf(user.path(), &args, message)
    };
    assert_eq!(with_base("-t", &spam(30)).code(), 0);
    assert_eq!(with_base("-t --terse", &ham(30)).code(), 1);
    // Without it the user knows nothing, and is sure of nothing.
    assert_eq!(bmf(user.path(), "-t", &spam(30)).code(), 1);
    for n in 0..8 {
        with_base("-n", &spam(40 + n));
    }
    assert_eq!(with_base("-t", &spam(30)).code(), 1);
    assert_eq!(fs::read(&base).unwrap(), bytes);
    assert_eq!(bmf(host.path(), "-t", &spam(30)).code(), 0);

    fs::write(&base, "none").unwrap();
    let refused = with_base("-t", &spam(30));
    assert_eq!(refused.code(), 2);
    assert!(refused.stderr.contains("base"), "{}", refused.stderr);
}
