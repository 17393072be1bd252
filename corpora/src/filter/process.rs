//! Runs one command of somebody else's filter.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::leftovers::{Daemon, Running};

/// What a command left behind.
pub(super) struct Finished {
    /// `None`: killed by a signal.
    pub(super) exit_code: Option<i32>,
    pub(super) stdout: String,
}

/// The files through which a filter's commands are fed.
pub(super) struct Workplace {
    folder: PathBuf,
    message: PathBuf,
    stderr: PathBuf,
}

impl Workplace {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            message: folder.join("message"),
            stderr: folder.join("stderr"),
        }
    }

    /// Where the commands run.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that holds the message at hand.
    pub(super) fn message(&self) -> &Path {
        &self.message
    }

    pub(super) fn put(&self, message: &[u8]) -> Result<(), Error> {
        fs::write(&self.message, message).map_err(Error::io("write", &self.message))
    }

    /// Runs a command with the message as its standard input. Both ends that
    /// could fill up while we wait for the other are files, so that no pair
    /// of pipes can block.
    pub(super) fn run(&self, program: &Path, arguments: &[OsString]) -> Result<Finished, Error> {
        let stdin: Stdio = match File::open(&self.message) {
            Ok(file) => file.into(),
            Err(_) => Stdio::null(),
        };
        let stderr = File::create(&self.stderr).map_err(Error::io("make", &self.stderr))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(stderr);
        if let Some(libraries) = peer_libraries() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let mut running = Running::spawn(&mut command).map_err(Error::io("run", program))?;
        let Running(child) = &mut running;
        let mut stdout = Vec::new();
        if let Some(pipe) = &mut child.stdout {
            pipe.read_to_end(&mut stdout)
                .map_err(Error::io("read the output of", program))?;
        }
        let status = child.wait().map_err(Error::io("wait for", program))?;
        Ok(Finished {
            exit_code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
        })
    }

    /// Most resident memory of a command, which is run once more for that.
    ///
    /// `None` without time(1). The system's own account of a child cannot be
    /// used: it begins with the memory of whoever started it, which here is a
    /// process that holds whole collections.
    pub(super) fn peak_memory(&self, program: &Path, arguments: &[OsString]) -> Option<u64> {
        let time = Path::new("/usr/bin/time");
        let report = self.folder.join("time");
        let mut timed: Vec<OsString> = vec!["-f".into(), "%M".into(), "-o".into()];
        timed.extend([report.clone().into(), program.into()]);
        timed.extend_from_slice(arguments);
        if !time.is_file() || self.run(time, &timed).is_err() {
            return None;
        }
        // A line about a failing command may stand before the figure.
        let kilobytes: u64 = fs::read_to_string(report)
            .ok()?
            .lines()
            .last()?
            .parse()
            .ok()?;
        Some(kilobytes * 1024)
    }

    /// What the last command complained about, for an error message.
    pub(super) fn complaint(&self) -> String {
        let text = fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..text.len().min(4096)]).into_owned();
        let line = text.lines().find(|line| !line.trim().is_empty());
        line.map_or_else(String::new, |line| format!(": {}", line.trim()))
    }

    /// Sum of the sizes of the files below `folder`.
    pub(super) fn bytes_below(folder: &Path) -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => Self::bytes_below(&entry.path()),
                Ok(meta) => meta.len(),
                Err(_) => 0,
            })
            .sum()
    }
}

/// The process whose number stands in the file `path`.
pub(super) fn daemon(path: &Path) -> Result<Daemon, Error> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let pid = text.trim().parse().map_err(io::Error::other);
    let pid = pid.map_err(Error::io("find a process number in", path))?;
    Ok(Daemon::of(pid))
}

/// Most resident memory of a daemon and its children, added up; `None` where
/// the system does not tell.
pub(super) fn peak_memory(daemon: &Daemon) -> Option<u64> {
    let peak = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kilobytes * 1024)
    };
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid);
    let children = fs::read_to_string(children).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|n| n.parse().ok());
    Some(peak(daemon.pid)? + children.filter_map(peak).sum::<u64>())
}

/// The first of `programs` that is found: below the folder that
/// `POSTERN_PEERS` names (unpacked packages), else along `PATH`, else where
/// daemons lie.
pub(super) fn find_program(programs: &[String]) -> Option<PathBuf> {
    let peers = std::env::var_os("POSTERN_PEERS").map(PathBuf::from);
    let peers = peers.map(|root| [root.join("usr/bin"), root.join("usr/sbin")]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = peers
        .into_iter()
        .flatten()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into()])
        .collect();
    folders
        .iter()
        .flat_map(|folder| programs.iter().map(move |program| folder.join(program)))
        .find(|candidate| candidate.is_file())
}

/// Unpacked programs bring the libraries that the machine may lack.
fn peer_libraries() -> Option<OsString> {
    let root = PathBuf::from(std::env::var_os("POSTERN_PEERS")?);
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = [triple.as_str(), "rspamd"].map(|folder| root.join("usr/lib").join(folder));
    std::env::join_paths(folders).ok()
}
