//! The calls by which a program changes files, as strace shows them in a run of
//! it. One that is not known here fails the test: a list that is too short
//! would leave steps untried.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use tests::programs::peer;

/// What shows every call on files.
pub const TRACE: &str = "trace=%file,%desc";

/// strace with these options; what it runs is still missing.
pub fn strace(log: &Path, options: &[&str]) -> Command {
    let mut strace = peer("strace");
    strace
        .args(["-f", "-y", "-qq", "-s0", "-o"])
        .arg(log)
        .args(options);
    strace
}

/// Calls that change files, or make changes last.
const STEPS: &[&str] = &[
    "chmod",
    "fallocate",
    "fchmod",
    "fchown",
    "fdatasync",
    "fsync",
    "ftruncate",
    "linkat",
    "mkdir",
    "mkdirat",
    "pwrite64",
    "rename",
    "renameat2",
    "sync_file_range",
    "unlink",
    "unlinkat",
    "utimensat",
    "write",
    "writev",
];

/// Calls on files and connections that change no file, unless a flag says so.
const LOOKS: &[&str] = &[
    "access",
    "close",
    "dup",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd2",
    "execve",
    "fadvise64",
    "fcntl",
    "flock",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "inotify_add_watch",
    "inotify_init1",
    "ioctl",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lseek",
    "lstat",
    "mmap",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "poll",
    "ppoll",
    "pread64",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "stat",
    "statfs",
    "statx",
];

/// Flags by which opening changes a file.
const CREATING: &[&str] = &["O_CREAT", "O_TRUNC", "O_TMPFILE"];

/// What strace prints for a descriptor that is no file on a disk.
const NO_FILE: &[&str] = &["<anon_inode:", "<socket:", "<TCP", "<UNIX", "<pipe:"];

/// The steps of a run: a call, and which one of its name in its thread it is.
pub fn of(log: &str) -> BTreeSet<(String, usize)> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    let (mut steps, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        // The end of a call that was begun while another thread made one.
        let Some((name, rest)) = call.split_once('(').filter(|_| !call.starts_with('<')) else {
            continue;
        };
        let nth = seen.entry((thread, name)).or_default();
        *nth += 1;
        let creates = CREATING.iter().any(|flag| call.contains(flag));
        let changes = STEPS.contains(&name) || (name.starts_with("open") && creates);
        if !changes && !LOOKS.contains(&name) {
            unknown.insert(name);
        }
        let first = rest.split(',').next().unwrap();
        if changes && !NO_FILE.iter().any(|kind| first.contains(kind)) {
            steps.insert((name.to_owned(), *nth));
        }
    }
    assert!(unknown.is_empty(), "the test does not know {unknown:?}");
    steps
}
