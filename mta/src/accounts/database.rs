//! The accounts in one SQLite file.
//!
//! The server holds it open; `postern user` and its like change it at the same
//! time, in transactions of their own. SQLite's write-ahead log lets both go
//! on, and each change is synced before it is reported.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailbox::Quota;
use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Address, Directory, Domain, Homes, Password, PasswordHash, User, UserSettings};
use crate::Error;
use crate::delivery::instructions;
use crate::smtp::Mailbox;
use crate::whole;

#[cfg(test)]
mod tests;

/// The accounts of a host, and where their folders are.
#[derive(Debug)]
pub struct Accounts {
    connection: Mutex<Connection>,
    path: PathBuf,
    homes: Homes,
    /// Known to nobody else, and the same for good.
    secret: Vec<u8>,
}

/// What makes version n of version n - 1, kept as SQLite's `user_version`. All
/// that is missing is done in one transaction when a file is opened; what is
/// newer than this program is refused.
const VERSIONS: [&str; 4] = [SCHEMA, PASSWORDS, SCRAM, GATE];
const SCHEMA: &str = "
CREATE TABLE domain (
    name TEXT PRIMARY KEY,
    postmaster TEXT,
    programs INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE user (
    domain TEXT NOT NULL REFERENCES domain (name),
    local_part TEXT NOT NULL,
    quota_bytes INTEGER,
    quota_messages INTEGER,
    over_quota TEXT NOT NULL,
    filter INTEGER NOT NULL,
    threshold REAL,
    spam TEXT NOT NULL,
    programs INTEGER NOT NULL,
    PRIMARY KEY (domain, local_part)
) STRICT, WITHOUT ROWID;
CREATE TABLE alias (
    domain TEXT NOT NULL REFERENCES domain (name),
    local_part TEXT NOT NULL,
    position INTEGER NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (domain, local_part, position)
) STRICT, WITHOUT ROWID;
";
/// Version 2. The hashes lie with the users, so that one change takes both.
const PASSWORDS: &str = "ALTER TABLE user ADD COLUMN password TEXT;";
/// Version 3. What else is kept of passwords, and what makes the salts of those
/// who are none of our users.
const SCRAM: &str = "
ALTER TABLE user ADD COLUMN scram TEXT;
ALTER TABLE user ADD COLUMN clear TEXT;
CREATE TABLE secret (value BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (randomblob(32));
";

/// Version 4. How the gate is kept; a user without a word has the domain's.
const GATE: &str = "
ALTER TABLE domain ADD COLUMN gate TEXT NOT NULL DEFAULT 'on';
ALTER TABLE user ADD COLUMN gate TEXT;
";

/// For another program's change to end.
const BUSY: Duration = Duration::from_secs(10);

impl Accounts {
    /// Those of the host in the folder `data`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_host(data: &Path) -> Result<Self, Error> {
        Self::open(&data.join("accounts.db"), Homes::new(data.join("mail")))
    }

    /// Opens the file at `path`, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be opened, or was made by a newer program.
    pub fn open(path: &Path, homes: Homes) -> Result<Self, Error> {
        let failed = |source| Error::Accounts {
            path: path.to_owned(),
            source,
        };
        // Nobody else reads the hashes.
        whole::make_private(path).map_err(Error::io("make", path))?;
        let mut connection = Connection::open(path).map_err(failed)?;
        let newer = prepare(&mut connection).map_err(failed)?;
        if let Some(version) = newer {
            return Err(Error::newer(path, version as u64, VERSIONS.len() as u64));
        }
        let secret = connection.query_row("SELECT value FROM secret", [], |row| row.get(0));
        Ok(Self {
            secret: secret.map_err(failed)?,
            connection: Mutex::new(connection),
            path: path.to_owned(),
            homes,
        })
    }

    /// The folders of the users.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// What makes the salts of those who are none of our users.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// All that is asked and changed in `work` is one transaction, which an
    /// error of `work` takes back.
    ///
    /// # Errors
    /// That of `work`, or when the transaction cannot end.
    pub fn change<T>(
        &self,
        work: impl FnOnce(&Change<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|source| self.failed(source))?;
        let change = Change {
            transaction,
            accounts: self,
        };
        let result = work(&change)?;
        let ended = change.transaction.commit();
        ended.map_err(|source| self.failed(source))?;
        Ok(result)
    }

    /// All domains, by name.
    ///
    /// # Errors
    /// When the file cannot be read; so the other questions.
    pub fn domains(&self) -> Result<Vec<Domain>, Error> {
        self.all("SELECT * FROM domain ORDER BY name", [], domain)
    }

    /// All users, or those of one domain, by address.
    ///
    /// # Errors
    /// As [`Accounts::domains`].
    pub fn users(&self, domain: Option<&str>) -> Result<Vec<User>, Error> {
        let sql = "SELECT * FROM user WHERE ?1 IS NULL OR domain = ?1 ORDER BY domain, local_part";
        self.all(sql, [domain], user)
    }

    /// All aliases with their targets, or those of one domain, by address.
    ///
    /// # Errors
    /// As [`Accounts::domains`].
    pub fn aliases(&self, domain: Option<&str>) -> Result<Vec<(Address, Vec<String>)>, Error> {
        let sql = "SELECT domain, local_part, target FROM alias \
                   WHERE ?1 IS NULL OR domain = ?1 ORDER BY domain, local_part, position";
        let rows: Vec<(Address, String)> =
            self.all(sql, [domain], |row| Ok((address(row)?, row.get("target")?)))?;
        let mut aliases: Vec<(Address, Vec<String>)> = Vec::new();
        for (address, target) in rows {
            match aliases.last_mut() {
                Some((last, targets)) if *last == address => targets.push(target),
                _ => aliases.push((address, vec![target])),
            }
        }
        Ok(aliases)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let connection = self.connection();
        let all = || -> rusqlite::Result<Vec<T>> {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map(params, read)?.collect()
        };
        all().map_err(|source| self.failed(source))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic of another thread left no half change: SQLite took it back.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Accounts {
            path: self.path.clone(),
            source,
        }
    }
}

impl Directory for Accounts {
    fn domain(&self, name: &str) -> Result<Option<Domain>, Error> {
        let sql = "SELECT * FROM domain WHERE name = ?1";
        Ok(self.all(sql, [name], domain)?.pop())
    }

    fn user(&self, address: &Address) -> Result<Option<User>, Error> {
        let sql = "SELECT * FROM user WHERE domain = ?1 AND local_part = ?2";
        Ok(self
            .all(sql, [&address.domain, &address.local_part], user)?
            .pop())
    }

    fn alias(&self, address: &Address) -> Result<Vec<Mailbox>, Error> {
        let sql =
            "SELECT target FROM alias WHERE domain = ?1 AND local_part = ?2 ORDER BY position";
        let targets = self.all(sql, [&address.domain, &address.local_part], |row| {
            row.get::<_, String>(0)
        })?;
        let parse = |text: &String| Mailbox::parse(text.as_bytes()).ok();
        Ok(targets.iter().filter_map(parse).collect())
    }

    fn has_instructions(&self, user: &User, extension: &str) -> Result<bool, Error> {
        match self.homes.home(&user.address) {
            Ok(home) => Ok(instructions::find(&home, Some(extension))?.is_some()),
            Err(_) => Ok(false),
        }
    }
}

/// A change of the accounts that has not ended.
#[derive(Debug)]
pub struct Change<'a> {
    transaction: rusqlite::Transaction<'a>,
    accounts: &'a Accounts,
}

impl Change<'_> {
    /// Enters a domain, or changes what is said of it.
    ///
    /// # Errors
    /// When the file cannot be written; so all that follow.
    pub fn put_domain(&self, domain: &Domain) -> Result<(), Error> {
        self.run(
            "INSERT INTO domain VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) \
             DO UPDATE SET postmaster = ?2, programs = ?3, gate = ?4",
            params![
                domain.name,
                domain.postmaster,
                domain.programs,
                domain.gate.to_string()
            ],
        )?;
        Ok(())
    }

    /// Removes a domain and tells whether it was there. Its users and aliases
    /// must have gone.
    ///
    /// # Errors
    /// As [`Change::put_domain`].
    pub fn remove_domain(&self, name: &str) -> Result<bool, Error> {
        Ok(self.run("DELETE FROM domain WHERE name = ?1", [name])? > 0)
    }

    /// What is known of a user within this change.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn user(&self, address: &Address) -> Result<Option<User>, Error> {
        let sql = "SELECT * FROM user WHERE domain = ?1 AND local_part = ?2";
        let names = [&address.domain, &address.local_part];
        let found = self.transaction.query_row(sql, names, user).optional();
        found.map_err(|source| self.accounts.failed(source))
    }

    /// Enters a user of a known domain, or changes what is said of one. Without
    /// a password one that is there stays.
    ///
    /// # Errors
    /// As [`Change::put_domain`].
    pub fn put_user(&self, user: &User) -> Result<(), Error> {
        let (address, settings) = (&user.address, &user.settings);
        self.run(
            "INSERT INTO user (domain, local_part, quota_bytes, quota_messages, over_quota, \
             filter, threshold, spam, programs, gate) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
             ON CONFLICT (domain, local_part) DO UPDATE SET quota_bytes = ?3, \
             quota_messages = ?4, over_quota = ?5, filter = ?6, threshold = ?7, \
             spam = ?8, programs = ?9, gate = ?10",
            params![
                address.domain,
                address.local_part,
                settings.quota.bytes.map(clamp),
                settings.quota.messages.map(clamp),
                settings.over_quota.to_string(),
                settings.filter,
                settings.threshold,
                settings.spam.to_string(),
                settings.programs,
                settings.gate.map(|gate| gate.to_string()),
            ],
        )?;
        match &settings.password {
            Some(password) => self.set_password(address, Some(password)),
            None => Ok(()),
        }
    }

    /// Sets a user's password, or takes it away; nothing else changes.
    ///
    /// # Errors
    /// As [`Change::put_domain`].
    pub fn set_password(
        &self,
        address: &Address,
        password: Option<&Password>,
    ) -> Result<(), Error> {
        let sql = "UPDATE user SET password = ?3, scram = ?4, clear = ?5 \
                   WHERE domain = ?1 AND local_part = ?2";
        self.run(
            sql,
            params![
                address.domain,
                address.local_part,
                password.map(|password| password.hash.as_str()),
                password.and_then(|password| Some(password.scram.as_ref()?.to_string())),
                password.and_then(|password| password.clear.as_ref()),
            ],
        )?;
        Ok(())
    }

    /// Gives a user another address, of a known domain, that nobody has. Aliases
    /// and domains that named the old one name the new one; an alias of the
    /// user's own name, which keeps a copy, goes with the user. Tells whether
    /// there was the user.
    ///
    /// # Errors
    /// As [`Change::put_domain`].
    pub fn rename_user(&self, from: &Address, to: &Address) -> Result<bool, Error> {
        let sql = "UPDATE user SET domain = ?3, local_part = ?4 \
                   WHERE domain = ?1 AND local_part = ?2";
        let names = [&from.domain, &from.local_part, &to.domain, &to.local_part];
        if self.run(sql, names)? == 0 {
            return Ok(false);
        }
        let keeps_copy = self.leading_to(from)?.0.contains(from);
        let aliases = "SELECT DISTINCT target FROM alias";
        let postmasters = "SELECT DISTINCT postmaster FROM domain WHERE postmaster IS NOT NULL";
        for (all, change) in [
            (aliases, "UPDATE alias SET target = ?2 WHERE target = ?1"),
            (
                postmasters,
                "UPDATE domain SET postmaster = ?2 WHERE postmaster = ?1",
            ),
        ] {
            for old in self.texts(all)? {
                if let Some(new) = renamed(&old, from, to) {
                    self.run(change, [&old, &new])?;
                }
            }
        }
        if keeps_copy {
            let sql = "UPDATE alias SET domain = ?3, local_part = ?4 \
                       WHERE domain = ?1 AND local_part = ?2 AND NOT EXISTS \
                       (SELECT 1 FROM alias WHERE domain = ?3 AND local_part = ?4)";
            self.run(sql, names)?;
        }
        Ok(true)
    }

    /// The aliases that lead to a user, and the domains whose postmaster is the
    /// user.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn leading_to(&self, user: &Address) -> Result<(Vec<Address>, Vec<String>), Error> {
        let leads = |text: &str| renamed(text, user, user).is_some();
        let sql = "SELECT DISTINCT domain, local_part, target FROM alias ORDER BY 1, 2";
        let aliases = self.rows(sql, |row| {
            Ok((address(row)?, row.get::<_, String>("target")?))
        })?;
        let mut aliases: Vec<Address> = aliases
            .into_iter()
            .filter(|(_, target)| leads(target))
            .map(|(alias, _)| alias)
            .collect();
        aliases.dedup();
        let sql = "SELECT name, postmaster FROM domain WHERE postmaster IS NOT NULL ORDER BY 1";
        let domains = self.rows(sql, |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        let named = domains
            .into_iter()
            .filter(|(_, postmaster)| leads(postmaster));
        Ok((aliases, named.map(|(name, _)| name).collect()))
    }

    fn texts(&self, sql: &str) -> Result<Vec<String>, Error> {
        self.rows(sql, |row| row.get(0))
    }

    fn rows<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.transaction.prepare(sql)?;
            statement.query_map([], read)?.collect()
        };
        rows().map_err(|source| self.accounts.failed(source))
    }

    /// Removes a user and tells whether there was one.
    ///
    /// # Errors
    /// As [`Change::put_domain`].
    pub fn remove_user(&self, address: &Address) -> Result<bool, Error> {
        let sql = "DELETE FROM user WHERE domain = ?1 AND local_part = ?2";
        Ok(self.run(sql, [&address.domain, &address.local_part])? > 0)
    }

    /// Sets where mail of an alias of a known domain goes; nowhere removes it.
    /// Tells whether there was one.
    ///
    /// # Errors
    /// As [`Change::put_domain`].
    pub fn put_alias(&self, address: &Address, targets: &[String]) -> Result<bool, Error> {
        let sql = "DELETE FROM alias WHERE domain = ?1 AND local_part = ?2";
        let before = self.run(sql, [&address.domain, &address.local_part])?;
        for (position, target) in targets.iter().enumerate() {
            self.run(
                "INSERT INTO alias VALUES (?1, ?2, ?3, ?4)",
                params![
                    address.domain,
                    address.local_part,
                    clamp(position as u64),
                    target
                ],
            )?;
        }
        Ok(before > 0)
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, Error> {
        let run = || self.transaction.prepare_cached(sql)?.execute(params);
        run().map_err(|source| self.accounts.failed(source))
    }
}

/// What `text`, an address of whomever, is once `from` is called `to`; `None`
/// when it is not that user's. One with a tag, `anna+list@example.org`, is.
fn renamed(text: &str, from: &Address, to: &Address) -> Option<String> {
    let mailbox = Mailbox::parse(text.as_bytes()).ok()?;
    let local_part = mailbox.local_part.as_str();
    let (base, tag) = local_part.split_at(local_part.find('+').unwrap_or(local_part.len()));
    let name = |local_part: &str| Address::new(local_part, mailbox.domain.name().unwrap_or(""));
    if name(local_part) == *from {
        return Some(to.to_string());
    }
    (name(base) == *from).then(|| {
        let mut tagged = to.clone();
        tagged.local_part.push_str(tag);
        tagged.to_string()
    })
}

/// Brings the file up to the last version; returns a version that is newer.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Option<usize>> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Else a question whose parameters could change its plan is parsed anew each
    // time it is asked.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(missing) = VERSIONS.get(version..) else {
        return Ok(Some(version));
    };
    if !missing.is_empty() {
        for step in missing {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", clamp(VERSIONS.len() as u64))?;
    }
    transaction.commit()?;
    Ok(None)
}

/// SQLite's numbers have a sign.
fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn domain(row: &Row<'_>) -> rusqlite::Result<Domain> {
    Ok(Domain {
        name: row.get("name")?,
        postmaster: row.get("postmaster")?,
        programs: row.get("programs")?,
        gate: row.get::<_, String>("gate")?.parse().unwrap_or_default(),
    })
}

fn address(row: &Row<'_>) -> rusqlite::Result<Address> {
    Ok(Address {
        local_part: row.get("local_part")?,
        domain: row.get("domain")?,
    })
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    let number = |name| {
        let number: Option<i64> = row.get(name)?;
        Ok::<_, rusqlite::Error>(number.and_then(|number| u64::try_from(number).ok()))
    };
    let word = |name| row.get::<_, String>(name);
    Ok(User {
        address: address(row)?,
        settings: UserSettings {
            quota: Quota {
                bytes: number("quota_bytes")?,
                messages: number("quota_messages")?,
            },
            // A word that somebody else wrote is as none.
            over_quota: word("over_quota")?.parse().unwrap_or_default(),
            filter: row.get("filter")?,
            threshold: row.get("threshold")?,
            spam: word("spam")?.parse().unwrap_or_default(),
            programs: row.get("programs")?,
            gate: row
                .get::<_, Option<String>>("gate")?
                .and_then(|word| word.parse().ok()),
            password: password(row)?,
        },
    })
}

/// A hash that somebody else wrote and nothing can check is an error: as none,
/// it would be lost with the next change of the user.
fn password(row: &Row<'_>) -> rusqlite::Result<Option<Password>> {
    let Some(hash) = parsed::<PasswordHash>(row.get("password")?)? else {
        return Ok(None);
    };
    Ok(Some(Password {
        hash,
        scram: parsed(row.get("scram")?)?.map(Box::new),
        clear: row.get("clear")?,
    }))
}

fn parsed<T: FromStr<Err = String>>(text: Option<String>) -> rusqlite::Result<Option<T>> {
    let parse = |text: String| {
        text.parse().map_err(|reason: String| {
            rusqlite::Error::FromSqlConversionFailure(0, Type::Text, reason.into())
        })
    };
    text.map(parse).transpose()
}
