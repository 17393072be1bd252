//! `bmfd serve`: watches all mailboxes and gives each its turns, until it is
//! told to end.
//!
//! `keeper` holds everything that changes and belongs to one task. What
//! reads or writes a disk is done by the threads of a pool, one mailbox by one
//! thread at a time.
//!
//! SIGHUP reads the configuration again, but for the database and where it
//! listens; watches stay, so that no change is missed. SIGTERM and SIGINT begin no new turn and end when the present ones
//! have; what they leave the next start finds, as it would after a kill.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::Error;
use crate::config::Config;
use crate::listeners;
use crate::live::Live;

mod job;
mod keeper;

use keeper::Keeper;

/// What a listener is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration, and each new one.
    pub config: watch::Receiver<Arc<Config>>,
    /// What is seen of each mailbox.
    pub live: Arc<Live>,
    /// Turns to true when no new work may begin.
    pub stopping: watch::Receiver<bool>,
}

/// The tasks that run beside the watching: each ends soon after
/// [`Context::stopping`] has turned to true. An error ends the daemon.
fn listeners(context: &Context) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    listeners::start(&context.config, &context.live, &context.stopping)
}

/// `bmfd status` of all users of a large host takes seconds. systemd waits for
/// 90.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Opens the database for a daemon. It does not fail because a `bmfd status`
/// that found nobody to ask has it open at this moment: that ends soon. What
/// another daemon has it does not wait for.
///
/// # Errors
/// When it cannot be opened.
pub fn open_database(config: &Config) -> Result<(), Error> {
    open_unless(config, || {
        UnixStream::connect(&config.listening.socket).is_ok()
    })
}

/// Opens the database, and waits a while for somebody who has it open, unless
/// `is_served`: by a daemon that can be asked.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_unless(
    config: &Config,
    mut is_served: impl FnMut() -> bool,
) -> Result<(), Error> {
    let begun = Instant::now();
    let mut is_said = false;
    loop {
        let mut opened = config.databases.host().map(drop);
        let Err(Error::Database(classifier::Error::Locked { waited, owner, .. })) = &mut opened
        else {
            return opened;
        };
        *waited = begun.elapsed();
        if *waited >= LONGEST_WAIT || is_served() {
            return opened;
        }
        if !is_said {
            info!(holder = owner.as_deref(), "waiting for the database");
            is_said = true;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs until a signal says to end. `path` is read again on SIGHUP.
///
/// # Errors
/// When the system refuses what the daemon as a whole needs.
pub fn serve(path: &Path, config: Config) -> anyhow::Result<()> {
    open_database(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(run(path, config))
}

async fn run(path: &Path, config: Config) -> anyhow::Result<()> {
    let on = |kind| signal(kind).context("cannot wait for signals");
    let mut hangup = on(SignalKind::hangup())?;
    let mut end = [on(SignalKind::terminate())?, on(SignalKind::interrupt())?];
    let config = Arc::new(config);
    let (new_config, configs) = watch::channel(Arc::clone(&config));
    let (stop, stopping) = watch::channel(false);
    let live = Arc::new(Live::default());
    let mut listeners = listeners(&Context {
        config: configs,
        live: Arc::clone(&live),
        stopping,
    })?;
    let mut keeper = Keeper::new(config, live)?;
    loop {
        tokio::select! {
            () = either(&mut end) => break,
            Some(ended) = listeners.join_next() => ended.context("a listener ended")??,
            _ = hangup.recv() => match Config::read(path) {
                Ok(mut config) => {
                    for table in config.wait_for_restart(&new_config.borrow()) {
                        warn!(table, "what is new here needs a restart, and stays as it was");
                    }
                    let config = Arc::new(config);
                    new_config.send_replace(Arc::clone(&config));
                    keeper.reload(config);
                }
                Err(error) => error!(%error, "configuration stays as it was"),
            },
            () = keeper.step() => {}
        }
    }
    info!("ending");
    stop.send_replace(true);
    keeper.drain().await;
    while let Some(ended) = listeners.join_next().await {
        ended.context("a listener ended")??;
    }
    info!("ended");
    Ok(())
}

/// Watches, learns, rotates and answers at its socket inside another program,
/// until `stopping` turns to true: without signals of its own.
///
/// # Errors
/// When the system refuses what all mailboxes need, or the socket.
pub async fn watch(config: Arc<Config>, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
    let live = Arc::new(Live::default());
    let mut listeners = listeners::start_inside(&config, &live, &stopping)?;
    let mut keeper = Keeper::new(config, live)?;
    loop {
        tokio::select! {
            // An error means that nobody is left to stop us.
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(ended) = listeners.join_next() => ended.context("a listener ended")??,
            () = keeper.step() => {}
        }
    }
    keeper.drain().await;
    while let Some(ended) = listeners.join_next().await {
        ended.context("a listener ended")??;
    }
    Ok(())
}

async fn either([one, other]: &mut [Signal; 2]) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
