//! Folders are made, also by programs that are stopped while they do.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};

use super::*;
use crate::sys::each_step;

/// A user who is neither root nor whoever runs this.
const OTHER: u32 = 12345;

#[test]
fn a_fault_at_any_step_of_making_a_folder_is_mended_by_making_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = Mailbox::open(dir.path(), ".".as_ref(), Layout::MaildirPlusPlus).unwrap();
    let name = FolderName::parse("Lists", Layout::MaildirPlusPlus).unwrap();
    let path = dir.path().join(".Lists");
    let make = || mailbox.create_folder(&name).is_ok();
    each_step(make, |fault, step, _| {
        assert!(make(), "{fault:?} at {step}");
        for part in ["tmp", "new", "cur", "maildirfolder"] {
            let is_there = path.join(part).exists();
            assert!(is_there, "no {part} after {fault:?} at {step}");
        }
        std::fs::remove_dir_all(&path).unwrap();
    });
}

#[test]
fn a_folder_for_somebody_else_is_his_wherever_making_it_was_stopped() {
    for layout in [Layout::MaildirPlusPlus, Layout::Nested] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("Maildir");
        std::fs::create_dir(&root).unwrap();
        if chown(&root, Some(OTHER), Some(OTHER)).is_err() {
            ::tests::skip("only root can make folders for others");
            return;
        }
        let mailbox = Mailbox::open(dir.path(), "Maildir".as_ref(), layout).unwrap();
        let name = FolderName::parse("Lists/Rust", layout).unwrap();
        let path = root.join(name.path(layout));
        let make = || mailbox.create_folder(&name).is_ok();
        let mut n_missing = 0;
        each_step(make, |fault, step, is_made| {
            let at = format!("{fault:?} at {step}");
            // What looks for it meanwhile finds it whole or not at all.
            let found = mailbox.folder(&name).expect(&at);
            n_missing += usize::from(found.is_none());
            assert!(found.is_some() || !is_made, "{at}");
            assert!(make(), "{at}");
            for part in ["", "tmp", "new", "cur"] {
                let owner = std::fs::metadata(path.join(part)).unwrap().uid();
                assert_eq!(owner, OTHER, "{part:?} after {at}");
            }
            let outermost = path.strip_prefix(&root).unwrap().iter().next();
            std::fs::remove_dir_all(root.join(outermost.unwrap())).unwrap();
        });
        assert!(n_missing > 10, "stopped only {n_missing} times");
    }
}

#[test]
fn what_we_made_and_others_could_have_used_is_given_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    if chown(dir.path(), Some(OTHER), Some(OTHER)).is_err() {
        ::tests::skip("only root can make folders for others");
        return;
    }
    let mailbox = Mailbox::open(dir.path(), ".".as_ref(), Layout::Nested).unwrap();
    for (name, mode, file) in [("open", 0o755, None), ("full", 0o700, Some("secret"))] {
        let path = dir.path().join(name);
        std::fs::DirBuilder::new().mode(mode).create(&path).unwrap();
        if let Some(file) = file {
            std::fs::write(path.join(file), "ours").unwrap();
        }
        let folder = FolderName::parse(name, Layout::Nested).unwrap();
        for refused in [
            mailbox.folder(&folder).map(drop),
            mailbox.create_folder(&folder).map(drop),
        ] {
            let found = refused.expect_err(name);
            assert!(matches!(found, Error::Foreign { .. }), "{name}: {found}");
        }
        assert_ne!(std::fs::metadata(&path).unwrap().uid(), OTHER, "{name}");
    }
}
