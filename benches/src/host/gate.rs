//! The gate beside postscreen: connections judged a second, and what a client
//! waits more than without, with everything known already (our DNS cache,
//! postscreen's own).
//!
//! Each connection says EHLO, MAIL, RCPT and QUIT. Three DNS lists are asked,
//! all have the client, and none says much for it: dnsmasq gives only what it
//! has for keeping. Neither waits with its greeting: postscreen does it
//! for a client's first connection only, ours is told not to.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tests::overlaid::{Overlaid, is_possible};
use tests::programs::peer_in_sbin;

use super::load::free_port;
use super::ours::Ours;
use crate::record::{Record, Series};

/// Where the name server listens, on port 53: `resolv.conf` knows no other.
const NAME_SERVER: &str = "127.0.0.98";
const ZONES: [&str; 3] = ["a.lists.test", "b.lists.test", "c.lists.test"];
const SESSIONS: usize = 20;
const WORKLOAD: &str = "judged at RCPT";

const OPEN: &str = "postern, client may relay";
const GATE: &str = "postern, gate";
const SMTPD: &str = "Postfix smtpd";
const POSTSCREEN: &str = "Postfix postscreen, smtpd";

/// Measures all four in turns, with so many connections each.
pub(crate) fn measure(
    record: &mut Record,
    folder: &Path,
    n: usize,
    rounds: usize,
) -> anyhow::Result<()> {
    ensure!(is_possible(), "only root can lay Postfix over the system");
    let _names = NameServer::start()?;
    let lists: String = ZONES
        .iter()
        .map(|zone| {
            format!("[[gate.dns_list]]\nzone = \"{zone}\"\nabout = \"address\"\nweight = -0.1\n")
        })
        .collect();
    let gate = format!(
        "[smtp]\nrelay_networks = []\n[remote]\ndns = [\"{NAME_SERVER}:53\"]\n[gate]\n\
         greeting_delay_seconds = 0\nconnections_per_minute = 1_000_000\n\
         recipients_per_minute = 1_000_000\n{lists}"
    );
    let open = Ours::start_with(folder, "")?;
    let judging = Ours::start_with(folder, &gate)?;
    let (smtpd, screen) = (free_port()?, free_port()?);
    let _postfix = postfix(folder, smtpd, screen)?;
    let contenders = [
        (OPEN, open.port),
        (GATE, judging.port),
        (SMTPD, smtpd),
        (POSTSCREEN, screen),
    ];
    for (name, port) in contenders {
        // postscreen holds the first connection back.
        run(port, 1).context(name)?;
        thread::sleep(Duration::from_secs(3));
        run(port, n / 10).context(name)?;
    }
    let mut taken = contenders.map(|_| (Vec::new(), Vec::new()));
    for round in 0..rounds {
        for place in 0..contenders.len() {
            let who = (round + place) % contenders.len();
            let (name, port) = contenders[who];
            let begin = Instant::now();
            let mut times = run(port, n)?;
            let rate = n as f64 / begin.elapsed().as_secs_f64();
            times.sort_unstable();
            let middle = times[times.len() / 2].as_secs_f64() * 1e3;
            eprintln!("{name}: {rate:.0} a second, median {middle:.2} ms");
            taken[who].0.push(rate);
            taken[who].1.push(middle);
        }
    }
    for ((contender, _), (rates, middles)) in contenders.into_iter().zip(taken) {
        for (quantity, unit, values) in [
            ("connections a second", "", rates),
            ("median time of a connection", "ms", middles),
        ] {
            record.add(Series {
                workload: WORKLOAD,
                contender,
                quantity,
                unit,
                values,
            });
        }
    }
    Ok(())
}

/// With what, and against whom.
pub(crate) fn state_facts(record: &mut Record) {
    super::state_version(record);
    let what =
        format!("EHLO, MAIL, RCPT, QUIT, {SESSIONS} at once, three DNS lists, all answers known");
    record.fact("connections", what);
}

/// How long each of `n` connections took.
fn run(port: u16, n: usize) -> anyhow::Result<Vec<Duration>> {
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < n {
            let begin = Instant::now();
            connection(port)?;
            times.push(begin.elapsed());
        }
        Ok(times)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS.min(n)).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().expect("a client does not panic")?);
        }
        Ok(all)
    })
}

fn connection(port: u16) -> anyhow::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut replies = BufReader::new(stream.try_clone()?).lines();
    let mut expect = |code: &str| -> anyhow::Result<()> {
        loop {
            let line = replies.next().context("the connection ended")??;
            ensure!(line.starts_with(code), "{line}");
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    };
    let mut stream = stream;
    expect("220")?;
    for (command, code) in [
        ("EHLO [127.0.0.1]\r\n", "250"),
        ("MAIL FROM:<x@example.net>\r\n", "250"),
        ("RCPT TO:<u0@example.org>\r\n", "250"),
        ("QUIT\r\n", "221"),
    ] {
        stream.write_all(command.as_bytes())?;
        expect(code)?;
    }
    Ok(())
}

fn postfix(folder: &Path, smtpd: u16, screen: u16) -> anyhow::Result<Overlaid> {
    let dir = TempDir::new_in(folder)?;
    std::fs::write(
        dir.path().join("resolv.conf"),
        format!("nameserver {NAME_SERVER}\n"),
    )?;
    let more = format!(
        "myhostname = mail.example.org\nvirtual_mailbox_domains = example.org\n\
         virtual_mailbox_maps = inline:{{ u0@example.org=u0/ }}\n\
         postscreen_access_list =\npostscreen_greet_wait = 1s\npostscreen_greet_action = enforce\n\
         postscreen_dnsbl_action = enforce\npostscreen_dnsbl_sites = {}\n\
         in_flow_delay = 0s\npostscreen_client_connection_count_limit = 1000\nsmtpd_client_connection_count_limit = 0\n",
        ZONES.map(|zone| format!("{zone}*-1")).join(" ")
    );
    let services = format!(
        "127.0.0.1:{screen} inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n\
         dnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n"
    );
    Ok(tests::postfix::start_with(dir, smtpd, &more, &services))
}

/// dnsmasq, for names that both ask about.
struct NameServer(Child);

impl NameServer {
    fn start() -> anyhow::Result<Self> {
        let mut process = peer_in_sbin("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--user=root",
            ])
            .args(["--conf-file=/dev/null", "--bind-interfaces", "--pid-file="])
            .args([
                &format!("--listen-address={NAME_SERVER}"),
                "--log-facility=-",
            ])
            .args(["--local=/lists.test/", "--local=/example.net/"])
            .args([
                "--mx-host=example.net,mx.example.net,10",
                "--local-ttl=3600",
            ])
            .args([
                "--host-record=mx.example.net,192.0.2.10,2001:db8::10",
                "--neg-ttl=3600",
            ])
            // A name that leads back, so that this is known too; with addresses
            // of both kinds, since that there is none is nothing to keep.
            .args(["--ptr-record=1.0.0.127.in-addr.arpa,client.example.net"])
            .args(["--host-record=client.example.net,127.0.0.1,::1"])
            .args(ZONES.map(|zone| format!("--address=/1.0.0.127.{zone}/127.0.0.2")))
            .args(ZONES.map(|zone| format!("--txt-record=1.0.0.127.{zone},known")))
            .stderr(Stdio::piped())
            .spawn()?;
        let said = process.stderr.take().context("a pipe was asked for")?;
        let mut said = BufReader::new(said).lines().map_while(Result::ok);
        let server = Self(process);
        ensure!(
            said.any(|line| line.contains("started")),
            "dnsmasq does not start"
        );
        thread::spawn(move || said.count());
        Ok(server)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
