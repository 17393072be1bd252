//! `[gate]` of the configuration.

use std::num::NonZeroU32;
use std::time::Duration;

use trainer::config::wrong::{Wrong, absolute};

use super::check::seconds;
use super::raw;
use crate::gate::greylist;
use crate::gate::{About, DnsList, Policy, Settings};
use crate::smtp::Domain;

/// Answers of DNS lists that count unless something else is said: RFC 5782
/// §2.1.
const ANSWERS: &str = "127.0.0.0/8";

pub(super) fn settings(said: &raw::Gate) -> Result<Settings, Wrong> {
    let default = Settings::default();
    let (policy, greylist) = (default.policy, default.greylist);
    let or = |said: Option<_>, default| said.unwrap_or(default);
    Ok(Settings {
        greeting_delay: said
            .greeting_delay_seconds
            .map_or(default.greeting_delay, Duration::from_secs),
        policy: Policy {
            early_talker: or(said.early_talker, policy.early_talker),
            no_reverse_name: or(said.no_reverse_name, policy.no_reverse_name),
            unresolvable_reverse_name: or(
                said.unresolvable_reverse_name,
                policy.unresolvable_reverse_name,
            ),
            address_in_reverse_name: or(
                said.address_in_reverse_name,
                policy.address_in_reverse_name,
            ),
            odd_helo: or(said.odd_helo, policy.odd_helo),
            unresolvable_helo: or(said.unresolvable_helo, policy.unresolvable_helo),
            no_sender_domain: or(said.no_sender_domain, policy.no_sender_domain),
            spf_fail: or(said.spf_fail, policy.spf_fail),
        },
        dns_lists: said
            .dns_list
            .iter()
            .map(dns_list)
            .collect::<Result<_, _>>()?,
        dns_time: seconds(said.dns_seconds, default.dns_time),
        rules: said.rules.as_ref().map(absolute).transpose()?,
        greylist: greylist::Settings {
            whom: said.greylist.unwrap_or(greylist.whom),
            wait: seconds(said.greylist_seconds, greylist.wait),
            keep: said.greylist_days.map_or(greylist.keep, |days| {
                Duration::from_secs(days.get().saturating_mul(24 * 3600))
            }),
        },
        connections_per_minute: per_minute(
            said.connections_per_minute,
            default.connections_per_minute,
        ),
        recipients_per_minute: per_minute(
            said.recipients_per_minute,
            default.recipients_per_minute,
        ),
        tarpit: said
            .tarpit_seconds
            .map_or(default.tarpit, Duration::from_secs),
        plugins: said.plugins.as_ref().map(absolute).transpose()?,
        plugin_time: seconds(said.plugin_seconds, default.plugin_time),
    })
}

fn per_minute(said: Option<NonZeroU32>, default: u32) -> u32 {
    said.map_or(default, NonZeroU32::get)
}

fn dns_list(said: &raw::DnsList) -> Result<DnsList, Wrong> {
    let zone = said.zone.get_ref().trim_end_matches('.');
    let is_name = Domain::parse(zone).is_ok_and(|domain| domain.name().is_some());
    if !is_name {
        let reason = format!("{zone:?} is no name of a DNS list");
        return Err(Wrong::at(&said.zone)(reason));
    }
    let weight = said.weight.as_ref().map_or(1.0, |weight| *weight.get_ref());
    if let Some(said) = &said.weight
        && !(weight.is_finite() && weight != 0.0)
    {
        let reason = "a list counts more or less than 0".into();
        return Err(Wrong::at(said)(reason));
    }
    let answers = match &said.answers {
        None => Ok(vec![ANSWERS.parse().expect("the default is a network")]),
        Some(all) => all
            .iter()
            .map(|text| text.get_ref().parse().map_err(Wrong::at(text)))
            .collect(),
    };
    Ok(DnsList {
        zone: zone.to_ascii_lowercase(),
        about: match said.about {
            raw::About::Address => About::Address,
            raw::About::Domain => About::Domain,
        },
        weight,
        answers: answers?,
    })
}
