//! A message while it comes in: in memory while it is small, else in a file
//! without a name, so that a crash leaves nothing behind.
//!
//! What is kept are the octets of the message with LF line ends and without
//! transparency dots, as they lie in a Maildir. The session has refused every
//! CR or LF that stood alone, so that writing CRLF for LF gives back what came
//! in.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

/// A message that has not been delivered yet.
#[derive(Debug)]
pub struct Message {
    /// The whole message, or nothing when there is a file.
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
    spool: PathBuf,
}

impl Message {
    /// Above this many bytes a message leaves memory.
    pub const MAX_IN_MEMORY: usize = 128 * 1024;

    /// An empty message. When it grows it goes to a file in the folder
    /// `spool`, which is best on the file system where it will stay.
    pub fn new(spool: impl Into<PathBuf>) -> Self {
        Self {
            memory: Vec::new(),
            file: None,
            len: 0,
            spool: spool.into(),
        }
    }

    /// Appends `bytes`. Blocks on the disk once the message is large.
    ///
    /// # Errors
    /// When the file cannot be made or written, as on a full disk. The message
    /// is of no use then.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(bytes);
        }
        if !self.leaves_memory(bytes.len()) {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::open(&self.spool, flags, mode)?);
        file.write_all(&self.memory)?;
        self.memory = Vec::new();
        self.file.insert(file).write_all(bytes)
    }

    /// The same message behind `header`. Blocks on the disk once it is large.
    ///
    /// # Errors
    /// As [`Message::write`] and [`Message::bytes`].
    pub fn behind(&self, header: &[u8]) -> io::Result<Self> {
        let mut message = Self::new(&self.spool);
        message.write(header)?;
        message.write(&self.bytes()?)?;
        Ok(message)
    }

    /// Whether [`Message::write`] of `n` more bytes would use the disk.
    pub fn leaves_memory(&self, n: usize) -> bool {
        self.file.is_some() || self.memory.len() + n > Self::MAX_IN_MEMORY
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All bytes, if they are in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        self.file.is_none().then_some(&self.memory)
    }

    /// The file without a name, if the bytes are there. It can be given one by
    /// linking `/proc/self/fd/N`; its offset is anywhere.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// All bytes; those of a large message are read from the disk.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        let Some(file) = &self.file else {
            return Ok(Cow::Borrowed(&self.memory));
        };
        let mut file = file;
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        file.read_to_end(&mut bytes)?;
        Ok(Cow::Owned(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_messages_come_back_and_leave_no_file() {
        for n in [
            0,
            1,
            Message::MAX_IN_MEMORY,
            Message::MAX_IN_MEMORY + 1,
            500_000,
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut message = Message::new(folder.path());
            let bytes: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
            for chunk in bytes.chunks(10_000) {
                message.write(chunk).unwrap();
            }
            assert_eq!(message.len(), n as u64);
            assert_eq!(message.bytes().unwrap(), bytes);
            assert_eq!(message.bytes().unwrap(), bytes, "a second time");
            assert_eq!(message.in_memory().is_some(), n <= Message::MAX_IN_MEMORY);
            let behind = message
                .behind(b"X: y\n")
                .unwrap()
                .bytes()
                .unwrap()
                .into_owned();
            assert_eq!(behind, [b"X: y\n", bytes.as_slice()].concat());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_spool_that_is_not_there_is_an_error_only_when_it_is_needed() {
        let mut message = Message::new("/nonexistent/spool");
        message.write(b"small").unwrap();
        let large = vec![0; Message::MAX_IN_MEMORY];
        assert!(message.write(&large).is_err());
    }
}
