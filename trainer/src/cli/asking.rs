//! Asking the daemon, where one has the database open.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use classifier::Error as Classifier;
use classifier::cli::wire::{HEADER_LEN, Header, Reply, Request};
use classifier::store::lmdb::Access;

use crate::Error;
use crate::config::Config;
use crate::daemon::open_unless;

/// A connection to the daemon.
pub(super) struct Daemon {
    stream: UnixStream,
    socket: PathBuf,
}

/// A backup of a large database to another disk takes a while.
const PATIENCE: Duration = Duration::from_secs(3600);

impl Daemon {
    /// The daemon that has the database open; `None`: it was opened here,
    /// unless it is missing and only to be read.
    ///
    /// A daemon that begins or ends has it open while nobody listens. That is
    /// waited for, and so is another command.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub(super) fn find(config: &Config, access: Access) -> anyhow::Result<Option<Self>> {
        let mut daemon = Self::connect(config);
        let is_nothing = access == Access::ReadOnly && !config.databases.path().exists();
        if daemon.is_some() || is_nothing {
            return Ok(daemon);
        }
        let opened = open_unless(config, || {
            daemon = Self::connect(config);
            daemon.is_some()
        });
        match opened {
            Err(_) if daemon.is_some() => Ok(daemon),
            Err(error @ Error::Database(Classifier::Locked { .. })) => {
                let socket = config.listening.socket.display();
                Err(error).context(format!("and nobody listens at {socket}"))
            }
            opened => Ok(opened.map(|()| None)?),
        }
    }

    /// `None`: nobody listens.
    pub(super) fn connect(config: &Config) -> Option<Self> {
        let socket = config.listening.socket.clone();
        let stream = UnixStream::connect(&socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Self { stream, socket })
    }

    /// What it says, unless it refuses.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> anyhow::Result<Reply> {
        let socket = self.socket.clone();
        self.exchange(request)
            .with_context(|| format!("bmfd at {}", socket.display()))
    }

    fn exchange(&mut self, request: &Request<'_>) -> anyhow::Result<Reply> {
        let request = request.to_bytes().context("the input is too long")?;
        let sent = self.stream.write_all(&request);
        let mut head = [0; HEADER_LEN];
        if let Err(error) = self.stream.read_exact(&mut head) {
            sent?;
            return Err(error.into());
        }
        let header = Header::parse(&head)?;
        let mut content = Vec::new();
        let limit = header.len.into();
        let n = (&self.stream).take(limit).read_to_end(&mut content)?;
        if n != header.len as usize {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        match Reply::parse(header, &content)? {
            Reply::Refused(_, reason) => bail!(reason),
            reply => Ok(reply),
        }
    }
}
