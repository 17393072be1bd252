//! What is kept of a domain and of a user.

use std::fmt;
use std::str::FromStr;

use mailbox::Quota;

use super::{Address, Password};
use crate::handover::GateLevel;

/// A domain whose mail is received here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// In lower case.
    pub name: String,
    /// Who gets the mail of its postmaster, when nobody is called so. Without,
    /// it gathers in a mailbox `postmaster`: RFC 5321 §4.5.1 wants an answer.
    pub postmaster: Option<String>,
    /// Whether its users may run programs by `.qmail`.
    pub programs: bool,
    /// How the gate is kept for its users.
    pub gate: GateLevel,
}

/// Somebody with a mailbox.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Its name.
    pub address: Address,
    /// What holds for this user.
    pub settings: UserSettings,
}

/// What can be said of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct UserSettings {
    /// What the mailbox may hold; anything by default.
    pub quota: Quota,
    /// What happens to mail that would exceed it.
    pub over_quota: OverQuota,
    /// Whether mail is scored at all. Default: yes.
    pub filter: bool,
    /// The probability, between 0 and 1, above which mail is spam; by default
    /// what the user's own corrections say.
    pub threshold: Option<f64>,
    /// What becomes of spam.
    pub spam: SpamPolicy,
    /// Whether `.qmail` may run programs, also where the domain does not.
    pub programs: bool,
    /// How the gate is kept; by default as for the domain.
    pub gate: Option<GateLevel>,
    /// What the user proves to be the user with. Without one nobody can log in.
    pub password: Option<Password>,
}

impl Default for UserSettings {
    fn default() -> Self {
        Self {
            quota: Quota::default(),
            over_quota: OverQuota::default(),
            filter: true,
            threshold: None,
            spam: SpamPolicy::default(),
            programs: false,
            gate: None,
            password: None,
        }
    }
}

/// What happens to mail for a full mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverQuota {
    /// It waits in the queue: 4.2.2. The default, because people tidy up.
    #[default]
    Defer,
    /// It goes back: 5.2.2.
    Refuse,
}

/// What happens to spam.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpamPolicy {
    /// It is filed in Junk, where the user finds what was judged wrongly.
    #[default]
    Folder,
    /// It stays in INBOX, with the header fields that tell.
    Tag,
    /// It is refused while the client waits, if all recipients would; else it
    /// goes to Junk.
    Refuse,
}

macro_rules! words {
    ($type:ident, $($word:literal => $variant:ident),+) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("{other:?} is none of: {}", [$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

words!(OverQuota, "defer" => Defer, "refuse" => Refuse);
words!(GateLevel, "on" => On, "no-greylist" => NoGreylist, "off" => Off);
words!(SpamPolicy, "folder" => Folder, "tag" => Tag, "refuse" => Refuse);

/// Reads a number of bytes: `1500`, `10k`, `500M`, `2G`, by 1024.
///
/// # Errors
/// With the reason, when it is none.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write 500M or 2G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let power = match unit.strip_suffix('B').unwrap_or(unit) {
        "" => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1024_u64.pow(power)).ok_or_else(wrong)
}

/// The shortest text that [`parse_bytes`] reads as this number.
pub fn print_bytes(bytes: u64) -> String {
    let mut number = bytes;
    let mut unit = "";
    for larger in ["k", "M", "G", "T"] {
        if number == 0 || !number.is_multiple_of(1024) {
            break;
        }
        number /= 1024;
        unit = larger;
    }
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes) in [("7B", 7), ("10kB", 10 << 10), ("1GB", 1 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("10k", 10 * 1024),
            ("500M", 500 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes));
            assert_eq!(print_bytes(bytes), text);
        }
        for text in ["", "M", "-1", "1.5G", "1 G", "99999999T", "1Gi"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_come_back() {
        for word in ["folder", "tag", "refuse"] {
            assert_eq!(word.parse::<SpamPolicy>().unwrap().to_string(), word);
        }
        let error = "drop".parse::<OverQuota>().unwrap_err();
        assert_eq!(error, "\"drop\" is none of: defer, refuse");
    }
}
