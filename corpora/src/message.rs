//! One labelled message.

use classifier::Label;

/// A message with what a person says of it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its name within the collection: a path, or a number in an mbox.
    pub id: String,
    /// The gold standard: what it is.
    pub label: Label,
    /// The message as it lies on disk, not one byte changed.
    pub bytes: Vec<u8>,
}

/// The word for a label in index files and results: `ham` or `spam`.
pub fn label_name(label: Label) -> &'static str {
    match label {
        Label::Ham => "ham",
        Label::Spam => "spam",
    }
}
