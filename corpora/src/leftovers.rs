//! What filters leave while they run goes also when this process is told to
//! end: their commands, their daemons, the folder of their databases.
//!
//! At SIGHUP, SIGINT or SIGTERM ([`WorkFolder::new`] listens) no command begins any
//! more, those that run are killed, daemons ended, the folder removed, and this
//! process ends by the same signal. A second signal ends it at once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Process numbers; each command leads a process group.
struct Left {
    commands: BTreeSet<u32>,
    daemons: BTreeSet<u32>,
}

/// Who cleans up never gives it back: whatever would begin or end something
/// waits there for the end of the process.
static LEFT: Mutex<Left> = Mutex::new(Left {
    commands: BTreeSet::new(),
    daemons: BTreeSet::new(),
});

/// Read while a daemon starts, which cannot be found before it has written its
/// number: a signal waits for that.
static STARTING: RwLock<()> = RwLock::new(());

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To be held from before a daemon is started until [`Daemon::of`] knows it.
pub(crate) fn starting() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// A command that is running.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut left = left();
        let child = command.process_group(0).spawn()?;
        left.commands.insert(child.id());
        Ok(Self(child))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        left().commands.remove(&self.0.id());
    }
}

/// A process that commands talk to. Ended when this is dropped, also by an
/// error in the midst of a run.
pub(crate) struct Daemon {
    pub(crate) pid: u32,
}

impl Daemon {
    pub(crate) fn of(pid: u32) -> Self {
        left().daemons.insert(pid);
        Self { pid }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(self.pid);
        left().daemons.remove(&self.pid);
    }
}

/// Asks a process to end, which is no child of ours, and waits until it has. One
/// that takes its time is killed, with the group that it leads.
fn end(pid: u32) {
    if !signal("-TERM", &pid.to_string()) {
        return; // It has gone already.
    }
    let process = Path::new("/proc").join(pid.to_string());
    for _ in 0..100 {
        if !process.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    signal("-KILL", &format!("-{pid}"));
    signal("-KILL", &pid.to_string());
}

fn signal(name: &str, target: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args([name, "--", target]).stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

/// A folder for the files of filters, which goes with this value or with the
/// process.
pub(crate) struct WorkFolder(PathBuf);

impl WorkFolder {
    /// In `parent`, which is made if it is missing.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let folder = tempfile::Builder::new()
            .prefix("bmfeval-")
            .tempdir_in(parent)?;
        let folder = Self(folder.keep());
        let path = folder.0.clone();
        thread::spawn(move || {
            let mut signals = signals.forever();
            if let Some(first) = signals.next() {
                thread::spawn(move || clean_up(&path, first));
            }
            if let Some(second) = signals.next() {
                let _ = emulate_default_handler(second);
            }
        });
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _left = left();
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn clean_up(folder: &Path, received: i32) {
    let _none_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let left = left();
    for command in &left.commands {
        signal("-KILL", &format!("-{command}"));
    }
    for daemon in &left.daemons {
        end(*daemon);
    }
    // What was killed, or our own threads, may still be about to write a file.
    for _ in 0..20 {
        if fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = emulate_default_handler(received);
}
