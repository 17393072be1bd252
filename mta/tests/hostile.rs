//! The running server where something is against it: a full disk, a folder
//! that cannot be written, a scanner that hangs, and clients that are many,
//! slow, or send what parsers choke on. It says so in the protocol's words,
//! keeps nothing half, and goes on.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Clamd, Host, Server, Talk, signal, wait_for};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Much longer than the bounds that are set here, also on a busy machine, and
/// shorter than what it would take without them.
const SOON: Duration = Duration::from_secs(60);

fn connect(address: SocketAddr) -> Talk<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(2 * SOON)).unwrap();
    Talk::new(stream)
}

/// What is answered to the end of a message.
fn send(address: SocketAddr, to: &str, message: &[u8]) -> String {
    let mut talk = connect(address);
    talk.greet("EHLO").unwrap();
    talk.ask("MAIL FROM:<x@example.net>\r\n", 250).unwrap();
    talk.ask(&format!("RCPT TO:<{to}@example.org>\r\n"), 250)
        .unwrap();
    talk.ask("DATA\r\n", 354).unwrap();
    talk.say(message).unwrap();
    talk.say(b"\r\n.\r\n").unwrap();
    talk.line().unwrap()
}

fn small(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\n{}", "a line\r\n".repeat(300)).into_bytes()
}

/// More than stays in memory.
fn large(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\n{}", "a line\r\n".repeat(100_000)).into_bytes()
}

/// A server in a mount namespace of its own, in which `mount` was run by a
/// shell, with the data folder as `$DATA` and a copy of it as `$COPY`.
fn serve_with(host: &Host, mount: &str) -> Option<Server> {
    if !rustix::process::geteuid().is_root() {
        tests::skip("only root can mount");
        return None;
    }
    let copy = host.path("copy");
    let script = format!("cp -a \"$DATA\" \"$COPY\" && {mount} && exec \"$@\"");
    let serving = host.serving();
    let mut command = Command::new("unshare");
    command
        .env("DATA", host.data())
        .env("COPY", &copy)
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(serving.get_program())
        .args(serving.get_args());
    Some(host.try_serve(command).unwrap())
}

/// A path as the server sees it.
fn seen_by(server: &Server, path: &Path) -> PathBuf {
    let root = format!("/proc/{}/root", server.id());
    Path::new(&root).join(path.strip_prefix("/").unwrap())
}

/// All files in a folder and below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// Bob's mail goes through the queue.
fn with_a_queue() -> Host {
    let host = Host::new("");
    let home = host.data().join("mail/example.org/bob");
    fs::write(home.join(".qmail"), "./Maildir/\n&anna@example.org\n").unwrap();
    host
}

#[test]
fn on_a_full_disk_mail_is_refused_for_now_and_nothing_is_half_there() {
    let host = with_a_queue();
    let mount = "mount -t tmpfs -o size=48m none \"$DATA\" && cp -a \"$COPY/.\" \"$DATA\"";
    let Some(server) = serve_with(&host, mount) else {
        return;
    };
    let data = seen_by(&server, &host.data());
    let mail = || {
        let mut all = files(&data.join("mail"));
        all.retain(|path| !path.ends_with(".qmail") && !path.ends_with("maildirfolder"));
        all
    };
    let delivered = || {
        let mut all = mail();
        all.retain(|path| !path.parent().unwrap().ends_with("tmp"));
        all
    };
    let filler = data.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    drop(file);
    for (to, message) in [
        ("anna", small("to a mailbox")),
        ("bob", small("to the queue")),
        ("anna", large("to the spool")),
    ] {
        let said = send(server.smtp[0], to, &message);
        assert!(said.starts_with("452 4.3.1 "), "{to}: {said}");
    }
    assert_eq!(mail(), Vec::<PathBuf>::new());
    for folder in ["queue", "spool"] {
        assert_eq!(files(&data.join(folder)), Vec::<PathBuf>::new());
    }

    // And goes on when there is room.
    fs::remove_file(filler).unwrap();
    for (to, message) in [("bob", small("small")), ("anna", large("large"))] {
        let said = send(server.smtp[0], to, &message);
        assert!(said.starts_with("250 "), "{to}: {said}");
    }
    wait_for("all mail", || (delivered().len() == 3).then_some(()));
    for path in delivered() {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with("a line\n") || text.ends_with("a line\n\n"));
    }
}

/// RFC 1870 §6.3: what MAIL announces counts at RCPT, before it has come.
#[test]
fn a_message_that_is_larger_than_a_mailbox_is_refused_for_that_one_alone() {
    let host = Host::new("");
    for (user, more) in [("anna", &[][..]), ("bob", &["--over-quota", "refuse"])] {
        let user = format!("{user}@example.org");
        host.run(&[&["user", "set", &user, "--quota", "100000"], more].concat());
    }
    host.run(&["user", "add", "carol@example.org"]);
    let server = host.serve();
    let mut talk = connect(server.smtp[0]);
    talk.greet("EHLO").unwrap();
    let mut mail = |size: &str| {
        talk.ask(&format!("MAIL FROM:<x@example.net>{size}\r\n"), 250)
            .unwrap();
        let said = ["anna", "bob", "carol"].map(|to| {
            talk.say(format!("RCPT TO:<{to}@example.org>\r\n").as_bytes())
                .unwrap();
            talk.line().unwrap()[..9].to_owned()
        });
        talk.ask("RSET\r\n", 250).unwrap();
        said
    };
    assert_eq!(mail(" SIZE=99999"), ["250 2.1.5"; 3]);
    assert_eq!(
        mail(" SIZE=100001"),
        ["452 4.2.2", "552 5.2.2", "250 2.1.5"]
    );
    assert_eq!(mail(""), ["250 2.1.5"; 3]);
}

#[test]
fn what_needs_the_queue_waits_while_it_cannot_be_written() {
    let host = with_a_queue();
    let mount = "mkdir -m 700 \"$DATA/queue\" && mount --bind \"$DATA/queue\" \"$DATA/queue\"";
    let Some(server) = serve_with(&host, mount) else {
        return;
    };
    let remount = |how: &str| {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &server.id().to_string(), "mount", "-o", how]);
        assert!(
            command
                .arg(host.data().join("queue"))
                .status()
                .unwrap()
                .success()
        );
    };
    remount("remount,bind,ro");
    let said = send(server.smtp[0], "bob", &small("to the queue"));
    assert!(said.starts_with("451 4.3.0 "), "{said}");
    let said = send(server.smtp[0], "anna", &small("to a mailbox"));
    assert!(said.starts_with("250 "), "{said}");
    assert_eq!(
        (host.mail("bob", "").len(), host.mail("anna", "").len()),
        (0, 1)
    );

    remount("remount,bind,rw");
    let said = send(server.smtp[0], "bob", &small("to the queue"));
    assert!(said.starts_with("250 "), "{said}");
    host.wait_for_mail("bob", "", 1);
    host.wait_for_mail("anna", "", 2);
}

#[test]
fn a_scanner_that_hangs_holds_up_only_what_is_to_be_scanned() {
    let dir = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(dir.path());
    let host = Host::new(&format!(
        "[scanner]\nclamd = \"{}\"\npatience_seconds = 5\n",
        clamd.socket.display()
    ));
    // One that waits in the queue, for a Maildir that is to come.
    let home = host.data().join("mail/example.org/bob");
    fs::write(home.join(".qmail"), "./Later/\n&anna@example.org\n").unwrap();
    let server = host.serve();
    let address = server.smtp[0];
    let said = send(address, "bob", &small("before"));
    assert!(said.starts_with("250 "), "{said}");

    signal(clamd.process.0.id(), "STOP");
    let begin = Instant::now();
    let clients: Vec<_> = (0..20)
        .map(|_| thread::spawn(move || send(address, "anna", &small("meanwhile"))))
        .collect();
    for client in clients {
        let said = client.join().unwrap();
        assert!(said.starts_with("451 4.7.1 "), "{said}");
    }
    let took = begin.elapsed();
    assert!(took < SOON, "{took:?}");
    // What was scanned before is delivered.
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(home.join("Later").join(part)).unwrap();
    }
    host.run(&["queue", "retry"]);
    host.wait_for_mail("anna", "", 1);
    assert_eq!(fs::read_dir(home.join("Later/new")).unwrap().count(), 1);

    signal(clamd.process.0.id(), "CONT");
    let said = send(address, "anna", &small("after"));
    assert!(said.starts_with("250 "), "{said}");
}

/// Clients who say nothing, and one who does.
#[test]
fn ten_thousand_clients_are_served_and_the_next_is_sent_away() {
    let n = 10_000;
    // The server has files of its own, and so have other tests here.
    let needed = n + 1_000;
    let mut limit = getrlimit(Resource::Nofile);
    // Root may have more than its shell was given.
    limit.maximum = limit.maximum.map(|most| most.max(needed));
    limit.current = limit.maximum;
    let set = setrlimit(Resource::Nofile, limit);
    set.unwrap_or_else(|error| panic!("{error}: this needs `ulimit -Hn {needed}`"));
    let host = Host::new(&format!(
        "[listen]\nsmtp = [\"127.0.0.1:0\"]\nlocal = \"\"\nmax_sessions = {n}\nmax_sessions_per_client = {n}\n"
    ));
    let server = host.serve();
    let before = resident_kib(&server);
    let mut clients: Vec<_> = (0..n).map(|_| connect(server.smtp[0])).collect();
    for client in &mut clients {
        client.greet("EHLO").unwrap();
    }
    let said = connect(server.smtp[0]).line().unwrap();
    assert!(said.starts_with("421 4.3.2 "), "{said}");
    // 32 MiB for a thousand.
    let each = (resident_kib(&server) - before) / n;
    assert!(each < 32, "{each} KiB each");

    let last = clients.last_mut().unwrap();
    last.ask("MAIL FROM:<x@example.net>\r\n", 250).unwrap();
    last.ask("RCPT TO:<anna@example.org>\r\n", 250).unwrap();
    last.ask("DATA\r\n", 354).unwrap();
    last.ask("Subject: the last\r\n\r\nx\r\n.\r\n", 250)
        .unwrap();
    assert_eq!(host.mail("anna", "").len(), 1);
    drop(clients);
    wait_for("a free place", || {
        connect(server.smtp[0])
            .line()
            .unwrap()
            .starts_with("220 ")
            .then_some(())
    });
    println!("{n} clients, {each} KiB each");
}

fn resident_kib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .strip_suffix(" kB")
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn slow_clients_are_sent_away_and_hold_nobody_up() {
    let host = Host::new("[smtp]\ncommand_seconds = 12\nmessage_seconds = 13\n");
    let server = host.serve();
    let address = server.smtp[0];
    let silent = move || {
        let mut talk = connect(address);
        talk.greet("EHLO").unwrap();
        talk.line().unwrap()
    };
    // Never silent for long, and never done.
    let trickling = move |to: &str| {
        let mut talk = connect(address);
        talk.greet("EHLO").unwrap();
        if to == "DATA" {
            talk.ask("MAIL FROM:<x@example.net>\r\n", 250).unwrap();
            talk.ask("RCPT TO:<anna@example.org>\r\n", 250).unwrap();
            talk.ask("DATA\r\n", 354).unwrap();
        }
        let stream = talk.0.get_ref().try_clone().unwrap();
        thread::spawn(move || {
            while (&stream).write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        talk.line().unwrap()
    };
    let begin = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(thread::spawn(silent));
        clients.push(thread::spawn(move || trickling("")));
        clients.push(thread::spawn(move || trickling("DATA")));
    }
    let said = send(address, "anna", &small("meanwhile"));
    assert!(said.starts_with("250 "), "{said}");
    // Before any of them is sent away.
    assert!(
        begin.elapsed() < Duration::from_secs(12),
        "{:?}",
        begin.elapsed()
    );
    for client in clients {
        let said = client.join().unwrap();
        assert!(said.starts_with("421 4.4.2 "), "{said}");
    }
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(host.mail("anna", "").len(), 1);
}

#[test]
fn headers_and_mime_parts_beyond_measure_are_refused_or_delivered() {
    // With the filter on, which reads all of it.
    let host = Host::new("");
    let server = host.serve();
    let fields = |n: usize| "A: b\r\n".repeat(n) + "\r\nbody";
    let folded = format!("Subject: x{}\r\n\r\nbody", "\r\n\ty".repeat(100_000));
    let long = format!("Subject: {}\r\n\r\nbody", "x".repeat(300_000));
    let words = format!("Subject: {}\r\n\r\nbody", "=?utf-8?q?x?= ".repeat(20_000));
    let deep = nested(20_000, |n| format!("multipart/mixed; boundary=b{n}"));
    let same = nested(20_000, |_| "multipart/mixed; boundary=b".into());
    let inside = "Content-Type: message/rfc822\r\n\r\n".repeat(20_000) + "\r\nbody";
    let parts = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
        "--b\r\n\r\nx\r\n".repeat(100_000)
    );
    let parameters = format!(
        "Content-Type: text/plain{}\r\n\r\nbody",
        ";\r\n a=b".repeat(40_000)
    );
    for (what, message, expected) in [
        ("fields within bounds", fields(60_000), "250 "),
        ("fields beyond them", fields(200_000), "552 "),
        ("a folded field", folded, "250 "),
        ("a long field", long, "250 "),
        ("encoded words", words, "250 "),
        ("parts in parts", deep, "250 "),
        ("parts in parts with one boundary", same, "250 "),
        ("messages in messages", inside, "250 "),
        ("many parts", parts, "250 "),
        ("many parameters", parameters, "250 "),
    ] {
        let begin = Instant::now();
        let said = send(server.smtp[0], "anna", message.as_bytes());
        assert!(said.starts_with(expected), "{what}: {said}");
        let took = begin.elapsed();
        assert!(took < SOON, "{what}: {took:?}");
    }
    assert_eq!(host.mail("anna", "").len(), 9);
    let resident = resident_kib(&server) / 1024;
    assert!(resident < 256, "{resident} MiB");
}

/// Parts in parts, none of which ends.
fn nested(depth: usize, kind: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for n in 0..depth {
        let boundary = kind(n);
        let name = boundary.split("boundary=").nth(1).unwrap().to_owned();
        text += &format!("Content-Type: {boundary}\r\n\r\n--{name}\r\n");
    }
    text + "\r\nbody"
}
