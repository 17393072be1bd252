//! `bmfeval jig`: our classic engine as a filter for TREC's kit.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use classifier::Label;
use classifier::store::lmdb::{Lmdb, Options};
use corpora::filter::{Filter, classic_on};
use corpora::{Message, Role};

/// Our engine as a filter for the TREC spam track's kit.
///
/// `scripts` writes the four commands that the kit calls; the others are
/// what these run. The database lies in the current folder.
#[derive(clap::Args)]
pub(crate) struct Arguments {
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

const DATABASE: &str = "bmfeval-jig";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.step {
        Step::Scripts { folder } => scripts(folder),
        Step::Initialize => match fs::remove_dir_all(DATABASE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(format!("cannot remove {DATABASE}"))
            }
            _ => Ok(()),
        },
        Step::Classify { message } => {
            let answer = filter()?.classify(&read(message)?)?;
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
            Ok(filter()?.train(label, &read(message)?)?)
        }
        Step::Finalize => Ok(()),
    }
}

fn filter() -> anyhow::Result<Box<dyn Filter>> {
    // The kit starts over after a crash, so nothing needs to be synced.
    let options = Options {
        syncs: false,
        ..Options::default()
    };
    Ok(classic_on(Box::new(Lmdb::open(
        Path::new(DATABASE),
        &options,
    )?)))
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

fn scripts(folder: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let program = program.display().to_string().replace('\'', r"'\''");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for step in ["initialize", "classify", "train", "finalize"] {
        let path = folder.join(step);
        fs::write(
            &path,
            format!("#!/bin/sh\nexec '{program}' jig {step} \"$@\"\n"),
        )
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
