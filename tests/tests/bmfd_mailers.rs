//! What asks bmfd on other people's hosts: `spamc`, and mail servers that have
//! it judge mail as they take it in, configured as docs/integration.md says.
//!
//! Postfix and Exim run from the unpacked packages, which are laid over the
//! system in a mount namespace of their own. That needs root.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::bmfd::Bmfd;
use tests::overlaid::Overlaid;
use tests::postfix::UID;
use tests::programs::{built, peer, python};
use tests::run::{Input, Outcome, make_maildir, run, scratch};

/// A host with `bmfd serve`, of which anna has taught something.
struct Host {
    bmfd: Bmfd,
    dir: TempDir,
    port: u16,
}

impl Host {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let dir = scratch();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "service.mail_user = 'mail'\nspamd.socket = '{}/spamd'\n\
             spamd.listen = '127.0.0.1:0'\n{more}",
            dir.path().display()
        );
        let mut bmfd = Bmfd::new(dir.path(), "mail/*", &config);
        for folder in ["anna", "anna/.Junk"] {
            make_maildir(&dir.path().join("mail").join(folder));
        }
        bmfd.start_with(|command| {
            command.arg("--verbose");
        });
        let mark = "listening address=127.0.0.1:";
        bmfd.wait("listening", || bmfd.log().contains(mark));
        let log = bmfd.log();
        let (_, rest) = log.split_once(mark).unwrap();
        let port = rest.lines().next().unwrap().parse().unwrap();
        Self { bmfd, dir, port }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "not {what}: {:?}", self.logs());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> [String; 5] {
        let names = [
            "said",
            "log",
            "exim-mainlog",
            "exim-paniclog",
            "exim-rejectlog",
        ];
        names.map(|name| fs::read_to_string(self.path(name)).unwrap_or_default())
    }

    /// To the socket for spamc.
    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path("spamd")).unwrap()
    }

    fn spamc(&self, args: &str, input: &[u8]) -> Outcome {
        let mut spamc = peer("spamc");
        spamc.arg("-U").arg(self.path("spamd"));
        spamc.args(args.split(' ')).args(["-u", "anna"]);
        run(&mut spamc, Input::Bytes(input))
    }

    fn teach(&self) {
        for n in 0..60 {
            for (label, words) in [("spam", "cheap watches"), ("ham", "lunch tomorrow")] {
                let learned = self.spamc(&format!("-x -L {label}"), &mail(n, words));
                assert_eq!(learned.stdout_text().trim(), LEARNED);
            }
        }
    }

    /// The only message in a folder below `mail`.
    fn delivered(&self, folder: &str) -> String {
        let new = self.path("mail").join(folder).join("new");
        let files = || -> Vec<_> {
            let files = fs::read_dir(&new).into_iter().flatten();
            files.map(|file| file.unwrap().path()).collect()
        };
        self.wait("delivered", || !files().is_empty());
        assert_eq!(files().len(), 1);
        let text = fs::read_to_string(&files()[0]).unwrap();
        fs::remove_file(&files()[0]).unwrap();
        text
    }
}

/// What `spamc -L` says.
const LEARNED: &str = "Message successfully un/learned";
const ALREADY: &str = "Message was already un/learned";

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The answer to a request, or to its beginning.
fn said(mut stream: UnixStream, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

/// A request that spamc would send, if Debian's could compress.
fn zipped(fields: &str, message: &[u8]) -> Vec<u8> {
    let zip = "import sys, zlib; i, o = sys.stdin, sys.stdout; \
               o.buffer.write(zlib.compress(i.buffer.read()))";
    let zipped = run(python().args(["-c", zip]), Input::Bytes(message)).stdout;
    let len = zipped.len();
    let head =
        format!("CHECK SPAMC/1.5\r\n{fields}Compress: zlib\r\nContent-length: {len}\r\n\r\n");
    [head.as_bytes(), &zipped].concat()
}

fn mail(n: usize, words: &str) -> Vec<u8> {
    format!("From: a{n}@example.org\nSubject: {words} {n}\n\n{words} number {n} of many\n")
        .into_bytes()
}

#[test]
fn spamc_asks_and_teaches() {
    let host = Host::new();
    assert_eq!(host.spamc("-K", b"").code(), 0);
    host.teach();
    let spam = mail(90, "cheap watches");
    let again = host.spamc("-x -L spam", &mail(1, "cheap watches"));
    assert_eq!(again.stdout_text().trim(), ALREADY);

    let checked = host.spamc("-x -c", &spam);
    let hits = checked.stdout_text();
    assert_eq!(checked.code(), 1, "{hits}");
    let (hits, required) = hits.trim().split_once('/').unwrap();
    assert!(hits.parse::<f64>().unwrap() >= required.parse::<f64>().unwrap());
    assert_eq!(host.spamc("-x -c", &mail(91, "lunch tomorrow")).code(), 0);
    assert_eq!(host.spamc("-x -y", &spam).stdout_text().trim(), "BMF_SPAM");
    let report = host.spamc("-x -R", &spam).stdout_text();
    assert!(report.contains("spam: hits="), "{report}");

    let passed = host.spamc("-x", &spam).stdout_text();
    let (head, body) = passed.split_once("\n\n").unwrap();
    assert!(head.contains("\nX-Spam-Status: Yes, hits="), "{head}");
    assert!(head.contains("\nX-Spam-Mark: 1 "), "{head}");
    assert_eq!(body, "cheap watches number 90 of many\n");
    assert_eq!(host.spamc("-x --headers", &spam).stdout_text(), passed);
    let reported = host.spamc("-x -r", &spam).stdout_text();
    assert!(reported.contains("spam: hits="), "{reported}");
    let ham = host.spamc("-x -r", &mail(91, "lunch tomorrow"));
    assert!(!ham.stdout_text().contains("hits="), "{ham:?}");
    let zipped = said(host.connect(), &zipped("User: anna\r\n", &spam));
    assert!(zipped.contains("\r\nSpam: True ; "), "{zipped}");

    let taken_back = host.spamc("-x -L forget", &mail(1, "cheap watches"));
    assert_eq!(taken_back.stdout_text().trim(), LEARNED);
    let nothing = host.spamc("-x -L forget", &mail(1, "cheap watches"));
    assert_eq!(nothing.stdout_text().trim(), ALREADY);

    // Over TCP anybody may ask, and nobody teach.
    let over_tcp = |args: &str| {
        let mut spamc = peer("spamc");
        spamc.args(["-x", "-d", "127.0.0.1", "-p"]);
        spamc.arg(host.port.to_string());
        spamc.args(args.split(' ')).args(["-u", "anna"]);
        run(&mut spamc, Input::Bytes(&spam))
    };
    assert_eq!(over_tcp("-c").code(), 1);
    let refused = over_tcp("-L spam");
    assert!(!refused.stdout_text().contains("successfully"));
    let nothing = host.spamc("-x -L forget", &spam);
    assert_eq!(nothing.stdout_text().trim(), ALREADY);
}

/// The system says who calls spamc.
#[test]
fn spamc_uses_the_callers_model_and_no_other() {
    const DAEMON: u32 = 1;
    let host = Host::new();
    let original = peer("spamc");
    let spamc = host.path("spamc");
    // By another process, or one that is forked meanwhile keeps it open.
    let copied = Command::new("cp")
        .arg(original.get_program())
        .arg(&spamc)
        .status();
    assert!(copied.unwrap().success());
    if chown(&spamc, Some(DAEMON), None).is_err() {
        tests::skip("only root can ask as somebody else");
        return;
    }
    let ask = |args: &str| {
        let mut command = Command::new(&spamc);
        command.arg("-U").arg(host.path("spamd"));
        command.args(args.split(' ')).uid(DAEMON).gid(DAEMON);
        run(&mut command, Input::Bytes(&mail(1, "cheap watches")))
    };
    let refused = ask("-x -c -u anna");
    assert!(refused.code() > 1, "{refused:?}");
    // spamc makes this of any answer that does not say that it was done.
    assert_eq!(ask("-x -L spam -u anna").stdout_text().trim(), ALREADY);
    let nothing = host.spamc("-x -L forget", &mail(1, "cheap watches"));
    assert_eq!(nothing.stdout_text().trim(), ALREADY);
    assert_eq!(ask("-x -L spam -u daemon").stdout_text().trim(), LEARNED);
    assert_eq!(ask("-x -L spam").stdout_text().trim(), ALREADY);
}

#[test]
fn broken_clients_of_spamd_cost_nothing_to_the_others() {
    let host = Host::with(
        "service.patience_seconds = 5\nservice.max_message_bytes = 100000\n\
         service.max_connections_per_user = 8\nspamd.tell_over_tcp = true\n",
    );
    let silent = host.connect();
    let mut slow = host.connect();
    slow.write_all(b"CHECK SPAMC/1.5\r\nContent-length: 90\r\n\r\nhalf")
        .unwrap();
    assert_eq!(host.spamc("-K", b"").code(), 0);
    assert_eq!(said(silent, b""), "");
    assert_eq!(said(slow, b""), "");
    let refused = said(
        host.connect(),
        b"CHECK SPAMC/1.5\r\nContent-length: 99999999\r\n\r\n",
    );
    assert!(!refused.contains(" 0 EX_OK"), "{refused}");
    let bomb = said(host.connect(), &zipped("", &[b'x'; 100_001]));
    assert!(bomb.contains(" 65 the message is too long"), "{bomb}");
    let many: Vec<_> = (0..8).map(|_| host.connect()).collect();
    assert_eq!(said(host.connect(), b"PING SPAMC/1.5\r\n\r\n"), "");
    assert!(host.bmfd.log().contains("too many connections"));
    drop(many);
    host.wait("served again", || host.spamc("-K", b"").code() == 0);
    // Where the configuration says so anybody may teach.
    let mut spamc = peer("spamc");
    spamc.args(["-x", "-d", "127.0.0.1", "-p"]);
    spamc.arg(host.port.to_string());
    spamc.args(["-L", "spam", "-u", "anna"]);
    let taught = run(&mut spamc, Input::Bytes(&mail(1, "cheap watches")));
    assert_eq!(taught.stdout_text().trim(), LEARNED);
    let again = host.spamc("-x -L spam", &mail(1, "cheap watches"));
    assert_eq!(again.stdout_text().trim(), ALREADY);
}

/// A server that `script` starts with the host's folder as $DIR. `None`, and a
/// note, without root.
fn over_system(host: &Host, script: &str, port: u16) -> Option<Overlaid> {
    let mut all = vec![host.path("mail")];
    while let Some(folder) = all.pop() {
        if chown(&folder, Some(UID), Some(UID)).is_err() {
            tests::skip("only root can lay mail servers over the system");
            return None;
        }
        let folders = fs::read_dir(&folder).unwrap();
        all.extend(folders.map(|entry| entry.unwrap().path()));
    }
    Some(Overlaid::start_in(host.dir.path(), script, port))
}

/// Accounts of the system have their mailboxes wherever their homes lie.
#[test]
fn the_accounts_of_the_system_have_mailboxes() {
    if !tests::overlaid::is_possible() {
        tests::skip("only root can give the system other accounts");
        return;
    }
    let dir = tests::run::scratch();
    let path = |below: &str| dir.path().join(below);
    for folder in ["far/away/zoe/Maildir", "far/away/zoe/Maildir/.Junk"] {
        make_maildir(&path(folder));
    }
    fs::write(path("far/away/zoe/Maildir/.Junk/cur/1.h:2,S"), mail(1, "x")).unwrap();
    let config = format!(
        "database.path = '{0}/lib'\nservice.socket = '{0}/socket'\n\
         mailboxes.patterns = ['/nowhere/*']\nmailboxes.accounts = 'Maildir'\n",
        dir.path().display()
    );
    fs::write(path("bmfd.toml"), config).unwrap();
    let script = format!(
        "echo zoe:x:4321:4321::$DIR/far/away/zoe:/bin/sh >>/etc/passwd\n\
         {} --config $DIR/bmfd.toml once",
        built("bmfd").display()
    );
    let output = tests::overlaid::run(dir.path(), &script);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("message learned user=\"zoe\" folder=Junk"),
        "{said}"
    );
}

/// Sends a message to anna.
fn send(port: u16, message: &[u8]) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut expect = |code: &str| {
        let mut line = String::new();
        loop {
            line.clear();
            replies.read_line(&mut line).unwrap();
            if line.get(3..4) != Some("-") {
                break;
            }
        }
        assert!(line.starts_with(code), "{line}");
    };
    expect("220");
    for (command, code) in [
        ("HELO client.example.net", "250"),
        ("MAIL FROM:<b@example.net>", "250"),
        ("RCPT TO:<anna@example.org>", "250"),
        ("DATA", "354"),
    ] {
        write!(stream, "{command}\r\n").unwrap();
        expect(code);
    }
    let text = String::from_utf8(message.into()).unwrap();
    write!(stream, "{}.\r\n", text.replace('\n', "\r\n")).unwrap();
    expect("250");
    write!(stream, "QUIT\r\n").unwrap();
    expect("221");
}

/// What docs/integration.md says for `name`, with this host's paths.
fn documented(host: &Host, name: &str, places: &[(&str, &str)]) -> String {
    let path = tests::programs::repository().join("docs/integration.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("```{name}\n")).unwrap();
    let (block, _) = rest.split_once("\n```").unwrap();
    let mut block = block.to_owned() + "\n";
    let socket = host.path("spamd").display().to_string();
    block = block.replace("/run/bmfd/spamd", &socket);
    for (place, here) in places {
        assert!(block.contains(place), "{place} in {block}");
        block = block.replace(place, here);
    }
    block
}

fn check_mail(host: &Host, port: u16, junk: &str) {
    host.teach();
    send(port, &mail(92, "cheap watches"));
    let spam = host.delivered(junk);
    assert!(spam.contains("\nX-Spam-Status: Yes, hits="), "{spam}");
    assert!(spam.contains("\nX-Spam-Mark: 1 "), "{spam}");
    send(port, &mail(93, "lunch tomorrow"));
    let ham = host.delivered("anna");
    assert!(ham.contains("\nX-Spam-Status: No, hits="), "{ham}");
    assert!(
        ham.ends_with("\n\nlunch tomorrow number 93 of many\n"),
        "{ham}"
    );
}

#[test]
fn postfix_has_mail_judged() {
    if !tests::overlaid::is_possible() {
        tests::skip("only root can lay mail servers over the system");
        return;
    }
    let host = Host::new();
    let port = free_port();
    // Of this machine: the user that bmfd is configured with.
    let filter = documented(&host, "postfix-master", &[("user=vmail", "user=mail")]);
    let services = filter.replacen("smtp ", "127.0.0.1:PORT ", 1);
    let main = MAIN.to_owned() + &documented(&host, "postfix-main", &[]);
    let own = documented(&host, "postfix-filter", &[]);
    fs::write(host.path("bmfd-filter"), own).unwrap();
    let script =
        "mount -t tmpfs none /usr/local/lib && cp $DIR/bmfd-filter /usr/local/lib || exit\n"
            .to_owned()
            + tests::postfix::script(host.dir.path(), port, &main, &services);
    let Some(_server) = over_system(&host, &script, port) else {
        return;
    };
    // What delivers on such a host files it by the header field.
    check_mail(&host, port, "anna");
}

/// Apart from what is documented.
const MAIN: &str = "\
myhostname = host.example.org
virtual_mailbox_domains = example.org
virtual_mailbox_maps = static:anna/
";

#[test]
fn exim_has_mail_judged_and_files_it() {
    let host = Host::new();
    let port = free_port();
    let dir = host.path("").display().to_string();
    let routers = documented(
        &host,
        "exim-routers",
        &[("check_local_user", "local_parts = anna")],
    );
    let own = format!("{dir}mail/$local_part_data");
    let transports = documented(
        &host,
        "exim-transports",
        &[("$home/Maildir", &own), ("user = vmail", "user = mail")],
    );
    let as_user = format!("  maildir_format\n  user = {UID}\n  group = {UID}\n");
    let transports = transports.replace("  maildir_format\n", &as_user);
    let main = EXIM
        .replace("DIR/", &dir)
        .replace("PORT", &port.to_string());
    let config = format!("{main}begin routers\n{routers}begin transports\n{transports}");
    fs::write(host.path("exim4.conf"), config).unwrap();
    // With the user under whom Debian's package runs it.
    let script = "mkdir -p $DIR/exim /etc/exim4 && chown mail:mail $DIR $DIR/exim && chmod 4755 /usr/sbin/exim4 && \
        echo Debian-exim:x:8:8::/:/bin/false >>/etc/passwd && \
        echo Debian-exim:x:8: >>/etc/group && \
        cp $DIR/exim4.conf /etc/exim4 && exec exim4 -bdf -q1m";
    let Some(_server) = over_system(&host, script, port) else {
        return;
    };
    check_mail(&host, port, "anna/.Junk");
}

const EXIM: &str = "\
exim_user = mail
exim_group = mail
trusted_users = mail
primary_hostname = host.example.org
spool_directory = DIR/exim
log_file_path = DIR/exim-%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = PORT
tls_advertise_hosts =
keep_environment =
never_users =
acl_smtp_rcpt = take
begin acl
take:
  accept
";
