//! Writes what this version keeps on disk, as small as it can be:
//! `upgrade-fixture DIR`. `scripts/upgrade-fixture` packs it for the test that
//! opens it with later versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use classifier::Label;
use classifier::mark::MarkKey;
use classifier::modern::Act;
use classifier::store::lmdb::{Access, Moved};
use mta::accounts::Everything;
use mta::authentication::keys::Keys;
use mta::cli::accounts::Places;
use mta::gate::greylist::{Greylist, Settings};
use mta::journal::{Event, Journal, Line};
use mta::queue::disk::Folder;
use mta::queue::{Entry, Queue, Recipient, Record, State};
use mta::smtp::{Body, Mailbox, ReversePath};
use trainer::database::Databases;
use trainer::taught::make_classic;

/// What `postern user export --all` prints of the accounts.
const ACCOUNTS: &str = include_str!("../tests/data/upgrades/accounts.toml");

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.context("usage: upgrade-fixture DIR")?;
    let dir = std::path::absolute(dir)?;
    let data = dir.join("data");
    fs::create_dir_all(&data)?;
    accounts(&data)?;
    greylist(&data)?;
    waiting(&data)?;
    Keys::read(&data, "example.org")?.make(now())?;
    handed_over(&dir.join("moved"))?;
    models(&data, &dir.join("anna.user"))
}

fn accounts(data: &Path) -> anyhow::Result<()> {
    let accounts = Places::new(data).open()?;
    let users = Everything::parse(ACCOUNTS).map_err(anyhow::Error::msg)?;
    for user in users.enter(&accounts)? {
        accounts.homes().mailbox(&user)?;
    }
    let new = data.join("mail/example.org/anna/Maildir/new");
    fs::write(new.join("1764188000.M1P1.host"), "Subject: kept\n\nx\n")?;
    Ok(())
}

fn greylist(data: &Path) -> anyhow::Result<()> {
    let greylist = Greylist::open(&data.join("greylist.db"))?;
    let client = ("192.0.2.7".parse()?, "x@example.net", "anna@example.org");
    for now in [NOW, NOW + 301] {
        greylist.ask(&Settings::default(), client, now)?;
    }
    greylist.succeeded(client.0, NOW + 302)?;
    Ok(())
}

fn waiting(data: &Path) -> anyhow::Result<()> {
    let entry = Entry {
        arrived: NOW,
        reverse_path: ReversePath::parse(b"anna@example.org")?,
        client: "192.0.2.7:40112 mail.example.net ESMTP".into(),
        body: Body::EightBitMime,
        smtputf8: false,
        ret: None,
        envid: None,
        is_double_bounce: false,
        to_junk: true,
        recipients: ["bob@example.net", "carol@example.com"]
            .map(|address| {
                Ok(Recipient {
                    address: Mailbox::parse(address.as_bytes())?,
                    notify: None,
                    orcpt: None,
                    state: State::new(NOW),
                })
            })
            .into_iter()
            .collect::<anyhow::Result<_>>()?,
        is_warned: false,
        is_held: false,
    };
    let queue = Queue::new(Folder::open(&data.join("queue"))?);
    queue.accept(&entry, &[b"Subject: waits\n\nx\n"], "00000000abc")?;
    let mut taken = queue.take("00000000abc")?.context("it has just come")?;
    taken.note(&[
        Record {
            at: NOW + 1,
            event: mta::queue::Event::Done(0, "mx.example.net".into()),
        },
        Record {
            at: NOW + 2,
            event: mta::queue::Event::Hold,
        },
    ])?;
    Journal::new(data.join("journal"), 1 << 20).note(&Line {
        at: NOW,
        id: "00000000abc".into(),
        event: Event::Delivered {
            to: "bob@example.net".into(),
            place: "mx.example.net".into(),
        },
    })?;
    Ok(())
}

fn handed_over(dir: &Path) -> anyhow::Result<()> {
    let key = MarkKey::of_user(&[7; MarkKey::LEN], "anna");
    Moved::begin(dir, NOW, Duration::ZERO)?.done(dir, key)?;
    Ok(())
}

fn models(data: &Path, stream: &Path) -> anyhow::Result<()> {
    let databases = Databases::new(&data.join("models"), 1 << 20).map_err(anyhow::Error::msg)?;
    make_classic(&databases.host()?, "bob@example.org")?;
    let lessons: Vec<(Vec<u8>, Act)> = (0..20)
        .flat_map(|n| {
            let ham = format!("Subject: Lunch\n\nShall we meet tomorrow, Anna asks {n}\n");
            let spam = format!("Subject: Cheap watches\n\nBuy cheap watches, click here {n}\n");
            [
                (ham.into_bytes(), Act::Learn(Label::Ham)),
                (spam.into_bytes(), Act::Learn(Label::Spam)),
            ]
        })
        .collect();
    for user in ["anna@example.org", "bob@example.org"] {
        let mut taught = databases.taught(user, Access::ReadWrite)?;
        taught.learn(&lessons, NOW)?;
    }
    let mut stream = fs::File::create(stream)?;
    databases.host()?.export("anna@example.org", &mut stream)?;
    Ok(())
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

const NOW: u64 = 1_764_188_000;
