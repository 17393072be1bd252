//! A checkpoint, and the way back.

use std::fs;

use classifier::Error;
use classifier::store::{Durability, TokenStore};

use super::{open, seen, spam};

#[test]
fn restores_the_state_of_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let host = open(&live);
    let mut ann = host.user("ann");
    ann.apply(&spam(&["before"]), Durability::Relaxed).unwrap();
    host.checkpoint(&copy).unwrap();
    ann.apply(&spam(&["after"]), Durability::Synced).unwrap();
    host.user("bob")
        .apply(&spam(&["after"]), Durability::Synced)
        .unwrap();
    drop((ann, host));

    fs::remove_dir_all(&live).unwrap();
    fs::rename(&copy, &live).unwrap();
    let host = open(&live);
    assert_eq!(host.users().unwrap(), ["ann"]);
    let mut ann = host.user("ann");
    assert_eq!(seen(&ann, "before"), (1, 1));
    assert_eq!(seen(&ann, "after"), (0, 1));

    // And it is alive.
    ann.apply(&spam(&["after"]), Durability::Synced).unwrap();
    drop((ann, host));
    assert_eq!(seen(&open(&live).user("ann"), "after"), (1, 2));
}

#[test]
fn overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(&dir.path().join("live"));
    let error = host.checkpoint(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
