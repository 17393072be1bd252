//! What a thread does with one mailbox in one turn.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use mailbox::{FolderName, Layout, Mailbox, Mark};

use crate::Error;
use crate::config::{Config, Settings};
use crate::decision::Role;
use crate::pass::{Memory, waits};
use crate::pattern::Place;
use crate::rotation::Outcome;
use crate::turn::{self, MOST_READ, Subject};
use crate::watch::inotify::{self, Inotify, Of, Refused, Wd};
use crate::watch::schedule::Id;

/// What is remembered of a mailbox from one turn to the next.
#[derive(Debug)]
pub(super) struct Seat {
    /// Where it is.
    pub(super) place: Place,
    /// It has had no turn yet.
    pub(super) is_new: bool,
    watches: HashSet<Wd>,
    watching: Watching,
    memory: Memory,
    generation: u64,
    /// When everything was last looked for that may have been missed.
    rescanned: Option<Instant>,
    /// What the folders with a quota were like when they were last rotated.
    rotated: HashMap<FolderName, [Mark; 2]>,
}

/// How changes of a mailbox are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watching {
    /// Not yet.
    #[default]
    No,
    /// By hints.
    Hints,
    /// By looking again and again: hints do not come from there, or are not
    /// wanted.
    Polling,
    /// Likewise, since there are no more watches for all of it.
    Full,
}

/// What came of a turn.
#[derive(Debug)]
pub(super) enum Worked {
    /// The mailbox is no longer there.
    Gone,
    /// It was looked at.
    Looked {
        /// There is more to do at once.
        more: bool,
        /// How long until something is due.
        look_again: Option<Duration>,
        /// Messages that wait to be moved on.
        pending: usize,
        /// Messages that were learned.
        n_learned: u64,
        /// Messages that made room in their folders.
        n_rotated: u64,
    },
}

/// What a turn needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) id: Id,
    /// Its folders may be others than the last time.
    pub(super) folders: bool,
    /// Another one: other settings hold than the last time.
    pub(super) generation: u64,
    pub(super) config: &'a Config,
    pub(super) inotify: &'a Inotify,
    pub(super) now: SystemTime,
}

impl Seat {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            is_new: true,
            watches: HashSet::new(),
            watching: Watching::No,
            memory: Memory::default(),
            generation: 0,
            rescanned: None,
            rotated: HashMap::new(),
        }
    }

    /// Other settings may hold from now on.
    pub(super) fn forget(&mut self) {
        self.memory = Memory::default();
        self.rotated.clear();
        self.rescanned = None;
    }

    pub(super) fn watching(&self) -> Watching {
        self.watching
    }

    /// Works on the mailbox.
    ///
    /// # Errors
    /// When the mailbox as a whole cannot be worked with.
    pub(super) fn work(&mut self, given: Given<'_>) -> Result<Worked, Error> {
        let config = given.config;
        if self.generation != given.generation {
            self.generation = given.generation;
            self.forget();
        }
        let settings = config.settings(&self.place.user);
        let Some(mailbox) = self.place.open(settings.roles.layout())? else {
            self.unwatch(given.inotify);
            return Ok(Worked::Gone);
        };
        let rescans = self
            .rescanned
            .is_none_or(|at| at.elapsed() >= config.watching.rescan);
        let is_first = self.watching == Watching::No;
        if given.folders || rescans || is_first {
            self.watch(&mailbox, settings, given)?;
        }
        if is_first {
            // At the start everybody is watched before anybody is looked at.
            return Ok(Worked::Looked {
                more: true,
                look_again: None,
                pending: 0,
                n_learned: 0,
                n_rotated: 0,
            });
        }
        let user = self.place.user.clone();
        let subject = Subject::new(config, &user, mailbox);
        let turn = turn::take(config, &subject, &mut self.memory, MOST_READ, given.now)?;
        let mut n_rotated = 0;
        if rescans && !turn.pass.more {
            n_rotated = self.rotate(config, &subject, given.now)?;
            self.rescanned = Some(Instant::now());
        }
        let polls = matches!(self.watching, Watching::Polling | Watching::Full);
        let poll = polls.then_some(config.watching.poll);
        let due = self.memory.due();
        let due = due.map(|due| due.duration_since(given.now).unwrap_or_default());
        let roles = &subject.settings.roles;
        let may_wait = |name: &FolderName| waits(roles.role(name));
        Ok(Worked::Looked {
            more: turn.pass.more,
            look_again: due.into_iter().chain(poll).min(),
            pending: self.memory.n_waiting(may_wait),
            n_learned: turn.n_learned,
            n_rotated,
        })
    }

    /// Rotates what has changed since, or may be too old by now. Returns how
    /// many messages have gone.
    fn rotate(
        &mut self,
        config: &Config,
        subject: &Subject<'_>,
        now: SystemTime,
    ) -> Result<u64, Error> {
        let mut n = 0;
        for (name, quota) in &subject.settings.quotas {
            let Some(folder) = subject.mailbox.folder(name)? else {
                continue;
            };
            let marks = folder.marks()?;
            if quota.age.is_none() && self.rotated.get(name) == Some(&marks) {
                continue;
            }
            // What could not be deleted was logged.
            turn::rotate::rotate(config, subject, name, quota, now, |_, outcome| {
                n += u64::from(matches!(outcome, Outcome::Deleted));
            })?;
            // As it was before: what comes or goes meanwhile leads to another
            // rotation.
            self.rotated.insert(name.clone(), marks);
        }
        Ok(n)
    }

    /// Ends all watches.
    pub(super) fn unwatch(&mut self, inotify: &Inotify) {
        for wd in self.watches.drain() {
            inotify.unwatch(wd);
        }
        self.watching = Watching::No;
    }

    /// Watches what there is now, and no longer what there was. Comes before
    /// looking, so that nothing happens in between.
    fn watch(
        &mut self,
        mailbox: &Mailbox,
        settings: &Settings,
        given: Given<'_>,
    ) -> Result<(), Error> {
        let mut watches = Watches {
            given,
            names: HashSet::new(),
            is_full: false,
        };
        self.watching = match watches.add_all(mailbox, settings)? {
            false => Watching::Polling,
            true if watches.is_full => Watching::Full,
            true => Watching::Hints,
        };
        for wd in self.watches.difference(&watches.names) {
            given.inotify.unwatch(*wd);
        }
        self.watches = watches.names;
        Ok(())
    }
}

struct Watches<'a> {
    given: Given<'a>,
    names: HashSet<Wd>,
    is_full: bool,
}

impl Watches<'_> {
    /// Watches the halves of folders in which messages matter, and each folder
    /// in which others may appear. Tells whether hints can come from there.
    fn add_all(&mut self, mailbox: &Mailbox, settings: &Settings) -> Result<bool, Error> {
        let polls = self.given.config.watching.polls;
        for directory in mailbox.directories()? {
            let directory = directory?;
            let name = &directory.name;
            let is_inbox = *name == FolderName::inbox();
            if is_inbox && (polls || inotify::is_remote(directory.as_fd())) {
                return Ok(false);
            }
            let has_others = settings.roles.layout() == Layout::Nested || is_inbox;
            if has_others || !directory.holds_mail {
                self.add(directory.as_fd(), Of::Folders)?;
            }
            if !directory.holds_mail || settings.roles.role(name) == Role::Never {
                continue;
            }
            // What is wrong with a folder the pass will say.
            if let Ok(Some(folder)) = mailbox.folder(name) {
                for half in folder.halves() {
                    self.add(half, Of::Messages)?;
                }
            }
        }
        Ok(true)
    }

    fn add(&mut self, folder: BorrowedFd<'_>, of: Of) -> Result<(), Error> {
        let subject = inotify::Subject::Mailbox(self.given.id);
        match self.given.inotify.watch(folder, subject, of) {
            Ok(wd) => {
                self.names.insert(wd);
            }
            Err(Refused::Full) => self.is_full = true,
            Err(Refused::Io(error)) => return Err(Error::io("watch", "a folder")(error)),
        }
        Ok(())
    }
}
