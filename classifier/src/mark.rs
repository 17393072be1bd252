//! The mark by which a host knows a message that its filter took for spam.
//!
//! `X-Spam-Mark: 1 HEX`, where HEX are the first 16 bytes of an HMAC-SHA-256
//! over the message's [`Digest`]. A message can be marked only with the key of
//! the user that it is for: neither who sends it nor another user of the host
//! can make his mail look as if the filter had filed it. Delivery and moving
//! do not change the digest, so the mark holds wherever the message goes.
//!
//! ```
//! use classifier::mark::MarkKey;
//! use classifier::modern::Canonical;
//!
//! let key = MarkKey::of_user(&[7; 32], "anna");
//! let mail = b"Subject: Cheap watches\n\nBuy watches now\n";
//! let digest = Canonical::new(mail).digest();
//! let filed = [key.field(&digest).as_bytes(), mail].concat();
//! assert!(key.has_marked(&filed, &digest));
//! assert!(!MarkKey::of_user(&[7; 32], "bert").has_marked(&filed, &digest));
//! ```

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::hex::{from_hex, to_hex};
use crate::modern::{Canonical, Digest};

/// One user's key: whoever has it can mark mail for that user, and no other.
#[derive(Clone, PartialEq, Eq)]
pub struct MarkKey([u8; MarkKey::LEN]);

/// The name of the field.
pub const FIELD_NAME: &str = "X-Spam-Mark";

const VERSION: &str = "1";
const TAG_LEN: usize = 16;

impl MarkKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// The key of `user` on the host with this secret.
    pub fn of_user(host_key: &[u8; Self::LEN], user: &str) -> Self {
        Self(tag(host_key, user.as_bytes()))
    }

    /// A key as it was stored; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// To be stored where nobody but the user and the host can read it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A key as [`MarkKey::to_hex`] writes it; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// In hexadecimal digits, to be stored like [`MarkKey::as_bytes`].
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// The header field, one whole line, for a message of this digest that was
    /// taken for spam.
    pub fn field(&self, digest: &Digest) -> String {
        let tag = tag(&self.0, digest);
        format!("{FIELD_NAME}: {VERSION} {}\n", to_hex(&tag[..TAG_LEN]))
    }

    /// As [`MarkKey::field`], of a whole message.
    pub fn field_of(&self, raw: &[u8]) -> String {
        self.field(&Canonical::new(raw).digest())
    }

    /// Whether a message, whose digest this is, carries our field.
    pub fn has_marked(&self, raw: &[u8], digest: &Digest) -> bool {
        let ours = self.field(digest);
        let ours = ours.trim_end();
        header_lines(raw).any(|line| line == ours.as_bytes())
    }
}

/// The lines before the first empty one.
fn header_lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .take_while(|line| !line.is_empty())
}

fn tag(key: &[u8; MarkKey::LEN], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

impl std::fmt::Debug for MarkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MarkKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"Subject: a\n\nb\nX-Spam-Mark: in the body\n";

    #[test]
    fn a_mark_is_of_one_message_for_one_user() {
        let key = MarkKey::of_user(&[1; 32], "anna");
        let digest = |raw: &[u8]| Canonical::new(raw).digest();
        let field = key.field_of(MAIL);
        assert_eq!((field.len(), &field[..15]), (48, "X-Spam-Mark: 1 "));
        let marked = |head: &str, mail: &[u8]| {
            let raw = [head.as_bytes(), mail].concat();
            key.has_marked(&raw, &digest(&raw))
        };
        assert!(marked(&field, MAIL));
        assert!(marked(&format!("Received: x\n{field}"), MAIL));
        assert!(marked(&field.replace('\n', "\r\n"), MAIL));
        assert!(!marked("", MAIL));
        assert!(!marked(&field, b"Subject: b\n\nb\n"), "another message");
        assert!(!marked(&field.to_uppercase(), MAIL));
        assert!(!marked(&field[..40], MAIL));
        let other = MarkKey::of_user(&[2; 32], "anna").field_of(MAIL);
        assert!(!marked(&other, MAIL), "another host");
        let in_body = [MAIL, field.as_bytes()].concat();
        assert!(
            !key.has_marked(&in_body, &digest(&in_body)),
            "not in the header"
        );
    }

    #[test]
    fn keys_are_stored_as_they_are() {
        let key = MarkKey::of_user(&[1; 32], "anna");
        assert_eq!(MarkKey::from_bytes(key.as_bytes()).as_ref(), Some(&key));
        assert_eq!(MarkKey::from_hex(&key.to_hex()).as_ref(), Some(&key));
        assert_eq!(MarkKey::from_hex(&key.to_hex()[1..]), None);
        assert_eq!(MarkKey::from_hex(&(key.to_hex() + "0")), None);
        assert_eq!(MarkKey::from_hex(&"xy".repeat(32)), None);
        assert_eq!(MarkKey::from_bytes(b"short"), None);
    }
}
