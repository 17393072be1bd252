//! `bmfd check`: which mailboxes there are, and what is wrong with them.

use std::fs;
use std::io::{self, Write};

use classifier::modern::Base;
use mailbox::{Folder, Layout, Mailbox};
use nix::unistd::User;
use rustix::fs::{Access, AtFlags, accessat};

use super::asking::Daemon;
use super::{Exit, Failure, Subject, each_mailbox};
use crate::Error;
use crate::config::{Config, Settings, Watching};
use crate::decision::Role;
use crate::watch::MAX_USER_WATCHES;

/// Print which mailboxes are looked after, and what is wrong with them
///
/// One line for each: whose it is, where it lies, how many of its folders are
/// for spam, how many count, and what to mend; then the database, the base
/// model and the mail user, if any, and how many folders are to be watched.
/// Changes nothing. Exits with 1 when something is to be mended.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this user's mailbox
    user: Option<String>,
}

pub(super) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (mut n_mailboxes, mut n_watches) = (0, 0);
    let mut exit = each_mailbox(config, args.user.as_deref(), |subject| {
        n_mailboxes += 1;
        n_watches += count_watches(&subject.mailbox, subject.settings)?;
        line(subject, out)
    })?;
    let mut print = |found: &str, wrong: &[String]| {
        exit = exit.max(Exit::wrong_if(!wrong.is_empty()));
        print(out, found, wrong)
    };
    if n_mailboxes == 0 {
        let hint = "see mailboxes.patterns in the configuration";
        print("no mailbox found", &[hint.to_owned()])?;
    }
    let (found, wrong) = database(config);
    print(&found, wrong.as_slice())?;
    if let Some(base) = config.databases.base() {
        let wrong = Base::open(base).err().map(|error| error.to_string());
        let found = format!("base model: {}", base.display());
        print(&found, wrong.as_slice())?;
    }
    if let Some(name) = &config.listening.mail_user {
        let wrong = mail_user(name).err();
        print(&format!("mail user: {name}"), wrong.as_slice())?;
    }
    let limit = fs::read_to_string(MAX_USER_WATCHES).ok();
    let limit = limit.and_then(|limit| limit.trim().parse().ok());
    if let Some(limit) = limit.filter(|_| args.user.is_none()) {
        let (found, wrong) = watches(n_watches, &config.watching, limit);
        print(&found, wrong.as_slice())?;
    }
    Ok(exit)
}

fn line(subject: &Subject<'_>, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Subject {
        user,
        mailbox,
        settings,
    } = subject;
    let (mut n_spam, mut n_counting, mut wrong) = (0, 0, Vec::new());
    for name in mailbox.folders()? {
        let name = name?;
        let role = settings.roles.role(&name);
        if role == Role::Never {
            continue;
        }
        // Opened and read as a pass would.
        let opened = mailbox.folder(&name).map_err(Error::from);
        let opened =
            opened.and_then(|folder| folder.map_or(Ok(()), |folder| usable(&folder, role)));
        match opened {
            Err(error) => wrong.push(error.to_string()),
            Ok(()) => {
                n_spam += u32::from(role == Role::Spam);
                n_counting += u32::from(role == Role::Counting);
            }
        }
    }
    if n_spam == 0 {
        let names = settings.roles.named(Role::Spam).map(ToString::to_string);
        let names: Vec<_> = names.collect();
        wrong.push(format!("no spam folder; make {}", names.join(" or ")));
    }
    let path = mailbox.path().display();
    let found = format!("{user}: {path}: {n_spam} spam, {n_counting} counting");
    print(out, &found, &wrong)?;
    Ok(Exit::wrong_if(!wrong.is_empty()))
}

/// Whether messages can be read, and moved where they are.
fn usable(folder: &Folder, role: Role) -> Result<(), Error> {
    folder.entries().map(drop)?;
    if !matches!(role, Role::Spam | Role::Learned | Role::WronglyCaught) {
        return Ok(());
    }
    for half in folder.halves() {
        let may = Access::WRITE_OK | Access::EXEC_OK;
        let checked = accessat(half, ".", may, AtFlags::EACCESS);
        checked.map_err(|error| Error::io("move messages in", folder.path())(error.into()))?;
    }
    Ok(())
}

/// As `bmfd serve` watches them.
fn count_watches(mailbox: &Mailbox, settings: &Settings) -> Result<usize, Failure> {
    let mut n = 0;
    for directory in mailbox.directories()? {
        let directory = directory?;
        let is_nested = settings.roles.layout() == Layout::Nested;
        let has_others = is_nested || directory.name == mailbox::FolderName::inbox();
        n += usize::from(has_others || !directory.holds_mail);
        let counts = settings.roles.role(&directory.name) != Role::Never;
        n += if directory.holds_mail && counts { 2 } else { 0 };
    }
    Ok(n)
}

/// Whether there are enough watches. `limit`: what the system admits.
fn watches(needed: usize, watching: &Watching, limit: usize) -> (String, Option<String>) {
    if watching.polls {
        return ("watches: none, all mailboxes are polled".into(), None);
    }
    let own = watching.max_watches.filter(|own| *own < limit);
    let wrong = (needed > own.unwrap_or(limit)).then(|| {
        let enough = (needed * 2).next_power_of_two();
        match own {
            Some(_) => format!("the rest would be polled; set watching.max_watches to {enough}"),
            None => format!(
                "the rest would be polled; run `sysctl fs.inotify.max_user_watches={enough}`"
            ),
        }
    });
    let limit = own.unwrap_or(limit);
    (format!("watches: {needed} of {limit}"), wrong)
}

/// Whether there is such a user.
fn mail_user(name: &str) -> Result<(), String> {
    match User::from_name(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("there is no such user of the system, and nobody may name others".into()),
        Err(error) => Err(format!("cannot look it up: {error}")),
    }
}

/// Whether the database can be used.
fn database(config: &Config) -> (String, Option<String>) {
    let path = config.databases.path();
    let state = match (Daemon::connect(config), path.exists()) {
        (Some(_), _) => "bmfd serve has it open",
        (None, true) => "is there",
        (None, false) => "is not there yet",
    };
    let wrong = config
        .databases
        .check()
        .err()
        .map(|error| error.to_string());
    let found = format!("database: {} {state}", path.display());
    (found, wrong)
}

fn print(out: &mut dyn Write, found: &str, wrong: &[String]) -> io::Result<()> {
    if wrong.is_empty() {
        writeln!(out, "{found}")
    } else {
        writeln!(out, "{found}; {}", wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_that_are_wanting_are_said_with_what_to_set() {
        fn check(config: &str, expected: (&str, Option<&str>)) {
            let config = Config::parse(config, "x".as_ref()).unwrap();
            let (found, wrong) = watches(40, &config.watching, 30);
            assert_eq!((&*found, wrong.as_deref()), expected);
        }
        let enough = "the rest would be polled; run `sysctl fs.inotify.max_user_watches=128`";
        check("", ("watches: 40 of 30", Some(enough)));
        check(
            "watching.max_watches = 20",
            (
                "watches: 40 of 20",
                Some("the rest would be polled; set watching.max_watches to 128"),
            ),
        );
        check(
            "watching.only_poll = true",
            ("watches: none, all mailboxes are polled", None),
        );
        let watching = Config::parse("", "x".as_ref()).unwrap().watching;
        assert_eq!(
            watches(40, &watching, 40),
            ("watches: 40 of 40".into(), None)
        );
    }
}
