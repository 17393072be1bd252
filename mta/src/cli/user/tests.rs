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
        ("user set anna@example.org", Err("nothing is to be changed")),
        (
            "user add bob",
            Err("bob has no domain; write bob@example.org"),
        ),
        ("user list nodomain.test", Err("no domain nodomain.test")),
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
        ("user rename anna@example.org ann@example.org", Ok("")),
        (
            "alias list",
            Ok("info@example.org               ann@example.org, b@example.net\n"),
        ),
        (
            "user show ann@example.org",
            Ok(concat!(
                "user           ann@example.org\nfolder         DATA/mail/example.org/ann\n",
                "aliases        info@example.org\npostmaster of  no domain\n",
                "password       none, so that nobody can log in\nquota          none\n",
                "over quota     defer\nfilter         on\nthreshold      0.99\n",
                "spam           tag\nprograms       off\ngate           as the domain says\n",
            )),
        ),
        (
            "user show anna@example.org",
            Err("no user anna@example.org"),
        ),
        ("alias remove info@example.org ann@example.org", Ok("")),
        ("alias remove info@example.org", Ok("")),
        ("alias remove info@example.org", Err("there is no alias")),
        (
            "domain set example.org --postmaster ann@example.org",
            Ok(""),
        ),
        (
            "user remove ann@example.org --mail erase",
            Err("the postmaster of example.org"),
        ),
        (
            "domain set example.org --postmaster boss@example.net",
            Ok(""),
        ),
        ("user add postmaster@example.org", Ok("")),
        (
            "domain set example.org --postmaster boss@example.org",
            Ok(
                "postmaster@example.org is a user or an alias, and gets that mail in place of \
                boss@example.org\n",
            ),
        ),
        ("user remove postmaster@example.org --mail erase", Ok("")),
        (
            "domain set example.org --postmaster boss@example.net",
            Ok(""),
        ),
        (
            "domain list --json",
            Ok(
                "{\"type\":\"domain\",\"version\":1,\"domain\":\"example.org\",\
             \"postmaster\":\"boss@example.net\",\"programs\":false,\"gate\":\"no-greylist\",\"users\":1}\n",
            ),
        ),
        (
            "user export",
            Ok("version = 1\n\n[users.\"ann@example.org\"]\nthreshold = 0.99\nspam = \"tag\"\n"),
        ),
        ("domain remove example.org", Err("1 users")),
        ("user remove ann@example.org --mail erase", Ok("")),
        (
            "user remove ann@example.org --mail erase",
            Err("no user ann@example.org"),
        ),
        ("domain remove example.org", Ok("")),
        ("domain list", Ok("")),
    ];
    let data = dir.path().display().to_string();
    for (line, expected) in steps {
        let found = run_line(&places, line).map(|text| text.replace(&data, "DATA"));
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{line}"),
            (Err(found), Err(expected)) if found.contains(expected) => {}
            _ => panic!("{line}: {found:?} and not {expected:?}"),
        }
    }
    assert!(!dir.path().join("mail/example.org/ann").exists());
}
