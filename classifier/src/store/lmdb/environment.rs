//! LMDB's environment: the file, opened and mapped.
//!
//! LMDB trusts what it maps, and what it does between opening its lock file
//! and having initialised it is not proof against being killed. So the header
//! is looked at first, and one process opens at a time.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use heed::types::Bytes;
use heed::{CompactionOption, Database, DatabaseStat, Env, EnvFlags, EnvOpenOptions, FlagSetMode};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::transaction::Fault;
use super::{Access, Options};
use crate::Error;
use crate::store::lock;

/// An open database file.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) env: Env,
    /// LMDB's unnamed database, which holds all there is.
    pub(super) table: Database<Bytes, Bytes>,
    /// Whether readers are entered in LMDB's reader table, so that no writer
    /// reuses the pages that they look at.
    pub(super) is_shared: bool,
    map_bytes: u64,
}

impl Environment {
    /// Opens the database at `path` with a map of at least `map_bytes`.
    /// `None`: there is none yet, and `options` do not allow to make one.
    pub(super) fn open(
        path: &Path,
        options: &Options,
        map_bytes: u64,
    ) -> Result<Option<Self>, Error> {
        let writes = options.access == Access::ReadWrite;
        let mut waited_for = None;
        let (file, turn) = loop {
            let Some(file) = open_file(path, writes)? else {
                return Ok(None);
            };
            let turn = take_turn(&file, path, options)?;
            // Else a smaller copy took its place meanwhile.
            let ours = identity(&file.metadata().map_err(Error::io("read", path))?);
            let is_there = fs::metadata(path).is_ok_and(|found| identity(&found) == ours);
            if turn.is_none() || is_there || waited_for == Some(ours) {
                break (file, turn);
            }
            waited_for = Some(ours);
        };
        check_not_open(path).map_err(Error::io("open", path))?;
        let header = Header::read(&file, path)?;
        if matches!(header, Header::Blank) {
            if !writes {
                return Ok(None);
            }
            file.set_len(0).map_err(Error::io("write", path))?;
        }
        let len = file.metadata().map_err(Error::io("read", path))?.len();
        header.check_length(len, path)?;
        let lock_file = match turn {
            Some(_) => prepare_lock_file(&file, path),
            None => Err(ErrorKind::WouldBlock.into()),
        };
        let is_shared = lock_file.is_ok();
        if let (Err(error), true) = (lock_file, writes) {
            return Err(Error::io("write", lock_path(path))(error));
        }
        let opened = Self::map(path, options, map_bytes.max(len), is_shared);
        if opened.is_err() && len == 0 {
            // On a full disk LMDB may have written half a header.
            file.set_len(0).map_err(Error::io("write", path))?;
        }
        opened.map(Some)
    }

    fn map(path: &Path, options: &Options, wanted: u64, is_shared: bool) -> Result<Self, Error> {
        // Room to grow, as long as address space allows it.
        let rooms: &[u64] = match options.access {
            Access::ReadOnly => &[MIN_ROOM, 0],
            Access::ReadWrite => &[wanted.max(MIN_ROOM), MIN_ROOM, MIN_ROOM / 16],
        };
        let mut outcome = Err(heed::Error::Io(ErrorKind::OutOfMemory.into()));
        for room in rooms {
            outcome = Self::map_exactly(path, options, wanted + room, is_shared);
            match &outcome {
                Err(heed::Error::Io(error)) if error.kind() == ErrorKind::OutOfMemory => {}
                _ => break,
            }
        }
        outcome.map_err(|error| Fault::from(error).into_error("open", path))
    }

    fn map_exactly(
        path: &Path,
        options: &Options,
        map_bytes: u64,
        is_shared: bool,
    ) -> Result<Self, heed::Error> {
        let map_bytes = map_bytes.next_multiple_of(MAP_UNIT);
        let too_large = |_| heed::Error::Io(ErrorKind::OutOfMemory.into());
        let mut flags = EnvFlags::NO_SUB_DIR;
        flags.set(EnvFlags::READ_ONLY, options.access == Access::ReadOnly);
        flags.set(EnvFlags::NO_LOCK, !is_shared);
        flags.set(EnvFlags::NO_SYNC, !options.syncs);
        // Else LMDB clears each page before it copies the old one over it, a
        // quarter of what learning a message takes. What a page leaves unused
        // may so hold what was in this process's memory: of its user's mail,
        // in his own file.
        flags.insert(EnvFlags::NO_MEM_INIT);
        let env = open_env(
            EnvOpenOptions::new()
                .map_size(usize::try_from(map_bytes).map_err(too_large)?)
                .max_readers(MAX_READERS),
            flags,
            path,
        )?;
        let txn = env.read_txn()?;
        let table = env.open_database(&txn, None)?;
        drop(txn);
        Ok(Self {
            table: table.ok_or(heed::Error::Mdb(heed::MdbError::Invalid))?,
            env,
            is_shared,
            map_bytes,
        })
    }

    /// How many pages of the file are in use, and how many are not.
    pub(super) fn used_and_free(&self) -> Result<(usize, usize), heed::Error> {
        let txn = self.env.read_txn()?;
        let used = n_pages(&self.table.stat(&txn)?);
        let last = self.env.info().last_page_number;
        Ok((used, (last + 1).saturating_sub(used + N_HEADER_PAGES)))
    }

    /// The size of the map after LMDB found it too small.
    pub(super) fn grown_map_bytes(&self) -> u64 {
        self.map_bytes + MIN_ROOM
    }

    /// Lets the next transaction leave its last page, the one that makes it
    /// valid, to the next sync.
    #[allow(unsafe_code)]
    pub(super) fn set_relaxed(&self, relaxed: bool) -> Result<(), heed::Error> {
        let mode = match relaxed {
            true => FlagSetMode::Enable,
            false => FlagSetMode::Disable,
        };
        // SAFETY: LMDB asks that no other thread call this or write at the
        // same time; both take the store by exclusive reference.
        unsafe { self.env.set_flags(EnvFlags::NO_META_SYNC, mode) }
    }
}

#[allow(unsafe_code)]
fn open_env(
    options: &mut EnvOpenOptions,
    flags: EnvFlags,
    path: &Path,
) -> Result<Env, heed::Error> {
    // SAFETY: a memory map is only sound while nobody truncates or overwrites
    // the file. Other processes of ours do neither; against damage there is
    // `FaultGuard`. Of the flags, NO_LOCK asks us to see to it that no writer
    // reuses what we read: the reader of the store asks again afterwards.
    unsafe { options.flags(flags).open(path) }
}

fn open_file(path: &Path, writes: bool) -> Result<Option<File>, Error> {
    let file = match (writes, path.parent()) {
        (true, Some(dir)) => fs::metadata(dir).and_then(|dir| create_like(&dir, path)),
        _ => File::open(path),
    };
    match file {
        Err(error) if error.kind() == ErrorKind::NotFound && !writes => Ok(None),
        file => file.map(Some).map_err(Error::io("open", path)),
    }
}

/// Waits until no other process is opening the database. The turn is given
/// back when the file is dropped. `None`: read without LMDB's locks then.
///
/// It is `flock` on the data file itself, which LMDB leaves alone: that needs
/// no permission to write, and no file of its own.
fn take_turn(file: &File, path: &Path, options: &Options) -> Result<Option<File>, Error> {
    let wait = match options.access {
        Access::ReadOnly => options.lock_wait.min(READER_WAIT),
        Access::ReadWrite => options.lock_wait,
    };
    let ours = file.try_clone().map_err(Error::io("open", path))?;
    let turn = lock::within(wait, ours).map_err(Error::io("lock", path))?;
    match (&turn, options.access) {
        (None, Access::ReadWrite) => Err(Error::Locked {
            path: path.into(),
            waited: wait,
            owner: None,
        }),
        _ => Ok(turn),
    }
}

/// What makes a file another one than that of the same name before.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Puts a copy of what is in use, written as `copy`, in the place of the database
/// at `path`; returns whether it did. This process must have closed it and hold
/// the lock of writers.
///
/// It does not while somebody has the database open: he would go on in the old
/// file. LMDB's lock file tells, in which all hold a lock for as long as they
/// do, and nobody gets one but in his turn. Readers that do without LMDB's locks
/// keep the old file, in which nothing changes any more.
///
/// Nor may anybody open the copy before that lock is given back: LMDB's lock file
/// counts the transactions of the old one, and only who is alone begins it anew.
/// So the turn of the copy is held, too, and the lock file emptied, without which
/// LMDB opens nothing. A kill at any step leaves one of the two, with a lock file
/// that nobody holds.
pub(super) fn replace(path: &Path, copy: &Path, syncs: bool) -> Result<bool, Error> {
    let like = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
    // What the name leads to, or has another name, is not there to be replaced.
    if !like.is_file() || like.nlink() != 1 || !has_room(path, like.len()) {
        return Ok(false);
    }
    let mut options = File::options();
    options.read(true).write(true);
    let turn = options.open(path).map_err(Error::io("open", path))?;
    let lock_path = lock_path(path);
    let lock_file = options.open(&lock_path);
    let lock_file = lock_file.map_err(Error::io("open", &lock_path))?;
    if turn.try_lock().is_err()
        || fcntl_lock(&lock_file, FlockOperation::NonBlockingLockExclusive).is_err()
    {
        return Ok(false);
    }
    let Some(turn_of_copy) = begin_copy(&like, copy).map_err(Error::io("write", copy))? else {
        return Ok(false);
    };
    copy_to(path, &turn_of_copy)?;
    if syncs {
        turn_of_copy.sync_all().map_err(Error::io("sync", copy))?;
    }
    lock_file
        .set_len(0)
        .map_err(Error::io("write", &lock_path))?;
    fs::rename(copy, path).map_err(Error::io("replace", path))?;
    if syncs {
        sync_folder(path)?;
    }
    // Before the turns.
    drop(lock_file);
    Ok(true)
}

/// Makes the name of `path` as durable as what is in it.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    let Some(dir) = path.parent() else {
        return Ok(());
    };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))
}

/// Pages that hold records, or lead to them.
pub(super) fn n_pages(table: &DatabaseStat) -> usize {
    table.branch_pages + table.leaf_pages + table.overflow_pages
}

/// Whether the disk of `path` has room for twice so many bytes.
fn has_room(path: &Path, n_bytes: u64) -> bool {
    let disk = rustix::fs::statvfs(path);
    disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) > 2 * n_bytes)
}

/// A new file that is `like` another one, and locked. `None`: it cannot be.
fn begin_copy(like: &Metadata, copy: &Path) -> io::Result<Option<File>> {
    // What was left by a process that was killed, or put there by others.
    match fs::remove_file(copy) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(copy)?;
    // Only the superuser may.
    drop(fchown(&file, Some(like.uid()), Some(like.gid())));
    let found = file.metadata()?;
    if (found.uid(), found.gid()) != (like.uid(), like.gid()) || file.try_lock().is_err() {
        return Ok(None);
    }
    file.set_permissions(like.permissions())?;
    Ok(Some(file))
}

/// Writes what is in use of the database at `path`, which nobody has open.
fn copy_to(path: &Path, copy: &File) -> Result<(), Error> {
    let copied = || {
        let flags = EnvFlags::NO_SUB_DIR | EnvFlags::READ_ONLY | EnvFlags::NO_LOCK;
        let env = open_env(&mut EnvOpenOptions::new(), flags, path)?;
        env.copy_to_file(&mut copy.try_clone()?, CompactionOption::Enabled)
    };
    copied().map_err(|error: heed::Error| Fault::from(error).into_error("copy", path))
}

/// For how long readers wait for another process that opens, which takes
/// microseconds unless it was stopped. Then they read without LMDB's locks.
const READER_WAIT: Duration = Duration::from_millis(200);

/// How many processes and threads may read at once; LMDB's own 126 is little
/// for a mailing list that arrives all at once. 64 bytes each.
const MAX_READERS: u32 = 1024;

/// The least room for growth, and the step of growing. Small, since mail
/// systems limit the address space of filters.
const MIN_ROOM: u64 = 4 << 20;

/// Maps are multiples of this, which is a multiple of every page size.
const MAP_UNIT: u64 = 1 << 16;

/// LMDB's own name for it.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

/// Makes LMDB's lock file with all its blocks, and finds out whether it can
/// be written.
///
/// LMDB would leave it sparse, and on a full disk the process would die of a
/// SIGBUS when it touches it. On a read-only file system it would silently do
/// without.
fn prepare_lock_file(data: &File, path: &Path) -> io::Result<()> {
    let file = create_like(&data.metadata()?, &lock_path(path))?;
    if file.metadata()?.len() >= LOCK_FILE_BYTES {
        return Ok(());
    }
    file.write_all_at(&[0; LOCK_FILE_BYTES as usize], 0)
}

/// Refuses a second opening in one process. It would also be fatal for the
/// first: whoever closes a file gives all locks back that his process has on
/// it, here LMDB's own.
fn check_not_open(path: &Path) -> io::Result<()> {
    match heed::env_closing_event(path.canonicalize()?) {
        None => Ok(()),
        Some(_) => Err(io::Error::new(
            ErrorKind::ResourceBusy,
            "this process has it open already",
        )),
    }
}

/// LMDB's header and [`MAX_READERS`] slots, each a cache line.
const LOCK_FILE_BYTES: u64 = (MAX_READERS as u64 + 2) * 64;

/// Opens a file to write, made if missing. When the superuser makes it for a
/// person's database it becomes that person's, whose is what `like` tells of.
pub(super) fn create_like(like: &Metadata, path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let found = file.metadata()?;
    if found.len() == 0 && (like.uid(), like.gid()) != (found.uid(), found.gid()) {
        // Only the superuser may; others keep what the system gave them.
        drop(fchown(&file, Some(like.uid()), Some(like.gid())));
    }
    Ok(file)
}

/// What went wrong with the file at `path`, where LMDB says no more than EIO:
/// that is its word for a write of which the system took a part, as it does on
/// a disk that is about to be full.
pub(super) fn named(error: io::Error, path: &Path) -> io::Error {
    let is_full = || {
        rustix::fs::statvfs(path)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < MAX_WRITE_BYTES)
    };
    match error.raw_os_error() {
        Some(libc::EIO) if is_full() => io::Error::from_raw_os_error(libc::ENOSPC),
        _ => error,
    }
}

/// The most that LMDB writes at once: 64 pages, here of the greatest size.
const MAX_WRITE_BYTES: u64 = 64 << 16;

/// What LMDB's own header says, as far as it must be sane before LMDB itself
/// may look at it: LMDB divides by the page size and maps what it is told.
enum Header {
    /// Nothing was ever written, or nothing of it survived a power failure.
    Blank,
    /// The last page that was ever in use, and the size of pages.
    Pages { last: u64, bytes: u64 },
}

impl Header {
    fn read(file: &File, path: &Path) -> Result<Self, Error> {
        let damaged = |detail: &str| Error::Damaged {
            path: path.into(),
            detail: detail.into(),
        };
        let first = read_page_start(file, 0).map_err(Error::io("read", path))?;
        let len = file.metadata().map_err(Error::io("read", path))?.len();
        if len <= MAX_HEADER_BYTES && is_zero(file, len).map_err(Error::io("read", path))? {
            return Ok(Self::Blank);
        }
        let Some(first) = first else {
            return Err(damaged("it is shorter than its header"));
        };
        let first = Meta::parse(&first).ok_or_else(|| damaged("it is no LMDB file"))?;
        let second = read_page_start(file, first.page_bytes).map_err(Error::io("read", path))?;
        let second = second
            .and_then(|page| Meta::parse(&page))
            .filter(|second| second.page_bytes == first.page_bytes)
            .ok_or_else(|| damaged("the second page of its header is missing or overwritten"))?;
        let latest = if second.txn > first.txn {
            second
        } else {
            first
        };
        Ok(Self::Pages {
            last: latest.last_page,
            bytes: latest.page_bytes,
        })
    }

    /// Finds a truncated file before it is mapped. LMDB may leave a few free
    /// pages at the end unwritten, about 1 in 512; what is missing beyond
    /// that was cut off, and what is missing within that is found by
    /// `FaultGuard` when it is needed.
    fn check_length(&self, len: u64, path: &Path) -> Result<(), Error> {
        let Self::Pages { last, bytes } = *self else {
            return Ok(());
        };
        let least = (last - last / 64).saturating_sub(16).saturating_mul(bytes);
        if len < least {
            return Err(Error::Damaged {
                path: path.into(),
                detail: format!(
                    "it is truncated: {len} bytes, and its header tells of page {last}"
                ),
            });
        }
        Ok(())
    }
}

/// LMDB writes two of them in turn.
const N_HEADER_PAGES: usize = 2;

/// Two pages of the greatest size.
const MAX_HEADER_BYTES: u64 = 2 << 16;

fn is_zero(file: &File, len: u64) -> io::Result<bool> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.iter().all(|byte| *byte == 0))
}

/// A page's header of 16 bytes and the 136 of `MDB_meta`.
type PageStart = [u8; 152];

fn read_page_start(file: &File, at: u64) -> io::Result<Option<PageStart>> {
    let mut page = [0; 152];
    match file.read_exact_at(&mut page, at) {
        Ok(()) => Ok(Some(page)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// One of the two header pages: `MDB_page` and `MDB_meta` of LMDB 0.9 on a
/// machine with words of 64 bits, in the byte order of the machine.
struct Meta {
    page_bytes: u64,
    last_page: u64,
    txn: u64,
}

impl Meta {
    const IS_META: u16 = 0x08;
    const MAGIC: u32 = 0xBEEF_C0DE;
    const VERSION: u32 = 1;

    fn parse(page: &PageStart) -> Option<Self> {
        let flags = u16::from_ne_bytes(*page[10..].first_chunk()?);
        let u32_at = |at: usize| page[at..].first_chunk().map(|b| u32::from_ne_bytes(*b));
        let u64_at = |at: usize| page[at..].first_chunk().map(|b| u64::from_ne_bytes(*b));
        let page_bytes = u64::from(u32_at(40)?);
        let is_ours = flags & Self::IS_META != 0
            && u32_at(16)? == Self::MAGIC
            && u32_at(20)? == Self::VERSION
            && page_bytes.is_power_of_two()
            && (256..=1 << 15).contains(&page_bytes);
        is_ours.then_some(Self {
            page_bytes,
            last_page: u64_at(136)?,
            txn: u64_at(144)?,
        })
    }
}
