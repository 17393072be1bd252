//! Where what all users taught is kept: one database, in a folder of the
//! daemon's own, which one process at a time has open.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use classifier::mark::MarkKey;
use classifier::modern::{Base, Explanation, Features, Params, Reading, Verdict};
use classifier::store::lmdb::Access;
use classifier::store::model::{ModelChanges, ModelView};
use classifier::store::{Durability, MemoryModel, ModelStore};
use classifier_rocksdb::{HostStore, Options, UserModel};

use crate::Error;
use crate::taught::Taught;

/// The database: `/var/lib/bmfd`. Opened when it is first asked, and shared by
/// clones from then on.
#[derive(Clone)]
pub struct Databases {
    path: PathBuf,
    model_cache_bytes: usize,
    base: Option<PathBuf>,
    opened: Arc<Mutex<Option<HostStore>>>,
}

impl Databases {
    /// The database in the folder `path`.
    ///
    /// # Errors
    /// With the reason when that is no absolute path.
    pub fn new(path: &Path, model_cache_bytes: usize) -> Result<Self, String> {
        if !path.is_absolute() {
            return Err(format!("{path:?} does not begin with /"));
        }
        Ok(Self {
            path: path.into(),
            model_cache_bytes,
            base: None,
            opened: Arc::default(),
        })
    }

    /// All users begin with the model in the file `base`.
    pub fn over(self, base: Option<PathBuf>) -> Self {
        Self { base, ..self }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file with what all users begin with.
    pub(crate) fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// Whether its folder may be used, if it is there.
    ///
    /// # Errors
    /// When it belongs to somebody else.
    pub fn check(&self) -> Result<(), Error> {
        must_be_ours(&self.path)
    }

    /// The open database.
    ///
    /// # Errors
    /// When it cannot be opened, another process has it open, or its folder is
    /// not ours: whose it is could plant links in it.
    pub fn host(&self) -> Result<HostStore, Error> {
        // What it guards is set as a whole.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = &*opened {
            return Ok(host.clone());
        }
        must_be_ours(&self.path)?;
        let base = self.base.as_deref().map(Base::open).transpose()?;
        let options = Options {
            model_cache_bytes: self.model_cache_bytes,
            base: base.map(Arc::new),
            ..Options::default()
        };
        let host = HostStore::open(&self.path, &options)?;
        *opened = Some(host.clone());
        Ok(host)
    }

    /// The modern model of `user`; to read only, a missing database is empty
    /// and not made.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn open(&self, user: &str, access: Access) -> Result<Model, Error> {
        if access == Access::ReadOnly && !self.path.exists() {
            return Ok(Model::Nothing(MemoryModel::default()));
        }
        Ok(Model::Modern(self.host()?.model(user)))
    }

    /// What `user` taught, as [`open`](Self::open), of whichever engine.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn taught(&self, user: &str, access: Access) -> Result<Taught, Error> {
        if access == Access::ReadOnly && !self.path.exists() {
            return Ok(Taught::Memory(MemoryModel::default()));
        }
        Ok(Taught::of(&self.host()?, user)?)
    }

    /// The key by which the filter marks what it files for `user`. `None`:
    /// there is no database yet, and nothing was ever marked.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn mark_key(&self, user: &str) -> Result<Option<MarkKey>, Error> {
        if !self.path.exists() {
            return Ok(None);
        }
        let secret = self.host()?.secret()?;
        Ok(Some(MarkKey::of_user(&secret, user)))
    }
}

impl PartialEq for Databases {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
            && self.model_cache_bytes == other.model_cache_bytes
            && self.base == other.base
    }
}

impl Eq for Databases {}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Databases({})", self.path.display())
    }
}

/// One user's model of the modern engine.
pub enum Model {
    /// There is no database yet.
    Nothing(MemoryModel),
    /// In the host's database.
    Modern(UserModel),
}

impl Model {
    fn store(&self) -> &dyn ModelStore {
        match self {
            Self::Nothing(model) => model,
            Self::Modern(model) => model,
        }
    }
}

impl ModelStore for Model {
    fn look(
        &self,
        look: &mut dyn FnMut(&dyn ModelView) -> Result<(), classifier::Error>,
    ) -> Result<(), classifier::Error> {
        self.store().look(look)
    }

    fn change(
        &mut self,
        durability: Durability,
        plan: &mut dyn FnMut(&dyn ModelView) -> Result<ModelChanges, classifier::Error>,
    ) -> Result<(), classifier::Error> {
        match self {
            Self::Nothing(model) => model.change(durability, plan),
            Self::Modern(model) => model.change(durability, plan),
        }
    }

    fn judge(
        &self,
        messages: &[Features],
        params: &Params,
    ) -> Result<Vec<Verdict>, classifier::Error> {
        self.store().judge(messages, params)
    }

    fn explain(
        &self,
        reading: &Reading<'_>,
        params: &Params,
        n: usize,
    ) -> Result<(Verdict, Explanation), classifier::Error> {
        self.store().explain(reading, params, n)
    }
}

fn must_be_ours(folder: &Path) -> Result<(), Error> {
    let owner = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(Error::io("examine", folder))?.uid(),
    };
    let uid = rustix::process::geteuid().as_raw();
    if owner == uid {
        return Ok(());
    }
    let reason = format!("it belongs to uid {owner}, and bmfd runs as uid {uid}");
    Err(Error::io("use", folder)(io::Error::other(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_one_reads_as_empty_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("database");
        let databases = Databases::new(&path, 1 << 20).unwrap();
        databases.open("anna", Access::ReadOnly).unwrap();
        assert!(!path.exists());
        databases.open("anna", Access::ReadWrite).unwrap();
        assert!(path.exists());
        assert!(Databases::new(Path::new("lib"), 1).is_err());
    }
}
