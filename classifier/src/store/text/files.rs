//! The system calls that change a folder, one function each, so that a test
//! can stop the world before and after any of them.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use super::list::List;

/// Writes a new file with mode and owner of `old`, and syncs it if `syncs`.
pub(super) fn write(
    path: &Path,
    old: Option<&Metadata>,
    list: &List,
    syncs: bool,
) -> io::Result<()> {
    step()?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    if let Some(old) = old {
        keep_mode_and_owner(&file, old)?;
    }
    let mut out = BufWriter::with_capacity(64 * 1024, Stepped(&file));
    list.write(&mut out)?;
    out.flush()?;
    if !syncs {
        return Ok(());
    }
    step()?;
    file.sync_data()
}

fn keep_mode_and_owner(file: &File, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        // Root may; another one who may write in the folder becomes the owner.
        let _ = fchown(file, Some(old.uid()), Some(old.gid()));
    }
    file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    fs::rename(from, to)
}

pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    step()?;
    fs::create_dir(path)
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    step()?;
    File::open(path)?.sync_all()
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    step()?;
    fs::remove_file(path)
}

pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    step()?;
    fs::remove_dir(path)
}

pub(super) fn remove_dir_all(path: &Path) -> io::Result<()> {
    step()?;
    fs::remove_dir_all(path)
}

/// A file each of whose writes is a step of its own.
struct Stepped<'a>(&'a File);

impl Write for Stepped<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        step()?;
        self.0.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(test))]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use fault::{Fault, step, with_fault};

/// Faults for tests of the thread that sets them.
#[cfg(test)]
mod fault {
    use std::cell::Cell;
    use std::io;

    /// What happens at a step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// This step fails, the following ones do not.
        Fails,
        /// The process is gone: neither this step nor a later one happens.
        Killed,
    }

    #[derive(Clone, Copy)]
    enum Plan {
        /// No fault is planned.
        Sound,
        /// A fault after so many steps.
        In(usize, Fault),
        /// It has come.
        Past(Fault),
    }

    thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::Sound) };
    }

    /// Calls `f` with a fault at its `n`th step, counted from 0. Returns
    /// whether `f` came to that step.
    pub(in super::super) fn with_fault(fault: Fault, n: usize, f: impl FnOnce()) -> bool {
        PLAN.set(Plan::In(n, fault));
        f();
        !matches!(PLAN.replace(Plan::Sound), Plan::In(..))
    }

    pub(in super::super) fn step() -> io::Result<()> {
        match PLAN.get() {
            Plan::Sound | Plan::Past(Fault::Fails) => return Ok(()),
            Plan::In(left @ 1.., fault) => {
                PLAN.set(Plan::In(left - 1, fault));
                return Ok(());
            }
            Plan::In(0, fault) => PLAN.set(Plan::Past(fault)),
            Plan::Past(Fault::Killed) => {}
        }
        Err(io::Error::other("injected fault"))
    }
}
