//! What our engines take where they are used: their database written as `bmf`
//! would, and the memory of a process that opens it and judges one message.
//! In process they share theirs with all other runs.

use std::path::{Path, PathBuf};

use classifier::cli::Engine;
use classifier::modern::{Exported, Model, N_BUCKETS, Weights, export};
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::model::ModelView;
use classifier::store::{Durability, Entry, MemoryModel, ModelStore, TokenStore};

use super::process::Workplace;
use super::{Filter, Footprint};
use crate::{Error, Message};

/// The folder of the database in which `bmfeval jig` works, below the current
/// one.
pub(crate) const DATABASE: &str = "bmfeval-jig";

/// Writes what `filter` knows below the folder `work` and has `message` judged
/// by it. `None`: not one of our engines.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn footprint(
    filter: &dyn Filter,
    work: &Path,
    message: Option<&Message>,
) -> Result<Option<Footprint>, Error> {
    let database = work.join(DATABASE);
    let Some(engine) = filter.save(&database)? else {
        return Ok(None);
    };
    let mut footprint = Footprint {
        database_bytes: Workplace::bytes_below(&database),
        ..Footprint::default()
    };
    if let (Some(program), Some(message)) = (this_program(), message) {
        let workplace = Workplace::new(work);
        workplace.put(&message.bytes)?;
        let file = workplace.message().as_os_str();
        let arguments = ["jig", "--engine", engine.name(), "classify"].map(Into::into);
        let arguments: Vec<_> = arguments.into_iter().chain([file.to_owned()]).collect();
        footprint.peak_memory_bytes = workplace.peak_memory(&program, &arguments);
    }
    Ok(Some(footprint))
}

/// `None` where this crate is used by another program.
fn this_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    (program.file_name()? == "bmfeval").then_some(program)
}

fn new_database(dir: &Path, engine: Engine) -> Result<Lmdb, Error> {
    let options = Options {
        syncs: false,
        engine: engine.name(),
        ..Options::default()
    };
    Ok(Lmdb::open(dir, &options)?)
}

/// Writes all of `store` to a new database.
pub(super) fn save_counts(store: &dyn TokenStore, dir: &Path) -> Result<Engine, Error> {
    let mut entries = Vec::new();
    let trained = store.entries(&mut |Entry { token, ham, spam }| {
        entries.push((token.to_vec(), ham, spam));
        Ok(())
    })?;
    let mut entries = entries.iter().map(|(token, ham, spam)| Entry {
        token,
        ham: *ham,
        spam: *spam,
    });
    new_database(dir, Engine::Classic)?.replace(trained, &mut entries)?;
    Ok(Engine::Classic)
}

/// Writes a model with its ledger to a new database.
pub(super) fn save_stored(store: &dyn ModelStore, dir: &Path) -> Result<Engine, Error> {
    let mut text = Vec::new();
    store.look(&mut |view| {
        text.clear();
        export(view, &mut text, dir)
    })?;
    save_text(&text, dir)
}

/// Writes a model, which has no ledger, to a new database. The calibration
/// stays empty, which takes as much room.
pub(super) fn save_model(model: &Model, dir: &Path) -> Result<Engine, Error> {
    let mut empty = Vec::new();
    let view = MemoryModel::default();
    export(&view, &mut empty, view.path())?;
    let empty = String::from_utf8_lossy(&empty);
    let mut lines = empty.lines();
    // Name and version; how many lines follow need not be said.
    let head = lines.next().unwrap_or_default().split(' ').take(2);
    let mut text = head.collect::<Vec<_>>().join(" ") + "\n";
    for line in lines.filter(|line| !line.starts_with("state ")) {
        text += &format!("{line}\n");
    }
    let trained = model.trained();
    text += &format!("state 0 {} {} 0\n", trained.ham, trained.spam);
    for index in 0..N_BUCKETS {
        let bucket = model.bucket(index);
        if (bucket.gradient, bucket.squares) != (0, 0) {
            text += &format!("bucket {index} {} {}\n", bucket.gradient, bucket.squares);
        }
    }
    save_text(text.as_bytes(), dir)
}

fn save_text(text: &[u8], dir: &Path) -> Result<Engine, Error> {
    let exported = Exported::read(&mut &*text, dir)?;
    new_database(dir, Engine::Modern)?
        .change(Durability::Relaxed, &mut |view| exported.replacing(view))?;
    Ok(Engine::Modern)
}
