//! What the daemon listens at, as its configuration says.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::Config;
use crate::live::Live;
use crate::service::Service;
use crate::socket::{self, Desk};
use crate::{spamd, spool};

/// Begins to listen. Each task ends soon after `stopping` turns to true; an
/// error ends the daemon. A socket that is configured anew needs a restart.
///
/// # Errors
/// When the database or a socket cannot be opened.
pub(crate) fn start(
    configs: &watch::Receiver<Arc<Config>>,
    live: &Arc<Live>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let desk = desk(configs, live)?;
    let config = configs.borrow();
    let listening = &config.listening;
    let mut tasks = JoinSet::new();
    serve_socket(&listening.socket, &desk, stopping, &mut tasks)?;
    if let Some(path) = &listening.spamd_socket {
        let (listener, path) = Socket::open(path)?;
        let (d, s) = (Arc::clone(&desk), stopping.clone());
        tasks.spawn(async move {
            let _path = path;
            Ok(spamd::serve::unix(listener, d, s).await?)
        });
    }
    if let Some(address) = listening.spamd {
        let (listener, may_tell) = (tcp(address)?, listening.tell_over_tcp);
        let (d, s) = (Arc::clone(&desk), stopping.clone());
        tasks.spawn(async move { Ok(spamd::serve::tcp(listener, may_tell, d, s).await?) });
    }
    if let Some(address) = listening.metrics {
        let listener = tcp(address)?;
        let (d, s) = (Arc::clone(&desk), stopping.clone());
        tasks.spawn(async move { Ok(socket::serve_metrics(listener, d, s).await?) });
    }
    let rescan = config.watching.rescan;
    tasks.spawn(take_up_spools(Arc::clone(&desk), rescan, stopping.clone()));
    tasks.spawn(tell_system(desk, stopping.clone()));
    Ok(tasks)
}

/// As [`start`], inside another program: only the socket for `bmf` and for
/// administrators.
pub(crate) fn start_inside(
    config: &Arc<Config>,
    live: &Arc<Live>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut tasks = JoinSet::new();
    let (_, configs) = watch::channel(Arc::clone(config));
    let desk = desk(&configs, live)?;
    serve_socket(&config.listening.socket, &desk, stopping, &mut tasks)?;
    Ok(tasks)
}

/// What all listeners share.
fn desk(configs: &watch::Receiver<Arc<Config>>, live: &Arc<Live>) -> anyhow::Result<Arc<Desk>> {
    let service = Service::new(configs.clone(), Arc::clone(live))?;
    let limits = configs.borrow().listening.limits;
    Ok(Arc::new(Desk::new(Arc::new(service), limits)))
}

fn serve_socket(
    path: &Path,
    desk: &Arc<Desk>,
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (listener, path) = Socket::open(path)?;
    let (desk, stopping) = (Arc::clone(desk), stopping.clone());
    tasks.spawn(async move {
        let _path = path;
        Ok(socket::serve(listener, desk, stopping).await?)
    });
    Ok(())
}

/// A socket's name, which goes when the daemon ends.
struct Socket(PathBuf);

impl Socket {
    fn open(path: &Path) -> anyhow::Result<(UnixListener, Self)> {
        let cannot = || format!("cannot listen at {}", path.display());
        if let Some(folder) = path.parent() {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o755).create(folder);
            made.with_context(cannot)?;
        }
        let listener = socket::bind(path).with_context(cannot)?;
        info!(path = %path.display(), "listening");
        Ok((listener, Self(path.into())))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn tcp(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || -> io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = listen().with_context(|| format!("cannot listen at {address}"))?;
    info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Takes up what waits for the daemon, now and every so often.
async fn take_up_spools(
    desk: Arc<Desk>,
    pause: Duration,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        let service = Arc::clone(&desk.service);
        tokio::task::spawn_blocking(move || spool::take_up(&service, socket::now())).await?;
        tokio::select! {
            () = socket::stopped(&mut stopping) => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Tells systemd that the daemon is ready, and then, as often as it wants,
/// that it is alive: that a thread which may read the database has done so.
async fn tell_system(desk: Arc<Desk>, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
    notify(NotifyState::Ready);
    let mut microseconds = 0;
    let is_watched = sd_notify::watchdog_enabled(false, &mut microseconds);
    let pause = match is_watched {
        true => Duration::from_micros(microseconds / 3),
        false => Duration::MAX,
    };
    loop {
        tokio::select! {
            () = socket::stopped(&mut stopping) => break,
            () = tokio::time::sleep(pause) => {}
        }
        match desk.work(|service| service.host().engines("")).await? {
            Ok(_) => notify(NotifyState::Watchdog),
            Err(error) => warn!(%error, "database cannot be read"),
        }
    }
    notify(NotifyState::Stopping);
    Ok(())
}

fn notify(state: NotifyState<'_>) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(false, &[state]) {
        warn!(%error, "systemd not told");
    }
}
