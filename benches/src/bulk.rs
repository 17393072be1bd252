//! A whole mbox through one process.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use anyhow::ensure;
use memchr::memmem;
use tests::differential::Format;

use crate::filters::{Databases, Filter, lists};
use crate::mail::Mail;
use crate::process;
use crate::race::{Contender, Length, race};
use crate::record::{Bound, Record};

const OURS: Filter = Filter::Ours(Format::Db);
const OURS_TEXT: Filter = Filter::Ours(Format::Text);
const ORIGINAL: Filter = Filter::Original(Format::Db);
const MODERN: Filter = Filter::Modern;
const BOGOFILTER: Filter = Filter::Bogofilter;

/// `-t`: ours answers what the original answers, byte for byte; bogofilter and
/// our own engine answer each message with a line.
pub(crate) fn score(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    length: Length,
    out: &Path,
) -> anyhow::Result<()> {
    const WORKLOAD: &str = "score an mbox";
    // The first to run is the original.
    let expected = OnceCell::new();
    let mut contenders = Vec::new();
    for filter in [ORIGINAL, OURS, OURS_TEXT] {
        let folder = databases.trained(filter);
        let expected = &expected;
        contenders.push(Contender::new(filter.name(), move |_| {
            let mut command = filter.command(&folder);
            let (taken, answer) = process::run(command.arg("-t"), &mail.bulk, out)?;
            ensure!(
                answer.stdout == *expected.get_or_init(|| answer.stdout.clone()),
                "{} answers otherwise than the original",
                filter.name()
            );
            Ok(taken)
        }));
    }
    let folder = databases.trained(BOGOFILTER);
    contenders.push(Contender::new(BOGOFILTER.name(), move |_| {
        let mut command = BOGOFILTER.command(&folder);
        command.args(["-T", "-M", "-I"]).arg(&mail.bulk);
        let (taken, answer) = process::run(&mut command, Path::new("/dev/null"), out)?;
        let n_lines = memchr::memchr_iter(b'\n', &answer.stdout).count();
        ensure!(
            n_lines == mail.n_bulk,
            "bogofilter answers {n_lines} messages"
        );
        Ok(taken)
    }));
    let folder = databases.trained(MODERN);
    contenders.push(Contender::new(MODERN.name(), move |_| {
        let mut command = MODERN.command(&folder);
        let (taken, answer) = process::run(command.args(["-t", "--terse"]), &mail.bulk, out)?;
        let n_lines = memchr::memchr_iter(b'\n', &answer.stdout).count();
        ensure!(n_lines == mail.n_bulk, "modern answers {n_lines} messages");
        Ok(taken)
    }));
    race(record, WORKLOAD, length, &mut contenders)?;
    drop(contenders);
    let expected = expected.into_inner().unwrap_or_default();
    let n_answers = memmem::find_iter(&expected, "# Spamicity").count();
    ensure!(
        n_answers == mail.n_bulk,
        "the original answers {n_answers} messages"
    );
    record.compare(
        WORKLOAD,
        OURS.name(),
        ORIGINAL.name(),
        Some(Bound::AtLeast(20.0)),
    );
    record.compare(
        WORKLOAD,
        OURS.name(),
        BOGOFILTER.name(),
        Some(Bound::AtLeast(8.0)),
    );
    record.compare(
        WORKLOAD,
        MODERN.name(),
        BOGOFILTER.name(),
        Some(Bound::AtLeast(6.0)),
    );
    Ok(())
}

/// `-s` into an empty database, which afterwards holds what the original's
/// holds. The original's text lists take it hours: it runs with `-f db` only.
pub(crate) fn train(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    length: Length,
    out: &Path,
) -> anyhow::Result<()> {
    const WORKLOAD: &str = "train on an mbox";
    let mut contenders = Vec::new();
    for filter in [ORIGINAL, OURS, OURS_TEXT] {
        contenders.push(Contender::new(filter.name(), move |_| {
            let folder = databases.empty(filter, WORKLOAD)?;
            let mut command = filter.command(&folder);
            let (taken, answer) = process::run(command.arg("-s"), &mail.bulk, out)?;
            ensure!(answer.code == 0, "{} failed to learn", filter.name());
            Ok(taken)
        }));
    }
    contenders.push(Contender::new(BOGOFILTER.name(), move |_| {
        let folder = databases.empty(BOGOFILTER, WORKLOAD)?;
        let mut command = BOGOFILTER.command(&folder);
        command.args(["-s", "-M", "-I"]).arg(&mail.bulk);
        let (taken, _) = process::run(&mut command, Path::new("/dev/null"), out)?;
        let words = fs::metadata(folder.join("wordlist.db"))?.len();
        ensure!(
            words > mail.bulk_bytes / 20,
            "bogofilter learned {words} bytes"
        );
        Ok(taken)
    }));
    race(record, WORKLOAD, length, &mut contenders)?;
    drop(contenders);
    // The good list of text lists is not there, that of the others is empty.
    let learned = |filter: Filter| {
        let [_, spam] = lists(filter, &databases.at(filter, WORKLOAD));
        spam
    };
    let original = learned(ORIGINAL);
    for filter in [OURS, OURS_TEXT] {
        ensure!(
            learned(filter) == original,
            "{} learned something else",
            filter.name()
        );
    }
    record.compare(
        WORKLOAD,
        OURS.name(),
        ORIGINAL.name(),
        Some(Bound::AtLeast(20.0)),
    );
    record.compare(
        WORKLOAD,
        OURS.name(),
        BOGOFILTER.name(),
        Some(Bound::AtLeast(2.0)),
    );
    record.compare(WORKLOAD, OURS_TEXT.name(), ORIGINAL.name(), None);
    Ok(())
}
