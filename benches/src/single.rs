//! One process for one message of about 5 kB, as a delivery agent starts it:
//! the program's start, the database's opening, the message, the end.

use std::path::Path;

use anyhow::ensure;
use classifier::Label;
use memchr::memmem;
use tests::differential::Format;

use crate::filters::{Databases, Filter, lists};
use crate::mail::Mail;
use crate::process::{self, Answer};
use crate::race::{Contender, Length, race};
use crate::record::{Bound, Record};

const OURS_TEXT: Filter = Filter::Ours(Format::Text);
const OURS_DB: Filter = Filter::Ours(Format::Db);
const ORIGINAL_TEXT: Filter = Filter::Original(Format::Text);
const ORIGINAL_DB: Filter = Filter::Original(Format::Db);
const MODERN: Filter = Filter::Modern;

/// What the messages are answered, by the original.
pub(crate) fn answers(
    databases: &Databases,
    mail: &Mail,
    options: &[&str],
    out: &Path,
) -> anyhow::Result<Vec<Answer>> {
    let ask = |sample: &crate::mail::Sample| {
        let mut original = ORIGINAL_DB.command(&databases.trained(ORIGINAL_DB));
        let (_, answer) = process::run(original.args(options), &sample.path, out)?;
        Ok(answer)
    };
    mail.samples.iter().map(ask).collect()
}

/// `-t` and `-t -p`: every answer is the original's, byte for byte.
pub(crate) fn score(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    length: Length,
    (workload, options): (&'static str, &[&str]),
    out: &Path,
) -> anyhow::Result<()> {
    let expected = &answers(databases, mail, options, out)?;
    let mut contenders: Vec<_> = [OURS_TEXT, ORIGINAL_TEXT, OURS_DB, ORIGINAL_DB]
        .map(|filter| {
            let folder = databases.trained(filter);
            Contender::new(filter.name(), move |round| {
                let n = round % mail.samples.len();
                let mut command = filter.command(&folder);
                let (taken, answer) =
                    process::run(command.args(options), &mail.samples[n].path, out)?;
                ensure!(
                    answer == expected[n],
                    "{} answers {} otherwise than the original",
                    filter.name(),
                    mail.samples[n].path.display()
                );
                Ok(taken)
            })
        })
        .into();
    let folder = databases.trained(Filter::Bogofilter);
    contenders.push(Contender::new(Filter::Bogofilter.name(), move |round| {
        let sample = &mail.samples[round % mail.samples.len()];
        let mut command = Filter::Bogofilter.command(&folder);
        let option = if options.contains(&"-p") { "-p" } else { "-T" };
        let (taken, answer) = process::run(command.arg(option), &sample.path, out)?;
        // It was trained on this message, so that it is sure of it.
        let verdict = i32::from(sample.label == Label::Ham);
        ensure!(
            answer.code == verdict || answer.code == 2,
            "bogofilter takes {} for the contrary",
            sample.path.display()
        );
        Ok(taken)
    }));
    let folder = databases.trained(MODERN);
    contenders.push(Contender::new(MODERN.name(), move |round| {
        let sample = &mail.samples[round % mail.samples.len()];
        let mut command = MODERN.command(&folder);
        let (taken, answer) = process::run(command.args(options), &sample.path, out)?;
        // It was trained on this message: it may be unsure of it, not more.
        let says_spam = match options.contains(&"-p") {
            true => memmem::find(&answer.stdout, b"\nX-Spam-Status: Yes").is_some(),
            false => answer.code == 0,
        };
        ensure!(
            !says_spam || sample.label == Label::Spam,
            "modern takes {} for spam",
            sample.path.display()
        );
        Ok(taken)
    }));
    race(record, workload, length, &mut contenders)?;
    record.compare(
        workload,
        MODERN.name(),
        ORIGINAL_DB.name(),
        options.contains(&"-p").then_some(Bound::AtMost(2.0)),
    );
    record.compare(
        workload,
        "bmf -f text",
        "original -f text",
        Some(Bound::AtMost(0.25)),
    );
    record.compare(
        workload,
        "bmf -f db",
        "original -f db",
        Some(Bound::AtMost(1.0)),
    );
    record.compare(workload, "bmf -f db", "bogofilter", None);
    Ok(())
}

/// `-s` or `-n`, whatever the message is. The original never syncs. At the
/// end all databases of a kind hold the same.
pub(crate) fn train(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    length: Length,
    format: Format,
    out: &Path,
) -> anyhow::Result<()> {
    let (workload, synced, not_synced, original) = match format {
        Format::Db => (
            "train one -f db",
            "bmf -f db",
            "bmf -f db --no-sync",
            "original -f db",
        ),
        Format::Text => (
            "train one -f text",
            "bmf -f text",
            "bmf -f text --no-sync",
            "original -f text",
        ),
    };
    let entrants = [
        (synced, Filter::Ours(format), None),
        (not_synced, Filter::Ours(format), Some("--no-sync")),
        (original, Filter::Original(format), None),
    ];
    let mut folders = Vec::new();
    let mut contenders = Vec::new();
    for (name, filter, option) in entrants {
        let folder = databases.copy(filter, &format!("{workload} {}", option.unwrap_or("")))?;
        folders.push((name, filter, folder.clone()));
        contenders.push(Contender::new(name, move |round| {
            let sample = &mail.samples[round % mail.samples.len()];
            let mut command = filter.command(&folder);
            command.args(option).arg(match sample.label {
                Label::Ham => "-n",
                Label::Spam => "-s",
            });
            let (taken, answer) = process::run(&mut command, &sample.path, out)?;
            // bmf's exit code says the label that it was given.
            let code = i32::from(sample.label == Label::Ham);
            ensure!(answer.code == code, "{name} failed to learn");
            Ok(taken)
        }));
    }
    race(record, workload, length, &mut contenders)?;
    let learned: Vec<_> = folders
        .iter()
        .map(|(_, filter, at)| lists(*filter, at))
        .collect();
    for ((name, ..), lists) in folders.iter().zip(&learned) {
        ensure!(
            Some(lists) == learned.last(),
            "{name} learned something else"
        );
    }
    record.compare(workload, synced, original, None);
    record.compare(workload, not_synced, original, Some(Bound::AtMost(1.0)));
    Ok(())
}
