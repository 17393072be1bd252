//! `postern doctor`: whether the host is well, for people and for monitoring.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use super::dns::{self, facts_of};
use crate::config::Config;
use crate::doctor::ask::Asking;
use crate::doctor::records::records;
use crate::doctor::{Finding, Level, gather, judge};

/// What is looked at.
#[derive(Args, Debug)]
pub struct Doctor {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// The domain whose mail host is asked for a greeting, to see whether mail
    /// can leave; none where a route takes all mail
    #[arg(long, value_name = "DOMAIN", default_value = "gmail.com")]
    reach: String,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    version: u32,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// Prints what was found; the exit code is that of the worst.
///
/// # Errors
/// When the configuration cannot be read, or the output fails.
pub fn run(
    doctor: &Doctor,
    path: &Path,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<i32> {
    let config = Config::read(path)?;
    let mut all = gather::certificates(&config, now);
    all.push(gather::clock(&config.data, now));
    all.extend(gather::disks(&config.data));
    all.extend(gather::rights(&config));
    all.push(gather::watches(&config.data.join("mail")));
    all.push(gather::backlog(&config.data.join("queue"), now));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    all.extend(runtime.block_on(outside(&config, &doctor.reach)));
    // The worst first; the rest stays in its order.
    all.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    for finding in &all {
        tell(finding, doctor.json, out)?;
    }
    let worst = all.first().map_or(Level::Ok, |finding| finding.level);
    Ok(worst as i32)
}

/// What the DNS and other hosts say.
async fn outside(config: &Config, reach: &str) -> Vec<Finding> {
    let trouble = |text: String| {
        let mend = "see to the name servers of this machine, or of [remote]";
        Finding::bad("dns", Level::Critical, text, mend)
    };
    let asking = match Asking::new(config) {
        Ok(asking) => asking,
        Err(reason) => return vec![trouble(reason)],
    };
    let mut all = vec![asking.way_out(config, reach).await];
    let domains = match dns::domains(config) {
        Ok(domains) => domains,
        Err(error) => {
            let text = format!("the domains are not known: {error:#}");
            let mend = "see to the rights of accounts.db, or bring back a copy of it";
            all.push(Finding::bad("accounts", Level::Critical, text, mend));
            return all;
        }
    };
    let host = &config.pipeline.host;
    let addresses = match asking.addresses(host).await {
        Ok(addresses) => addresses,
        Err(reason) => {
            all.push(trouble(reason));
            return all;
        }
    };
    if addresses.is_empty() {
        let text = format!("{host} has no address: no mail finds it");
        let mend = "give it its A and AAAA records; `postern dns --address ADDRESS` prints them";
        all.push(Finding::bad("dns", Level::Critical, text, mend));
    }
    let mut asked = Vec::new();
    for domain in &domains {
        let facts = match facts_of(config, domain, &addresses) {
            Ok(facts) => facts,
            Err(error) => {
                let text = format!("{error:#}");
                let mend = "see to its rights, or bring back a copy of it";
                all.push(Finding::bad("keys", Level::Critical, text, mend));
                continue;
            }
        };
        for record in records(&facts) {
            // Those of the host are the same for each domain.
            if !asked.contains(&record) {
                let state = asking.compare(&record).await;
                all.extend(judge::record(&record, &state));
                asked.push(record);
            }
        }
    }
    let is_bad = |finding: &Finding| finding.check == "dns" && finding.level != Level::Ok;
    if !all.iter().any(is_bad) {
        let text = format!("{} records are there", asked.len());
        all.push(Finding::ok("dns", text));
    }
    all
}

fn tell(finding: &Finding, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        let line = Line {
            r#type: "finding",
            version: 1,
            finding,
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
        return Ok(());
    }
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Critical => "critical",
    };
    let text = crate::printable::printable(&finding.text);
    writeln!(out, "{level:<8}  {}: {text}", finding.check)?;
    if let Some(mend) = &finding.mend {
        writeln!(out, "          mend: {mend}")?;
    }
    Ok(())
}
