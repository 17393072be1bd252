//! The certificate that STARTTLS shows (RFC 3207).

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::smtp;

/// A certificate that can be exchanged while sessions go on.
#[derive(Debug)]
pub struct Certificate(RwLock<Arc<ServerConfig>>);

impl Certificate {
    /// Reads two PEM files: the certificate, with those it needs, and its key.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        Ok(Self(RwLock::new(read(certificate, key)?)))
    }

    /// Reads them again; after an error the one before stays.
    ///
    /// # Errors
    /// As [`Certificate::read`].
    pub fn read_again(&self, certificate: &Path, key: &Path) -> Result<(), Error> {
        let config = read(certificate, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// For the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Error::io("use", path)(io::Error::other(error.to_string()))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| failed(certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| failed(certificate, &error))?;
    Ok(Arc::new(config))
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
    smtp::Tls {
        version,
        cipher: cipher.unwrap_or("unknown cipher"),
    }
}
