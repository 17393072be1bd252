//! The text that `tcprules` compiles: which clients may speak, and what holds
//! for them.
//!
//! There, of all lines that fit a client the most specific one counts alone.
//! Here several count. So it is worked out which addresses each line is left
//! with, and those are written as networks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound::{Excluded, Included};

use ipnet::{IpNet, Ipv6Net};

/// A line that says something of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands, counted from 1.
    pub line: usize,
    /// Whether it closes the door.
    pub denies: bool,
    /// What is set for the client, in order.
    pub variables: Vec<(String, String)>,
    /// Which clients.
    pub who: Who,
}

/// Which clients a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Those of a network; of several where octets are ranges.
    Addresses(Vec<IpNet>),
    /// A name, or with a dot before it all below.
    Name(String),
}

/// What is wrong with a line: its number, its text, the reason.
pub type Wrong = (usize, String, String);

/// More networks than anybody means by one line.
const MAX_NETWORKS: usize = 65_536;

/// Reads the lines, and what is wrong with others.
pub fn parse(text: &[u8]) -> (Vec<Rule>, Vec<Wrong>) {
    let text = String::from_utf8_lossy(text);
    let (mut rules, mut wrong) = (Vec::new(), Vec::new());
    for (line, number) in text.lines().zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match rule(number, line.trim_end()) {
            Ok(rule) => rules.push(rule),
            Err(why) => wrong.push((number, line.to_owned(), why)),
        }
    }
    (rules, wrong)
}

fn rule(line: usize, text: &str) -> Result<Rule, String> {
    // An address of IPv6 has colons of its own.
    let ends = [":allow", ":deny"].map(|does| text.find(does));
    let end = ends.into_iter().flatten().min();
    let end = end.ok_or("neither :allow nor :deny follows an address")?;
    let (address, rest) = text.split_at(end);
    let (denies, mut rest) = match rest.strip_prefix(":allow") {
        Some(rest) => (false, rest),
        None => (true, &rest[":deny".len()..]),
    };
    let mut variables = Vec::new();
    while let Some(text) = rest.strip_prefix(',') {
        let (name, value) = text.split_once('=').ok_or("a variable has no =")?;
        let quote = value
            .chars()
            .next()
            .ok_or("a value needs a mark on both sides")?;
        let value = &value[quote.len_utf8()..];
        let (value, after) = value
            .split_once(quote)
            .ok_or("a value needs a mark on both sides")?;
        variables.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        return Err("something follows that is no variable".into());
    }
    Ok(Rule {
        line,
        denies,
        variables,
        who: who(address)?,
    })
}

fn who(address: &str) -> Result<Who, String> {
    if address.contains('@') {
        return Err(
            "it goes by what the client's machine says of its user, which is not asked".into(),
        );
    }
    if let Some(name) = address.strip_prefix('=') {
        return match name.trim_matches('.') {
            "" => Err("all clients with a name: there is no such condition".into()),
            _ => Ok(Who::Name(name.to_ascii_lowercase())),
        };
    }
    Ok(Who::Addresses(match address {
        "" => vec![
            IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
            IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
        ],
        _ if address.contains(':') => vec![of_ipv6(address)?.into()],
        _ => of_ipv4(address)?,
    }))
}

/// The networks of `10.1.`, `10.0-1.` or `10.1.2.3-7`.
///
/// # Errors
/// With the reason when it is no such text.
pub fn of_ipv4(text: &str) -> Result<Vec<IpNet>, String> {
    let wrong = || format!("{text:?} is no address, nor the beginning of one with a dot behind it");
    let parts: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let is_whole = !text.ends_with('.');
    if parts.len() > 4 || is_whole != (parts.len() == 4) {
        return Err(wrong());
    }
    let mut starts: Vec<u32> = vec![0];
    let mut bits = 0;
    for part in &parts {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<u8>().map_err(|_| wrong());
        let (low, high) = (number(low)?, number(high)?);
        if low > high {
            return Err(wrong());
        }
        bits += 8;
        let all = starts.iter().flat_map(|start| {
            (low..=high).map(move |octet| start | (u32::from(octet) << (32 - bits)))
        });
        starts = all.take(MAX_NETWORKS + 1).collect();
        if starts.len() > MAX_NETWORKS {
            return Err("it stands for too many networks".into());
        }
    }
    let network = |start: u32| IpNet::new_assert(Ipv4Addr::from(start).into(), bits);
    Ok(starts.into_iter().map(network).collect())
}

/// `2001:db8::1` and `2001:db8:`, with which servers compare the text of an
/// address, and `2001:db8::/32` of ucspi-tcp6.
fn of_ipv6(text: &str) -> Result<Ipv6Net, String> {
    let wrong = || {
        format!(
            "{text:?} is no address of IPv6, no network, and not the beginning of addresses with \
             a colon behind it, in which no group is 0"
        )
    };
    let network = match text.strip_suffix(':') {
        // A group that is 0 may be missing in the text of an address.
        Some(start) => {
            let groups = start.split(':').map(|group| {
                let number = u16::from_str_radix(group, 16).map_err(|_| wrong())?;
                let is_canonical = number != 0 && format!("{number:x}") == group;
                is_canonical.then_some(number).ok_or_else(wrong)
            });
            let groups: Vec<u16> = groups.collect::<Result<_, _>>()?;
            let mut segments = [0; 8];
            let given = segments[..7].get_mut(..groups.len()).ok_or_else(wrong)?;
            given.copy_from_slice(&groups);
            let bits = given.len() as u8 * 16;
            Ipv6Net::new_assert(segments.into(), bits)
        }
        None if text.contains('/') => text.parse::<Ipv6Net>().map_err(|_| wrong())?.trunc(),
        None => {
            let address: Ipv6Addr = text.parse().map_err(|_| wrong())?;
            if address.to_string() != text {
                return Err(format!(
                    "servers compare the text, and write this address {address}"
                ));
            }
            address.into()
        }
    };
    match network.addr().to_ipv4_mapped() {
        Some(address) => Err(format!("servers know such a client as {address}")),
        None => Ok(network),
    }
}

/// Makes the line about this machine's IPv4 one about its IPv6 too, unless
/// another is: few have written both.
pub fn join_loopback(rules: &mut [Rule]) {
    let most = |rule: &Rule, address: IpAddr| match &rule.who {
        Who::Addresses(networks) => {
            let fitting = networks.iter().filter(|network| network.contains(&address));
            fitting.map(IpNet::prefix_len).max().unwrap_or(0)
        }
        Who::Name(_) => 0,
    };
    if rules
        .iter()
        .any(|rule| most(rule, Ipv6Addr::LOCALHOST.into()) > 0)
    {
        return;
    }
    let bits = |rule: &Rule| most(rule, Ipv4Addr::LOCALHOST.into());
    let about = rules.iter_mut().filter(|rule| bits(rule) > 0);
    if let Some(rule) = about.min_by_key(|rule| Reverse(bits(rule)))
        && let Who::Addresses(networks) = &mut rule.who
    {
        networks.push(Ipv6Net::from(Ipv6Addr::LOCALHOST).into());
    }
}

/// For each line about addresses the ones that it counts for, since no other
/// line is more specific.
pub fn networks(rules: &[Rule]) -> Vec<Vec<IpNet>> {
    // Of two lines that say the same the first counts.
    let mut owners: BTreeMap<IpNet, usize> = BTreeMap::new();
    for (n, rule) in rules.iter().enumerate() {
        if let Who::Addresses(networks) = &rule.who {
            for network in networks {
                owners.entry(*network).or_insert(n);
            }
        }
    }
    let mut all = vec![Vec::new(); rules.len()];
    for (network, owner) in &owners {
        all[*owner].extend(without_inner(*network, &owners));
    }
    all.iter().map(IpNet::aggregate).collect()
}

/// What is left of a network without those inside it.
fn without_inner(network: IpNet, owners: &BTreeMap<IpNet, usize>) -> Vec<IpNet> {
    let last = IpNet::from(network.broadcast());
    // Networks are ordered by their first address, wider ones first.
    let mut inner = owners.range((Excluded(network), Included(last)));
    if network == last || inner.next().is_none() {
        return vec![network];
    }
    let halves = network
        .subnets(network.prefix_len() + 1)
        .into_iter()
        .flatten();
    halves
        .filter(|half| !owners.contains_key(half))
        .flat_map(|half| without_inner(half, owners))
        .collect()
}

/// As rules of the gate have it: `192.0.2.0/24`, `192.0.2.1`.
pub fn written(network: &IpNet) -> String {
    match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(rules: &[Rule]) -> Vec<Vec<String>> {
        let all = networks(rules).into_iter();
        all.map(|networks| networks.iter().map(written).collect())
            .collect()
    }

    #[test]
    fn each_line_keeps_what_no_other_is_more_specific_about() {
        let text = "# ours\n127.:allow,RELAYCLIENT=\"\"\n10.0.0.5:allow\n10.0.0.4-7:allow,A=/x y/,B=\"\"\n\
                    10.:deny\n=.Example.org:deny\n:allow\n10.:allow\n";
        let (rules, wrong) = parse(text.as_bytes());
        assert_eq!(wrong, []);
        assert_eq!(
            rules[2].variables,
            [("A".into(), "x y".into()), ("B".into(), String::new())]
        );
        assert_eq!(rules[4].who, Who::Name(".example.org".into()));
        let networks = texts(&rules);
        assert_eq!(networks[0], ["127.0.0.0/8"]);
        assert_eq!(networks[1], ["10.0.0.5"]);
        assert_eq!(networks[2], ["10.0.0.4", "10.0.0.6/31"]);
        assert_eq!(networks[3][..2], ["10.0.0.0/30", "10.0.0.8/29"]);
        assert_eq!(networks[6], Vec::<String>::new());
        for line in [
            "x",
            "1.2.3.4:maybe",
            "1.2.3:allow",
            "1.2.3.4.:allow",
            "300.:allow",
            "7-3.:deny",
            "1.:allow,A",
            "1.:allow,A=\"x",
            "a@1.:allow",
            "=:deny",
            // Not as the text of an address is written, or not one network.
            "2001:DB8::1:allow",
            "2001:db8:0:0:0:0:0:1:allow",
            "2001:db8:::allow",
            ":::deny",
            "2001:db8:0::allow",
            "2001:0db8::allow",
            "1:2:3:4:5:6:7:8::allow",
            "2001:db8:allow",
            "2001:db8::/129:allow",
            "::ffff:192.0.2.1:allow",
            "::ffff:0:0/96:allow",
            "0-255.0-255.0-255.:allow",
        ] {
            assert_eq!(parse(line.as_bytes()).1.len(), 1, "{line}");
        }
    }

    #[test]
    fn addresses_of_ipv6_are_compared_as_text_or_as_networks() {
        let text = "2001:db8::1:allow,A=\"x:deny\"\n2001:db8::deny\n2001:db8:7::allow\n\
                    2001:db8:5::9/46:allow\n:deny\n";
        let (rules, wrong) = parse(text.as_bytes());
        assert_eq!(wrong, []);
        let networks = texts(&rules);
        assert_eq!(networks[0], ["2001:db8::1"]);
        assert_eq!(networks[2], ["2001:db8:7::/48"]);
        assert_eq!(networks[3], ["2001:db8:4::/47", "2001:db8:6::/48"]);
        let inside: IpNet = "2001:db8::/32".parse().unwrap();
        let all = super::networks(&rules);
        assert!(all[1].iter().all(|network| inside.contains(network)));
        assert!(all[4].contains(&"0.0.0.0/0".parse().unwrap()));
        assert!(all[4].iter().all(|network| !inside.contains(network)));
    }

    #[test]
    fn the_machine_itself_is_what_its_ipv4_is_unless_a_line_says_more() {
        for (text, expected) in [
            (":deny\n127.:allow\n", Some(1)),
            ("127.0.0.1:deny\n127.:allow\n127.0.0.1:allow\n", Some(0)),
            ("127.:allow\n::/16:deny\n", Some(1)),
            (":allow\n", Some(0)),
            ("10.:allow\n", None),
        ] {
            let (mut rules, _) = parse(text.as_bytes());
            join_loopback(&mut rules);
            let address = IpAddr::from(Ipv6Addr::LOCALHOST);
            let networks = networks(&rules);
            let found = networks
                .iter()
                .position(|one| one.iter().any(|network| network.contains(&address)));
            assert_eq!(found, expected, "{text}");
        }
    }

    const LINE: &str =
        "(([0-2]|0-1|1-2)\\.){1,3}|([0-2]\\.){3}[0-2]||1:(2:)?|1:2::[1-3]|1:2::/(0|16|31|127)";

    proptest! {
        /// By trying every line on every address.
        #[test]
        fn networks_are_what_the_lines_say(
            lines in prop::collection::vec((LINE, any::<bool>()), 1..8),
            octets in prop::collection::vec([0u8..4, 0u8..4, 0u8..4, 0u8..4], 20),
            segments in prop::collection::vec([0u16..3, 0u16..4, 0u16..1, 0u16..2, 0u16..1, 0u16..1, 0u16..1, 0u16..4], 20),
        ) {
            let text: String = lines.iter().map(|(who, deny)| format!("{who}:{}\n", if *deny { "deny" } else { "allow" })).collect();
            let (rules, wrong) = parse(text.as_bytes());
            prop_assert_eq!(wrong, []);
            let networks = networks(&rules);
            let addresses = octets.into_iter().map(IpAddr::from);
            for address in addresses.chain(segments.into_iter().map(IpAddr::from)) {
                let mut best: Option<(u8, usize)> = None;
                for (n, rule) in rules.iter().enumerate() {
                    let Who::Addresses(all) = &rule.who else { continue };
                    let fitting = all.iter().find(|network| network.contains(&address));
                    if let Some(bits) = fitting.map(IpNet::prefix_len)
                        && best.is_none_or(|(most, _)| bits > most)
                    {
                        best = Some((bits, n));
                    }
                }
                for (n, networks) in networks.iter().enumerate() {
                    let is_in = networks.iter().any(|network| network.contains(&address));
                    prop_assert_eq!(is_in, best.is_some_and(|(_, best)| best == n));
                }
            }
        }
    }
}
