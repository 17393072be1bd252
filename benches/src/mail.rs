//! The mail that is raced with, written to files once.
//!
//! The same bytes on every machine: a recorded collection is checked against
//! its pins, so that numbers of two days can be compared.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ::tests::programs;
use anyhow::ensure;
use classifier::Label;
use classifier::classic::{self, MessageReader};
use corpora::Message;
use corpora::generate::{Generator, Options};
use corpora::read::{self, Strip};
use memchr::memmem;

/// How many messages take turns where single messages are raced.
const N_SAMPLES: usize = 20;

/// Bytes of these messages: "about 5 kB".
const SAMPLE_BYTES: std::ops::RangeInclusive<usize> = 4_500..=5_500;

/// Of the spamassassin corpus: messages in bulk.mbox, its FNV-1a, the words in
/// it, and the FNV-1a of the samples.
const PINS: [Pin; 2] = [
    (4_000, 0xb95e_2b40_9515_b246, 1649077, 0xf3f5_d4a0_f3a2_8d68),
    (400, 0x8c05_5d3d_0ed2_c4aa, 171_271, 0xf3f5_d4a0_f3a2_8d68),
];

type Pin = (usize, u64, usize, u64);

/// Files with mail, and what they hold.
#[derive(Debug)]
pub(crate) struct Mail {
    /// Where it comes from, for people.
    pub(crate) source: String,
    is_generated: bool,
    /// All that databases are trained on.
    pub(crate) ham: PathBuf,
    /// As `ham`.
    pub(crate) spam: PathBuf,
    /// Ham and spam, shuffled.
    pub(crate) bulk: PathBuf,
    /// How many messages are in `bulk`, and their bytes.
    pub(crate) n_bulk: usize,
    pub(crate) bulk_bytes: u64,
    /// Names the bytes of `bulk`.
    pub(crate) bulk_hash: u64,
    /// Single messages.
    pub(crate) samples: Vec<Sample>,
    pub(crate) samples_hash: u64,
}

/// A message of about 5 kB.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) path: PathBuf,
    pub(crate) label: Label,
    pub(crate) bytes: Vec<u8>,
}

impl Mail {
    /// Writes the spamassassin corpus, where it is unpacked, or else generated
    /// mail to `folder`.
    pub(crate) fn prepare(folder: &Path, n_bulk: usize) -> anyhow::Result<Self> {
        let corpus = programs::repository().join("target/corpora/spamassassin");
        let (source, messages) = if corpus.is_dir() {
            // A shuffled order that is part of the corpus.
            let index = corpus.join("index.shuffled-1");
            let messages = read::labelled(&index, &mut Strip::default())?.messages;
            (
                format!("spamassassin corpus, {} messages", messages.len()),
                messages,
            )
        } else {
            let n_messages = 6_000;
            let options = Options {
                seed: 1,
                n_messages,
                ..Options::default()
            };
            let source = format!("bmfeval generate, seed 1, {n_messages} messages");
            (source, Generator::new(&options).collect())
        };
        let mut mail = Self::write(folder, source, &messages, n_bulk)?;
        mail.is_generated = !corpus.is_dir();
        Ok(mail)
    }

    fn write(
        folder: &Path,
        source: String,
        messages: &[Message],
        n_bulk: usize,
    ) -> anyhow::Result<Self> {
        ensure!(messages.len() >= n_bulk, "{source} are too few");
        let of = |label| {
            messages
                .iter()
                .filter(move |message| message.label == label)
        };
        let [ham, spam, bulk] =
            ["ham.mbox", "spam.mbox", "bulk.mbox"].map(|name| folder.join(name));
        write_mbox(&ham, of(Label::Ham))?;
        write_mbox(&spam, of(Label::Spam))?;
        write_mbox(&bulk, messages.iter().take(n_bulk))?;
        let fitting = messages
            .iter()
            .filter(|message| SAMPLE_BYTES.contains(&message.bytes.len()));
        let mut samples = Vec::new();
        for (n, message) in fitting.take(N_SAMPLES).enumerate() {
            let path = folder.join(format!("sample-{n:02}.eml"));
            fs::write(&path, &message.bytes)?;
            samples.push(Sample {
                path,
                label: message.label,
                bytes: message.bytes.clone(),
            });
        }
        ensure!(samples.len() == N_SAMPLES, "{source} hold too few of 5 kB");
        let bulk_bytes = fs::read(&bulk)?;
        Ok(Self {
            source,
            is_generated: true,
            ham,
            spam,
            n_bulk,
            bulk_bytes: bulk_bytes.len() as u64,
            bulk_hash: fnv(FNV_BASIS, &bulk_bytes),
            samples_hash: samples
                .iter()
                .fold(FNV_BASIS, |hash, s| fnv(hash, &s.bytes)),
            bulk,
            samples,
        })
    }

    /// The messages of `bulk`.
    pub(crate) fn bulk_messages(&self) -> anyhow::Result<Vec<classic::Message>> {
        let mut reader = MessageReader::new(fs::File::open(&self.bulk)?)?;
        let mut messages = Vec::new();
        while let Some(message) = reader.next_message()? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// Whether the mail and the words found in `bulk` are those that all
    /// recorded numbers were measured with.
    pub(crate) fn check_pins(&self, n_words: usize) -> anyhow::Result<()> {
        let here = (self.n_bulk, self.bulk_hash, n_words, self.samples_hash);
        ensure!(
            self.is_generated || PINS.contains(&here),
            "{}: not the mail or not the words of the recorded runs: {here:#x?}",
            self.source,
        );
        Ok(())
    }
}

fn write_mbox<'a>(path: &Path, messages: impl Iterator<Item = &'a Message>) -> anyhow::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for message in messages {
        let mut rest = message.bytes.as_slice();
        if !rest.starts_with(b"From ") {
            file.write_all(b"From bench@example.org Thu Jan  1 00:00:00 1970\n")?;
        }
        // mboxrd's quoting, without which a message would become two.
        while let Some(n) = memmem::find(rest, b"\nFrom ") {
            file.write_all(&rest[..=n])?;
            file.write_all(b">")?;
            rest = &rest[n + 1..];
        }
        file.write_all(rest)?;
        file.write_all(if rest.ends_with(b"\n") {
            b"\n"
        } else {
            b"\n\n"
        })?;
    }
    Ok(file.flush()?)
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a with 64 bits: names bytes, and needs no crate. Goes on from `hash`.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_the_published_one() {
        // draft-eastlake-fnv, section 6.
        assert_eq!(fnv(FNV_BASIS, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(FNV_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
    }
}
