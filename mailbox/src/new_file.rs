//! Files that are either wholly there or not: written under a name of their
//! own, synced, and only then given the name under which they are found.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::mailbox::Owner;
use crate::sys;

/// A file being written, which is removed again unless it is given its name.
#[derive(Debug)]
pub(crate) struct NewFile {
    folder: OwnedFd,
    name: OsString,
    file: File,
    has_its_name: bool,
}

impl NewFile {
    /// Creates `name` in `folder`, mode 0600, for the owner of the mailbox.
    pub(crate) fn create(folder: OwnedFd, name: &OsStr, owner: Owner) -> io::Result<Self> {
        let file = sys::create(folder.as_fd(), name)?;
        let new = Self {
            folder,
            name: name.to_owned(),
            file,
            has_its_name: false,
        };
        owner.take(&new.file)?;
        Ok(new)
    }

    /// Syncs the file and renames it, replacing nothing. Whoever wants the new
    /// name to survive a power cut syncs `to`.
    pub(crate) fn publish(mut self, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        sys::sync(&self.file)?;
        sys::rename_new(self.folder.as_fd(), &self.name, to, name)?;
        self.has_its_name = true;
        Ok(())
    }

    /// As [`NewFile::publish`], over whatever is there.
    pub(crate) fn replace(mut self, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        sys::sync(&self.file)?;
        sys::rename_over(self.folder.as_fd(), &self.name, to, name)?;
        self.has_its_name = true;
        Ok(())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sys::step()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    /// What cannot be removed lies in `tmp`, which mail readers clean.
    fn drop(&mut self) {
        if !self.has_its_name {
            let _ = sys::unlink(self.folder.as_fd(), &self.name);
        }
    }
}
