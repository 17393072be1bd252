//! bmf in the recipes people have: many deliveries at once, no lock file, and
//! every message delivered, marked and counted once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use tests::differential::{Format, Pair, lists};
use tests::programs::{built, peer};
use tests::run::{Input, make_maildir, run, scratch};

/// Deliveries in all, and how many at a time.
const N_DELIVERIES: usize = 160;
const N_AT_ONCE: usize = 20;

/// Each class once more than makes a token count, so that scores vary.
const N_TRAINED: usize = 6;

/// The recipe of bmf's manual, less its lock file.
const PROCMAIL: &str = "
:0fw
| BMF
:0
* ^X-Spam-Status: Yes
FOLDER/spam/
:0
FOLDER/in/
";

const MAILDROP: &str = "
xfilter \"BMF\"
if (/^X-Spam-Status: Yes/)
{
  to \"FOLDER/spam\"
}
to \"FOLDER/in\"
";

#[test]
fn procmail_delivers_through_a_database() {
    deliver(&procmail, PROCMAIL, Format::Db);
}

#[test]
fn procmail_delivers_through_text_lists() {
    deliver(&procmail, PROCMAIL, Format::Text);
}

#[test]
fn maildrop_delivers_through_a_database() {
    deliver(&|| peer("maildrop"), MAILDROP, Format::Db);
}

/// Without `-m` it would make the mailbox of whoever runs the tests.
fn procmail() -> Command {
    let mut procmail = peer("procmail");
    procmail.arg("-m");
    procmail
}

/// Message `number`: every second one is spam.
fn mail(number: usize) -> String {
    let words = if number.is_multiple_of(2) {
        "lunch meeting tomorrow"
    } else {
        "cheap watches winner"
    };
    format!(
        "From: someone@example.com\nSubject: {words}\n\nThe everyone text number{number} of {words}.\n"
    )
}

/// Delivers many messages by `agent` with `recipe`, in which `BMF` stands for our
/// bmf and `FOLDER` for a scratch folder, and looks at mail and lists afterwards.
fn deliver(agent: &dyn Fn() -> Command, recipe: &str, format: Format) {
    let home = scratch();
    let home = home.path();
    for maildir in ["in", "spam"] {
        make_maildir(&home.join(maildir));
    }
    let database = home.join("db");
    let bmf = format!(
        "{} -f {} -d {} -p",
        built("bmf").display(),
        format.name(),
        database.display()
    );
    let rules = home.join("rules");
    let recipe = recipe
        .replace("BMF", &bmf)
        .replace("FOLDER", home.to_str().unwrap());
    fs::write(&rules, recipe).unwrap();
    // maildrop runs no recipe that others may read.
    fs::set_permissions(&rules, Permissions::from_mode(0o600)).unwrap();
    for number in 0..2 * N_TRAINED {
        let mut train = Pair::Ours.bmf();
        train.args(["-f", format.name(), "-d"]).arg(&database);
        train.arg(if number.is_multiple_of(2) { "-n" } else { "-s" });
        run(&mut train, Input::Bytes(mail(number).as_bytes()));
    }

    let numbers: Vec<usize> = (0..N_DELIVERIES).collect();
    for wave in numbers.chunks(N_AT_ONCE) {
        thread::scope(|scope| {
            for &number in wave {
                let mut command = agent();
                command.arg(&rules).env("HOME", home).current_dir(home);
                scope.spawn(move || {
                    let outcome = run(&mut command, Input::Bytes(mail(number).as_bytes()));
                    assert_eq!(outcome.code(), 0, "{outcome:?}");
                });
            }
        });
    }

    assert_delivered(&home.join("in/new"), 0, "No, hits=");
    assert_delivered(&home.join("spam/new"), 1, "Yes, hits=");
    let [good, spam] =
        lists(Pair::Ours, format, &database).map(|list| String::from_utf8(list).unwrap());
    let per_class = N_TRAINED + N_DELIVERIES / 2;
    for list in [good, spam] {
        assert!(list.starts_with(&format!(
            "# bogofilter wordlist (format version A): {per_class}\n"
        )));
        assert!(
            list.contains(&format!("\neveryone {per_class}\n")),
            "{list}"
        );
    }
}

/// `folder` holds every second message from `first` on, whole but for one field.
#[track_caller]
fn assert_delivered(folder: &Path, first: usize, verdict: &str) {
    let mut delivered: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .map(|mail| {
            let (fields, rest): (Vec<&str>, Vec<&str>) = mail
                .split_inclusive('\n')
                .partition(|line| line.starts_with("X-Spam-"));
            assert!(
                fields[0].starts_with(&format!("X-Spam-Status: {verdict}")),
                "{mail}"
            );
            // procmail puts an empty line behind what a filter gave it.
            format!("{}\n", rest.concat().trim_end())
        })
        .collect();
    let mut expected: Vec<String> = (first..N_DELIVERIES).step_by(2).map(mail).collect();
    delivered.sort();
    expected.sort();
    assert_eq!(delivered, expected);
}
