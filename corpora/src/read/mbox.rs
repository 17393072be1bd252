//! Splits an mbox (RFC 4155) into its messages.

/// The messages of `text`, each with its `From ` line and with the blank line
/// that ends it: put together again they give `text`. What does not begin
/// with a `From ` line is one message.
///
/// A `From ` line counts after a blank line only, so that one that a writer
/// forgot to quote inside a paragraph does not cut a message in two.
pub(super) fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if rest.starts_with(b"From ") {
            next_message(rest).unwrap_or(rest.len())
        } else {
            rest.len()
        };
        let (message, after) = rest.split_at(end);
        rest = after;
        Some(message)
    })
}

fn next_message(text: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(text, b"\nFrom ")
        .map(|at| at + 1)
        .find(|start| {
            let before = &text[..*start];
            before.ends_with(b"\n\n") || before.ends_with(b"\n\r\n")
        })
}
