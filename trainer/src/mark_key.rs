//! The host's secret, from which each user's [`MarkKey`] comes.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use classifier::mark::MarkKey;

use crate::Error;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey([u8; MarkKey::LEN]);

impl HostKey {
    /// Reads the secret at `path`; makes one first if there is none, for its
    /// owner alone to read.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or is none of ours.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => Self::from_bytes(&bytes, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The key of one user.
    pub fn of_user(&self, user: &str) -> MarkKey {
        MarkKey::of_user(&self.0, user)
    }

    fn make(path: &Path) -> Result<Self, Error> {
        let mut bytes = [0; MarkKey::LEN];
        fs::File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut bytes))
            .map_err(Error::io("read", "/dev/urandom"))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        // Not by renaming, which would replace the key of a process that was
        // faster.
        let publish = |tmp: &Path| fs::hard_link(tmp, path).and_then(|()| fs::remove_file(tmp));
        match write(path, &bytes, publish) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            written => written.map_err(Error::io("write", path))?,
        }
        let found = fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(&found, path)
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let wrong = || Error::io("use", path)(io::Error::other("it is no key of 32 bytes"));
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

/// Whole or not at all, also for readers at the same moment.
fn write(
    path: &Path,
    bytes: &[u8],
    publish: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let tmp = folder.join(format!(".mark-key.{}", std::process::id()));
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    publish(&tmp).inspect_err(|_| drop(fs::remove_file(&tmp)))
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_for_the_daemon_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lib/.mark-key");
        let key = HostKey::open(&path).unwrap();
        assert_eq!(HostKey::open(&path).unwrap(), key);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("lib")).unwrap().count(), 1);
        assert_ne!(key.of_user("anna"), key.of_user("bert"));

        fs::write(&path, "short").unwrap();
        assert!(HostKey::open(&path).is_err());
    }
}
