//! Contenders that take turns: A, B, A, B, so that whatever else the machine
//! does meets all of them.

use std::time::{Duration, Instant};

use crate::process::Taken;
use crate::record::{Record, Series};

/// One that takes part.
pub(crate) struct Contender<'a> {
    name: &'static str,
    run: Box<dyn FnMut(usize) -> anyhow::Result<Taken> + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` gets the number of the round, does the work, checks the answer,
    /// and says what the work took.
    pub(crate) fn new(
        name: &'static str,
        run: impl FnMut(usize) -> anyhow::Result<Taken> + 'a,
    ) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// How long a race lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// Not counted: they bring files into the page cache.
    pub(crate) warm_ups: usize,
    pub(crate) rounds: usize,
    /// No round begins after this time, but at least [`Length::MIN_ROUNDS`] are
    /// run.
    pub(crate) at_most: Duration,
}

impl Length {
    const MIN_ROUNDS: usize = 3;
}

/// Runs all `contenders` for each round, beginning with another one each time.
/// Returns the number of rounds with those to warm up.
pub(crate) fn race(
    record: &mut Record,
    workload: &'static str,
    length: Length,
    contenders: &mut [Contender<'_>],
) -> anyhow::Result<usize> {
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    eprintln!("{workload}: {}", names.join(", "));
    let mut taken: Vec<Vec<Taken>> = contenders.iter().map(|_| Vec::new()).collect();
    let start = Instant::now();
    let mut round = 0;
    while round < length.warm_ups + length.rounds {
        let counted = round.saturating_sub(length.warm_ups);
        if counted >= Length::MIN_ROUNDS && start.elapsed() > length.at_most {
            break;
        }
        for turn in 0..contenders.len() {
            let who = (round + turn) % contenders.len();
            let time = (contenders[who].run)(round)?;
            if round >= length.warm_ups {
                taken[who].push(time);
            }
        }
        round += 1;
    }
    for (name, taken) in names.into_iter().zip(taken) {
        let milliseconds = |pick: fn(&Taken) -> Duration| {
            let values = taken.iter().map(pick);
            values.map(|time| time.as_secs_f64() * 1e3).collect()
        };
        for (quantity, values) in [
            ("time", milliseconds(|taken| taken.wall)),
            ("CPU time", milliseconds(|taken| taken.cpu)),
        ] {
            record.add(Series {
                workload,
                contender: name,
                quantity,
                unit: "ms",
                values,
            });
        }
    }
    Ok(round)
}
