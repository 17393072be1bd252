//! What the commands share: where the host is, TOML in and out, and `--json`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::accounts::{Accounts, Address, Everything, Homes, Kind};
use crate::journal::{Event, Journal, Line};
use crate::queue::disk::Folder;
use crate::smtp::trace;

/// Where everything of a host is: below one folder.
#[derive(Clone, Debug)]
pub struct Places {
    data: PathBuf,
}

impl Places {
    /// The host whose folder is `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into() }
    }

    /// The folder of all.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The database of the accounts.
    pub fn accounts(&self) -> PathBuf {
        self.data.join("accounts.db")
    }

    /// The folder of all users' folders.
    pub fn mail(&self) -> PathBuf {
        self.data.join("mail")
    }

    /// What waits to be delivered.
    pub fn queue(&self) -> PathBuf {
        self.data.join("queue")
    }

    /// Where infected mail lies.
    pub fn quarantine(&self) -> PathBuf {
        self.data.join("quarantine")
    }

    /// The stories of messages.
    pub fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }

    /// The journal, to be written beside the server, which keeps it within its
    /// bounds.
    pub fn journal_file(&self) -> Journal {
        Journal::new(self.journal(), u64::MAX)
    }

    /// Notes what an administrator did.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn note(&self, id: &str, event: Event) -> anyhow::Result<()> {
        let line = Line {
            at: trace::seconds(SystemTime::now()),
            id: id.to_owned(),
            event,
        };
        let noted = self.journal_file().note(&line);
        noted.with_context(|| format!("cannot write {}", self.journal().display()))
    }

    /// Opens the accounts; makes the folder of all users' folders.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn open(&self) -> anyhow::Result<Accounts> {
        if let Err(error) = std::fs::read_dir(&self.data)
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            bail!(
                "{} is not yours: run this as root or as the owner of that folder",
                self.data.display()
            );
        }
        Folder::open(&self.mail())
            .with_context(|| format!("cannot make {}", self.mail().display()))?;
        Ok(Accounts::of_host(&self.data)?)
    }
}

/// `import` of any kind.
#[derive(Args, Debug)]
pub struct Import {
    /// The TOML file; - reads standard input
    file: PathBuf,
}

impl Import {
    /// Enters what the text holds, of all kinds, and makes the mailboxes.
    pub(super) fn run(&self, accounts: &Accounts) -> anyhow::Result<()> {
        let text = if self.file.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(&self.file)
        };
        let name = self.file.display();
        let text = text.with_context(|| format!("cannot read {name}"))?;
        let all = Everything::parse(&text)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("cannot understand {name}"))?;
        let users = all.enter(accounts)?;
        for user in &users {
            accounts.homes().mailbox(user)?;
        }
        Ok(())
    }
}

/// `export` of one kind.
#[derive(Args, Debug)]
pub struct Export {
    /// Domains, users and aliases in one text
    #[arg(long)]
    all: bool,
}

impl Export {
    pub(super) fn run(
        &self,
        accounts: &Accounts,
        kind: Kind,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let everything = Everything::of(accounts)?;
        let wanted = if self.all {
            everything
        } else {
            everything.only(kind)
        };
        Ok(out.write_all(wanted.print().as_bytes())?)
    }
}

/// Prints rows as a table, or one object a line.
pub(super) fn print<T: Serialize>(
    rows: &[T],
    json: bool,
    line: impl Fn(&T) -> String,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for row in rows {
        if json {
            serde_json::to_writer(&mut *out, row)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", line(row).trim_end())?;
        }
    }
    Ok(())
}

/// For clap: an address of ours.
pub(super) fn address(text: &str) -> Result<Address, String> {
    if !text.contains('@') {
        return Err(format!("{text} has no domain; write {text}@example.org"));
    }
    Address::parse(text).map_err(|error| error.to_string())
}

/// For clap: a user's address.
pub(super) fn user_address(text: &str) -> Result<Address, String> {
    let address = address(text)?;
    // Whether a folder can be called so.
    Homes::new("").home(&address).map(|_| address)
}

/// For clap: an address anywhere, as it is kept.
pub(super) fn target(text: &str) -> Result<String, String> {
    let mailbox = crate::smtp::Mailbox::parse(text.as_bytes());
    mailbox
        .map(|mailbox| mailbox.to_string())
        .map_err(|error| error.to_string())
}

/// For clap: a domain.
pub(super) fn domain(text: &str) -> Result<String, String> {
    crate::accounts::domain_name(text).map_err(|error| error.to_string())
}

/// For clap: `on` or `off`.
pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".into()),
    }
}
