//! The quick start of the README says what really happens.

use std::env;
use std::fs;
use std::process::Command;

use tests::programs::{built, repository};
use tests::run::{Input, run, scratch};

#[test]
fn the_quick_start_prints_what_it_says() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, after) = readme.split_once("## Quick start").unwrap();
    let (_, after) = after.split_once("```console\n").unwrap();
    let (block, _) = after.split_once("```").unwrap();

    let home = scratch();
    let programs = built("bmf").parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
    let mut n_commands = 0;
    for part in block.split("$ ").skip(1) {
        let (command, expected) = part.split_once('\n').unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(home.path());
        shell.env("HOME", home.path()).env("PATH", &path);
        let outcome = run(&mut shell, Input::Empty);
        let shown = String::from_utf8(outcome.stdout).unwrap() + &outcome.stderr;
        assert_eq!(shown, expected, "after `{command}`");
        n_commands += 1;
    }
    assert_eq!(n_commands, 5);
}
