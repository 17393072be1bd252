//! The file operations that the queue is made of, as a trait: on a real
//! folder, and in tests on one that loses power.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};

/// A folder of queue files.
pub trait Disk: Send + Sync + 'static {
    /// An open file of it.
    type File: DiskFile;

    /// A new file without a name. It ends with the process unless it gets one.
    ///
    /// # Errors
    /// Those of the system; so all that follow.
    fn create(&self) -> io::Result<Self::File>;

    /// Gives such a file a name, which must be free.
    ///
    /// # Errors
    /// `AlreadyExists` when it is not.
    fn name(&self, file: &Self::File, name: &str) -> io::Result<()>;

    /// Makes names that were given, or removed, outlive a power cut.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_names(&self) -> io::Result<()>;

    /// Opens a file to read and append, and locks it against others that do;
    /// `None` when another has it.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn open(&self, name: &str) -> io::Result<Option<Self::File>>;

    /// Opens a file to read only.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn look(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All names, in any order.
    ///
    /// # Errors
    /// Those of the system.
    fn names(&self) -> io::Result<Vec<String>>;
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send {
    /// Appends.
    ///
    /// # Errors
    /// As on a full disk; a part may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the end off.
    ///
    /// # Errors
    /// Those of the system.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Makes the content outlive a power cut.
    ///
    /// # Errors
    /// Those of the system.
    fn sync(&mut self) -> io::Result<()>;

    /// How long it is.
    ///
    /// # Errors
    /// Those of the system.
    fn size(&self) -> io::Result<u64>;

    /// What stands at `offset`: as many bytes as `buffer` holds, or fewer at
    /// the end of the file.
    ///
    /// # Errors
    /// Those of the system.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// A real folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    folder: File,
}

impl Folder {
    /// Opens the folder at `path`, which is made if it is missing.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let made = fs::DirBuilder::new().mode(0o700).create(path);
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Ok(Self {
            path: path.to_owned(),
            folder: File::open(path)?,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for Folder {
    type File = File;

    fn create(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, c".", flags, Mode::RUSR | Mode::WUSR)?;
        let file = File::from(file);
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    fn name(&self, file: &File, name: &str) -> io::Result<()> {
        // open(2), O_TMPFILE: the way to name such a file without privileges.
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(rustix::fs::linkat(
            CWD,
            from,
            &self.folder,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )?)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    fn open(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(
            &self.folder,
            name,
            flags,
            Mode::empty(),
        )?);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        // Whoever had it may have finished with it before we got the lock.
        if rustix::fs::fstat(&file)?.st_nlink == 0 {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(Some(file))
    }

    fn look(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::openat(
            &self.folder,
            name,
            flags,
            Mode::empty(),
        )?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // What is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while n < buffer.len() {
            match FileExt::read_at(self, &mut buffer[n..], offset + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(n)
    }
}

/// A part of a file as a reader, from `start` to `end`.
#[derive(Debug)]
pub struct Part<'a, F> {
    file: &'a F,
    start: u64,
    at: u64,
    end: u64,
}

impl<'a, F: DiskFile> Part<'a, F> {
    pub(super) fn new(file: &'a F, start: u64, end: u64) -> Self {
        Self {
            file,
            start,
            at: start,
            end,
        }
    }
}

impl<F: DiskFile> Read for Part<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let n = self.file.read_at(self.at, &mut buffer[..wanted])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<F: DiskFile> Seek for Part<'_, F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => i128::from(self.start) + i128::from(n),
            SeekFrom::Current(n) => i128::from(self.at) + i128::from(n),
            SeekFrom::End(n) => i128::from(self.end) + i128::from(n),
        };
        let range = i128::from(self.start)..=i128::from(self.end);
        if !range.contains(&at) {
            return Err(ErrorKind::InvalidInput.into());
        }
        self.at = u64::try_from(at).map_err(|_| ErrorKind::InvalidInput)?;
        Ok(self.at - self.start)
    }
}
