//! DKIM signatures of what leaves our domains: RFC 6376 and RFC 8463.
//!
//! Only what is of ours is signed, once, when it enters the queue; from there
//! its bytes leave as they are, whichever way they go. Mail that passes
//! through, as by an alias or `.qmail`, is not ours to vouch for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mail_auth::common::crypto::{self, Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::{HeaderWriter, Writable};
use mail_auth::dkim::DkimSigner;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::keys::{self, Algorithm, Keys, State};
use crate::Error;
use crate::delivery::content::header_section;

/// Signs mail of the host's domains.
#[derive(Debug)]
pub struct Signers {
    data: PathBuf,
    /// By domain, with the file that they were read from.
    known: Mutex<HashMap<String, Read>>,
}

/// By which a file is known to be another one: its number and its time.
type Stamp = (u64, SystemTime);
type Read = (Stamp, Arc<[Signer]>);

/// What a message was signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// Whole lines, for the top of the message.
    pub fields: String,
    /// The selectors.
    pub selectors: Vec<String>,
}

/// One key that signs.
struct Signer {
    selector: String,
    key: Secret,
}

enum Secret {
    Rsa(Shared<RsaKey<Sha256>>),
    Ed25519(Shared<Ed25519Key>),
}

/// A key that signs more than one message.
struct Shared<K>(Arc<K>);

/// Signed whether they are there or not, so that none can be added: RFC 6376
/// §8.15. Some hosts add a Date or a Message-ID where there is none; others are
/// added by who passes mail on.
const ALWAYS: [&str; 10] = [
    "From",
    "Reply-To",
    "Subject",
    "To",
    "Cc",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// Signed when they are there: RFC 6376 §5.4.1; RFC 8058 §4 on the last two.
const IF_THERE: [&str; 17] = [
    "Date",
    "Message-ID",
    "Sender",
    "Resent-Date",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Message-ID",
    "List-Id",
    "List-Help",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

impl Signers {
    /// With the keys in the host's folder `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            known: Mutex::default(),
        }
    }

    /// The signatures of `domain` for `message`, which has LF line ends; none
    /// when the domain has no key that signs. Blocks; RSA takes about a
    /// millisecond.
    ///
    /// # Errors
    /// When the keys cannot be read.
    pub fn sign(&self, domain: &str, message: &[u8]) -> Result<Signed, Error> {
        let mut signed = Signed::default();
        let signers = self.of(domain)?;
        if signers.is_empty() {
            return Ok(signed);
        }
        let fields = fields(message);
        let message = super::without_blank_end(message);
        let domain = mail_auth::common::to_a_label(domain);
        for signer in signers.iter() {
            let field = signer.sign(&domain, &fields, message);
            let field = field.map_err(|error| {
                let reason = io::Error::other(error.to_string());
                Error::io("sign with the key", &signer.selector)(reason)
            })?;
            signed.fields.push_str(&field);
            signed.selectors.push(signer.selector.clone());
        }
        Ok(signed)
    }

    /// Read again when they have been changed.
    fn of(&self, domain: &str) -> Result<Arc<[Signer]>, Error> {
        let path = keys::file(&self.data, domain);
        let stamp = match fs::metadata(&path) {
            Ok(found) => (
                found.ino(),
                found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::new([])),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(domain) {
            Some((read, signers)) if *read == stamp => Ok(Arc::clone(signers)),
            _ => {
                let signers: Arc<[Signer]> = read(&Keys::read(&self.data, domain)?)?.into();
                known.insert(domain.to_owned(), (stamp, Arc::clone(&signers)));
                Ok(signers)
            }
        }
    }
}

fn read(keys: &Keys) -> Result<Vec<Signer>, Error> {
    let signing = keys.in_state(State::Signing);
    signing
        .map(|key| {
            let selector = key.selector.clone();
            let wrong = |reason: String| {
                let reason = io::Error::new(io::ErrorKind::InvalidData, reason);
                Error::io("use the key", selector.clone())(reason)
            };
            let pem = keys.private_key(&key.selector)?;
            let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
            let der = der.map_err(|error| wrong(error.to_string()))?;
            let key = match key.algorithm {
                Algorithm::RsaSha256 => RsaKey::from_key_der(PrivateKeyDer::Pkcs8(der))
                    .map(|key| Secret::Rsa(Shared(Arc::new(key)))),
                Algorithm::Ed25519Sha256 => Ed25519Key::from_pkcs8_der(der.secret_pkcs8_der())
                    .map(|key| Secret::Ed25519(Shared(Arc::new(key)))),
            };
            let key = key.map_err(|error| wrong(error.to_string()))?;
            Ok(Signer { selector, key })
        })
        .collect()
}

impl Signer {
    fn sign(
        &self,
        domain: &str,
        fields: &[&'static str],
        message: &[u8],
    ) -> mail_auth::Result<String> {
        let field = match &self.key {
            Secret::Rsa(key) => self.sign_with(key, domain, fields, message),
            Secret::Ed25519(key) => self.sign_with(key, domain, fields, message),
        };
        // Folded with CRLF; the queue keeps LF.
        Ok(field?.replace('\r', ""))
    }

    fn sign_with<K: SigningKey>(
        &self,
        key: &Shared<K>,
        domain: &str,
        fields: &[&'static str],
        message: &[u8],
    ) -> mail_auth::Result<String> {
        // Relaxed, both: a host on the way may unfold a field or cut blanks.
        let signer = DkimSigner::from_key(Shared(Arc::clone(&key.0)))
            .domain(domain)
            .selector(&self.selector)
            .headers(fields.iter().copied());
        Ok(signer.sign(message)?.to_header())
    }
}

impl<K: SigningKey> SigningKey for Shared<K> {
    type Hasher = K::Hasher;

    fn sign(&self, input: impl Writable) -> mail_auth::Result<Vec<u8>> {
        self.0.sign(input)
    }

    fn algorithm(&self) -> crypto::Algorithm {
        self.0.algorithm()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Signer");
        shown
            .field("selector", &self.selector)
            .finish_non_exhaustive()
    }
}

/// What is signed of `message`. A name that stands there twice is signed once
/// more than the message has it.
fn fields(message: &[u8]) -> Vec<&'static str> {
    let section = &message[..header_section(message)];
    let is_there = |name: &&str| {
        let mut lines = section.split(|b| *b == b'\n');
        lines.any(|line| {
            line.split_at_checked(name.len())
                .is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(name.as_bytes())
                        && rest.trim_ascii_start().starts_with(b":")
                })
        })
    };
    let there = IF_THERE.into_iter().filter(is_there);
    ALWAYS.into_iter().chain(ALWAYS).chain(there).collect()
}
