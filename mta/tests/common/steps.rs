//! The calls by which the host changes files.

use std::fs;
use std::path::Path;

use tests::steps;

/// Calls of the host beside what all make, which change none.
const LOOKS: [&str; 6] = [
    "inotify_add_watch",
    "inotify_init1",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "ppoll",
];

/// The calls of a run that change files, by strace's log of it.
pub fn of(log: &Path) -> Vec<String> {
    steps::of(&fs::read_to_string(log).unwrap(), &LOOKS)
}
