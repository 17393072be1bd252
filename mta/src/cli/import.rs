//! `postern import`: moving in from another host.

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{become_owner_of, init, publish};
use crate::Error;
use crate::accounts::{Accounts, Address};
use crate::config::{self, Config};
use crate::import::apply::{self, RULES, Step};
use crate::import::report::{Finding, Outcome, Report};
use crate::import::source::Disk;
use crate::import::{self, Places, Plan};
use crate::models;
use crate::printable::printable;

/// From where.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From a qmail host: control files, users, aliases, .qmail files
    ///
    /// The old host is only read. What is here already stays, so that a second run
    /// changes nothing. Without a configuration a host is made as by `postern init`.
    /// Exit code 1: something could not be carried over; the report says what and
    /// why.
    Qmail(Qmail),
}

/// Where the old host is.
#[derive(Args, Debug)]
pub struct Qmail {
    /// Its folder, such as /var/qmail
    folder: PathBuf,
    /// A copy of the old host's disk: what it called / is this folder, and FOLDER is
    /// below it
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// The text of tcprules [default: /etc/tcp.smtp and the like]
    #[arg(long, value_name = "FILE")]
    tcprules: Option<PathBuf>,
    /// spamdyke's configuration [default: /etc/spamdyke.conf and the like]
    #[arg(long, value_name = "FILE")]
    spamdyke: Option<PathBuf>,
    /// The list of passwords [default: authuser or smtpauth of qmail's users]
    #[arg(long, value_name = "FILE")]
    passwords: Option<PathBuf>,
    /// The system's user who keeps the mail of a host that is made; see `postern init`
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Print what would be done, and the report, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a line, also for what was carried over
    #[arg(long)]
    json: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Step {
        version: u32,
        text: &'a str,
        done: bool,
    },
    Finding {
        version: u32,
        #[serde(flatten)]
        finding: &'a Finding,
    },
}

/// Does it, and prints what was done and what was not.
///
/// # Errors
/// With the reason; a second run goes on where it ended.
pub fn run(
    command: &Command,
    path: &Path,
    data: Option<&Path>,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<i32> {
    let Command::Qmail(qmail) = command;
    let known = path.exists().then(|| Config::read(path)).transpose()?;
    let configured = known.as_ref().map(|config| config.data.as_path());
    let data = data.or(configured).unwrap_or(Path::new(config::DATA));
    let data = &std::path::absolute(data)?;
    let places = Places {
        qmail: qmail.inside(&qmail.folder),
        tcprules: qmail.tcprules.as_deref().map(|path| qmail.inside(path)),
        spamdyke: qmail.spamdyke.as_deref().map(|path| qmail.inside(path)),
        passwords: qmail.passwords.as_deref().map(|path| qmail.inside(path)),
        data: data.clone(),
    };
    // Read by whoever may read the old host's folders; written by the owner of
    // ours.
    let mut plan = import::plan(&Disk::below(&qmail.root), &places)?;
    if !plan.rules.is_empty() {
        let rules = data.join(RULES).display().to_string();
        plan.settings.set("gate", "rules", rules);
    }
    check(&plan, path)?;
    let mut report = plan.report.clone();
    if known.is_some() {
        let text = std::fs::read_to_string(path)?;
        for missing in plan.settings.missing_in(&text) {
            let why = "the configuration is there, and yours: write this into it if you want it";
            report.add(Outcome::Left, path, None, missing, why);
        }
    }
    let open = || -> anyhow::Result<Option<Accounts>> {
        let is_there = data.join("accounts.db").exists();
        Ok(is_there.then(|| Accounts::of_host(data)).transpose()?)
    };
    let mut models = Models::wanted(&plan, data)?;
    let disk = Disk::below(&qmail.root);
    if known.is_some() && !qmail.dry_run {
        models.copy(&disk, data)?;
        become_owner_of(data)?;
    }
    let missing = apply::missing(&plan, data, open()?.as_ref(), &mut report)?;
    if !qmail.dry_run {
        if known.is_none() {
            let new = init::New {
                domain: None,
                host: &plan.host,
                user: qmail.user.as_deref(),
                config: path,
                data,
                secrets: &plan.secrets,
            };
            let text = |user: Option<&str>| {
                let sample = init::sample(&plan.host, &plan.host, data, user);
                plan.settings.in_sample(&sample)
            };
            new.make(&text)?;
            models.copy(&disk, data)?;
            become_owner_of(data)?;
        }
        let accounts = open()?.context("the host has no accounts; `postern init` makes them")?;
        let is_account = |step: &Step| !matches!(step, Step::File { .. } | Step::Keys(_));
        let changes = missing.iter().any(is_account);
        let config = changes.then(|| Config::read(path)).transpose()?;
        publish::changing(config.as_ref(), None, || {
            Ok(apply::carry_out(&missing, data, &accounts, now)?)
        })?;
        models.import(data, &mut report)?;
    }
    let mut steps: Vec<String> = missing.iter().map(ToString::to_string).collect();
    steps.extend(models.steps());
    if known.is_none() {
        steps.insert(0, format!("configuration {}", path.display()));
    }
    tell(&steps, &report, qmail, out)
}

/// Whether the configuration that is to be written makes sense, before anything
/// is done.
fn check(plan: &Plan, path: &Path) -> anyhow::Result<()> {
    let mut settings = plan.settings.clone();
    for route in &mut settings.routes {
        // Its file is not there yet.
        if route.remove("password_file").is_some() {
            route.insert("password".into(), "x".into());
        }
    }
    let sample = init::sample(&plan.host, &plan.host, Path::new(config::DATA), None);
    Config::parse(&settings.in_sample(&sample), path)
        .context("what the old host says makes no configuration")?;
    Ok(())
}

/// What users have taught bmf and is not here yet.
struct Models {
    /// Each with the folder of the old host.
    wanted: Vec<(Address, PathBuf)>,
    /// Copies, which whoever keeps the mail can read.
    copies: Option<tempfile::TempDir>,
}

/// Names whose models have come, a line each below that of the version, which
/// the first such files lack: a second run does not open the database, which
/// the server may have open.
const IMPORTED: &str = "imported-models";
const FIRST_LINE: &str = "postern imported-models ";
const VERSION: u64 = 1;

impl Models {
    fn wanted(plan: &Plan, data: &Path) -> anyhow::Result<Self> {
        let path = data.join(IMPORTED);
        let known = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let first = known.lines().next().unwrap_or_default();
        let version = first.strip_prefix(FIRST_LINE).map(str::parse);
        if let Some(Ok(version)) = version
            && version > VERSION
        {
            return Err(Error::newer(&path, version, VERSION).into());
        }
        let users = plan.accounts.users.iter();
        let with = users.filter_map(|(address, user)| Some((address.clone(), user.bmf.clone()?)));
        let is_new = |(address, _): &(Address, PathBuf)| {
            let name = address.to_string();
            known.lines().all(|line| line != name)
        };
        Ok(Self {
            wanted: with.filter(is_new).collect(),
            copies: None,
        })
    }

    fn steps(&self) -> Vec<String> {
        let wanted = self.wanted.iter();
        wanted
            .map(|(address, _)| format!("model of {address}"))
            .collect()
    }

    /// While everybody's folders can still be read.
    fn copy(&mut self, disk: &Disk, data: &Path) -> anyhow::Result<()> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let owner =
            std::fs::metadata(data).with_context(|| format!("cannot use {}", data.display()))?;
        let give =
            |path: &Path| std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()));
        let copies = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        for (n, (_, folder)) in self.wanted.iter().enumerate() {
            let copy = copies.path().join(n.to_string());
            let copied = std::fs::create_dir(&copy)
                .and_then(|()| models::copy(&disk.place(folder), &copy))
                .and_then(|()| give(&copy))
                .and_then(|()| {
                    std::fs::read_dir(&copy)?.try_for_each(|entry| give(&entry?.path()))
                });
            copied.with_context(|| format!("cannot copy {}", folder.display()))?;
        }
        give(copies.path())?;
        self.copies = Some(copies);
        Ok(())
    }

    /// What cannot be understood is told, and stops nothing.
    fn import(&self, data: &Path, report: &mut Report) -> anyhow::Result<()> {
        let Some(copies) = &self.copies else {
            return Ok(());
        };
        let databases = models::databases(data)?;
        let mut imported = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(data.join(IMPORTED))?;
        if imported.metadata()?.len() == 0 {
            writeln!(imported, "{FIRST_LINE}{VERSION}")?;
        }
        for (n, (address, folder)) in self.wanted.iter().enumerate() {
            let copy = copies.path().join(n.to_string());
            if let Err(error) = models::import(&databases, &address.to_string(), &copy) {
                report.add(Outcome::Left, folder, None, "", format!("{error:#}"));
                continue;
            }
            writeln!(imported, "{address}")?;
        }
        Ok(imported.sync_all()?)
    }
}

fn tell(
    steps: &[String],
    report: &Report,
    qmail: &Qmail,
    out: &mut dyn Write,
) -> anyhow::Result<i32> {
    if qmail.json {
        let steps = steps.iter().map(|text| Line::Step {
            version: 1,
            text,
            done: !qmail.dry_run,
        });
        let findings = report.findings.iter().map(|finding| Line::Finding {
            version: 1,
            finding,
        });
        for line in steps.chain(findings) {
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        }
    } else {
        for step in steps {
            writeln!(out, "{}", printable(step))?;
        }
        for outcome in Outcome::ALL {
            let n = report.count(outcome);
            writeln!(out, "\n{n} {}", outcome.name())?;
            let of = |finding: &&Finding| finding.outcome == outcome;
            // What is well is a number.
            if outcome != Outcome::Carried {
                for finding in report.findings.iter().filter(of) {
                    writeln!(out, "{finding}")?;
                }
            }
        }
    }
    Ok(i32::from(report.count(Outcome::Left) > 0))
}

impl Qmail {
    /// A path as the old host calls it.
    fn inside(&self, path: &Path) -> PathBuf {
        let given = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let root = std::path::absolute(&self.root).unwrap_or_else(|_| self.root.clone());
        let below = given.strip_prefix(&root).unwrap_or(&given);
        Path::new("/").join(below)
    }
}
