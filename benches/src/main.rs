//! Workloads and the peers they are raced against, in one run.
//!
//! Debian's bmf 0.9.4 and bogofilter get the same mail, the same databases and
//! the same way to be started as ours, run by run in turns. Time counts only
//! if the answer was right: where bytes must be equal they are compared with
//! the original's after each run.
//!
//! `make bench` calls this on a quiet machine and keeps what it writes under
//! docs/runs; `make bench-quick` is for development and keeps nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use tests::differential::Format;
use tests::programs;

use crate::filters::Databases;
use crate::instructions::Pass;
use crate::mail::Mail;
use crate::race::Length;
use crate::record::{Record, first_line};

mod bulk;
mod filters;
mod host;
mod in_process;
mod instructions;
mod mail;
mod memory;
mod modern;
mod process;
mod race;
mod record;
mod served;
mod single;
mod statistics;

/// Measures bmf beside the originals.
#[derive(Debug, Parser)]
struct Arguments {
    /// A minute instead of ten, for development; numbers of no weight
    #[arg(long)]
    quick: bool,
    /// Count instructions with callgrind and nothing else
    #[arg(long)]
    instructions: bool,
    /// Race the mail host against other ones and nothing else, with so many
    /// messages in each turn
    #[arg(long, value_name = "MESSAGES", num_args = 0..=1, default_missing_value = "10000")]
    host: Option<usize>,
    /// Race the gate with postscreen and nothing else, with so many connections
    /// in each turn
    #[arg(long, value_name = "CONNECTIONS", num_args = 0..=1, default_missing_value = "5000")]
    gate: Option<usize>,
    /// Only workloads whose name holds this
    #[arg(long, default_value = "")]
    filter: String,
    /// Keep the tables as DIR/DATE-NAME.csv and .md
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// What callgrind runs
    #[arg(long, hide = true, requires = "database")]
    pass: Option<Pass>,
    #[arg(long, hide = true)]
    database: Option<PathBuf>,
    #[arg(hide = true)]
    samples: Vec<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let (Some(pass), Some(database)) = (arguments.pass, &arguments.database) {
        return pass.carry_out(database, &arguments.samples);
    }
    let mut record = Record::default();
    let folder = programs::repository().join("target/bench");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    if let Some(messages) = arguments.host {
        let rounds = if arguments.quick { 1 } else { 3 };
        host::measure(&mut record, &folder, host::Scale { messages, rounds })?;
        state_facts(&mut record);
        host::state_facts(&mut record);
        let title = "The mail host, beside Postfix and OpenSMTPD";
        return publish(&record, "host", title, arguments.keep.as_deref());
    }
    if let Some(connections) = arguments.gate {
        let rounds = if arguments.quick { 1 } else { 5 };
        host::gate::measure(&mut record, &folder, connections, rounds)?;
        state_facts(&mut record);
        host::gate::state_facts(&mut record);
        return publish(
            &record,
            "gate",
            "The gate beside postscreen",
            arguments.keep.as_deref(),
        );
    }
    let n_bulk = if arguments.quick { 400 } else { 4_000 };
    let mail = Mail::prepare(&folder, n_bulk)?;
    let databases = Databases::prepare(&folder, &mail)?;
    let name = if arguments.instructions {
        instructions::count(&mut record, &databases, &mail)?;
        "instructions"
    } else {
        measure(
            &mut record,
            &arguments,
            &databases,
            &mail,
            &folder.join("out"),
        )?;
        ensure!(
            !record.is_empty(),
            "no workload's name holds '{}'",
            arguments.filter
        );
        "bench"
    };
    state_facts(&mut record);
    state_mail(&mut record, &mail);
    let title = "Speed and memory, beside the originals";
    publish(&record, name, title, arguments.keep.as_deref())
}

/// Prints the tables, and keeps them in the folder `keep`.
fn publish(record: &Record, name: &str, title: &str, keep: Option<&Path>) -> anyhow::Result<()> {
    println!("{}", record.markdown());
    if let Some(keep) = keep {
        let date = first_line(Command::new("date").args(["-u", "+%F"]));
        let stem = keep.join(format!("{date}-{name}"));
        record.save(&stem, title)?;
        eprintln!("kept as {}.csv and .md", stem.display());
    }
    Ok(())
}

/// Runs the workloads that the filter picks.
fn measure(
    record: &mut Record,
    arguments: &Arguments,
    databases: &Databases,
    mail: &Mail,
    out: &Path,
) -> anyhow::Result<()> {
    let quick = arguments.quick;
    let picked = |name: &str| name.contains(&arguments.filter);
    let length = |rounds, seconds| Length {
        warm_ups: if quick { 1 } else { 3 },
        rounds: if quick { rounds / 10 + 1 } else { rounds },
        at_most: Duration::from_secs(if quick { 10 } else { seconds }),
    };
    for workload in [
        ("score one", &["-t"][..]),
        ("score and mark one", &["-t", "-p"]),
    ] {
        if picked(workload.0) {
            single::score(record, databases, mail, length(200, 120), workload, out)?;
        }
    }
    if picked(served::WORKLOAD) {
        served::mark_and_register(record, databases, mail, length(200, 60), out)?;
    }
    for (name, format) in [
        ("train one -f db", Format::Db),
        ("train one -f text", Format::Text),
    ] {
        if picked(name) {
            single::train(record, databases, mail, length(200, 60), format, out)?;
        }
    }
    // The originals take long, and their times vary little.
    let few = Length {
        warm_ups: 0,
        rounds: 5,
        at_most: Duration::from_secs(if quick { 10 } else { 90 }),
    };
    if picked("score an mbox") {
        bulk::score(record, databases, mail, few, out)?;
    }
    if picked("train on an mbox") {
        bulk::train(record, databases, mail, few, out)?;
    }
    if picked("find words in memory") {
        in_process::lex(record, mail, if quick { 20 } else { 50 })?;
    }
    if picked("score in memory") {
        let answers = single::answers(databases, mail, &["-t"], out)?;
        in_process::score(
            record,
            databases,
            mail,
            &answers,
            if quick { 50 } else { 500 },
        )?;
    }
    if picked(modern::WORKLOAD) {
        modern::all(record, databases, mail, if quick { 50 } else { 500 })?;
    }
    if picked("memory") {
        let n_bytes = if quick { 64 << 20 } else { 1 << 30 };
        memory::single(record, databases, mail)?;
        memory::mbox(record, databases, mail, n_bytes)?;
        memory::message(record, databases, mail, n_bytes)?;
    }
    Ok(())
}

/// What the numbers depend on.
fn state_facts(record: &mut Record) {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(programs::repository())
            .args(arguments);
        first_line(&mut command)
    };
    let command: Vec<_> = std::env::args().skip(1).collect();
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut cpus = cpu_info
        .lines()
        .filter(|line| line.starts_with("model name"));
    let n_cpus = cpus.clone().count();
    let cpu = cpus.next().and_then(|line| line.split(": ").nth(1));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    record.fact(
        "date",
        first_line(Command::new("date").args(["-u", "+%F %R UTC"])),
    );
    record.fact(
        "command",
        format!("target/release/benches {}", command.join(" ")),
    );
    record.fact("commit", git(&["describe", "--always", "--dirty"]));
    record.fact(
        "machine",
        format!("{n_cpus} x {}", cpu.unwrap_or("unknown processor")),
    );
    record.fact("system", first_line(Command::new("uname").arg("-sr")));
    record.fact("load at the end", load.trim());
    record.fact("compiler", first_line(Command::new("rustc").arg("-V")));
}

/// With what, and against whom.
fn state_mail(record: &mut Record, mail: &Mail) {
    record.fact("original", first_line(filters::peer("bmf").arg("-V")));
    record.fact(
        "bogofilter",
        first_line(filters::peer("bogofilter-bdb").arg("-V")),
    );
    record.fact("mail", &mail.source);
    record.fact(
        "mbox",
        format!("{} messages, FNV-1a {:016x}", mail.n_bulk, mail.bulk_hash),
    );
    record.fact(
        "single messages",
        format!("{}, FNV-1a {:016x}", mail.samples.len(), mail.samples_hash),
    );
}
