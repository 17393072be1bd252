//! The way out against real others: a second host of ours behind a DNS zone on
//! loopback, Postfix's smtp-sink, and a relay that asks for a password.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::dns::{self, Dns, free_port};
use common::{Host, Process, peer_in_sbin, wait_for};

/// A message from anna by the socket for programs.
fn send(host: &Host, to: &str, text: &str) {
    use std::io::Write;
    let mut sendmail = host
        .command()
        .args(["sendmail", "-i", "-f", "anna@example.org", "--", to])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    sendmail
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert_eq!(sendmail.wait().unwrap().code(), Some(0));
}

/// A host for example.net in place of example.org.
fn other() -> Host {
    let other = Host::new("");
    other.run(&["domain", "add", "example.net"]);
    other.run(&["user", "add", "bob@example.net", "--filter", "off"]);
    other
}

#[test]
fn mail_finds_its_way_by_the_dns_encrypted_and_unchanged() {
    let other = other();
    let receiver = other.serve();
    let dns = Dns::start(&[
        // Nobody listens at the preferred one, and the other has another name:
        // RFC 5321 §5.1 forbids that to who writes the zone, and real ones do.
        "--mx-host=example.net,dead.example.net,10",
        "--mx-host=example.net,mail.example.net,20",
        "--host-record=dead.example.net,127.0.0.9",
        "--cname=mail.example.net,real.example.net",
        "--host-record=real.example.net,127.0.0.1",
    ]);
    let host = Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\nport = {}\n",
        dns.port,
        receiver.smtp[0].port()
    ));
    let _server = host.serve();
    let body = "..\n.dots\nFrom here\n\u{e9}\n\n\n";
    for n in 0..5 {
        let text =
            format!("From: anna@example.org\nDate: x\nMessage-ID: <{n}>\nSubject: out\n\n{body}");
        send(&host, "bob@example.net", &text);
    }
    let bob = other.data().join("mail/example.net/bob/Maildir/new");
    wait_for("mail at the other host", || {
        (fs::read_dir(&bob).unwrap().count() == 5).then_some(())
    });
    for file in fs::read_dir(&bob).unwrap() {
        let mail = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(
            mail.ends_with(&format!("\nSubject: out\n\n{body}")),
            "{mail}"
        );
        assert!(mail.contains("with ESMTPS (TLSv1.3 "), "{mail}");
        assert!(mail.contains("by mail.example.org with local\n"), "{mail}");
    }
    let done = || host.run(&["queue", "list"]).is_empty().then_some(());
    wait_for("an empty queue", done);
    let story = host.run(&["why", "bob@example.net"]);
    assert!(story.contains("mail.example.net [127.0.0.1]"), "{story}");
}

#[test]
fn what_cannot_be_delivered_comes_back_with_the_reason() {
    let other = other();
    let receiver = other.serve();
    let dns = Dns::start(&[
        "--mx-host=example.net,mail.example.net,20",
        "--host-record=mail.example.net,127.0.0.1",
        // RFC 7505: an MX of preference 0 and the root.
        "--dns-rr=null.example.com,15,000000",
    ]);
    let host = Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\nport = {}\n",
        dns.port,
        receiver.smtp[0].port()
    ));
    let _server = host.serve();
    // Without an MX the domain itself is asked.
    other.run(&["domain", "add", "mail.example.net"]);
    other.run(&["user", "add", "eve@mail.example.net"]);
    send(&host, "eve@mail.example.net", "Subject: implicit\n\nx\n");
    let eve = other.data().join("mail/mail.example.net/eve/Maildir/new");
    wait_for("mail by an implicit MX", || {
        fs::read_dir(&eve).unwrap().next().map(drop)
    });
    for (to, status, diagnostic) in [
        ("nobody@example.net", "5.1.1", "550 5.1.1 no such user here"),
        (
            "bob@null.example.com",
            "5.1.10",
            "556 5.1.10 null.example.com takes no mail",
        ),
        (
            "bob@gone.example.com",
            "5.1.2",
            "550 5.1.2 there is no domain gone.example.com",
        ),
    ] {
        let before = host.mail("anna", "").len();
        send(&host, to, "Subject: lost\n\nx\n");
        let mail = host.wait_for_mail("anna", "", before + 1);
        let report = mail.iter().map(|mail| String::from_utf8_lossy(mail));
        let report = report.filter(|text| text.contains(&format!("Final-Recipient: rfc822; {to}")));
        let report: Vec<_> = report.collect();
        assert_eq!(report.len(), 1, "{to}");
        for part in [
            "Subject: failure notice\n",
            "Return-Path: <>\n",
            &format!("Status: {status}\n"),
            &format!("Diagnostic-Code: smtp; {diagnostic}"),
            "\nSubject: lost\n",
        ] {
            assert!(report[0].contains(part), "{part:?} is not in {}", report[0]);
        }
    }
    // The name server refuses to speak about others: that may pass.
    send(&host, "bob@elsewhere.test", "Subject: later\n\nx\n");
    let listed = wait_for("a deferral", || {
        let listed = host.run(&["queue", "list"]);
        listed.contains("451 4.4.3").then_some(listed)
    });
    assert!(listed.contains("bob@elsewhere.test"), "{listed}");
}

/// RFC 5321 §5.1: what a CNAME leads to is asked in place of the domain.
#[test]
fn a_domain_that_is_an_alias_has_the_exchangers_of_its_target() {
    let other = other();
    let receiver = other.serve();
    let dns = Dns::start(&[
        "--mx-host=example.net,mail.example.net,20",
        "--host-record=mail.example.net,127.0.0.1",
        // Nobody listens at the domain itself.
        "--host-record=example.net,127.0.0.9",
        "--cname=alias.example.com,example.net",
        "--cname=twice.example.com,alias.example.com",
        // Whose target has no MX, and whose is not there.
        "--cname=host.example.com,mail.example.net",
        "--cname=gone.example.com,nowhere.example.net",
    ]);
    let host = Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\nport = {}\n",
        dns.port,
        receiver.smtp[0].port()
    ));
    let _server = host.serve();
    for domain in ["alias", "twice", "host"] {
        let domain = format!("{domain}.example.com");
        other.run(&["domain", "add", &domain]);
        let bob = format!("bob@{domain}");
        other.run(&["user", "add", &bob, "--filter", "off"]);
        send(&host, &bob, "Subject: by an alias\n\nx\n");
        let new = other.data().join(format!("mail/{domain}/bob/Maildir/new"));
        wait_for(&domain, || fs::read_dir(&new).ok()?.next().map(drop));
    }
    send(&host, "bob@gone.example.com", "Subject: lost\n\nx\n");
    let report = host.wait_for_mail("anna", "", 1);
    let report = String::from_utf8_lossy(&report[0]).into_owned();
    let said = "550 5.1.2 there is no domain gone.example.com";
    assert!(report.contains(said), "{report}");
}

/// Speaks as a provider's relay does: STARTTLS or TLS at once, then AUTH PLAIN,
/// then mail, which it writes into a folder.
const RELAY: &str = r#"
import asyncio, ssl, sys, base64
cert, key, host, port, folder = sys.argv[1:]
implicit = port == "465"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
async def serve(reader, writer):
    encrypted, user, n = implicit, None, 0
    say = lambda text: writer.write(text.encode() + b"\r\n")
    say("220 relay ESMTP")
    while line := (await reader.readline()).decode().strip():
        verb = line.split()[0].upper()
        if verb == "EHLO":
            say("250-relay"); say("250 AUTH PLAIN" if encrypted else "250 STARTTLS")
        elif verb == "STARTTLS":
            say("220 go"); await writer.start_tls(context); encrypted = True
        elif verb == "AUTH":
            _, user, password = base64.b64decode(line.split()[2]).split(b"\0")
            ok = encrypted and password == b"secret word"
            say("235 ok" if ok else "535 5.7.8 no")
            user = user if ok else None
        elif verb in ("MAIL", "RCPT", "RSET"):
            say("250 ok" if user else "530 5.7.0 log in")
        elif verb == "DATA":
            say("354 go"); text = b""
            while (line := await reader.readline()) != b".\r\n": text += line
            n += 1; open(f"{folder}/{user.decode()}-{n}", "wb").write(text); say("250 ok")
        else:
            say("221 bye"); break
    writer.close()
async def main():
    server = await asyncio.start_server(serve, host, int(port), ssl=context if implicit else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

fn relay(pair: [&Path; 2], (address, port): (&str, &str), folder: &Path) -> (Process, u16) {
    let mut process = Command::new("python3")
        .args(["-c", RELAY])
        .args(pair)
        .args([address, port])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let port = port_of(&mut process);
    (Process(process), port)
}

/// The first line that it prints.
fn port_of(process: &mut Child) -> u16 {
    let mut line = String::new();
    let mut said = BufReader::new(process.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_relay_gets_the_password_only_behind_a_certificate_that_is_vouched_for() {
    by_relay("localhost", ("127.0.0.1", "0"));
}

#[test]
fn so_does_one_that_begins_with_tls() {
    // The port says so, and only root can listen there.
    if !rustix::process::geteuid().is_root() {
        tests::skip("only root can listen at port 465");
        return;
    }
    by_relay("127.0.0.65", ("127.0.0.65", "465"));
}

fn by_relay(name: &str, listens_at: (&str, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "secret word\n").unwrap();
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let (_relay, port) = relay([&certificate, &key], listens_at, &taken);

    let config = |ca_file: &Path| {
        format!(
            "[remote]\nca_file = \"{}\"\n\n[[route]]\ndomain = \"*\"\nhost = \"{name}\"\nport = {port}\n\
             user = \"anna\"\npassword_file = \"{}\"\n",
            ca_file.display(),
            password.display()
        )
    };
    let host = Host::new(&config(&certificate));
    let server = host.serve();
    send(&host, "bob@example.net", "Subject: by the relay\n\nx\n");
    let file = taken.join("anna-1");
    wait_for("mail at the relay", || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("by the relay"))
    });
    server.signal("TERM");
    server.wait();

    // Somebody else's word for it is none: no password, no mail.
    let stranger = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let strangers = dir.path().join("stranger.pem");
    fs::write(&strangers, stranger.cert.pem()).unwrap();
    let host = Host::new(&config(&strangers));
    let _server = host.serve();
    send(&host, "bob@example.net", "Subject: not sent\n\nx\n");
    wait_for("a deferral", || {
        host.run(&["queue", "list"])
            .contains("451 4.7.5")
            .then_some(())
    });
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 1);
}

/// smtp-sink at `address`.
fn sink(address: SocketAddr) -> Process {
    let mut sink = peer_in_sbin("smtp-sink");
    if rustix::process::geteuid().is_root() {
        sink.args(["-u", "root"]);
    }
    sink.args(["-c", &address.to_string(), "100"]);
    let sink = Process(sink.stdout(Stdio::null()).spawn().unwrap());
    wait_for("smtp-sink", || TcpStream::connect(address).ok());
    sink
}

/// Counts the connections that it passes on.
struct Counter {
    port: u16,
    open: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl Counter {
    fn before(server: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let counter = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            all: AtomicUsize::new(0),
        });
        let counts = Arc::clone(&counter);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let counts = Arc::clone(&counts);
                let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
                counts.most.fetch_max(open, Ordering::SeqCst);
                counts.all.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let server = TcpStream::connect(server).unwrap();
                    let (mut from, mut to) =
                        (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let there = thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                    let _ = io::copy(&mut &server, &mut &client);
                    // Before the client can see the end.
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = there.join();
                });
            }
        });
        counter
    }
}

#[test]
fn a_burst_to_one_destination_uses_few_connections_and_holds_nobody_up() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _sink = sink(address);
    let counter = Counter::before(address);
    // Nothing ever answers at the other route.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new(&format!(
        "[remote]\nconnections_per_destination = 3\nconnect_seconds = 60\n\n\
         [[route]]\ndomain = \"example.net\"\nhost = \"localhost\"\nport = {}\n\n\
         [[route]]\ndomain = \"example.com\"\nhost = \"127.0.0.1\"\nport = {}\n",
        counter.port,
        silent.local_addr().unwrap().port()
    ));
    let _server = host.serve();
    let addresses = |domain: &str, n: usize| -> Vec<String> {
        (0..n).map(|n| format!("bob{n}@{domain}")).collect()
    };
    for to in addresses("example.com", 30) {
        send(&host, &to, "Subject: stuck\n\nx\n");
    }
    let burst = addresses("example.net", 100);
    thread::scope(|scope| {
        for some in burst.chunks(25) {
            let host = &host;
            scope.spawn(move || {
                for to in some {
                    send(host, to, "Subject: burst\n\nx\n");
                }
            });
        }
    });
    let left = wait_for("what goes to the sink", || {
        let listed = host.run(&["queue", "list"]);
        (!listed.contains("@example.net")).then_some(listed)
    });
    assert_eq!(left.matches("@example.com").count(), 30, "{left}");
    let (most, all) = (
        counter.most.load(Ordering::SeqCst),
        counter.all.load(Ordering::SeqCst),
    );
    assert!((1..=3).contains(&most), "{most} at once");
    assert!(all < 50, "{all} connections for 100 messages");
}

#[test]
fn mail_finds_its_way_over_ipv6_alone() {
    let other = other();
    let receiver = other.serve();
    let dns = Dns::start(&[
        "--mx-host=example.net,mail.example.net,10",
        "--host-record=mail.example.net,::1",
    ]);
    let host = Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\nport = {}\n",
        dns.port,
        receiver.smtp[1].port()
    ));
    let _server = host.serve();
    send(&host, "bob@example.net", "Subject: by IPv6\n\nx\n");
    let bob = other.data().join("mail/example.net/bob/Maildir/new");
    let file = wait_for("mail at the other host", || {
        fs::read_dir(&bob).unwrap().next().map(Result::unwrap)
    });
    let mail = fs::read_to_string(file.path()).unwrap();
    assert!(mail.contains("[IPv6:::1]"), "{mail}");
    let story = wait_for("the story", || {
        let story = host.run(&["why", "bob@example.net"]);
        story.contains("delivered to").then_some(story)
    });
    assert!(story.contains("mail.example.net [::1]"), "{story}");
}

/// Offers TLS and says nonsense when it is to begin; takes mail in clear.
const NO_TLS: &str = r#"
import asyncio, sys
async def serve(reader, writer):
    say = lambda text: writer.write(text.encode() + b"\r\n")
    say("220 broken ESMTP")
    while line := (await reader.readline()).decode(errors="replace").strip():
        verb = line.split()[0].upper()
        if verb == "EHLO":
            say("250-broken"); say("250 STARTTLS")
        elif verb == "STARTTLS":
            say("220 go"); writer.write(b"this is no handshake\r\n" * 10); break
        elif verb == "DATA":
            say("354 go")
            while (line := await reader.readline()) != b".\r\n": pass
            say("250 taken in clear")
        else:
            say("250 ok")
    writer.close()
async def main():
    server = await asyncio.start_server(serve, *sys.argv[1:])
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

fn without_tls(address: &str, port: &str) -> (Process, u16) {
    let mut process = Command::new("python3")
        .args(["-c", NO_TLS, address, port])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let port = port_of(&mut process);
    (Process(process), port)
}

#[test]
fn tls_that_is_offered_and_fails_costs_no_mail() {
    let (_broken, port) = without_tls("127.0.0.1", "0");
    let host = Host::new(&format!(
        "[[route]]\ndomain = \"*\"\nhost = \"127.0.0.1\"\nport = {port}\n"
    ));
    let _server = host.serve();
    send(&host, "bob@example.net", "Subject: in clear\n\nx\n");
    let done = || host.run(&["queue", "list"]).is_empty().then_some(());
    wait_for("an empty queue", done);
    let story = host.run(&["why", "bob@example.net"]);
    assert!(
        story.contains("delivered to bob@example.net: 127.0.0.1 "),
        "{story}"
    );
}

#[test]
fn nothing_goes_to_a_submission_port_in_clear() {
    if !rustix::process::geteuid().is_root() {
        tests::skip("only root can listen at port 587");
        return;
    }
    let _sink = sink("127.0.0.66:587".parse().unwrap());
    let (_broken, _) = without_tls("127.0.0.67", "587");
    let host = Host::new(
        "[[route]]\ndomain = \"example.net\"\nhost = \"127.0.0.66\"\nport = 587\n\n\
         [[route]]\ndomain = \"example.com\"\nhost = \"127.0.0.67\"\nport = 587\n",
    );
    let _server = host.serve();
    for (to, why) in [
        ("bob@example.net", "offers no TLS, which the route requires"),
        ("bob@example.com", "127.0.0.67 [127.0.0.67]"),
    ] {
        send(&host, to, "Subject: not in clear\n\nx\n");
        wait_for("a deferral", || {
            let listed = host.run(&["queue", "list"]);
            let line = listed
                .lines()
                .find(|line| line.contains(to) && line.contains("451"));
            line.map(|line| assert!(line.contains("451 4.7.5") && line.contains(why), "{line}"))
        });
    }
}

#[test]
fn name_servers_that_fail_or_are_silent_are_asked_again_later() {
    let broken = dns::failing();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in [broken, silent.local_addr().unwrap().port()] {
        let host = Host::new(&format!("[remote]\ndns = [\"127.0.0.1:{port}\"]\n"));
        let _server = host.serve();
        send(&host, "bob@example.net", "Subject: later\n\nx\n");
        let listed = wait_for("a deferral", || {
            let listed = host.run(&["queue", "list"]);
            listed.contains(" 451 ").then_some(listed)
        });
        assert!(listed.contains("451 4.4.3"), "{listed}");
    }
}
