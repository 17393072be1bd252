//! A whole Dovecot. That needs root.

#![allow(clippy::print_stderr)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tests::overlaid::{self, Overlaid};

use super::dns::free_port;
use super::{Host, Server};

/// Serves IMAP and POP3 within TLS.
pub struct Dovecot {
    running: Overlaid,
    /// Where it serves IMAP.
    pub imaps: u16,
    pop3s: u16,
}

/// Whose mail it is: Debian has this user everywhere. Dovecot serves no root.
pub const OWNER: &str = "mail";

fn owner() -> (u32, u32) {
    let owner = nix::unistd::User::from_name(OWNER).unwrap().unwrap();
    (owner.uid.as_raw(), owner.gid.as_raw())
}

fn give(path: &Path) {
    let (uid, gid) = owner();
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

impl Host {
    /// Lets the server be what it gave its mail to.
    pub fn serve_as_owner(&self) -> Server {
        let config = fs::read_to_string(self.config()).unwrap();
        let config = config.replace("user = \"root\"", &format!("user = {OWNER:?}"));
        fs::write(self.config(), config).unwrap();
        self.serve()
    }

    /// Gives the host's mail, and `folder`, to somebody whom Dovecot serves.
    /// False, and a note, without root.
    pub fn give_to_owner(&self, folder: &Path) -> bool {
        for path in [folder, self.dir.path()] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let (uid, gid) = owner();
        if !overlaid::is_possible() || chown(folder, Some(uid), Some(gid)).is_err() {
            tests::skip("only root can lay Dovecot over /usr");
            return false;
        }
        give(folder);
        give(&self.data());
        true
    }
}

/// As an administrator does: what is made in the folder is for the group of
/// Dovecot's auth service, which is no other user's.
pub fn share(folder: &Path) {
    let group = nix::unistd::Group::from_name(AUTH_GROUP).unwrap().unwrap();
    chown(folder, None, Some(group.gid.as_raw())).unwrap();
    fs::set_permissions(folder, PermissionsExt::from_mode(0o2755)).unwrap();
}

/// Whose Dovecot's auth service is.
pub const AUTH_GROUP: &str = "daemon";

/// The passdb and userdb of what is published at `users`.
pub fn published(users: &Path) -> String {
    format!(
        "passdb {{\n driver = passwd-file\n args = username_format=%u {0}\n}}\n\
         userdb {{\n driver = passwd-file\n args = username_format=%u {0}\n}}\n",
        users.display()
    )
}

impl Dovecot {
    /// With the certificate of `host`, and these passdb and userdb.
    pub fn start(host: &Host, databases: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (imaps, pop3s) = (free_port(), free_port());
        let config = DOVECOT
            .replace("FOLDER", &dir.path().display().to_string())
            .replace("DATA", &host.data().display().to_string())
            .replace("IMAPS", &imaps.to_string())
            .replace("POP3S", &pop3s.to_string());
        let path = dir.path().join("dovecot.conf");
        fs::write(&path, config + databases).unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        let script = format!("exec /usr/sbin/dovecot -F -c {}", path.display());
        Self {
            running: Overlaid::start(dir, &script, pop3s),
            imaps,
            pop3s,
        }
    }

    /// Moves the first message, by IMAP.
    pub fn move_to_junk(&self, name: &str, password: &str) {
        let output = Command::new("python3")
            .args(["-c", MOVE, &self.imaps.to_string(), name, password])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// All messages of INBOX by IMAP, with LF line ends.
    pub fn fetch(&self, name: &str, password: &str) -> Vec<Vec<u8>> {
        let output = Command::new("python3")
            .args(["-c", FETCH, &self.imaps.to_string(), name, password])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?} {}", self.running.log());
        let lines = output.stdout.split(|b| *b == b'\n');
        let messages = lines.filter(|line| !line.is_empty()).map(|line| {
            let bytes = BASE64_STANDARD.decode(line).unwrap();
            let lines = bytes.split_inclusive(|b| *b == b'\n');
            let lines = lines.flat_map(|line| match line.strip_suffix(b"\r\n") {
                Some(text) => [text, b"\n"],
                None => [line, b""],
            });
            lines.flatten().copied().collect()
        });
        messages.collect()
    }

    /// How many messages there are by IMAP and by POP3, or that it refuses.
    pub fn login(&self, name: &str, password: &str) -> String {
        let output = Command::new("python3")
            .args(["-c", CLIENT, &self.imaps.to_string()])
            .args([&self.pop3s.to_string(), name, password])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?} {}", self.running.log());
        String::from_utf8(output.stdout).unwrap()
    }
}

const MOVE: &str = "\
import imaplib, ssl, sys
port, name, password = sys.argv[1:]
context = ssl._create_unverified_context()
imap = imaplib.IMAP4_SSL('127.0.0.1', int(port), ssl_context=context)
imap.authenticate('PLAIN', lambda _: f'\\0{name}\\0{password}'.encode())
imap.select()
status, said = imap._simple_command('MOVE', '1', 'Junk')
assert status == 'OK', said
imap.logout()
";

const FETCH: &str = "\
import base64, imaplib, ssl, sys
port, name, password = sys.argv[1:]
context = ssl._create_unverified_context()
imap = imaplib.IMAP4_SSL('127.0.0.1', int(port), ssl_context=context)
imap.authenticate('PLAIN', lambda _: f'\\0{name}\\0{password}'.encode())
n = int(imap.select(readonly=True)[1][0])
for number in range(1, n + 1):
    print(base64.b64encode(imap.fetch(str(number), '(BODY.PEEK[])')[1][0][1]).decode())
imap.logout()
";

const CLIENT: &str = "\
import imaplib, poplib, ssl, sys
imaps, pop3s, name, password = sys.argv[1:]
context = ssl._create_unverified_context()
imap = imaplib.IMAP4_SSL('127.0.0.1', int(imaps), ssl_context=context)
try:
    imap.authenticate('PLAIN', lambda _: f'\\0{name}\\0{password}'.encode())
    print('imap', *[imap.select()[0], imap.select()[1][0].decode()])
except imaplib.IMAP4.error:
    print('imap refused')
pop3 = poplib.POP3_SSL('127.0.0.1', int(pop3s), context=context)
pop3.encoding = 'utf-8'
try:
    pop3.user(name)
    pop3.pass_(password)
    print('pop3', pop3.stat()[0])
except poplib.error_proto:
    print('pop3 refused')
";

const DOVECOT: &str = "\
base_dir = FOLDER/run
state_dir = FOLDER/run
log_path = FOLDER/log
protocols = imap pop3
ssl = required
ssl_cert = <DATA/tls/cert.pem
ssl_key = <DATA/tls/key.pem
default_internal_user = daemon
default_internal_group = daemon
default_login_user = nobody
auth_failure_delay = 0
first_valid_uid = 1
service imap-login {
  chroot =
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    address = 127.0.0.1
    port = IMAPS
  }
}
service pop3-login {
  chroot =
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    address = 127.0.0.1
    port = POP3S
  }
}
service anvil {
  chroot =
}
";
