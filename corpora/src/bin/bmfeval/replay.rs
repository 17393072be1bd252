//! `bmfeval replay`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use classifier::Label;
use classifier::cli::Format;
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Text, TokenStore};
use corpora::filter::{Verdict, classic_on};
use corpora::read;

/// What the model of today says of the mail in a folder.
///
/// Prints verdict, score and file of each message, and the counts on standard
/// error. Writes nothing, teaches nothing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
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
}

fn format(text: &str) -> Result<Format, String> {
    match Format::from_name(text) {
        Some(format @ (Format::Db | Format::Text)) => Ok(format),
        _ => Err("db or text".to_owned()),
    }
}

#[allow(clippy::print_stderr)] // The counts are for people; stdout is a list.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut filter = classic_on(arguments.store()?);
    // The label is not known and not used.
    let messages = read::unlabelled(&arguments.mail, Label::Ham)?;
    let mut out = io::stdout().lock();
    let mut counts = [0usize; 3];
    for message in &messages {
        let answer = filter.classify(message)?;
        let verdict = answer.verdict.name();
        counts[match answer.verdict {
            Verdict::Ham => 0,
            Verdict::Unsure => 1,
            Verdict::Spam => 2,
        }] += 1;
        if arguments.only.as_ref().is_some_and(|only| only != verdict) {
            continue;
        }
        if arguments.json {
            let line = serde_json::json!({
                "type": "verdict", "version": 1,
                "file": message.id, "verdict": verdict, "score": answer.score,
                "why": filter.explain(message),
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{verdict} {:.6} {}", answer.score, message.id)?;
        }
    }
    let [ham, unsure, spam] = counts;
    eprintln!(
        "bmfeval: {ham} ham, {unsure} unsure, {spam} spam in {}",
        arguments.mail.display()
    );
    Ok(())
}

impl Arguments {
    fn store(&self) -> anyhow::Result<Box<dyn TokenStore + Send>> {
        let database = match (&self.database, std::env::home_dir()) {
            (Some(database), _) => database.clone(),
            (None, Some(home)) => home.join(".bmf"),
            (None, None) => PathBuf::from(".bmf"),
        };
        let exists = match self.format {
            Format::Text => database.join("goodlist.txt").exists(),
            _ => Lmdb::path(&database).exists(),
        };
        if !exists {
            anyhow::bail!(
                "no such database in {}; train one with bmf, or see --database and --format",
                database.display()
            );
        }
        let opened: Result<Box<dyn TokenStore + Send>, _> = match self.format {
            Format::Text => {
                Text::open(&database, Duration::from_secs(60)).map(|text| Box::new(text) as _)
            }
            _ => Lmdb::open(&database, &Options::read_only()).map(|lmdb| Box::new(lmdb) as _),
        };
        opened.context("cannot open the database")
    }
}
