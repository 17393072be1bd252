//! New pairs of keys.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::Ed25519Key;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};

use super::Algorithm;

/// RFC 8301 §3.2: at least 1024 bits; 2048 should be used.
const RSA_BITS: usize = 2048;

/// A private key as PEM, and its public one as it stands in the record.
pub(super) fn pair(algorithm: Algorithm) -> io::Result<(String, String)> {
    match algorithm {
        Algorithm::RsaSha256 => {
            let mut random = rsa::rand_core::OsRng;
            let key = RsaPrivateKey::new(&mut random, RSA_BITS).map_err(io::Error::other)?;
            let private = key
                .to_pkcs8_pem(LineEnding::LF)
                .map_err(io::Error::other)?
                .to_string();
            // What everybody publishes: SubjectPublicKeyInfo, not the bare key
            // of RFC 6376 §3.6.1 (its erratum 3017).
            let public = key
                .to_public_key()
                .to_public_key_der()
                .map_err(io::Error::other)?;
            Ok((private, STANDARD.encode(public.as_bytes())))
        }
        Algorithm::Ed25519Sha256 => {
            let private = Ed25519Key::generate_pkcs8().map_err(io::Error::other)?;
            let key = Ed25519Key::from_pkcs8_der(&private).map_err(io::Error::other)?;
            Ok((to_pem(&private), STANDARD.encode(key.public_key())))
        }
    }
}

/// RFC 7468 §10.
fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END PRIVATE KEY-----\n"
}
