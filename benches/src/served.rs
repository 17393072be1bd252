//! A whole `bmf -p`, as a delivery agent starts it, through `bmfd serve` and
//! by itself: it marks the message and registers it under its own verdict.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use memchr::memmem;
use tests::bmfd::Bmfd;
use tests::differential::Format;

use crate::filters::{Databases, Filter, ours};
use crate::mail::Mail;
use crate::process;
use crate::race::{Contender, Length, race};
use crate::record::{Bound, Record};

pub(crate) const WORKLOAD: &str = "mark and register one";
const SERVED: &str = "bmf, by bmfd";
const MODERN: Filter = Filter::Modern;
const ORIGINAL: Filter = Filter::Original(Format::Db);

/// All begin with what they learned of all the mail.
pub(crate) fn mark_and_register(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    length: Length,
    out: &Path,
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut bmfd = Bmfd::new(dir.path(), "none/*", "mailboxes.dovecot = false\n");
    bmfd.start();
    let home = dir.path().join("home");
    fs::create_dir(&home)?;
    fs::rename(databases.copy(MODERN, WORKLOAD)?, home.join(".bmf"))?;
    let client = || {
        let mut bmf = Command::new(ours());
        bmf.env("HOME", &home).env("BMF_SOCKET", bmfd.socket());
        bmf
    };
    // The first call hands the database over, and says so.
    process::run(client().arg("-p"), &mail.samples[0].path, out)?;
    let [modern, original] = [MODERN, ORIGINAL].map(|filter| databases.copy(filter, WORKLOAD));
    let (modern, original) = (modern?, original?);
    let commands: [(&str, &dyn Fn() -> Command); 3] = [
        (SERVED, &client),
        (MODERN.name(), &|| MODERN.command(&modern)),
        (ORIGINAL.name(), &|| ORIGINAL.command(&original)),
    ];
    let mut contenders = commands.map(|(name, command)| {
        Contender::new(name, move |round| {
            let sample = &mail.samples[round % mail.samples.len()];
            let (taken, answer) = process::run(command().arg("-p"), &sample.path, out)?;
            // Without the daemon bmf judges by what it handed over, and says so.
            let said = fs::read_to_string(out.with_extension("err"))?;
            ensure!(
                said.is_empty() && memmem::find(&answer.stdout, b"\nX-Spam-Status: ").is_some(),
                "{name} does not mark as it should: {said}"
            );
            Ok(taken)
        })
    });
    race(record, WORKLOAD, length, &mut contenders)?;
    record.compare(WORKLOAD, SERVED, ORIGINAL.name(), Some(Bound::AtMost(0.5)));
    record.compare(
        WORKLOAD,
        MODERN.name(),
        ORIGINAL.name(),
        Some(Bound::AtMost(2.0)),
    );
    Ok(())
}
