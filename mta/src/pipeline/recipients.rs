//! Who may be written to, and where mail to an address goes.

use std::time::SystemTime;

use super::{Inner, no_way_out, refusal, trouble};
use crate::accounts::{Accounts, Delivery, Directory, Plan, Resolved, resolve, wishes};
use crate::handover::{Refusal, Wishes};
use crate::smtp::{Client, Domain, ForwardPath, LocalPart, Mailbox, Reply};

impl Inner {
    pub(super) fn check(
        &self,
        client: &Client,
        from: &str,
        forward_path: &ForwardPath,
        size: u64,
    ) -> Result<(), Refusal> {
        let mailbox = self.mailbox(forward_path)?;
        if self.is_remote(&mailbox)? {
            if !client.may_relay {
                let reason = format!("{from} may not send to {mailbox}");
                return Err(refusal(relaying_denied(), reason));
            }
            if self.way_out.is_none() {
                return Err(refusal(no_way_out(), format!("{mailbox} is elsewhere")));
            }
        }
        let is_report = from.is_empty();
        if !is_report && let Some(Ok(_)) = self.unwrapped(&mailbox) {
            let reply = Reply::new(550, (5, 7, 1), "this address takes reports only");
            return Err(refusal(reply, format!("{from} wrote to {mailbox}")));
        }
        let plan = self.resolve(&mailbox)?;
        self.must_have_room(&plan, size)
    }

    /// A full mailbox is told of here, while it can be told to who sends: behind
    /// the end of data one reply is for all, and the rest would be a report.
    fn must_have_room(&self, plan: &Plan, size: u64) -> Result<(), Refusal> {
        let mut full = None;
        for delivery in &plan.deliveries {
            let Delivery::Local {
                user, extension, ..
            } = delivery
            else {
                return Ok(());
            };
            let (extension, now) = (extension.as_ref(), SystemTime::now());
            match self.deliverer.must_have_room(user, extension, size, now) {
                Err(reply) => full = Some((reply, &user.address)),
                Ok(()) => return Ok(()),
            }
        }
        match full {
            Some((reply, user)) => Err(refusal(reply, format!("the mailbox of {user}"))),
            None => Ok(()),
        }
    }

    /// Somebody's address; that of `<postmaster>` is in our first domain.
    pub(super) fn mailbox(&self, forward_path: &ForwardPath) -> Result<Mailbox, Refusal> {
        if let Some(mailbox) = forward_path.mailbox() {
            return Ok(mailbox.clone());
        }
        let domains = self
            .accounts()
            .domains()
            .map_err(|error| refusal(trouble(), error.to_string()))?;
        let names = domains.iter().map(|domain| domain.name.as_str());
        let own = names
            .clone()
            .filter(|name| ends_with_domain(&self.settings.host, name))
            .max_by_key(|n| n.len());
        let domain = own.or(domains.first().map(|domain| domain.name.as_str()));
        let postmaster = |domain: &str| {
            Some(Mailbox {
                local_part: LocalPart::new("postmaster").ok()?,
                domain: Domain::parse(domain).ok()?,
            })
        };
        domain.and_then(postmaster).ok_or_else(|| {
            refusal(
                trouble(),
                "there is no domain whose postmaster there could be".into(),
            )
        })
    }

    pub(super) fn is_remote(&self, mailbox: &Mailbox) -> Result<bool, Refusal> {
        let Some(name) = mailbox.domain.name() else {
            return Ok(true);
        };
        let domain = self.accounts().domain(name);
        let domain = domain.map_err(|error| refusal(trouble(), error.to_string()))?;
        Ok(domain.is_none())
    }

    /// What cannot be known is as usual; [`Inner::check`] says why.
    pub(super) fn wishes(&self, forward_path: &ForwardPath) -> Wishes {
        let mailbox = self.mailbox(forward_path).ok();
        let known = mailbox.and_then(|mailbox| wishes(&mailbox, self.accounts()).ok());
        known.unwrap_or_default()
    }

    pub(super) fn resolve(&self, mailbox: &Mailbox) -> Result<Plan, Refusal> {
        match self.unwrapped(mailbox) {
            Some(original) => self.way_back(original?),
            None => plan(mailbox, self.accounts()),
        }
    }

    /// The places where mail to `addresses` goes, each once. An address that
    /// leads nowhere stays as it is: its delivery fails, which is reported.
    pub(super) fn places(&self, addresses: &[Mailbox]) -> Result<Vec<Mailbox>, Refusal> {
        let mut places: Vec<Mailbox> = Vec::new();
        for address in addresses {
            let found = match self.resolve(address) {
                Ok(plan) => plan
                    .deliveries
                    .iter()
                    .map(|to| to.address().clone())
                    .collect(),
                Err(refusal) if refusal.reply.code.is_permanent() => vec![address.clone()],
                Err(refusal) => return Err(refusal),
            };
            for place in found {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
        Ok(places)
    }
}

/// Where mail to `mailbox` goes.
///
/// # Errors
/// With what is answered when that is nowhere, or cannot be known now.
pub fn plan(mailbox: &Mailbox, accounts: &Accounts) -> Result<Plan, Refusal> {
    match resolve(mailbox, accounts) {
        Ok(Resolved::Plan(plan)) => Ok(plan),
        Ok(Resolved::NoSuchUser) => Err(refusal(
            Reply::new(550, (5, 1, 1), "no such user here"),
            format!("there is no user or alias {mailbox}"),
        )),
        Ok(Resolved::Loop) => Err(refusal(
            Reply::new(550, (5, 4, 6), "this address leads back to itself"),
            format!("the aliases of {mailbox} loop, or are too many"),
        )),
        Err(error) => Err(refusal(trouble(), error.to_string())),
    }
}

/// What a client hears that may not write to other people's domains.
pub fn relaying_denied() -> Reply {
    Reply::new(550, (5, 7, 1), "relaying denied")
}

/// Whether `host` is `domain` or below it.
fn ends_with_domain(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
