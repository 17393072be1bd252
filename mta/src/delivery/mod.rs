//! From an accepted message to a user's Maildir, a program, or somebody else.
//!
//! | module | answers |
//! | --- | --- |
//! | [`instructions`] | what a user's `.qmail` files say |

pub mod instructions;
