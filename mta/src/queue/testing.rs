//! A disk in memory that can fail at any operation, and that knows what a
//! power cut would leave of it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

/// A file-changing operation as it was carried out. Files have numbers.
#[derive(Clone, Debug)]
enum Op {
    Create,
    Append(usize, Vec<u8>),
    Truncate(usize, usize),
    Sync(usize),
    Name(usize, String),
    Remove(String),
    SyncNames,
}

/// What happens at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, the following ones do not. An append writes a part.
    Fails,
    /// The process is gone: nothing happens from here on.
    Killed,
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    ops: Vec<Op>,
    /// Which operation is struck, counted down.
    fault: Option<(usize, Fault)>,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<Inner>>);

/// An open file of it.
#[derive(Debug)]
pub(super) struct MemoryFile {
    disk: Memory,
    number: usize,
}

impl Memory {
    /// From now on, the operation after `n` others is struck.
    pub(super) fn strike(&self, n: usize, fault: Fault) {
        self.lock().fault = Some((n, fault));
    }

    /// Ends that, and tells whether it happened.
    pub(super) fn heal(&self) -> bool {
        !matches!(self.lock().fault.take(), Some((1.., _)))
    }

    /// How many operations there were.
    pub(super) fn n_ops(&self) -> usize {
        self.lock().ops.len()
    }

    /// What lies on the disk when the power was cut after `n` operations.
    /// Of what was not synced, `survives` decides: about a name whether its
    /// change is there, about appended bytes how many of so many.
    pub(super) fn after_cut(&self, n: usize, survives: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut files: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut unsynced: Vec<Op> = Vec::new();
        for op in &self.lock().ops[..n] {
            match op {
                Op::Create => files.push(Default::default()),
                Op::Append(file, bytes) => files[*file].1.extend(bytes),
                Op::Truncate(file, len) => files[*file].1.truncate(*len),
                Op::Sync(file) => files[*file].0 = files[*file].1.clone(),
                Op::Name(..) | Op::Remove(_) => unsynced.push(op.clone()),
                Op::SyncNames => unsynced.drain(..).for_each(|op| apply(&mut names, &op)),
            }
        }
        for op in unsynced {
            if survives(1) == 1 {
                apply(&mut names, &op);
            }
        }
        let files = files.into_iter().map(|(synced, now)| {
            let grown = now.starts_with(&synced);
            let new = if grown { now.len() - synced.len() } else { 0 };
            let kept = survives(new).min(new);
            if grown {
                now[..synced.len() + kept].to_vec()
            } else {
                synced
            }
        });
        Self(Arc::new(Mutex::new(Inner {
            files: files.collect(),
            names,
            ..Inner::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Carries `op` out, or what a fault makes of it.
    fn run(&self, op: Op) -> io::Result<usize> {
        let inner = &mut *self.lock();
        match &mut inner.fault {
            Some((0, fault)) => {
                if *fault == Fault::Fails
                    && let Op::Append(file, bytes) = &op
                {
                    let part = bytes[..bytes.len() / 2].to_vec();
                    inner.files[*file].extend(&part);
                    inner.ops.push(Op::Append(*file, part));
                }
                if *fault == Fault::Fails {
                    // Later operations are sound, and `heal` knows.
                    inner.fault = None;
                }
                return Err(ErrorKind::StorageFull.into());
            }
            Some((n, _)) => *n -= 1,
            None => {}
        }
        match &op {
            Op::Create => inner.files.push(Vec::new()),
            Op::Append(file, bytes) => inner.files[*file].extend(bytes),
            Op::Truncate(file, len) => inner.files[*file].truncate(*len),
            Op::Name(_, name) if inner.names.contains_key(name) => {
                return Err(ErrorKind::AlreadyExists.into());
            }
            Op::Remove(name) if !inner.names.contains_key(name) => {
                return Err(ErrorKind::NotFound.into());
            }
            op => apply(&mut inner.names, op),
        }
        inner.ops.push(op);
        Ok(inner.files.len().saturating_sub(1))
    }

    fn file(&self, name: &str) -> io::Result<MemoryFile> {
        let number = self.lock().names.get(name).copied();
        Ok(MemoryFile {
            disk: self.clone(),
            number: number.ok_or(ErrorKind::NotFound)?,
        })
    }
}

fn apply(names: &mut BTreeMap<String, usize>, op: &Op) {
    match op {
        Op::Name(file, name) => {
            names.insert(name.clone(), *file);
        }
        Op::Remove(name) => {
            names.remove(name);
        }
        _ => {}
    }
}

impl Disk for Memory {
    type File = MemoryFile;

    fn create(&self) -> io::Result<MemoryFile> {
        let number = self.run(Op::Create)?;
        Ok(MemoryFile {
            disk: self.clone(),
            number,
        })
    }

    fn name(&self, file: &MemoryFile, name: &str) -> io::Result<()> {
        self.run(Op::Name(file.number, name.to_owned())).map(drop)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.run(Op::SyncNames).map(drop)
    }

    fn open(&self, name: &str) -> io::Result<Option<MemoryFile>> {
        self.file(name).map(Some)
    }

    fn look(&self, name: &str) -> io::Result<MemoryFile> {
        self.file(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.run(Op::Remove(name.to_owned())).map(drop)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }
}

impl DiskFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk
            .run(Op::Append(self.number, bytes.to_vec()))
            .map(drop)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk
            .run(Op::Truncate(self.number, len as usize))
            .map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.run(Op::Sync(self.number)).map(drop)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.number].len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = self.disk.lock();
        let bytes = &inner.files[self.number];
        let from = bytes.len().min(offset as usize);
        let n = buffer.len().min(bytes.len() - from);
        buffer[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }
}
