//! Where what a user taught is kept: one database for each, in a folder of
//! the daemon's own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use classifier::store::lmdb::{Access, Lmdb, Options};

use crate::Error;

/// The folder of each user's database: `/var/lib/bmfd/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Databases {
    before: PathBuf,
    after: PathBuf,
}

impl Databases {
    /// Understands a path in which one part is `*`, for the user's name.
    ///
    /// # Errors
    /// With the reason when it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (before, after) = text
            .split_once("/*")
            .filter(|(_, after)| after.is_empty() || after.starts_with('/'))
            .filter(|(before, after)| !before.contains('*') && !after.contains('*'))
            .ok_or_else(|| format!("{text:?} needs one part that is *, for the user's name"))?;
        if !before.starts_with('/') {
            return Err(format!("{text:?} does not begin with /"));
        }
        Ok(Self {
            before: before.into(),
            after: after.trim_start_matches('/').into(),
        })
    }

    /// The folder of a user's database.
    pub fn folder(&self, user: &str) -> PathBuf {
        let folder = self.before.join(user);
        if self.after.as_os_str().is_empty() {
            folder
        } else {
            folder.join(&self.after)
        }
    }

    /// Opens a user's database; to read only, a missing one is empty.
    ///
    /// # Errors
    /// When it cannot be opened, is of another engine, or its folder is not
    /// ours: whose it is could plant links in it.
    pub fn open(&self, user: &str, access: Access) -> Result<Lmdb, Error> {
        let folder = self.folder(user);
        must_be_ours(&folder)?;
        let options = Options {
            access,
            lock_wait: LOCK_WAIT,
            engine: "modern",
            ..Options::default()
        };
        Ok(Lmdb::open(&folder, &options)?)
    }
}

/// Longer than any `bmf` holds the lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);

fn must_be_ours(folder: &Path) -> Result<(), Error> {
    let owner = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(Error::io("examine", folder))?.uid(),
    };
    // The owner of a process's files there is its effective user.
    let process = fs::metadata("/proc/self").map_err(Error::io("examine", "/proc/self"))?;
    if owner == process.uid() {
        return Ok(());
    }
    let uid = process.uid();
    let reason = format!("it belongs to uid {owner}, and bmfd runs as uid {uid}");
    Err(Error::io("use", folder)(io::Error::other(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_database_of_a_user_is() {
        let folder = |text| Databases::parse(text).unwrap().folder("anna@example.org");
        let anna = Path::new("/var/lib/bmfd/anna@example.org");
        assert_eq!(folder("/var/lib/bmfd/*"), anna);
        assert_eq!(folder("/var/lib/bmfd/*/.bmf"), anna.join(".bmf"));
        for text in [
            "/var/lib/bmfd",
            "/var/*/x/*",
            "/var/a*",
            "/var/*a",
            "x/*",
            "",
        ] {
            assert!(Databases::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_one_reads_as_empty_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let databases = Databases::parse(&format!("{}/*", dir.path().display())).unwrap();
        databases.open("anna", Access::ReadOnly).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        databases.open("anna", Access::ReadWrite).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
