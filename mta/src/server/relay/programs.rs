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
    Trust,
    Next,
    Refuse,
    Relay,
    Change(String),
}

/// What plugins have made of a sender or a recipient.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) address: String,
    /// Only counts for a recipient.
    pub(super) is_trusted: bool,
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
    pub(super) fn for_bob(mut self, account: String) -> Self {
        if let Says::Change(address) = &mut self.says
            && address.starts_with("bob@")
        {
            *address = account;
        }
        self
    }

    fn line(&self) -> String {
        let (variable, end) = &self.looks;
        let says = match &self.says {
            Says::Trust => "O".to_owned(),
            Says::Next => "N".into(),
            Says::Refuse => "E550 5.7.1 no".into(),
            Says::Relay => "SRELAYCLIENT=".into(),
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

/// What the plugins of an event lead to. That O counts at RCPT alone, and that
/// RELAYCLIENT of a plugin does not count, is for the caller to hold to.
pub(super) fn run(plugins: &[Plugin], event: &str, helo: &str, sender: &str, to: &str) -> Outcome {
    let mut address = if event == "mail" { sender } else { to }.to_owned();
    for plugin in plugins.iter().filter(|plugin| plugin.event == event) {
        let (variable, end) = &plugin.looks;
        let seen = match *variable {
            "SMTPHELOHOST" => helo,
            "SMTPMAILFROM" if event != "mail" => sender,
            _ => &address,
        };
        if !seen.ends_with(&**end) {
            continue;
        }
        match &plugin.says {
            Says::Trust | Says::Next | Says::Refuse => {
                let is_trusted = matches!(plugin.says, Says::Trust);
                return Outcome {
                    address,
                    is_trusted,
                };
            }
            Says::Relay => {}
            Says::Change(other) => address = canonical(other).unwrap(),
        }
    }
    let is_trusted = false;
    Outcome {
        address,
        is_trusted,
    }
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
        1 => Just(Says::Refuse),
        1 => Just(Says::Relay),
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
