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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Users with their instructions, and aliases, of example.org.
    #[derive(Default)]
    struct Known {
        users: BTreeMap<&'static str, &'static [&'static str]>,
        aliases: BTreeMap<String, Vec<String>>,
        postmaster: Option<String>,
    }

    impl Directory for Known {
        fn domain(&self, name: &str) -> Result<Option<Domain>, Error> {
            Ok((name == "example.org").then(|| Domain {
                name: name.to_owned(),
                postmaster: self.postmaster.clone(),
                programs: false,
                gate: crate::handover::GateLevel::On,
            }))
        }

        fn user(&self, address: &Address) -> Result<Option<User>, Error> {
            let known = self.users.contains_key(address.local_part.as_str());
            Ok(known.then(|| User {
                address: address.clone(),
                settings: super::super::UserSettings::default(),
            }))
        }

        fn alias(&self, address: &Address) -> Result<Vec<Mailbox>, Error> {
            let targets = self.aliases.get(&address.local_part);
            let parse = |text: &String| {
                let text = if text.contains('@') {
                    text.clone()
                } else {
                    format!("{text}@example.org")
                };
                Mailbox::parse(text.as_bytes()).unwrap()
            };
            Ok(targets.into_iter().flatten().map(parse).collect())
        }

        fn has_instructions(&self, user: &User, extension: &str) -> Result<bool, Error> {
            let known = self.users[user.address.local_part.as_str()];
            Ok(known.contains(&extension))
        }
    }

    fn known() -> Known {
        let aliases = [
            ("info", "anna, bob@example.net"),
            ("anna", "anna, bob"),
            ("round", "about"),
            ("about", "round"),
            ("half", "nobody, bob"),
            ("dead", "nobody"),
            ("deep", "info, anna, deep"),
            ("bob+x", "anna"),
            ("team", "anna"),
        ];
        let split = |text: &str| text.split(", ").map(str::to_owned).collect();
        Known {
            users: BTreeMap::from([
                ("anna", &["list", "a-b"][..]),
                ("bob", &[]),
                ("jo-ann", &[]),
            ]),
            aliases: aliases
                .into_iter()
                .map(|(name, to)| (name.to_owned(), split(to)))
                .collect(),
            postmaster: None,
        }
    }

    fn said(resolved: &Resolved) -> String {
        let Resolved::Plan(plan) = resolved else {
            return format!("{resolved:?}");
        };
        let all: Vec<String> = plan
            .deliveries
            .iter()
            .map(|delivery| match delivery {
                Delivery::Remote(mailbox) => mailbox.to_string(),
                Delivery::Local {
                    user, extension, ..
                } => {
                    let extension = extension.as_ref();
                    let extension = extension.map(|e| format!(" {}{}", e.separator, e.text));
                    user.address.local_part.clone() + &extension.unwrap_or_default()
                }
            })
            .collect();
        all.join(", ")
    }

    fn asked(known: &Known, recipient: &str) -> String {
        let recipient = Mailbox::parse(recipient.as_bytes()).unwrap();
        said(&resolve(&recipient, known).unwrap())
    }

    #[test]
    fn where_mail_goes() {
        let known = known();
        for (recipient, expected) in [
            ("bob@example.org", "bob"),
            ("BOB@EXAMPLE.ORG", "bob"),
            ("bob@example.net", "bob@example.net"),
            ("x@[127.0.0.1]", "x@[127.0.0.1]"),
            ("anna@example.org", "anna, bob"),
            ("info@example.org", "anna, bob, bob@example.net"),
            ("deep@example.org", "anna, bob, bob@example.net"),
            ("bob+News@example.org", "bob +News"),
            ("bob+x@example.org", "anna, bob"),
            ("team+x@example.org", "anna, bob"),
            ("+x@example.org", "NoSuchUser"),
            ("anna-list@example.org", "anna -list"),
            ("anna-a-b@example.org", "anna -a-b"),
            ("anna-nix@example.org", "NoSuchUser"),
            ("jo-ann@example.org", "jo-ann"),
            ("jo-ann-x@example.org", "NoSuchUser"),
            ("nobody@example.org", "NoSuchUser"),
            ("half@example.org", "bob"),
            ("dead@example.org", "NoSuchUser"),
            ("round@example.org", "Loop"),
            ("postmaster@example.org", "postmaster"),
        ] {
            assert_eq!(asked(&known, recipient), expected, "{recipient}");
        }
    }

    #[test]
    fn a_catch_all_takes_what_nobody_has() {
        let mut known = known();
        known
            .aliases
            .insert(String::new(), vec!["bob".into(), "ghost".into()]);
        for (recipient, expected) in [
            ("nobody@example.org", "bob"),
            ("anna-nix@example.org", "bob"),
            ("anna-list@example.org", "anna -list"),
            ("postmaster@example.org", "postmaster"),
        ] {
            assert_eq!(asked(&known, recipient), expected, "{recipient}");
        }
    }

    #[test]
    fn postmaster_is_always_answered() {
        for (postmaster, expected) in [
            (None, "postmaster"),
            (Some("bob@example.org"), "bob"),
            (Some("boss@example.net"), "boss@example.net"),
            (Some("postmaster@example.org"), "postmaster"),
            (Some("no address"), "postmaster"),
            (Some("nobody@example.org"), "postmaster"),
            (Some("round@example.org"), "postmaster"),
        ] {
            let known = Known {
                postmaster: postmaster.map(str::to_owned),
                ..known()
            };
            assert_eq!(asked(&known, "Postmaster@example.org"), expected);
        }
    }

    #[test]
    fn an_alias_of_too_many_is_refused() {
        let mut known = known();
        let many = (0..=MAX_DELIVERIES).map(|n| format!("u{n}@example.net"));
        known.aliases.insert("many".into(), many.collect());
        assert_eq!(asked(&known, "many@example.org"), "Loop");
    }

    #[test]
    fn what_was_planned_is_found_again() {
        let known = known();
        for recipient in ["bob+News", "anna-a-b", "anna", "postmaster"] {
            let mailbox = Mailbox::parse(format!("{recipient}@example.org").as_bytes()).unwrap();
            let again = local(&mailbox, &known).unwrap().unwrap();
            assert_eq!(again.address(), &mailbox);
        }
        let gone = Mailbox::parse(b"info@example.org").unwrap();
        assert_eq!(local(&gone, &known).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_aliases_come_to_an_end(
            aliases in prop::collection::btree_map("[a-d]", prop::collection::vec("[a-e]", 1..4), 0..5),
            start in "[a-e]",
        ) {
            let known = Known {
                users: BTreeMap::from([("a", &[][..]), ("b", &[][..])]),
                aliases,
                postmaster: None,
            };
            let recipient = Mailbox::parse(format!("{start}@example.org").as_bytes()).unwrap();
            if let Resolved::Plan(plan) = resolve(&recipient, &known).unwrap() {
                prop_assert!(!plan.deliveries.is_empty() && plan.deliveries.len() <= 2);
            }
        }
    }
}
