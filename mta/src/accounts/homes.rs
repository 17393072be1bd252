//! The folders of users: `mail/DOMAIN/USER`, with `Maildir` and `.qmail` files.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mailbox::{FolderName, Layout, Mailbox};

use super::Address;
use crate::Error;

/// Where the folders of all users are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homes {
    root: PathBuf,
}

/// Folders that a new mailbox gets; the last one tells that all are there.
const FOLDERS: [&str; 3] = ["Junk", "Junk.Learned", "INBOX"];

impl Homes {
    /// Below `root`, which is the host's own.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of all.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A user's folder, whether it is there or not.
    ///
    /// # Errors
    /// With the reason, when no folder can be called so.
    pub fn home(&self, user: &Address) -> Result<PathBuf, String> {
        Ok(self.root.join(below(user)?))
    }

    /// A user's mailbox, which is made first where it is missing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn mailbox(&self, user: &Address) -> Result<Mailbox, Error> {
        match self.open(user) {
            Err(mailbox::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.create(user)
            }
            // Whoever made it was stopped, and names may not be synced.
            Ok(mailbox) if mailbox.folder(&FolderName::inbox())?.is_none() => self.create(user),
            opened => Ok(opened?),
        }
    }

    fn open(&self, user: &Address) -> Result<Mailbox, mailbox::Error> {
        let path = below(user).unwrap_or_default().join("Maildir");
        Mailbox::open(&self.root, &path, Layout::MaildirPlusPlus)
    }

    /// Makes a user's folders, each synced into the one above it.
    fn create(&self, user: &Address) -> Result<Mailbox, Error> {
        let home = self.home(user).map_err(|reason| {
            Error::io("use", self.root.join(user.to_string()))(io::Error::other(reason))
        })?;
        let maildir = home.join("Maildir");
        for folder in [home.parent(), Some(&home), Some(&maildir)]
            .into_iter()
            .flatten()
        {
            make_folder(folder)?;
        }
        let mailbox = self.open(user)?;
        for name in FOLDERS {
            let name = FolderName::parse(name, Layout::MaildirPlusPlus)?;
            mailbox.create_folder(&name)?;
        }
        Ok(mailbox)
    }

    /// Gives a user's folder another name; a missing one is no error.
    ///
    /// # Errors
    /// When one of that name is there already, or the disk refuses.
    pub fn rename(&self, from: &Address, to: &Address) -> Result<(), Error> {
        let refuse = |reason| Error::io("use", &self.root)(io::Error::other(reason));
        let (from, to) = (
            self.home(from).map_err(refuse)?,
            self.home(to).map_err(refuse)?,
        );
        if !from.exists() {
            return Ok(());
        }
        if to.exists() {
            return Err(Error::io("rename to", to)(
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        if let Some(folder) = to.parent() {
            make_folder(folder)?;
        }
        fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
        [&from, &to]
            .into_iter()
            .flat_map(|path| path.parent())
            .try_for_each(sync)
    }

    /// Removes a user's folder with all mail; a missing one is no error.
    ///
    /// # Errors
    /// When the disk refuses; a part may be gone then.
    pub fn erase(&self, user: &Address) -> Result<(), Error> {
        let Ok(home) = self.home(user) else {
            return Ok(());
        };
        match fs::remove_dir_all(&home) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io("erase", home)),
        }
    }
}

/// `DOMAIN/USER`; what a domain's grammar allows is safe already.
fn below(user: &Address) -> Result<PathBuf, String> {
    let name = user.local_part.as_str();
    let usable = |c: char| c.is_alphanumeric() || "._-+'=!#$%&~^".contains(c);
    if name.is_empty() || name.starts_with('.') || name.len() > 200 || !name.chars().all(usable) {
        return Err(format!(
            "{name:?} cannot be the name of a folder, so it can be an alias but no user"
        ));
    }
    Ok(Path::new(&user.domain).join(name))
}

/// One that is there already may not be synced.
fn make_folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(Error::io("make", path))?,
    }
    path.parent().map_or(Ok(()), sync)
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(Error::io("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_no_users() {
        let homes = Homes::new("/mail");
        for name in ["", ".", "..", ".qmail", "a/b", "a\0b", "a b"] {
            assert!(
                homes.home(&Address::new(name, "example.org")).is_err(),
                "{name:?}"
            );
        }
        let home = homes.home(&Address::new("anna.b-c+d", "example.org"));
        assert_eq!(home.unwrap(), Path::new("/mail/example.org/anna.b-c+d"));
    }

    #[test]
    fn a_mailbox_is_made_renamed_and_erased() {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::new(dir.path());
        let (anna, bob) = (
            Address::new("anna", "example.org"),
            Address::new("bob", "example.org"),
        );
        homes.mailbox(&anna).unwrap();
        homes.mailbox(&anna).unwrap();
        let junk = |user: &str| {
            dir.path()
                .join(format!("example.org/{user}/Maildir/.Junk/cur"))
        };
        assert!(junk("anna").is_dir());
        homes.rename(&anna, &bob).unwrap();
        assert!(junk("bob").is_dir() && !junk("anna").exists());
        homes.mailbox(&anna).unwrap();
        assert!(homes.rename(&anna, &bob).is_err());
        homes.erase(&bob).unwrap();
        homes.erase(&bob).unwrap();
        assert!(!junk("bob").exists() && junk("anna").is_dir());
    }
}
