//! The only changes that a reader makes, and only when asked: taking out what
//! gives a label away.

/// What to take out of each message.
#[derive(Clone, Debug, Default)]
pub struct Strip {
    /// Header fields.
    pub headers: Vec<FieldPattern>,
    /// The `From ` line of an mbox.
    pub mbox_from: bool,
}

/// A name of header fields, in any case; each `*` in it stands for anything.
#[derive(Clone, Debug)]
pub struct FieldPattern {
    text: String,
    /// Whether a field was taken out by it.
    has_matched: bool,
}

impl FieldPattern {
    /// Reads what a person writes: a colon at the end is tolerated.
    ///
    /// # Errors
    /// When no field can be called so (RFC 5322 §2.2), said for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix(':').unwrap_or(text);
        let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("no name of a header field: {text:?}"));
        }
        Ok(Self {
            text: name.to_owned(),
            has_matched: false,
        })
    }

    fn matches(&self, name: &[u8]) -> bool {
        matches(self.text.as_bytes(), name)
    }
}

/// Whether `pattern`, with its stars, stands for `name`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (Some((b'*', rest)), _) => (0..=name.len()).any(|n| matches(rest, &name[n..])),
        (Some((wanted, pattern)), Some((found, name))) => {
            wanted.eq_ignore_ascii_case(found) && matches(pattern, name)
        }
        (None, None) => true,
        _ => false,
    }
}

impl Strip {
    /// The patterns by which nothing was taken out so far.
    pub fn unmatched(&self) -> impl Iterator<Item = &str> {
        let unmatched = self.headers.iter().filter(|pattern| !pattern.has_matched);
        unmatched.map(|pattern| pattern.text.as_str())
    }

    pub(super) fn apply(&mut self, message: &mut Vec<u8>) {
        if self.mbox_from && message.starts_with(b"From ") {
            let end = memchr::memchr(b'\n', message).map_or(message.len(), |at| at + 1);
            message.drain(..end);
        }
        if !self.headers.is_empty() {
            *message = self.without_headers(message);
        }
    }

    fn without_headers(&mut self, message: &[u8]) -> Vec<u8> {
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

    fn names(&mut self, line: &[u8]) -> bool {
        let Some(colon) = memchr::memchr(b':', line) else {
            return false;
        };
        let name = line[..colon].trim_ascii_end();
        let mut is_named = false;
        for pattern in &mut self.headers {
            if pattern.matches(name) {
                pattern.has_matched = true;
                is_named = true;
            }
        }
        is_named
    }
}
