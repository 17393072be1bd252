//! Our host, as `postern init` makes it.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use classifier::modern::{Act, Keep, Lesson, learn};
use classifier::store::Durability;
use classifier_rocksdb::{HostStore, Options};
use corpora::Message;
use tempfile::TempDir;
use tests::programs::built;

use super::load::free_port;
use super::{Contender, MODEL_CACHE_MIB, Server, USERS};

const BOUND: Duration = Duration::from_secs(60);

pub(super) struct Ours {
    process: Child,
    pub(super) port: u16,
    dir: TempDir,
}

impl Ours {
    /// Starts it below `folder`. With lessons, users have learned them and
    /// their mail is scored; without, it is not.
    pub(super) fn start(
        folder: &Path,
        routes: &[(&str, u16)],
        lessons: Option<&[Message]>,
    ) -> anyhow::Result<Self> {
        let route = |(domain, port): &(&str, u16)| {
            format!("[[route]]\ndomain = \"{domain}\"\nhost = \"127.0.0.1\"\nport = {port}\n")
        };
        Self::prepare(
            folder,
            &routes.iter().map(route).collect::<String>(),
            lessons,
        )
    }

    /// With more sections in its configuration, and no filter.
    pub(super) fn start_with(folder: &Path, sections: &str) -> anyhow::Result<Self> {
        Self::prepare(folder, sections, None)
    }

    fn prepare(folder: &Path, sections: &str, lessons: Option<&[Message]>) -> anyhow::Result<Self> {
        let dir = TempDir::new_in(folder)?;
        let port = free_port()?;
        let data = dir.path().join("data");
        let config = dir.path().join("postern.toml");
        let postern = |arguments: &[&str]| -> anyhow::Result<()> {
            let mut command = Command::new(built("postern"));
            command.arg("--config").arg(&config).args(arguments);
            let output = command.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{arguments:?}: {said}");
            Ok(())
        };
        let shown = data.display().to_string();
        postern(&["init", "example.org", "--user", "root", "--data", &shown])?;
        fs::write(&config, configuration(dir.path(), port, sections))?;
        let filter = if lessons.is_some() { "on" } else { "off" };
        for user in 0..USERS {
            let address = format!("u{user}@example.org");
            postern(&["user", "add", &address, "--filter", filter])?;
            if let Some(lessons) = lessons {
                teach(&data.join("models"), &address, lessons)?;
            }
        }
        let process = Command::new(built("postern"))
            .arg("--config")
            .arg(&config)
            .arg("serve")
            .stderr(File::create(dir.path().join("log"))?)
            .spawn()?;
        let ours = Self { process, port, dir };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(ours.dir.path().join("log")).unwrap_or_default();
            ensure!(start.elapsed() < BOUND, "postern does not start: {}", log());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(ours)
    }

    pub(super) fn contender(self, name: &'static str) -> Contender {
        let mut maildirs: Vec<PathBuf> = Vec::new();
        for user in 0..USERS {
            let maildir = format!("data/mail/example.org/u{user}/Maildir");
            let maildir = self.dir.path().join(maildir);
            // Moved mail is learned, and what is old may be moved on.
            for folder in ["new", ".Junk/new"] {
                maildirs.push(maildir.join(folder));
            }
        }
        Contender {
            name,
            port: self.port,
            maildirs,
            server: Server::Ours(self),
        }
    }

    /// A field of /proc/PID/status, in MiB.
    pub(super) fn memory(&self, field: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: f64 = number.context("the server has ended")?.parse()?;
        Ok(kibibytes / 1024.0)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(dir: &Path, port: u16, sections: &str) -> String {
    let dir = dir.display();
    format!(
        "host = \"mail.example.org\"\ndata = \"{dir}/data\"\nuser = \"root\"\n\
         [listen]\nsmtp = [\"127.0.0.1:{port}\"]\nlocal = \"{dir}/local\"\n\
         max_sessions = 2000\nmax_sessions_per_client = 2000\n\
         [filter]\nmodel_cache_bytes = {}\n{sections}",
        MODEL_CACHE_MIB << 20
    )
}

fn teach(models: &Path, user: &str, mail: &[Message]) -> anyhow::Result<()> {
    let host = HostStore::open(models, &Options::default())?;
    let mut model = host.model(user);
    for mail in mail.chunks(500) {
        let lesson = |message: &Message| Lesson::new(&message.bytes, Act::Learn(message.label));
        let lessons: Vec<Lesson> = mail.iter().map(lesson).collect();
        learn(
            &mut model,
            &lessons,
            1,
            &Keep::default(),
            Durability::Relaxed,
        )?;
    }
    Ok(())
}
