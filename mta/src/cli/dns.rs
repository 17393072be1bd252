//! `postern dns`: what the DNS should say of our domains, ready to paste, and
//! what it says.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;

use super::accounts;
use crate::accounts::Accounts;
use crate::authentication::keys::Keys;
use crate::config::Config;
use crate::doctor::ask::Asking;
use crate::doctor::autoconfig::autoconfig;
use crate::doctor::records::{Facts, Record, State, records};

/// What is printed.
#[derive(Args, Debug)]
pub struct Question {
    /// A domain of ours; by default all
    #[arg(value_parser = accounts::domain)]
    domain: Option<String>,
    /// An address of the host, as others see it; by default what the DNS says
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// In place of records, the file by which Thunderbird sets itself up: for a
    /// web server that is called autoconfig.DOMAIN, as /mail/config-v1.1.xml
    #[arg(long, conflicts_with_all = ["addresses", "json"])]
    autoconfig: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    version: u32,
    domain: &'a str,
    #[serde(flatten)]
    record: &'a Record,
    #[serde(flatten)]
    state: &'a State,
}

/// Our domains.
pub(super) fn domains(config: &Config) -> anyhow::Result<Vec<String>> {
    let domains = Accounts::of_host(&config.data)?.domains()?;
    Ok(domains.into_iter().map(|domain| domain.name).collect())
}

/// What is known of one of them.
pub(super) fn facts_of<'a>(
    config: &'a Config,
    domain: &'a str,
    addresses: &'a [IpAddr],
) -> anyhow::Result<Facts<'a>> {
    let keys = Keys::read(&config.data, domain)?;
    let keys = keys.records().into_iter();
    Ok(Facts {
        domain,
        host: &config.pipeline.host,
        addresses,
        services: services(config),
        keys: keys.map(|key| (key.name, key.text)).collect(),
        is_relayed: config.remote.relay().is_some(),
    })
}

/// What users are served with here. No IMAP server is ours: there is one where
/// the accounts are published for it.
fn services(config: &Config) -> Vec<(&'static str, u16)> {
    let port = |all: &[SocketAddr]| all.first().map(SocketAddr::port);
    let (listening, publish) = (&config.listening, &config.publish);
    let has_imap = publish.dovecot.is_some() || publish.courier.is_some();
    let all = [
        ("submission", port(&listening.submission)),
        ("submissions", port(&listening.submissions)),
        ("imaps", has_imap.then_some(IMAPS)),
    ];
    let served = all.into_iter();
    served
        .filter_map(|(service, port)| Some((service, port?)))
        .collect()
}

/// RFC 8314 §3.2.
const IMAPS: u16 = 993;

/// Prints it; the exit code is 1 when something is missing or differs.
///
/// # Errors
/// When the domains are not known, there are no name servers, or the output
/// fails.
pub fn run(question: &Question, config: &Config, out: &mut dyn Write) -> anyhow::Result<i32> {
    let mut domains = domains(config)?;
    if let Some(one) = &question.domain {
        domains.retain(|domain| domain == one);
        ensure!(
            !domains.is_empty(),
            "there is no domain {one} here; `postern domain add {one}` enters it and makes its keys"
        );
    }
    if question.autoconfig {
        let text = autoconfig(&domains, &config.pipeline.host, &services(config));
        let text = text.context(
            "mail cannot be read here, or not be sent: [publish] names no IMAP server, or [listen] \
             no submission",
        )?;
        out.write_all(text.as_bytes())?;
        return Ok(0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let asking = Asking::new(config).map_err(anyhow::Error::msg)?;
        let host = &config.pipeline.host;
        let addresses = match question.addresses.as_slice() {
            [] => asking.addresses(host).await.unwrap_or_default(),
            given => given.to_owned(),
        };
        if addresses.is_empty() && !question.json {
            writeln!(
                out,
                "; {host} has no address in the DNS: --address names it"
            )?;
        }
        let mut all_there = !addresses.is_empty();
        for domain in &domains {
            let facts = facts_of(config, domain, &addresses)?;
            for record in records(&facts) {
                let state = asking.compare(&record).await;
                all_there &= state == State::There;
                tell(question, domain, &record, &state, out)?;
            }
        }
        Ok(i32::from(!all_there))
    })
}

fn tell(
    question: &Question,
    domain: &str,
    record: &Record,
    state: &State,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if question.json {
        let line = Line {
            r#type: "record",
            version: 1,
            domain,
            record,
            state,
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
        return Ok(());
    }
    let said = match state {
        State::There => "there".to_owned(),
        State::Missing => "MISSING".to_owned(),
        State::Differs { found } => {
            let found = crate::printable::printable(&found.join(" / "));
            format!("DIFFERS, there is: {found}")
        }
        State::Unknown { reason } => format!("not known: {reason}"),
    };
    writeln!(out, "{}", record.line())?;
    writeln!(out, ";   {said} ({})", record.why)?;
    Ok(())
}
