//! SPF (RFC 7208) by mail-auth 0.13, which reads what is malformed as far as it
//! can, and believes names of clients unseen.
//!
//! Each record that it has used is read again by the standard's grammar
//! ([`record`]). Where that says something else, mail-auth is given that
//! instead, and begins again; so it is with names that do not lead back.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::spf::Spf;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    Error, MessageAuthenticator, Parameters, RecordSet, ResolverCache, SpfOutput, Txt,
};

use crate::remote::dns::{Dns, Found, RData, RecordType};

pub mod record;

/// RFC 7208 §5.5: so many names of a client are looked at.
const MAX_NAMES: usize = 10;

/// What mail-auth uses in place of the DNS, and what it has found there.
struct Given<K, V> {
    given: HashMap<K, V>,
    found: Mutex<Vec<(K, V)>>,
}

/// Whether `address` may send, as `asked` has it.
///
/// Whoever asks must bound the time. There is an end: each round follows the
/// standard for at least one record more, and 10 is all that is asked for. What
/// has an answer is asked once, however short that lasts.
pub(super) async fn verify<'a>(
    spf: &MessageAuthenticator,
    dns: &Dns,
    address: IpAddr,
    asked: impl Fn() -> SpfParameters<'a>,
) -> SpfOutput {
    let mut records = Given::default();
    let mut names = Given::default();
    let (mut hosts, mut four, mut six) = (Given::default(), Given::default(), Given::default());
    loop {
        let asked = Parameters::new(asked()).with_txt_cache(&records);
        let asked = asked.with_ptr_cache(&names).with_mx_cache(&hosts);
        let asked = asked.with_ipv4_cache(&four).with_ipv6_cache(&six);
        let output = spf.verify_spf(asked).await;
        let mut is_other = false;
        for (name, found) in records.take() {
            let other = by_the_standard(dns, &name, address).await;
            is_other |= other.is_some();
            records.given.insert(name, other.unwrap_or(found));
        }
        for (address, found) in names.take() {
            is_other = true;
            let found = leading_back(dns, address, &found).await;
            names.given.insert(address, found);
        }
        if !is_other {
            return output;
        }
        hosts.keep();
        four.keep();
        six.keep();
    }
}

/// What to take for the record of `name`, when it is not what is there.
async fn by_the_standard(dns: &Dns, name: &str, address: IpAddr) -> Option<Txt> {
    let name = name.trim_end_matches('.');
    let found = dns.ask(name, RecordType::TXT, |data| match data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    });
    let Ok(Found::Records(texts)) = found.await else {
        return None;
    };
    let mut texts = texts.iter().filter(|text| record::is_record(text));
    let first = texts.next()?;
    // RFC 7208 §4.5: of two none counts.
    let read = match texts.next() {
        None => record::read(first, address.is_ipv4()),
        Some(_) => None,
    };
    let Some(read) = read else {
        return Some(Txt::Error(Error::ParseError));
    };
    (read.as_bytes() != first.as_slice()).then(|| Spf::parse(read.as_bytes()).into())
}

/// The names of a client that lead back to it, without the dot at their end.
async fn leading_back(
    dns: &Dns,
    address: IpAddr,
    names: &RecordSet<Box<str>>,
) -> RecordSet<Box<str>> {
    let mut leading = Vec::new();
    for name in names.rrset.iter().take(MAX_NAMES) {
        let name = name.trim_end_matches('.');
        // One that cannot be asked about is passed over: §5.5.
        let addresses = dns.known_addresses(name).await.unwrap_or_default();
        if addresses.contains(&address) {
            leading.push(name.into());
        }
    }
    if leading.is_empty() {
        // RFC 7208 §7.3: what stands for the name then.
        leading.push("unknown".into());
    }
    RecordSet {
        rrset: leading.into(),
        dnssec_status: names.dnssec_status,
    }
}

impl<K: Hash + Eq, V> Given<K, V> {
    /// Gives what was found again.
    fn keep(&mut self) {
        let found = self.take();
        self.given.extend(found);
    }

    fn take(&mut self) -> Vec<(K, V)> {
        let found = self.found.get_mut();
        std::mem::take(found.unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl<K, V> Default for Given<K, V> {
    fn default() -> Self {
        Self {
            given: HashMap::new(),
            found: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq, V: Clone> ResolverCache<K, V> for Given<K, V> {
    fn get<Q>(&self, name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.given.get(name).cloned()
    }

    fn remove<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, name: K, found: V, _: Instant) {
        if let Ok(mut all) = self.found.lock() {
            all.push((name, found));
        }
    }
}
