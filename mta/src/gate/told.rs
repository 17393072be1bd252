//! The log line of a recipient, with spamdyke's fields.

use tracing::{field, info};

use crate::handover::Decision;
use crate::smtp::{Envelope, ForwardPath};

/// Writes it, for whoever came, through the gate or past it. `rule` is the one
/// that refuses, if one of the gate does; `reverse_name` what is known of the
/// client's name.
pub fn log(
    envelope: &Envelope,
    to: &ForwardPath,
    decision: &Decision,
    rule: Option<&str>,
    reverse_name: Option<&str>,
) {
    const UNKNOWN: &str = "(unknown)";
    let client = &envelope.client;
    let (message, reason, rule) = match decision {
        Decision::Accept => ("recipient accepted", "", "none"),
        Decision::Refuse(refusal) => {
            let rule = rule.unwrap_or("recipient");
            ("recipient refused", refusal.reason.as_str(), rule)
        }
    };
    let address = client.peer.map(|peer| peer.ip().to_canonical());
    let address = address.map_or("(local)".to_owned(), |address| address.to_string());
    info!(
        rule,
        from = %envelope.reverse_path,
        to = %to,
        origin_ip = field::display(address),
        origin_rdns = reverse_name.unwrap_or(UNKNOWN),
        auth = client.account.as_deref().unwrap_or(UNKNOWN),
        encryption = client.tls.as_ref().map_or("(none)", |tls| tls.version),
        reason,
        "{message}"
    );
}
