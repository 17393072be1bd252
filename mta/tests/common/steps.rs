//! The calls by which the host changes files.

use std::collections::BTreeSet;

use tests::steps::{self, Calls};

const CALLS: Calls = Calls {
    steps: &["chmod", "lchown", "renameat", "symlink"],
    looks: &[
        "inotify_add_watch",
        "inotify_init1",
        "landlock_add_rule",
        "landlock_create_ruleset",
        "landlock_restrict_self",
        "ppoll",
    ],
};

/// The steps of a run: a call, and which one of its name in its thread it is.
pub fn of(log: &str) -> BTreeSet<(String, usize)> {
    let all = steps::of(log, &CALLS).into_iter();
    all.map(|step| (step.name, step.nth)).collect()
}
