//! Kills a program in place of any of its calls that change files.
//!
//! strace counts the calls of each thread by itself, so that with threads that
//! share the work a moment does not come again. Here the calls of all threads
//! are counted together: the n-th call of a run is met in every run that makes
//! so many.
//!
//! Who traces a process hears of all its threads, and must not be the one that
//! asks how it ends. So this is a process of its own: the same test binary, of
//! which [`killer`] is a test.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::steps::{CHANGING, CHANGING_OF_OLD};

/// Which call, from 1.
const NTH: &str = "POSTERN_KILLED_AT";
/// What is run: the program and its arguments, a line each.
const PROGRAM: &str = "POSTERN_KILLED_PROGRAM";

/// What is printed before the name of the call.
const KILLED: &str = "killed in place of ";

/// `program` as it is killed in place of its `nth` call that changes files.
///
/// It has the standard output and error of the command. The binary that calls
/// this must have a test `killer` that calls [`killer`].
pub fn killed_at(nth: usize, program: &Command) -> Command {
    let mut words = vec![program.get_program().to_str().unwrap()];
    words.extend(program.get_args().map(|word| word.to_str().unwrap()));
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "killer", "--nocapture", "--test-threads=1"])
        .envs(
            program
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env(NTH, nth.to_string())
        .env(PROGRAM, words.join("\n"));
    command
}

/// The call that was killed, by what such a command printed; `None` when the
/// run ended before.
pub fn call_of(output: &str) -> Option<&str> {
    let (_, rest) = output.split_once(KILLED)?;
    rest.lines().next()
}

/// Ends the program of this killer, whose `nth` call did not come.
pub fn end(killer: u32) {
    for thread in fs::read_dir(format!("/proc/{killer}/task")).unwrap() {
        let children = fs::read_to_string(thread.unwrap().path().join("children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let child = Pid::from_raw(child.parse().unwrap());
            kill(child, Signal::SIGKILL).unwrap();
        }
    }
}

/// Does what [`killed_at`] says, in the process that it starts.
pub fn killer() {
    let (Ok(nth), Ok(words)) = (env::var(NTH), env::var(PROGRAM)) else {
        return;
    };
    // The shell waits until it is traced, and becomes the program.
    let mut child = Command::new("sh")
        .args(["-c", "read -r go && exec \"$@\" </dev/null", "sh"])
        .args(words.lines())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let process = Pid::from_raw(child.id().try_into().unwrap());
    ptrace::seize(
        process,
        Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_EXITKILL,
    )
    .unwrap();
    ptrace::interrupt(process).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    if let Some(name) = follow(process, nth.parse().unwrap()) {
        println!("{KILLED}{name}");
    }
    // It was waited for where it was followed.
    drop(child.wait());
}

/// Follows a process and all that it begins until it ends, and kills it in
/// place of its `nth` call that changes files; which call that was.
fn follow(process: Pid, nth: usize) -> Option<&'static str> {
    let (mut n, mut killed) = (0, None);
    // Each call stops its thread twice: before and after.
    let mut within = HashSet::new();
    loop {
        let stopped = waitpid(None, Some(WaitPidFlag::__WALL)).unwrap();
        // With a signal that it is to get.
        let (thread, signal) = match stopped {
            WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..) => {
                if thread == process {
                    return killed;
                }
                continue;
            }
            WaitStatus::PtraceSyscall(thread) => {
                let begins = within.insert(thread);
                if !begins {
                    within.remove(&thread);
                }
                if let Some(name) = changing(thread).filter(|_| begins) {
                    n += 1;
                    if n == nth {
                        kill(process, Signal::SIGKILL).unwrap();
                        killed = Some(name);
                        continue;
                    }
                }
                (thread, None)
            }
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            other => panic!("{other:?}"),
        };
        match ptrace::syscall(thread, signal) {
            // It was killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("{thread}: {error}"),
        }
    }
}

/// The call that a thread is about to make, when it changes files.
fn changing(thread: Pid) -> Option<&'static str> {
    // Number, arguments in hexadecimal digits, two registers: proc(5).
    let call = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let arguments: Vec<u64> = words
        .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap())
        .collect();
    let numbers = CHANGING.iter().chain(CHANGING_OF_OLD);
    let (_, name) = numbers.copied().find(|(of, _)| *of == number)?;
    let flags = match name {
        "open" => arguments[1],
        "openat" => arguments[2],
        // The first word of what it points to.
        "openat2" => ptrace::read(thread, arguments[2] as *mut _).ok()? as u64,
        _ => libc::O_CREAT as u64,
    };
    let creates = [libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE];
    let creates = creates
        .iter()
        .any(|flag| flags & *flag as u64 == *flag as u64);
    (creates && is_file(thread, arguments[0])).then_some(name)
}

/// Whether the first argument of a call is no descriptor of something that is
/// no file.
fn is_file(thread: Pid, descriptor: u64) -> bool {
    let path = fs::read_link(format!("/proc/{thread}/fd/{descriptor}"));
    let path = path.unwrap_or_default();
    let kinds = ["pipe:", "socket:", "anon_inode:"];
    !kinds
        .iter()
        .any(|kind| path.to_string_lossy().starts_with(kind))
}
