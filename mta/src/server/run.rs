//! The whole host, from its configuration to SIGTERM: listeners, queue, and the
//! learning from what users move.
//!
//! SIGHUP reads the gate's rules and plugins again, and the certificates, which
//! are looked at every few seconds besides; everything else needs a restart,
//! which loses nothing. SIGTERM and SIGINT: no new clients, those who are
//! sending get their answer, deliveries that have begun end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use super::driver::Surroundings;
use super::listener::{self, Clients, Listener, Manner, Shared};
use super::tls::{Certificates, LOOK_EVERY};
use crate::accounts::Accounts;
use crate::authentication::incoming::Verifier;
use crate::config::{Config, Endpoint};
use crate::confinement;
use crate::gate::Gate;
use crate::pipeline::Postern;
use crate::pipeline::verdict::HostModels;
use crate::publish;
use crate::queue::disk::Folder;
use crate::remote::WayOut;
use crate::remote::dns::Dns;
use crate::remote::outbound::Outbound;
use crate::smtp::Mechanism;
use crate::smtp::session::Settings;

/// How often what greylisting need not know any more is forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Runs until a signal says to end.
///
/// # Errors
/// When the system refuses what the host needs.
pub fn serve(config: &Config) -> anyhow::Result<()> {
    raise_file_limit();
    let listeners = listeners(config)?;
    let certificates = certificates(config)?;
    drop_rights(config)?;
    // Before there are threads, which would keep their rights.
    confine(config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let served = serve_at(&runtime, config, listeners, certificates);
    // What still blocks is nobody's promise.
    runtime.shutdown_timeout(Duration::from_secs(5));
    served
}

/// A host that is open for mail; within a runtime.
fn open(config: &Config, dns: &Dns) -> anyhow::Result<Postern> {
    let data = &config.data;
    for folder in [data.clone(), data.join("mail"), data.join("models")] {
        Folder::open(&folder).with_context(|| format!("cannot use {}", folder.display()))?;
    }
    let accounts = Accounts::of_host(data)?;
    trainer::daemon::open_database(&config.trainer)?;
    let models = Box::new(HostModels::new(config.trainer.databases.clone()));
    let settings = config.pipeline.clone();
    let way_out = Outbound::new(config.remote.clone(), dns)
        .map_err(anyhow::Error::msg)
        .context("there is no way out")?;
    let way_out: Option<Box<dyn WayOut>> = Some(Box::new(way_out));
    let verifier = verifier(config, dns);
    Postern::open(
        data,
        Arc::new(accounts),
        models,
        way_out,
        verifier,
        settings,
    )
    .with_context(|| format!("cannot open the queue in {}", data.display()))
}

/// Who looks at mail from outside.
pub(super) fn verifier(config: &Config, dns: &Dns) -> Option<Verifier> {
    let checks = config.pipeline.authentication.as_ref()?;
    Some(Verifier::new(dns, &config.pipeline.host, checks.patience))
}

fn serve_at(
    runtime: &Runtime,
    config: &Config,
    listeners: Vec<(Listener, Kind)>,
    certificates: Option<Arc<Certificates>>,
) -> anyhow::Result<()> {
    runtime.block_on(async {
        let dns = Dns::new(config.remote.dns.as_deref()).map_err(anyhow::Error::msg)?;
        let host = open(config, &dns)?;
        let mechanisms = host.mechanisms()?;
        publish_accounts(config);
        let mut signals = Signals::new()?;
        let (stop, stopping) = watch::channel(false);
        let (alive, mut ended) = mpsc::channel(1);
        let queue_stop = Arc::new(Notify::new());
        let queue = {
            let (host, stop) = (host.clone(), Arc::clone(&queue_stop));
            tokio::spawn(async move { host.run_queue(stop).await })
        };
        let learning = {
            let watched = trainer::daemon::watch(Arc::clone(&config.trainer), stopping.clone());
            tokio::spawn(async move {
                if let Err(error) = watched.await {
                    error!("moved mail teaches nothing: {error:#}");
                }
            })
        };
        let greylist = config.data.join("greylist.db");
        let settings = config.gate.clone();
        let gate = Gate::open(&config.pipeline.host, settings, &dns, &greylist)?;
        let gate = Arc::new(gate);
        tokio::spawn(tidy(Arc::clone(&gate)));
        let shared = Arc::new(Shared {
            gate: Arc::clone(&gate),
            around: Surroundings {
                host: Arc::new(host),
                spool: config.data.join("spool").into(),
                certificates: certificates.clone(),
                stopping,
            },
            relay_networks: config.relay_networks.clone(),
            clients: Clients::new(
                config.listening.max_sessions,
                config.listening.max_sessions_per_client,
            ),
        });
        for (listener, kind) in listeners {
            let manner = kind.manner(config, &mechanisms);
            let (shared, alive) = (Arc::clone(&shared), alive.clone());
            tokio::spawn(listener::accept(listener, manner, shared, alive));
        }
        drop((alive, shared));
        notify(NotifyState::Ready);
        info!("ready");
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let all = tokio::select! {
                told = signals.next() => match told {
                    Told::ReadAgain => true,
                    Told::End => break,
                },
                _ = look.tick() => false,
            };
            if all {
                match gate.read_again() {
                    Ok(()) => info!("the gate's rules are read again"),
                    Err(error) => error!(%error, "the gate stays as it was"),
                }
            }
            if let Some(certificates) = certificates.clone() {
                let looked = tokio::task::spawn_blocking(move || certificates.look_again(all));
                let _ = looked.await;
            }
        }
        info!("ending");
        notify(NotifyState::Stopping);
        stop.send_replace(true);
        // Closed when the last session has ended.
        let _ = ended.recv().await;
        queue_stop.notify_one();
        for task in [queue, learning] {
            if let Err(error) = task.await {
                error!(%error, "a part of the host has failed");
            }
        }
        if let Some(path) = &config.listening.local {
            let _ = std::fs::remove_file(path);
        }
        info!("ended");
        Ok(())
    })
}

/// Who comes by a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Other hosts.
    Smtp,
    /// Users of ours, with STARTTLS.
    Submission,
    /// Users of ours, within TLS.
    Submissions,
    /// A mail server of ours, over the network or not.
    Lmtp { tcp: bool },
    /// Programs of this machine.
    Local,
}

impl Kind {
    pub(super) fn manner(self, config: &Config, mechanisms: &[Mechanism]) -> Manner {
        let has_certificate = config.tls.is_there();
        let (starttls, mechanisms) = match self {
            Self::Submission | Self::Submissions => (true, mechanisms.to_vec()),
            Self::Smtp | Self::Lmtp { tcp: true } => (has_certificate, Vec::new()),
            Self::Local | Self::Lmtp { tcp: false } => (false, Vec::new()),
        };
        Manner {
            settings: Arc::new(Settings {
                host: config.pipeline.host.as_str().into(),
                lmtp: matches!(self, Self::Lmtp { .. }),
                local: matches!(self, Self::Local),
                starttls,
                mechanisms,
                limits: config.limits.clone(),
            }),
            implicit_tls: matches!(self, Self::Submissions),
        }
    }
}

fn listeners(config: &Config) -> anyhow::Result<Vec<(Listener, Kind)>> {
    let listening = &config.listening;
    config.must_have_certificate().map_err(anyhow::Error::msg)?;
    let mut all = Vec::new();
    for (addresses, name, kind) in [
        (&listening.smtp, "SMTP", Kind::Smtp),
        (&listening.submission, "submission", Kind::Submission),
        (&listening.submissions, "submissions", Kind::Submissions),
    ] {
        for address in addresses {
            all.push((tcp(*address, name)?, kind));
        }
    }
    for endpoint in &listening.lmtp {
        all.push(match endpoint {
            Endpoint::Tcp(address) => (tcp(*address, "LMTP")?, Kind::Lmtp { tcp: true }),
            Endpoint::Unix(path) => (unix(path, 0o660, "LMTP")?, Kind::Lmtp { tcp: false }),
        });
    }
    if let Some(path) = &listening.local {
        all.push((unix(path, 0o666, "local")?, Kind::Local));
    }
    ensure!(
        !all.is_empty(),
        "nothing to listen at: see [listen] in the configuration"
    );
    Ok(all)
}

fn tcp(address: std::net::SocketAddr, protocol: &str) -> anyhow::Result<Listener> {
    let cannot = || format!("cannot listen at {address}");
    let listener = listener::tcp(address).with_context(cannot)?;
    let address = listener.local_addr().with_context(cannot)?;
    info!(%address, protocol, "listening");
    Ok(Listener::Tcp(listener))
}

fn unix(path: &Path, mode: u32, protocol: &str) -> anyhow::Result<Listener> {
    let listener = listener::unix(path, mode)
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    info!(path = %path.display(), protocol, "listening");
    Ok(Listener::Unix(listener))
}

fn certificates(config: &Config) -> anyhow::Result<Option<Arc<Certificates>>> {
    if !config.tls.is_there() {
        warn!("there is no certificate, so mail comes in clear");
        return Ok(None);
    }
    Ok(Some(Arc::new(Certificates::read(&config.tls.pairs)?)))
}

/// What cannot be published stops no mail.
fn publish_accounts(config: &Config) {
    let accounts = Accounts::of_host(&config.data);
    match accounts.and_then(|accounts| publish::publish(config, &accounts)) {
        Err(error) => error!(%error, "the accounts are not published"),
        Ok(published) => {
            for path in published.changed {
                info!(path = %path.display(), "accounts published");
            }
            for problem in published.problems {
                warn!(problem, "not published");
            }
        }
    }
}

/// Programs of users would run as root, and a fault of ours would be root's.
fn drop_rights(config: &Config) -> anyhow::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let Some(name) = &config.user else {
        anyhow::bail!(
            "will not serve as root: name a user in the configuration, user = \"postern\""
        );
    };
    become_user(name)
}

/// Keeps the rights of that user only, for all threads and for good.
fn become_user(name: &str) -> anyhow::Result<()> {
    let user = User::from_name(name)?.with_context(|| format!("there is no user {name}"))?;
    become_owner(user.uid, user.gid).with_context(|| format!("cannot become {name}"))
}

/// Keeps the rights of that user and group only.
///
/// # Errors
/// When we may not.
pub fn become_owner(uid: Uid, gid: Gid) -> io::Result<()> {
    setgroups(&[gid])?;
    setgid(gid)?;
    setuid(uid)?;
    Ok(())
}

/// Gives up what the host does not need: to write anywhere else, and to listen
/// anywhere else.
fn confine(config: &Config) {
    match confinement::keep_writes_to(&writable(config)) {
        Ok(true) => info!("writes are kept to the host's folders"),
        Ok(false) => warn!("the host is not confined: this kernel lacks Landlock (5.19)"),
        Err(error) => warn!(%error, "the host is not confined"),
    }
}

/// What the host writes, and where programs of plugins and `.qmail` may expect
/// to write.
fn writable(config: &Config) -> Vec<PathBuf> {
    let sockets = config.listening.lmtp.iter().filter_map(|one| match one {
        Endpoint::Unix(path) => Some(path),
        Endpoint::Tcp(_) => None,
    });
    let sockets = sockets.chain(&config.listening.local);
    let publish = &config.publish;
    let files = [
        &publish.qmail_users,
        &publish.cmd5checkpw,
        &publish.dovecot,
        &publish.courier,
        &config.gate.plugins,
    ];
    let files = sockets.chain(files.into_iter().flatten());
    let mut folders: Vec<PathBuf> = files
        .filter_map(|path| path.parent())
        .map(Path::to_owned)
        .collect();
    folders.extend(publish.qmail_users.clone());
    folders.extend(publish.qmail_control.clone());
    folders.extend([config.data.clone(), std::env::temp_dir()]);
    folders.extend(["/tmp", "/var/tmp", "/dev", "/proc"].map(PathBuf::from));
    folders
}

/// Each client is a descriptor; the soft limit is often 1,024.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the number of open files stays limited");
    }
}

/// Keeps what greylisting remembers small.
async fn tidy(gate: Arc<Gate>) {
    let mut hours = tokio::time::interval(TIDY_EVERY);
    loop {
        hours.tick().await;
        let gate = Arc::clone(&gate);
        let tidied = tokio::task::spawn_blocking(move || gate.tidy()).await;
        if let Ok(Err(error)) = tidied {
            warn!(%error, "the greylist grows");
        }
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        warn!(%error, "cannot tell systemd");
    }
}

/// What a signal says.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    ReadAgain,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::ReadAgain,
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
        }
    }
}
