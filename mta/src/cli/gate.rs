//! `postern gate`: what the gate would do, and why.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::accounts::{self, Accounts, Directory};
use crate::config::Config;
use crate::gate::Gate;
use crate::gate::decision::{Effect, Finding, Rule};
use crate::gate::gather::Question;
use crate::gate::greylist::IN_MEMORY;
use crate::handover::Wishes;
use crate::pipeline::{plan, relaying_denied};
use crate::printable::printable;
use crate::remote::dns::Dns;
use crate::smtp::{ForwardPath, ReversePath};

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask what would become of a client, and change nothing
    ///
    /// Exit code 1: it would be refused.
    Test(Test),
}

/// A client as it might come.
#[derive(Args, Debug)]
pub struct Test {
    /// Its address
    #[arg(long, value_name = "ADDRESS")]
    ip: IpAddr,
    /// What it calls itself
    #[arg(long, value_name = "NAME")]
    helo: String,
    /// Its reverse-path; "" for reports
    #[arg(long, value_name = "ADDRESS", value_parser = reverse_path)]
    from: ReversePath,
    /// Its recipient
    #[arg(long, value_name = "ADDRESS", value_parser = forward_path)]
    to: ForwardPath,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    r#type: &'static str,
    version: u32,
    verdict: &'static str,
    reply: Option<String>,
    findings: &'a [Finding],
}

/// Answers it; the exit code is 1 when the client would be refused.
///
/// # Errors
/// With the reason why it cannot be known.
pub fn run(command: &Command, config: &Config, out: &mut dyn Write) -> anyhow::Result<i32> {
    let Command::Test(test) = command;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let Recipient {
        wishes,
        unknown,
        is_outside,
    } = recipient(&test.to, config)?;
    let mut relays = config.relay_networks.iter();
    if relays.any(|network| network.contains(test.ip)) {
        return tell(test, "relays", &[], unknown, out);
    }
    let servers = config.remote.dns.as_deref();
    let question = Question {
        address: test.ip,
        helo: &test.helo,
        reverse_path: &test.from,
        forward_path: &test.to,
    };
    let greylist = match config.data.join("greylist.db") {
        path if path.exists() => path,
        // It is the server that makes it.
        _ => IN_MEMORY.into(),
    };
    let (findings, may_relay) = runtime.block_on(async {
        let host = &config.pipeline.host;
        let dns = Dns::new(servers).map_err(anyhow::Error::msg)?;
        let gate = Gate::open(host, config.gate.clone(), &dns, &greylist)?;
        anyhow::Ok(Arc::new(gate).try_out(question, wishes).await)
    })?;
    let denied = (is_outside && !may_relay).then(|| relaying_denied().to_string());
    let unknown = denied.or(unknown);
    // That is asked before the greylist.
    let refused = findings
        .refusal()
        .filter(|finding| finding.rule != Rule::Greylist);
    if let (None, Some(reply)) = (refused, unknown) {
        return tell(test, "refuse", &findings.0, Some(reply), out);
    }
    let verdict = match findings.deciding() {
        None if findings.is_suspect() => "suspect",
        None => "pass",
        Some(finding) if finding.effect == Effect::Allow => "allow",
        Some(finding) => finding.effect.name(),
    };
    let reply = findings
        .refusal()
        .map(|finding| finding.reply().to_string());
    tell(test, verdict, &findings.0, reply, out)
}

/// What is known of a recipient.
#[derive(Default)]
struct Recipient {
    /// What it wants of the gate.
    wishes: Wishes,
    /// What is answered, when it is one of ours and not there.
    unknown: Option<String>,
    /// Whether it is somebody else's.
    is_outside: bool,
}

fn recipient(to: &ForwardPath, config: &Config) -> anyhow::Result<Recipient> {
    let path = config.data.join("accounts.db");
    let Some(mailbox) = to.mailbox().filter(|_| path.exists()) else {
        return Ok(Recipient::default());
    };
    let accounts = Accounts::of_host(&config.data)?;
    let refused = plan(mailbox, &accounts).err();
    let domain = mailbox.domain.name();
    Ok(Recipient {
        wishes: accounts::wishes(mailbox, &accounts)?,
        unknown: refused.map(|refusal| refusal.reply.to_string()),
        is_outside: match domain {
            Some(domain) => accounts.domain(domain)?.is_none(),
            None => true,
        },
    })
}

fn tell(
    test: &Test,
    verdict: &'static str,
    findings: &[Finding],
    reply: Option<String>,
    out: &mut dyn Write,
) -> anyhow::Result<i32> {
    let code = i32::from(reply.is_some());
    if test.json {
        let answer = Answer {
            r#type: "gate",
            version: 1,
            verdict,
            reply,
            findings,
        };
        serde_json::to_writer(&mut *out, &answer)?;
        writeln!(out)?;
        return Ok(code);
    }
    writeln!(out, "{verdict}")?;
    for finding in findings {
        writeln!(out, "  {}", printable(&finding.to_string()))?;
    }
    if let Some(reply) = reply {
        writeln!(out, "{reply}")?;
    }
    Ok(code)
}

fn reverse_path(text: &str) -> Result<ReversePath, String> {
    ReversePath::parse(text.as_bytes()).map_err(|error| error.to_string())
}

fn forward_path(text: &str) -> Result<ForwardPath, String> {
    ForwardPath::parse(text.as_bytes()).map_err(|error| error.to_string())
}
