//! The messages of SCRAM-SHA-256 and its form with channel binding, on the
//! server's side (RFC 5802 §7, RFC 7677).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What the client says first, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct First {
    /// Who it wants to be.
    pub(super) name: String,
    nonce: String,
    /// `gs2-header`, with the channel's data: what `c=` must be.
    binding: Vec<u8>,
    /// `client-first-message-bare`.
    bare: String,
}

/// What was said when the last message of the client is waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun {
    first: First,
    /// `server-first-message`.
    server_first: String,
    nonce: String,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    /// Somebody stands in between, or tries to be somebody else.
    Wrong,
}

/// Longer nonces are of no use, and our reply must fit a line.
const MAX_NONCE: usize = 128;

impl First {
    /// Reads `client-first-message`. `channel` is what both ends of the TLS
    /// connection know of it (RFC 9266), if there is anything; `plus` whether
    /// the mechanism is the one that binds to it.
    pub(super) fn parse(
        message: &[u8],
        plus: bool,
        channel: Option<&[u8; 32]>,
    ) -> Result<Self, Fault> {
        let message = str::from_utf8(message).map_err(|_| Fault::Malformed)?;
        let mut parts = message.splitn(3, ',');
        let (flag, authzid, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(authzid), Some(bare)) => (flag, authzid, bare),
            _ => return Err(Fault::Malformed),
        };
        let mut binding = format!("{flag},{authzid},").into_bytes();
        match (flag, plus, channel) {
            ("n", false, _) => {}
            // The client could bind and believes that we cannot: where we can,
            // somebody has changed what we offered.
            ("y", false, None) => {}
            ("y", false, Some(_)) => return Err(Fault::Wrong),
            ("p=tls-exporter", true, Some(channel)) => binding.extend_from_slice(channel),
            _ => return Err(Fault::Malformed),
        }
        let mut attributes = bare.split(',');
        // An extension that must be understood, `m=`, comes before the name.
        let name = attributes.next().and_then(|a| a.strip_prefix("n="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        let name = name.and_then(name_decoded).ok_or(Fault::Malformed)?;
        let nonce = nonce
            .filter(|nonce| is_nonce(nonce))
            .ok_or(Fault::Malformed)?;
        // Deviation: `a=`, which gsasl says for nobody else.
        if !matches!(authzid, "" | "a=") {
            let other = authzid.strip_prefix("a=").and_then(name_decoded);
            let other = other.ok_or(Fault::Malformed)?;
            if !other.eq_ignore_ascii_case(&name) {
                return Err(Fault::Wrong);
            }
        }
        Ok(Self {
            name,
            nonce: nonce.to_owned(),
            binding,
            bare: bare.to_owned(),
        })
    }

    /// Answers it with `server-first-message`.
    pub(super) fn answer(self, nonce: &str, salt: &[u8], iterations: u32) -> (Begun, String) {
        let nonce = format!("{}{nonce}", self.nonce);
        let salt = BASE64_STANDARD.encode(salt);
        let server_first = format!("r={nonce},s={salt},i={iterations}");
        let begun = Begun {
            first: self,
            server_first: server_first.clone(),
            nonce,
        };
        (begun, server_first)
    }
}

impl Begun {
    /// Reads `client-final-message`: the name, what both have signed
    /// (`AuthMessage`), and the client's proof.
    pub(super) fn finish(self, message: &[u8]) -> Result<(String, String, Vec<u8>), Fault> {
        let message = str::from_utf8(message).map_err(|_| Fault::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Fault::Malformed)?;
        let proof = BASE64_STANDARD
            .decode(proof)
            .map_err(|_| Fault::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(Fault::Malformed);
        };
        let binding = BASE64_STANDARD
            .decode(binding)
            .map_err(|_| Fault::Malformed)?;
        if binding != self.first.binding || nonce != self.nonce {
            return Err(Fault::Wrong);
        }
        let signed = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        Ok((self.first.name, signed, proof))
    }
}

/// `server-final-message`.
pub(super) fn last(signature: &[u8]) -> String {
    format!("v={}", BASE64_STANDARD.encode(signature))
}

/// `saslname`: `=2C` for a comma, `=3D` for an equals sign.
fn name_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (c, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        name.push(c);
        name.push_str(rest);
    }
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

fn is_nonce(text: &str) -> bool {
    let printable = |b: u8| matches!(b, 0x21..=0x7e) && b != b',';
    (1..=MAX_NONCE).contains(&text.len()) && text.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: [u8; 32] = [7; 32];

    /// The example of RFC 7677 §3.
    #[test]
    fn the_example_of_the_standard() {
        let first = First::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", false, None).unwrap();
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (begun, said) = first.answer("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", &salt, 4096);
        assert_eq!(
            said,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let (name, signed, proof) = begun.finish(last).unwrap();
        assert_eq!((&*name, proof.len()), ("user", 32));
        assert!(signed.starts_with("n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOpr"));
        assert!(
            signed.ends_with(",i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        );
    }

    #[test]
    fn what_a_client_may_say_first() {
        let long = format!("n,,n=a,r={}", "x".repeat(MAX_NONCE + 1));
        for (message, plus, channel, expected) in [
            ("n,,n=a=2Cb=3D,r=x", false, None, Ok("a,b=")),
            ("n,a=A,n=a,r=x,ext=1", false, Some(&CHANNEL), Ok("a")),
            ("n,a=,n=a,r=x", false, None, Ok("a")),
            ("n,a=b,n=a,r=x", false, None, Err(Fault::Wrong)),
            ("y,,n=a,r=x", false, None, Ok("a")),
            // Somebody hid the better mechanism.
            ("y,,n=a,r=x", false, Some(&CHANNEL), Err(Fault::Wrong)),
            ("p=tls-exporter,,n=a,r=x", true, Some(&CHANNEL), Ok("a")),
            (
                "p=tls-exporter,,n=a,r=x",
                false,
                Some(&CHANNEL),
                Err(Fault::Malformed),
            ),
            ("p=tls-exporter,,n=a,r=x", true, None, Err(Fault::Malformed)),
            (
                "p=tls-unique,,n=a,r=x",
                true,
                Some(&CHANNEL),
                Err(Fault::Malformed),
            ),
            ("n,,n=a,r=x", true, Some(&CHANNEL), Err(Fault::Malformed)),
            ("n,,m=x,n=a,r=x", false, None, Err(Fault::Malformed)),
            ("n,,n=a=2c,r=x", false, None, Err(Fault::Malformed)),
            ("n,,n=,r=x", false, None, Err(Fault::Malformed)),
            ("n,,n=a,r=", false, None, Err(Fault::Malformed)),
            ("n,,n=a", false, None, Err(Fault::Malformed)),
            ("n", false, None, Err(Fault::Malformed)),
            (&long, false, None, Err(Fault::Malformed)),
        ] {
            let found = First::parse(message.as_bytes(), plus, channel).map(|first| first.name);
            assert_eq!(found, expected.map(str::to_owned), "{message}");
        }
    }

    #[test]
    fn another_channel_or_nonce_is_another_conversation() {
        let begun = || {
            let first = First::parse(b"p=tls-exporter,,n=a,r=x", true, Some(&CHANNEL));
            first.unwrap().answer("y", b"salt", 1).0
        };
        let binding = |channel: &[u8]| {
            BASE64_STANDARD.encode([b"p=tls-exporter,,".as_slice(), channel].concat())
        };
        let right = binding(&CHANNEL);
        for (message, expected) in [
            (format!("c={right},r=xy,p=YQ=="), None),
            (format!("c={right},r=xy,x=1,p=YQ=="), None),
            (
                format!("c={},r=xy,p=YQ==", binding(&[8; 32])),
                Some(Fault::Wrong),
            ),
            (format!("c={right},r=x,p=YQ=="), Some(Fault::Wrong)),
            ("c=biws,r=xy,p=YQ==".into(), Some(Fault::Wrong)),
            (format!("c={right},r=xy"), Some(Fault::Malformed)),
            (format!("c={right},r=xy,p=!"), Some(Fault::Malformed)),
            (String::new(), Some(Fault::Malformed)),
        ] {
            assert_eq!(
                begun().finish(message.as_bytes()).err(),
                expected,
                "{message}"
            );
        }
    }
}
