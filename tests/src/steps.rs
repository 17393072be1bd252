//! The calls by which a program changes files, as strace shows them in a run of
//! it. One that is not known fails the test: a list that is too short would
//! leave steps untried.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::Command;

use nix::libc;

use crate::programs::peer;

/// What shows every call on files.
pub const TRACE: &str = "trace=%file,%desc";

/// `program` as strace shows its calls in `log`, with these options.
pub fn traced(log: &Path, options: &[&str], program: &Command) -> Command {
    let mut strace = peer("strace");
    strace
        .args(["-f", "-y", "-qq", "-s0", "-o"])
        .arg(log)
        .args(options)
        .arg(program.get_program())
        .args(program.get_args());
    let variables = program.get_envs();
    strace.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    strace
}

/// Every call by which a program changes files, or makes changes last. Opening
/// only does with a flag of [`CREATING`].
pub(crate) const CHANGING: &[(i64, &str)] = &[
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchmodat, "fchmodat"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_fchownat, "fchownat"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_fremovexattr, "fremovexattr"),
    (libc::SYS_fsetxattr, "fsetxattr"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_lremovexattr, "lremovexattr"),
    (libc::SYS_lsetxattr, "lsetxattr"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_mknodat, "mknodat"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_pwritev, "pwritev"),
    (libc::SYS_pwritev2, "pwritev2"),
    (libc::SYS_removexattr, "removexattr"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_setxattr, "setxattr"),
    (libc::SYS_splice, "splice"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_sync, "sync"),
    (libc::SYS_sync_file_range, "sync_file_range"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_utimensat, "utimensat"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
];

/// And those that newer machines do without.
#[cfg(target_arch = "x86_64")]
pub(crate) const CHANGING_OF_OLD: &[(i64, &str)] = &[
    (libc::SYS_chmod, "chmod"),
    (libc::SYS_chown, "chown"),
    (libc::SYS_creat, "creat"),
    (libc::SYS_futimesat, "futimesat"),
    (libc::SYS_lchown, "lchown"),
    (libc::SYS_link, "link"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mknod, "mknod"),
    (libc::SYS_open, "open"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_utime, "utime"),
    (libc::SYS_utimes, "utimes"),
];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const CHANGING_OF_OLD: &[(i64, &str)] = &[];

/// Calls that change none.
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
    "ioctl",
    "lseek",
    "lstat",
    "mmap",
    "newfstatat",
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
];

/// Flags by which opening changes a file.
const CREATING: &[&str] = &["O_CREAT", "O_TRUNC", "O_TMPFILE"];

/// What strace prints for a descriptor that is no file on a disk.
const NO_FILE: &[&str] = &["<anon_inode:", "<socket:", "<TCP", "<UNIX", "<pipe:"];

/// The calls of a run that change files, in order.
///
/// # Panics
/// When there is a call that is neither known to all nor among `looks`, which
/// this program makes and which change none.
pub fn of(log: &str, looks: &[&str]) -> Vec<String> {
    let changing: HashSet<&str> = CHANGING
        .iter()
        .chain(CHANGING_OF_OLD)
        .map(|(_, name)| *name)
        .collect();
    let (mut steps, mut unknown) = (Vec::new(), BTreeSet::new());
    for line in log.lines() {
        let call = line
            .split_once(' ')
            .map_or("", |(_, call)| call.trim_start());
        // The end of a call that was begun while another thread made one.
        let Some((name, rest)) = call.split_once('(').filter(|_| !call.starts_with('<')) else {
            continue;
        };
        if !changing.contains(name) {
            if !LOOKS.contains(&name) && !looks.contains(&name) {
                unknown.insert(name);
            }
            continue;
        }
        let creates = CREATING.iter().any(|flag| call.contains(flag));
        let first = rest.split(',').next().unwrap_or_default();
        let is_file = !NO_FILE.iter().any(|kind| first.contains(kind));
        if is_file && (creates || !name.starts_with("open")) {
            steps.push(name.to_owned());
        }
    }
    assert!(unknown.is_empty(), "the test does not know {unknown:?}");
    steps
}
