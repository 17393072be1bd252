//! `postern replay`: what this host would do with mail of before.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::accounts;
use crate::config::Config;
use crate::delivery::content::header_section;
use crate::printable::printable;
use crate::replay::old::Old;
use crate::replay::{Host, Would, folder};
use crate::smtp::Mailbox;

/// Which mail.
#[derive(Args, Debug)]
pub struct Replay {
    /// A Maildir with its folders, a folder of messages, or an mbox
    mail: PathBuf,
    /// Whose it is, for messages that do not say; in place of what they say
    #[arg(long, value_name = "ADDRESS", value_parser = accounts::target)]
    to: Option<String>,
    /// One JSON object a line, the summary last
    #[arg(long)]
    json: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Replayed {
        version: u32,
        file: &'a str,
        was: &'a Old,
        would: &'a Would,
    },
    Summary {
        version: u32,
        counts: &'a BTreeMap<String, usize>,
    },
}

/// Prints what would have happened to each message, and how often what.
///
/// # Errors
/// When the mail or the host cannot be read.
pub fn run(replay: &Replay, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let host = Host::open(config)?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    folder::each(&replay.mail, &mut |file, folder, message| {
        let mut old = Old::of(&message[..header_section(message)]);
        old.folder = folder.map(str::to_owned);
        let to = replay.to.as_ref().or(old.delivered_to.as_ref());
        let recipient = match (&replay.to, to) {
            (Some(to), _) => Mailbox::parse(to.as_bytes()).ok(),
            (None, Some(to)) => host.recipient(to)?,
            (None, None) => None,
        };
        let would = match recipient {
            Some(recipient) => host
                .would(message, &old, &recipient)
                .with_context(|| format!("cannot tell of {file}"))?,
            None => Would {
                outcome: "unknown-recipient",
                ..Would::default()
            },
        };
        let was = was(&old);
        *counts
            .entry(format!("{was} -> {}", would.outcome))
            .or_default() += 1;
        if replay.json {
            let line = Line::Replayed {
                version: 1,
                file,
                was: &old,
                would: &would,
            };
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{was} -> {}  {}", would.outcome, printable(file))?;
            tell(&would, out)?;
        }
        Ok(())
    })?;
    if replay.json {
        let line = Line::Summary {
            version: 1,
            counts: &counts,
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
        return Ok(());
    }
    if counts.is_empty() {
        writeln!(out, "no message in {}", replay.mail.display())?;
        return Ok(());
    }
    writeln!(out)?;
    for (what, n) in &counts {
        writeln!(out, "{n:>8}  {what}")?;
    }
    Ok(())
}

/// What the old host took it for: its filter's word, else the folder's name.
fn was(old: &Old) -> &'static str {
    let folder = old
        .folder
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_junk = ["junk", "spam"].iter().any(|name| folder.starts_with(name));
    match (old.spam, is_junk) {
        (Some(true), _) => "spam",
        (_, true) => "spam",
        (Some(false), _) => "ham",
        (None, false) => "unjudged",
    }
}

fn tell(would: &Would, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(rule) = &would.rule {
        writeln!(out, "    rule: {rule}")?;
    }
    if let Some(virus) = &would.virus {
        writeln!(out, "    virus: {}", printable(virus))?;
    }
    for place in &would.deliveries {
        let verdict = match (place.verdict, place.probability) {
            (Some(verdict), Some(probability)) => format!(", {verdict} {probability:.3}"),
            _ => String::new(),
        };
        writeln!(
            out,
            "    {}: {}{verdict}",
            place.to,
            printable(&place.place)
        )?;
    }
    Ok(())
}
