//! Who asks, and under which name his model is kept.

use std::io;

use nix::unistd::{Uid, User};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this user of the system.
    Uid(u32),
    /// Nobody knows: TCP carries no identity.
    Anybody,
}

/// The name of a user of the system, as its name service says; `None`: there
/// is none. May wait for a network.
///
/// # Errors
/// When it cannot be looked up.
pub fn name(uid: u32) -> io::Result<Option<String>> {
    let user = User::from_uid(Uid::from_raw(uid))?;
    Ok(user.map(|user| user.name))
}

/// Whether a name may be that of a user, of the system or virtual.
pub fn is_name(name: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c == '/' || c == char::REPLACEMENT_CHARACTER;
    !name.is_empty() && name.len() <= 320 && !name.starts_with('.') && !name.contains(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["anna", "anna@example.org", "a b", "ä"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "../x", "a/b", "a\nb", &"x".repeat(321)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(name(0).unwrap().as_deref(), Some("root"));
    }
}
