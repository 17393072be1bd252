//! Text whose character set nobody named, or that is not in the one named.
//!
//! Much mail in Chinese, Korean and Russian says nothing, or "us-ascii", of
//! its 8-bit bytes. Read as UTF-8 they would all be the same replacement
//! character, and nothing could be learned from them. It matters little that
//! the guess is right; it does matter that the same bytes always give the same
//! characters, and that pairs of bytes which are one character stay together.

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Encoding, MessagePart};
use std::borrow::Cow;

const REPLACEMENT: char = '\u{fffd}';

/// The text of a part of `message` that was parsed as `text`, read anew
/// where that lost something.
pub(super) fn repaired<'a>(message: &[u8], part: &MessagePart<'_>, text: &'a str) -> Cow<'a, str> {
    let range = part.offset_body as usize..part.offset_end as usize;
    let Some(bytes) = message.get(range).filter(|_| text.contains(REPLACEMENT)) else {
        return Cow::Borrowed(text);
    };
    let decoded = match part.encoding {
        Encoding::None => Some(bytes.to_vec()),
        Encoding::Base64 => base64_decode(bytes),
        Encoding::QuotedPrintable => quoted_printable_decode(bytes),
    };
    decoded.map_or(Cow::Borrowed(text), |bytes| Cow::Owned(guess(&bytes)))
}

/// UTF-8 if it is; else the Chinese superset of most encodings of two bytes a
/// character, in which single accented letters make no sense; else an
/// encoding of one byte a character.
pub(super) fn guess(bytes: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(bytes) {
        return text.to_owned();
    }
    let decode = |name: &[u8]| charset_decoder(name).map(|decode| decode(bytes));
    decode(b"gb18030")
        .filter(|text| !text.contains(REPLACEMENT))
        .or_else(|| decode(b"windows-1252"))
        .unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undeclared_bytes_keep_their_difference() {
        let rows: [(&[u8], &str); 4] = [
            ("grüße".as_bytes(), "grüße"),
            (b"\xc3\xe2\xb7\xd1\xbb\xfa\xbb\xe1", "免费机会"),
            (b"caf\xe9 na\xefve", "café naïve"),
            (b"", ""),
        ];
        for (bytes, expected) in rows {
            assert_eq!(guess(bytes), expected);
        }
    }
}
