//! Replies: RFC 5321 §4.2, with enhanced status codes (RFC 3463, RFC 2034).

use std::borrow::Cow;
use std::fmt;
use std::io;

/// Three digits that say what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyCode(u16);

/// `class.subject.detail`: RFC 3463.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about.
    pub subject: u16,
    /// What exactly.
    pub detail: u16,
}

/// What is answered to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What programs act upon.
    pub code: ReplyCode,
    /// The same in more detail; not with greetings and EHLO (RFC 2034 §4).
    pub enhanced: Option<EnhancedCode>,
    /// For people. Each line of it becomes a line of the reply; what may not
    /// stand there is replaced when it is written.
    pub text: Cow<'static, str>,
}

impl ReplyCode {
    /// A code of RFC 5321 §4.2.1, 200 to 599, else `None`.
    pub const fn new(code: u16) -> Option<Self> {
        if matches!(code, 200..=599) {
            Some(Self(code))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// 2yz: it is done.
    pub const fn is_positive(self) -> bool {
        self.0 / 100 == 2
    }

    /// 3yz: go on.
    pub const fn is_intermediate(self) -> bool {
        self.0 / 100 == 3
    }

    /// 4yz: try again later.
    pub const fn is_transient(self) -> bool {
        self.0 / 100 == 4
    }

    /// 5yz: do not try again.
    pub const fn is_permanent(self) -> bool {
        self.0 / 100 == 5
    }
}

impl EnhancedCode {
    /// Reads `5.1.1` from the beginning of a reply's text; also gives the rest.
    pub fn read(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = word.split('.').map(str::parse::<u16>);
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let code = Self {
            class: u8::try_from(class.ok()?).ok()?,
            subject: subject.ok()?,
            detail: detail.ok()?,
        };
        let valid = matches!(code.class, 2 | 4 | 5) && code.subject < 1000 && code.detail < 1000;
        (valid && parts.next().is_none()).then_some((code, rest))
    }
}

impl Reply {
    /// A reply with an enhanced code, `Reply::new(550, (5, 1, 1), "no such user")`.
    ///
    /// # Panics
    /// When `code` is none, which a test of whoever wrote it would show.
    pub fn new(
        code: u16,
        (class, subject, detail): (u8, u16, u16),
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        let enhanced = EnhancedCode {
            class,
            subject,
            detail,
        };
        Self {
            enhanced: Some(enhanced),
            ..Self::plain(code, text)
        }
    }

    /// RFC 5321 §4.2.3: 452 when that is what is wrong.
    pub fn for_full_disk(error: &io::Error) -> Option<Self> {
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        is_full.then(|| Self::new(452, (4, 3, 1), "the disk is full, try again later"))
    }

    /// A reply without one.
    ///
    /// # Panics
    /// As [`Reply::new`].
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: ReplyCode::new(code).expect("the codes of our own replies are codes"),
            enhanced: None,
            text: text.into(),
        }
    }

    /// Appends the reply as it goes over the wire. Lines that would be too
    /// long become several; anything but printable ASCII becomes `?`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let enhanced = self.enhanced.map(|code| format!("{code} "));
        let prefix = enhanced.unwrap_or_default();
        let mut lines = self.text.lines().flat_map(wrapped).peekable();
        if lines.peek().is_none() {
            out.extend_from_slice(format!("{} {prefix}\r\n", self.code).as_bytes());
        }
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            out.extend_from_slice(format!("{}{separator}{prefix}", self.code).as_bytes());
            let printable = |b: &u8| if matches!(b, b' '..=b'~') { *b } else { b'?' };
            out.extend(line.iter().map(printable));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Pieces short enough for RFC 5321 §4.5.3.1.5 (512 octets with code and CRLF).
fn wrapped(line: &str) -> impl Iterator<Item = &[u8]> {
    const MAX_TEXT: usize = 480;
    let empty = line.is_empty().then_some(line.as_bytes());
    line.as_bytes().chunks(MAX_TEXT).chain(empty)
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Display for Reply {
    /// In one line, for logs and reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt(f)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.text.lines().try_for_each(|line| write!(f, " {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_on_the_wire() {
        for (reply, expected) in [
            (Reply::new(250, (2, 0, 0), "ok"), "250 2.0.0 ok\r\n"),
            (Reply::plain(220, "x ESMTP"), "220 x ESMTP\r\n"),
            (Reply::plain(250, ""), "250 \r\n"),
            (Reply::plain(250, "a\nb\nc"), "250-a\r\n250-b\r\n250 c\r\n"),
            (
                Reply::new(550, (5, 7, 1), "a\r\nb\tü"),
                "550-5.7.1 a\r\n550 5.7.1 b???\r\n",
            ),
        ] {
            assert_eq!(written(&reply), expected);
        }
    }

    #[test]
    fn long_text_is_wrapped() {
        let text = written(&Reply::new(550, (5, 7, 1), "x".repeat(1000)));
        assert!(text.split_inclusive("\r\n").all(|line| line.len() <= 512));
        assert_eq!(text.matches('x').count(), 1000);
        assert!(text.starts_with("550-5.7.1 x") && text.contains("\n550 5.7.1 x"));
    }

    #[test]
    fn enhanced_codes_are_read() {
        let code = |class, subject, detail| EnhancedCode {
            class,
            subject,
            detail,
        };
        for (text, expected) in [
            ("5.1.1 no such user", Some((code(5, 1, 1), "no such user"))),
            ("2.0.0", Some((code(2, 0, 0), ""))),
            ("4.7.100 x", Some((code(4, 7, 100), "x"))),
            ("3.0.0 x", None),
            ("5.1 x", None),
            ("5.1.1.1 x", None),
            ("5.1.1000 x", None),
            ("no such user", None),
            ("", None),
        ] {
            assert_eq!(EnhancedCode::read(text), expected, "{text:?}");
        }
    }
}
