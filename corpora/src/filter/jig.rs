//! A filter made for TREC's jig: a folder with four commands.
//!
//! Source: the TREC spam filter evaluation kit. `initialize`; `classify FILE`
//! prints `class=spam score=0.9 tfile=NAME`; `train JUDGEMENT FILE CLASS
//! NAME`; `finalize`. They run in a copy of the folder, where they may leave
//! what they like.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use classifier::Label;

use super::process::{Finished, Workplace};
use super::{Answer, Filter, Footprint, Verdict};
use crate::{Error, Message};

pub(super) struct Jig {
    folder: PathBuf,
    workplace: Workplace,
    /// Class and auxiliary file of the last `classify`, which `train` is told.
    last: (String, String),
    last_output: String,
    footprint: Footprint,
}

impl Jig {
    pub(super) fn start(source: &Path, work: &Path) -> Result<Self, Error> {
        let folder = work.join("filter");
        copy_folder(source, &folder)?;
        let filter = Self {
            workplace: Workplace::new(&folder),
            folder,
            last: ("ham".to_owned(), String::new()),
            last_output: String::new(),
            footprint: Footprint::default(),
        };
        filter.step("initialize", &[])?;
        Ok(filter)
    }

    fn step(&self, name: &str, arguments: &[OsString]) -> Result<Finished, Error> {
        self.workplace.run(&self.folder.join(name), arguments)
    }
}

impl Filter for Jig {
    fn classify(&mut self, message: &Message) -> Result<Answer, Error> {
        self.workplace.put(&message.bytes)?;
        let file = self.workplace.message().as_os_str().to_owned();
        let done = self.step("classify", &[file])?;
        let answer = answer(&done.stdout);
        self.footprint.n_failures += u64::from(answer.is_none());
        self.last = (
            value(&done.stdout, "class").unwrap_or("ham").to_owned(),
            value(&done.stdout, "tfile").unwrap_or_default().to_owned(),
        );
        self.last_output = done.stdout;
        Ok(answer.unwrap_or(Answer::FAILED))
    }

    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.workplace.put(&message.bytes)?;
        let file = self.workplace.message().as_os_str().to_owned();
        let (class, auxiliary) = self.last.clone();
        let arguments = [label.name().into(), file, class.into(), auxiliary.into()];
        let done = self.step("train", &arguments)?;
        self.footprint.n_failures += u64::from(done.exit_code != Some(0));
        Ok(())
    }

    /// The jig knows no correction: a filter is told the truth once more.
    fn retrain(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        self.train(label, message)
    }

    fn explain(&mut self, _: &Message) -> Vec<String> {
        self.last_output
            .lines()
            .take(20)
            .map(str::to_owned)
            .collect()
    }

    fn finalise(&mut self) -> Result<Footprint, Error> {
        let file = self.workplace.message().as_os_str().to_owned();
        let classify = self.folder.join("classify");
        self.footprint.peak_memory_bytes = self.workplace.peak_memory(&classify, &[file]);
        self.step("finalize", &[])?;
        self.footprint.database_bytes = Workplace::bytes_below(&self.folder);
        Ok(self.footprint)
    }
}

fn answer(line: &str) -> Option<Answer> {
    let verdict = match value(line, "class")? {
        "spam" => Verdict::Spam,
        "ham" => Verdict::Ham,
        "unsure" => Verdict::Unsure,
        _ => return None,
    };
    let score: f64 = value(line, "score")?.parse().ok()?;
    (!score.is_nan()).then_some(Answer { verdict, score })
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("make", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("open", from))? {
        let entry = entry.map_err(Error::io("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(Error::io("copy", &source))?;
        }
    }
    Ok(())
}
