//! Learning from folders: watches spam folders, trains the models of their
//! users, moves what was learned and deletes the oldest when a quota is reached.
//!
//! Knows nothing of SMTP.
