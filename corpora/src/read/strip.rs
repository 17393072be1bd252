//! The only changes that a reader makes, and only when asked: taking out what
//! gives a label away.

/// What to take out of each message.
#[derive(Clone, Debug, Default)]
pub struct Strip {
    /// Names of header fields, in any case. A name that ends in `*` stands for
    /// all that begin like it.
    pub headers: Vec<String>,
    /// The `From ` line of an mbox.
    pub mbox_from: bool,
}

impl Strip {
    pub(super) fn apply(&self, message: &mut Vec<u8>) {
        if self.mbox_from && message.starts_with(b"From ") {
            let end = memchr::memchr(b'\n', message).map_or(message.len(), |at| at + 1);
            message.drain(..end);
        }
        if !self.headers.is_empty() {
            *message = self.without_headers(message);
        }
    }

    fn without_headers(&self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len());
        let mut rest = message;
        let mut dropping = false;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            if matches!(line, b"\n" | b"\r\n") {
                break;
            }
            let folded = line.starts_with(b" ") || line.starts_with(b"\t");
            dropping = if folded { dropping } else { self.names(line) };
            if !dropping {
                out.extend_from_slice(line);
            }
            rest = after;
        }
        out.extend_from_slice(rest);
        out
    }

    fn names(&self, line: &[u8]) -> bool {
        let Some(colon) = memchr::memchr(b':', line) else {
            return false;
        };
        let name = line[..colon].trim_ascii_end();
        self.headers.iter().any(|header| {
            let header = header.as_bytes();
            match header.strip_suffix(b"*") {
                Some(begin) => {
                    name.len() >= begin.len() && name[..begin.len()].eq_ignore_ascii_case(begin)
                }
                None => name.eq_ignore_ascii_case(header),
            }
        })
    }
}
