//! How a message is read: by DATA or by BDAT, and how its end is answered.

use super::super::content::{Content, Defect};
use super::super::envelope::Envelope;
use super::super::limits::Limits;
use super::super::reply::Reply;
use super::{Chunk, Session, State, Step};
use crate::handover::Answer;

impl Session {
    pub(super) fn read_data(&mut self) -> Step {
        let State::Data(_, content) = &mut self.state else {
            return Step::Wait;
        };
        if self.input.is_empty() {
            return self.flushed_or(Step::Wait);
        }
        self.decoded.clear();
        let limits = &self.settings.limits;
        let (n, ended) = content.read(&self.input, limits, &mut self.decoded);
        self.input.drain(..n);
        // A CR at the end of a piece is none yet.
        let store = !self.decoded.is_empty() && content.defect().is_none();
        if ended && let State::Data(envelope, content) = self.take_state() {
            self.end_of_data(envelope, &content);
        }
        if store { Step::Store } else { Step::Again }
    }

    pub(super) fn read_chunk(&mut self) -> Step {
        let State::Chunk(chunk, remaining) = &mut self.state else {
            return Step::Wait;
        };
        let n = self
            .input
            .len()
            .min(usize::try_from(*remaining).unwrap_or(usize::MAX));
        *remaining -= n as u64;
        let ended = *remaining == 0;
        let mut store = false;
        self.decoded.clear();
        if let Chunk::Wanted { content, .. } = chunk {
            let limits = &self.settings.limits;
            content.read(&self.input[..n], limits, &mut self.decoded);
            store = !self.decoded.is_empty() && content.defect().is_none();
        }
        self.input.drain(..n);
        if ended && let State::Chunk(chunk, _) = self.take_state() {
            self.end_of_chunk(chunk);
        } else if n == 0 {
            return self.flushed_or(Step::Wait);
        }
        if store { Step::Store } else { Step::Again }
    }

    fn end_of_chunk(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Refused(reply) => {
                self.message_began = None;
                self.state = self.between_transactions();
                self.error(&reply);
            }
            Chunk::Wanted {
                envelope,
                content,
                last: true,
            } => self.end_of_data(envelope, &content),
            // RFC 3030 §2: each chunk is answered, and a refused one ends the
            // transaction. Of LMTP's replies only the last chunk gets one for
            // each recipient (RFC 2033 §4.3).
            Chunk::Wanted {
                envelope, content, ..
            } => {
                if let Some(defect) = content.defect() {
                    self.message_began = None;
                    self.refuse(1, defect);
                } else {
                    self.reply(&Reply::new(250, (2, 0, 0), "go on"));
                    self.state = State::BetweenChunks(envelope, content);
                }
            }
        }
    }

    fn end_of_data(&mut self, envelope: Box<Envelope>, content: &Content) {
        let n = envelope.recipients.len();
        self.message_began = None;
        match content.verdict() {
            Some(defect) => self.refuse(n, defect),
            None => self.state = State::Committing(Some(envelope), n),
        }
    }

    /// The message of `n` recipients is not taken.
    pub(super) fn refuse(&mut self, n: usize, defect: Defect) {
        self.discard = true;
        self.state = State::Ready;
        // RFC 2033 §4.2: a reply for each recipient, also when all are alike.
        let n_replies = if self.settings.lmtp { n } else { 1 };
        let reply = defect.reply(&self.settings.limits);
        for _ in 0..n_replies {
            self.reply(&reply);
        }
        self.count_error();
    }

    pub(super) fn committed(&mut self, n: usize, answer: Answer) {
        self.state = State::Ready;
        let replies = match answer {
            Answer::Each(replies) if self.settings.lmtp && replies.len() == n => replies,
            Answer::All(reply) if self.settings.lmtp => vec![reply; n],
            Answer::All(reply) => vec![reply],
            Answer::Each(replies) if self.settings.lmtp => {
                vec![only_reply(&replies); n]
            }
            Answer::Each(replies) => vec![only_reply(&replies)],
        };
        for reply in &replies {
            self.reply(reply);
        }
        if replies.iter().any(|reply| reply.code.is_positive()) {
            (self.errors, self.idle_commands) = (0, 0);
        } else {
            self.count_error();
        }
    }

    /// Whether the driver may hold a part of a message.
    pub(super) fn has_content(&self) -> bool {
        matches!(
            self.state,
            State::Data(..)
                | State::BetweenChunks(..)
                | State::Chunk(Chunk::Wanted { .. }, _)
                | State::Committing(Some(_), _)
        )
    }
}

impl Defect {
    fn reply(self, limits: &Limits) -> Reply {
        match self {
            Self::BareCr => Reply::new(554, (5, 6, 0), "the message has a CR without LF"),
            Self::BareLf => Reply::new(554, (5, 6, 0), "the message has an LF without CR"),
            Self::MessageTooLarge => too_large(limits.message_octets),
            Self::HeaderTooLarge => Reply::new(552, (5, 3, 4), "the header section is too large"),
            Self::LineTooLong => {
                Reply::new(554, (5, 6, 0), "the message has a line that is too long")
            }
            // RFC 3463 §3.5: routing loop detected.
            Self::TooManyHops => Reply::new(554, (5, 4, 6), "the message goes in circles"),
            Self::NotStored => Reply::new(452, (4, 3, 1), "the message cannot be stored now"),
        }
    }
}

pub(super) fn too_large(max: u64) -> Reply {
    let text = format!("the message is larger than {max} octets");
    Reply::new(552, (5, 3, 4), text)
}

/// Where the protocol has but one reply. When they differ none of them is
/// true of all; a transient one loses nothing.
fn only_reply(replies: &[Reply]) -> Reply {
    let negative = replies.iter().find(|reply| !reply.code.is_positive());
    let all = |good: bool| replies.iter().all(|reply| reply.code.is_positive() == good);
    match (replies.first(), negative) {
        (Some(first), None) => first.clone(),
        (Some(_), Some(negative)) if all(false) => {
            let transient = replies.iter().find(|reply| reply.code.is_transient());
            transient.unwrap_or(negative).clone()
        }
        _ => Reply::new(
            451,
            (4, 3, 0),
            "not all recipients could be served, try again",
        ),
    }
}
