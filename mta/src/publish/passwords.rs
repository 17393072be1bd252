//! Who logs in, for programs that keep lists of their own.

use std::path::Path;

use pwhash::sha512_crypt;

use super::{Kind, Known, Plan};
use crate::accounts::{Address, Password, Scheme, keyed_text};

/// The C programs read lines of 255 bytes.
const MAX_LINE: usize = 255;
/// The characters of a `$6$` salt, at most.
const SALT: usize = 16;

/// `user:password`: the password itself where it is kept, which CRAM-MD5 needs,
/// or a hash that qmail-chkpw knows.
pub(super) fn cmd5checkpw(known: &Known, path: &Path, plan: &mut Plan) {
    let mut text = String::new();
    for (address, password) in with_passwords(known) {
        let value = match (&password.clear, password.hash.scheme()) {
            (Some(clear), _) if clear.contains(':') => {
                Err("its password has a colon, which such a file cannot hold".into())
            }
            (Some(clear), _) => Ok(clear.as_str()),
            (None, Scheme::Md5Crypt | Scheme::Sha256Crypt | Scheme::Sha512Crypt) => {
                Ok(password.hash.as_str())
            }
            (None, scheme) => Err(format!("cmd5checkpw cannot check {scheme}; {REMEDY}")),
        };
        let line = value.map(|value| format!("{address}:{value}\n"));
        match line {
            Ok(line) if line.len() <= MAX_LINE => text.push_str(&line),
            Ok(_) => plan.problem(path, address, "its line would be too long"),
            Err(reason) => plan.problem(path, address, &reason),
        }
    }
    plan.add(path.to_owned(), Kind::Secret, text);
}

/// Dovecot's passwd-file, for passdb and userdb: users without a password are
/// not in it.
pub(super) fn dovecot(known: &Known, path: &Path, plan: &mut Plan) {
    let mut text = String::new();
    for (address, password) in with_passwords(known) {
        let hash = password.hash.as_str();
        let scheme = match password.hash.scheme() {
            Scheme::Argon2 if hash.starts_with("$argon2id$") => "ARGON2ID",
            Scheme::Argon2 if hash.starts_with("$argon2i$") => "ARGON2I",
            Scheme::Argon2 => {
                let reason = "Dovecot cannot check argon2d; give the password once more";
                plan.problem(path, address, reason);
                continue;
            }
            Scheme::Bcrypt => "BLF-CRYPT",
            Scheme::Sha512Crypt => "SHA512-CRYPT",
            Scheme::Sha256Crypt => "SHA256-CRYPT",
            Scheme::Md5Crypt => "MD5-CRYPT",
            Scheme::DesCrypt => "DES-CRYPT",
        };
        let (uid, gid, home) = (known.uid, known.gid, known.home(address));
        text.push_str(&format!(
            "{address}:{{{scheme}}}{hash}:{uid}:{gid}::{}::userdb_mail=maildir:~/Maildir\n",
            home.display()
        ));
    }
    plan.add(path.to_owned(), Kind::Secret, text);
}

/// Courier's userdb, which makeuserdb turns into its database. Its hashes are
/// those of crypt(3); where a password is kept, one is made of it, always the
/// same.
pub(super) fn courier(known: &Known, path: &Path, secret: &[u8], plan: &mut Plan) {
    let mut text = String::new();
    for (address, password) in with_passwords(known) {
        let made = match (password.hash.scheme(), &password.clear) {
            (Scheme::Argon2, Some(clear)) => {
                let salt = keyed_text(
                    secret,
                    &format!("courier {address} {}", password.hash.as_str()),
                );
                let setup = format!("$6${}", &salt[..SALT]);
                sha512_crypt::hash_with(&*setup, clear).map_err(|error| error.to_string())
            }
            (Scheme::Argon2, None) => Err(format!("Courier cannot check argon2; {REMEDY}")),
            _ => Ok(password.hash.as_str().to_owned()),
        };
        match made {
            Err(reason) => plan.problem(path, address, &reason),
            Ok(hash) => {
                let home = known.home(address).display().to_string();
                text.push_str(&format!(
                    "{address}\tuid={}|gid={}|home={home}|mail={home}/Maildir|systempw={hash}\n",
                    known.uid, known.gid
                ));
            }
        }
    }
    plan.add(path.to_owned(), Kind::Secret, text);
}

const REMEDY: &str = "give the password once more by `postern user passwd --keep-clear`";

fn with_passwords(known: &Known) -> impl Iterator<Item = (&Address, &Password)> {
    let users = known.users.iter();
    users.filter_map(|user| Some((&user.address, user.settings.password.as_ref()?)))
}

impl Plan {
    fn problem(&mut self, path: &Path, address: &Address, reason: &str) {
        let text = format!("{address} is not in {}: {reason}", path.display());
        self.problems.push(text);
    }
}
