//! A database of the modern engine as the file `model.txt`, and back, or as a
//! model in memory.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Engine;
use crate::Error;
use crate::modern::{Exported, Model, Stored, export};
use crate::store::lmdb::{Lmdb, Options};
use crate::store::{Durability, ModelStore};

/// The text of a model in this folder.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("model.txt")
}

/// Whether the database in `dir` is of the modern engine.
pub(super) fn is_model(dir: &Path, options: &Options) -> Result<bool, Error> {
    if !Lmdb::path(dir).exists() {
        return Ok(false);
    }
    let options = Options {
        other_engines: &["modern"],
        ..options.clone()
    };
    Ok(Lmdb::open(dir, &options)?.engine() == Engine::Modern.name())
}

/// The database in `dir` as text.
pub(super) fn of_database(dir: &Path, options: &Options) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    open(dir, options)?.look(&mut |view| {
        text.clear();
        export(view, &mut text, dir)
    })?;
    Ok(text)
}

/// Makes the text the database in `dir`, wholly or not at all. With
/// `only_if_new` it replaces none; returns whether it is there now. Errors in
/// the text name `source`.
pub(super) fn to_database(
    text: &[u8],
    source: &Path,
    dir: &Path,
    options: &Options,
    only_if_new: bool,
) -> Result<bool, Error> {
    let exported = Exported::read(&mut &*text, source)?;
    let mut is_done = true;
    let mut database = open(dir, options)?;
    database.change(Durability::Synced, &mut |view| {
        is_done = !only_if_new || view.state()?.is_none();
        match is_done {
            true => exported.replacing(view),
            false => Ok(Default::default()),
        }
    })?;
    // One that stays large is right all the same.
    drop(database.trim());
    Ok(is_done)
}

/// The model in the database in `dir`.
pub(super) fn model(dir: &Path, options: &Options) -> Result<Model, Error> {
    let mut model = Model::default();
    open(dir, options)?.look(&mut |view| {
        model = Stored::open(view)?.to_model();
        Ok(())
    })?;
    Ok(model)
}

fn open(dir: &Path, options: &Options) -> Result<Lmdb, Error> {
    let options = Options {
        engine: Engine::Modern.name(),
        ..options.clone()
    };
    Lmdb::open(dir, &options)
}

/// The text that lies in `dir`.
pub(super) fn read(dir: &Path) -> Result<Vec<u8>, Error> {
    let path = path(dir);
    fs::read(&path).map_err(Error::io("read", path))
}

/// Puts the text into `dir`, in place of what is there, wholly or not at all.
pub(super) fn write(text: &[u8], dir: &Path) -> Result<(), Error> {
    put(text, &path(dir), 0o600)
}

/// Writes a file of this mode in place of what is there, wholly or not at all.
pub(super) fn put(bytes: &[u8], path: &Path, mode: u32) -> Result<(), Error> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.permissions(Permissions::from_mode(mode));
    let written = builder.tempfile_in(dir).and_then(|mut file| {
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(drop).map_err(Error::io("write", path))
}
