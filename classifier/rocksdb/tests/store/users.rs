//! Users come, go and change their names.

use classifier::TrainedMessages;
use classifier::store::{Durability, Entry, TokenStore};
use classifier_rocksdb::Renamed;

use super::{listed, open, seen, spam};

#[test]
fn deleting_one_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    // Names of which one begins with another, and that sort around "ann".
    let names = ["an", "ann", "ann@example.org", "anna", "bob", "ünal"];
    for name in names {
        let changes = spam(&["word", name]);
        host.user(name).apply(&changes, Durability::Synced).unwrap();
    }
    assert_eq!(host.users().unwrap(), names);

    let mut old = host.user("ann");
    assert!(host.delete("ann").unwrap());
    assert!(!host.delete("ann").unwrap(), "nobody of that name any more");
    assert_eq!(host.users().unwrap().len(), names.len() - 1);
    for name in names.into_iter().filter(|name| *name != "ann") {
        assert_eq!(seen(&host.user(name), "word"), (1, 1), "{name}");
        assert_eq!(seen(&host.user(name), name), (1, 1), "{name}");
    }

    // A store handed out before is the next ann's, who starts with nothing.
    assert_eq!(seen(&old, "word"), (0, 0));
    old.apply(&spam(&["new"]), Durability::Synced).unwrap();
    drop((old, host));
    let host = open(dir.path());
    assert_eq!(seen(&host.user("ann"), "new"), (1, 1));
    assert_eq!(listed(&host.user("ann")).unwrap().1.len(), 1);
}

#[test]
fn a_renamed_user_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let mut ann = host.user("ann");
    ann.apply(&spam(&["word"]), Durability::Synced).unwrap();
    host.user("bob")
        .apply(&spam(&["bobs"]), Durability::Synced)
        .unwrap();

    assert_eq!(host.rename("ann", "bob").unwrap(), Renamed::NameTaken);
    assert_eq!(host.rename("eve", "eva").unwrap(), Renamed::NoSuchUser);
    assert_eq!(host.rename("ann", "anna").unwrap(), Renamed::Done);
    drop((ann, host));
    let host = open(dir.path());
    assert_eq!(host.users().unwrap(), ["anna", "bob"]);
    assert_eq!(seen(&host.user("anna"), "word"), (1, 1));
    assert_eq!(seen(&host.user("ann"), "word"), (0, 0));
    assert_eq!(seen(&host.user("bob"), "bobs"), (1, 1));
}

/// More than one batch; the other users do not notice.
#[test]
fn replaces_large_lists() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let mut ann = host.user("ann");
    ann.apply(&spam(&["gone"]), Durability::Synced).unwrap();
    let mut bob = host.user("bob");
    bob.apply(&spam(&["kept"]), Durability::Synced).unwrap();

    let tokens: Vec<_> = (0..100_000u32).map(|n| format!("t{n:06}")).collect();
    let trained = TrainedMessages { ham: 7, spam: 8 };
    for _ in 0..2 {
        let mut entries = (0u32..).zip(&tokens).map(|(n, token)| Entry {
            token: token.as_bytes(),
            ham: Some(n),
            spam: (n % 2 == 0).then_some(n),
        });
        ann.replace(trained, &mut entries).unwrap();
    }
    let (found, rows) = listed(&ann).unwrap();
    assert_eq!(found, trained);
    assert_eq!(rows.len(), tokens.len());
    assert_eq!(rows[99_998].2, Some(99_998));
    assert_eq!(rows[99_999].2, None);
    assert_eq!(listed(&bob).unwrap().1.len(), 1);
}
