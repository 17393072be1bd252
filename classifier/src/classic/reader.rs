//! Messages out of a stream that holds one message or an mbox.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Deref;

use memchr::memmem;
use memmap2::Mmap;

/// How messages lie in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One message. bmf calls that a maildir.
    Single,
    /// Any number, each beginning with a `From ` line.
    Mbox,
}

/// The bytes of one message.
#[derive(Debug)]
pub enum Message {
    /// In memory.
    Memory(Vec<u8>),
    /// Longer than [`MAX_IN_MEMORY`]: in a file that has no name any more.
    Spilled(Mmap),
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Spilled(map) => map,
        }
    }
}

/// Longest message in bytes that is kept in memory.
pub const MAX_IN_MEMORY: usize = 64 << 20;

/// Reads one message after the other, of which any number may follow.
///
/// bmf's mbox: every line that begins with `From ` begins a message, whether
/// or not a blank line stands before it, and nothing is unquoted. Holds one
/// message and a chunk of 64 KiB in memory, never more.
#[derive(Debug)]
pub struct MessageReader<R> {
    source: R,
    layout: Layout,
    buffer: Vec<u8>,
    /// Where in `buffer` the next message begins.
    start: usize,
    /// Up to where `buffer` was searched for that message's end.
    searched: usize,
    at_end: bool,
}

const CHUNK: usize = 64 << 10;
const MARK: &[u8] = b"From ";
const NEXT_MARK: &[u8] = b"\nFrom ";

impl<R: Read> MessageReader<R> {
    /// Reads enough of `source` to see what it holds: an mbox, if it is longer
    /// than five bytes and begins with `From `.
    ///
    /// # Errors
    /// When `source` cannot be read.
    pub fn new(source: R) -> io::Result<Self> {
        let mut reader = Self {
            source,
            layout: Layout::Single,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            at_end: false,
        };
        reader.fill()?;
        if reader.buffer.len() > MARK.len() && reader.buffer.starts_with(MARK) {
            reader.layout = Layout::Mbox;
        }
        Ok(reader)
    }

    /// What the input holds.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Takes all of the input for one message, whatever it looks like.
    pub fn read_as_single(&mut self) {
        self.layout = Layout::Single;
    }

    /// The next message; `None` at the end of the input, which an empty input
    /// has at once.
    ///
    /// # Errors
    /// When the input cannot be read, or a long message not spilled.
    pub fn next_message(&mut self) -> io::Result<Option<Message>> {
        let end = loop {
            if let Some(end) = self.find_end() {
                break end;
            }
            if self.buffer.len() - self.start > MAX_IN_MEMORY {
                return self.spill().map(Some);
            }
            if self.at_end {
                break self.buffer.len();
            }
            self.fill()?;
        };
        if end == self.start {
            return Ok(None);
        }
        Ok(Some(Message::Memory(self.take(end))))
    }

    /// Appends a chunk to the buffer, or finds the end of the input.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        // Else `read_to_end` begins with 32 bytes.
        self.buffer.reserve(CHUNK);
        let mut chunk = self.source.by_ref().take(CHUNK as u64);
        self.at_end = chunk.read_to_end(&mut self.buffer)? < CHUNK;
        Ok(())
    }

    /// Where in the buffer the message ends, if the next one's mark is there.
    fn find_end(&mut self) -> Option<usize> {
        if self.layout == Layout::Single {
            return None;
        }
        if let Some(n) = memmem::find(&self.buffer[self.searched..], NEXT_MARK) {
            return Some(self.searched + n + 1);
        }
        // A mark may lie across the border of two chunks.
        let border = self.buffer.len().saturating_sub(NEXT_MARK.len() - 1);
        self.searched = border.max(self.start);
        None
    }

    /// Gives out the buffer up to `end`.
    fn take(&mut self, end: usize) -> Vec<u8> {
        let start = std::mem::replace(&mut self.start, end);
        self.searched = end;
        if start > 0 || end < self.buffer.len() {
            return self.buffer[start..end].to_vec();
        }
        self.start = 0;
        self.searched = 0;
        std::mem::take(&mut self.buffer)
    }

    /// Moves the message that fills the buffer, and what follows of it, to a
    /// file without a name.
    fn spill(&mut self) -> io::Result<Message> {
        let mut file = tempfile::tempfile()?;
        loop {
            let end = self.find_end();
            let whole = end.is_some() || self.at_end;
            // Else keeps what may be the begin of a mark.
            let end = end.unwrap_or(match self.at_end {
                true => self.buffer.len(),
                false => self.buffer.len() - (NEXT_MARK.len() - 1),
            });
            // Not by `take`, which would copy all of it once more.
            file.write_all(&self.buffer[self.start..end])?;
            self.start = end;
            self.searched = end;
            if whole {
                break;
            }
            self.fill()?;
        }
        file.seek(SeekFrom::Start(0))?;
        map(&file).map(Message::Spilled)
    }
}

/// A map of a file that only this process knows.
#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file never had a name, and this process neither writes nor
    // truncates it from here on, so that the mapped bytes stay as they are.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives `data` out in pieces of `sizes` bytes.
    struct Pieces<'a> {
        data: &'a [u8],
        sizes: Vec<usize>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.sizes.pop().unwrap_or(usize::MAX);
            let n = n.min(buf.len()).min(self.data.len());
            buf[..n].copy_from_slice(&self.data[..n]);
            self.data = &self.data[n..];
            Ok(n)
        }
    }

    fn read_all(source: impl Read) -> Vec<Vec<u8>> {
        let mut reader = MessageReader::new(source).unwrap();
        let mut messages = Vec::new();
        while let Some(message) = reader.next_message().unwrap() {
            messages.push(message.to_vec());
        }
        messages
    }

    fn check(input: &str, expected: &[&str]) {
        let expected: Vec<_> = expected.iter().map(|m| m.as_bytes().to_vec()).collect();
        assert_eq!(read_all(input.as_bytes()), expected, "of {input:?}");
    }

    #[test]
    fn splits_at_every_from_line() {
        check("", &[]);
        check("A: b\n\nFrom x\n", &["A: b\n\nFrom x\n"]);
        check("From ", &["From "]);
        check("From a\nFrom b\n\nFrom", &["From a\n", "From b\n\nFrom"]);
        check(
            "From a\n>From b\nFrom\tc\n",
            &["From a\n>From b\nFrom\tc\n"],
        );
    }

    #[test]
    fn reads_an_mbox_as_one_message_when_told_so() {
        let mut reader = MessageReader::new(b"From a\nFrom b\n".as_slice()).unwrap();
        assert_eq!(reader.layout(), Layout::Mbox);
        reader.read_as_single();
        let message = reader.next_message().unwrap().unwrap();
        assert_eq!(&*message, b"From a\nFrom b\n");
    }

    #[test]
    fn spills_a_long_message_and_finds_the_next() {
        let long = [b"From a\n", vec![b'x'; 65 << 20].as_slice(), b"\n"].concat();
        let input = [long.as_slice(), b"From b\nshort\n"].concat();
        let mut reader = MessageReader::new(input.as_slice()).unwrap();
        let first = reader.next_message().unwrap().unwrap();
        assert!(matches!(first, Message::Spilled(_)));
        assert!(*first == *long);
        assert_eq!(
            &*reader.next_message().unwrap().unwrap(),
            b"From b\nshort\n"
        );
        assert!(reader.next_message().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn the_sizes_of_reads_do_not_matter(
            input in "(From |\n|From|x ){0,40}",
            sizes in proptest::collection::vec(1usize..8, 0..40),
        ) {
            let whole = read_all(input.as_bytes());
            let pieces = read_all(Pieces { data: input.as_bytes(), sizes });
            prop_assert_eq!(&whole, &pieces);
            prop_assert_eq!(whole.concat(), input.as_bytes());
        }
    }
}
