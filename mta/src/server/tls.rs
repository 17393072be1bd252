//! The certificates that TLS shows (RFC 3207, RFC 8314): by the name that the
//! client asks for (RFC 6066 §3), and always those that lie on the disk now.
//!
//! Which certificate is for which name stands in the certificates themselves.
//! The files are looked at every few seconds, in place of watching them: what
//! is configured is often a link to a link, and what changes is the second.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

use crate::Error;
use crate::smtp;

/// Where a certificate and its key are: two PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate and those it needs.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// All certificates. They can be exchanged while sessions go on.
#[derive(Debug)]
pub struct Certificates {
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Shown(RwLock<Vec<Loaded>>);

#[derive(Debug)]
struct Loaded {
    pair: Pair,
    /// What its files were when they were last looked at.
    stamp: Stamp,
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

/// Tells one state of the two files from another.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stamp(Vec<(u64, u64, i64, i64)>);

impl Certificates {
    /// Reads all pairs. The first is shown to whoever asks for no name, or for
    /// one that is in none.
    ///
    /// # Errors
    /// When files cannot be read, or do not fit together.
    pub fn read(pairs: &[Pair]) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let loaded: Result<_, Error> = pairs.iter().map(|pair| load(pair, &provider)).collect();
        let shown = Arc::new(Shown(RwLock::new(loaded?)));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the ciphers of TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        Ok(Self {
            shown,
            config: Arc::new(config),
        })
    }

    /// Reads those whose files have changed since, or all. What cannot be read
    /// stays as it was, which is logged once.
    pub fn look_again(&self, all: bool) {
        let provider = self.config.crypto_provider();
        let read = || self.shown.0.read().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<(Pair, bool)> = read()
            .iter()
            .map(|one| (one.pair.clone(), all || one.stamp != stamp(&one.pair)))
            .collect();
        for (n, (pair, has_changed)) in known.into_iter().enumerate() {
            if !has_changed {
                continue;
            }
            let loaded = load(&pair, provider);
            let mut all = self.shown.0.write().unwrap_or_else(PoisonError::into_inner);
            match loaded {
                Ok(loaded) => {
                    info!(path = %pair.certificate.display(), "certificate read again");
                    all[n] = loaded;
                }
                Err(error) => {
                    error!(%error, "the certificate stays as it was");
                    all[n].stamp = stamp(&pair);
                }
            }
        }
    }

    /// The names in each certificate.
    pub fn names(&self) -> Vec<(Pair, Vec<String>)> {
        let all = self.shown.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|one| (one.pair.clone(), one.names.clone()))
            .collect()
    }

    /// When each certificate ends.
    pub fn ends(&self) -> Vec<(Pair, SystemTime)> {
        let all = self.shown.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter_map(|one| Some((one.pair.clone(), end(one.key.cert.first()?)?)))
            .collect()
    }

    /// For the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = client.server_name();
        let of_name = wanted.and_then(|wanted| {
            all.iter()
                .find(|one| one.names.iter().any(|name| is_for(name, wanted)))
        });
        of_name.or(all.first()).map(|one| Arc::clone(&one.key))
    }
}

/// Whether the name in a certificate, perhaps `*.example.org`, is that of
/// `host`: RFC 9525 §6.3.
fn is_for(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

fn load(pair: &Pair, provider: &CryptoProvider) -> Result<Loaded, Error> {
    let failed = |path: &PathBuf, error: &dyn std::fmt::Display| {
        Error::io("use", path)(io::Error::other(error.to_string()))
    };
    // Before the files are read: what changes meanwhile is read once more.
    let stamp = stamp(pair);
    let of_certificate = |error| failed(&pair.certificate, &error);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&pair.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&pair.certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(&pair.key);
    let secret = secret.map_err(|error| failed(&pair.key, &error))?;
    let names = names(&chain).map_err(|error| failed(&pair.certificate, &error))?;
    let key = CertifiedKey::from_der(chain, secret, provider).map_err(of_certificate)?;
    Ok(Loaded {
        pair: pair.clone(),
        stamp,
        names,
        key: Arc::new(key),
    })
}

fn names(chain: &[CertificateDer<'_>]) -> Result<Vec<String>, String> {
    let first = chain.first().ok_or("there is no certificate in it")?;
    let parsed = webpki::EndEntityCert::try_from(first).map_err(|error| error.to_string())?;
    Ok(parsed.valid_dns_names().map(str::to_owned).collect())
}

/// webpki tells it only of a certificate that has expired; so all have.
fn end(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let usage = webpki::KeyUsage::server_auth();
    let last = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    match parsed.verify_for_usage(&[], &[], &[], last, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            let end = Duration::from_secs(not_after.as_secs());
            SystemTime::UNIX_EPOCH.checked_add(end)
        }
        _ => None,
    }
}

fn stamp(pair: &Pair) -> Stamp {
    let of = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
    };
    Stamp(
        [&pair.certificate, &pair.key]
            .into_iter()
            .filter_map(of)
            .collect(),
    )
}

/// What was agreed upon, for the trace field.
pub(super) fn agreed(connection: &ServerConnection) -> smtp::Tls {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLS",
    };
    let suite = connection.negotiated_cipher_suite();
    let cipher = suite.and_then(|suite| suite.suite().as_str());
    // RFC 9266 §4.2: with 1.2 it takes an extension of which rustls does not
    // tell whether it is there.
    let is_newest = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let exporter = is_newest.then(|| {
        let label = b"EXPORTER-Channel-Binding";
        connection.export_keying_material([0; 32], label, Some(b""))
    });
    smtp::Tls {
        version,
        cipher: cipher.unwrap_or("unknown cipher"),
        exporter: exporter.and_then(Result::ok),
    }
}
