//! The name of a message file: `unique,S=size,W=vsize:2,FLAGS`.
//!
//! Sources: D. J. Bernstein, "Using maildir format"; the size hints are
//! Courier's and Dovecot's. A name is bytes that users may choose: any file
//! name that does not begin with a dot is one, and it is printed escaped.
//!
//! ```
//! use mailbox::{Flags, MessageName};
//!
//! let name = MessageName::parse(b"1700000000.M1P2.host,S=1200,W=1230:2,FS").unwrap();
//! assert_eq!(name.base(), b"1700000000.M1P2.host,S=1200,W=1230");
//! assert_eq!((name.bytes(), name.bytes_with_crlf()), (Some(1200), Some(1230)));
//! assert!(name.flags().contains(Flags::FLAGGED));
//! ```

use std::ffi::OsStr;
use std::fmt;
use std::ops::BitOr;
use std::os::unix::ffi::OsStrExt;

/// The name of a message file, kept byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageName {
    /// Not empty, does not begin with a dot, holds neither `/` nor NUL.
    raw: Box<[u8]>,
}

impl MessageName {
    /// Takes the name of a file. `None` for what is never a message: names
    /// that begin with a dot, and what no file can be called.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let possible =
            !raw.is_empty() && !raw.starts_with(b".") && !raw.iter().any(|b| matches!(b, b'/' | 0));
        possible.then(|| Self { raw: raw.into() })
    }

    /// The name as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// The name for system calls.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.raw)
    }

    /// The part that stays when flags change; it identifies the message
    /// within a folder.
    pub fn base(&self) -> &[u8] {
        self.split().0
    }

    /// The flags; none when the name has no `:2,` part.
    pub fn flags(&self) -> Flags {
        Flags::parse(self.split().1)
    }

    /// This name with other flags, as it must stand in `cur`.
    #[must_use]
    pub fn with_flags(&self, flags: Flags) -> Self {
        let raw = [self.base(), b":2,", flags.to_string().as_bytes()].concat();
        Self { raw: raw.into() }
    }

    /// The size of the file according to its name (`S=`). A hint: whoever may
    /// rename the file may write anything there.
    pub fn bytes(&self) -> Option<u64> {
        self.hint(b"S=")
    }

    /// The size with CRLF line ends according to its name (`W=`); a hint too.
    pub fn bytes_with_crlf(&self) -> Option<u64> {
        self.hint(b"W=")
    }

    fn hint(&self, key: &[u8]) -> Option<u64> {
        let digits = self
            .base()
            .split(|b| *b == b',')
            .skip(1)
            .find_map(|part| part.strip_prefix(key))?;
        let only_digits = digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits)
            .ok()
            .filter(|_| only_digits)?
            .parse()
            .ok()
    }

    /// The base and the flags. The last `:2,` counts: a base may hold one.
    fn split(&self) -> (&[u8], &[u8]) {
        let marks = self.raw.windows(3).rposition(|window| window == b":2,");
        marks.map_or((&self.raw, b""), |at| {
            (&self.raw[..at], &self.raw[at + 3..])
        })
    }
}

/// Escaped, so that a name with a line break cannot forge a log line.
impl fmt::Display for MessageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw.escape_ascii())
    }
}

/// A set of flags: letters, capitals with a fixed meaning, small ones for
/// Dovecot's keywords.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u64);

impl Flags {
    /// `D`, the user is still writing it.
    pub const DRAFT: Self = Self::letter(b'D');
    /// `F`, marked by the user.
    pub const FLAGGED: Self = Self::letter(b'F');
    /// `P`, resent, forwarded or bounced.
    pub const PASSED: Self = Self::letter(b'P');
    /// `R`, answered.
    pub const REPLIED: Self = Self::letter(b'R');
    /// `S`, read.
    pub const SEEN: Self = Self::letter(b'S');
    /// `T`, will be deleted.
    pub const TRASHED: Self = Self::letter(b'T');

    /// Takes letters in any order; what is no letter is passed over.
    fn parse(text: &[u8]) -> Self {
        let letters = text.iter().filter(|b| b.is_ascii_alphabetic());
        letters.fold(Self::default(), |flags, b| flags | Self::letter(*b))
    }

    /// Whether all of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Bit 0 stands for `A`, so that bits are in the order of ASCII.
    const fn letter(letter: u8) -> Self {
        Self(1 << (letter - b'A'))
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The letters in the order of ASCII, as the format demands.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (b'A'..=b'z')
            .filter(|letter| self.0 >> (letter - b'A') & 1 == 1)
            .try_for_each(|letter| write!(f, "{}", char::from(letter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts() {
        type Parts = (&'static str, &'static str, Option<u64>, Option<u64>);
        fn check(raw: &str, (base, flags, bytes, bytes_with_crlf): Parts) {
            let name = MessageName::parse(raw.as_bytes()).unwrap();
            assert_eq!(name.base(), base.as_bytes(), "{raw}");
            assert_eq!(name.flags().to_string(), flags, "{raw}");
            assert_eq!(name.bytes(), bytes, "{raw}");
            assert_eq!(name.bytes_with_crlf(), bytes_with_crlf, "{raw}");
        }
        check("1.M2P3.h", ("1.M2P3.h", "", None, None));
        check("1.M2P3.h:2,", ("1.M2P3.h", "", None, None));
        check("1.h:2,SFa", ("1.h", "FSa", None, None));
        check("1.h:2,SS,9F", ("1.h", "FS", None, None));
        check("1.h:1,x", ("1.h:1,x", "", None, None));
        check("1.h:2,S:2,F", ("1.h:2,S", "F", None, None));
        check(
            "1.h,S=12,W=14:2,",
            ("1.h,S=12,W=14", "", Some(12), Some(14)),
        );
        check("1.h,W=14,S=12", ("1.h,W=14,S=12", "", Some(12), Some(14)));
        check("S=12.h", ("S=12.h", "", None, None));
        check("1.h,S=", ("1.h,S=", "", None, None));
        check("1.h,S=+1,W=-1", ("1.h,S=+1,W=-1", "", None, None));
        check(
            "1,S=99999999999999999999",
            ("1,S=99999999999999999999", "", None, None),
        );
    }

    #[test]
    fn what_is_no_message() {
        for raw in ["", ".", "..", ".hidden", "a/b", "../a", "a\0"] {
            assert_eq!(MessageName::parse(raw.as_bytes()), None, "{raw:?}");
        }
    }

    #[test]
    fn a_line_break_is_printed_escaped() {
        let name = MessageName::parse(b"1.h\ndeleted: \xff").unwrap();
        assert_eq!(name.to_string(), r"1.h\ndeleted: \xff");
    }

    proptest! {
        #[test]
        fn flags_round_trip(raw in prop::collection::vec(any::<u8>(), 1..40), letters in "[A-Za-z]{0,8}") {
            prop_assume!(MessageName::parse(&raw).is_some());
            let name = MessageName::parse(&raw).unwrap();
            let flags = Flags::parse(letters.as_bytes());
            let changed = name.with_flags(flags);
            prop_assert_eq!(changed.base(), name.base());
            prop_assert_eq!(changed.flags(), flags);
            prop_assert!(flags.to_string().as_bytes().is_sorted());
        }
    }
}
