//! The one configuration file, read into checked values.
//!
//! TOML; `docs/bmfd.toml` lists every key with its unit and default. What is
//! misspelt or impossible is refused with its line, never passed over.
//!
//! ```
//! use trainer::config::Config;
//!
//! let config = Config::parse("[folders]\nspam = ['Spam']", "bmfd.toml".as_ref())?;
//! let wrong = Config::parse("[folders]\nspma = ['Spam']", "bmfd.toml".as_ref());
//! assert!(wrong.unwrap_err().to_string().starts_with("bmfd.toml:2: unknown field `spma`"));
//! # Ok::<(), trainer::Error>(())
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailbox::{FolderName, Layout};
use toml::Spanned;
use tracing::warn;

use crate::Error;
use crate::database::Databases;
use crate::decision::Role;
use crate::dovecot;
use crate::pattern::{Pattern, Place};
use crate::roles::Roles;
use crate::rotation::Quota;
use crate::socket::Limits;
use crate::users;

mod raw;
pub mod wrong;

use wrong::{Wrong, absolute, below};

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where mailboxes are looked for.
    pub patterns: Vec<Pattern>,
    /// Where the mailbox of each account of the system lies, below its home.
    pub accounts: Option<PathBuf>,
    /// Users whose mailbox is named, with its absolute path.
    pub named: BTreeMap<String, PathBuf>,
    /// What all users taught.
    pub databases: Databases,
    /// Who may ask, and where.
    pub listening: Listening,
    /// How changes are noticed.
    pub watching: Watching,
    host: Settings,
    /// Users for whom something else is said.
    users: BTreeMap<String, Settings>,
}

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// For `bmf`, and for administrators.
    pub socket: PathBuf,
    /// May name any user, as may the superuser.
    pub mail_user: Option<String>,
    /// For each connection, on whichever socket.
    pub limits: Limits,
    /// The spamd protocol on a Unix socket.
    pub spamd_socket: Option<PathBuf>,
    /// The spamd protocol over TCP.
    pub spamd: Option<SocketAddr>,
    /// Whether it learns what is told over TCP.
    pub tell_over_tcp: bool,
    /// Counters for Prometheus.
    pub metrics: Option<SocketAddr>,
}

/// How a daemon notices changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Each mailbox is looked at after so long even if nothing was noticed.
    pub rescan: Duration,
    /// Where changes cannot be noticed it is looked at after so long.
    pub poll: Duration,
    /// Nothing is noticed: all mailboxes are polled.
    pub polls: bool,
    /// No more folders than these are watched; `None`: as many as the system
    /// admits.
    pub max_watches: Option<usize>,
}

/// What holds for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which folder is for what.
    pub roles: Roles,
    /// Where learned spam is moved to.
    pub learned: FolderName,
    /// How long spam stays where the user put it before it is moved there.
    pub move_after: Duration,
    /// How long read mail must have been kept before it counts as ham.
    pub keep_before_ham: Duration,
    /// How much ham is learned in a day because it was kept.
    pub ham_per_day: u64,
    /// What folders may hold, each folder once. Others may hold anything.
    pub quotas: Vec<(FolderName, Quota)>,
}

impl Config {
    /// Reads the file at `path`, and what Dovecot says of folders. That it
    /// cannot be asked is logged.
    ///
    /// # Errors
    /// When the file cannot be read, or as [`Config::parse`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse_with(&text, path, || {
            dovecot::special_uses().unwrap_or_else(|error| {
                warn!(%error, "special uses of folders not known");
                Vec::new()
            })
        })
    }

    /// As [`Config::read`], for who looks into no folder: Dovecot is not asked.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_alone(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(&text, path)
    }

    /// Reads `text`; `path` stands in complaints. An empty text gives the
    /// defaults. Nobody is asked about special uses.
    ///
    /// # Errors
    /// At the first thing that is wrong, with its line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        Self::parse_with(text, path, Vec::new)
    }

    fn parse_with(
        text: &str,
        path: &Path,
        special_uses: impl FnOnce() -> SpecialUses,
    ) -> Result<Self, Error> {
        wrong::parse(text, |file| check(file, special_uses)).map_err(|(line, reason)| {
            Error::Config {
                path: path.to_owned(),
                line,
                reason,
            }
        })
    }

    /// Where mailboxes may be by now, of one user or of all: the named ones,
    /// then those by pattern, then those of the system's accounts. Each counts
    /// only for users who have none by then. What cannot be read is told, and does not stop the rest.
    pub fn places(&self, user: Option<&str>) -> (Vec<Place>, Vec<Error>) {
        let named = self.named.iter();
        let mut places: Vec<_> = named.map(|(user, path)| Place::named(user, path)).collect();
        let mut errors = Vec::new();
        for pattern in &self.patterns {
            match pattern.places() {
                Ok(found) => places.extend(
                    found
                        .into_iter()
                        .filter(|place| !self.named.contains_key(&place.user)),
                ),
                Err(error) => errors.push(error),
            }
        }
        if let Some(below) = &self.accounts {
            let found: HashSet<_> = places.iter().map(|place| place.user.clone()).collect();
            match users::homes() {
                Ok(homes) => places.extend(
                    homes
                        .into_iter()
                        .filter(|(user, _)| !found.contains(user))
                        .map(|(user, home)| Place::below(&user, &home, below)),
                ),
                Err(error) => errors.push(error),
            }
        }
        places.retain(|place| user.is_none_or(|user| place.user == user));
        (places, errors)
    }

    /// Keeps what `before` says where nothing can change while the daemon
    /// runs, and names the tables of the file that say something else now.
    pub fn wait_for_restart(&mut self, before: &Self) -> Vec<&'static str> {
        let Listening {
            socket,
            mail_user,
            limits,
            spamd_socket,
            spamd,
            tell_over_tcp,
            metrics,
        } = &self.listening;
        let old = &before.listening;
        let is_service_new =
            (socket, mail_user, limits) != (&old.socket, &old.mail_user, &old.limits);
        let is_spamd_new = (spamd_socket, spamd, tell_over_tcp)
            != (&old.spamd_socket, &old.spamd, &old.tell_over_tcp);
        let tables = [
            (self.databases != before.databases, "database"),
            (is_service_new, "service"),
            (is_spamd_new, "spamd"),
            (metrics != &old.metrics, "metrics"),
            (
                self.watching.max_watches != before.watching.max_watches,
                "watching.max_watches",
            ),
        ];
        self.databases = before.databases.clone();
        self.listening = before.listening.clone();
        self.watching.max_watches = before.watching.max_watches;
        let waiting = tables.into_iter().filter(|(is_new, _)| *is_new);
        waiting.map(|(_, table)| table).collect()
    }

    /// What holds for `user`.
    pub fn settings(&self, user: &str) -> &Settings {
        self.users.get(user).unwrap_or(&self.host)
    }
}

/// Folders that have a role whatever their names are.
type SpecialUses = Vec<(String, Role)>;

fn check(file: raw::File, special_uses: impl FnOnce() -> SpecialUses) -> Result<Config, Wrong> {
    let special_uses = match file.mailboxes.dovecot {
        Some(false) => Vec::new(),
        _ => special_uses(),
    };
    let patterns = match file.mailboxes.patterns {
        None => PATTERNS
            .map(|text| Pattern::parse(text).expect("the default patterns are patterns"))
            .into(),
        Some(patterns) => patterns
            .iter()
            .map(|text| Pattern::parse(text.get_ref()).map_err(Wrong::at(text)))
            .collect::<Result<_, _>>()?,
    };
    let accounts = file.mailboxes.accounts.as_ref().map(below).transpose()?;
    let layout = file
        .mailboxes
        .layout
        .unwrap_or(raw::Layout::MaildirPlusPlus);
    let databases = databases(&file.database)?;
    let listening = listening(&file.service, &file.spamd, &file.metrics)?;
    let host = settings(
        layout,
        &file.folders,
        &special_uses,
        file.learning,
        &[&file.rotation],
    )?;
    let (mut named, mut users) = (BTreeMap::new(), BTreeMap::new());
    for (name, user) in file.users {
        let at = name.span();
        let name = name.into_inner();
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\n', '\0']) {
            let reason = format!("{name:?} cannot be the name of a user");
            return Err(Wrong { at, reason });
        }
        if let Some(path) = &user.mailbox {
            named.insert(name.clone(), absolute(path)?);
        }
        let folders = user.folders.or(&file.folders);
        let layout = user.layout.unwrap_or(layout);
        let settings = settings(
            layout,
            &folders,
            &special_uses,
            user.learning.or(file.learning),
            &[&file.rotation, &user.rotation],
        );
        let settings = settings.map_err(|wrong| Wrong {
            reason: format!("{} (for user {name})", wrong.reason),
            ..wrong
        })?;
        users.insert(name, settings);
    }
    Ok(Config {
        patterns,
        accounts,
        named,
        databases,
        listening,
        watching: watching(&file.watching),
        host,
        users,
    })
}

fn databases(said: &raw::Database) -> Result<Databases, Wrong> {
    let default = || Spanned::new(0..0, DATABASE.into());
    let path = said.path.clone().unwrap_or_else(default);
    let cache_bytes = said.model_cache_bytes.unwrap_or(256 << 20);
    let base = said.base.as_ref().map(absolute).transpose()?;
    let databases = Databases::new(path.get_ref(), cache_bytes).map_err(Wrong::at(&path))?;
    Ok(databases.over(base))
}

fn listening(
    service: &raw::Service,
    spamd: &raw::Spamd,
    metrics: &raw::Metrics,
) -> Result<Listening, Wrong> {
    let number =
        |said: Option<NonZeroU64>, default| said.map_or(default, |n| u64::from(n) as usize);
    let address = |said: &Option<Spanned<String>>| {
        let parsed = said.as_ref().map(|text| {
            let address: Result<SocketAddr, _> = text.get_ref().parse();
            let reason = |_| format!("{:?} is no address such as 127.0.0.1:783", text.get_ref());
            let address = address.map_err(reason).map_err(Wrong::at(text))?;
            match address.ip().is_loopback() {
                true => Ok(address),
                false => Err(Wrong::at(text)(format!(
                    "{address} is no loopback address: whoever reaches it may ask about any user"
                ))),
            }
        });
        parsed.transpose()
    };
    let path = |said: &Option<Spanned<PathBuf>>| said.as_ref().map(absolute).transpose();
    Ok(Listening {
        socket: path(&service.socket)?.unwrap_or_else(|| SOCKET.into()),
        mail_user: service.mail_user.clone().filter(|user| !user.is_empty()),
        limits: Limits {
            message_bytes: number(service.max_message_bytes, 64 << 20).min(256 << 20),
            connections: number(service.max_connections, 256),
            connections_per_user: number(service.max_connections_per_user, 64),
            patience: Duration::from_secs(service.patience_seconds.map_or(30, u64::from)),
        },
        spamd_socket: path(&spamd.socket)?,
        spamd: address(&spamd.listen)?,
        tell_over_tcp: spamd.tell_over_tcp.unwrap_or(false),
        metrics: address(&metrics.listen)?,
    })
}

fn watching(said: &raw::Watching) -> Watching {
    let seconds =
        |said: Option<NonZeroU64>, default| Duration::from_secs(said.map_or(default, u64::from));
    Watching {
        rescan: seconds(said.rescan_seconds, 10 * 60),
        poll: seconds(said.poll_seconds, 60),
        polls: said.only_poll.unwrap_or(false),
        max_watches: said.max_watches,
    }
}

fn settings(
    layout: raw::Layout,
    folders: &raw::Folders,
    special_uses: &SpecialUses,
    learning: raw::Learning,
    rotations: &[&raw::Rotation],
) -> Result<Settings, Wrong> {
    let layout = match layout {
        raw::Layout::MaildirPlusPlus => Layout::MaildirPlusPlus,
        raw::Layout::Nested => Layout::Nested,
    };
    let (roles, learned) = roles(layout, folders, special_uses)?;
    let mut quotas = vec![(learned.clone(), LEARNED_QUOTA)];
    for (folder, quota) in rotations.iter().copied().flatten() {
        let name = FolderName::parse(folder.get_ref(), layout)
            .map_err(|error| Wrong::at(folder)(error.to_string()))?;
        quotas.retain(|(other, _)| *other != name);
        quotas.push((name, checked_quota(quota)));
    }
    let hours = u64::from(learning.keep_before_ham_hours.unwrap_or(24));
    Ok(Settings {
        roles,
        learned,
        move_after: Duration::from_secs(learning.move_after_seconds.unwrap_or(5 * 60)),
        keep_before_ham: Duration::from_secs(hours * 60 * 60),
        ham_per_day: learning.ham_per_day.unwrap_or(50),
        quotas,
    })
}

fn roles(
    layout: Layout,
    folders: &raw::Folders,
    special_uses: &SpecialUses,
) -> Result<(Roles, FolderName), Wrong> {
    let mut roles = Roles::new(layout);
    let learned = folders.learned.clone();
    let learned = learned.unwrap_or_else(|| Spanned::new(0..0, LEARNED.to_owned()));
    add(&mut roles, &learned, Role::Learned)?;
    let name = roles.named(Role::Learned).next().cloned();
    let others = [
        (&folders.spam, SPAM, Role::Spam),
        (&folders.wrongly_caught, &[], Role::WronglyCaught),
        (&folders.archive, ARCHIVE, Role::Archive),
        (&folders.never, NEVER, Role::Never),
    ];
    for (said, _, role) in others {
        for folder in said.iter().flatten() {
            add(&mut roles, folder, role)?;
        }
    }
    for (said, default, role) in others {
        if said.is_none() {
            for folder in default {
                // What the file uses for something else is no default.
                let _ = roles.add(folder, role);
            }
        }
    }
    for (folder, role) in special_uses {
        // Likewise, and it may be one that cannot be a folder here.
        let _ = roles.add(folder, *role);
    }
    Ok((roles, name.expect("it has just been added")))
}

fn add(roles: &mut Roles, folder: &Spanned<String>, role: Role) -> Result<(), Wrong> {
    let added = roles.add(folder.get_ref(), role);
    added.map_err(Wrong::at(folder))
}

fn checked_quota(quota: &raw::Quota) -> Quota {
    const DAY: u64 = 24 * 60 * 60;
    Quota {
        bytes: quota.max_bytes.map(u64::from),
        messages: quota.max_messages.map(u64::from),
        age: quota
            .max_age_days
            .map(|days| Duration::from_secs(u64::from(days).saturating_mul(DAY))),
    }
}

const PATTERNS: [&str; 2] = ["/var/mail/*/Maildir", "/home/*/Maildir"];
const DATABASE: &str = "/var/lib/bmfd/database";
const SOCKET: &str = "/run/bmfd/socket";
const SPAM: &[&str] = &["Junk", "Spam"];
const LEARNED: &str = "Junk.Learned";
const ARCHIVE: &[&str] = &["Archive"];
/// As mail readers call them.
const NEVER: &[&str] = &[
    "Trash",
    "Deleted Items",
    "Deleted Messages",
    "Sent",
    "Sent Items",
    "Sent Messages",
    "Drafts",
];

/// Some years of spam that passed the filter, for most users.
const LEARNED_QUOTA: Quota = Quota {
    bytes: Some(100_000_000),
    messages: None,
    age: None,
};

#[cfg(test)]
mod tests;
