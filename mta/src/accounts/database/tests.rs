use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use super::*;
use crate::accounts::{OverQuota, ScramKeys, SpamPolicy};
use crate::handover::GateLevel;

fn domain_named(name: &str) -> Domain {
    Domain {
        name: name.into(),
        ..Domain::default()
    }
}

/// Always the same keys, which have a salt.
fn anna() -> User {
    static ANNA: LazyLock<User> = LazyLock::new(new_anna);
    ANNA.clone()
}

fn new_anna() -> User {
    User {
        address: Address::new("anna", "example.org"),
        settings: UserSettings {
            quota: Quota {
                bytes: Some(1 << 30),
                messages: None,
            },
            over_quota: OverQuota::Refuse,
            filter: false,
            threshold: Some(0.99),
            spam: SpamPolicy::Tag,
            programs: true,
            gate: Some(GateLevel::NoGreylist),
            password: Some(Password {
                hash: "$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.".parse().unwrap(),
                scram: ScramKeys::of(b"secret-1").map(Box::new),
                clear: Some("secret-1".into()),
            }),
        },
    }
}

#[test]
fn what_was_entered_is_found_by_whoever_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Accounts::open(&dir.path().join("accounts.db"), Homes::new(dir.path())).unwrap();
    let (server, tool) = (open(), open());
    assert_eq!(server.user(&anna().address).unwrap(), None);
    let targets = ["anna@example.org".to_owned(), "bob@example.net".to_owned()];
    let info = Address::new("info", "example.org");
    tool.change(|change| {
        change.put_domain(&domain_named("example.org"))?;
        change.put_user(&anna())?;
        assert!(!change.put_alias(&info, &targets)?);
        Ok(())
    })
    .unwrap();
    assert_eq!(server.user(&anna().address).unwrap(), Some(anna()));
    assert_eq!(
        server.domain("example.org").unwrap(),
        Some(domain_named("example.org"))
    );
    let found = server.alias(&info).unwrap();
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        targets
    );
    assert_eq!(
        server.aliases(None).unwrap(),
        [(info.clone(), targets.to_vec())]
    );
    tool.change(|change| change.put_alias(&info, &[])).unwrap();
    assert!(server.alias(&info).unwrap().is_empty());
}

#[test]
fn what_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::open(&dir.path().join("accounts.db"), Homes::new(dir.path())).unwrap();
    let failed = accounts.change(|change| {
        change.put_domain(&domain_named("example.net"))?;
        // Its domain is not there.
        change.put_user(&anna())
    });
    assert!(failed.is_err());
    assert!(accounts.domains().unwrap().is_empty());
}

#[test]
fn a_password_stays_when_something_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::open(&dir.path().join("accounts.db"), Homes::new(dir.path())).unwrap();
    let with = anna();
    let mut without = anna();
    without.settings.password = None;
    without.settings.filter = !with.settings.filter;
    let new = Address::new("ann", "example.org");
    let renamed = accounts.change(|change| {
        change.put_domain(&domain_named("example.org"))?;
        change.put_user(&with)?;
        change.put_user(&without)?;
        change.rename_user(&new, &with.address)?;
        change.rename_user(&with.address, &new)
    });
    assert!(renamed.unwrap());
    let settings = accounts.user(&new).unwrap().unwrap().settings;
    assert_eq!(settings.password, with.settings.password);
    assert_eq!(settings.filter, without.settings.filter);
    assert_eq!(accounts.user(&with.address).unwrap(), None);
}

#[test]
fn who_led_to_a_user_leads_to_the_new_address() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::open(&dir.path().join("accounts.db"), Homes::new(dir.path())).unwrap();
    let named = |name: &str| Address::new(name, "example.org");
    let put = |change: &Change<'_>, alias: &str, targets: &[&str]| {
        let targets: Vec<String> = targets.iter().map(|to| (*to).to_owned()).collect();
        change.put_alias(&named(alias), &targets).map(drop)
    };
    let (anna, ann) = (named("anna"), named("ann"));
    let changed = accounts.change(|change| {
        let mut domain = domain_named("example.org");
        domain.postmaster = Some("Anna@Example.org".into());
        change.put_domain(&domain)?;
        change.put_user(&User {
            address: anna.clone(),
            settings: UserSettings::default(),
        })?;
        put(change, "info", &["b@example.net", "ANNA@example.org"])?;
        put(
            change,
            "list",
            &["anna+List@example.org", "anna-x@example.org"],
        )?;
        put(change, "anna", &["anna@example.org", "joanna@example.org"])?;
        put(change, "", &["anna@example.net"])?;
        let leading = change.leading_to(&anna)?;
        assert_eq!(
            leading.0,
            [&anna, &named("info"), &named("list")].map(Clone::clone)
        );
        assert_eq!(leading.1, ["example.org"]);
        change.rename_user(&anna, &ann)
    });
    assert!(changed.unwrap());
    let all: Vec<String> = accounts
        .aliases(None)
        .unwrap()
        .iter()
        .map(|(alias, targets)| format!("{alias}: {}", targets.join(" ")))
        .collect();
    assert_eq!(
        all,
        [
            "@example.org: anna@example.net",
            "ann@example.org: ann@example.org joanna@example.org",
            "info@example.org: b@example.net ann@example.org",
            "list@example.org: ann+List@example.org anna-x@example.org",
        ]
    );
    let domain = accounts.domain("example.org").unwrap().unwrap();
    assert_eq!(domain.postmaster.as_deref(), Some("ann@example.org"));
}

#[test]
fn a_newer_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.db");
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 5)
        .unwrap();
    let error = Accounts::open(&path, Homes::new(dir.path())).unwrap_err();
    let reason = "has format version 5, and this program reads versions up to 4; go back";
    assert!(error.to_string().contains(reason), "{error}");
}

/// A host of before there were passwords.
#[test]
fn an_older_file_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(SCHEMA).unwrap();
    old.execute_batch(
        "PRAGMA user_version = 1;
         INSERT INTO domain VALUES ('example.org', NULL, 0);
         INSERT INTO user VALUES
             ('example.org', 'anna', 5, NULL, 'refuse', 1, NULL, 'tag', 0);",
    )
    .unwrap();
    drop(old);
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let accounts = Accounts::open(&path, Homes::new(dir.path())).unwrap();
        secrets.push(accounts.secret().to_vec());
        let user = accounts.user(&anna().address).unwrap().unwrap();
        assert_eq!(user.settings.quota.bytes, Some(5));
        assert_eq!(user.settings.spam, SpamPolicy::Tag);
        assert_eq!(user.settings.password, None);
    }
    assert_eq!((secrets[0].len(), &secrets[0]), (32, &secrets[1]));
    let accounts = Accounts::open(&path, Homes::new(dir.path())).unwrap();
    accounts.change(|change| change.put_user(&anna())).unwrap();
    assert_eq!(accounts.user(&anna().address).unwrap(), Some(anna()));
}

#[test]
fn only_the_owner_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.db");
    let _accounts = Accounts::open(&path, Homes::new(dir.path())).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
}
