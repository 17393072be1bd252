//! The configuration as it stands in the file.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Spanned, Table};

use crate::gate::decision::Action;
use crate::gate::greylist::Whom;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) host: Option<Spanned<String>>,
    pub(super) domain: Option<Spanned<String>>,
    pub(super) data: Option<Spanned<PathBuf>>,
    pub(super) user: Option<String>,
    pub(super) listen: Listen,
    pub(super) smtp: Smtp,
    pub(super) tls: Tls,
    pub(super) gate: Gate,
    pub(super) authentication: Authentication,
    pub(super) login: Login,
    pub(super) scanner: Scanner,
    pub(super) queue: Queue,
    pub(super) remote: Remote,
    pub(super) route: Vec<Spanned<Route>>,
    pub(super) filter: Filter,
    pub(super) programs: Programs,
    pub(super) publish: Publish,
    pub(super) journal: Journal,
    // bmfd's own; it says itself what is wrong with them.
    pub(super) folders: Option<Spanned<Table>>,
    pub(super) learning: Option<Spanned<Table>>,
    pub(super) rotation: Option<Spanned<Table>>,
    pub(super) watching: Option<Spanned<Table>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) smtp: Option<Vec<Spanned<String>>>,
    pub(super) submission: Vec<Spanned<String>>,
    pub(super) submissions: Vec<Spanned<String>>,
    pub(super) lmtp: Vec<Spanned<String>>,
    pub(super) local: Option<Spanned<PathBuf>>,
    pub(super) max_sessions: Option<NonZeroU64>,
    pub(super) max_sessions_per_client: Option<NonZeroU64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Smtp {
    pub(super) max_message_bytes: Option<NonZeroU64>,
    pub(super) max_recipients: Option<NonZeroU64>,
    pub(super) command_seconds: Option<NonZeroU64>,
    pub(super) message_seconds: Option<NonZeroU64>,
    pub(super) session_seconds: Option<NonZeroU64>,
    pub(super) max_errors: Option<NonZeroU64>,
    pub(super) relay_networks: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gate {
    pub(super) greeting_delay_seconds: Option<u64>,
    pub(super) early_talker: Option<Action>,
    pub(super) no_reverse_name: Option<Action>,
    pub(super) unresolvable_reverse_name: Option<Action>,
    pub(super) address_in_reverse_name: Option<Action>,
    pub(super) odd_helo: Option<Action>,
    pub(super) unresolvable_helo: Option<Action>,
    pub(super) no_sender_domain: Option<Action>,
    pub(super) spf_fail: Option<Action>,
    pub(super) dns_seconds: Option<NonZeroU64>,
    pub(super) dns_list: Vec<DnsList>,
    pub(super) rules: Option<Spanned<PathBuf>>,
    pub(super) greylist: Option<Whom>,
    pub(super) greylist_seconds: Option<NonZeroU64>,
    pub(super) greylist_days: Option<NonZeroU64>,
    pub(super) connections_per_minute: Option<NonZeroU32>,
    pub(super) recipients_per_minute: Option<NonZeroU32>,
    pub(super) tarpit_seconds: Option<u64>,
    pub(super) plugins: Option<Spanned<PathBuf>>,
    pub(super) plugin_seconds: Option<NonZeroU64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Authentication {
    pub(super) check: Option<bool>,
    pub(super) dns_seconds: Option<NonZeroU64>,
    pub(super) dmarc: Dmarc,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dmarc {
    #[default]
    Note,
    Obey,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsList {
    pub(super) zone: Spanned<String>,
    pub(super) about: About,
    pub(super) weight: Option<Spanned<f64>>,
    pub(super) answers: Option<Vec<Spanned<String>>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum About {
    Address,
    Domain,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) certificate: Option<Spanned<PathBuf>>,
    pub(super) key: Option<Spanned<PathBuf>>,
    pub(super) more: Vec<TlsPair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsPair {
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Login {
    pub(super) checkpassword: Option<Spanned<Vec<String>>>,
    pub(super) checkpassword_cram_md5: bool,
    pub(super) messages_per_hour: Option<NonZeroU32>,
    pub(super) recipients_per_hour: Option<NonZeroU32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Scanner {
    pub(super) clamd: Option<Spanned<String>>,
    pub(super) virus: Virus,
    pub(super) when_down: WhenDown,
    pub(super) patience_seconds: Option<NonZeroU64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Virus {
    #[default]
    Refuse,
    Discard,
    Quarantine,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WhenDown {
    #[default]
    Defer,
    Pass,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Queue {
    pub(super) lifetime_hours: Option<u32>,
    pub(super) warn_after_hours: Option<u32>,
    pub(super) longest_pause_seconds: Option<NonZeroU64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Remote {
    pub(super) dns: Option<Vec<Spanned<String>>>,
    pub(super) connections_per_destination: Option<NonZeroU64>,
    pub(super) connect_seconds: Option<NonZeroU64>,
    pub(super) reply_seconds: Option<NonZeroU64>,
    pub(super) dead_seconds: Option<u64>,
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    pub(super) port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) domain: Spanned<String>,
    pub(super) host: Option<Spanned<String>>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    pub(super) model_cache_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Programs {
    pub(super) seconds: Option<NonZeroU64>,
    pub(super) memory_bytes: Option<NonZeroU64>,
    pub(super) file_bytes: Option<NonZeroU64>,
    pub(super) path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Publish {
    pub(super) qmail_users: Option<Spanned<PathBuf>>,
    pub(super) qmail_control: Option<Spanned<PathBuf>>,
    pub(super) cmd5checkpw: Option<Spanned<PathBuf>>,
    pub(super) dovecot: Option<Spanned<PathBuf>>,
    pub(super) courier: Option<Spanned<PathBuf>>,
    pub(super) run: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Journal {
    pub(super) max_bytes: Option<NonZeroU64>,
}
