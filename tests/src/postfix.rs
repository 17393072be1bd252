//! A Postfix with the settings it is shipped with, apart from names, folders
//! and what is said of its routes.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use tempfile::TempDir;

use crate::overlaid::Overlaid;

/// Owns the mail that it delivers, which lies in `mail`.
pub const UID: u32 = 12_345;

const MAIN: &str = "\
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
mail_owner = games
setgid_group = news
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
mynetworks = 127.0.0.0/8
virtual_mailbox_base = DIR/mail
virtual_uid_maps = static:12345
virtual_gid_maps = static:12345
alias_maps =
alias_database =
maillog_file = DIR/log
maillog_file_prefixes = /
";

const MASTER: &str = "\
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

/// What takes mail, at a port.
const SMTPD: &str = "127.0.0.1:PORT inet n - n - - smtpd\n";

const SCRIPT: &str = "\
[ ! -e $DIR/resolv.conf ] || { rm -f /etc/resolv.conf && cp $DIR/resolv.conf /etc/resolv.conf || exit; }
mkdir $DIR/data $DIR/queue && chown games $DIR/data && \
chgrp news /usr/sbin/postdrop && chmod 2755 /usr/sbin/postdrop && \
cp $DIR/main.cf $DIR/master.cf /etc/postfix && \
postfix start && trap 'postfix stop; exit' TERM && while :; do sleep 0.1; done";

/// Starts it in `dir` at `port`, with `more` lines in main.cf, in which DIR is
/// its folder. A `resolv.conf` in `dir` is the one that it sees.
pub fn start(dir: TempDir, port: u16, more: &str) -> Overlaid {
    start_with(dir, port, more, "")
}

/// The same with `services` in master.cf.
pub fn start_with(dir: TempDir, port: u16, more: &str, services: &str) -> Overlaid {
    let services = SMTPD.to_owned() + services;
    let script = script(dir.path(), port, more, &services);
    Overlaid::start(dir, script, port)
}

/// What starts it over the system: files in `dir`, and a script. `services`
/// has to take mail.
pub fn script(dir: &Path, port: u16, more: &str, services: &str) -> &'static str {
    let mail = dir.join("mail");
    fs::create_dir_all(&mail).unwrap();
    chown(&mail, Some(UID), Some(UID)).unwrap();
    let here = dir.display().to_string();
    let main = (MAIN.to_owned() + more).replace("DIR", &here);
    let master = MASTER.to_owned() + &services.replace("PORT", &port.to_string());
    for (name, text) in [("main.cf", main), ("master.cf", master)] {
        fs::write(dir.join(name), text).unwrap();
    }
    SCRIPT
}
