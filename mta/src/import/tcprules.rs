//! The text that `tcprules` compiles: which clients may speak, and what holds
//! for them.
//!
//! There, of all lines that fit a client the most specific one counts alone.
//! Here several count. So it is worked out which addresses each line is left
//! with, and those are written as networks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

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
    /// Addresses that begin with so many octets: the first, the last, in
    /// several pieces where octets are ranges.
    Addresses(usize, Vec<(u32, u32)>),
    /// A name, or with a dot before it all below.
    Name(String),
}

/// What is wrong with a line: its number, its text, the reason.
pub type Wrong = (usize, String, String);

/// More pieces than anybody writes.
const MAX_PIECES: usize = 65_536;

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
    let (address, rest) = text.split_once(':').ok_or("it has no colon")?;
    let (denies, mut rest) = match (rest.strip_prefix("allow"), rest.strip_prefix("deny")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ if rest.contains(':') => {
            return Err(
                "addresses of IPv6 are written differently by each server: enter them in \
                        smtp.relay_networks or as a rule of the gate"
                    .into(),
            );
        }
        _ => return Err("neither allow nor deny follows the colon".into()),
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
    let (octets, pieces) = pieces(address)?;
    Ok(Who::Addresses(octets, pieces))
}

/// The addresses of `10.1.`, `10.0-1.` or `10.1.2.3-7`, with how many octets
/// are given.
///
/// # Errors
/// With the reason when it is no such text.
pub fn pieces(text: &str) -> Result<(usize, Vec<(u32, u32)>), String> {
    let wrong = || format!("{text:?} is no address, nor the beginning of one with a dot behind it");
    let parts: Vec<&str> = match text {
        "" => Vec::new(),
        _ => text.strip_suffix('.').unwrap_or(text).split('.').collect(),
    };
    let is_whole = !text.ends_with('.');
    if parts.len() > 4 || (!text.is_empty() && is_whole != (parts.len() == 4)) {
        return Err(wrong());
    }
    let mut starts: Vec<u32> = vec![0];
    for part in &parts {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<u8>().map_err(|_| wrong());
        let (low, high) = (number(low)?, number(high)?);
        if low > high {
            return Err(wrong());
        }
        let all = starts
            .iter()
            .flat_map(|start| (low..=high).map(move |octet| (start << 8) | u32::from(octet)));
        starts = all.take(MAX_PIECES + 1).collect();
        if starts.len() > MAX_PIECES {
            return Err("it stands for too many networks".into());
        }
    }
    let bits = 32 - 8 * u32::try_from(parts.len()).unwrap_or(4);
    let piece = |start: u32| {
        let first = u32::try_from(u64::from(start) << bits).unwrap_or(0);
        (first, first | u32::MAX.checked_shr(32 - bits).unwrap_or(0))
    };
    Ok((parts.len(), starts.into_iter().map(piece).collect()))
}

/// For each line about addresses the ones that it counts for, since no other
/// line is more specific: networks as `192.0.2.0/24`.
pub fn networks(rules: &[Rule]) -> Vec<Vec<String>> {
    let mut edges = BTreeSet::from([0u64, 1 << 32]);
    for rule in rules {
        if let Who::Addresses(_, pieces) = &rule.who {
            for (first, last) in pieces {
                edges.extend([u64::from(*first), u64::from(*last) + 1]);
            }
        }
    }
    let edges: Vec<u64> = edges.into_iter().collect();
    let at = |address: u64| edges.partition_point(|edge| *edge < address);
    // The rule of each stretch between edges; the least specific first, and of
    // two that are the same the first last.
    let mut stretches: Vec<Option<usize>> = vec![None; edges.len()];
    let octets = |n: &usize| match &rules[*n].who {
        Who::Addresses(octets, _) => *octets,
        Who::Name(_) => 0,
    };
    let mut order: Vec<usize> = (0..rules.len()).rev().collect();
    order.sort_by_key(octets);
    for n in order {
        if let Who::Addresses(_, pieces) = &rules[n].who {
            for (first, last) in pieces {
                let stretch = at(u64::from(*first))..at(u64::from(*last) + 1);
                stretches[stretch].fill(Some(n));
            }
        }
    }
    let mut all = vec![Vec::new(); rules.len()];
    let mut from = 0;
    for n in 1..edges.len() {
        // Neighbours of one rule are one stretch.
        if n + 1 < edges.len() && stretches[n] == stretches[from] {
            continue;
        }
        if let Some(rule) = stretches[from] {
            all[rule].extend(cidrs(edges[from], edges[n]));
        }
        from = n;
    }
    all
}

/// The networks that make up the addresses from `first` to before `end`.
pub fn cidrs(first: u64, end: u64) -> Vec<String> {
    let mut networks = Vec::new();
    let mut at = first;
    while at < end {
        let aligned = if at == 0 {
            32
        } else {
            at.trailing_zeros().min(32)
        };
        let fits = (end - at).ilog2();
        let bits = aligned.min(fits);
        let address = Ipv4Addr::from(u32::try_from(at).unwrap_or(u32::MAX));
        networks.push(match bits {
            0 => address.to_string(),
            bits => format!("{address}/{}", 32 - bits),
        });
        at += 1 << bits;
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;
    use proptest::prelude::*;

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
        let networks = networks(&rules);
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
            "2001:db8::1:allow",
            "0-255.0-255.0-255.:allow",
        ] {
            assert_eq!(parse(line.as_bytes()).1.len(), 1, "{line}");
        }
    }

    proptest! {
        /// By trying every line on every address.
        #[test]
        fn networks_are_what_the_lines_say(
            lines in prop::collection::vec(("(([0-2]|0-1|1-2)\\.){1,3}|([0-2]\\.){3}[0-2]|", any::<bool>()), 1..8),
            addresses in prop::collection::vec([0u8..4, 0u8..4, 0u8..4, 0u8..4], 20),
        ) {
            let text: String = lines.iter().map(|(who, deny)| format!("{who}:{}\n", if *deny { "deny" } else { "allow" })).collect();
            let (rules, wrong) = parse(text.as_bytes());
            prop_assert!(wrong.is_empty());
            let networks = networks(&rules);
            for octets in addresses {
                let address = u32::from_be_bytes(octets);
                let mut best: Option<(usize, usize)> = None;
                for (n, rule) in rules.iter().enumerate() {
                    let Who::Addresses(octets, pieces) = &rule.who else { continue };
                    let fits = pieces.iter().any(|(first, last)| (*first..=*last).contains(&address));
                    if fits && best.is_none_or(|(most, _)| *octets > most) {
                        best = Some((*octets, n));
                    }
                }
                for (n, networks) in networks.iter().enumerate() {
                    let is_in = networks.iter().any(|text| {
                        text.parse::<Network>().unwrap().contains(Ipv4Addr::from(address).into())
                    });
                    prop_assert_eq!(is_in, best.is_some_and(|(_, best)| best == n));
                }
            }
        }
    }
}
