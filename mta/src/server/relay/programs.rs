//! Programs of an administrator, as scripts and as what they must lead to: the
//! gate's plugins, and the one that knows passwords.

use proptest::prelude::*;
use proptest::sample::select;

use super::{PASSWORD, canonical};

/// A line of the table of plugins.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    event: &'static str,
    /// What it looks at, and how that ends.
    looks: (&'static str, String),
    says: Says,
}

#[derive(Clone, Debug)]
enum Says {
    /// `O`.
    Trust,
    /// `N`.
    Next,
    /// `A`.
    Over,
    /// What refuses, and is its last word.
    Refuse(&'static str),
    /// What lets nobody relay, and is not its last word.
    Aside(&'static str),
    /// `C`.
    Change(String),
}

/// `R` and `D` end the connection too.
const REFUSALS: &[&str] = &["E550 5.7.1 no", "R550 5.7.1 no", "D"];
/// RELAYCLIENT is the rules' to give and to take.
const ASIDES: &[&str] = &[
    "SRELAYCLIENT=",
    "URELAYCLIENT",
    "LM550 5.7.1 no",
    "LD550 5.7.1 no",
];

/// What plugins have made of a sender or a recipient.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) address: String,
    /// Only counts for a recipient.
    pub(super) is_trusted: bool,
    /// None runs any more in this session.
    pub(super) is_over: bool,
}

/// What the program says that knows passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knows {
    /// The right one is right, of whatever name.
    Passwords,
    /// Any is right.
    Anything,
    /// None is right.
    Nothing,
    /// It cannot tell.
    NotNow,
}

impl Plugin {
    /// One that names bob names `account` in his place.
    pub(super) fn for_bob(&mut self, account: String) {
        if let Says::Change(address) = &mut self.says
            && address.starts_with("bob@")
        {
            *address = account;
        }
    }

    /// Whether it may end a connection.
    pub(super) fn hangs_up(&self) -> bool {
        matches!(self.says, Says::Refuse(text) if !text.starts_with('E'))
    }

    fn line(&self) -> String {
        let (variable, end) = &self.looks;
        let says = match &self.says {
            Says::Trust => "O".to_owned(),
            Says::Next => "N".into(),
            Says::Over => "A".into(),
            Says::Refuse(text) | Says::Aside(text) => (*text).to_owned(),
            Says::Change(address) => format!("C{address}"),
        };
        format!(
            "[{}]\n:case \"${variable}\" in *\"{end}\") echo '{says}';; esac\n",
            self.event
        )
    }
}

pub(super) fn table(plugins: &[Plugin]) -> String {
    plugins.iter().map(Plugin::line).collect()
}

/// What the plugins of an event lead to, where none refuses. That O counts at
/// RCPT alone is for the caller to hold to.
pub(super) fn run(plugins: &[Plugin], event: &str, helo: &str, sender: &str, to: &str) -> Outcome {
    let address = if event == "mail" { sender } else { to };
    let mut outcome = Outcome {
        address: address.to_owned(),
        is_trusted: false,
        is_over: false,
    };
    for plugin in plugins.iter().filter(|plugin| plugin.event == event) {
        let (variable, end) = &plugin.looks;
        let seen = match *variable {
            "SMTPHELOHOST" => helo,
            "SMTPMAILFROM" if event != "mail" => sender,
            _ => &outcome.address,
        };
        if !seen.ends_with(&**end) {
            continue;
        }
        match &plugin.says {
            Says::Aside(_) => continue,
            Says::Change(other) => {
                outcome.address = canonical(other).unwrap();
                continue;
            }
            Says::Trust => outcome.is_trusted = true,
            Says::Over => outcome.is_over = true,
            Says::Next | Says::Refuse(_) => {}
        }
        break;
    }
    outcome
}

impl Knows {
    /// A line of the configuration.
    pub(super) fn line(self) -> String {
        let script = match self {
            Self::Passwords => format!(
                r#"case "$(tr "\\000" " " <&3)" in *" {PASSWORD}  ") exec "$@";; esac; exit 1"#
            ),
            Self::Anything => r#"exec "$@""#.into(),
            Self::Nothing => "exit 1".into(),
            Self::NotNow => "exit 111".into(),
        };
        format!("[login]\ncheckpassword = ['/bin/sh', '-c', '{script}', 'sh', '/bin/true']\n")
    }

    /// Whether somebody may be logged in with `password`.
    pub(super) fn takes(self, password: &str) -> bool {
        match self {
            Self::Passwords => password == PASSWORD,
            Self::Anything => true,
            Self::Nothing | Self::NotNow => false,
        }
    }
}

pub(super) fn plugin(
    helos: &'static [&'static str],
    domains: &'static [&'static str],
) -> impl Strategy<Value = Plugin> {
    let event = prop_oneof![
        1 => Just("connection"),
        1 => Just("helo"),
        2 => Just("mail"),
        6 => Just("rcpt"),
    ];
    let names = select(["bob", "postmaster"].as_slice());
    let address = (names, select(domains)).prop_map(|(name, domain)| format!("{name}@{domain}"));
    let at = |domain| format!("@{domain}");
    let looks = prop_oneof![
        1 => select(helos).prop_map(|name| ("SMTPHELOHOST", name.to_owned())),
        2 => select(domains).prop_map(move |domain| ("SMTPMAILFROM", at(domain))),
        4 => select(domains).prop_map(move |domain| ("SMTPRCPTTO", at(domain))),
        3 => Just(("SMTPRCPTTO", String::new())),
    ];
    let says = prop_oneof![
        4 => Just(Says::Trust),
        1 => Just(Says::Next),
        4 => Just(Says::Over),
        4 => select(REFUSALS).prop_map(Says::Refuse),
        2 => select(ASIDES).prop_map(Says::Aside),
        6 => address.prop_map(Says::Change),
    ];
    (event, looks, says).prop_map(|(event, (variable, end), says)| {
        // What is not known yet is another one's.
        let looks = match (event, variable) {
            ("mail", "SMTPRCPTTO") => ("SMTPMAILFROM", end),
            ("connection" | "helo", _) => ("PROTO", String::new()),
            _ => (variable, end),
        };
        Plugin { event, looks, says }
    })
}

pub(super) fn knows() -> impl Strategy<Value = Knows> {
    prop_oneof![
        6 => Just(Knows::Passwords),
        1 => Just(Knows::Anything),
        1 => Just(Knows::Nothing),
        1 => Just(Knows::NotNow),
    ]
}
