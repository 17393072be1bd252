//! What senders are told of their mail: RFC 3464.

use std::io;

use tracing::warn;

use super::attempt::Work;
use super::{Inner, seconds};
use crate::queue::dsn::{self, About, Reporter};
use crate::queue::{Entry, Event, Recipient, Record, State};
use crate::smtp::{ForwardPath, ReversePath};

impl Inner {
    pub(super) fn tell(&self, work: &mut Work) -> io::Result<()> {
        let now = seconds(work.now);
        let entry = &work.taken.entry;
        let is_failed = |recipient: &Recipient| {
            matches!(
                recipient.state,
                State::Failed {
                    is_reported: false,
                    ..
                }
            )
        };
        if entry.recipients.iter().any(is_failed) {
            if !dsn::concerned(About::Failure, entry).is_empty() {
                self.report(work, About::Failure)?;
            }
            work.taken.note(&[Record {
                at: now,
                event: Event::Reported,
            }])?;
        }
        let entry = &work.taken.entry;
        let is_late = self.settings.schedule.is_late(entry.arrived, now) && !entry.is_warned;
        if is_late && !dsn::concerned(About::Delay, entry).is_empty() {
            if entry.reverse_path != ReversePath::Null {
                self.report(work, About::Delay)?;
            }
            work.taken.note(&[Record {
                at: now,
                event: Event::Warned,
            }])?;
        }
        Ok(())
    }

    /// Queues a report. Of mail without a sender the postmaster is told, once.
    pub(super) fn report(&self, work: &Work, about: About) -> io::Result<()> {
        let entry = &work.taken.entry;
        let to = match entry.reverse_path.mailbox() {
            Some(mailbox) => mailbox.clone(),
            None if about != About::Failure || entry.is_double_bounce => {
                warn!(
                    queue_id = work.taken.id,
                    "a report of a report failed: given up"
                );
                return Ok(());
            }
            None => match self.mailbox(&ForwardPath::Postmaster) {
                Ok(postmaster) => postmaster,
                Err(refusal) => {
                    warn!(
                        queue_id = work.taken.id,
                        reason = refusal.reason,
                        "nobody to tell of a failure"
                    );
                    return Ok(());
                }
            },
        };
        let recipients = dsn::concerned(about, entry);
        let by = Reporter {
            host: &self.settings.host,
            id: &work.taken.id,
            now: work.now,
        };
        let original = work.taken.start(dsn::MAX_READ)?;
        let text = dsn::report(about, entry, &recipients, &original, by);
        let child = self.child(work, &[to]);
        let child = child.map_err(|refusal| io::Error::other(refusal.reason))?;
        let leaves = |to: &Recipient| self.is_remote(&to.address).unwrap_or(true);
        let fields = match child.recipients.iter().any(leaves) {
            true => self.signatures(by.id, work.now, &text),
            false => String::new(),
        };
        let report = Entry {
            reverse_path: ReversePath::Null,
            client: format!("report of {}", work.taken.id),
            is_double_bounce: entry.reverse_path == ReversePath::Null,
            to_junk: false,
            ..child
        };
        self.beget(work, "report", &report, &[fields.as_bytes(), &text])
    }
}
