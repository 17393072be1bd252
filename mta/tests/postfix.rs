//! A real Postfix sends to the host and receives from it, each finding the
//! other by the MX of a zone on loopback; every message arrives byte for byte.
//!
//! Postfix runs from the unpacked package, which is laid over the system in a
//! mount namespace of its own, with a resolver of its own. That needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Host, Process, peer_in_sbin, wait_for};
use tests::programs::peer;

/// Where the name server listens, on port 53: `resolv.conf` knows no other.
const NAME_SERVER: &str = "127.0.0.99";

/// Owns the mail that Postfix delivers.
const UID: u32 = 12_345;

const MAIN: &str = "\
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
mail_owner = games
setgid_group = news
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.example.net
mydestination =
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.net
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = static:bob/
virtual_uid_maps = static:12345
virtual_gid_maps = static:12345
transport_maps = inline:{ example.org=smtp:example.org:PORT }
smtp_tls_security_level = may
alias_maps =
alias_database =
maillog_file = DIR/log
maillog_file_prefixes = /
";

const MASTER: &str = "\
127.0.0.1:PORT inet n - n - - smtpd
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
postlog unix-dgram n - n - 1 postlogd
";

/// $DIR holds its configuration and its mail; SIGTERM ends it.
const SCRIPT: &str = "\
for top in usr etc; do mkdir -p $DIR/upper/$top $DIR/scratch/$top && mount -t overlay overlay \
    -o lowerdir=$ROOT/$top:/$top,upperdir=$DIR/upper/$top,workdir=$DIR/scratch/$top /$top || exit; done
rm -f /etc/resolv.conf && cp $DIR/resolv.conf /etc/resolv.conf && \
mkdir $DIR/data $DIR/queue && chown games $DIR/data && \
chgrp news /usr/sbin/postdrop && chmod 2755 /usr/sbin/postdrop && \
cp $DIR/main.cf $DIR/master.cf /etc/postfix && \
postfix start && trap 'postfix stop; exit' TERM && while :; do sleep 0.1; done";

/// Ends with its namespace.
struct Postfix {
    process: Process,
    dir: tempfile::TempDir,
    port: u16,
}

impl Postfix {
    /// Which sends mail for example.org to `our_port` of its MX.
    fn start(our_port: u16, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mail = dir.path().join("mail");
        fs::create_dir(&mail).unwrap();
        chown(&mail, Some(UID), Some(UID)).unwrap();
        let here = dir.path().display().to_string();
        let main = MAIN.replace("DIR", &here);
        for (name, text) in [
            ("main.cf", main.replace("PORT", &our_port.to_string())),
            ("master.cf", MASTER.replace("PORT", &port.to_string())),
            ("resolv.conf", format!("nameserver {NAME_SERVER}\n")),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let program = PathBuf::from(peer("strace").get_program());
        let log = fs::File::create(dir.path().join("said")).unwrap();
        let process = Command::new("unshare")
            .args(["-m", "sh", "-c", SCRIPT])
            .env("DIR", dir.path())
            .env("ROOT", program.ancestors().nth(3).unwrap())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut postfix = Self {
            process: Process(process),
            dir,
            port,
        };
        wait_for("Postfix", || {
            let ended = postfix.process.0.try_wait().unwrap().is_some();
            assert!(!ended, "{}", postfix.log());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        postfix
    }

    fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        read("said") + &read("log")
    }

    fn mail(&self) -> Vec<Vec<u8>> {
        read_all(&self.dir.path().join("mail/bob/new"))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // What it runs ends it in its own way on SIGTERM.
        let id = self.process.0.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.process.0.wait();
    }
}

fn read_all(folder: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder).into_iter().flatten();
    files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

/// Answers for example.org and example.net.
fn name_server() -> Process {
    let mut process = peer_in_sbin("dnsmasq")
        .args(["--keep-in-foreground", "--no-resolv", "--no-hosts"])
        .args(["--conf-file=/dev/null", "--bind-interfaces", "--pid-file="])
        .arg(format!("--listen-address={NAME_SERVER}"))
        .args(["--local=/example.org/", "--local=/example.net/"])
        .args(["--log-facility=-", "--user=root"])
        .args([
            "--mx-host=example.org,mail.example.org,10",
            "--mx-host=example.net,mail.example.net,10",
            "--host-record=mail.example.org,127.0.0.1",
            "--host-record=mail.example.net,127.0.0.1",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = said.map(Result::unwrap);
    let started = said.any(|line| line.contains("started"));
    assert!(started, "dnsmasq does not start");
    std::thread::spawn(move || said.count());
    Process(process)
}

/// Messages that differ in what is easily changed on the way.
fn messages() -> Vec<Vec<u8>> {
    let all: Vec<u8> = (1..=255).filter(|b| !b"\r\n".contains(b)).collect();
    let bodies = [
        b".\n..\n.x\n.\n".to_vec(),
        [all.as_slice(), b"\n"].concat(),
        b"From here\n>From there\n \t \n\n\n\n".to_vec(),
        [b"x".repeat(900).as_slice(), b"\n"].concat(),
        b"0123456789 with more\n".repeat(30_000),
        Vec::new(),
    ];
    let head =
        "From: anna@example.org\nTo: bob@example.net\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n";
    let whole = bodies.iter().enumerate().map(|(n, body)| {
        let subject = format!("Message-ID: <{n}@example.org>\nSubject: {n}  folded\n\there\n\n");
        [head.as_bytes(), subject.as_bytes(), body].concat()
    });
    whole.collect()
}

/// What came, without the trace fields on top and the filter's at the end.
fn as_sent(mail: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(mail, b"From: anna@").unwrap();
    let end = at + memchr::memmem::find(&mail[at..], b"\n\n").unwrap() + 1;
    let head = mail[at..end].split_inclusive(|b| *b == b'\n');
    let kept = head.filter(|line| !line.starts_with(b"X-Spam-"));
    kept.chain([&mail[end..]]).flatten().copied().collect()
}

fn assert_arrived(mail: &[Vec<u8>], log: &str) {
    let mut came: Vec<Vec<u8>> = mail.iter().map(|mail| as_sent(mail)).collect();
    let mut sent = messages();
    came.sort();
    sent.sort();
    assert_eq!(came.len(), sent.len(), "{log}");
    for (came, sent) in came.iter().zip(&sent) {
        let shown = || {
            String::from_utf8_lossy(came)
                .chars()
                .take(2000)
                .collect::<String>()
        };
        assert!(came == sent, "{}", shown());
    }
}

fn with_crlf(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|b| *b == b'\n');
    let ended = lines.flat_map(|line| [line.strip_suffix(b"\n").unwrap(), b"\r\n"]);
    ended.flatten().copied().collect()
}

/// Gives a message to a program.
fn give(mut command: Command, message: &[u8]) {
    let mut program = command.stdin(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(message).unwrap();
    assert!(program.wait().unwrap().success());
}

const BY_SMTP: &str = "\
import smtplib, sys
with smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=60) as client:
    client.sendmail('x@example.net', ['anna@example.org'], sys.stdin.buffer.read(), ['BODY=8BITMIME'])
";

#[test]
fn mail_from_and_to_postfix_arrives_byte_for_byte() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can lay Postfix over the system");
        return;
    }
    let _names = name_server();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let host = Host::new(&format!(
        "[remote]\ndns = [\"{NAME_SERVER}:53\"]\nport = {port}\n"
    ));
    let server = host.serve();
    let postfix = Postfix::start(server.smtp[0].port(), port);

    for message in messages() {
        let mut python = Command::new("python3");
        python.args(["-c", BY_SMTP, &postfix.port.to_string()]);
        give(python, &with_crlf(&message));
        let mut sendmail = host.command();
        sendmail.args(["sendmail", "-i", "-f", "anna@example.org", "--"]);
        sendmail.arg("bob@example.net");
        give(sendmail, &message);
    }
    let n = messages().len();
    wait_for("mail at Postfix", || {
        (postfix.mail().len() >= n).then_some(())
    });
    assert_arrived(&postfix.mail(), &postfix.log());
    let mail = host.wait_for_mail("anna", "", n);
    assert_arrived(&mail, &postfix.log());
    for mail in mail {
        let top = String::from_utf8_lossy(&mail).into_owned();
        assert!(top.contains("Received: from mail.example.net "), "{top}");
        assert!(top.contains(" with ESMTPS (TLSv1.3 "), "{top}");
    }
    let done = || host.run(&["queue", "list"]).is_empty().then_some(());
    wait_for("an empty queue", done);
}
