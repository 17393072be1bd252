//! Who writes in the synthetic collection: a mailbox owner, the people and
//! shops that write to him, lists, and strangers.
//!
//! All hosts end in a reserved name (RFC 2606) and all addresses lie in the
//! documentation ranges (RFC 5737, RFC 3849).

use super::templates::{LANGUAGES, Language};
use crate::Random;

/// A person or shop that writes, as the From field shows it.
#[derive(Clone)]
pub(super) struct Correspondent {
    /// In the letters of the language.
    pub(super) name: String,
    pub(super) local_part: String,
    pub(super) domain: String,
}

/// Everyone whom the owner of the mailbox has dealt with.
pub(super) struct World {
    pub(super) owner: Correspondent,
    /// By language, as brands.
    pub(super) people: Vec<Vec<Correspondent>>,
    pub(super) brands: Vec<Vec<Correspondent>>,
    /// Hosts that spam of many kinds is sent from and leads to, until they are
    /// given up.
    pub(super) spam_hosts: Vec<String>,
    pub(super) lists: Vec<Correspondent>,
}

impl World {
    pub(super) fn new(random: &mut Random) -> Self {
        let people = LANGUAGES
            .iter()
            .map(|(_, language)| (0..6).map(|_| person(language, random)).collect())
            .collect();
        let lists = ["hikers", "readers", "builders", "gardeners"].map(|name| Correspondent {
            name: name.to_owned(),
            local_part: name.to_owned(),
            domain: "lists.example.org".to_owned(),
        });
        Self {
            owner: Correspondent {
                name: "A. Owner".to_owned(),
                local_part: "owner".to_owned(),
                domain: "example.org".to_owned(),
            },
            people,
            brands: LANGUAGES
                .iter()
                .map(|_| (0..5).map(|_| brand(random)).collect())
                .collect(),
            spam_hosts: (0..N_SPAM_HOSTS).map(|_| domain(random)).collect(),
            lists: lists.to_vec(),
        }
    }
}

impl World {
    /// Some time later: half of all correspondents are others, and hosts have
    /// changed hands. What told ham from spam by its host now misleads.
    pub(super) fn change(&mut self, random: &mut Random) {
        for ((_, language), people) in LANGUAGES.iter().zip(&mut self.people) {
            let n = people.len() / 2;
            people
                .iter_mut()
                .take(n)
                .for_each(|known| *known = person(language, random));
            random.shuffle(people);
        }
        let mut given_up = std::mem::take(&mut self.spam_hosts);
        for brands in &mut self.brands {
            let n = brands.len() / 2;
            for known in brands.iter_mut().take(n) {
                let fallen = std::mem::replace(known, brand(random)).domain;
                self.spam_hosts.push(fallen);
                if let Some(host) = given_up.pop() {
                    known.domain = host;
                }
            }
            random.shuffle(brands);
        }
        while self.spam_hosts.len() < N_SPAM_HOSTS {
            self.spam_hosts.push(domain(random));
        }
        random.shuffle(&mut self.spam_hosts);
        self.spam_hosts.truncate(N_SPAM_HOSTS);
    }
}

const N_SPAM_HOSTS: usize = 18;

/// A person nobody has heard of yet.
pub(super) fn person(language: &Language, random: &mut Random) -> Correspondent {
    let name = random.pick(&language.names);
    let surname = random.pick(&language.surnames);
    let local_part = match random.below(3) {
        0 => format!("{}{}", random.pick(&WORDS), random.between(1, 99)),
        1 => format!("{}.{}", random.pick(&WORDS), random.pick(&WORDS)),
        _ => (*random.pick(&WORDS)).to_owned(),
    };
    Correspondent {
        name: if language.has_blanks() {
            format!("{name} {surname}")
        } else {
            format!("{surname}{name}")
        },
        local_part,
        domain: domain(random),
    }
}

/// A shop or firm nobody has heard of yet.
pub(super) fn brand(random: &mut Random) -> Correspondent {
    let (first, second) = (random.pick(&WORDS), random.pick(&WORDS));
    Correspondent {
        name: format!("{}{} {}", first[..1].to_uppercase(), &first[1..], second),
        local_part: (*random.pick(&ROLES)).to_owned(),
        domain: format!("{first}-{second}.{}", random.pick(&TOP_LEVEL)),
    }
}

/// A host nobody has seen yet. Genuine and false mail draw from the same
/// words, so that a name by itself gives nothing away.
pub(super) fn domain(random: &mut Random) -> String {
    let (first, second) = (random.pick(&WORDS), random.pick(&WORDS));
    let top = random.pick(&TOP_LEVEL);
    match random.below(3) {
        0 => format!("{first}{second}.{top}"),
        1 => format!("{first}-{second}.{top}"),
        _ => format!("{first}.{second}.{top}"),
    }
}

/// An address from the documentation ranges.
pub(super) fn ip_address(random: &mut Random) -> String {
    if random.chance(15.0) {
        return format!(
            "IPv6:2001:db8:{:x}::{:x}",
            random.below(0xffff),
            random.between(1, 0xffff)
        );
    }
    let net = random.pick(&["192.0.2", "198.51.100", "203.0.113"]);
    format!("{net}.{}", random.between(1, 254))
}

const TOP_LEVEL: [&str; 4] = ["example", "example", "test", "invalid"];
const ROLES: [&str; 6] = ["service", "info", "news", "noreply", "orders", "accounts"];
const WORDS: [&str; 72] = [
    "amber", "anchor", "apple", "arrow", "autumn", "barley", "basin", "birch", "blue", "bridge",
    "candle", "canyon", "cedar", "cherry", "cliff", "clover", "cobalt", "copper", "coral", "crane",
    "delta", "dune", "eagle", "ember", "falcon", "fern", "field", "fjord", "flint", "forest",
    "garnet", "glen", "granite", "grove", "harbor", "hazel", "heron", "hill", "indigo", "island",
    "ivory", "jasper", "juniper", "kettle", "lagoon", "lantern", "larch", "linden", "maple",
    "marble", "meadow", "mill", "moss", "north", "oak", "ocean", "olive", "opal", "orchard",
    "pebble", "pine", "quartz", "raven", "river", "saffron", "silver", "spruce", "summit",
    "thistle", "valley", "willow", "winter",
];
