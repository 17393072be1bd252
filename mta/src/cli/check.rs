//! `postern check`: whether everything fits, before the server is started.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::Access;

use crate::accounts::{Accounts, Resolved, resolve};
use crate::authentication::keys::{Keys, State};
use crate::config::{Config, Endpoint};
use crate::doctor::{Finding, Level, judge};
use crate::gate::Gate;
use crate::gate::greylist::IN_MEMORY;
use crate::message::Message;
use crate::publish;
use crate::queue::Queue;
use crate::queue::disk::Folder;
use crate::remote::dns::Dns;
use crate::server::listener;
use crate::server::tls::Certificates;
use crate::smtp::Mailbox;

/// What was found, each with `ok` or what is wrong.
struct Report<'a> {
    out: &'a mut dyn Write,
    is_wrong: bool,
}

impl Report<'_> {
    fn line(&mut self, what: &str, found: Result<String, String>) -> anyhow::Result<()> {
        match found {
            Ok(text) => writeln!(self.out, "ok     {what}: {text}")?,
            Err(text) => {
                self.is_wrong = true;
                writeln!(self.out, "wrong  {what}: {text}")?;
            }
        }
        Ok(())
    }

    /// What is not wrong yet does not change the exit code.
    fn warn(&mut self, finding: &Finding) -> anyhow::Result<()> {
        match finding.level {
            Level::Ok => Ok(()),
            Level::Warning => Ok(writeln!(
                self.out,
                "soon   {}: {}",
                finding.check, finding.text
            )?),
            Level::Critical => self.line(finding.check, Err(finding.text.clone())),
        }
    }
}

/// Prints what is configured and what is wrong with it; the exit code is 1
/// when something is.
///
/// # Errors
/// When the configuration cannot be read, or the output fails.
pub fn run(path: &Path, now: SystemTime, out: &mut dyn Write) -> anyhow::Result<i32> {
    let config = Config::read(path)?;
    let mut report = Report {
        out,
        is_wrong: false,
    };
    report.line("host", Ok(config.pipeline.host.clone()))?;
    report.line("listens", listens(&config))?;
    let networks = config.relay_networks.iter().map(ToString::to_string);
    let networks: Vec<String> = networks.collect();
    report.line("relays for", Ok(networks.join(", ")))?;
    report.line("accounts", accounts(&config))?;
    report.line("aliases", aliases(&config))?;
    report.line("passwords", passwords(&config))?;
    report.line("signs", signs(&config))?;
    report.line("queue", queue(&config))?;
    report.line("gate", gate(&config))?;
    report.line("certificate", certificate(&config))?;
    if config.tls.is_there()
        && let Ok(read) = Certificates::read(&config.tls.pairs)
    {
        for (pair, end) in read.ends() {
            report.warn(&judge::certificate(&pair.certificate, end, now))?;
        }
    }
    report.line("virus scanner", scanner(&config))?;
    report.line("routes", routes(&config))?;
    report.line("publishes", publishes(&config))?;
    Ok(i32::from(report.is_wrong))
}

/// Whether the server could listen there, unless it does already.
fn listens(config: &Config) -> Result<String, String> {
    let said = places(config);
    if UnixStream::connect(config.data.join("bmfd.socket")).is_ok() {
        return Ok(format!("{said} (the server runs)"));
    }
    let listening = &config.listening;
    let addresses = [
        &listening.smtp,
        &listening.submission,
        &listening.submissions,
    ];
    let (mut tcp, mut unix) = (Vec::new(), Vec::new());
    for endpoint in &listening.lmtp {
        match endpoint {
            Endpoint::Tcp(address) => tcp.push(address),
            Endpoint::Unix(path) => unix.push(path),
        }
    }
    for address in addresses.into_iter().flatten().chain(tcp) {
        listener::tcp(*address).map_err(|error| format!("cannot listen at {address}: {error}"))?;
    }
    for path in unix.into_iter().chain(&listening.local) {
        let mut folders = path.ancestors().skip(1);
        let folder = folders
            .find(|folder| folder.exists())
            .unwrap_or(Path::new("/"));
        rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    }
    Ok(said)
}

fn places(config: &Config) -> String {
    let listening = &config.listening;
    let smtp = listening.smtp.iter().map(ToString::to_string);
    let submission = |all: &[SocketAddr], name| {
        let named = |address: &SocketAddr| format!("{address} ({name})");
        all.iter().map(named).collect::<Vec<_>>()
    };
    let smtp = smtp
        .chain(submission(&listening.submission, "submission"))
        .chain(submission(&listening.submissions, "submissions"));
    let lmtp = listening.lmtp.iter().map(|endpoint| match endpoint {
        Endpoint::Tcp(address) => format!("{address} (LMTP)"),
        Endpoint::Unix(path) => format!("{} (LMTP)", path.display()),
    });
    let local = listening
        .local
        .iter()
        .map(|path| path.display().to_string());
    smtp.chain(lmtp).chain(local).collect::<Vec<_>>().join(", ")
}

fn accounts(config: &Config) -> Result<String, String> {
    let path = config.data.join("accounts.db");
    if !path.exists() {
        return Err(format!(
            "{} is not there; `postern init DOMAIN` makes a host",
            path.display()
        ));
    }
    let accounts = Accounts::of_host(&config.data);
    let counted = accounts.and_then(|accounts| {
        let (domains, users) = (accounts.domains()?, accounts.users(None)?);
        let with_password = users.iter().filter(|user| user.settings.password.is_some());
        Ok((domains.len(), users.len(), with_password.count()))
    });
    match counted.map_err(|error| error.to_string())? {
        (0, ..) => Err("there is no domain; `postern domain add` enters one".into()),
        (domains, users, can) => Ok(format!(
            "{domains} domains, {users} users, {can} of them with a password to log in with"
        )),
    }
}

/// Whether each alias leads to somebody.
fn aliases(config: &Config) -> Result<String, String> {
    let path = config.data.join("accounts.db");
    if !path.exists() {
        return Ok("none".into());
    }
    let wrong = || -> Result<(usize, Vec<String>), crate::Error> {
        let accounts = Accounts::of_host(&config.data)?;
        let aliases = accounts.aliases(None)?;
        let mut wrong = Vec::new();
        for (alias, targets) in &aliases {
            for target in targets {
                let resolved = match Mailbox::parse(target.as_bytes()) {
                    Ok(mailbox) => resolve(&mailbox, &accounts)?,
                    Err(_) => Resolved::NoSuchUser,
                };
                match resolved {
                    Resolved::Plan(_) => {}
                    Resolved::NoSuchUser => {
                        wrong.push(format!("{alias} leads to {target}, who is not there"))
                    }
                    Resolved::Loop => {
                        wrong.push(format!("{alias} leads back to itself by {target}"))
                    }
                }
            }
        }
        Ok((aliases.len(), wrong))
    };
    match wrong().map_err(|error| error.to_string())? {
        (n, wrong) if wrong.is_empty() => Ok(n.to_string()),
        (_, wrong) => Err(wrong.join("; ")),
    }
}

fn passwords(config: &Config) -> Result<String, String> {
    let Some(program) = &config.pipeline.checkpassword else {
        return Ok("in the accounts".into());
    };
    let path = program.command.first().map_or("", String::as_str);
    let found = fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
    match found.is_file() && found.permissions().mode() & 0o111 != 0 {
        true => Ok(format!(
            "asked of {path}; those in the accounts do not count"
        )),
        false => Err(format!("{path} is no program")),
    }
}

fn signs(config: &Config) -> Result<String, String> {
    let accounts = Accounts::of_host(&config.data);
    let domains = accounts.and_then(|accounts| accounts.domains());
    let domains = domains.map_err(|error| error.to_string())?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for domain in domains {
        let keys = Keys::read(&config.data, &domain.name);
        let keys = keys.map_err(|error| error.to_string())?;
        match keys.in_state(State::Signing).next() {
            Some(_) => with.push(domain.name),
            None => without.push(domain.name),
        }
    }
    // Somebody else may sign, such as the relay that all mail goes by.
    let lacking = without.first().map_or(String::new(), |first| {
        let names = without.join(", ");
        format!("; {names} has no key, `postern dkim rotate {first}` makes one")
    });
    Ok(format!("{}{lacking}", with.join(", ")))
}

fn publishes(config: &Config) -> Result<String, String> {
    if config.publish.is_empty() {
        return Ok("nothing".into());
    }
    let accounts = Accounts::of_host(&config.data);
    let accounts = accounts.map_err(|error| error.to_string())?;
    let plan = publish::plan(
        &config.publish,
        &accounts,
        &config.remote.routes,
        &config.data,
    );
    let plan = plan.map_err(|error| error.to_string())?;
    if let Some(folder) = plan.missing_folders().first() {
        return Err(format!("there is no folder {}", folder.display()));
    }
    let changes = plan.differences().map_err(|error| error.to_string())?;
    match (plan.problems.as_slice(), changes.is_empty()) {
        ([], true) => Ok("all is up to date".into()),
        ([], false) => Ok("some files are not up to date; see `postern publish --dry-run`".into()),
        (problems, _) => Err(problems.join("; ")),
    }
}

fn gate(config: &Config) -> Result<String, String> {
    let gate = &config.gate;
    let dns = Dns::new(config.remote.dns.as_deref())?;
    let opened = Gate::open("", gate.clone(), &dns, IN_MEMORY.as_ref());
    opened.map_err(|error| error.to_string())?;
    let n = gate.dns_lists.len();
    let files = [("rules", &gate.rules), ("plugins", &gate.plugins)];
    let files = files.map(|(what, path)| match path {
        Some(path) => format!(", {what} in {}", path.display()),
        None => String::new(),
    });
    Ok(format!("{n} DNS lists{}", files.concat()))
}

fn queue(config: &Config) -> Result<String, String> {
    let path = config.data.join("queue");
    if !path.exists() {
        return Ok("empty".into());
    }
    let folder = Folder::open(&path).map_err(|error| error.to_string())?;
    let ids = Queue::new(folder)
        .ids()
        .map_err(|error| error.to_string())?;
    Ok(format!("{} messages", ids.len()))
}

fn certificate(config: &Config) -> Result<String, String> {
    config.must_have_certificate()?;
    if !config.tls.is_there() {
        return Ok("none, mail comes in clear".into());
    }
    let read = Certificates::read(&config.tls.pairs).map_err(|error| error.to_string())?;
    let each = read.names().into_iter().map(|(pair, names)| {
        let path = pair.certificate.display();
        match names.is_empty() {
            true => format!("{path} for no DNS name, so that clients who check names refuse it"),
            false => format!("{path} for {}", names.join(" ")),
        }
    });
    Ok(each.collect::<Vec<_>>().join(", "))
}

fn scanner(config: &Config) -> Result<String, String> {
    let Some(clamd) = &config.pipeline.clamd else {
        return Ok("none".into());
    };
    let mut message = Message::new(&config.data);
    let asked = message
        .write(b"Subject: postern check\n\nA scan of nothing\n")
        .and_then(|()| clamd.scan(&message));
    match asked {
        Ok(_) => Ok(clamd.address.to_string()),
        Err(error) => Err(format!("{}: {error}", clamd.address)),
    }
}

fn routes(config: &Config) -> Result<String, String> {
    let routes = &config.remote.routes;
    let needs_trust = routes.iter().any(|route| route.credentials.is_some());
    let ca_file = &config.remote.ca_file;
    if needs_trust && !ca_file.is_file() {
        return Err(format!(
            "{} is not there, so no relay with a password can be believed; see remote.ca_file",
            ca_file.display()
        ));
    }
    let said = routes.iter().map(|route| match &route.host {
        Some(host) => format!("{} by {host}:{}", route.domain, route.port),
        None => format!("{} by MX", route.domain),
    });
    let said: Vec<String> = said.collect();
    Ok(if said.is_empty() {
        "none, mail goes where the DNS says".into()
    } else {
        said.join(", ")
    })
}
