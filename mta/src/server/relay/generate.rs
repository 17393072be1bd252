//! Configurations and clients, and who of them may relay.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::run::Kind;
use super::name_server::TRUSTED;
use super::programs::{self, Knows, Outcome, Plugin};
use super::{PASSWORD, canonical};
use crate::authentication::srs::Srs;
use crate::smtp::trace::seconds;
use crate::smtp::{Domain, Mailbox};

/// Any of these may be ours; the others are outside. Several look like parts
/// of others.
const DOMAINS: &[&str] = &[
    "example.org",
    "sub.example.org",
    "example.net",
    "example.org.example.net",
    "xample.org",
    "org",
    "bücher.example",
    "xn--bcher-kva.example",
];
const NAMES: &[&str] = &[
    "anna",
    "bob",
    "jo-ann",
    "bob+x",
    "a%b",
    "list",
    "postmaster",
];
const HELOS: &[&str] = &["mx.example.net", "mx.trusted.test", "localhost"];
const ADDRESSES: &[&str] = &[
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "192.0.2.9",
    "192.0.2.77",
    "198.51.100.3",
    "::ffff:198.51.100.3",
    "2001:db8::5",
    "2001:db8:1::5",
];
const NETWORKS: &[(&str, u8)] = &[
    ("127.0.0.0", 8),
    ("::1", 128),
    ("192.0.2.0", 24),
    ("192.0.2.64", 26),
    ("198.51.100.3", 32),
    ("2001:db8::", 32),
    ("2001:db8:1::", 48),
    ("0.0.0.0", 0),
    ("::", 0),
];

/// No account.
pub(super) const NOBODY: &str = "nobody@example.org";

/// What an administrator has configured.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Ours.
    pub(super) domains: Vec<&'static str>,
    pub(super) postmaster: Option<String>,
    /// Name, where it is found among our domains, where mail is sent on.
    users: Vec<(&'static str, usize, Option<String>)>,
    aliases: Vec<(&'static str, usize, Vec<String>)>,
    /// `None`: the default.
    relay_networks: Option<Vec<Network>>,
    rules: Vec<Rule>,
    greylist: &'static str,
    has_route: bool,
    plugins: Vec<Plugin>,
    /// Whether a program knows the passwords, and how.
    pub(super) knows: Option<Knows>,
}

type Network = (&'static str, u8);

/// A line of the gate's rules.
#[derive(Clone, Debug)]
struct Rule {
    action: &'static str,
    conditions: Vec<Condition>,
    relays: bool,
}

#[derive(Clone, Debug)]
enum Condition {
    Address(Network),
    /// `.trusted.test`.
    Name,
    Helo(&'static str),
    SenderIn(&'static str),
    RecipientIn(&'static str),
}

/// A client and all that it says.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) kind: Kind,
    /// Missing at Unix sockets.
    pub(super) address: Option<IpAddr>,
    pub(super) is_encrypted: bool,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Hello(&'static str),
    /// `None`: as who has logged in.
    Mail(Option<String>),
    Rcpt(String),
    Data,
    Reset,
    LogIn {
        account: usize,
        password: &'static str,
    },
}

impl World {
    pub(super) fn users(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<&str>)> {
        let domain = |n: &usize| self.domains[n % self.domains.len()];
        let users = self.users.iter();
        users.map(move |(name, n, forward)| (*name, domain(n), forward.as_deref()))
    }

    pub(super) fn aliases(&self) -> impl Iterator<Item = (&'static str, &'static str, &[String])> {
        let domain = |n: &usize| self.domains[n % self.domains.len()];
        let aliases = self.aliases.iter();
        aliases.map(move |(name, n, targets)| (*name, domain(n), &**targets))
    }

    /// Somebody who can log in, or one who cannot.
    pub(super) fn account(&self, n: usize) -> String {
        let all: Vec<_> = self.users().collect();
        match all.get(n % (all.len() + 1)) {
            Some((name, domain, _)) => format!("{name}@{domain}"),
            None => NOBODY.into(),
        }
    }

    /// Where accounts send mail on.
    pub(super) fn targets(&self) -> BTreeSet<String> {
        let forwards = self.users.iter().filter_map(|(_, _, to)| to.as_ref());
        let aliases = self.aliases.iter().flat_map(|(_, _, targets)| targets);
        let all = forwards.chain(aliases).chain(&self.postmaster);
        all.filter_map(|target| canonical(target)).collect()
    }

    /// No domain holds an `@`, so that the last one stands before it.
    pub(super) fn is_ours(&self, path: &str) -> bool {
        path.rsplit_once('@').is_none_or(|(_, domain)| {
            let mut ours = self.domains.iter();
            ours.any(|name| name.eq_ignore_ascii_case(domain))
        })
    }

    /// Why a client may write to somebody outside without logging in.
    pub(super) fn why(
        &self,
        visitor: &Visitor,
        subject: (&str, &str, &str),
    ) -> Option<&'static str> {
        match visitor.kind {
            Kind::Local => return Some("local"),
            Kind::Smtp => {}
            _ => return None,
        }
        let address = visitor.address?;
        if self.lets_relay(address) {
            return Some("network");
        }
        let mut rules = self.rules.iter().filter(|rule| rule.relays);
        let fits = |rule: &Rule| {
            let mut conditions = rule.conditions.iter();
            conditions.all(|condition| condition.holds(address, subject))
        };
        rules.any(fits).then_some("rule")
    }

    fn lets_relay(&self, address: IpAddr) -> bool {
        let default = [("127.0.0.0", 8), ("::1", 128)];
        let networks = self.relay_networks.as_deref().unwrap_or(&default);
        networks.iter().any(|network| lies_in(address, *network))
    }

    /// What plugins make of the sender and the recipient, who are as they say
    /// without any.
    pub(super) fn plugins_say(
        &self,
        visitor: &Visitor,
        (helo, sender, path): (&str, &str, &str),
    ) -> (Outcome, Outcome) {
        let mut plugins = self.plugins_met(visitor);
        let mut run = |event: &str, sender: &str, to: &str| {
            let outcome = programs::run(plugins, event, helo, sender, to);
            if outcome.is_over {
                plugins = &[];
            }
            outcome
        };
        let before = run("connection", sender, "").is_over | run("helo", sender, "").is_over;
        let by_mail = run("mail", sender, "");
        let mut by_rcpt = run("rcpt", &by_mail.address, path);
        by_rcpt.is_over |= before | by_mail.is_over;
        (by_mail, by_rcpt)
    }

    fn plugins_met(&self, visitor: &Visitor) -> &[Plugin] {
        // A network that may relay meets none.
        let address = visitor.address.filter(|_| visitor.kind == Kind::Smtp);
        match address.is_some_and(|address| !self.lets_relay(address)) {
            true => &self.plugins,
            false => &[],
        }
    }

    /// Whether a plugin may end a client's connection.
    pub(super) fn may_hang_up(&self, visitor: &Visitor) -> bool {
        self.plugins_met(visitor).iter().any(Plugin::hangs_up)
    }

    pub(super) fn plugins_text(&self) -> String {
        programs::table(&self.plugins)
    }

    pub(super) fn rules_text(&self) -> String {
        let lines = self.rules.iter().map(|rule| {
            let skipped = match rule.action {
                "skip" => " greylist,odd-helo",
                _ => "",
            };
            let conditions: String = rule.conditions.iter().map(Condition::text).collect();
            let variable = match (rule.relays, rule.action) {
                (true, _) => " RELAYCLIENT=\"\"",
                (false, "set") => " OTHER=\"1\"",
                _ => "",
            };
            format!("{}{skipped}{conditions}{variable}\n", rule.action)
        });
        lines.collect()
    }

    pub(super) fn config_text(&self, data: &Path, dns: SocketAddr) -> String {
        let (rules, plugins) = (data.join("rules"), data.join("plugins"));
        let mut text =
            format!("host = 'mx.example.org'\ndata = {data:?}\n[smtp]\nmax_errors = 1000\n");
        if let Some(networks) = &self.relay_networks {
            let networks: Vec<String> = networks
                .iter()
                .map(|(address, bits)| format!("'{address}/{bits}'"))
                .collect();
            let _ = writeln!(text, "relay_networks = [{}]", networks.join(", "));
        }
        let _ = writeln!(
            text,
            "[gate]\nrules = {rules:?}\nplugins = {plugins:?}\ngreylist = '{}'\ntarpit_seconds = 0\n\
             connections_per_minute = 100000\n[remote]\ndns = ['{dns}']",
            self.greylist
        );
        text += &self.knows.map(Knows::line).unwrap_or_default();
        if self.has_route {
            text += "[[route]]\ndomain = '*'\nhost = 'relay.example.com'\n";
        }
        text
    }
}

impl Condition {
    fn holds(&self, address: IpAddr, (helo, sender, path): (&str, &str, &str)) -> bool {
        let lies_below = |address: &str, domain: &str| {
            let Some((_, found)) = address.rsplit_once('@') else {
                return false;
            };
            let found = format!(".{}", found.to_ascii_lowercase());
            found.ends_with(&format!(".{domain}"))
        };
        match self {
            Self::Address(network) => lies_in(address, *network),
            Self::Name => address.to_canonical() == IpAddr::V4(TRUSTED),
            Self::Helo(name) => name.eq_ignore_ascii_case(helo),
            Self::SenderIn(domain) => lies_below(sender, domain),
            Self::RecipientIn(domain) => lies_below(path, domain),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Address((address, bits)) => format!(" address {address}/{bits}"),
            Self::Name => " name .trusted.test".into(),
            Self::Helo(name) => format!(" helo {name}"),
            Self::SenderIn(domain) => format!(" sender @{domain}"),
            Self::RecipientIn(domain) => format!(" recipient @{domain}"),
        }
    }
}

/// Bit by bit, the slow and obvious way.
fn lies_in(address: IpAddr, (base, bits): Network) -> bool {
    let binary = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
    };
    let (address, base) = (binary(address), binary(base.parse().unwrap()));
    address.len() == base.len() && address.starts_with(&base[..usize::from(bits)])
}

pub(super) fn world() -> impl Strategy<Value = World> {
    let target = || {
        "(anna|bob|x|list)@"
            .prop_flat_map(|name| select(DOMAINS).prop_map(move |domain| format!("{name}{domain}")))
    };
    let user = (
        select(NAMES),
        any::<usize>(),
        option::weighted(0.3, target()),
    );
    let names = select(["list", "anna", "bob", "", "+x", "a%b", "example.net"].as_slice());
    let alias = (names, any::<usize>(), prop::collection::vec(target(), 1..3));
    let networks = subsequence(NETWORKS, 0..3);
    (
        subsequence(DOMAINS, 1..5),
        option::weighted(0.3, target()),
        prop::collection::vec(user, 1..5),
        prop::collection::vec(alias, 0..4),
        option::weighted(0.8, networks),
        prop::collection::vec(rule(), 0..4),
        prop_oneof![8 => Just("nobody"), 1 => Just("suspects"), 1 => Just("all")],
        any::<bool>(),
        prop::collection::vec(programs::plugin(HELOS, DOMAINS), 0..5),
        option::weighted(0.7, programs::knows()),
    )
        .prop_map(
            |(
                domains,
                postmaster,
                users,
                aliases,
                relay_networks,
                rules,
                greylist,
                has_route,
                plugins,
                knows,
            )| {
                let mut world = World {
                    domains,
                    postmaster,
                    users,
                    aliases,
                    relay_networks,
                    rules,
                    greylist,
                    has_route,
                    plugins,
                    knows,
                };
                // Few other addresses would be somebody's.
                for n in 0..world.plugins.len() {
                    let account = world.account(n);
                    world.plugins[n].for_bob(account);
                }
                world
            },
        )
}

fn rule() -> impl Strategy<Value = Rule> {
    let condition = prop_oneof![
        select(NETWORKS).prop_map(Condition::Address),
        Just(Condition::Name),
        select(HELOS).prop_map(Condition::Helo),
        select(DOMAINS).prop_map(Condition::SenderIn),
        select(DOMAINS).prop_map(Condition::RecipientIn),
    ];
    let action = select(["allow", "set", "skip", "deny", "defer"].as_slice());
    let conditions = prop::collection::vec(condition, 1..3);
    (action, conditions, any::<bool>()).prop_map(|(action, conditions, relays)| Rule {
        action,
        conditions,
        relays: relays && !matches!(action, "deny" | "defer"),
    })
}

pub(super) fn visitors() -> impl Strategy<Value = Vec<Visitor>> {
    prop::collection::vec(visitor(), 1..8)
}

fn visitor() -> impl Strategy<Value = Visitor> {
    let kind = prop_oneof![
        8 => Just(Kind::Smtp),
        2 => Just(Kind::Submission),
        3 => Just(Kind::Submissions),
        1 => Just(Kind::Lmtp { tcp: true }),
        1 => Just(Kind::Lmtp { tcp: false }),
        1 => Just(Kind::Local),
    ];
    let address = select(ADDRESSES).prop_map(|text| text.parse().unwrap());
    let hello = select(HELOS).prop_map(Step::Hello);
    let login = option::weighted(0.7, login());
    let transactions = prop::collection::vec(transaction(), 1..4);
    (kind, address, any::<bool>(), hello, login, transactions).prop_map(
        |(kind, address, is_encrypted, hello, login, transactions)| {
            let is_unix = matches!(kind, Kind::Lmtp { tcp: false } | Kind::Local);
            let before = [hello].into_iter().chain(login);
            Visitor {
                kind,
                address: (!is_unix).then_some(address),
                is_encrypted: is_encrypted || kind == Kind::Submissions,
                steps: before.chain(transactions.into_iter().flatten()).collect(),
            }
        },
    )
}

fn transaction() -> impl Strategy<Value = Vec<Step>> {
    let recipients = prop::collection::vec(path().prop_map(Step::Rcpt), 1..6);
    let more = prop::collection::vec(out_of_order(), 0..3);
    let end = prop_oneof![3 => Just(Step::Data), 1 => Just(Step::Reset)];
    let steps = (sender().prop_map(Step::Mail), recipients, more, end);
    steps.prop_map(|(mail, recipients, more, end)| {
        let begin = [mail].into_iter().chain(recipients);
        begin.chain(more).chain([end]).collect()
    })
}

fn out_of_order() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => select(HELOS).prop_map(Step::Hello),
        2 => sender().prop_map(Step::Mail),
        2 => path().prop_map(Step::Rcpt),
        1 => Just(Step::Reset),
        1 => login(),
    ]
}

fn login() -> impl Strategy<Value = Step> {
    let password = prop_oneof![3 => Just(PASSWORD), 1 => Just("secret")];
    (any::<usize>(), password).prop_map(|(account, password)| Step::LogIn { account, password })
}

fn sender() -> impl Strategy<Value = Option<String>> {
    let plain = (select(NAMES), select(DOMAINS));
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(String::new())),
        6 => plain.prop_map(|(name, domain)| Some(format!("{name}@{domain}"))),
        1 => path().prop_map(Some),
    ]
}

/// Ways to write to somebody, old and new: source routes, the percent hack,
/// bang paths, quotes, dots at the end, literals, extensions, another host's
/// SRS; and anything.
fn path() -> impl Strategy<Value = String> {
    let names = select(NAMES);
    let shapes = (names, select(DOMAINS), select(DOMAINS), 0..25_usize);
    let shaped = shapes.prop_map(|(name, domain, other, shape)| match shape {
        0 => format!("@{other}:{name}@{domain}"),
        1 => format!("@{other},@{domain}:{name}@{domain}"),
        2 => format!("@{domain}:{name}@{other}@{domain}"),
        3 => format!("{name}%{other}@{domain}"),
        4 => format!("{name}%{other}%{domain}@{domain}"),
        5 => format!("{other}!{name}@{domain}"),
        6 => format!("{domain}!{other}!{name}"),
        7 => format!("\"{name}@{other}\"@{domain}"),
        8 => format!("\"{name}\"@{domain}"),
        9 => format!("\"{name}\\@{other}\"@{domain}"),
        10 => format!("{name}@{other}@{domain}"),
        11 => format!("{name}@{domain}."),
        12 => format!("{name}@{other}.{domain}"),
        13 => format!("{name}@{}", domain.to_ascii_uppercase()),
        14 => format!("{name}@[127.0.0.1]"),
        15 => format!("{name}@[IPv6:::1]"),
        16 => format!("{name}+{other}@{domain}"),
        17 => format!("{name}-{other}@{domain}"),
        18 => format!("{name}={other}@{domain}"),
        19 => format!("{name}@{domain}\0.{other}"),
        20 => format!("{name}@{domain}>,<{name}@{other}"),
        21 => name.to_owned(),
        22 => format!("\"{name}@{other}>\"@{domain}"),
        23 => srs(name, other, domain),
        _ => format!("{name}@127.0.0.1"),
    });
    let plain = (select(NAMES), select(DOMAINS));
    prop_oneof![
        3 => plain.prop_map(|(name, domain)| format!("{name}@{domain}")),
        5 => shaped,
        1 => "[ -~]{0,20}",
    ]
}

/// What looks like an address to which we would send reports on.
fn srs(name: &str, other: &str, domain: &str) -> String {
    let sender = Mailbox::parse(format!("{name}@{other}").as_bytes()).unwrap();
    let today = seconds(SystemTime::now()) / 86_400;
    let rewritten = Srs::new(b"theirs").rewrite(&sender, &Domain::parse(domain).unwrap(), today);
    rewritten.unwrap().to_string()
}
