//! The mail host beside Postfix and OpenSMTPD: the same messages, on the same
//! disk, in turns.
//!
//! All three answer 250 only when the message is synced, and sync it once more
//! in the Maildir. Postfix and OpenSMTPD do so as they are shipped: both sync
//! their queue file and the message; ours syncs the message and its folder's
//! names, and what it queues likewise.

pub(crate) mod gate;
mod load;
mod ours;
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tempfile::TempDir;
use tests::programs::peer_in_sbin;

use self::load::{Load, Sink};
use self::ours::Ours;
use crate::record::{Bound, Goal, Record, Series, first_line};

/// Who gets mail: `u0@example.org` and so on, each from a quarter of the
/// sessions.
const USERS: usize = 4;
/// Sessions at once, of all users together.
const SESSIONS: usize = 20;
/// For the models of users, as it is configured here.
const MODEL_CACHE_MIB: usize = 64;
/// Messages to the destination that never answers.
const STUCK: usize = 200;
const IDLE: usize = 1_000;

const IN: &str = "to Maildirs";
const OUT: &str = "to smtp-sink";

const PLAIN: &str = "postern, no filter";
/// The same with mail in its queue for a destination that never answers.
const BESIDE_DEAD: &str = "postern, beside a dead destination";
const SCORING: &str = "postern, scoring";
const POSTFIX: &str = "Postfix";
const OPENSMTPD: &str = "OpenSMTPD";

const ACCEPTED: &str = "time until accepted";
const DELIVERED: &str = "time until delivered";

/// One that takes part.
struct Contender {
    name: &'static str,
    port: u16,
    /// The folders into which mail of each user comes.
    maildirs: Vec<PathBuf>,
    /// What runs, and ends when this is dropped.
    server: Server,
}

enum Server {
    Ours(Ours),
    Other { _process: tests::overlaid::Overlaid },
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Messages in each turn.
    pub(crate) messages: usize,
    /// Turns of each.
    pub(crate) rounds: usize,
}

fn state_version(record: &mut Record) {
    let mut version = peer_in_sbin("postconf");
    version.args(["-dh", "mail_version"]);
    record.fact(POSTFIX, first_line(&mut version));
}

/// With what, and against whom.
pub(crate) fn state_facts(record: &mut Record) {
    state_version(record);
    record.fact("mail", format!("generated, about 4 kB, for {USERS} users, a connection for each message, {SESSIONS} at once"));
    record.fact("durability", "as shipped: each syncs what it queues before 250, and what it delivers; postern delivers before 250, and syncs names too");
}

/// Races the servers, and measures the memory of ours.
pub(crate) fn measure(record: &mut Record, folder: &Path, scale: Scale) -> anyhow::Result<()> {
    ensure!(
        tests::overlaid::is_possible(),
        "only root can lay Postfix and OpenSMTPD over the system"
    );
    let load = Load::prepare(folder, scale.messages)?;
    let sink = Sink::start()?;
    let dead = load::Dead::start()?;
    let routes = [("sink.example", sink.port), ("dead.example", dead.port)];
    let plain = Ours::start(folder, &routes, None)?;
    let scoring = Ours::start(folder, &routes, Some(&load.lessons))?;
    let contenders = [
        plain.contender(PLAIN),
        peers::postfix(folder, &routes, POSTFIX)?,
        scoring.contender(SCORING),
        peers::opensmtpd(folder, &routes, OPENSMTPD)?,
    ];
    race_in(record, folder, &load, scale, &contenders)?;
    memory(record, &contenders)?;
    let [plain, postfix, ..] = contenders;
    let beside = Ours::start(folder, &routes, None)?.contender(BESIDE_DEAD);
    load.send(beside.port, STUCK, |_| "bob@dead.example".into())?;
    // OpenSMTPD, as it is shipped, sends a hundred messages and pauses.
    race_out(record, &load, scale, &sink, &[plain, postfix, beside])?;
    idle(record, folder)?;
    Ok(())
}

fn race_in(
    record: &mut Record,
    folder: &Path,
    load: &Load,
    scale: Scale,
    contenders: &[Contender],
) -> anyhow::Result<()> {
    let aside = TempDir::new_in(folder)?;
    let turn = |contender: &Contender, n| -> anyhow::Result<[Duration; 2]> {
        for folder in &contender.maildirs {
            set_aside(folder, aside.path())?;
        }
        rustix::fs::sync();
        let to = |user| format!("u{user}@example.org");
        let start = Instant::now();
        load.send(contender.port, n, to)?;
        let accepted = start.elapsed();
        load::wait_for_mail(contender.name, &contender.maildirs, n)?;
        Ok([accepted, start.elapsed()])
    };
    let taken = in_turns(IN, scale, contenders, turn)?;
    add(record, IN, scale, contenders, &[ACCEPTED, DELIVERED], taken);
    for (ours, quantity, bound) in [
        (PLAIN, DELIVERED, Some(2.0)),
        (PLAIN, ACCEPTED, None),
        (SCORING, DELIVERED, Some(1.0)),
        (SCORING, ACCEPTED, None),
    ] {
        for peer in [POSTFIX, OPENSMTPD] {
            let bound = bound.filter(|_| peer == POSTFIX);
            let bound = bound.map_or(Bound::AtLeast(1.0), Bound::AtLeast);
            goal(record, IN, quantity, ours, Some(peer), bound);
        }
    }
    Ok(())
}

fn race_out(
    record: &mut Record,
    load: &Load,
    scale: Scale,
    sink: &Sink,
    contenders: &[Contender],
) -> anyhow::Result<()> {
    let turn = |contender: &Contender, n| -> anyhow::Result<[Duration; 2]> {
        rustix::fs::sync();
        let before = sink.taken();
        let start = Instant::now();
        load.send(contender.port, n, |_| "bob@sink.example".into())?;
        let accepted = start.elapsed();
        sink.wait_for(contender.name, before + n)?;
        Ok([accepted, start.elapsed()])
    };
    let taken = in_turns(OUT, scale, contenders, turn)?;
    add(
        record,
        OUT,
        scale,
        contenders,
        &[ACCEPTED, DELIVERED],
        taken,
    );
    for (ours, peer, bound) in [
        (PLAIN, POSTFIX, Bound::AtLeast(1.0)),
        (BESIDE_DEAD, PLAIN, Bound::AtMost(1.2)),
    ] {
        goal(record, OUT, DELIVERED, ours, Some(peer), bound);
    }
    Ok(())
}

/// The most that was resident so far.
fn memory(record: &mut Record, contenders: &[Contender]) -> anyhow::Result<()> {
    let quantity = "most resident memory";
    for (contender, most) in [(PLAIN, 64), (SCORING, 64 + MODEL_CACHE_MIB)] {
        let found = contenders.iter().find(|one| one.name == contender);
        let Some(Server::Ours(ours)) = found.map(|one| &one.server) else {
            continue;
        };
        record.add(Series {
            workload: IN,
            contender,
            quantity,
            unit: "MiB",
            values: vec![ours.memory("VmHWM:")?],
        });
        goal(
            record,
            IN,
            quantity,
            contender,
            None,
            Bound::AtMost(most as f64),
        );
    }
    Ok(())
}

/// What clients cost that say nothing.
fn idle(record: &mut Record, folder: &Path) -> anyhow::Result<()> {
    let ours = Ours::start(folder, &[], None)?;
    // What the first client costs is not counted.
    let first = load::greeted(ours.port, 1)?;
    let before = ours.memory("VmRSS:")?;
    let clients = load::greeted(ours.port, IDLE)?;
    let values = vec![ours.memory("VmRSS:")? - before];
    drop((first, clients));
    let (workload, quantity) = ("1,000 idle connections", "resident memory");
    record.add(Series {
        workload,
        contender: PLAIN,
        quantity,
        unit: "MiB",
        values,
    });
    goal(record, workload, quantity, PLAIN, None, Bound::AtMost(32.0));
    Ok(())
}

/// What each contender took, in each round.
type Taken = Vec<Vec<[Duration; 2]>>;

/// A short round that does not count, then the others; each begins with
/// another contender.
fn in_turns(
    workload: &str,
    scale: Scale,
    contenders: &[Contender],
    turn: impl Fn(&Contender, usize) -> anyhow::Result<[Duration; 2]>,
) -> anyhow::Result<Taken> {
    eprintln!("{workload}: {} rounds", scale.rounds);
    for contender in contenders {
        turn(contender, scale.messages / 10)?;
    }
    let mut taken: Taken = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..scale.rounds {
        for place in 0..contenders.len() {
            let who = (round + place) % contenders.len();
            let contender = &contenders[who];
            let times = turn(contender, scale.messages)?;
            eprintln!("{}: {times:.2?}", contender.name);
            taken[who].push(times);
        }
    }
    Ok(taken)
}

fn add(
    record: &mut Record,
    workload: &'static str,
    scale: Scale,
    contenders: &[Contender],
    quantities: &[&'static str; 2],
    taken: Taken,
) {
    for (contender, taken) in contenders.iter().zip(taken) {
        let contender = contender.name;
        let seconds = |n: usize| taken.iter().map(move |times| times[n].as_secs_f64());
        for (n, quantity) in quantities.iter().enumerate() {
            record.add(Series {
                workload,
                contender,
                quantity,
                unit: "s",
                values: seconds(n).collect(),
            });
        }
        record.add(Series {
            workload,
            contender,
            quantity: "messages delivered a second",
            unit: "",
            values: seconds(1)
                .map(|time| scale.messages as f64 / time)
                .collect(),
        });
    }
}

fn goal(
    record: &mut Record,
    workload: &'static str,
    quantity: &'static str,
    contender: &'static str,
    peer: Option<&'static str>,
    bound: Bound,
) {
    record.goal(Goal {
        workload,
        quantity,
        contender,
        peer,
        bound: Some(bound),
    });
}

/// Mail of the last turn goes out of the way. It is not deleted: for a minute
/// an ext4 without a journal looks through the inodes of deleted files for each
/// new one, and those of the race itself are enough.
fn set_aside(folder: &Path, aside: &Path) -> anyhow::Result<()> {
    for file in fs::read_dir(folder).into_iter().flatten() {
        let file = file?;
        fs::rename(file.path(), aside.join(file.file_name()))?;
    }
    Ok(())
}
