//! Certificates as openssl makes them.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A certificate that openssl makes for `name`, in `folder`.
pub fn certificate(folder: &Path, name: &str) {
    let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
    certificate_with(folder, &["-subj", &subject, "-addext", &names]);
}

/// One that says what `more` makes openssl say.
pub fn certificate_with(folder: &Path, more: &[&str]) {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "30"])
        .args(more)
        .arg("-out")
        .arg(folder.join("cert.new"))
        .arg("-keyout")
        .arg(folder.join("key.new"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for file in ["key", "cert"] {
        let new = folder.join(format!("{file}.new"));
        fs::rename(new, folder.join(format!("{file}.pem"))).unwrap();
    }
}
