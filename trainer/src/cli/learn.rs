//! `bmfd learn`: a new user's model from folders that are sorted already.

use std::io::Write;
use std::time::SystemTime;

use anyhow::bail;
use classifier::Label;
use classifier::cli::wire::{Ask, Request};
use classifier::cli::{Mode, Output};
use classifier::modern::Act;
use classifier::store::lmdb::Access;
use mailbox::{Entry, Flags, Folder, FolderName, Mailbox};
use tracing::warn;

use super::asking::Daemon;
use super::{Exit, Failure, each_mailbox};
use crate::config::Config;
use crate::pass::read;
use crate::service::plain;
use crate::taught::Taught;
use crate::turn::seconds;

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
        let mut names = parsed.collect::<Result<Vec<_>, _>>()?;
        names.sort();
        names.dedup();
        Ok(names)
    };
    let (ham, spam) = (names(&args.ham)?, names(&args.spam)?);
    if let Some(name) = ham.iter().find(|name| spam.contains(name)) {
        bail!("{name} cannot be both ham and spam");
    }
    let (mut missing, mut failed) = (None, None);
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
        let model = Model::of(subject.user, config);
        let learned = model.and_then(|mut model| all(subject.user, &folders, &mut model, now));
        let learned = match learned {
            Ok(learned) => learned,
            Err(error) => {
                failed = Some(error);
                return Ok(Exit::Wrong);
            }
        };
        let Learned { n_ham, n_spam, .. } = learned;
        writeln!(out, "{}: {n_ham} ham, {n_spam} spam learned", subject.user)?;
        Ok(Exit::wrong_if(learned.is_wrong))
    })?;
    if let Some(name) = missing {
        bail!("{} has no folder {name}", args.user);
    }
    failed.map_or(Ok(exit), Err)
}

/// Where it is learned.
enum Model {
    /// In the database, which nobody else has open.
    Here(Taught),
    /// By the daemon.
    Elsewhere(Daemon),
}

impl Model {
    fn of(user: &str, config: &Config) -> anyhow::Result<Self> {
        let access = Access::ReadWrite;
        Ok(match Daemon::find(config, access)? {
            Some(daemon) => Self::Elsewhere(daemon),
            None => Self::Here(config.databases.taught(user, access)?),
        })
    }

    fn learn(&mut self, user: &str, lessons: &[(Vec<u8>, Act)], now: u64) -> anyhow::Result<()> {
        let daemon = match self {
            Self::Here(taught) => return Ok(taught.learn(lessons, now)?),
            Self::Elsewhere(daemon) => daemon,
        };
        for (n, (message, act)) in lessons.iter().enumerate() {
            let mode = match act {
                Act::Learn(Label::Ham) => Mode::Ham,
                _ => Mode::Spam,
            };
            let ask = Ask {
                // All are on disk when the last one is.
                syncs: n + 1 == lessons.len(),
                ..plain(mode, Output::Nothing)
            };
            daemon.ask(&Request::Message { ask, user, message })?;
        }
        Ok(())
    }
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
const BATCH: usize = 32;

/// Learns of both kinds in turn, since what comes last weighs most.
fn all(
    user: &str,
    folders: &[(Label, Vec<Folder>)],
    model: &mut Model,
    now: SystemTime,
) -> anyhow::Result<Learned> {
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
        model.learn(user, &lessons, seconds(now))?;
    }
}

fn lesson(
    user: &str,
    folder: &Folder,
    entry: &Entry,
    label: Label,
    learned: &mut Learned,
) -> Option<(Vec<u8>, Act)> {
    match read(folder, entry) {
        Ok(raw) => {
            let n = match label {
                Label::Ham => &mut learned.n_ham,
                Label::Spam => &mut learned.n_spam,
            };
            *n += usize::from(raw.is_some());
            raw.map(|raw| (raw, Act::Learn(label)))
        }
        Err(error) => {
            warn!(user, %error, "message left alone");
            learned.is_wrong = true;
            None
        }
    }
}
