//! The server's side of AUTH: what is said between the command and its last
//! reply (RFC 4954), for each mechanism.
//!
//! Nothing is checked here. An exchange ends with an [`Attempt`], which is
//! a question to the host.
//!
//! | mechanism | what the client says |
//! | --- | --- |
//! | PLAIN (RFC 4616) | another's name or nothing, NUL, its name, NUL, its password |
//! | LOGIN (never a standard; Outlook has no other) | its name, then its password |

use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;

use super::reply::Reply;

/// How somebody proves who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Two prompts.
    Login,
}

/// Somebody wants to be taken for an account.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How it is proved.
    pub mechanism: Mechanism,
    /// The account's name, as it was said.
    pub name: String,
    /// What only the account knows.
    pub password: Vec<u8>,
}

/// What the server does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// 334 with this, in base64.
    Challenge(&'static str),
    /// The client has said all.
    Ask(Attempt),
    /// The exchange is over.
    Refuse(Reply),
}

/// One exchange.
#[derive(PartialEq, Eq)]
pub(crate) struct Exchange {
    mechanism: Mechanism,
    /// What LOGIN has said first.
    name: Option<String>,
}

impl Mechanism {
    /// All of them, the best first.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Login];

    /// As EHLO says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The one of that name, in either case.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let is_it = |one: &Self| name.eq_ignore_ascii_case(one.name().as_bytes());
        Self::ALL.into_iter().find(is_it)
    }
}

impl Exchange {
    pub(crate) fn new(mechanism: Mechanism) -> Self {
        Self {
            mechanism,
            name: None,
        }
    }

    /// What follows the client's `response`; `None` before it gave one.
    pub(crate) fn next(&mut self, response: Option<Vec<u8>>) -> Next {
        match (self.mechanism, response, self.name.take()) {
            (Mechanism::Plain, None, _) => Next::Challenge(""),
            (Mechanism::Plain, Some(response), _) => plain(&response),
            (Mechanism::Login, None, _) => Next::Challenge("Username:"),
            (Mechanism::Login, Some(response), None) => {
                let Ok(name) = String::from_utf8(response) else {
                    return Next::Refuse(malformed());
                };
                self.name = Some(name);
                Next::Challenge("Password:")
            }
            (Mechanism::Login, Some(password), Some(name)) => Next::Ask(Attempt {
                mechanism: self.mechanism,
                name,
                password,
            }),
        }
    }
}

/// `authzid NUL authcid NUL passwd`: RFC 4616 §2.
fn plain(response: &[u8]) -> Next {
    let mut parts = response.split(|b| *b == 0);
    let (Some(other), Some(name), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Next::Refuse(malformed());
    };
    let (Ok(other), Ok(name)) = (str::from_utf8(other), str::from_utf8(name)) else {
        return Next::Refuse(malformed());
    };
    // Nobody may act for somebody else.
    if !other.is_empty() && !other.eq_ignore_ascii_case(name) {
        return Next::Refuse(wrong());
    }
    Next::Ask(Attempt {
        mechanism: Mechanism::Plain,
        name: name.to_owned(),
        password: password.to_owned(),
    })
}

/// As it goes over the wire.
pub(crate) fn challenge(text: &str) -> Reply {
    Reply::plain(334, BASE64_STANDARD.encode(text))
}

/// What a line of the client holds; `None` when it is no base64.
pub(crate) fn response(line: &[u8]) -> Option<Vec<u8>> {
    // RFC 4954 §4 wants padding. Some clients leave it out, and nothing else
    // could be meant.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT.decode(line).ok()
}

/// RFC 4954 §6. The same whether there is the account or not.
pub fn wrong() -> Reply {
    Reply::new(535, (5, 7, 8), "the name or the password is wrong")
}

fn malformed() -> Reply {
    Reply::new(501, (5, 5, 2), "the response is malformed")
}

impl fmt::Debug for Attempt {
    /// Neither the password nor the name, for which some type their password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({})", self.mechanism.name())
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({})", self.mechanism.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `responses` lead to, and the challenges on the way.
    fn run(mechanism: Mechanism, responses: &[&str]) -> (Vec<&'static str>, Option<Next>) {
        let mut exchange = Exchange::new(mechanism);
        let mut challenges = Vec::new();
        let all = responses.iter().map(|r| Some(r.as_bytes().to_vec()));
        let start = (!responses.is_empty()).then_some(None);
        for response in start.into_iter().chain(all) {
            match exchange.next(response) {
                Next::Challenge(text) => challenges.push(text),
                end => return (challenges, Some(end)),
            }
        }
        (challenges, None)
    }

    #[test]
    fn what_clients_say() {
        let ask = |mechanism, name: &str, password: &str| {
            Next::Ask(Attempt {
                mechanism,
                name: name.into(),
                password: password.into(),
            })
        };
        let both = vec!["Username:", "Password:"];
        for (mechanism, responses, challenges, end) in [
            (
                Mechanism::Plain,
                &["\0anna\0secret"][..],
                vec![""],
                ask(Mechanism::Plain, "anna", "secret"),
            ),
            (
                Mechanism::Plain,
                &["Anna\0anna\0x"],
                vec![""],
                ask(Mechanism::Plain, "anna", "x"),
            ),
            (
                Mechanism::Plain,
                &["bob\0anna\0x"],
                vec![""],
                Next::Refuse(wrong()),
            ),
            (
                Mechanism::Plain,
                &["\0anna\0"],
                vec![""],
                ask(Mechanism::Plain, "anna", ""),
            ),
            (
                Mechanism::Plain,
                &["anna\0x"],
                vec![""],
                Next::Refuse(malformed()),
            ),
            (
                Mechanism::Plain,
                &["\0anna\0x\0"],
                vec![""],
                Next::Refuse(malformed()),
            ),
            (Mechanism::Plain, &[""], vec![""], Next::Refuse(malformed())),
            (
                Mechanism::Login,
                &["anna", "se cret"],
                both.clone(),
                ask(Mechanism::Login, "anna", "se cret"),
            ),
            (
                Mechanism::Login,
                &["", ""],
                both,
                ask(Mechanism::Login, "", ""),
            ),
        ] {
            assert_eq!(
                run(mechanism, responses),
                (challenges, Some(end)),
                "{responses:?}"
            );
        }
    }

    #[test]
    fn base64_with_and_without_padding() {
        for (line, expected) in [
            ("", Some("")),
            ("YQ==", Some("a")),
            ("YQ", Some("a")),
            ("YQ=", Some("a")),
            ("Y", None),
            ("YQ== ", None),
            ("*", None),
        ] {
            assert_eq!(
                response(line.as_bytes()).as_deref(),
                expected.map(str::as_bytes),
                "{line}"
            );
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let attempt = Attempt {
            mechanism: Mechanism::Login,
            name: "hunter1".into(),
            password: b"hunter2".into(),
        };
        assert_eq!(format!("{attempt:?}"), "Attempt(LOGIN)");
        let mut exchange = Exchange::new(Mechanism::Login);
        exchange.next(Some(b"hunter1".into()));
        assert!(!format!("{exchange:?}").contains("hunter"));
    }
}
