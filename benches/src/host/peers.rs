//! Postfix and OpenSMTPD as Debian ships them, for the same users and routes.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tests::overlaid::Overlaid;
use tests::postfix::{self, UID};

use super::load::free_port;
use super::{Contender, Server, USERS};

pub(super) fn postfix(
    folder: &Path,
    routes: &[(&str, u16)],
    name: &'static str,
) -> anyhow::Result<Contender> {
    let users: String = (0..USERS)
        .map(|user| format!(" {{u{user}@example.org=u{user}/}}"))
        .collect();
    let routes: String = routes
        .iter()
        .map(|(domain, port)| format!(" {{{domain}=smtp:[127.0.0.1]:{port}}}"))
        .collect();
    // By default smtpd may sleep for a second where mail comes faster than it goes.
    let more = format!(
        "in_flow_delay = 0s\nmyhostname = mail.example.org\nvirtual_mailbox_domains = example.org\n\
         virtual_mailbox_maps = inline:{{{users} }}\ntransport_maps = inline:{{{routes} }}\n"
    );
    let port = free_port()?;
    let process = postfix::start(TempDir::new_in(folder)?, port, &more);
    Ok(contender(name, port, process))
}

const CONF: &str = "\
listen on 127.0.0.1 port PORT hostname mail.example.org
action \"deliver\" maildir \"DIR/mail/%{dest.user}\" virtual <users>
match from any for domain \"example.org\" action \"deliver\"
";

/// It asks for the name of each client, here of no server that is slow.
const SCRIPT: &str = "\
mkdir -p $DIR/var/spool/smtpd $DIR/var/lib/opensmtpd/empty $DIR/var/run $DIR/var/mail && \
chmod 711 $DIR/var/spool/smtpd && mount --bind $DIR/var /var && \
for user in opensmtpd:991 opensmtpq:992 vmail:12345; do \
    echo ${user%:*}:x:${user#*:}:${user#*:}::/var/lib/opensmtpd/empty:/usr/sbin/nologin >>/etc/passwd; \
    echo ${user%:*}:x:${user#*:}: >>/etc/group; \
done && cp $DIR/smtpd.conf /etc && \
rm -f /etc/resolv.conf && echo lookup file >/etc/resolv.conf && { smtpd -d & } && \
trap 'kill $!; wait; exit' TERM && wait";

pub(super) fn opensmtpd(
    folder: &Path,
    routes: &[(&str, u16)],
    name: &'static str,
) -> anyhow::Result<Contender> {
    let dir = TempDir::new_in(folder)?;
    let mail = dir.path().join("mail");
    fs::create_dir(&mail)?;
    chown(&mail, Some(UID), Some(UID))?;
    let users: Vec<String> = (0..USERS)
        .map(|user| format!("\"u{user}@example.org\" = vmail"))
        .collect();
    let port = free_port()?;
    let here = dir.path().display().to_string();
    let mut text = format!("table users {{ {} }}\n", users.join(", "));
    text += &CONF
        .replace("PORT", &port.to_string())
        .replace("DIR", &here);
    for (domain, port) in routes {
        let action = domain.replace('.', "-");
        text += &format!(
            "action \"{action}\" relay host \"smtp://127.0.0.1:{port}\"\n\
             match from any for domain \"{domain}\" action \"{action}\"\n"
        );
    }
    fs::write(dir.path().join("smtpd.conf"), text)?;
    let process = Overlaid::start(dir, SCRIPT, port);
    Ok(contender(name, port, process))
}

fn contender(name: &'static str, port: u16, process: Overlaid) -> Contender {
    let maildir = |user| process.path(format!("mail/u{user}/new"));
    let maildirs: Vec<PathBuf> = (0..USERS).map(maildir).collect();
    Contender {
        name,
        port,
        maildirs,
        server: Server::Other { _process: process },
    }
}
