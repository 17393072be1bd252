//! What the tests of the host share: envelopes, clamd with one signature, and
//! the built program serving on loopback.

#![allow(dead_code, unreachable_pub, clippy::print_stdout, clippy::unwrap_used)]

pub mod certificate;
pub mod imported;
pub mod journey;
pub mod power;
pub mod snapshot;
pub mod steps;

pub mod dns;
pub mod exact;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mta::smtp::{Body, Client, Envelope, ForwardPath, Protocol, Recipient, ReversePath};
use tests::programs::peer;
pub use tests::programs::peer_in_sbin;

pub mod dkimpy;
pub mod dovecot;
pub mod opendkim;

/// The harmless file that every scanner calls a virus, in two parts, so that
/// no scanner finds it here.
pub const EICAR: [&str; 2] = [
    r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR",
    "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
];

/// From a program of this machine.
pub fn envelope(to: &str) -> Envelope {
    Envelope {
        reverse_path: ReversePath::parse(b"x@example.net").unwrap(),
        size: 0,
        recipients: vec![Recipient {
            forward_path: ForwardPath::parse(to.as_bytes()).unwrap(),
            notify: None,
            orcpt: None,
        }],
        body: Body::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        client: Client {
            peer: None,
            helo: None,
            protocol: Protocol::Local,
            tls: None,
            account: None,
            may_relay: false,
        },
        gate: Vec::new(),
    }
}

/// How a client ended: what it said when it failed.
pub fn said(output: &Output) -> Result<(), String> {
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// How a command ended that read `input`.
pub fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Gives a user a password; what is said to it.
pub fn passwd(host: &Host, user: &str, more: &[&str], password: &str) -> String {
    let mut command = host.command();
    command.args(["user", "passwd", user]).args(more);
    let output = with_input(command, password);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal.
pub fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .status();
    assert!(status.unwrap().success());
}

/// A client that waits for each reply.
pub struct Talk<S>(pub BufReader<S>);

impl<S: Read + Write> Talk<S> {
    /// Over a connection that was just made.
    pub fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// The last line of the next reply.
    pub fn line(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            if !line.ends_with("\r\n") {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes()[3] == b' ' {
                return Ok(line);
            }
        }
    }

    /// The code of the next reply.
    pub fn reply(&mut self) -> io::Result<u16> {
        Ok(self.line()?[..3].parse().unwrap())
    }

    /// Says something that must be answered so.
    pub fn ask(&mut self, line: &str, code: u16) -> io::Result<()> {
        self.say(line.as_bytes())?;
        let said = self.line()?;
        assert!(said.starts_with(&code.to_string()), "{line:?}: {said}");
        Ok(())
    }

    /// Waits to be greeted, and greets.
    pub fn greet(&mut self, hello: &str) -> io::Result<()> {
        assert_eq!(self.reply()?, 220);
        self.ask(&format!("{hello} client.example.net\r\n"), 250)
    }

    /// Writes, and waits for nothing.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }
}

/// clamd with a database of one signature; ends with the test.
pub struct Clamd {
    /// What runs.
    pub process: Process,
    /// Its configuration, for clamdscan.
    pub config: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Clamd {
    /// With its files in `folder`.
    pub fn start(folder: &Path) -> Self {
        let database = folder.join("signatures");
        fs::create_dir(&database).unwrap();
        let hex: String = EICAR.concat().bytes().map(|b| format!("{b:02x}")).collect();
        fs::write(
            database.join("eicar.ndb"),
            format!("Eicar-Test-Signature:0:*:{hex}\n"),
        )
        .unwrap();
        let config = folder.join("clamd.conf");
        let socket = folder.join("clamd.socket");
        fs::write(
            &config,
            format!(
                "DatabaseDirectory {}\nLocalSocket {}\nForeground yes\n",
                database.display(),
                socket.display()
            ),
        )
        .unwrap();
        let mut process = peer_in_sbin("clamd")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // Its last word before it listens to clients.
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut said = said.map(Result::unwrap);
        assert!(
            said.any(|line| line.starts_with("Self checking")),
            "clamd does not start"
        );
        thread::spawn(move || said.count());
        Self {
            process: Process(process),
            config,
            socket,
        }
    }
}

/// Nothing is asked of the DNS, which answers nobody here.
pub const OPEN_GATE: &str = "\
[gate]
greeting_delay_seconds = 0
no_reverse_name = \"pass\"
unresolvable_reverse_name = \"pass\"
address_in_reverse_name = \"pass\"
odd_helo = \"pass\"
unresolvable_helo = \"pass\"
no_sender_domain = \"pass\"
greylist = \"nobody\"
connections_per_minute = 1_000_000
recipients_per_minute = 1_000_000
tarpit_seconds = 0
";

/// swaks, which speaks to `address`.
pub fn swaks(address: SocketAddr) -> Command {
    let mut swaks = peer("swaks");
    // Net::SSLeay lies beside it.
    let usr = Path::new(swaks.get_program()).ancestors().nth(2).unwrap();
    let mut libraries = vec![usr.join("share/perl5")];
    let lib = usr.join(format!("lib/{}-linux-gnu/perl5", std::env::consts::ARCH));
    let versions = fs::read_dir(lib).unwrap();
    libraries.extend(versions.map(|folder| folder.unwrap().path()));
    let libraries: Vec<String> = libraries.iter().map(|p| p.display().to_string()).collect();
    swaks.env("PERL5LIB", libraries.join(":")).args([
        "--server",
        &address.ip().to_string(),
        "--port",
        &address.port().to_string(),
        // A login takes long on a busy machine.
        "--timeout",
        "60",
    ]);
    swaks
}

/// SCRAM-SHA-256 as RFC 5802 and RFC 7677 have it, in a language that shares no
/// code with us, and mail by it.
const SCRAM: &str = "\
import hashlib, hmac, os, smtplib, ssl, sys
from base64 import b64decode, b64encode
host, port, user, password = sys.argv[1:]
sign = lambda key, text: hmac.digest(key, text, 'sha256')
class Scram:
    server = None
    def __call__(self, challenge=None):
        if challenge is None:
            self.first = f'n={user},r=' + b64encode(os.urandom(18)).decode()
            return 'n,,' + self.first
        if self.server:
            assert challenge == b'v=' + b64encode(self.server), challenge
            return ''
        said = dict(part.split('=', 1) for part in challenge.decode().split(','))
        salted = hashlib.pbkdf2_hmac('sha256', password.encode(), b64decode(said['s']), int(said['i']))
        last = 'c=biws,r=' + said['r']
        messages = ','.join([self.first, challenge.decode(), last]).encode()
        key = sign(salted, b'Client Key')
        signature = sign(hashlib.sha256(key).digest(), messages)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.server = sign(sign(salted, b'Server Key'), messages)
        return last + ',p=' + b64encode(proof).decode()
context = ssl._create_unverified_context()
with smtplib.SMTP_SSL(host, int(port), timeout=60, context=context) as client:
    client.ehlo()
    try:
        client.auth('SCRAM-SHA-256', Scram())
    except smtplib.SMTPAuthenticationError as refused:
        sys.exit(f'{refused.smtp_code} {refused.smtp_error.decode()}')
    client.sendmail(user, ['bob@example.org'], f'From: {user}\\r\\nSubject: by SCRAM\\r\\n\\r\\nx\\r\\n')
";

/// Mail of anna's to bob within TLS, or why she could not log in.
pub fn by_scram(address: SocketAddr, password: &str) -> Result<(), String> {
    let output = Command::new("python3")
        .args(["-c", SCRAM, &address.ip().to_string()])
        .args([&address.port().to_string(), "anna@example.org", password])
        .output()
        .unwrap();
    said(&output)
}

/// Longer than anything here takes, also on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < BOUND, "{what}: waited too long");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A host made by `postern init` in a folder of its own, for example.org with
/// the users anna and bob.
pub struct Host {
    /// The folder of the test.
    pub dir: tempfile::TempDir,
}

/// `postern serve`.
pub struct Server {
    process: Process,
    /// Where it listens for SMTP: IPv4, then IPv6.
    pub smtp: Vec<SocketAddr>,
    /// Where it listens for submission with STARTTLS, then within TLS.
    pub submission: Vec<SocketAddr>,
    /// Where it listens for LMTP.
    pub lmtp: PathBuf,
    lines: mpsc::Receiver<String>,
}

impl Host {
    /// With `more` sections in its configuration, where `$DIR` is the folder of
    /// the test.
    pub fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir };
        let mut init = vec!["init", "example.org"];
        // Only root may name one.
        if rustix_is_root() {
            init.extend(["--user", "root"]);
        }
        let data = host.data().display().to_string();
        init.extend(["--data", &data]);
        host.run(&init);
        let text = fs::read_to_string(host.config()).unwrap();
        let (lmtp, local) = (host.path("lmtp"), host.path("local"));
        let text = text
            .replace(
                "smtp = [\"0.0.0.0:25\", \"[::]:25\"]",
                "smtp = [\"127.0.0.1:0\", \"[::1]:0\"]",
            )
            .replace("[\"0.0.0.0:587\", \"[::]:587\"]", "[\"127.0.0.1:0\"]")
            .replace("[\"0.0.0.0:465\", \"[::]:465\"]", "[\"127.0.0.1:0\"]")
            .replace("lmtp = []", &format!("lmtp = [\"{}\"]", lmtp.display()))
            .replace("/run/postern/socket", &local.display().to_string())
            .replace(
                "relay_networks = [\"127.0.0.0/8\", \"::1/128\"]",
                "relay_networks = [\"127.0.0.1\"]",
            );
        let open = if more.contains("[gate]") {
            ""
        } else {
            OPEN_GATE
        };
        let unchecked = if more.contains("[authentication]") {
            ""
        } else {
            "[authentication]\ncheck = false\n"
        };
        let dir = host.dir.path().display().to_string();
        let more = format!("{more}{open}{unchecked}").replace("$DIR", &dir);
        fs::write(host.config(), with_sections(&text, &more)).unwrap();
        for user in ["anna@example.org", "bob@example.org"] {
            host.run(&["user", "add", user]);
        }
        host
    }

    /// A file beside the host's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.path("postern.toml")
    }

    /// Its folder.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// A command for the built program.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("--config").arg(self.config());
        command
    }

    /// What the built program prints, which must succeed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output: Output = self.command().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the server, and waits until it is ready.
    pub fn serve(&self) -> Server {
        let server = self.try_serve(self.serving());
        server.expect("the server does not start")
    }

    /// The command that serves.
    pub fn serving(&self) -> Command {
        let mut command = self.command();
        command.arg("serve");
        command
    }

    /// Starts the server by this command; `None` when it ends before it is
    /// ready.
    pub fn try_serve(&self, mut command: Command) -> Option<Server> {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        // Read to its end, lest the server waits for a reader.
        thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut server = Server {
            process: Process(process),
            smtp: Vec::new(),
            submission: Vec::new(),
            lmtp: self.path("lmtp"),
            lines,
        };
        loop {
            let line = server.lines.recv_timeout(BOUND).ok()?;
            if let Some((_, rest)) = line.split_once("listening address=") {
                let address = rest.split(' ').next().unwrap();
                let of = match rest.contains("\"submission") {
                    true => &mut server.submission,
                    false => &mut server.smtp,
                };
                of.push(address.parse().unwrap());
            }
            if line.ends_with(" ready") {
                return Some(server);
            }
        }
    }

    /// The messages in a folder of a user, "" for INBOX, as they came: the
    /// names of one second have no order.
    pub fn mail(&self, user: &str, folder: &str) -> Vec<Vec<u8>> {
        let maildir = self
            .data()
            .join("mail/example.org")
            .join(user)
            .join("Maildir");
        let folder = match folder {
            "" => maildir,
            name => maildir.join(format!(".{name}")),
        };
        let mut files = Vec::new();
        for half in ["new", "cur"] {
            let entries = fs::read_dir(folder.join(half)).unwrap();
            files.extend(entries.map(|entry| entry.unwrap().path()));
        }
        files.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        files.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// Waits until there are so many.
    pub fn wait_for_mail(&self, user: &str, folder: &str, n: usize) -> Vec<Vec<u8>> {
        wait_for(&format!("{n} messages of {user}"), || {
            let mail = self.mail(user, folder);
            (mail.len() >= n).then_some(mail)
        })
    }
}

impl Server {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    fn line(&self, wanted: &str) -> String {
        match self.lines.recv_timeout(BOUND) {
            Ok(line) => line,
            Err(_) => panic!("the server ended, or said nothing, before {wanted:?}"),
        }
    }

    /// Reads its log until a line holds `text`.
    pub fn wait_for_line(&self, text: &str) -> String {
        loop {
            let line = self.line(text);
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end, and gives what it has logged and was not read.
    pub fn wait_and_log(mut self) -> String {
        let status = wait_for("the end of the server", || {
            self.process.0.try_wait().unwrap()
        });
        assert!(status.success(), "{status}");
        let lines: Vec<String> = self.lines.iter().collect();
        lines.join("\n")
    }

    /// Waits for its end, which must be a good one.
    pub fn wait(mut self) {
        let status = wait_for("the end of the server", || {
            self.process.0.try_wait().unwrap()
        });
        let said: Vec<String> = self.lines.iter().collect();
        assert!(status.success(), "{status}: {}", said.join("\n"));
    }
}

/// The text with sections in place of those of the same name.
fn with_sections(text: &str, more: &str) -> String {
    let mut kept = String::new();
    let mut is_kept = true;
    for line in text.split_inclusive('\n') {
        if line.starts_with('[') {
            is_kept = !more.lines().any(|header| header == line.trim_end());
        }
        if is_kept {
            kept.push_str(line);
        }
    }
    kept + more
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}
