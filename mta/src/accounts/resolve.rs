//! Where the mail of a recipient goes: a [`Plan`], made of look-ups alone.
//!
//! For `info+web@example.org` these are asked in turn, and the first that is
//! there decides:
//!
//! 1. the alias, then the user, of the whole local part;
//! 2. the alias, then the user, before the first `+`; what follows it is the
//!    extension;
//! 3. the user before a `-`, the last one first, whose `.qmail` files name the
//!    extension: a mistyped name must not reach somebody else;
//! 4. for `postmaster`, whom the domain names, else a mailbox of that name;
//! 5. the catch-all.
//!
//! An alias may name aliases. One that names itself beside others means the
//! user of that name: `anna: anna, bob@example.net` keeps a copy.

use std::collections::HashSet;

use super::{Address, Domain, User};
use crate::Error;
use crate::smtp::Mailbox;

#[cfg(test)]
mod tests;

/// What a resolution asks.
pub trait Directory {
    /// The domain of that name, if its mail is received here.
    ///
    /// # Errors
    /// When it cannot be known now.
    fn domain(&self, name: &str) -> Result<Option<Domain>, Error>;

    /// The user of that address.
    ///
    /// # Errors
    /// As [`Directory::domain`].
    fn user(&self, address: &Address) -> Result<Option<User>, Error>;

    /// Where mail of an alias goes; nothing when there is none.
    ///
    /// # Errors
    /// As [`Directory::domain`].
    fn alias(&self, address: &Address) -> Result<Vec<Mailbox>, Error>;

    /// Whether the user has instructions for that dash extension.
    ///
    /// # Errors
    /// As [`Directory::domain`].
    fn has_instructions(&self, user: &User, extension: &str) -> Result<bool, Error>;
}

/// What is known of a recipient.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// Its mail goes there.
    Plan(Plan),
    /// Its domain is here, and there is no such user: 5.1.1.
    NoSuchUser,
    /// Its aliases lead back to themselves, or to more than
    /// 1,000 places: 5.4.6.
    Loop,
}

/// Where mail goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Never empty, none twice; in the order of the aliases.
    pub deliveries: Vec<Delivery>,
    /// Addresses of our domains that an alias names and nobody has.
    pub dead: Vec<Mailbox>,
}

/// One place where mail goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// A user of ours.
    Local {
        /// Who.
        user: User,
        /// The rest of the local part.
        extension: Option<Extension>,
        /// The address that led here, for `Delivered-To`.
        address: Mailbox,
    },
    /// Somebody elsewhere.
    Remote(Mailbox),
}

/// What a local part holds after the user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// `+` or `-`.
    pub separator: char,
    /// As the sender wrote it.
    pub text: String,
}

impl Delivery {
    /// The address that is written to.
    pub fn address(&self) -> &Mailbox {
        match self {
            Self::Local { address, .. } | Self::Remote(address) => address,
        }
    }

    /// Whose mailbox it is, if it is one of ours.
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::Local { user, .. } => Some(user),
            Self::Remote(_) => None,
        }
    }
}

/// How many places an alias may lead to.
const MAX_DELIVERIES: usize = 1_000;

/// Where mail to `recipient` goes.
///
/// # Errors
/// When it cannot be known now.
pub fn resolve(recipient: &Mailbox, directory: &impl Directory) -> Result<Resolved, Error> {
    let mut plan = Plan::default();
    let mut open = vec![recipient.clone()];
    let mut expanded: HashSet<Address> = HashSet::new();
    let mut planned: HashSet<String> = HashSet::new();
    let mut n_steps = 0;
    while let Some(mailbox) = open.pop() {
        n_steps += 1;
        if n_steps > MAX_DELIVERIES {
            return Ok(Resolved::Loop);
        }
        match step(&mailbox, directory, &expanded)? {
            Step::Deliver(delivery) => {
                let key = key(&delivery);
                if planned.insert(key) {
                    plan.deliveries.push(delivery);
                }
            }
            Step::Expand(alias, targets) => {
                expanded.insert(alias);
                // Popped in the order in which they are named.
                open.extend(targets.into_iter().rev());
            }
            Step::Again => {}
            Step::Nobody => plan.dead.push(mailbox),
        }
    }
    if plan.deliveries.is_empty() {
        // A postmaster who is named and does not exist must not cost the
        // answer that RFC 5321 §4.5.1 demands.
        let name = Address::of(recipient).filter(|name| name.local_part == POSTMASTER);
        if let Some(name) = name {
            plan.deliveries.push(postmaster_mailbox(recipient, name));
        }
    }
    Ok(if !plan.deliveries.is_empty() {
        Resolved::Plan(plan)
    } else if plan.dead.is_empty() {
        Resolved::Loop
    } else {
        Resolved::NoSuchUser
    })
}

/// Whose mailbox `address` is, without aliases: what an accepted message is
/// delivered by. `None` when there is no such user any more.
///
/// # Errors
/// When it cannot be known now.
pub fn local(address: &Mailbox, directory: &impl Directory) -> Result<Option<Delivery>, Error> {
    let Some(name) = Address::of(address) else {
        return Ok(None);
    };
    if directory.domain(&name.domain)?.is_none() {
        return Ok(None);
    }
    if let Some(delivery) = user_of(address, &name, directory)? {
        return Ok(Some(delivery));
    }
    let is_postmaster = name.local_part == POSTMASTER;
    Ok(is_postmaster.then(|| postmaster_mailbox(address, name)))
}

const POSTMASTER: &str = "postmaster";

enum Step {
    Deliver(Delivery),
    Expand(Address, Vec<Mailbox>),
    /// An alias that was expanded before.
    Again,
    Nobody,
}

fn step(
    mailbox: &Mailbox,
    directory: &impl Directory,
    expanded: &HashSet<Address>,
) -> Result<Step, Error> {
    let Some(name) = Address::of(mailbox) else {
        return Ok(Step::Deliver(Delivery::Remote(mailbox.clone())));
    };
    let Some(domain) = directory.domain(&name.domain)? else {
        return Ok(Step::Deliver(Delivery::Remote(mailbox.clone())));
    };
    let mut was_alias = false;
    let mut aliases = vec![name.clone()];
    if let Some((base, _)) = name
        .local_part
        .split_once('+')
        .filter(|(base, _)| !base.is_empty())
    {
        aliases.push(Address::new(base, &name.domain));
    }
    for (n, alias) in aliases.into_iter().enumerate() {
        // The user of the whole local part comes before an alias of its
        // beginning.
        if n == 1
            && let Some(user) = directory.user(&name)?
        {
            return Ok(Step::Deliver(whole(mailbox, user)));
        }
        if expanded.contains(&alias) {
            was_alias = true;
            break;
        }
        let targets = directory.alias(&alias)?;
        if !targets.is_empty() {
            return Ok(Step::Expand(alias, targets));
        }
    }
    if let Some(delivery) = user_of(mailbox, &name, directory)? {
        return Ok(Step::Deliver(delivery));
    }
    if was_alias {
        return Ok(Step::Again);
    }
    if name.local_part == POSTMASTER {
        return Ok(postmaster(mailbox, name, domain));
    }
    catch_all(&name, directory, expanded)
}

fn postmaster(mailbox: &Mailbox, name: Address, domain: Domain) -> Step {
    let named = domain
        .postmaster
        .and_then(|text| Mailbox::parse(text.as_bytes()).ok());
    match named {
        Some(other) if Address::of(&other).as_ref() != Some(&name) => {
            Step::Expand(name, vec![other])
        }
        _ => Step::Deliver(postmaster_mailbox(mailbox, name)),
    }
}

fn postmaster_mailbox(mailbox: &Mailbox, address: Address) -> Delivery {
    let user = User {
        address,
        settings: super::UserSettings::default(),
    };
    whole(mailbox, user)
}

fn catch_all(
    name: &Address,
    directory: &impl Directory,
    expanded: &HashSet<Address>,
) -> Result<Step, Error> {
    let catch_all = Address::new("", &name.domain);
    if expanded.contains(&catch_all) {
        return Ok(Step::Nobody);
    }
    let targets = directory.alias(&catch_all)?;
    Ok(if targets.is_empty() {
        Step::Nobody
    } else {
        Step::Expand(catch_all, targets)
    })
}

/// The user of a local part, perhaps with an extension.
fn user_of(
    mailbox: &Mailbox,
    name: &Address,
    directory: &impl Directory,
) -> Result<Option<Delivery>, Error> {
    if let Some(user) = directory.user(name)? {
        return Ok(Some(whole(mailbox, user)));
    }
    let local_part = mailbox.local_part.as_str();
    let with = |user, at: usize, separator| Delivery::Local {
        user,
        extension: Some(Extension {
            separator,
            text: local_part[at + 1..].to_owned(),
        }),
        address: mailbox.clone(),
    };
    if let Some(at) = local_part.find('+')
        && let Some(user) = directory.user(&Address::new(&local_part[..at], &name.domain))?
    {
        return Ok(Some(with(user, at, '+')));
    }
    for (at, _) in local_part.rmatch_indices('-') {
        let Some(user) = directory.user(&Address::new(&local_part[..at], &name.domain))? else {
            continue;
        };
        let known = directory.has_instructions(&user, &local_part[at + 1..])?;
        return Ok(known.then(|| with(user, at, '-')));
    }
    Ok(None)
}

fn whole(mailbox: &Mailbox, user: User) -> Delivery {
    Delivery::Local {
        user,
        extension: None,
        address: mailbox.clone(),
    }
}

/// What must not be planned twice.
fn key(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Remote(mailbox) => format!("{mailbox}"),
        Delivery::Local {
            user, extension, ..
        } => {
            let extension = extension
                .as_ref()
                .map(|e| format!("{}{}", e.separator, e.text));
            format!("{} {}", user.address, extension.unwrap_or_default())
        }
    }
}
