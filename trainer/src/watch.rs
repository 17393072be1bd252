//! Noticing that something has changed in a mailbox.
//!
//! A change is only a hint: it leads to a pass, which looks for itself, safely
//! and at everything that may have changed. So a lost hint costs time and no
//! lesson, and each mailbox is looked at now and then without any.
//!
//! [`inotify`] gives the hints, [`schedule`] says whose turn it is, and
//! [`places`] finds the mailboxes and where new ones will appear.
//!
//! Not by the crate `notify`, version 8.2: it always asks for `IN_OPEN`, so
//! that each message that a pass reads is an event, and a folder of 20,000
//! overflows the queue by being read; it removes a watch in a time that grows
//! with the number of all watches; and it watches paths, which users can swap
//! for links, where we have descriptors.

pub(crate) mod inotify;
pub(crate) mod places;
pub(crate) mod schedule;

/// Where Linux says how many folders one user may watch.
pub(crate) const MAX_USER_WATCHES: &str = "/proc/sys/fs/inotify/max_user_watches";
