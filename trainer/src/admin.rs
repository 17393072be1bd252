//! What an administrator asks of the database: who has a model, what happened
//! to it, moving it, and a copy of everything.
//!
//! The same is done by `bmfd` itself, when no daemon has the database open,
//! and by the daemon, when `bmfd` asks it over its socket.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use classifier::cli::Engine;
use classifier::cli::wire::{Refusal, Reply};
use classifier::modern::Base;
use classifier::store::TokenLookup as _;
use classifier_rocksdb::{HostStore, Renamed};
use serde::{Deserialize, Serialize};

use crate::cli::{Exit, rotate};
use crate::config::Config;
use crate::journal::{Event, Journal};
use crate::live::{Live, Seen, Totals};
use crate::{taught, told, users};

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// One line of JSON about the host, unless only one user is wanted, then
    /// one for each user.
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
    /// A base model of what some users taught, as bytes.
    Base {
        /// Who agreed.
        users: Vec<String>,
    },
    /// A copy of the database in a new folder.
    Backup {
        /// An absolute path.
        dir: PathBuf,
    },
    /// Folders that hold more than they may lose their oldest messages.
    Rotate {
        /// Only this user's.
        user: Option<String>,
        /// It is only said which.
        dry_run: bool,
        /// One object of JSON for each message.
        json: bool,
    },
}

/// Does what the arguments of a request say: one, a [`Command`] as JSON.
pub fn answer(config: &Config, live: &Live, args: &[&str], input: &[u8], now: u64) -> Reply {
    let command = match args {
        [json] => serde_json::from_str(json),
        _ => serde_json::from_str(""),
    };
    let Ok(command) = command else {
        let reason = "that is no command of this version".into();
        return Reply::Refused(Refusal::NoRequest, reason);
    };
    let mut input = input;
    match run(config, Some(live), &command, &mut input, now) {
        Ok((exit, output)) => Reply::Printed {
            exit: exit as u8,
            output,
        },
        Err(error) => Reply::Refused(Refusal::Failed, told(&error)),
    }
}

/// Does what `command` says and returns what it prints. `live`: what is seen of
/// mailboxes, where they are being watched.
///
/// # Errors
/// When it cannot be done; then nothing has changed.
pub fn run(
    config: &Config,
    live: Option<&Live>,
    command: &Command,
    input: &mut dyn Read,
    now: u64,
) -> anyhow::Result<(Exit, Vec<u8>)> {
    let mut out = Vec::new();
    let mut exit = Exit::Done;
    // Opened, and made, only where something is asked of it.
    let host = || config.databases.host();
    match command {
        Command::Rotate {
            user,
            dry_run,
            json,
        } => {
            let now = UNIX_EPOCH + Duration::from_secs(now);
            let how = rotate::How {
                is_dry: *dry_run,
                json: *json,
            };
            exit = rotate::all(config, user.as_deref(), how, now, &mut out)?;
        }
        Command::Status { user } => {
            let host = &host()?;
            let mut users = match user {
                Some(user) => vec![user.clone()],
                None => host.users()?,
            };
            if user.is_none() {
                let line = Line::Host(HostStatus::of(host, live)?);
                serde_json::to_writer(&mut out, &line)?;
                out.push(b'\n');
                // Also those who have taught nothing yet.
                users.extend(live.into_iter().flat_map(Live::users));
                users.sort_unstable();
                users.dedup();
            }
            for user in users {
                let line = Line::Status(Status::of(host, live, &user)?);
                serde_json::to_writer(&mut out, &line)?;
                out.push(b'\n');
            }
        }
        Command::List => {
            for user in host()?.users()? {
                out.extend_from_slice(user.as_bytes());
                out.push(b'\n');
            }
        }
        Command::Export { user } => {
            ensure!(host()?.export(user, &mut out)?, "there is no user {user}");
        }
        Command::Import { user } => {
            ensure!(
                users::is_name(user),
                "{user:?} cannot be the name of a user"
            );
            ensure!(
                host()?.import(user, input)?,
                "there is a user {user} already; remove or rename him first"
            );
        }
        Command::Remove { user } => {
            ensure!(host()?.delete(user)?, "there is no user {user}");
        }
        Command::Rename { from, to } => {
            ensure!(users::is_name(to), "{to:?} cannot be the name of a user");
            match host()?.rename(from, to)? {
                Renamed::Done => {}
                Renamed::NoSuchUser => bail!("there is no user {from}"),
                Renamed::NameTaken => bail!("there is a user {to} already"),
            }
        }
        Command::Base { users } => {
            let mut models = Vec::new();
            let host = &host()?;
            for user in users {
                ensure!(
                    taught::engine(host, user)? == Some(Engine::Modern),
                    "{user} has no model of the modern engine"
                );
                models.push(host.model(user).model()?.to_model());
            }
            out = Base::of(&models).as_bytes().to_vec();
        }
        Command::Backup { dir } => {
            ensure!(dir.is_absolute(), "{dir:?} is no absolute path");
            let partial = partial(dir)?;
            ensure!(!dir.exists(), "{} exists already", dir.display());
            let folder = dir.parent().filter(|folder| !folder.is_dir());
            if let Some(folder) = folder {
                bail!(
                    "cannot make {}: there is no folder {}",
                    dir.display(),
                    folder.display()
                );
            }
            host()?.checkpoint(&partial)?;
            fs::write(partial.join("backup"), format!("{now}\n"))?;
            fs::rename(&partial, dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
    }
    Ok((exit, out))
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

/// A line of [`Command::Status`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// About the host.
    Host(HostStatus),
    /// About one user.
    Status(Status),
}

/// What is known of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    version: u32,
    /// What the database takes on disk.
    pub database_bytes: u64,
    /// The mailboxes; `None`: nobody watches them.
    pub watching: Option<Totals>,
    /// What an administrator should look at.
    pub warning: Option<String>,
}

impl HostStatus {
    fn of(host: &HostStore, live: Option<&Live>) -> Result<Self, classifier::Error> {
        let watching = live.map(Live::totals);
        let without = watching.map_or(0, |totals| totals.without_watches);
        Ok(Self {
            version: 1,
            database_bytes: host.disk_bytes()?,
            watching,
            warning: (without > 0).then(|| {
                format!(
                    "{without} mailboxes are polled, since there are no more watches; \
                     raise fs.inotify.max_user_watches"
                )
            }),
        })
    }
}

/// What is known of one user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
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
    /// His mailboxes that are looked after; none where nobody watches.
    pub mailboxes: Vec<Seen>,
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
    pub fn of(
        host: &HostStore,
        live: Option<&Live>,
        user: &str,
    ) -> Result<Self, classifier::Error> {
        let engine = taught::engine(host, user)?;
        let trained = match engine {
            Some(Engine::Classic) => host.user(user).lookup(&[], &mut Vec::new())?,
            _ => host.model(user).model()?.taught(),
        };
        let pages = Journal::of(host, user).read()?;
        let mailboxes = live.map_or_else(Vec::new, |live| live.of(user));
        let warning = warning(&mailboxes, pages.n_in_vain());
        Ok(Self {
            version: 1,
            user: user.into(),
            engine: engine.map(|engine| engine.name().into()),
            ham: trained.ham,
            spam: trained.spam,
            last_learned: pages.last_learned().cloned(),
            warning,
            counts: pages.counts,
            events: pages.events,
            mailboxes,
        })
    }
}

fn warning(mailboxes: &[Seen], n_in_vain: usize) -> Option<String> {
    let wrong = mailboxes.iter().find_map(|seen| {
        let error = seen.error.as_ref()?;
        Some(format!("{} is left alone: {error}", seen.place))
    });
    wrong.or_else(|| {
        (n_in_vain >= MANY_IN_VAIN)
            .then(|| format!("the last {n_in_vain} moves to or from a spam folder taught nothing"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::What;
    use crate::live::Noticed;
    use classifier::Label;
    use classifier::modern::{Act, Keep, Lesson, learn};
    use classifier::store::Durability;

    /// With its database in this folder.
    fn host(dir: &Path) -> Config {
        let text = format!("database.path = '{}'", dir.display());
        Config::parse(&text, Path::new("test")).unwrap()
    }

    fn taught() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let config = host(&dir.path().join("db"));
        let host = config.databases.host().unwrap();
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
        (dir, config)
    }

    fn done(host: &Config, command: Command, input: &[u8]) -> Vec<u8> {
        let mut input = input;
        run(host, None, &command, &mut input, 1).unwrap().1
    }

    fn status(host: &Config, user: &str) -> Status {
        let user = Some(user.into());
        let line = done(host, Command::Status { user }, b"");
        match serde_json::from_slice(&line).unwrap() {
            Line::Status(status) => status,
            line => panic!("{line:?}"),
        }
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

        let other = self::host(&dir.path().join("other"));
        done(&other, Command::Import { user: user() }, &bytes);
        assert_eq!(status(&other, "anna"), before);
        let to = "bert@example.org".to_owned();
        done(&other, Command::Rename { from: user(), to }, b"");
        assert_eq!(done(&other, Command::List, b""), b"bert@example.org\n");
        let twice = Command::Import {
            user: "bert@example.org".into(),
        };
        assert!(run(&other, None, &twice, &mut &*bytes, 1).is_err());
    }

    #[test]
    fn a_backup_is_a_database() {
        let (dir, host) = taught();
        let to = dir.path().join("backup");
        fs::create_dir(dir.path().join("backup.partial")).unwrap();
        let backup = Command::Backup { dir: to.clone() };
        done(&host, backup.clone(), b"");
        assert!(run(&host, None, &backup, &mut &b""[..], 1).is_err());
        done(
            &host,
            Command::Remove {
                user: "anna".into(),
            },
            b"",
        );
        let restored = self::host(&to);
        assert_eq!(status(&restored, "anna").spam, 1);
    }

    #[test]
    fn a_base_is_made_of_chosen_users_and_of_no_others() {
        let (dir, host) = taught();
        // Alone her spam would wait, and a base has nothing of that.
        let ham = Lesson::new(b"Subject: y\n\nother", Act::Learn(Label::Ham));
        let mut anna = host.databases.host().unwrap().model("anna");
        let keep = Keep::default();
        learn(&mut anna, &[ham], 2, &keep, Durability::Synced).unwrap();
        drop(anna);
        let base = |users: &[&str]| {
            let users = users.iter().map(|user| (*user).into()).collect();
            run(&host, None, &Command::Base { users }, &mut &b""[..], 1).map(|done| done.1)
        };
        assert!(base(&["anna", "bert"]).is_err());
        let bytes = base(&["anna"]).unwrap();
        let path = dir.path().join("base");
        fs::write(&path, bytes).unwrap();
        assert_eq!(Base::open(&path).unwrap().trained().spam, 1);
        taught::make_classic(&host.databases.host().unwrap(), "anna").unwrap();
        assert!(base(&["anna"]).is_err());
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
        Journal::of(&host.databases.host().unwrap(), "anna")
            .add(&vec![event; MANY_IN_VAIN])
            .unwrap();
        assert!(status(&host, "anna").warning.is_some());
    }

    #[test]
    fn all_that_is_watched_is_said_also_of_who_taught_nothing() {
        let (_dir, host) = taught();
        let live = Live::default();
        let seen = |place: &str, error: Option<&str>| Seen {
            place: place.into(),
            noticed: Noticed::ByPollingForWantOfWatches,
            pending: 1,
            looked: 1,
            error: error.map(Into::into),
        };
        live.note("anna", seen("/anna", None));
        live.note("bert", seen("/bert", Some("cannot read it")));
        let lines = run(
            &host,
            Some(&live),
            &Command::Status { user: None },
            &mut &b""[..],
            1,
        );
        let lines = String::from_utf8(lines.unwrap().1).unwrap();
        let lines: Vec<Line> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let [Line::Host(host), Line::Status(anna), Line::Status(bert)] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(host.watching.unwrap().mailboxes, 2);
        assert!(host.warning.as_ref().unwrap().contains("max_user_watches"));
        assert_eq!((anna.user.as_str(), anna.spam), ("anna", 1));
        assert_eq!((&anna.warning, anna.mailboxes[0].pending), (&None, 1));
        assert_eq!((bert.user.as_str(), &bert.engine), ("bert", &None));
        assert_eq!(
            bert.warning.as_deref(),
            Some("/bert is left alone: cannot read it")
        );
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let (_dir, host) = taught();
        for args in [&[][..], &["{}"], &["\"list\"", "x"], &["{\"list\":7}"]] {
            let reply = answer(&host, &Live::default(), args, b"", 1);
            assert!(
                matches!(reply, Reply::Refused(Refusal::NoRequest, _)),
                "{args:?}"
            );
        }
        assert!(matches!(
            answer(&host, &Live::default(), &["\"list\""], b"", 1),
            Reply::Printed { exit: 0, .. }
        ));
    }
}
