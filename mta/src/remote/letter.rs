//! A message on its way out. Destinations may be slow, so that many wait at
//! once: what is not small stays in its file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::dialogue::Wire;

/// A message with LF line ends.
#[derive(Clone, Debug)]
pub struct Letter {
    source: Source,
    octets: u64,
    is_ascii: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Vec<u8>),
    /// From the first number, so many bytes.
    File(Arc<File>, u64, u64),
}

/// Up to so many bytes are in memory.
const MAX_IN_MEMORY: u64 = 64 * 1024;
/// What is in a file is read in such pieces.
const PIECE: usize = 256 * 1024;

impl Letter {
    /// The `size` bytes of `file` that begin at `start`. Blocks.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(file: &File, start: u64, size: u64) -> io::Result<Self> {
        let mut letter = Self {
            source: Source::Memory(Vec::new()),
            octets: 0,
            is_ascii: true,
        };
        let mut wire = Wire::default();
        let mut piece = Vec::new();
        let mut at = 0;
        while at < size {
            piece = part(file, start + at, size - at)?;
            at += piece.len() as u64;
            letter.is_ascii &= piece.is_ascii();
            letter.octets += wire.push(&piece).len() as u64;
        }
        letter.octets += wire.end().len() as u64;
        letter.source = match size <= MAX_IN_MEMORY {
            true => Source::Memory(piece),
            false => Source::File(Arc::new(file.try_clone()?), start, size),
        };
        Ok(letter)
    }

    /// How many octets go over the wire, with the dot at the end.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// How many bytes there are, with LF line ends.
    pub fn size(&self) -> u64 {
        match &self.source {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File(_, _, size) => *size,
        }
    }

    /// Whether BODY=7BIT is enough.
    pub fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// All of it, if it is in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Memory(bytes) => Some(bytes),
            Source::File(..) => None,
        }
    }

    /// A piece of what follows the first `at` bytes.
    pub(super) async fn piece(&self, at: u64) -> io::Result<Vec<u8>> {
        match &self.source {
            Source::Memory(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                Ok(bytes.get(at..).unwrap_or_default().to_vec())
            }
            Source::File(file, start, size) => {
                let (file, start, left) = (Arc::clone(file), start + at, size - at);
                let read = tokio::task::spawn_blocking(move || part(&file, start, left));
                read.await.map_err(io::Error::other)?
            }
        }
    }
}

#[cfg(test)]
impl From<&[u8]> for Letter {
    fn from(message: &[u8]) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, message).unwrap();
        Self::read(&file, 0, message.len() as u64).unwrap()
    }
}

/// A piece at `start`, of which `left` bytes may be read.
fn part(file: &File, start: u64, left: u64) -> io::Result<Vec<u8>> {
    let n = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
    let mut bytes = vec![0; n];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::dialogue::data;

    #[tokio::test]
    async fn a_letter_is_sent_as_it_is_wherever_it_lies() {
        for n in [0, 1, 64 * 1024, 64 * 1024 + 1, 3 * PIECE, 3 * PIECE + 7] {
            // Dots stand at the beginning of lines at all places of a piece.
            let message: Vec<u8> = b".\n..\nabc\n".iter().copied().cycle().take(n).collect();
            let letter = Letter::from(&message[..]);
            assert_eq!(letter.in_memory().is_some(), n as u64 <= MAX_IN_MEMORY);
            let (mut wire, mut sent, mut at) = (Wire::default(), Vec::new(), 0);
            while at < letter.size() {
                let piece = letter.piece(at).await.unwrap();
                at += piece.len() as u64;
                sent.extend(wire.push(&piece));
            }
            sent.extend(wire.end());
            assert_eq!(sent, data(&message));
            assert_eq!(letter.octets(), sent.len() as u64);
            assert!(letter.is_ascii());
        }
        assert!(!Letter::from("é".as_bytes()).is_ascii());
    }
}
