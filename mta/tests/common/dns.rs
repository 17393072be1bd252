//! A name server on loopback, and clients with addresses of their own.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::{Process, peer_in_sbin};

/// dnsmasq with these records; other names under example.net do not exist, and
/// about everything else it will not speak.
pub struct Dns {
    _process: Process,
    /// On 127.0.0.1.
    pub port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    /// Starts it.
    pub fn start(records: &[&str]) -> Self {
        let port = free_port();
        let mut command = peer_in_sbin("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
            ])
            .args([
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--pid-file=",
            ])
            .args([
                "--local=/example.net/",
                "--local=/example.com/",
                "--log-facility=-",
                "--log-queries",
            ])
            .arg(format!("--port={port}"))
            .args(records)
            .stderr(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            command.arg("--user=root");
        }
        let mut process = command.spawn().unwrap();
        let said = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = said.map(Result::unwrap);
        let started = said.any(|line| line.contains("started"));
        assert!(started, "dnsmasq does not start");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || said.for_each(|line| lines.lock().unwrap().push(line)));
        Self {
            _process: Process(process),
            port,
            log,
        }
    }

    /// How often it was asked: `TXT`, `example.net`.
    pub fn n_asked(&self, kind: &str, name: &str) -> usize {
        let asked = format!("query[{kind}] {name} ");
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(&asked)).count()
    }
}

/// A name server that answers every question with SERVFAIL.
pub fn failing() -> u16 {
    const QR: u8 = 0x80;
    const SERVFAIL: u8 = 2;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut message = [0; 1500];
        while let Ok((n, client)) = socket.recv_from(&mut message) {
            message[2] |= QR;
            message[3] = message[3] & 0xf0 | SERVFAIL;
            let _ = socket.send_to(&message[..n], client);
        }
    });
    port
}

/// A port that is free for both protocols just now.
pub fn free_port() -> u16 {
    loop {
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A connection from an address of its own.
pub fn connect_from(client: &str, server: SocketAddr) -> TcpStream {
    let client = SocketAddrV4::new(client.parse::<Ipv4Addr>().unwrap(), 0);
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &client).unwrap();
    connect(&stream, &server).unwrap();
    stream.into()
}
