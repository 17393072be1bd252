//! `bmfeval replay`.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::filter::Answer;
use crate::{Error, Message, read};
use anyhow::Context;
use classifier::Label;
use classifier::cli::Format;
use classifier::store::lmdb::{FaultGuard, Lmdb, Moved};
use indicatif::ProgressBar;

use super::database;
use super::run::progress_bar;

/// What the model of today says of the mail in a folder.
///
/// Prints verdict, score and file of each message, and the counts on standard
/// error. The score is a probability with the classic engine, and the log-odds
/// with the modern one. Writes nothing, teaches nothing.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Maildir, folder, mbox or archive.
    mail: PathBuf,
    /// The folder of the database; ~/.bmf without.
    #[arg(long, short, value_name = "DIR")]
    database: Option<PathBuf>,
    /// db or text.
    #[arg(long, short, default_value = "db", value_parser = format)]
    format: Format,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Only what is called so: ham, unsure or spam.
    #[arg(long, value_name = "VERDICT", value_parser = ["ham", "unsure", "spam"])]
    only: Option<String>,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
}

fn format(text: &str) -> Result<Format, String> {
    match Format::from_name(text) {
        Some(format @ (Format::Db | Format::Text)) => Ok(format),
        _ => Err("db or text".to_owned()),
    }
}

/// What the model says of one message, and why if that is wanted.
struct Said {
    answer: Answer,
    why: Vec<String>,
}

#[allow(clippy::print_stderr)] // The counts are for people; stdout is a list.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let database = arguments.database()?;
    if let Some(Moved { is_done: true, .. }) = Moved::in_dir(&database)? {
        eprintln!(
            "bmfeval: bmfd has taken {} over; this is what it held then",
            database.display()
        );
    }
    // The label is not known and not used.
    let messages = read::unlabelled(&arguments.mail, Label::Ham)?;
    let ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
    let (format, explains) = (arguments.format, arguments.json);
    let bar = progress_bar(messages.len() as u64, arguments.quiet);
    // A damaged database ends in an error, not in a fault.
    let said = FaultGuard::new(&Lmdb::path(&database))?
        .run(move || {
            Ok(replay(
                database::open(&database, format)?,
                &messages,
                explains,
                &bar,
            ))
        })
        .context("cannot use the database")??;

    let mut out = io::stdout().lock();
    let mut counts = [0usize; 3];
    for (file, Said { answer, why }) in ids.iter().zip(said) {
        let verdict = answer.verdict.name();
        counts[answer.verdict as usize] += 1;
        if arguments.only.as_ref().is_some_and(|only| only != verdict) {
            continue;
        }
        if arguments.json {
            let line = serde_json::json!({
                "type": "verdict", "version": 1,
                "file": file, "verdict": verdict, "score": answer.score, "why": why,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{verdict} {:.6} {file}", answer.score)?;
        }
    }
    let [ham, unsure, spam] = counts;
    eprintln!(
        "bmfeval: {ham} ham, {unsure} unsure, {spam} spam in {}",
        arguments.mail.display()
    );
    Ok(())
}

fn replay(
    mut filter: Box<dyn crate::filter::Filter>,
    messages: &[Message],
    explains: bool,
    bar: &ProgressBar,
) -> Result<Vec<Said>, Error> {
    let said = bar.wrap_iter(messages.iter()).map(|message| {
        let answer = filter.classify(message)?;
        let why = match explains {
            true => filter.explain(message),
            false => Vec::new(),
        };
        Ok(Said { answer, why })
    });
    let said = said.collect();
    bar.finish_and_clear();
    said
}

impl Arguments {
    fn database(&self) -> anyhow::Result<PathBuf> {
        let database = match (&self.database, std::env::home_dir()) {
            (Some(database), _) => database.clone(),
            (None, Some(home)) => home.join(".bmf"),
            (None, None) => PathBuf::from(".bmf"),
        };
        let exists = match self.format {
            Format::Text => database.join("goodlist.txt").exists(),
            _ => Lmdb::path(&database).exists(),
        };
        if !exists && database.join("goodlist.db").exists() {
            anyhow::bail!(
                "{0} holds the lists of Debian's bmf; copy them with `bmfconv --from {0} --to DIR`, \
                 and name that DIR with --database",
                database.display()
            );
        }
        if !exists {
            anyhow::bail!(
                "no such database in {}; train one with bmf, or see --database and --format",
                database.display()
            );
        }
        Ok(database)
    }
}
