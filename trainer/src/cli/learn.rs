//! `bmfd learn`: a new user's model from folders that are sorted already.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use classifier::Label;
use classifier::modern::{Act, Keep, Lesson, learn};
use classifier::store::lmdb::Access;
use classifier::store::{Durability, ModelStore};
use mailbox::{Entry, Flags, Folder, FolderName, Mailbox};
use tracing::warn;

use super::{Exit, Failure, each_mailbox};
use crate::Error;
use crate::config::Config;
use crate::pass::read;

/// Learn all mail of some folders, to start a new user with
///
/// The mail stays where it is. What was learned before counts once, and under
/// the label that is said now.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose mailbox
    user: String,
    /// A folder of wanted mail, for example INBOX
    #[arg(long, value_name = "FOLDER", required_unless_present = "spam")]
    ham: Vec<String>,
    /// A folder of spam
    #[arg(long, value_name = "FOLDER")]
    spam: Vec<String>,
}

pub(super) fn run(
    args: &Args,
    config: &Config,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let layout = config.settings(&args.user).roles.layout();
    let names = |said: &[String]| -> anyhow::Result<Vec<FolderName>> {
        let parsed = said.iter().map(|name| FolderName::parse(name, layout));
        Ok(parsed.collect::<Result<_, _>>()?)
    };
    let (ham, spam) = (names(&args.ham)?, names(&args.spam)?);
    let mut missing = None;
    let exit = each_mailbox(config, Some(&args.user), |subject| {
        let mut folders = Vec::new();
        for (label, names) in [(Label::Ham, &ham), (Label::Spam, &spam)] {
            match open(&subject.mailbox, names)? {
                Ok(opened) => folders.push((label, opened)),
                Err(name) => {
                    missing = Some(name);
                    return Ok(Exit::Wrong);
                }
            }
        }
        let mut store = config.databases.open(subject.user, Access::ReadWrite)?;
        let learned = all(subject.user, &folders, &mut store, now)?;
        let Learned { n_ham, n_spam, .. } = learned;
        writeln!(out, "{}: {n_ham} ham, {n_spam} spam learned", subject.user)?;
        Ok(Exit::wrong_if(learned.is_wrong))
    })?;
    if let Some(name) = missing {
        bail!("{} has no folder {name}", args.user);
    }
    Ok(exit)
}

/// The folders, or the first that is not there.
fn open<'n>(
    mailbox: &Mailbox,
    names: &'n [FolderName],
) -> Result<Result<Vec<Folder>, &'n FolderName>, Failure> {
    let mut folders = Vec::new();
    for name in names {
        match mailbox.folder(name)? {
            Some(folder) => folders.push(folder),
            None => return Ok(Err(name)),
        }
    }
    Ok(Ok(folders))
}

#[derive(Debug, Default)]
struct Learned {
    n_ham: usize,
    n_spam: usize,
    is_wrong: bool,
}

/// So many messages are learned in one change of the database.
const BATCH: usize = 64;

/// Learns of both kinds in turn, since what comes last weighs most.
fn all(
    user: &str,
    folders: &[(Label, Vec<Folder>)],
    store: &mut dyn ModelStore,
    now: SystemTime,
) -> Result<Learned, Error> {
    let mut kinds = Vec::new();
    for (label, folders) in folders {
        let mut entries = Vec::new();
        for folder in folders {
            for entry in folder.entries()? {
                entries.push((folder, entry?));
            }
        }
        entries.retain(|(_, entry)| !entry.name.flags().contains(Flags::TRASHED));
        kinds.push((*label, entries.into_iter()));
    }
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut learned = Learned::default();
    loop {
        let mut lessons = Vec::new();
        for (label, entries) in &mut kinds {
            for (folder, entry) in entries.by_ref().take(BATCH / 2) {
                let lesson = lesson(user, folder, &entry, *label, &mut learned);
                lessons.extend(lesson);
            }
        }
        if lessons.is_empty() && kinds.iter().all(|(_, entries)| entries.len() == 0) {
            return Ok(learned);
        }
        learn(
            store,
            &lessons,
            seconds,
            &Keep::default(),
            Durability::Synced,
        )?;
    }
}

fn lesson(
    user: &str,
    folder: &Folder,
    entry: &Entry,
    label: Label,
    learned: &mut Learned,
) -> Option<Lesson> {
    match read(folder, entry) {
        Ok(raw) => {
            let n = match label {
                Label::Ham => &mut learned.n_ham,
                Label::Spam => &mut learned.n_spam,
            };
            *n += usize::from(raw.is_some());
            raw.map(|raw| Lesson::new(&raw, Act::Learn(label)))
        }
        Err(error) => {
            warn!(user, %error, "message left alone");
            learned.is_wrong = true;
            None
        }
    }
}
