//! The accounts as files of other programs, so that nobody copies them: qmail's
//! `users` and `control` folders, cmd5checkpw's list, Dovecot's passwd-file,
//! Courier's userdb.
//!
//! What the files should hold is planned from the accounts alone, so that a dry
//! run prints what a real one does. Each file is replaced as a whole, and only
//! when it would change; afterwards, and only then, a command of the
//! administrator's runs.
//!
//! | module | plans |
//! | --- | --- |
//! | `qmail` | who gets what mail |
//! | `cdb` | the same, as qmail reads it |
//! | `passwords` | who logs in |
//!
//! A scheme that a program cannot check is told here, where the administrator
//! sees it. It must not be found out by a user who cannot log in.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::accounts::{Accounts, Address, User};
use crate::config::Config;
use crate::remote::Route;
use crate::whole;

pub(crate) mod cdb;
mod passwords;
mod qmail;

/// What is published, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The folder for `assign` and `cdb`.
    pub qmail_users: Option<PathBuf>,
    /// The folder for `locals`, `rcpthosts`, `virtualdomains`, `smtproutes`.
    pub qmail_control: Option<PathBuf>,
    /// A file of `user:password` lines.
    pub cmd5checkpw: Option<PathBuf>,
    /// A passwd-file.
    pub dovecot: Option<PathBuf>,
    /// A userdb text.
    pub courier: Option<PathBuf>,
    /// What runs when something has changed.
    pub run: Vec<String>,
}

/// What the files should hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    files: Vec<Planned>,
    /// A folder in which no other `.qmail` files may lie.
    only: Option<PathBuf>,
    /// What cannot be published, and what to do.
    pub problems: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Planned {
    path: PathBuf,
    kind: Kind,
    content: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Everybody may read it.
    Open,
    /// Passwords, or what comes from them.
    Secret,
    /// No text.
    Binary,
}

/// The accounts, all at once, and whose files they are.
struct Known {
    domains: Vec<String>,
    users: Vec<User>,
    aliases: Vec<(Address, Vec<String>)>,
    /// The folder with everything of the host.
    data: PathBuf,
    uid: u32,
    gid: u32,
}

impl Known {
    fn home(&self, user: &Address) -> PathBuf {
        let mail = self.data.join("mail");
        mail.join(&user.domain).join(&user.local_part)
    }
}

/// What has been published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The files that have changed.
    pub changed: Vec<PathBuf>,
    /// What could not be published, and what to do.
    pub problems: Vec<String>,
}

/// Publishes the accounts of a host as they are now.
///
/// # Errors
/// When they cannot be read, or a file cannot be written.
pub fn publish(config: &Config, accounts: &Accounts) -> Result<Published, Error> {
    let settings = &config.publish;
    if settings.is_empty() {
        return Ok(Published::default());
    }
    // What was planned first must not be written last.
    let lock = config.data.join("publish.lock");
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&lock);
    let opened = opened.map_err(Error::io("open", &lock))?;
    opened.lock().map_err(Error::io("lock", &lock))?;
    let plan = plan(settings, accounts, &config.remote.routes, &config.data)?;
    Ok(Published {
        changed: plan.carry_out(settings)?,
        problems: plan.problems,
    })
}

impl Settings {
    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        let folders = [&self.qmail_users, &self.qmail_control];
        let files = [&self.cmd5checkpw, &self.dovecot, &self.courier];
        folders.iter().chain(&files).all(|path| path.is_none())
    }

    /// Whether hashes are published, which must not change unseen.
    pub fn has_passwords(&self) -> bool {
        [&self.cmd5checkpw, &self.dovecot, &self.courier]
            .iter()
            .any(|path| path.is_some())
    }
}

/// What should be published of the accounts in `data`.
///
/// # Errors
/// When they cannot be read, or their folder has a name that no file can hold.
pub fn plan(
    settings: &Settings,
    accounts: &Accounts,
    routes: &[Route],
    data: &Path,
) -> Result<Plan, Error> {
    let refuse = |reason: &str| Error::io("publish", data)(io::Error::other(reason));
    let text = data.to_str().ok_or_else(|| refuse("its name is no text"))?;
    if text.contains([':', '|', '\t', '\n', ' ']) {
        return Err(refuse("the files have no way to write its name"));
    }
    let found = fs::metadata(data).map_err(Error::io("read", data))?;
    let known = Known {
        domains: accounts.domains()?.into_iter().map(|d| d.name).collect(),
        users: accounts.users(None)?,
        aliases: accounts.aliases(None)?,
        data: data.to_owned(),
        uid: found.uid(),
        gid: found.gid(),
    };
    let mut plan = Plan::default();
    if let Some(folder) = &settings.qmail_users {
        qmail::users(&known, folder, &mut plan)?;
    }
    if let Some(folder) = &settings.qmail_control {
        qmail::control(&known, routes, folder, &mut plan);
    }
    if let Some(path) = &settings.cmd5checkpw {
        passwords::cmd5checkpw(&known, path, &mut plan);
    }
    if let Some(path) = &settings.dovecot {
        passwords::dovecot(&known, path, &mut plan);
    }
    if let Some(path) = &settings.courier {
        passwords::courier(&known, path, accounts.secret(), &mut plan);
    }
    Ok(plan)
}

impl Plan {
    fn add(&mut self, path: PathBuf, kind: Kind, content: impl Into<Vec<u8>>) {
        let content = content.into();
        self.files.push(Planned {
            path,
            kind,
            content,
        });
    }

    /// What would change, in lines; of secret files only whose they are.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn differences(&self) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for file in &self.files {
            let before = before(&file.path)?;
            if before.as_deref() == Some(&*file.content) {
                continue;
            }
            lines.push(format!("{}:", file.path.display()));
            let before = before.unwrap_or_default();
            match file.kind {
                Kind::Binary => lines.push("  made anew".into()),
                kind => lines.extend(changes(kind, &before, &file.content)),
            }
        }
        for path in self.stale()? {
            lines.push(format!("{}:\n  removed", path.display()));
        }
        Ok(lines)
    }

    /// Folders of the administrator's that are not there.
    pub fn missing_folders(&self) -> BTreeSet<&Path> {
        let folders = self.files.iter().filter_map(|file| file.path.parent());
        let own = self.only.as_deref();
        folders
            .filter(|folder| Some(*folder) != own && !folder.is_dir())
            .collect()
    }

    /// Writes what would change, and runs the command if anything did. Returns
    /// the files.
    ///
    /// # Errors
    /// With the first that cannot be written; all others are.
    pub fn carry_out(&self, settings: &Settings) -> Result<Vec<PathBuf>, Error> {
        let (mut changed, mut failed) = (Vec::new(), None);
        if let Some(folder) = &self.only {
            fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        }
        for file in &self.files {
            match file.write() {
                Ok(true) => changed.push(file.path.clone()),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for path in self.stale()? {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            changed.push(path);
        }
        if let (false, Some((program, arguments))) =
            (changed.is_empty(), settings.run.split_first())
        {
            let ran = Command::new(program).args(arguments).output();
            let output = ran.map_err(Error::io("run", program))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let reason = format!("{}: {}", output.status, said.trim());
                return Err(Error::io("run", program)(io::Error::other(reason)));
            }
        }
        failed.map_or(Ok(changed), Err)
    }

    /// Instructions of aliases that are gone.
    fn stale(&self) -> Result<Vec<PathBuf>, Error> {
        let Some(folder) = &self.only else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", folder))?,
        };
        let planned: BTreeSet<&PathBuf> = self.files.iter().map(|file| &file.path).collect();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter(|path| !planned.contains(path)).collect())
    }
}

impl Planned {
    /// Writes it unless it is there; whether that was needed.
    fn write(&self) -> Result<bool, Error> {
        let is_new = before(&self.path)?.as_deref() != Some(&*self.content);
        if is_new {
            replace(self).map_err(Error::io("publish to", &self.path))?;
        }
        Ok(is_new)
    }
}

fn before(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

fn changes(kind: Kind, before: &[u8], after: &[u8]) -> Vec<String> {
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().map(str::to_owned).collect()
    };
    let (before, after) = (lines(before), lines(after));
    let shown = |line: &str| match kind {
        Kind::Secret => line
            .split([':', '\t'])
            .next()
            .unwrap_or_default()
            .to_owned(),
        Kind::Open | Kind::Binary => line.to_owned(),
    };
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    let gone = before.iter().filter(|line| !new.contains(line));
    let come = after.iter().filter(|line| !old.contains(line));
    gone.map(|line| format!("  - {}", shown(line)))
        .chain(come.map(|line| format!("  + {}", shown(line))))
        .collect()
}

/// Rights and group are those of the file before; a new one that is secret is for
/// its owner and group.
fn replace(file: &Planned) -> io::Result<()> {
    let before = fs::metadata(&file.path).ok();
    let default = match file.kind {
        Kind::Secret => 0o640,
        Kind::Open | Kind::Binary => 0o644,
    };
    let mode = before
        .as_ref()
        .map_or(default, |found| found.mode() & 0o777);
    whole::replace(&file.path, |new| {
        new.write_all(&file.content)?;
        if let Some(found) = &before
            && found.gid() != new.metadata()?.gid()
        {
            fchown(&*new, None, Some(found.gid()))?;
        }
        new.set_permissions(PermissionsExt::from_mode(mode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_when_they_change_and_keep_their_rights() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let plan = |text: &str| {
            let mut plan = Plan::default();
            plan.add(path.clone(), Kind::Secret, text);
            plan
        };
        let ran = dir.path().join("ran");
        let settings = Settings {
            run: vec![
                "sh".into(),
                "-c".into(),
                format!("echo x >>{}", ran.display()),
            ],
            ..Settings::default()
        };
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        let first = plan("anna:1\nbob:2\n");
        assert_eq!(
            first.differences().unwrap()[1..],
            ["  + anna".to_owned(), "  + bob".into()]
        );
        assert_eq!(first.carry_out(&settings).unwrap().len(), 1);
        assert_eq!(mode(), 0o640);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        // Nothing to do, and nothing is run.
        assert!(first.carry_out(&settings).unwrap().is_empty());
        assert!(first.differences().unwrap().is_empty());
        let second = plan("anna:1\n");
        assert_eq!(second.differences().unwrap()[1..], ["  - bob".to_owned()]);
        second.carry_out(&settings).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "anna:1\n");
        assert_eq!(
            (mode(), fs::read_to_string(&ran).unwrap()),
            (0o600, "x\nx\n".into())
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);

        let fails = Settings {
            run: vec!["sh".into(), "-c".into(), "echo no >&2; exit 3".into()],
            ..Settings::default()
        };
        let error = plan("").carry_out(&fails).unwrap_err().to_string();
        assert!(error.contains("no") && error.contains("sh"), "{error}");
    }
}
