//! The configuration as it stands in the file. Every key may be missing;
//! what is said for a user counts before what is said for the host.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) mailboxes: Mailboxes,
    pub(super) folders: Folders,
    pub(super) learning: Learning,
    pub(super) database: Database,
    pub(super) service: Service,
    pub(super) spamd: Spamd,
    pub(super) metrics: Metrics,
    pub(super) rotation: Rotation,
    pub(super) watching: Watching,
    pub(super) users: BTreeMap<Spanned<String>, User>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Watching {
    pub(super) rescan_seconds: Option<NonZeroU64>,
    pub(super) poll_seconds: Option<NonZeroU64>,
    pub(super) only_poll: Option<bool>,
    pub(super) max_watches: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Database {
    pub(super) path: Option<Spanned<PathBuf>>,
    pub(super) model_cache_bytes: Option<usize>,
    pub(super) base: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Service {
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) mail_user: Option<String>,
    pub(super) max_message_bytes: Option<NonZeroU64>,
    pub(super) max_connections: Option<NonZeroU64>,
    pub(super) max_connections_per_user: Option<NonZeroU64>,
    pub(super) patience_seconds: Option<NonZeroU64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Spamd {
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) tell_over_tcp: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) listen: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mailboxes {
    pub(super) accounts: Option<Spanned<PathBuf>>,
    pub(super) patterns: Option<Vec<Spanned<String>>>,
    pub(super) layout: Option<Layout>,
    pub(super) dovecot: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum Layout {
    #[serde(rename = "maildir++")]
    MaildirPlusPlus,
    #[serde(rename = "nested")]
    Nested,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Folders {
    pub(super) spam: Option<Vec<Spanned<String>>>,
    pub(super) learned: Option<Spanned<String>>,
    pub(super) wrongly_caught: Option<Vec<Spanned<String>>>,
    pub(super) archive: Option<Vec<Spanned<String>>>,
    pub(super) never: Option<Vec<Spanned<String>>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Learning {
    pub(super) move_after_seconds: Option<u64>,
    pub(super) keep_before_ham_hours: Option<u32>,
    pub(super) ham_per_day: Option<u64>,
}

/// By folder.
pub(super) type Rotation = BTreeMap<Spanned<String>, Quota>;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quota {
    pub(super) max_bytes: Option<NonZeroU64>,
    pub(super) max_messages: Option<NonZeroU64>,
    pub(super) max_age_days: Option<NonZeroU64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct User {
    pub(super) mailbox: Option<Spanned<PathBuf>>,
    pub(super) layout: Option<Layout>,
    pub(super) folders: Folders,
    pub(super) learning: Learning,
    pub(super) rotation: Rotation,
}

impl Learning {
    /// What is said here, and the rest from `host`.
    pub(super) fn or(self, host: Self) -> Self {
        Self {
            move_after_seconds: self.move_after_seconds.or(host.move_after_seconds),
            keep_before_ham_hours: self.keep_before_ham_hours.or(host.keep_before_ham_hours),
            ham_per_day: self.ham_per_day.or(host.ham_per_day),
        }
    }
}

impl Folders {
    /// What is said here, and the rest from `host`.
    pub(super) fn or(&self, host: &Self) -> Self {
        Self {
            spam: self.spam.clone().or_else(|| host.spam.clone()),
            learned: self.learned.clone().or_else(|| host.learned.clone()),
            wrongly_caught: self
                .wrongly_caught
                .clone()
                .or_else(|| host.wrongly_caught.clone()),
            archive: self.archive.clone().or_else(|| host.archive.clone()),
            never: self.never.clone().or_else(|| host.never.clone()),
        }
    }
}
