//! The calls by which a program changes files, as strace shows them in a run of
//! it. One that is not known fails the test: a list that is too short would
//! leave steps untried.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use crate::programs::peer;

/// What shows every call on files.
pub const TRACE: &str = "trace=%file,%desc";

/// What a program may call beside what all do.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// Changes files, or makes changes last.
    pub steps: &'static [&'static str],
    /// Changes none, unless a flag says so.
    pub looks: &'static [&'static str],
}

/// A call that changes files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which call.
    pub name: String,
    /// Which one of its name in its thread, from 1, as strace counts.
    pub nth: usize,
    /// Whether the program's first thread makes it.
    pub is_of_first_thread: bool,
}

/// strace with these options; what it runs is still missing.
pub fn strace(log: &Path, options: &[&str]) -> Command {
    let mut strace = peer("strace");
    strace
        .args(["-f", "-y", "-qq", "-s0", "-o"])
        .arg(log)
        .args(options);
    strace
}

const ALL: Calls = Calls {
    steps: &[
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
    ],
    looks: &[
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
        "ioctl",
        "lseek",
        "lstat",
        "mmap",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "poll",
        "pread64",
        "read",
        "readahead",
        "readlink",
        "readlinkat",
        "readv",
        "stat",
        "statfs",
        "statx",
    ],
};

/// Flags by which opening changes a file.
const CREATING: &[&str] = &["O_CREAT", "O_TRUNC", "O_TMPFILE"];

/// What strace prints for a descriptor that is no file on a disk.
const NO_FILE: &[&str] = &["<anon_inode:", "<socket:", "<TCP", "<UNIX", "<pipe:"];

/// The steps of a run, in order.
///
/// # Panics
/// When there is a call that is neither known to all nor among `more`.
pub fn of(log: &str, more: &Calls) -> Vec<Step> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    let (mut steps, mut unknown) = (Vec::new(), BTreeSet::new());
    let mut first_thread = None;
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or((line, ""));
        let call = call.trim_start();
        // The end of a call that was begun while another thread made one.
        let Some((name, rest)) = call.split_once('(').filter(|_| !call.starts_with('<')) else {
            continue;
        };
        let is_of_first_thread = *first_thread.get_or_insert(thread) == thread;
        let nth = seen.entry((thread, name)).or_default();
        *nth += 1;
        let creates = CREATING.iter().any(|flag| call.contains(flag));
        let is_step = ALL.steps.contains(&name) || more.steps.contains(&name);
        let changes = is_step || (name.starts_with("open") && creates);
        if !changes && !ALL.looks.contains(&name) && !more.looks.contains(&name) {
            unknown.insert(name);
        }
        let first = rest.split(',').next().unwrap_or_default();
        if changes && !NO_FILE.iter().any(|kind| first.contains(kind)) {
            steps.push(Step {
                name: name.to_owned(),
                nth: *nth,
                is_of_first_thread,
            });
        }
    }
    assert!(unknown.is_empty(), "the test does not know {unknown:?}");
    steps
}
