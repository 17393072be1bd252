//! What an administrator asks of the database: who has a model, what happened
//! to it, moving it, and a copy of everything.
//!
//! The same is done by `bmfd` itself, when no daemon has the database open,
//! and by the daemon, when `bmfd` asks it over its socket.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use classifier::cli::wire::{Refusal, Reply};
use classifier::modern::Weights as _;
use classifier::store::TokenLookup as _;
use classifier_rocksdb::{HostStore, Renamed};
use serde::{Deserialize, Serialize};

use crate::journal::{Event, Journal};
use crate::users;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// One line of JSON for each user, or for one.
    Status {
        /// Only this one.
        user: Option<String>,
    },
    /// The names of all users, one a line.
    List,
    /// One user as bytes.
    Export {
        /// Whom.
        user: String,
    },
    /// A user made of such bytes.
    Import {
        /// Whose name he gets.
        user: String,
    },
    /// A user and all that was learned from him goes.
    Remove {
        /// Whom.
        user: String,
    },
    /// A user gets another name.
    Rename {
        /// His name.
        from: String,
        /// The new one.
        to: String,
    },
    /// A copy of the database in a new folder.
    Backup {
        /// An absolute path.
        dir: PathBuf,
    },
}

/// Does what the arguments of a request say: one, a [`Command`] as JSON.
pub fn answer(host: &HostStore, args: &[&str], input: &[u8], now: u64) -> Reply {
    let command = match args {
        [json] => serde_json::from_str(json),
        _ => serde_json::from_str(""),
    };
    let Ok(command) = command else {
        let reason = "that is no command of this version".into();
        return Reply::Refused(Refusal::NoRequest, reason);
    };
    let mut input = input;
    match run(host, &command, &mut input, now) {
        Ok(output) => Reply::Printed { exit: 0, output },
        Err(error) => Reply::Refused(Refusal::Failed, format!("{error:#}")),
    }
}

/// Does what `command` says and returns what it prints.
///
/// # Errors
/// When it cannot be done; then nothing has changed.
pub fn run(
    host: &HostStore,
    command: &Command,
    input: &mut dyn Read,
    now: u64,
) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    match command {
        Command::Status { user } => {
            let users = match user {
                Some(user) => vec![user.clone()],
                None => host.users()?,
            };
            for user in users {
                serde_json::to_writer(&mut out, &Status::of(host, &user)?)?;
                out.push(b'\n');
            }
        }
        Command::List => {
            for user in host.users()? {
                out.extend_from_slice(user.as_bytes());
                out.push(b'\n');
            }
        }
        Command::Export { user } => {
            ensure!(host.export(user, &mut out)?, "there is no user {user}");
        }
        Command::Import { user } => {
            ensure!(
                users::is_name(user),
                "{user:?} cannot be the name of a user"
            );
            ensure!(
                host.import(user, input)?,
                "there is a user {user} already; remove or rename him first"
            );
        }
        Command::Remove { user } => {
            ensure!(host.delete(user)?, "there is no user {user}");
        }
        Command::Rename { from, to } => {
            ensure!(users::is_name(to), "{to:?} cannot be the name of a user");
            match host.rename(from, to)? {
                Renamed::Done => {}
                Renamed::NoSuchUser => bail!("there is no user {from}"),
                Renamed::NameTaken => bail!("there is a user {to} already"),
            }
        }
        Command::Backup { dir } => {
            ensure!(dir.is_absolute(), "{dir:?} is no absolute path");
            let partial = partial(dir)?;
            ensure!(!dir.exists(), "{} exists already", dir.display());
            host.checkpoint(&partial)?;
            fs::write(partial.join("backup"), format!("{now}\n"))?;
            fs::rename(&partial, dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
    }
    Ok(out)
}

/// A copy is made under another name, so that what has the right one is whole.
fn partial(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut name = dir.file_name().context("a backup needs a name")?.to_owned();
    name.push(".partial");
    let partial = dir.with_file_name(name);
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    Ok(partial)
}

/// What is known of one user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    r#type: String,
    version: u32,
    /// His name.
    pub user: String,
    /// Of his model; `None`: he has none.
    pub engine: Option<String>,
    /// Messages that the model holds.
    pub ham: u32,
    /// Messages that the model holds.
    pub spam: u32,
    /// The last lesson.
    pub last_learned: Option<Event>,
    /// How often each kind of event has happened.
    pub counts: std::collections::BTreeMap<String, u64>,
    /// The newest events, oldest first.
    pub events: Vec<Event>,
    /// What an administrator should look at.
    pub warning: Option<String>,
}

/// So many moves in vain, one after another, are worth a warning.
const MANY_IN_VAIN: usize = 5;

impl Status {
    /// Of a user who need not exist.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn of(host: &HostStore, user: &str) -> Result<Self, classifier::Error> {
        let engines = host.engines(user)?;
        let store = host.user(user);
        let is_classic = store.note("engine")?.is_some();
        let engine = match (is_classic, engines.contains(&"modern")) {
            (true, _) => Some("classic"),
            (false, true) => Some("modern"),
            (false, false) => None,
        };
        let trained = match is_classic {
            true => store.lookup(&[], &mut Vec::new())?,
            false => host.model(user).model()?.trained(),
        };
        let pages = Journal::of(host, user).read()?;
        let n_in_vain = pages.n_in_vain();
        Ok(Self {
            r#type: "status".into(),
            version: 1,
            user: user.into(),
            engine: engine.map(Into::into),
            ham: trained.ham,
            spam: trained.spam,
            last_learned: pages.last_learned().cloned(),
            warning: (n_in_vain >= MANY_IN_VAIN)
                .then(|| format!("{n_in_vain} moves, and nothing learned from them")),
            counts: pages.counts,
            events: pages.events,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::What;
    use classifier::Label;
    use classifier::modern::{Act, Keep, Lesson, learn};
    use classifier::store::Durability;

    fn taught() -> (tempfile::TempDir, HostStore) {
        let dir = tempfile::tempdir().unwrap();
        let host = HostStore::open(&dir.path().join("db"), &Default::default()).unwrap();
        let lesson = Lesson::new(b"Subject: x\n\nwords", Act::Learn(Label::Spam));
        let keep = Keep::default();
        learn(
            &mut host.model("anna"),
            &[lesson],
            1,
            &keep,
            Durability::Synced,
        )
        .unwrap();
        let event = |time, what| Event {
            time,
            what,
            from: "Junk".into(),
        };
        let mut journal = Journal::of(&host, "anna");
        journal
            .add(&[event(1, What::Learned(Label::Spam))])
            .unwrap();
        (dir, host)
    }

    fn done(host: &HostStore, command: Command, input: &[u8]) -> Vec<u8> {
        let mut input = input;
        run(host, &command, &mut input, 1).unwrap()
    }

    fn status(host: &HostStore, user: &str) -> Status {
        let user = Some(user.into());
        let line = done(host, Command::Status { user }, b"");
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn users_move_with_all_that_is_theirs() {
        let (dir, host) = taught();
        let before = status(&host, "anna");
        assert_eq!((before.ham, before.spam), (0, 1));
        assert_eq!(before.last_learned.as_ref().unwrap().from, "Junk");
        let user = || "anna".to_owned();
        let bytes = done(&host, Command::Export { user: user() }, b"");
        done(&host, Command::Remove { user: user() }, b"");
        assert_eq!(done(&host, Command::List, b""), b"");
        assert_eq!(status(&host, "anna").engine, None);

        let other = HostStore::open(&dir.path().join("other"), &Default::default()).unwrap();
        done(&other, Command::Import { user: user() }, &bytes);
        assert_eq!(status(&other, "anna"), before);
        let to = "bert@example.org".to_owned();
        done(&other, Command::Rename { from: user(), to }, b"");
        assert_eq!(done(&other, Command::List, b""), b"bert@example.org\n");
        let twice = Command::Import {
            user: "bert@example.org".into(),
        };
        assert!(run(&other, &twice, &mut &*bytes, 1).is_err());
    }

    #[test]
    fn a_backup_is_a_database() {
        let (dir, host) = taught();
        let to = dir.path().join("backup");
        fs::create_dir(dir.path().join("backup.partial")).unwrap();
        let backup = Command::Backup { dir: to.clone() };
        done(&host, backup.clone(), b"");
        assert!(run(&host, &backup, &mut &b""[..], 1).is_err());
        done(
            &host,
            Command::Remove {
                user: "anna".into(),
            },
            b"",
        );
        let restored = HostStore::open(&to, &Default::default()).unwrap();
        assert_eq!(status(&restored, "anna").spam, 1);
    }

    #[test]
    fn moves_in_vain_are_worth_a_warning() {
        let (_dir, host) = taught();
        assert_eq!(status(&host, "anna").warning, None);
        let event = Event {
            time: 2,
            what: What::TaughtNothing("flagged".into()),
            from: "Junk".into(),
        };
        Journal::of(&host, "anna")
            .add(&vec![event; MANY_IN_VAIN])
            .unwrap();
        assert!(status(&host, "anna").warning.is_some());
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let (_dir, host) = taught();
        for args in [&[][..], &["{}"], &["\"list\"", "x"], &["{\"list\":7}"]] {
            let reply = answer(&host, args, b"", 1);
            assert!(
                matches!(reply, Reply::Refused(Refusal::NoRequest, _)),
                "{args:?}"
            );
        }
        assert!(matches!(
            answer(&host, &["\"list\""], b"", 1),
            Reply::Printed { exit: 0, .. }
        ));
    }
}
