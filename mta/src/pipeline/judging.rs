//! What the filter says of a message to each user, and what follows of it.

use std::time::SystemTime;

use tracing::warn;

use super::Inner;
use super::incoming::{Incoming, Target};
use super::verdict::{self, Opinion};
use crate::accounts::{Delivery, SpamPolicy, User};
use crate::delivery::content::Content;
use crate::journal::Event;

impl Inner {
    pub(super) fn judge_all(&self, incoming: &mut Incoming<'_>, content: &Content) {
        let deliveries = incoming.targets.iter().map(|target| &target.delivery);
        let users: Vec<&User> = deliveries.filter_map(Delivery::user).collect();
        let opinions = self.judge(incoming.id, &users, content);
        let local = |target: &&mut Target| target.delivery.user().is_some();
        let targets = incoming.targets.iter_mut().filter(local);
        for (target, opinion) in targets.zip(opinions) {
            target.opinion = opinion;
        }
    }

    /// What the filter says to each of `users`; nothing when it is off or
    /// cannot tell, which must not hold mail up.
    pub(super) fn judge(
        &self,
        id: &str,
        users: &[&User],
        content: &Content,
    ) -> Vec<Option<Opinion>> {
        let opinions = verdict::judge(content.bytes(), users, &*self.models);
        let to_user = |(user, opinion): (&&User, Result<Option<Opinion>, String>)| {
            let told = |reason: &String| {
                warn!(queue_id = id, user = %user.address, reason, "not judged");
            };
            opinion.inspect_err(told).ok().flatten()
        };
        users.iter().zip(opinions).map(to_user).collect()
    }

    /// The header fields that tell `user` of `opinion`, and whether it is filed
    /// in Junk: then it is marked, so that it teaches nothing.
    pub(super) fn file_by(
        &self,
        user: &User,
        opinion: Option<&Opinion>,
        to_junk: bool,
        content: &Content,
    ) -> (String, bool) {
        let is_spam = opinion.is_some_and(Opinion::is_spam);
        let is_junk = (is_spam || to_junk) && user.settings.spam != SpamPolicy::Tag;
        let mark = match opinion {
            _ if !is_junk => String::new(),
            Some(opinion) if is_spam => opinion.mark.clone(),
            _ => match self.models.mark_key(&user.address.to_string()) {
                Ok(key) => key.map_or_else(String::new, |key| key.field_of(content.bytes())),
                Err(reason) => {
                    warn!(user = %user.address, reason, "filed without a mark");
                    String::new()
                }
            },
        };
        (
            opinion.map(Opinion::fields).unwrap_or_default() + &mark,
            is_junk,
        )
    }

    pub(super) fn note_opinion(&self, id: &str, target: &Target, now: SystemTime) {
        if let (Some(user), Some(opinion)) = (target.delivery.user(), &target.opinion) {
            self.note(id, now, judged(user, opinion));
        }
    }
}

pub(super) fn judged(user: &User, opinion: &Opinion) -> Event {
    let evidence = opinion.evidence.iter();
    Event::Judged {
        user: user.address.to_string(),
        verdict: opinion.class.name().into(),
        probability: opinion.probability,
        required: opinion.required,
        evidence: evidence
            .map(|one| (one.place.to_string(), one.what.to_string(), one.log_odds))
            .collect(),
    }
}
