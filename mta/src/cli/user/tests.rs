use super::*;
use crate::cli::{alias, domain};
use clap::Parser;

#[derive(Parser)]
enum Line {
    #[command(subcommand)]
    User(Command),
    #[command(subcommand)]
    Domain(domain::Command),
    #[command(subcommand)]
    Alias(alias::Command),
}

/// What a command line prints, or why it does not.
fn run_line(places: &Places, line: &str) -> Result<String, String> {
    let words = std::iter::once("postern").chain(line.split(' '));
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let done = match line {
        Line::User(command) => run(command, places, &mut out),
        Line::Domain(command) => domain::run(command, places, SystemTime::now(), &mut out),
        Line::Alias(command) => alias::run(command, places, &mut out),
    };
    done.map_err(|error| format!("{error:#}"))?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn a_host_is_furnished_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places::new(dir.path());
    let steps: &[(&str, Result<&str, &str>)] = &[
        (
            "user add anna@example.org",
            Err("there is no domain example.org"),
        ),
        (
            "domain add Example.org --postmaster boss@example.net",
            Ok(""),
        ),
        ("domain add example.org", Err("there already")),
        ("domain set example.org --gate no-greylist", Ok("")),
        (
            "domain set example.org --gate shut",
            Err("on, no-greylist, off"),
        ),
        (
            "user add anna@example.org --quota 2G --threshold 0.99",
            Ok(""),
        ),
        (
            "user add a/b@example.org",
            Err("cannot be the name of a folder"),
        ),
        ("user set anna@example.org --spam tag --quota none", Ok("")),
        ("user set bob@example.org", Err("no user bob@example.org")),
        (
            "user set anna@example.org --spam eat",
            Err("folder, tag, refuse"),
        ),
        (
            "user list",
            Ok("anna@example.org                no quota  spam above 0.99: tag\n"),
        ),
        ("user set anna@example.org --gate off", Ok("")),
        (
            "user list",
            Ok("anna@example.org                no quota  spam above 0.99: tag  gate: off\n"),
        ),
        ("user set anna@example.org --gate default", Ok("")),
        ("alias add info@example.org anna@example.org", Ok("")),
        (
            "alias add info@example.org anna@example.org b@example.net",
            Ok(""),
        ),
        (
            "alias add info@example.com anna@example.org",
            Err("no domain example.com"),
        ),
        (
            "alias list",
            Ok("info@example.org               anna@example.org, b@example.net\n"),
        ),
        ("user remove anna@example.org", Err("--mail")),
        (
            "user remove anna@example.org --mail erase",
            Err("info@example.org"),
        ),
        ("alias remove info@example.org anna@example.org", Ok("")),
        ("alias remove info@example.org", Ok("")),
        ("alias remove info@example.org", Err("there is no alias")),
        ("user rename anna@example.org ann@example.org", Ok("")),
        (
            "domain list --json",
            Ok(
                "{\"type\":\"domain\",\"version\":1,\"domain\":\"example.org\",\
             \"postmaster\":\"boss@example.net\",\"programs\":false,\"gate\":\"no-greylist\",\"users\":1}\n",
            ),
        ),
        (
            "user export",
            Ok("[users.\"ann@example.org\"]\nthreshold = 0.99\nspam = \"tag\"\n"),
        ),
        ("domain remove example.org", Err("1 users")),
        ("user remove ann@example.org --mail erase", Ok("")),
        ("domain remove example.org", Ok("")),
        ("domain list", Ok("")),
    ];
    for (line, expected) in steps {
        let found = run_line(&places, line);
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{line}"),
            (Err(found), Err(expected)) if found.contains(expected) => {}
            _ => panic!("{line}: {found:?} and not {expected:?}"),
        }
    }
    assert!(!dir.path().join("mail/example.org/ann").exists());
}
