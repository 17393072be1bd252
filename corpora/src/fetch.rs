//! Public collections, so that others can repeat a table.
//!
//! Downloads with curl(1), which people have and which knows proxies and
//! certificates; this crate links no HTTP client.

use std::fs;
use std::path::Path;
use std::process::Command;

use classifier::Label;
use sha2::{Digest, Sha256};

use crate::{Error, read};

/// Where the SpamAssassin public corpus lies.
pub const SPAMASSASSIN_URL: &str = "https://spamassassin.apache.org/old/publiccorpus";

/// An archive of the SpamAssassin public corpus.
struct Archive {
    file: &'static str,
    label: Label,
    n_messages: usize,
    /// SHA-256 over the sorted SHA-256 of the messages. The mail counts, not
    /// how it was packed: mirrors have packed it anew.
    checksum: &'static str,
}

const SPAMASSASSIN: [Archive; 5] = [
    Archive {
        file: "20030228_easy_ham.tar.bz2",
        label: Label::Ham,
        n_messages: 2500,
        checksum: "b8f1d8580fe9d498abcad7a8376b68fcbb43e785185c2c278ed7228a6d73f97c",
    },
    Archive {
        file: "20030228_easy_ham_2.tar.bz2",
        label: Label::Ham,
        n_messages: 1400,
        checksum: "29fe28b235bbbd3f7a8dab5ae93f879c5a07a69f7127d47e2ebe8d69a7d17ee2",
    },
    Archive {
        file: "20030228_hard_ham.tar.bz2",
        label: Label::Ham,
        n_messages: 250,
        checksum: "adddfad9fad4e22293a77f764a2b076d11b928b773ca9ef8006b58ff8a2c1e05",
    },
    Archive {
        file: "20030228_spam.tar.bz2",
        label: Label::Spam,
        n_messages: 500,
        checksum: "6341591d835e82a165c3efb2923e73d90ac56d2eaa2c3375a06c8d31d81c1c63",
    },
    Archive {
        file: "20050311_spam_2.tar.bz2",
        label: Label::Spam,
        n_messages: 1396,
        checksum: "65ddeb7bd97530f9ffdbe4e3e9e5810cd1b8c2595bd3bb8451781638cb019c64",
    },
];

/// Downloads the SpamAssassin public corpus (6,046 messages) from `url` and
/// writes it to `folder` with a TREC index. `note` is told of each step.
///
/// # Errors
/// When `folder` already holds an index, an archive cannot be fetched, or it
/// does not hold the mail that it should; then no index is written.
pub fn spamassassin(url: &str, folder: &Path, note: &mut dyn FnMut(&str)) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    let index = folder.join("index");
    if index.exists() {
        let exists = std::io::ErrorKind::AlreadyExists.into();
        return Err(Error::io("make", index)(exists));
    }
    let mut lines = String::new();
    for archive in &SPAMASSASSIN {
        let url = format!("{url}/{}", archive.file);
        let path = folder.join(archive.file);
        note(&url);
        download(&url, &path)?;
        let messages = unpacked(archive, &path, &url)?;
        for (name, bytes) in &messages {
            let file = folder.join(name);
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
            }
            fs::write(&file, bytes).map_err(Error::io("write", &file))?;
            lines.push_str(&format!("{} {name}\n", archive.label.name()));
        }
    }
    fs::write(&index, lines).map_err(Error::io("write", &index))
}

fn download(url: &str, path: &Path) -> Result<(), Error> {
    let failed = |detail: String| Error::Fetch {
        url: url.to_owned(),
        detail,
    };
    let options = [
        "--fail",
        "--location",
        "--silent",
        "--show-error",
        "--output",
    ];
    let output = Command::new("curl")
        .args(options)
        .arg(path)
        .arg(url)
        .output()
        .map_err(|error| failed(format!("cannot run curl: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let need = match url.starts_with("file:") {
        true => "",
        false => "; this command needs the network",
    };
    Err(failed(format!("{}{need}", said.trim())))
}

fn unpacked(archive: &Archive, path: &Path, url: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut messages = read::files(path)?;
    // A list of shell commands, left in by mistake.
    messages.retain(|(name, _)| name.rsplit('/').next() != Some("cmds"));
    let found = checksum(&messages);
    if messages.len() != archive.n_messages || found != archive.checksum {
        return Err(Error::Fetch {
            url: url.to_owned(),
            detail: format!(
                "holds {} messages with checksum {found}, not {} with {}",
                messages.len(),
                archive.n_messages,
                archive.checksum
            ),
        });
    }
    Ok(messages)
}

fn checksum(messages: &[(String, Vec<u8>)]) -> String {
    let mut digests: Vec<[u8; 32]> = messages
        .iter()
        .map(|(_, bytes)| Sha256::digest(bytes).into())
        .collect();
    digests.sort_unstable();
    let whole = Sha256::digest(digests.concat());
    whole.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_other_mail_than_it_should_be() {
        let mirror = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        let path = mirror.path().join(SPAMASSASSIN[0].file);
        let packed = bzip2::write::BzEncoder::new(
            fs::File::create(path).unwrap(),
            bzip2::Compression::fast(),
        );
        let mut builder = tar::Builder::new(packed);
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        builder
            .append_data(&mut header, "easy_ham/1", &b"a: b\n"[..])
            .unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        let url = format!("file://{}", mirror.path().display());
        let error = spamassassin(&url, target.path(), &mut |_| {})
            .unwrap_err()
            .to_string();
        // Without curl the message names it.
        assert!(
            error.contains("holds 1 messages") || error.contains("curl"),
            "{error}"
        );
        assert!(!target.path().join("index").exists());
    }

    #[test]
    fn says_what_it_needs() {
        let target = tempfile::tempdir().unwrap();
        let error = spamassassin("file:///nowhere", target.path(), &mut |_| {}).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("file:///nowhere/20030228_easy_ham"),
            "{error}"
        );
        assert!(!error.contains("network"), "{error}");
    }

    #[test]
    fn the_checksum_knows_no_order() {
        let message = |text: &str| (text.to_owned(), text.as_bytes().to_vec());
        let (a, b) = (message("a"), message("b"));
        assert_eq!(checksum(&[a.clone(), b.clone()]), checksum(&[b, a.clone()]));
        assert_ne!(
            checksum(std::slice::from_ref(&a)),
            checksum(&[a.clone(), a])
        );
    }
}
