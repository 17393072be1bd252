//! What the file says, turned into checked values, section by section.

use std::fs;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::{Spanned, Table};
use trainer::config::wrong::{Wrong, absolute};

use super::network::Network;
use super::{Config, DATA, LOCAL, Listening, Tls, gate, raw};
use crate::authentication;
use crate::delivery::program;
use crate::pipeline::checkpassword::Checkpassword;
use crate::pipeline::{self, ScannerDown, VirusPolicy, clamd::Clamd};
use crate::publish;
use crate::queue::schedule::Schedule;
use crate::remote::{self, Credentials, Route};
use crate::server::tls::Pair;
use crate::smtp::{Domain, Limits};

const SMTP: [&str; 2] = ["0.0.0.0:25", "[::]:25"];
const RELAY: [&str; 2] = ["127.0.0.0/8", "::1/128"];

pub(super) fn no_host() -> Wrong {
    Wrong {
        at: 0..0,
        reason: "host is missing: what this host is called in the DNS".into(),
    }
}

pub(super) fn check(file: raw::File) -> Result<Config, Wrong> {
    let host = file.host.as_ref().ok_or_else(no_host)?;
    let name = Domain::parse(host.get_ref()).ok();
    let name = name
        .as_ref()
        .and_then(Domain::name)
        .filter(|name| name.contains('.') && name.is_ascii())
        .ok_or_else(|| {
            let reason = format!(
                "{:?} is no host name such as mail.example.org",
                host.get_ref()
            );
            Wrong::at(host)(reason)
        })?;
    if let Some(domain) = &file.domain {
        Domain::parse(domain.get_ref()).map_err(|error| Wrong::at(domain)(error.to_string()))?;
    }
    let data = match &file.data {
        Some(path) => absolute(path)?,
        None => DATA.into(),
    };
    let trainer = Arc::new(learning(&file, &data)?);
    let mut pipeline = pipeline(&file, name)?;
    pipeline.learning = Some(Arc::clone(&trainer));
    let publish = published(&file.publish)?;
    pipeline.keep_hashes = publish.has_passwords();
    let remote = remote(&file, name)?;
    pipeline.authentication = authentication(&file.authentication);
    Ok(Config {
        listening: listening(&file.listen)?,
        limits: limits(&file.smtp),
        relay_networks: relay_networks(&file.smtp)?,
        gate: gate::settings(&file.gate)?,
        tls: tls(&file.tls, &data)?,
        pipeline,
        publish,
        remote,
        trainer,
        user: file.user.filter(|user| !user.is_empty()),
        data,
    })
}

fn authentication(said: &raw::Authentication) -> Option<authentication::Settings> {
    let default = authentication::Settings::default();
    said.check
        .unwrap_or(true)
        .then(|| authentication::Settings {
            patience: seconds(said.dns_seconds, default.patience),
            obeys: matches!(said.dmarc, raw::Dmarc::Obey),
        })
}

fn listening(said: &raw::Listen) -> Result<Listening, Wrong> {
    let addresses = |all: &[Spanned<String>]| {
        all.iter()
            .map(|text| address(text.get_ref()).map_err(Wrong::at(text)))
            .collect::<Result<Vec<_>, _>>()
    };
    let smtp = match &said.smtp {
        None => SMTP
            .map(|text| address(text).expect("the defaults are addresses"))
            .into(),
        Some(all) => addresses(all)?,
    };
    let lmtp = said
        .lmtp
        .iter()
        .map(|text| text.get_ref().parse().map_err(Wrong::at(text)));
    let local = match &said.local {
        None => Some(LOCAL.into()),
        Some(path) if path.get_ref().as_os_str().is_empty() => None,
        Some(path) => Some(absolute(path)?),
    };
    Ok(Listening {
        smtp,
        submission: addresses(&said.submission)?,
        submissions: addresses(&said.submissions)?,
        lmtp: lmtp.collect::<Result<_, _>>()?,
        local,
        max_sessions: number(said.max_sessions, 1000),
        max_sessions_per_client: number(said.max_sessions_per_client, 100),
    })
}

fn limits(said: &raw::Smtp) -> Limits {
    let default = Limits::default();
    Limits {
        message_octets: said
            .max_message_bytes
            .map_or(default.message_octets, u64::from),
        recipients: number(said.max_recipients, default.recipients),
        command_time: seconds(said.command_seconds, default.command_time),
        message_time: seconds(said.message_seconds, default.message_time),
        session_time: seconds(said.session_seconds, default.session_time),
        errors: said.max_errors.map_or(default.errors, |n| {
            u32::try_from(n.get()).unwrap_or(u32::MAX)
        }),
        ..default
    }
}

fn relay_networks(said: &raw::Smtp) -> Result<Vec<Network>, Wrong> {
    match &said.relay_networks {
        None => Ok(RELAY
            .map(|text| text.parse().expect("the defaults are networks"))
            .into()),
        Some(all) => all
            .iter()
            .map(|text| text.get_ref().parse().map_err(Wrong::at(text)))
            .collect(),
    }
}

fn tls(said: &raw::Tls, data: &Path) -> Result<Tls, Wrong> {
    let (first, is_named) = match (&said.certificate, &said.key) {
        (None, None) => {
            let (certificate, key) = (data.join("tls/cert.pem"), data.join("tls/key.pem"));
            (Pair { certificate, key }, false)
        }
        (Some(certificate), Some(key)) => (pair(certificate, key)?, true),
        (Some(one), None) | (None, Some(one)) => {
            return Err(Wrong::at(one)("certificate and key belong together".into()));
        }
    };
    let more = said.more.iter().map(|one| pair(&one.certificate, &one.key));
    let mut pairs = more.collect::<Result<Vec<_>, _>>()?;
    pairs.insert(0, first);
    Ok(Tls { pairs, is_named })
}

fn pair(certificate: &Spanned<PathBuf>, key: &Spanned<PathBuf>) -> Result<Pair, Wrong> {
    Ok(Pair {
        certificate: absolute(certificate)?,
        key: absolute(key)?,
    })
}

fn pipeline(file: &raw::File, host: &str) -> Result<pipeline::Settings, Wrong> {
    let mut settings = pipeline::Settings::new(host);
    if let Some(text) = &file.scanner.clamd {
        let address = text.get_ref().parse().map_err(Wrong::at(text))?;
        let mut clamd = Clamd::new(address);
        clamd.patience = seconds(file.scanner.patience_seconds, clamd.patience);
        settings.clamd = Some(clamd);
    }
    settings.checkpassword = checkpassword(&file.login)?;
    let or = |said: Option<NonZeroU32>, default| said.map_or(default, NonZeroU32::get);
    settings.messages_per_hour = or(file.login.messages_per_hour, settings.messages_per_hour);
    settings.recipients_per_hour = or(file.login.recipients_per_hour, settings.recipients_per_hour);
    settings.virus = match file.scanner.virus {
        raw::Virus::Refuse => VirusPolicy::Refuse,
        raw::Virus::Discard => VirusPolicy::Discard,
        raw::Virus::Quarantine => VirusPolicy::Quarantine,
    };
    settings.scanner_down = match file.scanner.when_down {
        raw::WhenDown::Defer => ScannerDown::Defer,
        raw::WhenDown::Pass => ScannerDown::Pass,
    };
    let default = Schedule::default();
    let hours = |said: Option<u32>, default| {
        said.map_or(default, |n| Duration::from_secs(u64::from(n) * 3600))
    };
    settings.schedule = Schedule {
        lifetime: hours(file.queue.lifetime_hours, default.lifetime),
        warn_after: hours(file.queue.warn_after_hours, default.warn_after),
        longest_pause: seconds(file.queue.longest_pause_seconds, default.longest_pause),
    };
    let default = program::Limits::default();
    settings.programs = program::Limits {
        time: seconds(file.programs.seconds, default.time),
        memory_bytes: bytes(file.programs.memory_bytes, default.memory_bytes),
        file_bytes: bytes(file.programs.file_bytes, default.file_bytes),
        path: file.programs.path.clone().unwrap_or(default.path),
    };
    settings.journal_bytes = bytes(file.journal.max_bytes, settings.journal_bytes);
    Ok(settings)
}

fn checkpassword(said: &raw::Login) -> Result<Option<Checkpassword>, Wrong> {
    let Some(command) = &said.checkpassword else {
        return Ok(None);
    };
    match command.get_ref().as_slice() {
        // Nothing to run for who is right.
        [] | [_] => Err(Wrong::at(command)(
            "a program and what it runs when all is right, as in [\"/bin/checkpassword\", \
             \"/bin/true\"]"
                .into(),
        )),
        words if !words[0].starts_with('/') => Err(Wrong::at(command)(format!(
            "{:?} is no path that begins with /",
            words[0]
        ))),
        words => Ok(Some(Checkpassword {
            command: words.to_vec(),
            cram_md5: said.checkpassword_cram_md5,
        })),
    }
}

fn published(said: &raw::Publish) -> Result<publish::Settings, Wrong> {
    let path = |said: &Option<Spanned<PathBuf>>| said.as_ref().map(absolute).transpose();
    Ok(publish::Settings {
        qmail_users: path(&said.qmail_users)?,
        qmail_control: path(&said.qmail_control)?,
        cmd5checkpw: path(&said.cmd5checkpw)?,
        dovecot: path(&said.dovecot)?,
        courier: path(&said.courier)?,
        run: said.run.clone(),
    })
}

fn remote(file: &raw::File, host: &str) -> Result<remote::Settings, Wrong> {
    let said = &file.remote;
    let default = remote::Settings::new(host);
    let dns = said.dns.as_ref().map(|all| {
        let one = |text: &Spanned<String>| address(text.get_ref()).map_err(Wrong::at(text));
        all.iter().map(one).collect::<Result<_, _>>()
    });
    let ca_file = said.ca_file.as_ref().map(absolute).transpose()?;
    Ok(remote::Settings {
        dns: dns.transpose()?,
        connections_per_destination: number(
            said.connections_per_destination,
            default.connections_per_destination,
        ),
        connect_time: seconds(said.connect_seconds, default.connect_time),
        reply_time: seconds(said.reply_seconds, default.reply_time),
        dead_time: said
            .dead_seconds
            .map_or(default.dead_time, Duration::from_secs),
        ca_file: ca_file.unwrap_or(default.ca_file),
        port: said.port.unwrap_or(default.port),
        routes: file.route.iter().map(route).collect::<Result<_, _>>()?,
        host: default.host,
    })
}

fn route(said: &Spanned<raw::Route>) -> Result<Route, Wrong> {
    let at = said.span();
    let said = said.get_ref();
    let name = said.domain.get_ref();
    let is_name = |name: &str| Domain::parse(name).is_ok_and(|domain| domain.name().is_some());
    if name != "*" && !is_name(name.strip_prefix('.').unwrap_or(name)) {
        let reason = format!("{name:?} is no domain, nor .domain or *");
        return Err(Wrong::at(&said.domain)(reason));
    }
    let host = said.host.as_ref().map(|host| {
        Domain::parse(host.get_ref()).map_err(|error| Wrong::at(host)(error.to_string()))
    });
    let host = host.transpose()?;
    if host.is_none() && (said.port.is_some() || said.user.is_some()) {
        let reason = "a port or a user needs a host; without one mail goes by MX".into();
        return Err(Wrong { at, reason });
    }
    let password = match (&said.password, &said.password_file) {
        (Some(_), Some(_)) => {
            let reason = "password and password_file: one of them is enough".into();
            return Err(Wrong { at, reason });
        }
        (Some(password), None) => Some(password.clone()),
        (None, Some(path)) => Some(first_line(path)?),
        (None, None) => None,
    };
    let credentials = match (&said.user, password) {
        (Some(user), Some(password)) => Some(Credentials {
            user: user.clone(),
            password,
        }),
        (None, None) => None,
        _ => {
            let reason = "user and password belong together".into();
            return Err(Wrong { at, reason });
        }
    };
    Ok(Route {
        domain: name.to_ascii_lowercase(),
        host,
        port: said.port.unwrap_or(25),
        credentials,
    })
}

fn first_line(path: &Spanned<PathBuf>) -> Result<String, Wrong> {
    let file = absolute(path)?;
    let text = fs::read_to_string(&file)
        .map_err(|error| Wrong::at(path)(format!("cannot read {}: {error}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// bmfd's configuration: its own sections, with our users and our database.
pub(super) fn learning(file: &raw::File, data: &Path) -> Result<trainer::config::Config, Wrong> {
    let mut whole = Table::new();
    let mut first = 0..0;
    for (name, section) in [
        ("folders", &file.folders),
        ("learning", &file.learning),
        ("rotation", &file.rotation),
        ("watching", &file.watching),
    ] {
        let Some(section) = section else { continue };
        let mut alone = Table::new();
        alone.insert(name.into(), section.get_ref().clone().into());
        trainer_parse(&alone).map_err(Wrong::at(section))?;
        whole.extend(alone);
        first = section.span();
    }
    let pattern = data.join("mail/*/*/Maildir").display().to_string();
    let mut mailboxes = Table::new();
    mailboxes.insert("patterns".into(), vec![pattern].into());
    whole.insert("mailboxes".into(), mailboxes.into());
    let mut service = Table::new();
    let socket = data.join("bmfd.socket").display().to_string();
    service.insert("socket".into(), socket.into());
    whole.insert("service".into(), service.into());
    let mut database = Table::new();
    let path = data.join("models").display().to_string();
    database.insert("path".into(), path.into());
    let cache = file.filter.model_cache_bytes.unwrap_or(256 << 20);
    let cache = i64::try_from(cache).unwrap_or(i64::MAX);
    database.insert("model_cache_bytes".into(), cache.into());
    whole.insert("database".into(), database.into());
    trainer_parse(&whole).map_err(|reason| Wrong { at: first, reason })
}

fn trainer_parse(table: &Table) -> Result<trainer::config::Config, String> {
    trainer::config::Config::parse(&table.to_string(), Path::new("bmfd.toml")).map_err(|error| {
        match error {
            trainer::Error::Config { reason, .. } => reason,
            error => error.to_string(),
        }
    })
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no address with a port, such as 192.0.2.1:25 or [::]:25"))
}

fn number(said: Option<NonZeroU64>, default: usize) -> usize {
    said.map_or(default, |n| usize::try_from(n.get()).unwrap_or(usize::MAX))
}

fn bytes(said: Option<NonZeroU64>, default: u64) -> u64 {
    said.map_or(default, u64::from)
}

pub(super) fn seconds(said: Option<NonZeroU64>, default: Duration) -> Duration {
    said.map_or(default, |n| Duration::from_secs(n.get()))
}
