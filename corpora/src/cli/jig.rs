//! `bmfeval jig`: our engines as filters for TREC's kit.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::filter::Filter;
use crate::filter::own::DATABASE;
use crate::{Message, Role};
use anyhow::Context;
use classifier::Label;
use classifier::cli::Engine;
use classifier::store::lmdb::{Lmdb, Options};

use super::database;

/// Our engines as filters for the TREC spam track's kit.
///
/// `scripts` writes the four commands that the kit calls; the others are
/// what these run. The database lies in the current folder.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The engine of a new database, and of the scripts.
    #[arg(long, value_name = "NAME", default_value = "modern")]
    engine: Engine,
    #[command(subcommand)]
    step: Step,
}

#[derive(clap::Subcommand)]
enum Step {
    /// Write initialize, classify, train and finalize to a folder.
    Scripts {
        /// Made if missing.
        folder: PathBuf,
    },
    /// Forget everything.
    Initialize,
    /// Print class, score and auxiliary file.
    Classify {
        /// One message.
        message: PathBuf,
    },
    /// Learn a message.
    Train {
        /// The truth.
        #[arg(value_parser = ["ham", "spam"])]
        judgement: String,
        /// One message.
        message: PathBuf,
        /// What was said of it; not needed.
        said: Vec<String>,
    },
    /// Nothing is left to do.
    Finalize,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.step {
        Step::Scripts { folder } => scripts(folder, arguments.engine),
        Step::Initialize => match fs::remove_dir_all(DATABASE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(format!("cannot remove {DATABASE}"))
            }
            _ => Ok(()),
        },
        Step::Classify { message } => {
            let answer = filter(arguments.engine)?.classify(&read(message)?)?;
            let class = answer.verdict.name();
            writeln!(
                io::stdout(),
                "class={class} score={:?} tfile=none",
                answer.score
            )?;
            Ok(())
        }
        Step::Train {
            judgement, message, ..
        } => {
            let label = match judgement.as_str() {
                "spam" => Label::Spam,
                _ => Label::Ham,
            };
            Ok(filter(arguments.engine)?.train(label, &read(message)?)?)
        }
        Step::Finalize => Ok(()),
    }
}

fn filter(engine: Engine) -> anyhow::Result<Box<dyn Filter>> {
    // The kit starts over after a crash, so nothing needs to be synced.
    let options = Options {
        syncs: false,
        engine: engine.name(),
        ..Options::default()
    };
    let database = Lmdb::open(Path::new(DATABASE), &options)?;
    Ok(database::filter_on(database))
}

fn read(path: &Path) -> anyhow::Result<Message> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Message {
        id: path.display().to_string(),
        // Not known, and not used.
        label: Label::Ham,
        role: Role::default(),
        bytes,
    })
}

fn scripts(folder: &Path, engine: Engine) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let engine = engine.name();
    let program = program.display().to_string().replace('\'', r"'\''");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for step in ["initialize", "classify", "train", "finalize"] {
        let path = folder.join(step);
        fs::write(
            &path,
            format!("#!/bin/sh\nexec '{program}' jig --engine {engine} {step} \"$@\"\n"),
        )
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
