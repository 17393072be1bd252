//! `bmfd check`: which mailboxes there are, and what is wrong with them.

use std::fs;
use std::io::{self, Write};

use mailbox::{Folder, Layout, Mailbox};
use rustix::fs::{Access, AtFlags, accessat};

use super::asking::Daemon;
use super::{Exit, Failure, Subject, each_mailbox};
use crate::Error;
use crate::config::{Config, Settings};
use crate::decision::Role;
use crate::watch::MAX_USER_WATCHES;

/// Print which mailboxes are looked after, and what is wrong with them
///
/// One line for each: whose it is, where it lies, how many of its folders are
/// for spam, how many count, and what to mend; then the database, and how many
/// folders are to be watched. Changes nothing.
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
    if n_mailboxes == 0 {
        let hint = "see mailboxes.patterns in the configuration";
        print(out, "no mailbox found", &[hint.to_owned()])?;
        return Ok(Exit::Wrong);
    }
    if !database(config, out)? {
        exit = Exit::Wrong;
    }
    if args.user.is_none() && !watches(n_watches, out)? {
        exit = Exit::Wrong;
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

/// Whether there are enough watches.
fn watches(needed: usize, out: &mut dyn Write) -> anyhow::Result<bool> {
    let limit = fs::read_to_string(MAX_USER_WATCHES).ok();
    let Some(limit) = limit.and_then(|limit| limit.trim().parse::<usize>().ok()) else {
        return Ok(true);
    };
    let wrong = (needed > limit).then(|| {
        let enough = (needed * 2).next_power_of_two();
        format!("the rest would be polled; run `sysctl fs.inotify.max_user_watches={enough}`")
    });
    let wrong: Vec<_> = wrong.into_iter().collect();
    print(out, &format!("watches: {needed} of {limit}"), &wrong)?;
    Ok(wrong.is_empty())
}

/// Whether the database can be used.
fn database(config: &Config, out: &mut dyn Write) -> io::Result<bool> {
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
    let wrong: Vec<_> = wrong.into_iter().collect();
    print(
        out,
        &format!("database: {} {state}", path.display()),
        &wrong,
    )?;
    Ok(wrong.is_empty())
}

fn print(out: &mut dyn Write, found: &str, wrong: &[String]) -> io::Result<()> {
    if wrong.is_empty() {
        writeln!(out, "{found}")
    } else {
        writeln!(out, "{found}; {}", wrong.join("; "))
    }
}
