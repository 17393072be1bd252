//! Hosts of qmail's kinds, made by hand with what goes wrong on them, and what
//! `postern import` would make of them.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::imported::{NOTQMAIL, found, places, planned, tree};
use mta::import::Plan;
use mta::import::report::Outcome;

/// The accounts, a line each.
fn accounts(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (address, user) in &plan.accounts.users {
        let files: Vec<String> = user
            .files
            .iter()
            .map(|(name, content)| {
                let text = String::from_utf8_lossy(&content.bytes);
                format!(" {name}={}", text.trim_end().replace('\n', "|"))
            })
            .collect();
        lines.push(format!("{address}{}", files.concat()));
    }
    for (address, targets) in &plan.accounts.aliases {
        lines.push(format!("{address}: {}", targets.join(" ")));
    }
    lines
}

#[test]
fn a_classic_host_with_its_traps() {
    let plan = planned(NOTQMAIL);
    assert_eq!(plan.host, "mail.example.org");
    assert_eq!(
        plan.domains,
        [
            "mail.example.org",
            "example.org",
            "win.example",
            "last.example",
            "joe.example",
            "shop.example"
        ]
    );
    let expected = "\
anna@shop.example
bob@mail.example.org .qmail=./Maildir/||vacation|&joe@mail.example.org .qmail-x=./x/Maildir/
eve@mail.example.org
joe@mail.example.org .qmail-default=./Maildir/ .qmail-sales=&bob@mail.example.org
joe.x@shop.example
null@shop.example .qmail=# nobody
orders@shop.example .qmail=|/usr/local/bin/orders";
    let all = accounts(&plan);
    let users: Vec<&String> = all.iter().filter(|line| !line.contains(": ")).collect();
    assert_eq!(users, expected.lines().collect::<Vec<_>>());
    for line in [
        // Other domains of a user, and the extension `.x`, which a dot makes.
        "bob@example.org: bob@mail.example.org",
        "bob.x@mail.example.org: bob-x@mail.example.org",
        "bob.x@last.example: bob-x@mail.example.org",
        "bob-x@win.example: bob-x@mail.example.org",
        // A user's extensions as a domain.
        "sales@joe.example: joe-sales@mail.example.org",
        "@joe.example: joe-default@mail.example.org",
        // Files of one folder as users and aliases.
        "info@shop.example: anna@shop.example joe.x@shop.example bob@mail.example.org",
        "both@shop.example: anna@shop.example bob@example.net",
        // The alias user.
        "postmaster@example.org: joe@mail.example.org",
        "root@mail.example.org: joe@mail.example.org bob@example.org",
        "list@example.org: a@example.net",
        "@example.org: eve@mail.example.org",
        // Of all names that begin so, the one that is nothing more.
        "joker@example.org: eve@mail.example.org",
    ] {
        assert!(all.iter().any(|one| one == line), "{line}\nin {all:#?}");
    }
    for line in [
        "@shop.example",
        "admin@",
        "high@",
        "none@",
        "shop-",
        "joker5",
    ] {
        assert!(
            !all.iter().any(|one| one.starts_with(line)),
            "{line}\nin {all:#?}"
        );
    }
}

#[test]
fn what_is_not_carried_over_is_named() {
    use Outcome::{Carried, Changed, Left, ToDo};
    let plan = planned(NOTQMAIL);
    for (file, expected) in [
        ("control/locals", &[(Changed, Some(5)), (Carried, None)][..]),
        (
            "control/virtualdomains",
            &[
                (Left, Some(6)),
                (Carried, Some(1)),
                (Carried, Some(2)),
                (Left, Some(3)),
                (Left, Some(4)),
                (Changed, Some(5)),
                (Left, Some(7)),
            ],
        ),
        ("control/rcpthosts", &[(Changed, None)]),
        ("control/databytes", &[(Carried, Some(1))]),
        ("control/queuelifetime", &[(Carried, Some(1))]),
        ("control/timeoutsmtpd", &[(Left, Some(1))]),
        ("control/concurrencyremote", &[(Left, Some(1))]),
        ("control/helohost", &[(Left, Some(1))]),
        ("control/smtpgreeting", &[(Carried, Some(1))]),
        ("control/defaulthost", &[(Left, Some(1))]),
        ("control/doublebounceto", &[(Left, None)]),
        (
            "control/badmailfrom",
            &[
                (Carried, Some(1)),
                (Changed, Some(2)),
                (Changed, Some(3)),
                (Left, Some(4)),
            ],
        ),
        ("control/unheard-of", &[(Left, None)]),
        (
            "users/assign",
            &[
                (Left, Some(7)),
                (Carried, None),
                (Left, Some(8)),
                (Left, Some(5)),
            ],
        ),
        ("alias/.qmail-team-default", &[(Left, None)]),
        ("alias/.qmail-list", &[(Changed, None), (Carried, None)]),
        ("queue/mess", &[(ToDo, None)]),
        (
            "/srv/bob/.qmail",
            &[(Carried, Some(1)), (ToDo, Some(2)), (Carried, None)],
        ),
        ("/srv/bob/.qmail-News", &[(Left, None)]),
        ("/srv/shop/.qmail-default", &[(Left, None)]),
        ("/srv/eve/Maildir", &[(ToDo, None)]),
    ] {
        let path = match file.starts_with('/') {
            true => file.to_owned(),
            false => format!("/var/qmail/{file}"),
        };
        assert_eq!(found(&plan, &path), expected, "{file}");
    }
    assert_eq!(
        plan.rules,
        [
            "deny sender spam@example.com",
            "deny sender @example.net",
            "deny sender @example.test"
        ]
    );
    let said = |section, key| plan.settings.value(section, key).unwrap().as_integer();
    assert_eq!(said("smtp", "max_message_bytes"), Some(20_000_000));
    assert_eq!(said("queue", "lifetime_hours"), Some(168));
    // Every file of the folder is named.
    let names = NOTQMAIL
        .iter()
        .filter(|(path, _)| path.contains("/control/"));
    for (path, _) in names {
        assert!(!found(&plan, path).is_empty(), "{path}");
    }
}

#[test]
fn open_errors_and_empty_files_are_not_defaults() {
    // Present and empty: nothing is local, and nobody's mail is received.
    let me = ("/var/qmail/control/me", "mx.example.org\n");
    let bob = ("/var/qmail/users/assign", "=bob:bob:1:1:/srv/bob:::\n.\n");
    let with = |more: &[(&'static str, &'static str)]| planned(&[&[me, bob], more].concat());
    let plan = with(&[]);
    assert_eq!(plan.domains, ["mx.example.org"]);
    assert_eq!(accounts(&plan), ["bob@mx.example.org"]);
    let plan = with(&[
        ("/var/qmail/control/locals", "\n"),
        ("/var/qmail/control/rcpthosts", ""),
    ]);
    assert!(plan.domains.is_empty() && accounts(&plan).is_empty());
    // Mail for others that is received is not ours to receive.
    let plan = with(&[(
        "/var/qmail/control/rcpthosts",
        "mx.example.org\n.example.net\nb.example",
    )]);
    let expected = [
        (Outcome::Changed, Some(2)),
        (Outcome::Changed, Some(3)),
        (Outcome::Carried, None),
    ];
    assert_eq!(found(&plan, "/var/qmail/control/rcpthosts"), expected);
    let rules = ["example.net", "b.example"];
    let rules = rules.map(|domain| format!("set recipient @{domain} RELAYCLIENT=\"\""));
    assert_eq!((plan.domains.len(), plan.rules), (1, rules.to_vec()));
    // A domain that a wildcard leads to has its name from rcpthosts.
    let plan = with(&[
        ("/var/qmail/control/rcpthosts", "a.wild.example\n"),
        ("/var/qmail/control/virtualdomains", ".wild.example:bob\n"),
        ("/var/qmail/alias/.qmail-bob-info", "x@example.net\n"),
    ]);
    assert_eq!(plan.domains, ["mx.example.org", "a.wild.example"]);
    assert!(accounts(&plan).contains(&"info@a.wild.example: x@example.net".into()));
    // Without its last line qmail refuses the text.
    let files = [
        me,
        ("/var/qmail/users/assign", "=bob:bob:1:1:/srv/bob:::\n"),
    ];
    let cut = planned(&files);
    assert_eq!(accounts(&cut), Vec::<String>::new());
    assert_eq!(
        found(&cut, "/var/qmail/users/assign")[0],
        (Outcome::Left, None)
    );
    // A host has a name.
    let error = mta::import::plan(&tree(&[bob]), &places()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/var/qmail/control/me is missing"),
        "{error}"
    );
}

#[test]
fn routes_keep_their_passwords_to_themselves() {
    let plan = planned(&[
        ("/var/qmail/control/me", "mx.example.org\n"),
        (
            "/var/qmail/control/smtproutes",
            ":relay.example:587 anna secret word\n.direct.example:\nb.example:[192.0.2.1]\n\
             c.example:x|u|p|q\nb.example:relay.example\nd.example:relay:port u secret\nnone\n",
        ),
    ]);
    let routes: Vec<String> = plan
        .settings
        .routes
        .iter()
        .map(|table| table.to_string().replace('\n', " "))
        .collect();
    assert_eq!(
        routes,
        [
            "domain = \"*\" host = \"relay.example\" password_file = \"/var/lib/postern/secrets/route-1\" port = 587 user = \"anna\" ",
            "domain = \".direct.example\" ",
            "domain = \"c.example\" host = \"x\" password_file = \"/var/lib/postern/secrets/route-4\" user = \"u\" ",
            "domain = \"b.example\" host = \"relay.example\" ",
        ]
    );
    assert_eq!(plan.secrets["secrets/route-1"], b"secret word\n");
    assert_eq!(plan.secrets["secrets/route-4"], b"p|q\n");
    let said = format!("{:?}", plan.report);
    assert!(
        !said.contains("secret word") && !said.contains("u secret"),
        "{said}"
    );
    use Outcome::{Carried, Changed, Left};
    assert_eq!(
        found(&plan, "/var/qmail/control/smtproutes"),
        [
            (Left, Some(7)),
            (Changed, Some(1)),
            (Carried, Some(2)),
            (Left, Some(3)),
            (Changed, Some(4)),
            (Carried, Some(5)),
            (Left, Some(6)),
        ]
    );
}

#[test]
fn what_cannot_come_says_what_to_do_instead() {
    let plan = planned(&[
        ("/var/qmail/control/me", "mail.example.org\n"),
        ("/var/qmail/control/locals", "a.example.org\n"),
        (
            "/var/qmail/control/rcpthosts",
            "backup.example\n.example.org\n.wild.example\npart.example\n",
        ),
        (
            "/var/qmail/control/virtualdomains",
            ".wild.example:eve\nx@part.example:eve\n",
        ),
        (
            "/var/qmail/control/authsenders",
            "bob@a.example.org:relay.example:587|bob|secret\n@x.example|eve|secret\n",
        ),
        (
            "/var/qmail/users/assign",
            "=eve:eve:1:1:/srv/eve:::\n+sales:eve:1:1:/srv/eve:::\n.\n",
        ),
        ("/srv/eve/x", ""),
    ]);
    for (file, line, text, why) in [
        (
            "control/rcpthosts",
            Some(1),
            "backup.example",
            "as a rule of the gate",
        ),
        (
            "control/rcpthosts",
            Some(2),
            ".example.org",
            "those above are taken",
        ),
        (
            "control/rcpthosts",
            Some(3),
            ".wild.example",
            "`postern domain add`",
        ),
        (
            "control/rcpthosts",
            Some(4),
            "part.example",
            "part of it is ours",
        ),
        (
            "control/authsenders",
            Some(1),
            "bob@a.example.org:relay.example:587 ...",
            "a [[route]] of domain",
        ),
        (
            "control/authsenders",
            Some(2),
            "@x.example ...",
            "a [[route]] of domain",
        ),
        (
            "users/assign",
            Some(2),
            "+sales",
            "an alias for each other name",
        ),
        (
            "control/envnoathost",
            None,
            "mail.example.org",
            "`postern domain add`",
        ),
    ] {
        let path = Path::new("/var/qmail").join(file);
        let mut findings = plan.report.findings.iter();
        let found = findings.find(|one| one.file == path && one.line == line);
        let found = found.unwrap();
        assert_ne!(found.outcome, Outcome::Carried);
        assert_eq!(found.text, text);
        assert!(found.why.contains(why), "{found}");
    }
    assert_eq!(
        plan.rules,
        ["set recipient @backup.example RELAYCLIENT=\"\""]
    );
    assert!(!format!("{:?}", plan.report).contains("secret"));
}

#[test]
fn who_can_have_no_folder_by_one_name_has_it_by_another() {
    let plan = planned(&[
        ("/var/qmail/control/me", "example.org\n"),
        (
            "/var/qmail/users/assign",
            "=a/b:bob:1:1:/srv/bob:::\n=bob:bob:1:1:/srv/bob:::\n=c/d:eve:1:1:/srv/eve:::\n\
             +info-:box:1:1:/srv/box:-::\n.\n",
        ),
        ("/srv/bob/x", ""),
        ("/srv/eve/x", ""),
        ("/srv/box/.qmail-x", ""),
    ]);
    assert_eq!(
        accounts(&plan),
        [
            "bob@example.org",
            "info-x@example.org",
            "a/b@example.org: bob@example.org"
        ]
    );
    let mut findings = plan.report.findings.iter();
    let left = findings.find(|one| one.text == "c/d@example.org").unwrap();
    assert_eq!(
        (left.outcome, &*left.file),
        (Outcome::Left, Path::new("/srv/eve"))
    );
}
