//! The program `bmfconv` without its `main`: databases to and from bmf's text
//! lists.
//!
//! With bmf's own letters the lists lie in the current folder: `-e` writes
//! them, and `-i` gives the database the counts that they hold, leaving tokens
//! that they do not name. Both are done wholly or not at all, while `bmf` may
//! be running. With `--from` and `--to` a whole database is copied from folder
//! to folder, in any format that can be read to any that can be written.
//!
//! A database of the modern engine has one text file, `model.txt`, that holds
//! all of it; `-i` makes it the database. `--make-base` adds up such models to
//! one that users begin with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use super::{Format, Outcome, model_text};
use crate::import::{self, Lists};
use crate::modern::Base;
use crate::store::lmdb::{Access, FaultGuard, Lmdb, Options};
use crate::store::{Durability, Text, TokenStore};
use crate::{Error, TrainedMessages};

/// Options of `bmfconv`, as typed.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "bmfconv",
    version,
    about = "Copies a database of bmf to or from text lists",
    long_about = "Copies a database of bmf to or from the text lists goodlist.txt and spamlist.txt \
                  in the current folder, as bmfconv 0.9.4, or from one folder to another. A database \
                  of the engine modern has one text file, model.txt. Of -e and -i the last one \
                  counts.",
    after_help = "Exit codes: 0 done; 1 failed; 2 bad usage, or -h or -v.",
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Args {
    /// Export the database to goodlist.txt and spamlist.txt, or to model.txt
    #[arg(short = 'e', overrides_with = "import")]
    export: bool,
    /// Import goodlist.txt and spamlist.txt, or model.txt, into the database
    #[arg(short = 'i', overrides_with = "export")]
    import: bool,
    /// Database format: db
    #[arg(
        short = 'f',
        value_name = "FORMAT",
        default_value = "db",
        allow_hyphen_values = true
    )]
    format: String,
    /// Database folder [default: ~/.bmf]
    #[arg(short = 'd', value_name = "DIR", allow_hyphen_values = true)]
    dir: Option<PathBuf>,

    /// Copy the database in this folder: ours, else bmf's Berkeley DB lists, else text lists
    #[arg(long, value_name = "DIR", requires = "to", conflicts_with_all = ["export", "import", "dir"])]
    from: Option<PathBuf>,
    /// Copy it to this folder, which holds none in that format yet
    #[arg(long, value_name = "DIR", requires = "from")]
    to: Option<PathBuf>,
    /// Format of the copy [default: text for a copy of ours, otherwise db]
    #[arg(long, value_name = "FORMAT", requires = "from")]
    to_format: Option<Written>,
    /// Make a base model, for `bmf --base`, of the models in the folders of --of
    #[arg(
        long,
        value_name = "FILE",
        requires = "of",
        conflicts_with_all = ["export", "import", "dir", "from"]
    )]
    make_base: Option<PathBuf>,
    /// A folder with a database of the engine modern; may be given several times
    #[arg(long, value_name = "DIR", requires = "make_base", action = ArgAction::Append)]
    of: Vec<PathBuf>,
    /// Longest wait for a locked database
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    lock_wait: u64,

    /// Print the options and exit with 2
    #[arg(short = 'h')]
    usage: bool,
    /// Print the version and exit with 2
    #[arg(short = 'v')]
    release: bool,
    /// Print this help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Print the version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,

    /// bmfconv ignores what is no option.
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

/// A format that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Written {
    /// One file for many processes
    Db,
    /// bmf's lists, or a model's model.txt
    Text,
}

/// Does what `args` ask for, the program's name first. `home` is the user's
/// home folder, if any; the lists of `-e` and `-i` lie in `current`.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    home: Option<PathBuf>,
    current: &Path,
) -> Outcome {
    let (args, mut command): (Args, _) = match super::parse_args(args) {
        Ok(parsed) => parsed,
        Err(outcome) => return outcome,
    };
    if args.usage {
        return Outcome::usage(&mut command, "");
    }
    if args.release {
        return Outcome::print(command.render_version(), 2);
    }
    let lock_wait = Duration::from_secs(args.lock_wait);
    let job = match (&args.make_base, &args.from, &args.to) {
        (Some(path), ..) => Job::MakeBase {
            of: args.of.clone(),
            path: path.clone(),
        },
        (None, Some(from), Some(to)) => Job::Copy {
            from: from.clone(),
            to: to.clone(),
            format: args.to_format,
        },
        _ => {
            let in_home = || home.unwrap_or_else(|| ".".into()).join(".bmf");
            let database = args.dir.clone().unwrap_or_else(in_home);
            let lists = current.to_owned();
            match (args.export, args.import) {
                (false, false) => return Outcome::usage(&mut command, ""),
                (true, _) => Job::Export { database, lists },
                (_, true) => Job::Import { lists, database },
            }
        }
    };
    match Format::from_name(&args.format) {
        Some(Format::Db) => match guarded(job, lock_wait) {
            Ok(stderr) => Outcome {
                stderr,
                ..Outcome::default()
            },
            Err(error) => failed(&error.to_string()),
        },
        Some(Format::MySql) => failed(
            "the mysql format is not offered; export it with bmf's own `bmfconv -e -f mysql`, \
             import the lists with `bmfconv -i`, and use `-f db`",
        ),
        // bmf knows no other one here.
        Some(Format::Text) | None => {
            let complaint = format!("unknown database format '{}'", args.format);
            Outcome::usage(&mut command, &complaint)
        }
    }
}

fn failed(message: &str) -> Outcome {
    Outcome {
        stdout: String::new(),
        stderr: format!("bmfconv: {message}\n"),
        code: 1,
    }
}

/// What is to be done, with all folders named.
#[derive(Debug)]
enum Job {
    Export {
        database: PathBuf,
        lists: PathBuf,
    },
    Import {
        lists: PathBuf,
        database: PathBuf,
    },
    Copy {
        from: PathBuf,
        to: PathBuf,
        format: Option<Written>,
    },
    MakeBase {
        of: Vec<PathBuf>,
        path: PathBuf,
    },
}

/// Carries out `job` so that a damaged database cannot end the process.
/// Returns lines for standard error.
fn guarded(job: Job, lock_wait: Duration) -> Result<String, Error> {
    let database = match &job {
        Job::Export { database, .. } | Job::Import { database, .. } => database,
        Job::Copy { from, .. } => from,
        Job::MakeBase { of, path } => return make_base(of, path, lock_wait),
    };
    FaultGuard::new(&Lmdb::path(database))?.run(move || job.run(lock_wait))
}

/// Each database is read by itself, so that an error names it.
fn make_base(dirs: &[PathBuf], path: &Path, lock_wait: Duration) -> Result<String, Error> {
    let mut models = Vec::new();
    for dir in dirs {
        let database = Lmdb::path(dir);
        database.metadata().map_err(Error::io("open", &database))?;
        let options = Options {
            access: Access::ReadOnly,
            lock_wait,
            ..Options::default()
        };
        let dir = dir.clone();
        let guard = FaultGuard::new(&Lmdb::path(&dir))?;
        models.push(guard.run(move || model_text::model(&dir, &options))?);
    }
    // All users are to read it.
    model_text::put(Base::of(&models).as_bytes(), path, 0o644)?;
    Ok(String::new())
}

impl Job {
    fn run(&self, lock_wait: Duration) -> Result<String, Error> {
        let options = |access| Options {
            access,
            lock_wait,
            ..Options::default()
        };
        match self {
            Self::Export { database, lists } => {
                // As bmf, but for a folder that does not exist: it would be
                // made, and the lists emptied, for a mistyped name.
                database
                    .metadata()
                    .map_err(Error::io("open folder", database))?;
                let options = options(Access::ReadOnly);
                if model_text::is_model(database, &options)? {
                    let text = model_text::of_database(database, &options)?;
                    return model_text::write(&text, lists).map(|()| String::new());
                }
                let opened = import::open(database, &options)?;
                let found = Lists::of(&*opened.store, Vec::new())?;
                let mut text = Text::open(lists, lock_wait)?;
                text.replace(found.trained(), &mut found.entries())?;
                Ok(noted(opened.imported))
            }
            Self::Import { lists, database } => {
                let reads = options(Access::ReadOnly);
                if model_text::is_model(database, &reads)? || is_model_alone(lists, database) {
                    let (text, path) = (model_text::read(lists)?, model_text::path(lists));
                    let options = options(Access::ReadWrite);
                    model_text::to_database(&text, &path, database, &options, false)?;
                    return Ok(String::new());
                }
                check_unmixed(lists, database)?;
                let exported = Lists::exported(lists, lock_wait)?;
                let mut opened = import::open(database, &options(Access::ReadWrite))?;
                let changes = exported.to_changes();
                opened.store.apply(&changes, Durability::Synced)?;
                Ok(noted(opened.imported))
            }
            Self::MakeBase { of, path } => make_base(of, path, lock_wait),
            Self::Copy { from, to, format } => {
                let is_ours = model_text::is_model(from, &options(Access::ReadOnly))?;
                if is_ours || is_model_alone(from, from) {
                    let text = match is_ours {
                        true => model_text::of_database(from, &options(Access::ReadOnly))?,
                        false => model_text::read(from)?,
                    };
                    let format = format.unwrap_or(match is_ours {
                        true => Written::Text,
                        false => Written::Db,
                    });
                    write_model(&text, from, to, format, &options(Access::ReadWrite))?;
                    return Ok(format!("bmfconv: copied the model to {}\n", to.display()));
                }
                check_unmixed(from, from)?;
                let (lists, is_ours) = read(from, &options(Access::ReadOnly))?;
                let format = format.unwrap_or(if is_ours { Written::Text } else { Written::Db });
                write(&lists, to, format, &options(Access::ReadWrite))?;
                Ok(format!("bmfconv: copied {lists} to {}\n", to.display()))
            }
        }
    }
}

fn noted(imported: Option<Lists>) -> String {
    imported.map_or_else(String::new, |lists| {
        format!("bmfconv: imported {lists}, which is left as it is\n")
    })
}

/// The database in `dir`, and whether it is LMDB.
fn read(dir: &Path, options: &Options) -> Result<(Lists, bool), Error> {
    let path = Lmdb::path(dir);
    if path.exists() {
        let lmdb = Lmdb::open(dir, options)?;
        if !lmdb.is_new()? {
            return Ok((Lists::of(&lmdb, vec![path])?, true));
        }
    }
    match Lists::find(dir, options.lock_wait)? {
        Some(lists) => Ok((lists, false)),
        None => Err(refused(
            dir,
            "find a database in",
            std::io::ErrorKind::NotFound,
        )),
    }
}

/// Whether `lists` holds the text of a model and no lists, and `database` holds
/// none of ours.
fn is_model_alone(lists: &Path, database: &Path) -> bool {
    may_be_model(lists, database) && !Text::paths(lists).iter().any(|path| path.exists())
}

/// Whether `lists` holds the text of a model, and no `database` of ours says that
/// something else is meant.
fn may_be_model(lists: &Path, database: &Path) -> bool {
    model_text::path(lists).exists() && !Lmdb::path(database).exists()
}

/// Refuses `lists` with a model's text beside bmf's lists, where no `database` of
/// ours says which is meant.
fn check_unmixed(lists: &Path, database: &Path) -> Result<(), Error> {
    match may_be_model(lists, database) {
        false => Ok(()),
        true => Err(Error::NotOffered {
            what: "reading a folder that holds bmf's lists and a model.txt",
            instead: "leave in it what is to be read, and move the rest away",
        }),
    }
}

fn write_model(
    text: &[u8],
    source: &Path,
    dir: &Path,
    format: Written,
    options: &Options,
) -> Result<(), Error> {
    let is_done = match format {
        Written::Db => model_text::to_database(text, source, dir, options, true)?,
        Written::Text if model_text::path(dir).exists() => false,
        Written::Text => {
            std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
            model_text::write(text, dir)?;
            true
        }
    };
    match is_done {
        true => Ok(()),
        false => Err(exists(dir)),
    }
}

fn exists(dir: &Path) -> Error {
    refused(
        dir,
        "replace the database in",
        std::io::ErrorKind::AlreadyExists,
    )
}

fn write(lists: &Lists, dir: &Path, format: Written, options: &Options) -> Result<(), Error> {
    let exists = || Err(exists(dir));
    match format {
        Written::Db => {
            match Lmdb::open(dir, options)?.import(lists.trained(), &mut lists.entries())? {
                true => Ok(()),
                false => exists(),
            }
        }
        Written::Text => {
            let mut text = Text::open(dir, options.lock_wait)?;
            let before = Lists::of(&text, Vec::new())?;
            if before.trained() != TrainedMessages::default() || before.entries().next().is_some() {
                return exists();
            }
            text.replace(lists.trained(), &mut lists.entries())
        }
    }
}

fn refused(dir: &Path, action: &'static str, kind: std::io::ErrorKind) -> Error {
    Error::io(action, dir)(kind.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEADER: &str = "# bogofilter wordlist (format version A):";

    fn bmfconv(args: &str, current: &Path) -> Outcome {
        let args = format!("bmfconv {args}");
        run(args.split_whitespace().map(Into::into), None, current)
    }

    /// Runs and expects success.
    #[track_caller]
    fn done(args: &str, current: &Path) {
        let outcome = bmfconv(args, current);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    }

    fn lists(dir: &Path) -> [String; 2] {
        Text::paths(dir).map(|path| fs::read_to_string(path).unwrap())
    }

    fn write_lists(dir: &Path, ham: &str, spam: &str) {
        for (path, text) in Text::paths(dir).iter().zip([ham, spam]) {
            fs::write(path, format!("{HEADER} {text}")).unwrap();
        }
    }

    #[test]
    fn import_sets_what_the_lists_name_and_export_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db");
        let d = format!("-d {}", database.display());
        write_lists(dir.path(), "7\nfoo 3\nzebra 9\n", "2\nfoo 1\n");
        done(&format!("-ei {d}"), dir.path());
        write_lists(dir.path(), "5\nfoo 10\nnew 1\n", "2\n");
        done(&format!("-i {d}"), dir.path());
        done(&format!("-e -f DB {d}"), dir.path());
        assert_eq!(
            lists(dir.path()),
            [
                format!("{HEADER} 5\nfoo 10\nnew 1\nzebra 9\n"),
                format!("{HEADER} 2\nfoo 1\n")
            ]
        );
    }

    #[test]
    fn import_takes_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let d = format!("-d {}", dir.path().join("db").display());
        write_lists(dir.path(), "1\nfoo 1\n", "1\nfoo 1\n");
        done(&format!("-i {d}"), dir.path());
        let before = lists(dir.path());
        write_lists(dir.path(), "5\nfoo 10\nnew\n", "2\nfoo 2\n");
        let outcome = bmfconv(&format!("-i {d}"), dir.path());
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("goodlist.txt is damaged: line 3"));
        fs::remove_file(dir.path().join("goodlist.txt")).unwrap();
        assert_eq!(bmfconv(&format!("-i {d}"), dir.path()).code, 1);
        fs::write(dir.path().join("goodlist.txt"), "").unwrap();
        assert_eq!(bmfconv(&format!("-i {d}"), dir.path()).code, 1);
        done(&format!("-e {d}"), dir.path());
        assert_eq!(lists(dir.path()), before);
    }

    #[test]
    fn lists_and_a_model_side_by_side_make_no_new_database() {
        let dir = tempfile::tempdir().unwrap();
        write_lists(dir.path(), "1\nfoo 1\n", "0\n");
        fs::write(model_text::path(dir.path()), "postern-model 3 0\n").unwrap();
        let path = dir.path().display();
        for args in ["-i -d db", &format!("--from {path} --to {path}/db")] {
            let outcome = bmfconv(args, dir.path());
            assert_eq!(outcome.code, 1);
            assert!(outcome.stderr.contains("model.txt"), "{}", outcome.stderr);
            assert!(!dir.path().join("db").exists());
        }
    }

    #[test]
    fn no_base_is_made_of_a_folder_without_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let outcome = bmfconv("--make-base base --of .", dir.path());
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("bmf.mdb"), "{}", outcome.stderr);
        assert!(!dir.path().join("base").exists());
    }

    #[test]
    fn export_of_a_missing_folder_keeps_the_lists() {
        let dir = tempfile::tempdir().unwrap();
        write_lists(dir.path(), "1\nfoo 1\n", "0\n");
        let before = lists(dir.path());
        let outcome = bmfconv("-e -d none/bmf", dir.path());
        assert_eq!(outcome.code, 1);
        assert_eq!(lists(dir.path()), before);
    }

    #[test]
    fn usage_as_in_bmf() {
        let dir = tempfile::tempdir().unwrap();
        for args in [
            "",
            "-h",
            "-v",
            "-x",
            "-e -f text",
            "-e -h",
            "-d",
            "word",
            "--from a",
        ] {
            let outcome = bmfconv(args, dir.path());
            assert_eq!(outcome.code, 2, "{args}");
            assert!(!outcome.stdout.is_empty(), "{args}");
        }
        for args in ["--help", "--version"] {
            assert_eq!(bmfconv(args, dir.path()).code, 0);
        }
        let outcome = bmfconv("-e -f mysql", dir.path());
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("not offered"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn copies_between_formats_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [old, db, text] = ["old", "db", "text"].map(|name| dir.path().join(name));
        fs::create_dir(&old).unwrap();
        write_lists(&old, "7\nfoo 3\n", "2\nbar 1\n");
        let copy = |from: &Path, to: &Path| {
            let args = format!("--from {} --to {}", from.display(), to.display());
            bmfconv(&args, dir.path())
        };
        assert_eq!(copy(&old, &db).code, 0);
        assert!(Lmdb::path(&db).exists());
        assert_eq!(copy(&db, &text).code, 0);
        assert_eq!(lists(&text), lists(&old));
        for (from, to) in [(&old, &db), (&db, &text)] {
            let outcome = copy(from, to);
            assert_eq!(outcome.code, 1);
            assert!(outcome.stderr.contains("cannot replace the database in"));
        }
        assert_eq!(copy(dir.path(), &text).code, 1);
    }
}
