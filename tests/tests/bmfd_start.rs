//! Asking a `bmfd serve` that has opened its database and does not listen yet.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use tests::bmfd::Bmfd;
use tests::run::{Input, make_maildir, run, scratch};
use tests::steps::traced;

#[test]
fn who_asks_a_daemon_that_begins_is_answered_by_it() {
    let dir = scratch();
    let mut bmfd = Bmfd::new(dir.path(), "home/*/Maildir", "");
    make_maildir(&dir.path().join("home/anna/Maildir"));
    let calls = dir.path().join("calls");
    // It stops with its socket bound; the program stays strace's parent.
    let stops = "inject=bind:signal=SIGSTOP";
    let process = bmfd.begin_with(|command| {
        *command = traced(&calls, &["-D", "-e", "trace=bind", "-e", stops], command);
    });
    let said = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    bmfd.wait("stopped", || said("calls").contains("stopped by SIGSTOP"));

    let file = |name: &str| File::create(dir.path().join(name)).unwrap();
    let mut asking: Vec<_> = [&["status"][..], &["user", "list"], &["rotate"], &["once"]]
        .iter()
        .enumerate()
        .map(|(n, args)| {
            let mut command = bmfd.command(*args);
            command.stdout(file(&format!("out{n}")));
            command.stderr(file(&format!("err{n}")));
            command.stdin(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for n in 0..asking.len() {
        bmfd.wait("waiting", || {
            said(&format!("err{n}")).contains("waiting for the database")
        });
    }
    let mut kill = Command::new("kill");
    kill.arg("-CONT").arg(process.to_string());
    assert_eq!(run(&mut kill, Input::Empty).code(), 0);

    let codes: Vec<_> = asking
        .iter_mut()
        .map(|asking| asking.wait().unwrap().code())
        .collect();
    let errors = [0, 1, 2, 3].map(|n| said(&format!("err{n}")));
    assert_eq!(codes, [Some(0), Some(0), Some(0), Some(2)], "{errors:?}");
    assert!(said("out0").contains(" mailboxes watched"), "{errors:?}");
    assert!(errors[3].contains("bmfd serve is running"), "{errors:?}");
}
