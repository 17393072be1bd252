//! What is known of each destination: how many connections there are, which of
//! them are free, and whether anybody is there at all.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::client::Connection;
use crate::smtp::Reply;

/// All destinations.
pub(super) struct Destinations {
    all: Mutex<HashMap<String, Arc<Destination>>>,
    connections: usize,
}

/// Where mail of a domain, or of a route, goes.
pub(super) struct Destination {
    permits: Arc<Semaphore>,
    /// Parcels that are sent or wait for a connection.
    in_line: AtomicUsize,
    freed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Open connections that nobody uses, with the time since when.
    idle: Vec<(Connection, Instant)>,
    /// Nobody answered; until when it is left alone.
    dead: Option<(Instant, Reply)>,
}

/// A place in the line of a destination.
pub(super) struct Place {
    destination: Arc<Destination>,
}

/// How long an unused connection stays open: for the next message of a burst,
/// no longer.
const IDLE: Duration = Duration::from_secs(5);
/// Above so many destinations those of which nothing is to be remembered go.
const MANY: usize = 1000;
/// For each connection one parcel more may wait.
const IN_LINE: usize = 2;
/// Whoever waits for room looks again after this, should nobody tell.
const LOOK: Duration = Duration::from_secs(5);

impl Destinations {
    pub(super) fn new(connections: usize) -> Self {
        Self {
            all: Mutex::default(),
            connections,
        }
    }

    pub(super) fn get(&self, key: &str) -> Arc<Destination> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > MANY {
            all.retain(|_, destination| Arc::strong_count(destination) > 1 || destination.counts());
        }
        let new = || {
            Arc::new(Destination {
                permits: Arc::new(Semaphore::new(self.connections)),
                in_line: AtomicUsize::new(0),
                freed: Notify::new(),
                state: Mutex::default(),
            })
        };
        Arc::clone(all.entry(key.to_owned()).or_insert_with(new))
    }

    /// A future that ends when there may be room; `None` when there is.
    pub(super) fn room(&self, key: &str) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let destination = self.get(key);
        if destination.in_line.load(Ordering::Relaxed) < IN_LINE * self.connections {
            return None;
        }
        Some(Box::pin(async move {
            let _ = timeout(LOOK, destination.freed.notified()).await;
        }))
    }
}

impl Destination {
    /// Takes a place in the line.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        self.in_line.fetch_add(1, Ordering::Relaxed);
        Place {
            destination: Arc::clone(self),
        }
    }

    /// Waits until one more connection is allowed.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Why nobody needs to try now.
    pub(super) fn is_dead(&self, now: Instant) -> Option<Reply> {
        let state = self.state();
        let dead = state.dead.as_ref().filter(|(until, _)| *until > now);
        dead.map(|(_, reply)| reply.clone())
    }

    /// Nobody answered.
    pub(super) fn died(&self, until: Instant, reply: &Reply) {
        self.state().dead = Some((until, reply.clone()));
    }

    /// Somebody answered.
    pub(super) fn lives(&self) {
        self.state().dead = None;
    }

    /// A connection that is open already.
    pub(super) fn reuse(&self) -> Option<Connection> {
        let fresh = |(connection, since): (Connection, Instant)| {
            (since.elapsed() < IDLE).then_some(connection)
        };
        self.state().idle.pop().and_then(fresh)
    }

    /// Leaves a connection to the next parcel, for a while.
    pub(super) fn leave(self: &Arc<Self>, connection: Connection) {
        self.state().idle.push((connection, Instant::now()));
        let destination = Arc::clone(self);
        tokio::spawn(async move {
            sleep(IDLE).await;
            let old = |(_, since): &mut (Connection, Instant)| since.elapsed() >= IDLE;
            let closing: Vec<_> = destination.state().idle.extract_if(.., old).collect();
            for (connection, _) in closing {
                connection.close().await;
            }
        });
    }

    /// Whether something is to be remembered of it.
    fn counts(&self) -> bool {
        let state = self.state();
        let is_dead = |(until, _): &(Instant, Reply)| *until > Instant::now();
        !state.idle.is_empty() || state.dead.as_ref().is_some_and(is_dead)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.destination.in_line.fetch_sub(1, Ordering::Relaxed);
        self.destination.freed.notify_one();
    }
}
