//! The database of a host: opening, users, backup.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use classifier::Error;
use classifier::modern::Base;
use classifier::store::Durability;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, ReadOptions, WriteBatch, WriteOptions};

use crate::cache::{Cache, CacheUse, Locks};
use crate::error::{convert, damaged, locked};
use crate::layout::{self, UserId};
use crate::{Options, UserModel, UserStore, logs};

/// The open database of a host. Cheap to clone; it is closed with the last
/// clone and the last [`UserStore`].
#[derive(Clone)]
pub struct HostStore {
    pub(crate) shared: Arc<Shared>,
}

/// What [`HostStore::rename`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// The user has the new name.
    Done,
    /// Nothing: nobody has the old name.
    NoSuchUser,
    /// Nothing: somebody has the new name.
    NameTaken,
}

impl HostStore {
    /// Opens the database in the folder `path`. Makes both when missing, the
    /// folder with mode 0700, since the words in it are from people's mail.
    ///
    /// # Errors
    /// `Locked`, at once, when somebody has it open (within a second when it
    /// cannot be told who); `NewerFormat`; `Damaged`
    /// when files are missing or not as written. Blocks of tables are checked
    /// when they are read: damage in one user's blocks shows in that user's
    /// calls. A log or manifest that is merely cut short looks as after a
    /// crash, and opens in the state of an earlier moment.
    pub fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(Error::io("create", path))?;
        let alone = alone(path)?;
        let mut rocksdb_options = options.to_rocksdb();
        rocksdb_options.create_if_missing(is_new(path)?);
        let families = [(FAMILY, rocksdb_options.clone())];
        let db = DB::open_cf_with_opts(&rocksdb_options, path, families)
            .map_err(|e| convert("open", path, e))?;
        let shared = Shared {
            db,
            _alone: alone,
            path: path.into(),
            names: RwLock::new(()),
            locks: Locks::default(),
            cache: Cache::new(options.model_cache_bytes),
            base: options.base.clone(),
        };
        shared.check_version()?;
        shared.clear_filling()?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The store of the user `name`, who comes into being with the first
    /// change. The store belongs to the name: when that user is deleted or
    /// renamed, it is the store of whoever has the name then.
    pub fn user(&self, name: &str) -> UserStore {
        UserStore::new(Arc::clone(&self.shared), name)
    }

    /// The model of the modern engine of the user `name`, as [`user`](Self::user)
    /// is the store of the counts of the classic one.
    pub fn model(&self, name: &str) -> UserModel {
        UserModel::new(Arc::clone(&self.shared), name)
    }

    /// Of which engines the user `name` has records: `classic`, `modern`, both
    /// or none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn engines(&self, name: &str) -> Result<Vec<&'static str>, Error> {
        let Some(id) = self.shared.user_id(name)? else {
            return Ok(Vec::new());
        };
        let mut engines = Vec::new();
        for (engine, key) in [
            ("classic", layout::messages_key(id)),
            ("modern", layout::state_key(id)),
        ] {
            if self.shared.get(&key, &ReadOptions::default())?.is_some() {
                engines.push(engine);
            }
        }
        Ok(engines)
    }

    /// What the models in memory take.
    pub fn model_cache(&self) -> CacheUse {
        self.shared.cache.in_use()
    }

    /// All users, ascending by the bytes of their names.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn users(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        self.shared.each_key(layout::user_range(), |name| {
            let name = String::from_utf8(name.into())
                .map_err(|_| self.shared.damaged("a user's name is not UTF-8"))?;
            names.push(name);
            Ok(())
        })?;
        Ok(names)
    }

    /// Deletes a user with all counts, model and ledger, synced; `false` when there is no such
    /// user. Costs the same for any number of tokens: the space is free again
    /// when RocksDB next compacts the tables concerned.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn delete(&self, name: &str) -> Result<bool, Error> {
        let _names = self.shared.lock_names();
        let Some(id) = self.shared.user_id(name)? else {
            return Ok(false);
        };
        let mut batch = WriteBatch::default();
        batch.delete(layout::user_key(name));
        delete_owned(&mut batch, id);
        self.shared.cache.forget(id);
        self.shared.write(batch, Durability::Synced)?;
        Ok(true)
    }

    /// Gives the user `from` the name `to`, synced, by writing one record.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn rename(&self, from: &str, to: &str) -> Result<Renamed, Error> {
        let _names = self.shared.lock_names();
        let Some(id) = self.shared.user_id(from)? else {
            return Ok(Renamed::NoSuchUser);
        };
        if self.shared.user_id(to)?.is_some() {
            return Ok(Renamed::NameTaken);
        }
        let mut batch = WriteBatch::default();
        batch.delete(layout::user_key(from));
        batch.put(layout::user_key(to), id.to_record());
        self.shared.write(batch, Durability::Synced)?;
        Ok(Renamed::Done)
    }

    /// Bytes that the database takes on disk.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        let path = self.shared.path();
        let read = || -> std::io::Result<u64> {
            let mut bytes = 0;
            for file in fs::read_dir(path)? {
                // One that RocksDB has removed meanwhile takes nothing.
                bytes += file?.metadata().map_or(0, |metadata| metadata.len());
            }
            Ok(bytes)
        };
        read().map_err(Error::io("read", path))
    }

    /// Random bytes that are this host's alone: made when they are first asked
    /// for, and the same from then on, also in a backup.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn secret(&self) -> Result<[u8; SECRET_LEN], Error> {
        let found = || -> Result<Option<[u8; SECRET_LEN]>, Error> {
            let options = ReadOptions::default();
            let Some(secret) = self.shared.get(&layout::secret_key(), &options)? else {
                return Ok(None);
            };
            let secret = secret[..].try_into().map(Some);
            secret.map_err(|_| self.shared.damaged("the secret is not 32 bytes long"))
        };
        if let Some(secret) = found()? {
            return Ok(secret);
        }
        let _names = self.shared.lock_names();
        if let Some(secret) = found()? {
            return Ok(secret);
        }
        let mut secret = [0; SECRET_LEN];
        let random = Path::new("/dev/urandom");
        File::open(random)
            .and_then(|mut random| random.read_exact(&mut secret))
            .map_err(Error::io("read", random))?;
        let mut batch = WriteBatch::default();
        batch.put(layout::secret_key(), secret);
        self.shared.write(batch, Durability::Synced)?;
        Ok(secret)
    }

    /// Writes a copy of the whole database, as it is at this moment, to the
    /// new folder `path`; the work of others goes on meanwhile. On the same
    /// file system the copy shares its tables with the original and costs
    /// next to nothing.
    ///
    /// The copy is a database like any other: to restore, put it where the
    /// damaged one was, while nobody has that open.
    ///
    /// # Errors
    /// When `path` exists or cannot be written.
    pub fn checkpoint(&self, path: &Path) -> Result<(), Error> {
        if path.exists() {
            return Err(Error::Io {
                action: "create",
                path: path.into(),
                source: std::io::ErrorKind::AlreadyExists.into(),
            });
        }
        Checkpoint::new(&self.shared.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(path))
            .map_err(|e| convert("write a checkpoint to", path, e))
    }
}

/// Takes the folder for this process. RocksDB's own lock comes too late: who is
/// refused by it has put away the log of who has the database open, and two
/// that do so at the same moment take it for damaged.
fn alone(path: &Path) -> Result<File, Error> {
    /// A program that the last owner began, a child that was just forked, has
    /// what was open there until it is executed. RocksDB's lock it has not.
    const INSTANT: Duration = Duration::from_secs(1);
    let folder = File::open(path).map_err(Error::io("open", path))?;
    let begun = Instant::now();
    loop {
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => match locked(path) {
                Error::Locked { owner: None, .. } if begun.elapsed() < INSTANT => {
                    thread::sleep(Duration::from_millis(10));
                }
                error => return Err(error),
            },
            // Some file systems lock no folders; RocksDB's lock stands alone then.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(folder),
        }
    }
}

/// Bytes of [`HostStore::secret`].
pub const SECRET_LEN: usize = 32;

/// The only column family.
const FAMILY: &str = "default";

/// The open database, for [`HostStore`], [`UserStore`] and [`UserModel`].
pub(crate) struct Shared {
    pub(crate) db: DB,
    /// Let go of when the database is closed.
    _alone: File,
    path: PathBuf,
    /// Held shared while counts are written under an id that a name stood
    /// for, and exclusively while names change: so no count is written for a
    /// user who has just been deleted. Readers take snapshots instead.
    names: RwLock<()>,
    pub(crate) locks: Locks,
    pub(crate) cache: Cache,
    /// What each model begins with.
    pub(crate) base: Option<Arc<Base>>,
}

impl Shared {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn family(&self) -> &ColumnFamily {
        self.db.cf_handle(FAMILY).expect("opened with the database")
    }

    pub(crate) fn get(
        &self,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        self.db
            .get_pinned_opt(key, options)
            .map_err(|e| self.convert("read", e))
    }

    /// The id behind `name`, now.
    pub(crate) fn user_id(&self, name: &str) -> Result<Option<UserId>, Error> {
        self.user_id_at(name, &ReadOptions::default())
    }

    /// The id behind `name` in the snapshot of `options`.
    pub(crate) fn user_id_at(
        &self,
        name: &str,
        options: &ReadOptions,
    ) -> Result<Option<UserId>, Error> {
        self.id_record(&layout::user_key(name), options)
    }

    fn id_record(&self, key: &[u8], options: &ReadOptions) -> Result<Option<UserId>, Error> {
        let Some(record) = self.get(key, options)? else {
            return Ok(None);
        };
        let id = UserId::from_record(&record);
        id.map(Some)
            .ok_or_else(|| self.damaged("an id is not 8 bytes long"))
    }

    /// An id that nobody had, given with `batch`. Only under
    /// [`Self::lock_names`], until `batch` is written.
    pub(crate) fn new_id(&self, batch: &mut WriteBatch) -> Result<UserId, Error> {
        let last = self.id_record(&layout::last_id_key(), &ReadOptions::default())?;
        let id = UserId(last.map_or(0, |id| id.0) + 1);
        batch.put(layout::last_id_key(), id.to_record());
        Ok(id)
    }

    /// An id to be filled in several batches, of which nothing is left if it
    /// does not become a user's.
    pub(crate) fn begin_filling(&self) -> Result<UserId, Error> {
        let _names = self.lock_names();
        let mut batch = WriteBatch::default();
        let id = self.new_id(&mut batch)?;
        batch.put(layout::filling_key(id), []);
        self.write(batch, Durability::Relaxed)?;
        Ok(id)
    }

    /// Writes `batch` wholly or not at all.
    pub(crate) fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.db
            .write_opt(batch, &options)
            .map_err(|e| self.convert("write", e))
    }

    /// Keeps names as they are.
    pub(crate) fn hold_names(&self) -> RwLockReadGuard<'_, ()> {
        // The lock guards no data that a panic could leave half changed.
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody else from reading names in order to write.
    pub(crate) fn lock_names(&self) -> RwLockWriteGuard<'_, ()> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn convert(&self, action: &'static str, error: rocksdb::Error) -> Error {
        convert(action, &self.path, error)
    }

    pub(crate) fn damaged(&self, detail: &str) -> Error {
        damaged(&self.path, detail)
    }

    /// Calls `visit` with what follows owner and kind in each key of `range`.
    fn each_key(
        &self,
        range: (Vec<u8>, Vec<u8>),
        mut visit: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let options = ReadOptions::default();
        self.each_record(range, options, |key, _| visit(key).map(|()| true))
    }

    /// Calls `visit` with what follows owner and kind in each key of `keys`,
    /// from and to, and the value, until it returns false. Reads in the
    /// snapshot of `options`.
    pub(crate) fn each_record(
        &self,
        keys: (Vec<u8>, Vec<u8>),
        options: ReadOptions,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        self.each(keys, options, |key, value| {
            let rest = layout::key_rest(key).ok_or_else(|| self.damaged("a key is too short"))?;
            visit(rest, value)
        })
    }

    /// As [`each_record`](Self::each_record), with whole keys.
    pub(crate) fn each(
        &self,
        keys: (Vec<u8>, Vec<u8>),
        mut options: ReadOptions,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        options.set_iterate_range(keys.0..keys.1);
        options.set_total_order_seek(true);
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            if !visit(key, value)? {
                return Ok(());
            }
            iterator.next();
        }
        iterator.status().map_err(|e| self.convert("read", e))
    }

    fn check_version(&self) -> Result<(), Error> {
        let Some(record) = self.get(&layout::version_key(), &ReadOptions::default())? else {
            return self.make_ours();
        };
        let found = record[..].try_into().map(u32::from_be_bytes);
        match found.map_err(|_| self.damaged("the format version is not 4 bytes long"))? {
            layout::VERSION => Ok(()),
            // They had fewer kinds of records.
            1 | 2 => self.put_version(),
            found if found > layout::VERSION => Err(Error::NewerFormat {
                path: self.path.clone(),
                found,
                newest: layout::VERSION,
            }),
            found => Err(self.damaged(&format!("no format version {found} ever was"))),
        }
    }

    /// Marks a new database as ours.
    fn make_ours(&self) -> Result<(), Error> {
        let mut iterator = self.db.raw_iterator();
        iterator.seek_to_first();
        iterator.status().map_err(|e| self.convert("read", e))?;
        if iterator.valid() {
            return Err(self.damaged("it has no format version: another program made it"));
        }
        self.put_version()?;
        // From now on there is a table, by which `is_new` knows an old
        // database whose log has got lost.
        self.db.flush().map_err(|e| self.convert("write", e))
    }

    fn put_version(&self) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put(layout::version_key(), layout::VERSION.to_be_bytes());
        self.write(batch, Durability::Synced)
    }

    /// Deletes what replacements left that did not come to their end.
    fn clear_filling(&self) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        self.each_key(layout::filling_range(), |id| {
            let id = UserId::from_record(id)
                .ok_or_else(|| self.damaged("the id of a replacement is not 8 bytes long"))?;
            delete_owned(&mut batch, id);
            batch.delete(layout::filling_key(id));
            Ok(())
        })?;
        self.write(batch, Durability::Relaxed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // An orderly end leaves nothing unsynced. Should it fail, relaxed
        // changes were all there was to lose.
        self.db.flush_wal(true).ok();
    }
}

/// Deletes all counts under `id`.
pub(crate) fn delete_owned(batch: &mut WriteBatch, id: UserId) {
    let (from, to) = layout::owned_range(id);
    batch.delete_range(from, to);
}

/// Whether the folder holds no database yet. RocksDB takes a database without
/// its file CURRENT for none, makes a new one and deletes the old tables; and
/// one without its log for complete; and some damage in a log never lets it
/// go on.
fn is_new(path: &Path) -> Result<bool, Error> {
    let (mut current, mut table, mut log) = (false, false, false);
    let mut logs = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("open", path))? {
        let file = entry.map_err(Error::io("read", path))?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        current |= name == "CURRENT";
        table |= name.ends_with(".sst");
        log |= name.ends_with(".log");
        if name.ends_with(".log") || name.starts_with("MANIFEST-") {
            logs.push(file.path());
        }
    }
    if !current && (table || log) {
        return Err(damaged(path, "the file CURRENT is missing"));
    }
    if current && table && !log {
        return Err(damaged(path, "the write-ahead log, NUMBER.log, is missing"));
    }
    logs::check(path, &logs)?;
    Ok(!current)
}

#[cfg(test)]
mod tests {
    use classifier::store::TokenStore;

    use super::*;

    fn open(path: &Path) -> Result<HostStore, Error> {
        HostStore::open(path, &Options::default())
    }

    fn put(host: &HostStore, key: Vec<u8>, value: &[u8]) {
        let mut batch = WriteBatch::default();
        batch.put(key, value);
        host.shared.write(batch, Durability::Synced).unwrap();
    }

    #[test]
    fn refuses_a_newer_version() {
        let dir = tempfile::tempdir().unwrap();
        let newer = layout::VERSION + 1;
        let host = open(dir.path()).unwrap();
        put(&host, layout::version_key(), &newer.to_be_bytes());
        drop(host);
        let refused = open(dir.path()).err();
        assert!(
            matches!(refused, Some(Error::NewerFormat { found, .. }) if found == newer),
            "{refused:?}"
        );
    }

    #[test]
    fn what_an_older_version_made_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for older in 1..layout::VERSION {
            let host = open(dir.path()).unwrap();
            put(&host, layout::version_key(), &older.to_be_bytes());
            drop(host);
            let host = open(dir.path()).unwrap();
            let version = host
                .shared
                .get(&layout::version_key(), &ReadOptions::default());
            assert_eq!(
                &version.unwrap().unwrap()[..],
                layout::VERSION.to_be_bytes()
            );
        }
    }

    #[test]
    fn the_secret_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let secret = open(&dir.path().join("a")).unwrap().secret().unwrap();
        let host = open(&dir.path().join("a")).unwrap();
        assert_eq!(host.secret().unwrap(), secret);
        host.checkpoint(&dir.path().join("copy")).unwrap();
        let copy = open(&dir.path().join("copy")).unwrap();
        assert_eq!(copy.secret().unwrap(), secret);
        assert_ne!(
            open(&dir.path().join("b")).unwrap().secret().unwrap(),
            secret
        );
    }

    #[test]
    fn refuses_what_others_made() {
        let dir = tempfile::tempdir().unwrap();
        let host = open(dir.path()).unwrap();
        let mut batch = WriteBatch::default();
        batch.delete(layout::version_key());
        batch.put("key", "value");
        host.shared.write(batch, Durability::Synced).unwrap();
        drop(host);
        let refused = open(dir.path()).err();
        assert!(
            matches!(refused, Some(Error::Damaged { .. })),
            "{refused:?}"
        );
    }

    /// Also an opening that was interrupted before it wrote the version.
    #[test]
    fn an_empty_database_becomes_ours() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::default().to_rocksdb();
        options.create_if_missing(true);
        drop(DB::open(&options, dir.path()).unwrap());
        drop(open(dir.path()).unwrap());
        open(dir.path()).unwrap();
    }

    /// As a process leaves it that is killed while it replaces a list.
    #[test]
    fn forgets_an_unfinished_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let host = open(dir.path()).unwrap();
        host.user("ann")
            .replace(Default::default(), &mut std::iter::empty())
            .unwrap();
        let mut batch = WriteBatch::default();
        let id = host.shared.new_id(&mut batch).unwrap();
        batch.put(layout::filling_key(id), []);
        batch.put(layout::token_key(id, b"word"), [1, 1]);
        host.shared.write(batch, Durability::Synced).unwrap();
        drop(host);

        let host = open(dir.path()).unwrap();
        let read = ReadOptions::default();
        for key in [layout::filling_key(id), layout::token_key(id, b"word")] {
            assert!(host.shared.get(&key, &read).unwrap().is_none());
        }
        let mut batch = WriteBatch::default();
        assert_ne!(host.shared.new_id(&mut batch).unwrap(), id);
        assert_eq!(host.users().unwrap(), ["ann"]);
    }
}
