//! No open relay, in any configuration that can be made here.
//!
//! Configurations are written as the file, the accounts and the gate's rules
//! that an administrator would write, and read by the code that reads those.
//! Dialogues go through the driver, the session, the gate and the accounts;
//! only the client's address is invented, and the way out keeps what it gets.
//!
//! What must hold is said a second time in `generate.rs`, from the texts of
//! the client and of the configuration: nobody outside our domains is accepted
//! unless the client is a program of this machine, or lies in a network that
//! may relay, or in a rule's with RELAYCLIENT, or has logged in, or a plugin says
//! O at RCPT. And nothing goes out but to those, to whom our accounts send their
//! mail on, and reports to senders.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use classifier::mark::MarkKey;
use classifier::modern::{Explanation, Verdict};
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::driver::{Surroundings, drive};
use super::listener::{Clients, Shared};
use super::run::verifier;
use super::stream::Stream;
use crate::accounts::{Accounts, Address, Homes, Password, PasswordHash, User, UserSettings};
use crate::config::Config;
use crate::gate::Gate;
use crate::pipeline::Postern;
use crate::pipeline::verdict::Models;
use crate::remote::dns::Dns;
use crate::remote::{Parcel, Results, WayOut};
use crate::smtp::session::Session;
use crate::smtp::{ForwardPath, Mechanism, ReversePath, Tls};

mod generate;
mod name_server;
mod programs;
mod talk;

use generate::{Visitor, World};
use talk::Talk;

/// What was accepted, by why it was right.
type Counts = BTreeMap<&'static str, usize>;

/// A property of what never happens would hold of anything: each of these is
/// to be met more often than `RARELY`.
const WAYS: [&str; 13] = [
    "ours", "refused", "network", "rule", "login", "local", "plugin", "changed", "over", "hung up",
    "program", "sent out", "sent on",
];
const RARELY: usize = 5;
/// Rounds of cases in which they may be met.
const ROUNDS: usize = 4;

#[test]
fn nobody_relays_who_may_not() {
    let mut counts = Counts::new();
    let is_met = |counts: &Counts, why| counts.get(why).is_some_and(|n| *n > RARELY);
    for _ in 0..ROUNDS {
        for (why, n) in a_round() {
            *counts.entry(why).or_default() += n;
        }
        if WAYS.iter().all(|why| is_met(&counts, *why)) {
            break;
        }
    }
    for why in WAYS {
        assert!(is_met(&counts, why), "{why}: {counts:?}");
    }
}

fn a_round() -> Counts {
    let counts = Mutex::new(Counts::new());
    let mut runner = TestRunner::new(Cases {
        max_shrink_iters: 300,
        // What fails by taking too long is not made smaller for hours.
        max_shrink_time: 60_000,
        failure_persistence: None,
        ..Cases::default()
    });
    let cases = (generate::world(), generate::visitors());
    let result = runner.run(&cases, |(world, visitors)| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let checked = async { tokio::time::timeout(BOUND, check(&world, &visitors)).await };
        let found = runtime
            .block_on(checked)
            .unwrap_or_else(|_| Err(format!("not at rest after {} seconds", BOUND.as_secs())));
        // Whatever the host is still about must not hold the failure up.
        runtime.shutdown_background();
        let mut counts = counts.lock().unwrap();
        for (why, n) in found.map_err(TestCaseError::fail)? {
            *counts.entry(why).or_default() += n;
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    counts.into_inner().unwrap()
}

/// One configuration takes less than a second; a host that sends mail to itself
/// for ever must fail the test.
const BOUND: Duration = Duration::from_secs(60);

/// What was accepted, or what should not have been.
async fn check(world: &World, visitors: &[Visitor]) -> Result<Counts, String> {
    // Nothing here is about the disk, and syncing is slow there.
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let dir = dir.unwrap();
    let out = Out::default();
    let (_stop, stopping) = watch::channel(false);
    let (config, shared) = host(world, dir.path(), out.clone(), stopping).await;
    let mut counts = Counts::new();
    let mut may_get = BTreeSet::new();
    let mut senders = BTreeSet::new();
    for visitor in visitors {
        let mut talk = Talk::new(world, visitor);
        visit(&config, &shared, visitor, &mut talk).await?;
        for (why, n) in talk.counts {
            *counts.entry(why).or_default() += n;
        }
        may_get.extend(talk.may_get);
        senders.extend(talk.senders);
    }
    shared.around.host.run_due().await;
    let targets = world.targets();
    for (from, to) in out.0.lock().unwrap().iter() {
        let is_report = *from == ReversePath::Null.to_string() && senders.contains(to);
        let why = match to {
            to if may_get.contains(to) => "sent out",
            to if targets.contains(to) => "sent on",
            _ if is_report => "reported",
            _ => return Err(format!("mail from <{from}> has gone to <{to}>")),
        };
        *counts.entry(why).or_default() += 1;
    }
    Ok(counts)
}

/// One connection.
async fn visit(
    config: &Config,
    shared: &Shared<Postern>,
    visitor: &Visitor,
    talk: &mut Talk<'_>,
) -> Result<(), String> {
    let mechanisms = [Mechanism::Plain];
    let manner = visitor.kind.manner(config, &mechanisms);
    let peer = visitor
        .address
        .map(|address| SocketAddr::new(address, 4711));
    let Some((may_relay, visit)) = shared.receive(peer, &manner) else {
        return Err("a client was not received".into());
    };
    let mut session = Session::new(manner.settings, peer, may_relay, Instant::now());
    if visitor.is_encrypted {
        session = session.within(Tls {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            exporter: None,
        });
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = drive(Stream::Unix(ours), session, visit, &shared.around);
    let (served, said) = tokio::join!(serving, talk.all(theirs));
    served.map_err(|error| error.to_string())?;
    said
}

/// The host of a configuration, as the program makes it of its files.
async fn host(
    world: &World,
    data: &Path,
    out: Out,
    stopping: watch::Receiver<bool>,
) -> (Config, Shared<Postern>) {
    let dns = name_server::start().await;
    std::fs::write(data.join("rules"), world.rules_text()).unwrap();
    std::fs::write(data.join("plugins"), world.plugins_text()).unwrap();
    let text = world.config_text(data, dns);
    let config = Config::parse(&text, Path::new("postern.toml"))
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let accounts = accounts(world, data);
    let mut settings = config.pipeline.clone();
    // The hash is a cheap one, and stays it.
    settings.keep_hashes = true;
    settings.learning = None;
    let way_out: Option<Box<dyn WayOut>> = Some(Box::new(out));
    let models = Box::new(NoModels);
    let dns = Dns::new(config.remote.dns.as_deref()).unwrap();
    let verifier = verifier(&config, &dns);
    let host = Postern::open(data, accounts, models, way_out, verifier, settings).unwrap();
    let gate = Gate::open(
        &config.pipeline.host,
        config.gate.clone(),
        &dns,
        &data.join("greylist.db"),
    );
    let shared = Shared {
        gate: Arc::new(gate.unwrap_or_else(|error| panic!("{error}\n{}", world.rules_text()))),
        around: Surroundings {
            host: Arc::new(host),
            spool: data.join("spool").into(),
            certificates: None,
            stopping,
        },
        relay_networks: config.relay_networks.clone(),
        clients: Clients::new(10, 10),
    };
    (config, shared)
}

/// Everybody's.
const PASSWORD: &str = "secret-1";
const HASH: &str = "$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.";

fn accounts(world: &World, data: &Path) -> Arc<Accounts> {
    let homes = Homes::new(data.join("mail"));
    std::fs::create_dir(data.join("mail")).unwrap();
    let accounts = Accounts::open(&data.join("accounts.db"), homes).unwrap();
    let user = |name: &str, domain: &str| User {
        address: Address::new(name, domain),
        settings: UserSettings {
            filter: false,
            password: Some(Password::from(HASH.parse::<PasswordHash>().unwrap())),
            ..UserSettings::default()
        },
    };
    let entered = accounts.change(|change| {
        for domain in &world.domains {
            change.put_domain(&crate::accounts::Domain {
                name: (*domain).to_owned(),
                postmaster: world.postmaster.clone(),
                ..crate::accounts::Domain::default()
            })?;
        }
        for (name, domain, _) in world.users() {
            change.put_user(&user(name, domain))?;
        }
        for (name, domain, targets) in world.aliases() {
            change.put_alias(&Address::new(name, domain), targets)?;
        }
        Ok(())
    });
    entered.unwrap();
    for (name, domain, forward) in world.users() {
        let address = Address::new(name, domain);
        accounts.homes().mailbox(&address).unwrap();
        if let Some(forward) = forward {
            let file = accounts.homes().home(&address).unwrap().join(".qmail");
            std::fs::write(file, format!("&{forward}\n")).unwrap();
        }
    }
    Arc::new(accounts)
}

/// An address as the way out writes it, from how a client writes it.
fn canonical(path: &str) -> Option<String> {
    let path = ForwardPath::parse(path.as_bytes()).ok()?;
    Some(path.to_string())
}

/// Keeps who sent to whom.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<(String, String)>>>);

impl WayOut for Out {
    fn deliver<'a>(
        &'a self,
        parcel: Parcel<'a>,
    ) -> Pin<Box<dyn Future<Output = Results> + Send + 'a>> {
        let from = parcel.entry.reverse_path.to_string();
        let mut sent = self.0.lock().unwrap();
        let results = parcel.recipients.iter().map(|recipient| {
            sent.push((from.clone(), recipient.address.to_string()));
            Ok("mx.example.net".to_owned())
        });
        let results = results.collect();
        Box::pin(async move { results })
    }
}

/// No mail is judged.
struct NoModels;

impl Models for NoModels {
    fn explain(
        &self,
        users: &[String],
        _: &[u8],
        _: usize,
    ) -> Vec<Result<(Verdict, Explanation), String>> {
        vec![Err("there is none".into()); users.len()]
    }

    fn mark_key(&self, _: &str) -> Result<Option<MarkKey>, String> {
        Ok(None)
    }
}
