//! `bmfd check`: which mailboxes there are, and what is wrong with them.

use std::io::{self, Write};

use classifier::store::lmdb::Access;

use super::{Exit, Failure, Subject, each_mailbox};
use crate::config::Config;
use crate::decision::Role;

/// Print which mailboxes are looked after, and what is wrong with them
///
/// One line for each: whose it is, where it lies, how many of its folders are
/// for spam, how many count, and what to mend. Changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this user's mailbox
    user: Option<String>,
}

pub(super) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut n_mailboxes = 0;
    let exit = each_mailbox(config, args.user.as_deref(), |subject| {
        n_mailboxes += 1;
        line(config, subject, out)
    })?;
    if n_mailboxes == 0 {
        writeln!(
            out,
            "no mailbox found; see mailboxes.patterns in the configuration"
        )?;
        return Ok(Exit::Wrong);
    }
    Ok(exit)
}

fn line(config: &Config, subject: &Subject<'_>, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Subject {
        user,
        mailbox,
        settings,
        ..
    } = subject;
    let (mut n_spam, mut n_counting, mut wrong) = (0, 0, Vec::new());
    for name in mailbox.folders()? {
        let name = name?;
        let role = settings.roles.role(&name);
        if role == Role::Never {
            continue;
        }
        // Opened and read as a pass would.
        let opened = mailbox
            .folder(&name)
            .and_then(|folder| folder.map_or(Ok(()), |folder| folder.entries().map(drop)));
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
    if let Err(error) = config.databases.open(user, Access::ReadOnly) {
        wrong.push(error.to_string());
    }
    print(
        out,
        &format!(
            "{user}: {}: {n_spam} spam, {n_counting} counting",
            mailbox.path().display()
        ),
        &wrong,
    )?;
    Ok(Exit::wrong_if(!wrong.is_empty()))
}

fn print(out: &mut dyn Write, found: &str, wrong: &[String]) -> io::Result<()> {
    if wrong.is_empty() {
        writeln!(out, "{found}")
    } else {
        writeln!(out, "{found}; {}", wrong.join("; "))
    }
}
