//! Helpers for end-to-end tests: the built programs, their peers, and mail.
//!
//! The tests themselves lie in `tests/tests`, one file for each question; the
//! helpers are a library because benches and the demo need the same ones.
//!
//! - [`programs`] finds the programs that were built and those to compare with
//! - [`run`] runs one of them with an input under a time bound
//! - [`bmfd`] is one with a configuration, and its daemon
//! - [`steps`] finds the calls of a run that change files, [`killer`] kills it
//!   at any of them
//! - [`overlaid`] runs servers of others, [`postfix`] is one of them
//! - [`imap`] asks an IMAP server
//! - [`messages`] makes awkward mail, deterministic by seed
//! - [`differential`] runs the same steps with bmf and with ours and compares
//!
//! Nothing here depends on the crates under test: what is tested is what a
//! person installs. Helpers panic where a test cannot go on, with a message
//! that says what to type.

pub mod bmfd;
pub mod differential;
pub mod imap;
pub mod killer;
pub mod messages;
pub mod overlaid;
pub mod postfix;
pub mod programs;
pub mod run;
pub mod steps;

/// Leaves out what cannot be tested here, which fails the test: one that did
/// not run must not look like one that passed. `POSTERN_SKIP` is for who knows.
#[expect(clippy::print_stderr)]
pub fn skip(why: &str) {
    let may = std::env::var_os("POSTERN_SKIP").is_some();
    assert!(may, "{why}; with POSTERN_SKIP=1 such tests are left out");
    eprintln!("skipped: {why}");
}
