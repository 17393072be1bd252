//! Servers of others that run only where they were installed: they are laid
//! over the system in a mount namespace of their own. That needs root.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::programs::peers_root;

/// `$DIR` is a folder of its own, `$ROOT` that of the peers.
const LAY: &str = "\
for top in usr etc; do mkdir -p $DIR/upper/$top $DIR/scratch/$top && mount -t overlay overlay \
    -o lowerdir=$ROOT/$top:/$top,upperdir=$DIR/upper/$top,workdir=$DIR/scratch/$top /$top || exit; done
";

/// Longer than any of them takes to start, also on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// A server of others; ends with its namespace when this is dropped.
#[derive(Debug)]
pub struct Overlaid {
    process: Child,
    dir: PathBuf,
    /// The same, if it goes with the server.
    kept: Option<TempDir>,
}

/// Whether there can be one here.
pub fn is_possible() -> bool {
    let status = Command::new("unshare").args(["-m", "true"]).status();
    status.is_ok_and(|status| status.success())
}

/// Runs `script` to its end over the system, with `$DIR` at `dir`; what it
/// prints.
pub fn run(dir: &Path, script: &str) -> Output {
    let mut command = laid(dir, script);
    command.stdin(Stdio::null()).output().unwrap()
}

fn laid(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &format!("{LAY}{script}")])
        .env("DIR", dir)
        .env("ROOT", peers_root());
    command
}

impl Overlaid {
    /// Runs `script`, which must end on SIGTERM and end what it started, with
    /// files of its own in `dir`; returns when `port` answers on loopback.
    pub fn start(dir: TempDir, script: &str, port: u16) -> Self {
        let mut overlaid = Self::start_in(dir.path(), script, port);
        overlaid.kept = Some(dir);
        overlaid
    }

    /// The same in somebody else's folder.
    pub fn start_in(dir: &Path, script: &str, port: u16) -> Self {
        // Servers give up their rights, and still look for their files.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        let log = File::create(dir.join("said")).unwrap();
        let process = laid(dir, script)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut overlaid = Self {
            process,
            dir: dir.to_owned(),
            kept: None,
        };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = overlaid.process.try_wait().unwrap().is_some();
            assert!(!has_ended && begin.elapsed() < BOUND, "{}", overlaid.log());
            thread::sleep(Duration::from_millis(20));
        }
        overlaid
    }

    /// What it said, and wrote into `log`.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        read("said") + &read("log")
    }

    /// A file of its.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Overlaid {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let _ = self.process.wait();
    }
}
