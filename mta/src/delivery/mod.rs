//! From an accepted message to a user's Maildir, a program, or somebody else.
//!
//! | module | answers |
//! | --- | --- |
//! | [`instructions`] | what a user's `.qmail` files say |
//! | [`content`] | the message, with what is added for each recipient |
//! | [`local`] | delivering to a user |
//! | [`program`] | running a program of a user |
//! | [`mbox`] | appending to an mbox |

pub mod content;
mod environment;
pub mod instructions;
pub mod local;
pub mod mbox;
pub mod program;
