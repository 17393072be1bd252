//! What is known of a queued message, and what can happen to it.

use crate::smtp::{Body, Mailbox, Notify, Return, ReversePath};

/// What is known of a queued message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Seconds since 1970.
    pub arrived: u64,
    /// Who gets reports.
    pub reverse_path: ReversePath,
    /// Who sent it, for people.
    pub client: String,
    /// What its lines hold.
    pub body: Body,
    /// Whether addresses and header fields may be UTF-8.
    pub smtputf8: bool,
    /// How much of it a report gives back.
    pub ret: Option<Return>,
    /// What the sender calls the transaction.
    pub envid: Option<String>,
    /// Whether it tells the postmaster of a report that could not be delivered:
    /// should it fail too, it ends there.
    pub is_double_bounce: bool,
    /// Where it goes: the places, not the aliases that led there.
    pub recipients: Vec<Recipient>,
    /// Whether our users get it where spam goes.
    pub to_junk: bool,
    /// Whether the sender was told that it takes long.
    pub is_warned: bool,
    /// Whether nothing is tried.
    pub is_held: bool,
}

/// One place where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address.
    pub address: Mailbox,
    /// When reports are wanted.
    pub notify: Option<Notify>,
    /// The recipient that the sender named.
    pub orcpt: Option<String>,
    /// What became of it.
    pub state: State,
}

/// What became of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet, or only failures that may pass.
    Open {
        /// How often it was tried.
        attempts: u32,
        /// When it is tried again.
        next_attempt: u64,
        /// What came of the last attempt; empty before the first.
        text: String,
    },
    /// It was delivered.
    Done(String),
    /// It failed for good.
    Failed {
        /// Why.
        text: String,
        /// Whether the sender was told.
        is_reported: bool,
    },
}

/// One line below the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Seconds since 1970.
    pub at: u64,
    /// What happened.
    pub event: Event,
}

/// What can happen to a queued message; recipients are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Delivered.
    Done(usize, String),
    /// Failed for now; to be tried again at that second.
    Deferred(usize, u64, String),
    /// Failed for good.
    Failed(usize, String),
    /// The sender was told of all failures so far.
    Reported,
    /// The sender was told that it takes long.
    Warned,
    /// Not to be tried.
    Hold,
    /// To be tried again.
    Release,
    /// To be tried now.
    Retry,
}

impl Entry {
    /// Takes note of what happened. What concerns a recipient that is not
    /// there, or is done with, changes nothing.
    pub fn apply(&mut self, record: &Record) {
        match &record.event {
            Event::Done(n, text) => self.close(*n, State::Done(text.clone())),
            Event::Failed(n, text) => self.close(
                *n,
                State::Failed {
                    text: text.clone(),
                    is_reported: false,
                },
            ),
            Event::Deferred(n, next, new_text) => {
                if let Some(State::Open {
                    attempts,
                    next_attempt,
                    text,
                }) = self
                    .recipients
                    .get_mut(*n)
                    .map(|recipient| &mut recipient.state)
                {
                    *attempts += 1;
                    *next_attempt = *next;
                    text.clone_from(new_text);
                }
            }
            Event::Reported => {
                for recipient in &mut self.recipients {
                    if let State::Failed { is_reported, .. } = &mut recipient.state {
                        *is_reported = true;
                    }
                }
            }
            Event::Warned => self.is_warned = true,
            Event::Hold => self.is_held = true,
            Event::Release => self.is_held = false,
            Event::Retry => {
                for recipient in &mut self.recipients {
                    if let State::Open { next_attempt, .. } = &mut recipient.state {
                        *next_attempt = record.at.min(*next_attempt);
                    }
                }
            }
        }
    }

    fn close(&mut self, n: usize, state: State) {
        if let Some(recipient) = self.recipients.get_mut(n)
            && matches!(recipient.state, State::Open { .. })
        {
            recipient.state = state;
        }
    }

    /// When something is to be done: an attempt, or a report. `None` when it
    /// is held.
    pub fn next_attempt(&self) -> Option<u64> {
        let due = |recipient: &Recipient| match recipient.state {
            State::Open { next_attempt, .. } => Some(next_attempt),
            State::Failed { is_reported, .. } => (!is_reported).then_some(0),
            State::Done(_) => None,
        };
        let first = self.recipients.iter().filter_map(due).min();
        (!self.is_held).then_some(first.unwrap_or(0))
    }

    /// Whether nothing is left to be done.
    pub fn is_finished(&self) -> bool {
        self.recipients.iter().all(|recipient| {
            matches!(
                recipient.state,
                State::Done(_)
                    | State::Failed {
                        is_reported: true,
                        ..
                    }
            )
        })
    }
}

impl State {
    /// To be tried at once.
    pub fn new(arrived: u64) -> Self {
        Self::Open {
            attempts: 0,
            next_attempt: arrived,
            text: String::new(),
        }
    }
}
