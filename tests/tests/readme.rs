//! The quick start of the README says what really happens. Of figures it is
//! held to the first digit behind the point: the others change whenever the
//! filter gets better.

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
        assert_eq!(rounded(&shown), rounded(expected), "after `{command}`");
        n_commands += 1;
    }
    assert_eq!(n_commands, 5);
}

/// `text` without all but the first of the digits behind a point.
fn rounded(text: &str) -> String {
    let mut n_behind = None;
    let mut kept = String::new();
    for c in text.chars() {
        n_behind = match n_behind {
            Some(n) if c.is_ascii_digit() => Some(n + 1),
            _ => (c == '.').then_some(0),
        };
        if n_behind.is_none_or(|n| n < 2) {
            kept.push(c);
        }
    }
    kept
}
