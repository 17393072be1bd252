//! How mail lies on disk: Maildir, Maildir++, mbox, and files that are
//! either wholly written or not there.
//!
//! Knows nothing of classification, networks or accounts.
