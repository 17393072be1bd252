//! A filter run through the commands of its adapter, one process a message,
//! with a daemon behind them where it has one.

use std::array;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use classifier::Label;

use super::adapter::{self, Adapter, SLOTS, Template};
use super::process::{self, Finished, Workplace, find_program};
use super::{Answer, Filter, Footprint};
use crate::leftovers::{self, Daemon};
use crate::{Error, Message};

pub(super) struct Command {
    adapter: Arc<Adapter>,
    workplace: Workplace,
    database: PathBuf,
    /// What the last `classify` printed.
    last_output: String,
    footprint: Footprint,
    /// Until the run ends.
    daemon: Option<Daemon>,
}

impl Command {
    pub(super) fn start(adapter: Arc<Adapter>, work: &Path) -> Result<Self, Error> {
        let database = work.join("db");
        fs::create_dir_all(&database).map_err(Error::io("make", &database))?;
        let mut filter = Self {
            adapter,
            workplace: Workplace::new(work),
            database,
            last_output: String::new(),
            footprint: Footprint::default(),
            daemon: None,
        };
        let adapter = filter.adapter.clone();
        for (name, text) in &adapter.files {
            let path = work.join(name);
            let text = adapter::filled(text, &filter.slots());
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        let _starting = leftovers::starting();
        if let Some(initialise) = &adapter.initialise {
            let done = filter.run(initialise)?;
            filter.demand_success(&done, "initialise")?;
        }
        if let Some(pid_file) = &adapter.pid_file {
            let path = PathBuf::from(adapter::filled(pid_file, &filter.slots()));
            filter.daemon = Some(process::daemon(&path)?);
        }
        Ok(filter)
    }

    fn slots(&self) -> [(&'static str, &Path); 5] {
        let program = self.adapter.program.as_path();
        let prefix = program.parent().and_then(Path::parent);
        let values = [
            program,
            prefix.unwrap_or(Path::new("/usr")),
            &self.database,
            self.workplace.message(),
            self.workplace.folder(),
        ];
        array::from_fn(|n| (SLOTS[n], values[n]))
    }

    fn filled(&self, template: &Template) -> (PathBuf, Vec<OsString>) {
        let (program, arguments) = template.filled(&self.slots());
        if program.is_absolute() {
            return (program, arguments);
        }
        // A second program of the same package.
        let name = [program.to_string_lossy().into_owned()];
        (find_program(&name).unwrap_or(program), arguments)
    }

    fn run(&self, template: &Template) -> Result<Finished, Error> {
        let (program, arguments) = self.filled(template);
        self.workplace.run(&program, &arguments)
    }

    fn learn(&mut self, template: &Template, message: &Message) -> Result<(), Error> {
        self.workplace.put(&message.bytes)?;
        let done = self.run(template)?;
        let is_trained = |code| self.adapter.trained.contains(&code);
        self.footprint.n_failures += u64::from(!done.exit_code.is_some_and(is_trained));
        Ok(())
    }

    fn demand_success(&self, done: &Finished, step: &str) -> Result<(), Error> {
        if done.exit_code == Some(0) {
            return Ok(());
        }
        Err(Error::Adapter {
            name: self.adapter.name.clone(),
            detail: format!("{step} failed{}", self.workplace.complaint()),
        })
    }
}

impl Filter for Command {
    fn classify(&mut self, message: &Message) -> Result<Answer, Error> {
        self.workplace.put(&message.bytes)?;
        let adapter = self.adapter.clone();
        let done = self.run(&adapter.classify)?;
        let answer = adapter.answer(&done);
        self.footprint.n_failures += u64::from(answer.is_none());
        self.last_output = done.stdout;
        Ok(answer.unwrap_or(Answer::FAILED))
    }

    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        let adapter = self.adapter.clone();
        let template = match label {
            Label::Ham => &adapter.train_ham,
            Label::Spam => &adapter.train_spam,
        };
        self.learn(template, message)
    }

    fn retrain(&mut self, label: Label, message: &Message) -> Result<(), Error> {
        let adapter = self.adapter.clone();
        let template = match label {
            Label::Ham => &adapter.retrain_ham,
            Label::Spam => &adapter.retrain_spam,
        };
        self.learn(template, message)
    }

    /// What it printed when it was asked, which was just now.
    fn explain(&mut self, _: &Message) -> Vec<String> {
        self.last_output
            .lines()
            .take(20)
            .map(str::to_owned)
            .collect()
    }

    fn finalise(&mut self) -> Result<Footprint, Error> {
        let adapter = self.adapter.clone();
        self.footprint.peak_memory_bytes = match self.daemon.take() {
            Some(daemon) => process::peak_memory(&daemon),
            None => {
                let (program, arguments) = self.filled(&adapter.classify);
                self.workplace.peak_memory(&program, &arguments)
            }
        };
        if let Some(finalise) = &adapter.finalise {
            let done = self.run(finalise)?;
            self.demand_success(&done, "finalise")?;
        }
        self.footprint.database_bytes = Workplace::bytes_below(&self.database);
        Ok(self.footprint)
    }
}
