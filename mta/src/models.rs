//! A user's model out of the host's database, as text, and into it from
//! whatever bmf, of either kind, keeps in a folder.
//!
//! The server has the database open while it runs, and nobody else can.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use classifier::cli::{Engine, bmfconv};
use classifier::import::Lists;
use classifier::modern::{self, Exported};
use classifier::store::lmdb::Access;
use classifier::store::{Durability, ModelStore, Text, TokenStore};
use trainer::database::Databases;
use trainer::taught;

/// Longest wait for lists that somebody writes to.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// What a folder of bmf may hold; everything else there is left alone.
pub(crate) const FILES: [&str; 6] = [
    "bmf.mdb",
    "goodlist.db",
    "spamlist.db",
    "goodlist.txt",
    "spamlist.txt",
    "model.txt",
];
/// A model as text.
const MODEL: &str = "model.txt";

/// The database of the models in the folder `data`.
///
/// # Errors
/// When it cannot be opened, because the server runs for example.
pub fn databases(data: &Path) -> anyhow::Result<Databases> {
    let databases = Databases::new(&data.join("models"), 1 << 20).map_err(anyhow::Error::msg)?;
    let opened = databases.host();
    opened.context("the models cannot be opened: is `postern serve` running? Stop it first")?;
    Ok(databases)
}

/// Writes the model of `user` into the folder `to`: `goodlist.txt` and
/// `spamlist.txt`, which every bmf reads, or `model.txt`. Returns the engine.
///
/// # Errors
/// When there is none, or it cannot be written.
pub fn export(databases: &Databases, user: &str, to: &Path) -> anyhow::Result<Engine> {
    let host = databases.host()?;
    let engine = taught::engine(&host, user)?;
    let engine = engine.with_context(|| format!("{user} has no model"))?;
    let made = fs::create_dir_all(to);
    made.with_context(|| format!("whoever keeps the mail cannot make {}", to.display()))?;
    match engine {
        Engine::Classic => {
            let lists = Lists::of(&host.user(user), Vec::new())?;
            Text::open(to, LOCK_WAIT)?.replace(lists.trained(), &mut lists.entries())?;
        }
        Engine::Modern => {
            let mut text = Vec::new();
            host.model(user).look(&mut |view| {
                text.clear();
                modern::export(view, &mut text, to)
            })?;
            let path = to.join(MODEL);
            let mut options = fs::OpenOptions::new();
            let opened = options.write(true).create_new(true).mode(0o600).open(&path);
            let written = opened.and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            });
            let failed = || format!("whoever keeps the mail cannot write {}", path.display());
            written.with_context(failed)?;
        }
    }
    Ok(engine)
}

/// Whether bmf, of any kind, has left a database in a folder.
pub fn is_there(folder: &Path) -> bool {
    FILES.iter().any(|name| folder.join(name).is_file())
}

/// Copies what bmf keeps in a folder, so that the folder stays as it is.
///
/// # Errors
/// When the disk refuses.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for name in FILES {
        match fs::copy(from.join(name), to.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    Ok(())
}

/// Makes the database of bmf in `from`, of any format, the model of `user`, who
/// has none yet. Returns its engine.
///
/// # Errors
/// When there is a model, or no database.
pub fn import(databases: &Databases, user: &str, from: &Path) -> anyhow::Result<Engine> {
    let host = databases.host()?;
    ensure!(
        taught::engine(&host, user)?.is_none(),
        "{user} has a model already, which stays"
    );
    // What reads LMDB makes files beside it.
    let dir = tempfile::tempdir().context("cannot make a folder for temporary files")?;
    let (copied, texts) = (dir.path().join("copied"), dir.path().join("texts"));
    fs::create_dir(&copied)?;
    fs::create_dir(&texts)?;
    let read = copy(from, &copied);
    read.with_context(|| format!("whoever keeps the mail cannot read {}", from.display()))?;
    let is_text = copied.join(MODEL).exists() && !copied.join("bmf.mdb").exists();
    if is_text {
        fs::rename(copied.join(MODEL), texts.join(MODEL))?;
    } else {
        let arguments = ["bmfconv", "--to-format", "text", "--from"].map(Into::into);
        let arguments = arguments.into_iter().chain([copied.into()]);
        let to = ["--to".into(), texts.clone().into()];
        let done = bmfconv::run(arguments.chain(to), None, dir.path());
        if done.code != 0 {
            bail!("{}: {}", from.display(), done.stderr.trim());
        }
    }
    let model = texts.join(MODEL);
    if model.exists() {
        let text = fs::read(&model)?;
        let exported = Exported::read(&mut &*text, &from.join(MODEL))?;
        let mut taught = databases.open(user, Access::ReadWrite)?;
        taught.change(Durability::Synced, &mut |view| exported.merging(view))?;
        return Ok(Engine::Modern);
    }
    let lists = Lists::exported(&texts, LOCK_WAIT)?;
    let mut store = host.user(user);
    // The engine is noted after the counts, which take notes of before away.
    store.replace(lists.trained(), &mut lists.entries())?;
    taught::make_classic(&host, user)?;
    Ok(Engine::Classic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Address, User, UserSettings};
    use crate::pipeline::verdict::{HostModels, judge};
    use classifier::Label;
    use classifier::modern::Act;

    const SPAM: &[u8] = b"Subject: Cheap watches\n\nBuy cheap watches now, click here\n";
    const HAM: &[u8] = b"Subject: Lunch\n\nShall we meet tomorrow, Anna asks\n";

    #[test]
    fn models_of_both_engines_go_out_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = databases(&dir.path().join("first")).unwrap();
        let second = databases(&dir.path().join("second")).unwrap();
        taught::make_classic(&first.host().unwrap(), "bob@example.org").unwrap();
        let lessons: Vec<(Vec<u8>, Act)> = (0..20)
            .flat_map(|n| {
                let with = |mail: &[u8]| [mail, format!("{n}\n").as_bytes()].concat();
                [
                    (with(HAM), Act::Learn(Label::Ham)),
                    (with(SPAM), Act::Learn(Label::Spam)),
                ]
            })
            .collect();
        for (name, engine) in [("anna", Engine::Modern), ("bob", Engine::Classic)] {
            let user = format!("{name}@example.org");
            let mut taught = first.taught(&user, Access::ReadWrite).unwrap();
            taught.learn(&lessons, 1_000).unwrap();
            let folder = dir.path().join(name);
            assert_eq!(export(&first, &user, &folder).unwrap(), engine);
            assert!(is_there(&folder));
            assert_eq!(import(&second, &user, &folder).unwrap(), engine);
            let again = import(&second, &user, &folder).unwrap_err().to_string();
            assert!(again.contains("has a model already"), "{again}");
            // Each judges as before, in the host too.
            let user = User {
                address: Address::new(name, "example.org"),
                settings: UserSettings::default(),
            };
            let said = [&first, &second].map(|databases| {
                let models = HostModels::new(databases.clone());
                [SPAM, HAM].map(|mail| {
                    let said = judge(mail, &[&user], &models);
                    let said = said.into_iter().next().unwrap().unwrap().unwrap();
                    (said.class, said.probability, said.evidence.len())
                })
            });
            assert_eq!(said[0], said[1], "{name}");
            assert_eq!(
                said[0].map(|(class, ..)| class == modern::Class::Spam),
                [true, false]
            );
            assert!(said[0][0].2 > 0, "{name}: why");
        }
        let none = import(&second, "carl@example.org", dir.path()).unwrap_err();
        assert!(none.to_string().contains("find a database"), "{none}");
        assert!(export(&first, "carl@example.org", dir.path()).is_err());
    }
}
