//! `postern init`: a host for a domain, from nothing to ready to serve; or
//! nothing at all. What a killed run leaves, the next one removes.

mod unfinished;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use clap::Args;
use nix::unistd::{Uid, User};

use super::accounts::{self, Places};
use super::dkim;
use crate::accounts::{self as model, Address, UserSettings};
use crate::authentication::keys;
use crate::config::Config;
use crate::smtp;
use unfinished::Unfinished;

/// What a new host is to be.
#[derive(Args, Debug)]
pub struct Init {
    /// The domain whose mail it receives
    #[arg(value_parser = accounts::domain)]
    domain: String,
    /// What the host is called in the DNS; by default mail.DOMAIN
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    host: Option<String>,
    /// The system's user who keeps the mail; by default postern, who is made if
    /// there is none, when root calls, else whoever calls
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

/// What was made, and goes again unless all was made.
#[derive(Default)]
struct Made {
    paths: Vec<PathBuf>,
    user: Option<String>,
    is_whole: bool,
}

/// The sample, which says the defaults.
const SAMPLE: &str = include_str!("../../../docs/postern.toml");

/// Does it, and prints what to do next.
///
/// # Errors
/// With the reason; everything is as before then.
pub fn run(init: &Init, config: &Path, data: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let data = &std::path::absolute(data)?;
    let host = match &init.host {
        Some(host) => host.clone(),
        None => host_name(&format!("mail.{}", init.domain)).map_err(anyhow::Error::msg)?,
    };
    let text = |user: Option<&str>| sample(&init.domain, &host, data, user);
    let new = New {
        domain: Some(&init.domain),
        host: &host,
        user: init.user.as_deref(),
        config,
        data,
        secrets: &BTreeMap::new(),
    };
    new.make(&text)?;
    tell(&init.domain, &host, config, data, out)
}

/// A host that is to be made.
pub(super) struct New<'a> {
    /// With a mailbox for its postmaster.
    pub(super) domain: Option<&'a str>,
    pub(super) host: &'a str,
    /// The system's user who keeps the mail.
    pub(super) user: Option<&'a str>,
    pub(super) config: &'a Path,
    /// An absolute path.
    pub(super) data: &'a Path,
    /// Files of the folder that the configuration names.
    pub(super) secrets: &'a BTreeMap<String, Vec<u8>>,
}

impl New<'_> {
    /// Makes all of it, or nothing; `text` is the configuration for a user.
    pub(super) fn make(&self, text: &dyn Fn(Option<&str>) -> String) -> anyhow::Result<()> {
        let data = self.data;
        let config = &std::path::absolute(self.config)?;
        ensure!(
            !config.exists(),
            "{} is there already; remove it to begin anew, or change it",
            config.display()
        );
        ensure!(
            !unfinished::is_used(config, data) || unfinished::is_left(config, data),
            "{} is not empty: choose another folder with --data, or empty it",
            data.display()
        );
        // Locked until all is undone, should it come to that.
        let mut unfinished;
        let mut made = Made::default();
        made.folders(data)?;
        unfinished = Unfinished::begin(config, data)?;
        made.paths.push(unfinished.path.clone());
        let user = made.owner(self.user)?;
        let text = text(user.as_ref().map(|user| user.name.as_str()));
        unfinished.write(&text)?;
        made.paths.push(unfinished::mark(config, data)?);
        made.furnish(self.domain, self.host, data)?;
        for (name, bytes) in self.secrets {
            let path = data.join(name);
            if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
                made.folder(folder, 0o700)?;
            }
            made.file(&path, 0o600, bytes)?;
        }
        if let Some(user) = &user {
            give(data, user)?;
        }
        Config::parse(&text, config)
            .context("the configuration that was to be written is wrong")?;
        unfinished.finish(config)?;
        made.is_whole = true;
        unfinished::unmark(data);
        Ok(())
    }
}

fn tell(
    domain: &str,
    host: &str,
    config: &Path,
    data: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let named = match config == Path::new(crate::config::PATH) {
        true => String::new(),
        false => format!(" --config {}", config.display()),
    };
    writeln!(
        out,
        "{domain} has a host: its configuration is {}, everything else lies in {}.\n\n\
         Next:\n  \
         postern{named} user add anna@{domain}   gives somebody a mailbox\n  \
         postern{named} user passwd anna@{domain}   and a password to send mail with\n  \
         postern{named} check                    looks whether everything fits\n  \
         postern{named} serve                    receives mail\n\n\
         In the DNS:\n  \
         {domain}. MX 10 {host}.\n  \
         {host}. A and AAAA: the addresses of this machine, which lead back to {host}\n  \
         what else `postern{named} dns` prints: who sends as {domain}, and the keys of its mail\n\n\
         The certificate was made here, and nobody else vouches for it. Name a better one in\n\
         [tls] of the configuration; a virus scanner goes into [scanner].",
        config.display(),
        data.display(),
    )?;
    Ok(())
}

impl Made {
    /// Whose the mail will be; `None`: of whoever calls.
    fn owner(&mut self, wanted: Option<&str>) -> anyhow::Result<Option<User>> {
        if !Uid::effective().is_root() {
            ensure!(
                wanted.is_none(),
                "only root can give the mail to another user"
            );
            return Ok(None);
        }
        let name = wanted.unwrap_or("postern");
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
        ensure!(wanted.is_none(), "there is no user {name}");
        let output = Command::new("useradd")
            .args(["--system", "--user-group", "--no-create-home"])
            .args(["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"])
            .arg(name)
            .output()
            .context("cannot call useradd; make a user yourself and name it with --user")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("cannot make the user {name}: {}", said.trim());
        }
        self.user = Some(name.to_owned());
        let user = User::from_name(name)?;
        Ok(Some(
            user.with_context(|| format!("there is no user {name}"))?,
        ))
    }

    /// That of everything, and those above it.
    fn folders(&mut self, data: &Path) -> anyhow::Result<()> {
        let missing = data.ancestors().take_while(|folder| !folder.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for folder in missing.into_iter().rev() {
            // Others must pass through the folders above.
            let mode = if folder == data { 0o700 } else { 0o755 };
            self.folder(&folder, mode)?;
        }
        Ok(())
    }

    fn furnish(&mut self, domain: Option<&str>, host: &str, data: &Path) -> anyhow::Result<()> {
        let tls = data.join("tls");
        self.folder(&tls, 0o700)?;
        let pair = rcgen::generate_simple_self_signed(vec![host.to_owned()])
            .context("cannot make a certificate")?;
        self.file(&tls.join("cert.pem"), 0o644, pair.cert.pem().as_bytes())?;
        let key = pair.signing_key.serialize_pem();
        self.file(&tls.join("key.pem"), 0o600, key.as_bytes())?;
        for name in ["accounts.db", "accounts.db-wal", "accounts.db-shm", "mail"] {
            self.paths.push(data.join(name));
        }
        self.paths.push(keys::folder(data));
        let places = Places::new(data);
        let accounts = places.open()?;
        let Some(domain) = domain else {
            return Ok(());
        };
        dkim::make_first(domain, &places, SystemTime::now())?;
        let postmaster = Address::new("postmaster", domain);
        accounts.homes().mailbox(&postmaster)?;
        accounts.change(|change| {
            change.put_domain(&model::Domain {
                name: domain.to_owned(),
                ..model::Domain::default()
            })?;
            change.put_user(&model::User {
                address: postmaster,
                settings: UserSettings::default(),
            })
        })?;
        Ok(())
    }

    fn folder(&mut self, path: &Path, mode: u32) -> anyhow::Result<()> {
        fs::DirBuilder::new()
            .mode(mode)
            .create(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        self.paths.push(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &Path, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(mode).open(path);
        let mut file = opened.with_context(cannot)?;
        self.paths.push(path.to_owned());
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.with_context(cannot)
    }
}

impl Drop for Made {
    /// What cannot be taken back stays, and the error that led here is told.
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        for path in self.paths.iter().rev() {
            let _ = match path.is_dir() {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            };
        }
        if let Some(user) = &self.user {
            let _ = Command::new("userdel").arg(user).output();
        }
    }
}

/// Gives a folder with everything in it to a user.
fn give(folder: &Path, user: &User) -> anyhow::Result<()> {
    let cannot = || format!("cannot give {} to {}", folder.display(), user.name);
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    lchown(folder, Some(uid), Some(gid)).with_context(cannot)?;
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry?.path();
        if path.is_dir() {
            give(&path, user)?;
        } else {
            lchown(&path, Some(uid), Some(gid)).with_context(cannot)?;
        }
    }
    File::open(folder)?.sync_all().with_context(cannot)
}

/// The commented file for this host.
pub(super) fn sample(domain: &str, host: &str, data: &Path, user: Option<&str>) -> String {
    let mut text = SAMPLE
        .replace("host = \"mail.example.org\"", &key("host", host))
        .replace("#: domain = \"example.org\"", &key("domain", domain))
        .replace(
            "data = \"/var/lib/postern\"",
            &key("data", &data.display().to_string()),
        );
    for (name, port) in [("submission", 587), ("submissions", 465)] {
        let line = format!("{name} = [\"0.0.0.0:{port}\", \"[::]:{port}\"]");
        text = text.replace(&format!("#: {line}"), &line);
    }
    if let Some(user) = user {
        text = text.replace("#: user = \"postern\"", &key("user", user));
    }
    text
}

/// A line of the configuration.
fn key(name: &str, value: &str) -> String {
    format!("{name} = {}", toml::Value::from(value))
}

fn host_name(text: &str) -> Result<String, String> {
    let domain = smtp::Domain::parse(text).map_err(|error| error.to_string())?;
    let name = domain.name().filter(|name| name.contains('.'));
    name.map(str::to_owned)
        .ok_or_else(|| format!("{text:?} is no full name such as mail.example.org"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(domain: &str, dir: &Path) -> anyhow::Result<String> {
        let init = Init {
            domain: domain.into(),
            host: None,
            user: Uid::effective().is_root().then(|| "root".to_owned()),
        };
        let mut out = Vec::new();
        run(&init, &dir.join("p.toml"), &dir.join("a/data"), &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn a_host_is_made_once_and_its_configuration_is_the_sample() {
        let dir = tempfile::tempdir().unwrap();
        let said = init("example.org", dir.path()).unwrap();
        assert!(said.contains("user add anna@example.org"), "{said}");
        let config = Config::read(&dir.path().join("p.toml")).unwrap();
        assert_eq!(config.pipeline.host, "mail.example.org");
        assert_eq!(config.data, dir.path().join("a/data"));
        assert!(config.tls.is_there());
        let listening = &config.listening;
        assert_eq!(listening.submission[0].port(), 587);
        assert_eq!(listening.submissions[1].port(), 465);
        let again = init("example.org", dir.path()).unwrap_err();
        assert!(again.to_string().contains("is there already"), "{again}");
        assert!(
            dir.path()
                .join("a/data/mail/example.org/postmaster/Maildir/.Junk/new")
                .is_dir()
        );
    }

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let made = |config: &str, text: &str| {
            let new = New {
                domain: Some("example.org"),
                host: "mx.example.org",
                user: Uid::effective().is_root().then_some("root"),
                config: &dir.path().join(config),
                data: &dir.path().join("a/b"),
                secrets: &BTreeMap::new(),
            };
            let error = new.make(&|_| text.to_owned()).unwrap_err();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{error}");
            error.to_string()
        };
        let error = made("missing/p.toml", "");
        assert!(error.contains("cannot write"), "{error}");
        // Looked at when all else is made.
        let error = made("p.toml", "host = 1");
        assert!(error.contains("is wrong"), "{error}");
    }

    #[test]
    fn the_configuration_may_lie_in_the_folder_of_everything() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let init = Init {
            domain: "example.org".into(),
            host: None,
            user: Uid::effective().is_root().then(|| "root".to_owned()),
        };
        run(&init, &data.join("p.toml"), &data, &mut Vec::new()).unwrap();
        Config::read(&data.join("p.toml")).unwrap();
    }

    #[test]
    fn only_what_a_killed_run_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (dir.path().join("p.toml"), dir.path().join("a/data"));
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("mine"), "").unwrap();
        let unfinished = dir.path().join("p.toml.unfinished");
        let of_data = key("data", &data.display().to_string());
        // A folder of somebody's; of a host whose configuration was removed,
        // and whose mark had stayed; of a host by another configuration; and
        // what a run left that was for another folder.
        for (named, said) in [
            (None, Some(&*of_data)),
            (Some(&config), None),
            (Some(&dir.path().join("q.toml")), Some(&*of_data)),
            (Some(&config), Some("data = \"/elsewhere\"")),
        ] {
            if let Some(named) = named {
                unfinished::mark(named, &data).unwrap();
            }
            if let Some(said) = said {
                fs::write(&unfinished, said).unwrap();
            }
            let error = init("example.org", dir.path()).unwrap_err().to_string();
            assert!(error.contains("is not empty"), "{error}");
            assert!(data.join("mine").exists());
            unfinished::unmark(&data);
            let _ = fs::remove_file(&unfinished);
        }
        // One that is at work is left alone.
        unfinished::mark(&config, &data).unwrap();
        fs::write(&unfinished, of_data).unwrap();
        let at_work = File::open(&unfinished).unwrap();
        at_work.lock().unwrap();
        let error = init("example.org", dir.path()).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        assert!(data.join("mine").exists());
        drop(at_work);
        init("example.org", dir.path()).unwrap();
        assert!(config.exists() && !unfinished.exists());
        assert!(!data.join("mine").exists() && !data.join("unfinished").exists());
    }
}
