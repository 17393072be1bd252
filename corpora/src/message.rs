//! One labelled message, and a collection of them.

use classifier::Label;
use sha2::{Digest, Sha256};

/// A message with what a person says of it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its name within the collection: a path, or a number in an mbox.
    pub id: String,
    /// The gold standard: what it is.
    pub label: Label,
    /// What a run does with it.
    pub role: Role,
    /// The message as it lies on disk, not one byte changed.
    pub bytes: Vec<u8>,
}

/// What a run does with a message; a TREC index says it by letter case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Classify it, then give feedback (`spam`).
    #[default]
    ClassifyAndTrain,
    /// Classify it, and never tell (`Spam`).
    ClassifyOnly,
    /// Tell, and do not ask (`SPAM`).
    TrainOnly,
}

/// Messages in order of reception, all in memory.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Where it came from, as a person named it.
    pub name: String,
    /// SHA-256 over the label, length and bytes of each message in order, in
    /// hexadecimal: two runs with the same number saw the same mail.
    pub checksum: String,
    /// In order of reception, as far as the source tells.
    pub messages: Vec<Message>,
}

impl Collection {
    /// Names `messages` and sums them up.
    pub fn new(name: String, messages: Vec<Message>) -> Self {
        let mut hash = Sha256::new();
        for message in &messages {
            hash.update(message.label.name());
            hash.update((message.bytes.len() as u64).to_le_bytes());
            hash.update(&message.bytes);
        }
        let digest = hash.finalize();
        Self {
            name,
            checksum: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            messages,
        }
    }
}
