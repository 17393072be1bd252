//! All mailboxes and whose turn it is.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::{debug, error, info, warn};

use super::job::{Given, Seat, Watching, Worked};
use crate::Error;
use crate::config::Config;
use crate::live::{Live, Noticed, Seen};
use crate::pattern::Place;
use crate::turn::seconds;
use crate::watch::MAX_USER_WATCHES;
use crate::watch::inotify::{Hint, Inotify, Subject, Wd};
use crate::watch::places::{self, Found};
use crate::watch::schedule::{Done, Id, Schedule, Turn};

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    config: Arc<Config>,
    inotify: Arc<Inotify>,
    hints: mpsc::UnboundedReceiver<Vec<Hint>>,
    schedule: Schedule,
    /// By number; a thread that works on one has it.
    seats: Vec<Option<Box<Seat>>>,
    numbers: HashMap<Place, Id>,
    places: Places,
    pool: ThreadPool,
    n_working: usize,
    ended: mpsc::UnboundedReceiver<Ended>,
    end: mpsc::UnboundedSender<Ended>,
    /// Those that have had no turn yet.
    n_new: usize,
    is_full: bool,
    /// How often the configuration was read again.
    generation: u64,
    start: Start,
    live: Arc<Live>,
}

/// How far it has come since the start.
#[derive(Debug)]
enum Start {
    /// Not all are watched yet.
    Watching(Instant),
    /// Not all have been looked at yet.
    Looking(Instant),
    Over,
}

/// Looking for mailboxes.
#[derive(Debug, Default)]
struct Places {
    watches: HashSet<Wd>,
    is_being_searched: bool,
    due: Option<Instant>,
}

/// A thread has done its work.
#[derive(Debug)]
enum Ended {
    Turn {
        id: Id,
        seat: Box<Seat>,
        worked: Result<Worked, Failure>,
        took: Duration,
    },
    Search {
        found: Found,
        took: Duration,
    },
}

#[derive(Debug)]
enum Failure {
    Error(Error),
    Panic(String),
}

/// A mailbox that could not be worked with is tried again after this.
const RETRY: Duration = Duration::from_secs(60);

/// After a lost hint everybody is looked at, not all at the same moment.
const AFTER_OVERFLOW: Duration = Duration::from_secs(5);

/// Folders appear one after another when a user is made.
const BEFORE_SEARCH: Duration = Duration::from_millis(100);

impl Keeper {
    pub(super) fn new(config: Arc<Config>, live: Arc<Live>) -> anyhow::Result<Self> {
        let inotify = Inotify::new(config.watching.max_watches)
            .context("cannot watch folders: fs.inotify.max_user_instances may be too low")?;
        let inotify = Arc::new(inotify);
        let n_threads = available_parallelism().map_or(1, usize::from);
        let pool = ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .thread_name(|n| format!("turn-{n}"))
            .build()
            .context("cannot start threads")?;
        let (end, ended) = mpsc::unbounded_channel();
        let now = Instant::now();
        Ok(Self {
            schedule: Schedule::new(config.watching.rescan),
            config,
            hints: listen(&inotify)?,
            inotify,
            seats: Vec::new(),
            numbers: HashMap::new(),
            places: Places {
                due: Some(now),
                ..Places::default()
            },
            pool,
            n_working: 0,
            ended,
            end,
            n_new: 0,
            is_full: false,
            generation: 0,
            start: Start::Watching(now),
            live,
        })
    }

    /// Takes in what has happened, and begins what is due.
    ///
    /// Can be dropped at any time; nothing is lost.
    pub(super) async fn step(&mut self) {
        let now = Instant::now();
        self.search(now);
        self.begin_turns(now);
        let wakes = self.wakes(now);
        tokio::select! {
            Some(hints) = self.hints.recv() => hints.into_iter().for_each(|hint| self.take(hint)),
            Some(ended) = self.ended.recv() => self.end(ended),
            () = sleep_until(wakes.unwrap_or(now).into()), if wakes.is_some() => {}
        }
    }

    /// Works by `config` from now on. Watches stay.
    pub(super) fn reload(&mut self, config: Arc<Config>) {
        info!("configuration read again");
        let now = Instant::now();
        self.schedule.set_rescan(config.watching.rescan);
        self.config = config;
        self.is_full = false;
        self.generation += 1;
        self.schedule.all(now, Duration::ZERO);
        self.search_at(now);
    }

    /// Waits for what has begun.
    pub(super) async fn drain(&mut self) {
        while self.n_working > 0 || self.places.is_being_searched {
            match self.ended.recv().await {
                Some(ended) => self.end(ended),
                None => return,
            }
        }
    }

    fn wakes(&self, now: Instant) -> Option<Instant> {
        let can_begin = self.n_working < self.pool.current_num_threads();
        let turn = self.schedule.wakes(now).filter(|_| can_begin);
        let search = self.places.due.filter(|_| !self.places.is_being_searched);
        turn.into_iter().chain(search).min()
    }

    fn take(&mut self, hint: Hint) {
        let now = Instant::now();
        match hint {
            Hint::Messages(Subject::Mailbox(id)) => self.schedule.changed(id, false, now),
            Hint::Folders(Subject::Mailbox(id)) => self.schedule.changed(id, true, now),
            Hint::Messages(Subject::Places) | Hint::Folders(Subject::Places) => {
                self.search_at(now + BEFORE_SEARCH);
            }
            Hint::Overflow => {
                warn!("more changes at once than the kernel keeps; looking at all mailboxes");
                self.schedule.all(now, AFTER_OVERFLOW);
                self.search_at(now + BEFORE_SEARCH);
            }
        }
    }

    fn search_at(&mut self, at: Instant) {
        self.places.due = Some(self.places.due.map_or(at, |due| due.min(at)));
    }

    fn search(&mut self, now: Instant) {
        if self.places.is_being_searched || self.places.due.is_none_or(|due| due > now) {
            return;
        }
        self.places.is_being_searched = true;
        self.places.due = None;
        let known = self.numbers.keys().cloned().collect();
        let (config, inotify) = (Arc::clone(&self.config), Arc::clone(&self.inotify));
        let end = self.end.clone();
        self.pool.spawn(move || {
            let found = places::find(&config, &known, &inotify);
            let took = now.elapsed();
            drop((config, inotify));
            // Nobody listens any more when the daemon ends.
            let _ = end.send(Ended::Search { found, took });
        });
    }

    fn begin_turns(&mut self, now: Instant) {
        while self.n_working < self.pool.current_num_threads() {
            let Some(turn) = self.schedule.next(now) else {
                return;
            };
            let Some(seat) = self.seats[turn.id].take() else {
                continue;
            };
            self.n_working += 1;
            self.begin(turn, seat);
        }
    }

    fn begin(&self, turn: Turn, mut seat: Box<Seat>) {
        let Turn { id, folders } = turn;
        let (config, inotify) = (Arc::clone(&self.config), Arc::clone(&self.inotify));
        let (end, generation) = (self.end.clone(), self.generation);
        self.pool.spawn(move || {
            let started = Instant::now();
            let given = Given {
                id,
                folders,
                generation,
                config: &config,
                inotify: &inotify,
                now: SystemTime::now(),
            };
            let worked = match catch_unwind(AssertUnwindSafe(|| seat.work(given))) {
                Ok(worked) => worked.map_err(Failure::Error),
                Err(panic) => Err(Failure::Panic(text(&*panic).to_owned())),
            };
            // Before the end is known: whoever drains waits for no thread, and
            // the database must not be closed by one while the process exits.
            drop((config, inotify));
            let _ = end.send(Ended::Turn {
                id,
                seat,
                worked,
                took: started.elapsed(),
            });
        });
    }

    fn end(&mut self, ended: Ended) {
        match ended {
            Ended::Turn {
                id,
                seat,
                worked,
                took,
            } => {
                self.n_working -= 1;
                self.end_turn(id, seat, worked, took);
            }
            Ended::Search { found, took } => self.end_search(found, took),
        }
        self.log_start();
    }

    fn end_turn(
        &mut self,
        id: Id,
        mut seat: Box<Seat>,
        worked: Result<Worked, Failure>,
        took: Duration,
    ) {
        let now = Instant::now();
        self.n_new -= usize::from(std::mem::take(&mut seat.is_new));
        let user = seat.place.user.as_str();
        let mut done = Done {
            took,
            ..Done::default()
        };
        match worked {
            Ok(Worked::Looked {
                more,
                look_again,
                pending,
                n_learned,
                n_rotated,
            }) => {
                debug!(user, ?took, more, "turn");
                done.more = more;
                done.look_again = look_again;
                self.note(&seat, pending, None);
                self.live.count(n_learned, n_rotated);
            }
            Ok(Worked::Gone) => {
                info!(user, place = %seat.place, "mailbox has gone");
                self.live.leave(user, &seat.place.to_string());
                self.numbers.remove(&seat.place);
                self.schedule.remove(id);
                self.search_at(now + BEFORE_SEARCH);
            }
            Err(failure) => {
                let reason = match failure {
                    Failure::Error(error) => {
                        error!(user, %error, "mailbox left alone");
                        error.to_string()
                    }
                    Failure::Panic(message) => {
                        error!(user, message, "turn panicked");
                        format!("a mistake in bmfd: {message}")
                    }
                };
                self.note(&seat, 0, Some(reason));
                done.look_again = Some(RETRY);
                // How far it came is not known.
                seat.forget();
            }
        }
        self.warn_if_full(seat.watching());
        if self.schedule.done(id, done, now) {
            self.seats[id] = Some(seat);
        } else {
            seat.unwatch(&self.inotify);
        }
    }

    fn end_search(&mut self, found: Found, took: Duration) {
        let now = Instant::now();
        self.places.is_being_searched = false;
        // A user can make and remove folders all the time.
        if let Some(due) = &mut self.places.due {
            *due = (*due).max(now + took * 5);
        }
        self.search_at(now + self.config.watching.rescan);
        for error in found.errors {
            error!(%error, "cannot look for mailboxes");
        }
        for wd in self.places.watches.difference(&found.watches) {
            self.inotify.unwatch(*wd);
        }
        self.places.watches = found.watches;
        if found.is_incomplete {
            self.warn_if_full(Watching::Full);
        }
        let there: HashSet<Place> = found.places.into_iter().collect();
        let gone = self.numbers.keys().filter(|place| !there.contains(*place));
        let gone: Vec<Place> = gone.cloned().collect();
        for place in gone {
            self.leave(&place);
        }
        for place in there {
            self.join(place);
        }
    }

    fn join(&mut self, place: Place) {
        if self.numbers.contains_key(&place) {
            return;
        }
        debug!(user = place.user, %place, "mailbox found");
        let id = self.schedule.add();
        if self.seats.len() <= id {
            self.seats.resize_with(id + 1, || None);
        }
        self.seats[id] = Some(Box::new(Seat::new(place.clone())));
        self.n_new += 1;
        self.numbers.insert(place, id);
    }

    fn leave(&mut self, place: &Place) {
        let Some(id) = self.numbers.remove(place) else {
            return;
        };
        info!(user = place.user, %place, "mailbox is no longer looked after");
        self.live.leave(&place.user, &place.to_string());
        self.schedule.remove(id);
        if let Some(mut seat) = self.seats[id].take() {
            self.n_new -= usize::from(seat.is_new);
            seat.unwatch(&self.inotify);
        }
    }

    /// For the status.
    fn note(&self, seat: &Seat, pending: usize, error: Option<String>) {
        let seen = Seen {
            place: seat.place.to_string(),
            noticed: match seat.watching() {
                Watching::Hints | Watching::No => Noticed::AtOnce,
                Watching::Polling => Noticed::ByPolling,
                Watching::Full => Noticed::ByPollingForWantOfWatches,
            },
            pending,
            looked: seconds(SystemTime::now()),
            error,
        };
        self.live.note(&seat.place.user, seen);
    }

    fn warn_if_full(&mut self, watching: Watching) {
        if watching != Watching::Full || self.is_full {
            return;
        }
        self.is_full = true;
        let limit = fs::read_to_string(MAX_USER_WATCHES).unwrap_or_default();
        warn!(
            watched = self.inotify.len(),
            limit = limit.trim(),
            poll = ?self.config.watching.poll,
            "no more watches; the other mailboxes are polled. Raise fs.inotify.max_user_watches"
        );
    }

    /// Says once when all are watched, and when all have been looked at.
    fn log_start(&mut self) {
        let mailboxes = self.schedule.len();
        match self.start {
            Start::Watching(since) if self.n_new == 0 && !self.places.is_being_searched => {
                let (folders, took) = (self.inotify.len(), since.elapsed());
                info!(mailboxes, folders, ?took, "watching");
                self.start = Start::Looking(since);
            }
            Start::Looking(since) if self.n_working == 0 && !self.schedule.is_waiting() => {
                info!(mailboxes, took = ?since.elapsed(), "all mailboxes looked at");
                self.start = Start::Over;
            }
            _ => {}
        }
    }
}

/// Takes hints off the kernel's queue as fast as they come, so that it does
/// not overflow whatever else the daemon is doing.
fn listen(inotify: &Arc<Inotify>) -> anyhow::Result<mpsc::UnboundedReceiver<Vec<Hint>>> {
    let (send, hints) = mpsc::unbounded_channel();
    let inotify = Arc::clone(inotify);
    let take_off = move || loop {
        match inotify.wait() {
            Ok(hints) => {
                if send.send(hints).is_err() {
                    return;
                }
            }
            Err(error) => return error!(%error, "cannot read hints; all is left to rescans"),
        }
    };
    thread::Builder::new()
        .name("hints".to_owned())
        .spawn(take_off)
        .context("cannot start a thread")?;
    Ok(hints)
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<&str>().copied();
    message
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
