//! Several filters over several collections or orders, side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::filter::FilterSpec;
use crate::measure::{self, Measures, PairedDifference};
use crate::protocol::{self, Cost, Mistake, Protocol, Record};
use crate::{Collection, Error, results};

/// What to run.
pub struct Experiment<'a> {
    /// Collections that hold the same messages in another order are reported
    /// together, others apart.
    pub collections: &'a [Collection],
    /// All of them see the same messages, feedback and noise.
    pub filters: &'a [FilterSpec],
    /// Reorderings of each collection; `None` is the order of reception.
    pub shuffles: &'a [Option<u64>],
    /// The rest of the protocol.
    pub protocol: Protocol,
    /// A folder for TREC's result file of each run, written as soon as it
    /// ends: what stops a long experiment does not take all of it away.
    /// `COLLECTION-FILTER[-SHUFFLE].results`, collections from 1.
    pub results: Option<PathBuf>,
}

/// One filter over one set of messages, in one or several orders.
pub struct Outcome {
    /// The filter's name.
    pub filter: String,
    /// Over each order; the records' numbers mean the same message in each.
    pub runs: Vec<OrderedRun>,
    /// Mean over the runs.
    pub measures: Measures,
    /// Sum over the runs.
    pub cost: Cost,
}

/// A run with where it ran.
pub struct OrderedRun {
    /// Which of the collections.
    pub collection: usize,
    /// Which reordering of it.
    pub shuffle: Option<u64>,
    /// Answers in the order of the run.
    pub records: Vec<Record>,
    /// What it got wrong.
    pub mistakes: Vec<Mistake>,
}

/// All filters over one set of messages.
pub struct Report {
    /// Name of the first collection of the set.
    pub name: String,
    /// Its checksum.
    pub checksum: String,
    /// How the filters met it; the order stands in each run.
    pub protocol: Protocol,
    /// Names of the messages, by the numbers in the records.
    pub message_ids: Vec<String>,
    /// One for each filter.
    pub outcomes: Vec<Outcome>,
    /// Each filter but the first against the first, by place in `outcomes`.
    pub differences: Vec<(usize, PairedDifference)>,
}

impl Experiment<'_> {
    /// Number of messages that all runs together will meet.
    pub fn n_steps(&self) -> u64 {
        let n_messages: usize = self.collections.iter().map(|c| c.messages.len()).sum();
        (n_messages * self.filters.len() * self.shuffles.len()) as u64
    }

    /// Runs everything, on as many threads as rayon has. Filters that keep
    /// files get a folder each below `work`. The figures do not depend on the
    /// number of threads; the times do.
    ///
    /// # Errors
    /// The first error of a filter.
    pub fn run(&self, work: &Path, progress: &(dyn Fn() + Sync)) -> Result<Vec<Report>, Error> {
        let tasks: Vec<Task> = self.tasks();
        let finished: Vec<(Task, OrderedRun, Cost)> = tasks
            .into_par_iter()
            .enumerate()
            .map(|(n, task)| self.run_task(task, &work.join(n.to_string()), progress))
            .collect::<Result<_, Error>>()?;
        let mut sets: BTreeMap<Vec<&str>, Vec<(Task, OrderedRun, Cost)>> = BTreeMap::new();
        let mut names: Vec<Vec<&str>> = Vec::new();
        for done in finished {
            let key = self.message_set(done.0.collection);
            if !names.contains(&key) {
                names.push(key.clone());
            }
            sets.entry(key).or_default().push(done);
        }
        let reports = names.into_iter().filter_map(|key| sets.remove(&key));
        Ok(reports.map(|set| self.report(set)).collect())
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for collection in 0..self.collections.len() {
            for &shuffle in self.shuffles {
                for filter in 0..self.filters.len() {
                    tasks.push(Task {
                        collection,
                        shuffle,
                        filter,
                    });
                }
            }
        }
        tasks
    }

    fn run_task(
        &self,
        task: Task,
        work: &PathBuf,
        progress: &(dyn Fn() + Sync),
    ) -> Result<(Task, OrderedRun, Cost), Error> {
        std::fs::create_dir_all(work).map_err(Error::io("make", work))?;
        let protocol = Protocol {
            shuffle: task.shuffle,
            ..self.protocol.clone()
        };
        let collection = &self.collections[task.collection];
        let filter = &self.filters[task.filter];
        let run = protocol::run(collection, filter, &protocol, work, progress)?;
        std::fs::remove_dir_all(work).map_err(Error::io("remove", work))?;
        self.save(task, &run.records)?;
        let ordered = OrderedRun {
            collection: task.collection,
            shuffle: task.shuffle,
            records: run.records,
            mistakes: run.mistakes,
        };
        Ok((task, ordered, run.cost))
    }

    fn save(&self, task: Task, records: &[Record]) -> Result<(), Error> {
        let Some(folder) = &self.results else {
            return Ok(());
        };
        std::fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        let filter = self.filters[task.filter].name();
        let shuffle = task.shuffle.map_or_else(String::new, |n| format!("-{n}"));
        let name = format!("{}-{filter}{shuffle}.results", task.collection + 1);
        let messages = &self.collections[task.collection].messages;
        results::write(&folder.join(name), messages, records)
    }

    fn message_set(&self, collection: usize) -> Vec<&str> {
        let messages = &self.collections[collection].messages;
        let mut ids: Vec<&str> = messages.iter().map(|m| m.id.as_str()).collect();
        ids.sort_unstable();
        ids
    }

    fn report(&self, mut set: Vec<(Task, OrderedRun, Cost)>) -> Report {
        let first = set
            .iter()
            .map(|(task, ..)| task.collection)
            .min()
            .unwrap_or(0);
        let ids = |collection: usize| {
            let messages = &self.collections[collection].messages;
            messages.iter().map(|m| m.id.clone()).collect::<Vec<_>>()
        };
        let message_ids = ids(first);
        let numbers: BTreeMap<&str, usize> = message_ids
            .iter()
            .enumerate()
            .map(|(n, id)| (id.as_str(), n))
            .collect();
        for (task, run, _) in &mut set {
            let messages = &self.collections[task.collection].messages;
            for record in &mut run.records {
                record.message = numbers[messages[record.message].id.as_str()];
            }
        }
        let mut outcomes: Vec<Outcome> = Vec::new();
        for (n, filter) in self.filters.iter().enumerate() {
            let (mine, rest) = set.into_iter().partition(|(task, ..)| task.filter == n);
            set = rest;
            outcomes.push(self.outcome(filter, mine));
        }
        let differences = (1..outcomes.len())
            .filter_map(|n| {
                let difference = measure::paired_difference(
                    &outcomes[n].records(),
                    &outcomes[0].records(),
                    self.protocol.seed,
                );
                Some((n, difference?))
            })
            .collect();
        Report {
            name: self.collections[first].name.clone(),
            checksum: self.collections[first].checksum.clone(),
            protocol: self.protocol.clone(),
            message_ids,
            outcomes,
            differences,
        }
    }

    fn outcome(&self, filter: &FilterSpec, runs: Vec<(Task, OrderedRun, Cost)>) -> Outcome {
        let mut cost = Cost::default();
        for (_, _, more) in &runs {
            cost.add(more);
        }
        let runs: Vec<OrderedRun> = runs.into_iter().map(|(_, run, _)| run).collect();
        let records: Vec<&[Record]> = runs.iter().map(|run| run.records.as_slice()).collect();
        Outcome {
            filter: filter.name(),
            measures: measure::measure(&records, self.protocol.seed),
            cost,
            runs,
        }
    }
}

impl Outcome {
    /// The answers of each run.
    pub fn records(&self) -> Vec<&[Record]> {
        self.runs.iter().map(|run| run.records.as_slice()).collect()
    }
}

#[derive(Clone, Copy)]
struct Task {
    collection: usize,
    shuffle: Option<u64>,
    filter: usize,
}
