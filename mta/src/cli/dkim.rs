//! `postern dkim`: the keys by which mail of our domains is signed.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use serde::Serialize;

use super::accounts::{self, Places};
use crate::accounts::Directory;
use crate::authentication::keys::{Key, Keys, OVERLAP, Record, State};
use crate::remote::dns::{Dns, Found, RData, RecordType};
use crate::smtp::trace;

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the keys of all domains, or of one, with their records for the DNS
    List {
        /// Its name
        #[arg(value_parser = accounts::domain)]
        domain: Option<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Go one step towards new keys; twice makes a whole change
    ///
    /// First the new keys are made, and their records printed; mail is signed
    /// with the old ones. When the DNS has the records, the second call lets
    /// the new keys sign, and the old ones retire. The first keys of a domain
    /// sign at once.
    Rotate {
        /// Its name
        #[arg(value_parser = accounts::domain)]
        domain: String,
        /// Do not look whether the DNS has the new records
        #[arg(long)]
        unchecked: bool,
    },
    /// Forget keys that have been retired for a week, and print the records that can go
    Retire {
        /// Its name
        #[arg(value_parser = accounts::domain)]
        domain: String,
        /// Also those that have just been retired: mail on its way loses its signature
        #[arg(long)]
        now: bool,
    },
}

/// A line of `list --json`.
#[derive(Serialize)]
struct Listed<'a> {
    r#type: &'static str,
    version: u32,
    domain: &'a str,
    #[serde(flatten)]
    key: &'a Key,
    name: String,
    text: String,
}

/// Does it. `servers` are asked for records; without, those of the system.
///
/// # Errors
/// With the reason.
pub fn run(
    command: &Command,
    places: &Places,
    servers: Option<&[SocketAddr]>,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match command {
        Command::List { domain, json } => {
            let domains = match domain {
                Some(domain) => vec![domain.clone()],
                None => {
                    let all = places.open()?.domains()?.into_iter();
                    all.map(|domain| domain.name).collect()
                }
            };
            for domain in domains {
                list(&read(&domain, places)?, *json, out)?;
            }
            Ok(())
        }
        Command::Rotate { domain, unchecked } => {
            let known = places.open()?.domain(domain)?;
            ensure!(known.is_some(), "there is no domain {domain}");
            let mut keys = read(domain, places)?;
            let waiting: Vec<Record> = keys
                .in_state(State::Published)
                .map(|key| key.record(domain))
                .collect();
            if waiting.is_empty() {
                return begin(&mut keys, now, out);
            }
            if !unchecked {
                must_be_there(&waiting, servers)?;
            }
            keys.advance(now)?;
            let days = OVERLAP.as_secs() / 86_400;
            writeln!(
                out,
                "The new keys of {domain} sign from now on. The records of the old ones stay for \
                 {days} days;\nthen `postern dkim retire {domain}` says which can go."
            )?;
            Ok(())
        }
        Command::Retire {
            domain,
            now: at_once,
        } => {
            let mut keys = read(domain, places)?;
            let overlap = if *at_once { Duration::ZERO } else { OVERLAP };
            let gone = keys.forget(overlap, now)?;
            if gone.is_empty() {
                writeln!(out, "No key of {domain} has been retired for long enough.")?;
            }
            for key in gone {
                writeln!(out, "Remove {}", key.record(domain).name)?;
            }
            Ok(())
        }
    }
}

/// Makes the keys of a domain that has none.
///
/// # Errors
/// When they cannot be written.
pub(super) fn make_first(domain: &str, places: &Places, now: SystemTime) -> anyhow::Result<()> {
    let mut keys = read(domain, places)?;
    if keys.keys.is_empty() {
        keys.make(now)?;
    }
    Ok(())
}

fn read(domain: &str, places: &Places) -> anyhow::Result<Keys> {
    Ok(Keys::read(places.data(), domain)?)
}

fn begin(keys: &mut Keys, now: SystemTime, out: &mut dyn Write) -> anyhow::Result<()> {
    keys.make(now)?;
    let domain = keys.domain().to_owned();
    let made = keys.keys.iter().rev().take(2).rev();
    let mut is_first = false;
    for key in made {
        is_first = key.state == State::Signing;
        writeln!(out, "{}", key.record(&domain))?;
    }
    match is_first {
        true => writeln!(
            out,
            "Put these records into the DNS: mail of {domain} is signed."
        ),
        false => writeln!(
            out,
            "Put these records into the DNS, then run `postern dkim rotate {domain}` again: the \
             new keys sign from then on."
        ),
    }?;
    Ok(())
}

fn list(keys: &Keys, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    for key in &keys.keys {
        let record = key.record(keys.domain());
        if json {
            let Record { name, text } = record;
            let listed = Listed {
                r#type: "dkim-key",
                version: 1,
                domain: keys.domain(),
                key,
                name,
                text,
            };
            serde_json::to_writer(&mut *out, &listed)?;
            writeln!(out)?;
            continue;
        }
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(key.since);
        let (name, since) = (key.algorithm.name(), trace::date(since));
        writeln!(
            out,
            "{}  {name}  {} since {since}\n    {record}",
            keys.domain(),
            key.state
        )?;
    }
    Ok(())
}

/// Receivers must be able to verify what is signed.
fn must_be_there(records: &[Record], servers: Option<&[SocketAddr]>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let dns = Dns::new(servers).map_err(anyhow::Error::msg)?;
        for record in records {
            let texts = dns.ask(&record.name, RecordType::TXT, |data| match data {
                RData::TXT(text) => Some(text.txt_data.concat()),
                _ => None,
            });
            let found = texts.await.map_err(anyhow::Error::msg);
            let found = found.context("--unchecked does not ask")?;
            match found {
                Found::Records(texts) if texts.iter().any(|text| record.is(text)) => {}
                Found::Records(_) => bail!("the record of {} is another one", record.name),
                _ => bail!(
                    "the DNS has no record {} yet; it may still know that there was none",
                    record.name
                ),
            }
        }
        Ok(())
    })
}
