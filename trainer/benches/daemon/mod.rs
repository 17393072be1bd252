//! `bmfd serve` of a bench.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// See the module; it ends with the value.
pub(crate) struct Daemon(pub(crate) Child);

impl Daemon {
    /// With all that is its own, and mailboxes, in `dir`.
    pub(crate) fn start(dir: &Path, config: &str, log: Stdio) -> Self {
        let config = format!(
            "database.path = '{0}/lib'\nservice.socket = '{0}/socket'\n\
             mailboxes.patterns = ['{0}/home/*/Maildir']\n{config}",
            dir.display()
        );
        fs::write(dir.join("bmfd.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bmfd"));
        command.arg("-c").arg(dir.join("bmfd.toml")).arg("serve");
        Self(command.stderr(log).spawn().unwrap())
    }

    pub(crate) fn resident_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
