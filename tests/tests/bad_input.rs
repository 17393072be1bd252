//! Input that is no mail and surroundings that fail: our bmf says so in one
//! line, loses no message, and leaves its database as it was.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::differential::{Format, Pair, lists};
use tests::programs::built;
use tests::run::{Input, Outcome, run, scratch};

const SPAM: &[u8] = b"Subject: cheap watches\n\nBuy cheap cheap cheap watches now\n";
const HAM: &[u8] = b"Subject: lunch tomorrow\n\nShall we meet tomorrow?\n";
const FORGED: &[u8] = b"X-Spam-Status: No, forged\nSubject: cheap watches\n\nBuy!\n";
const FORMATS: [Format; 2] = [Format::Text, Format::Db];

/// A user who is neither root nor the owner of anything.
const NOBODY: u32 = 65_534;

fn bmf(format: Format, database: &Path, options: &[&str]) -> Command {
    let mut bmf = Pair::Ours.bmf();
    bmf.args(["-f", format.name(), "-d"])
        .arg(database)
        .args(options);
    bmf
}

/// An error is exit 2 and one line on standard error that holds `reason`.
#[track_caller]
fn assert_error(outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.code(), 2, "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains(reason),
        "{reason:?} is not in {outcome:?}"
    );
}

/// A folder with a trained database below it, open to every user.
fn trained(format: Format) -> (tempfile::TempDir, PathBuf) {
    let folder = scratch();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let database = folder.path().join("db");
    for (option, mail) in [("-s", SPAM), ("-s", SPAM), ("-n", HAM)] {
        run(&mut bmf(format, &database, &[option]), Input::Bytes(mail));
    }
    (folder, database)
}

#[test]
fn nothing_and_no_words_are_errors_and_nothing_is_printed() {
    for input in [&b""[..], b"\n\n", b"Word", b"\0\0\0", b"\xff"] {
        let folder = scratch();
        let outcome = run(
            &mut bmf(Format::Text, &folder.path().join("db"), &["-t"]),
            Input::Bytes(input),
        );
        assert_error(&outcome, "no input");
        assert!(outcome.stdout.is_empty());
    }
}

#[test]
fn what_does_not_begin_as_an_mbox_is_none() {
    let folder = scratch();
    let database = folder.path().join("db");
    for input in [HAM, b"\nFrom late mark\nSubject: one two\n", b"From "] {
        let mut bmf = bmf(Format::Text, &database, &["-t", "-m", "mbox"]);
        assert_error(&run(&mut bmf, Input::Bytes(input)), "mbox");
    }
}

#[test]
fn what_holds_no_words_passes_all_the_same() {
    let folder = scratch();
    let database = folder.path().join("db");
    for (input, passed) in [
        (&b"Word"[..], &b"Word"[..]),
        (b"\n\n", b"\n\n"),
        (b"X-Spam-A: b\n\n", b"\n"),
    ] {
        let outcome = run(
            &mut bmf(Format::Text, &database, &["-p"]),
            Input::Bytes(input),
        );
        assert_error(&outcome, "no input");
        assert_eq!(outcome.stdout, passed);
    }
}

#[test]
fn only_headers_only_body_and_binary_are_scored_and_come_out_whole() {
    let binary: Vec<u8> = (0..1_000_000_u32).map(|n| ((n * n) >> 7) as u8).collect();
    for format in FORMATS {
        let (_folder, database) = trained(format);
        for input in [
            &b"Subject: only headers\n"[..],
            b"\nbody only here\n",
            &binary,
        ] {
            let outcome = run(
                &mut bmf(format, &database, &["-p", "-t"]),
                Input::Bytes(input),
            );
            assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
            let status = b"X-Spam-Status: ";
            let at = find(&outcome.stdout, status).unwrap();
            let line = find(&outcome.stdout[at..], b"\n").unwrap() + 1;
            let mut without = outcome.stdout.clone();
            without.drain(at..at + line);
            assert!(without.ends_with(input), "{} bytes differ", input.len());
        }
    }
}

#[test]
fn a_line_of_100_mib_passes_byte_for_byte() {
    let folder = scratch();
    let mail = folder.path().join("mail");
    let mut bytes = b"Subject: long line\n\n".to_vec();
    bytes.resize(100 << 20, b'x');
    fs::write(&mail, &bytes).unwrap();
    for format in FORMATS {
        let mut bmf = bmf(format, &folder.path().join(format.name()), &["-p", "-t"]);
        let outcome = run(&mut bmf, Input::File(&mail));
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        let body = b"\n\nxx";
        let passed = &outcome.stdout[find(&outcome.stdout, body).unwrap()..];
        assert!(passed == &bytes[find(&bytes, body).unwrap()..]);
    }
}

#[test]
fn a_folder_a_missing_and_an_unreadable_file_are_told_apart() {
    let folder = scratch();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, SPAM).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let database = folder.path().join("db");

    let as_input = |path: &Path| {
        let mut bmf = as_nobody(folder.path(), Format::Text, &database, &["-t", "-i"]);
        run(bmf.arg(path), Input::Empty)
    };
    assert_error(
        &as_input(Path::new("/")),
        "cannot read input file '/': Is a directory",
    );
    assert_error(&as_input(&folder.path().join("missing")), "missing");
    assert_error(&as_input(&secret), "secret");
}

#[test]
fn without_a_database_the_message_passes_and_no_forged_verdict() {
    let folder = scratch();
    let no_folder = folder.path().join("file");
    fs::write(&no_folder, "a file where the database should be").unwrap();
    for format in FORMATS {
        let outcome = run(&mut bmf(format, &no_folder, &["-p"]), Input::Bytes(FORGED));
        assert_error(&outcome, "file");
        assert_eq!(outcome.stdout, b"Subject: cheap watches\n\nBuy!\n");
    }
    let outcome = run(
        Pair::Ours.bmf().args(["-f", "mysql", "-p"]),
        Input::Bytes(FORGED),
    );
    assert_error(&outcome, "mysql");
    assert_eq!(outcome.stdout, b"Subject: cheap watches\n\nBuy!\n");
}

#[test]
fn a_read_only_database_scores_and_refuses_to_learn() {
    for format in FORMATS {
        let (folder, database) = trained(format);
        let before = lists(Pair::Ours, format, &database);
        let report = run(&mut bmf(format, &database, &["-t"]), Input::Bytes(SPAM));
        close_to_others(&database);

        let mut scoring = as_nobody(folder.path(), format, &database, &["-t"]);
        let scored = run(&mut scoring, Input::Bytes(SPAM));
        assert_eq!(scored, report, "{format:?}");
        let mut learning = as_nobody(folder.path(), format, &database, &["-p", "-s"]);
        let refused = run(&mut learning, Input::Bytes(FORGED));
        assert_error(&refused, "db");
        assert!(refused.stdout.ends_with(b"\n\nBuy!\n"));
        assert!(find(&refused.stdout, b"forged").is_none());
        assert!(lists(Pair::Ours, format, &database) == before);
    }
}

#[test]
fn a_full_disk_loses_neither_the_message_nor_the_database() {
    let folder = scratch();
    let words: String = (0..40_000)
        .map(|n| format!("word{n:05} and more\n"))
        .collect();
    let mail = folder.path().join("mail");
    fs::write(&mail, format!("Subject: many words\n\n{words}")).unwrap();
    for format in FORMATS {
        // The tmpfs goes when the shell does, so all is asked inside it.
        let script = "
            bmf=$1 bmfconv=$2 mount=$3 format=$4 mail=$5 passed=$6
            mount -t tmpfs -o size=300k none \"$mount\" && cd \"$mount\" || exit 99
            small='Subject: small mail\\n\\nWith a few words.\\n'
            lists() { # into the folder $1, outside, where there is room
                mkdir \"$mount.$1\" && cd \"$mount.$1\" || exit 98
                if [ $format = text ]; then cp \"$mount\"/db/*list.txt .; else \"$bmfconv\" -e -d \"$mount/db\"; fi || exit 97
                cd \"$mount\"
            }
            printf \"$small\" | \"$bmf\" --engine classic -f $format -d db -s || exit 96
            lists before
            \"$bmf\" --engine classic -f $format -d db -p -s <\"$mail\" >\"$passed\"; [ $? = 2 ] || exit 95
            lists after
            diff -r \"$mount.before\" \"$mount.after\" >&2 || exit 94
            printf \"$small\" | \"$bmf\" --engine classic -f $format -d db -t >/dev/null; [ $? -lt 2 ]";
        let mount = folder.path().join(format.name());
        fs::create_dir(&mount).unwrap();
        let passed = folder.path().join("passed");
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command.arg(built("bmf")).arg(built("bmfconv")).arg(&mount);
        command.arg(format.name()).arg(&mail).arg(&passed);
        let outcome = run(&mut command, Input::Empty);
        assert_eq!(outcome.code(), 0, "{format:?}: {outcome:?}");
        assert!(fs::read(&passed).unwrap().ends_with(words.as_bytes()));
    }
}

#[test]
fn a_limit_on_the_size_of_files_loses_no_message() {
    for format in FORMATS {
        let folder = scratch();
        let inner = bmf(format, &folder.path().join("db"), &["-p", "-n"]);
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f 1; exec \"$@\"", "sh"]);
        limited.arg(inner.get_program()).args(inner.get_args());
        let words: String = (0..4_000)
            .map(|n| format!("word{n:05} and more\n"))
            .collect();
        let mail = format!("Subject: a letter\n\n{words}");
        let outcome = run(&mut limited, Input::Bytes(mail.as_bytes()));
        assert_error(&outcome, "File too large");
        assert!(outcome.stdout.ends_with(words.as_bytes()), "{format:?}");
    }
}

#[test]
fn a_full_standard_output_is_an_error() {
    for options in [&["-t"][..], &["-p"], &["-p", "-s"]] {
        let (_folder, database) = trained(Format::Text);
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" >/dev/full", "sh"])
            .arg(built("bmf"));
        command
            .args(["-f", "text", "-d"])
            .arg(&database)
            .args(options);
        assert_error(&run(&mut command, Input::Bytes(HAM)), "No space left");
    }
}

#[test]
fn usage_and_unknown_options_exit_with_2() {
    for option in ["-h", "-V", "-Z", "-f foo", "-m foo", "-k", "-k x", "-k -1"] {
        let outcome = run(Pair::Ours.bmf().args(option.split(' ')), Input::Bytes(HAM));
        assert_eq!(outcome.code(), 2, "{option}");
        assert!(!outcome.stdout.is_empty(), "{option}");
    }
}

/// Our bmf as a user without rights, whoever runs the tests. Root can read
/// everything, so as root it runs as nobody, from a copy that nobody reaches.
fn as_nobody(folder: &Path, format: Format, database: &Path, options: &[&str]) -> Command {
    let copy = folder.join("bmf");
    if !copy.exists() {
        fs::copy(built("bmf"), &copy).unwrap();
    }
    let mut command = Command::new(copy);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
        .args(["-f", format.name(), "-d"])
        .arg(database)
        .args(options);
    command
}

fn is_root() -> bool {
    let id = run(Command::new("id").arg("-u"), Input::Empty);
    id.stdout == b"0\n"
}

/// Takes the right to write from a database; others may read it.
fn close_to_others(database: &Path) {
    for entry in fs::read_dir(database).unwrap() {
        fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(database, Permissions::from_mode(0o555)).unwrap();
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
