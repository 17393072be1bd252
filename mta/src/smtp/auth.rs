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
//! | SCRAM-SHA-256 (RFC 5802, RFC 7677) | that it knows the password, not which; the server proves the same |
//! | SCRAM-SHA-256-PLUS (RFC 9266) | the same, within this very TLS connection |
//! | CRAM-MD5 (RFC 2195) | a digest of its password and our challenge |

use std::fmt;
use std::mem;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;

use super::reply::Reply;
use super::scram::{self, Begun, Fault, First};
use crate::handover::Salt;

/// How somebody proves who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 5802 §3: within this TLS connection.
    ScramSha256Plus,
    /// RFC 7677.
    ScramSha256,
    /// RFC 4616.
    Plain,
    /// Two prompts.
    Login,
    /// RFC 2195.
    CramMd5,
}

/// Somebody wants to be taken for an account.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How it is proved.
    pub mechanism: Mechanism,
    /// The account's name, as it was said.
    pub name: String,
    /// What is to prove it.
    pub proof: Proof,
}

/// What only the account can say.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// Its password.
    Password(Vec<u8>),
    /// Of CRAM-MD5.
    Digest {
        /// What we said.
        challenge: String,
        /// In hex.
        digest: String,
    },
    /// Of SCRAM.
    Scram {
        /// What both have said.
        messages: String,
        /// The client's proof.
        proof: Vec<u8>,
    },
}

/// What the server does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// 334 with this, in base64.
    Challenge(String),
    /// Whose salt is needed; nobody's for a mere nonce. Goes on with
    /// [`Exchange::salted`].
    Salt(String),
    /// The client has said all.
    Ask(Attempt),
    /// The client knows that we know its password too.
    Done(String),
    /// The exchange is over.
    Refuse(Reply),
}

/// One exchange.
#[derive(PartialEq, Eq)]
pub(crate) struct Exchange {
    mechanism: Mechanism,
    step: Step,
}

/// What has been said.
#[derive(PartialEq, Eq)]
enum Step {
    Nothing,
    /// LOGIN: the name.
    Named(String),
    /// CRAM-MD5: our challenge.
    Challenged(String),
    First(First),
    Begun(Begun),
    /// Our own proof to this account.
    Proved(String),
}

impl Mechanism {
    /// As EHLO says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
        }
    }
}

impl Exchange {
    pub(crate) fn new(mechanism: Mechanism) -> Self {
        Self {
            mechanism,
            step: Step::Nothing,
        }
    }

    /// What follows the client's `response`; `None` before it gave one.
    /// `channel` is what both ends know of the TLS connection.
    pub(crate) fn next(&mut self, response: Option<Vec<u8>>, channel: Option<&[u8; 32]>) -> Next {
        let step = mem::replace(&mut self.step, Step::Nothing);
        let Some(response) = response else {
            return match self.mechanism {
                Mechanism::CramMd5 => Next::Salt(String::new()),
                Mechanism::Login => Next::Challenge("Username:".into()),
                _ => Next::Challenge(String::new()),
            };
        };
        match (step, self.mechanism) {
            (Step::Nothing, Mechanism::Plain) => plain(&response),
            (Step::Nothing, Mechanism::Login) => {
                let Ok(name) = String::from_utf8(response) else {
                    return Next::Refuse(malformed());
                };
                self.step = Step::Named(name);
                Next::Challenge("Password:".into())
            }
            (Step::Named(name), _) => self.ask(name, Proof::Password(response)),
            // RFC 4954 §4: it has no initial response.
            (Step::Nothing, Mechanism::CramMd5) => Next::Refuse(malformed()),
            (Step::Challenged(challenge), _) => self.cram_md5(challenge, &response),
            (Step::Nothing, Mechanism::ScramSha256 | Mechanism::ScramSha256Plus) => {
                let plus = self.mechanism == Mechanism::ScramSha256Plus;
                match First::parse(&response, plus, channel) {
                    Ok(first) => {
                        let name = first.name.clone();
                        self.step = Step::First(first);
                        Next::Salt(name)
                    }
                    Err(fault) => fault.into(),
                }
            }
            (Step::Begun(begun), _) => match begun.finish(&response) {
                Ok((name, messages, proof)) => self.ask(name, Proof::Scram { messages, proof }),
                Err(fault) => fault.into(),
            },
            (Step::Proved(account), _) if response.is_empty() => Next::Done(account),
            (Step::Proved(_) | Step::First(_), _) => Next::Refuse(malformed()),
        }
    }

    /// Goes on with what [`Next::Salt`] asked for.
    pub(crate) fn salted(&mut self, salt: &Salt, host: &str) -> Next {
        match mem::replace(&mut self.step, Step::Nothing) {
            Step::First(first) => {
                let (begun, text) = first.answer(&salt.nonce, &salt.salt, salt.iterations);
                self.step = Step::Begun(begun);
                Next::Challenge(text)
            }
            _ => {
                let challenge = format!("<{}@{host}>", salt.nonce);
                self.step = Step::Challenged(challenge.clone());
                Next::Challenge(challenge)
            }
        }
    }

    /// The client has proved that it is `account`; this is our own proof.
    pub(crate) fn proved(&mut self, account: String, signature: &[u8]) -> Next {
        self.step = Step::Proved(account);
        Next::Challenge(scram::last(signature))
    }

    fn ask(&self, name: String, proof: Proof) -> Next {
        Next::Ask(Attempt {
            mechanism: self.mechanism,
            name,
            proof,
        })
    }

    /// `name SP digest`: RFC 2195 §2.
    fn cram_md5(&self, challenge: String, response: &[u8]) -> Next {
        let text = str::from_utf8(response).ok();
        let Some((name, digest)) = text.and_then(|text| text.rsplit_once(' ')) else {
            return Next::Refuse(malformed());
        };
        let digest = digest.to_owned();
        self.ask(name.to_owned(), Proof::Digest { challenge, digest })
    }
}

impl From<Fault> for Next {
    fn from(fault: Fault) -> Self {
        Self::Refuse(match fault {
            Fault::Malformed => malformed(),
            Fault::Wrong => wrong(),
        })
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
        proof: Proof::Password(password.to_owned()),
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

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof")
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
    fn run(mechanism: Mechanism, responses: &[&str]) -> (Vec<String>, Option<Next>) {
        let mut exchange = Exchange::new(mechanism);
        let mut challenges = Vec::new();
        let all = responses.iter().map(|r| Some(r.as_bytes().to_vec()));
        let start = (!responses.is_empty()).then_some(None);
        for response in start.into_iter().chain(all) {
            let salt = Salt {
                nonce: "7".into(),
                salt: b"salt".into(),
                iterations: 9,
            };
            let next = match exchange.next(response, None) {
                Next::Salt(_) => exchange.salted(&salt, "mx"),
                next => next,
            };
            match next {
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
                proof: Proof::Password(password.into()),
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
            let challenges = challenges.iter().map(ToString::to_string).collect();
            assert_eq!(
                run(mechanism, responses),
                (challenges, Some(end)),
                "{responses:?}"
            );
        }
    }

    #[test]
    fn cram_md5_and_scram() {
        let cram = Mechanism::CramMd5;
        let digest = |name: &str, digest: &str| {
            Next::Ask(Attempt {
                mechanism: cram,
                name: name.into(),
                proof: Proof::Digest {
                    challenge: "<7@mx>".into(),
                    digest: digest.into(),
                },
            })
        };
        for (responses, end) in [
            (&["anna b 0a"][..], digest("anna b", "0a")),
            (&["anna"], Next::Refuse(malformed())),
        ] {
            let expected = (vec!["<7@mx>".to_owned()], Some(end));
            assert_eq!(run(cram, responses), expected);
        }
        let begun = Exchange::new(cram).next(Some(b"anna 0a".into()), None);
        assert_eq!(begun, Next::Refuse(malformed()));

        let (challenges, end) = run(
            Mechanism::ScramSha256,
            &["n,,n=anna,r=1", "c=biws,r=17,p=YQ=="],
        );
        assert_eq!(challenges, ["", "r=17,s=c2FsdA==,i=9"]);
        let messages = "n=anna,r=1,r=17,s=c2FsdA==,i=9,c=biws,r=17".into();
        let proof = b"a".into();
        let proof = Proof::Scram { messages, proof };
        assert!(matches!(end, Some(Next::Ask(attempt)) if attempt.proof == proof));
        let mut exchange = Exchange::new(Mechanism::ScramSha256);
        let signed = exchange.proved("anna".into(), b"a");
        assert_eq!(signed, Next::Challenge("v=YQ==".into()));
        assert_eq!(
            exchange.next(Some(Vec::new()), None),
            Next::Done("anna".into())
        );
        exchange.proved("anna".into(), b"a");
        let more = exchange.next(Some(b"x".into()), None);
        assert_eq!(more, Next::Refuse(malformed()));
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
            proof: Proof::Password(b"hunter2".into()),
        };
        assert!(!format!("{:?}", attempt.proof).contains("hunter"));
        assert_eq!(format!("{attempt:?}"), "Attempt(LOGIN)");
        let mut exchange = Exchange::new(Mechanism::Login);
        exchange.next(Some(b"hunter1".into()), None);
        assert!(!format!("{exchange:?}").contains("hunter"));
    }
}
