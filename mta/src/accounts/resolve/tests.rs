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
