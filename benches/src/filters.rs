//! The filters that race, and their databases.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tests::differential::{self, Format, Pair};
use tests::programs;

use crate::mail::Mail;
use crate::process;

/// A filter with the kind of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Our bmf, with the engine of the original.
    Ours(Format),
    /// Our bmf with its own engine.
    Modern,
    /// Debian's bmf 0.9.4.
    Original(Format),
    /// Debian's bogofilter with Berkeley DB.
    Bogofilter,
}

impl Filter {
    /// Name in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours(Format::Text) => "bmf -f text",
            Self::Ours(Format::Db) => "bmf -f db",
            Self::Modern => "bmf, modern",
            Self::Original(Format::Text) => "original -f text",
            Self::Original(Format::Db) => "original -f db",
            Self::Bogofilter => "bogofilter",
        }
    }

    /// A command for this filter with the database in `folder`.
    pub(crate) fn command(self, folder: &Path) -> Command {
        let mut command = match self {
            Self::Ours(_) => {
                let mut bmf = Command::new(ours());
                bmf.args(["--engine", "classic"]);
                bmf
            }
            Self::Modern => {
                let mut bmf = Command::new(ours());
                bmf.args(["--engine", "modern"]);
                bmf
            }
            Self::Original(_) => peer("bmf"),
            Self::Bogofilter => peer("bogofilter-bdb"),
        };
        if let Self::Ours(format) | Self::Original(format) = self {
            command.args(["-f", format.name()]);
        }
        command.arg("-d").arg(folder);
        command
    }
}

/// Our `bmf`, which `make build` puts beside this program.
pub(crate) fn ours() -> PathBuf {
    let here = env::current_exe().unwrap_or_default();
    here.with_file_name("bmf")
}

/// A peer. Where it finds its libraries by itself, as when installed, it is
/// spared the search in further folders.
pub(crate) fn peer(name: &str) -> Command {
    let mut command = programs::peer(name);
    let alone = Command::new(command.get_program()).arg("-V").output();
    // Both print their version; 127 is the loader's.
    if alone.is_ok_and(|output| matches!(output.status.code(), Some(0 | 2))) {
        command.env_remove("LD_LIBRARY_PATH");
    }
    command
}

/// Databases trained on all of the mail, one of each kind, and room for
/// copies.
#[derive(Debug)]
pub(crate) struct Databases {
    folder: PathBuf,
}

impl Databases {
    /// Trains what is missing in `folder`, which belongs to `mail` alone.
    pub(crate) fn prepare(folder: &Path, mail: &Mail) -> anyhow::Result<Self> {
        let databases = Self {
            folder: folder.to_owned(),
        };
        for filter in [
            Filter::Ours(Format::Text),
            Filter::Ours(Format::Db),
            Filter::Modern,
            Filter::Original(Format::Db),
            Filter::Bogofilter,
        ] {
            let trained = databases.trained(filter);
            if !trained.is_dir() {
                eprintln!("training {} on the {}", filter.name(), mail.source);
                train(filter, &trained, mail)?;
            }
        }
        let lists = |filter| lists(filter, &databases.trained(filter));
        let original = lists(Filter::Original(Format::Db));
        for filter in [Filter::Ours(Format::Text), Filter::Ours(Format::Db)] {
            ensure!(
                lists(filter) == original,
                "{} learned something else than the original",
                filter.name()
            );
        }
        Ok(databases)
    }

    /// Where the trained database lies. Not to be written.
    pub(crate) fn trained(&self, filter: Filter) -> PathBuf {
        self.folder.join(match filter {
            // The same files, byte for byte; the original would take minutes.
            Filter::Ours(Format::Text) | Filter::Original(Format::Text) => "trained-text",
            Filter::Ours(Format::Db) => "trained-lmdb",
            Filter::Original(Format::Db) => "trained-libdb",
            Filter::Modern => "trained-modern",
            Filter::Bogofilter => "trained-bogofilter",
        })
    }

    /// A copy of the trained database that may be written.
    pub(crate) fn copy(&self, filter: Filter, name: &str) -> anyhow::Result<PathBuf> {
        let copy = self.empty(filter, name)?;
        for entry in fs::read_dir(self.trained(filter))? {
            let entry = entry?;
            let file = entry.file_name();
            // Berkeley DB's regions are of that folder, not of its copy.
            if !file.as_encoded_bytes().starts_with(b"__db.") {
                fs::copy(entry.path(), copy.join(file))?;
            }
        }
        Ok(copy)
    }

    /// Where the copy or the empty database of this name lies.
    pub(crate) fn at(&self, filter: Filter, name: &str) -> PathBuf {
        self.folder.join(name).join(filter.name())
    }

    /// An empty folder for a database.
    pub(crate) fn empty(&self, filter: Filter, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.at(filter, name);
        if folder.is_dir() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// Trains beside the folder and renames, so that a trained one is whole.
fn train(filter: Filter, trained: &Path, mail: &Mail) -> anyhow::Result<()> {
    let partial = trained.with_extension("partial");
    drop(fs::remove_dir_all(&partial));
    fs::create_dir_all(&partial)?;
    for (option, mbox) in [("-s", &mail.spam), ("-n", &mail.ham)] {
        let mut command = filter.command(&partial);
        command.arg(option);
        if filter == Filter::Bogofilter {
            command.arg("-M");
        }
        process::run(&mut command, mbox, &trained.with_extension("out"))?;
    }
    fs::rename(&partial, trained).with_context(|| trained.display().to_string())
}

/// The ham and the spam list of a database as bmf's text files.
pub(crate) fn lists(filter: Filter, folder: &Path) -> [Vec<u8>; 2] {
    match filter {
        Filter::Original(format) => differential::lists(Pair::Original, format, folder),
        Filter::Ours(format) => differential::lists(Pair::Ours, format, folder),
        Filter::Modern | Filter::Bogofilter => Default::default(),
    }
}
