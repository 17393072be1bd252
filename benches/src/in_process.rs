//! The engine without a process around it, on one thread, in memory.
//!
//! Times are those of the thread, so that whatever else the machine does
//! counts little.

use std::hint::black_box;
use std::time::Duration;

use anyhow::ensure;
use classifier::classic::{self, Lexer, Params, Scorer};
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Entry, Memory, TokenLookup, TokenStore};
use classifier::{MessageTokens, TokenCounts};
use rustix::time::{ClockId, clock_gettime};
use tests::differential::Format;

use crate::filters::{Databases, Filter};
use crate::mail::Mail;
use crate::process::Answer;
use crate::record::{Bound, Goal, Record, Series};

const LEXER: &str = "find words in memory";
const SCORE: &str = "score in memory";

/// Words of all messages of the mbox, in megabytes a second.
pub(crate) fn lex(record: &mut Record, mail: &Mail, rounds: usize) -> anyhow::Result<()> {
    let messages = mail.bulk_messages()?;
    let texts: Vec<&[u8]> = messages.iter().map(|message| &**message).collect();
    let n_words = lex_pass(&texts);
    mail.check_pins(n_words)?;
    let megabytes = mail.bulk_bytes as f64 / 1e6;
    let times = repeat(rounds, || lex_pass(&texts) == n_words)?;
    record.add(Series {
        workload: LEXER,
        contender: "lexer",
        quantity: "throughput",
        unit: "MB/s",
        values: times
            .iter()
            .map(|time| megabytes / time.as_secs_f64())
            .collect(),
    });
    record.goal(Goal {
        workload: LEXER,
        quantity: "throughput",
        contender: "lexer",
        peer: None,
        bound: Some(Bound::AtLeast(400.0)),
    });
    Ok(())
}

/// A message of about 5 kB: its phases, and all of it against each store.
/// `answers` are the original's reports.
pub(crate) fn score(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    answers: &[Answer],
    rounds: usize,
) -> anyhow::Result<()> {
    let texts: Vec<&[u8]> = mail.samples.iter().map(|sample| &*sample.bytes).collect();
    let lmdb = Lmdb::open(
        &databases.trained(Filter::Ours(Format::Db)),
        &Options::read_only(),
    )?;
    let memory = in_memory(&lmdb)?;
    let tokens: Vec<_> = texts
        .iter()
        .map(|text| classic::message_tokens(text))
        .collect();
    let mut add = |contender, quantity, times: Vec<Duration>| {
        let microseconds = |time: &Duration| time.as_secs_f64() * 1e6 / texts.len() as f64;
        record.add(Series {
            workload: SCORE,
            contender,
            quantity,
            unit: "µs",
            values: times.iter().map(microseconds).collect(),
        });
    };

    let n_words = lex_pass(&texts);
    let times = repeat(rounds, || lex_pass(&texts) == n_words)?;
    add("phase", "find words", times);
    let mut distinct = MessageTokens::default();
    let n_distinct: usize = tokens.iter().map(|tokens| tokens.tokens().len()).sum();
    let times = repeat(rounds, || tokens_pass(&texts, &mut distinct) == n_distinct)?;
    add("phase", "find words and count each", times);
    for (contender, store) in [
        ("memory store", &memory as &dyn TokenLookup),
        ("warm LMDB", &lmdb),
    ] {
        let mut counts = Vec::new();
        let n_seen = lookup_pass(&tokens, store, &mut counts)?;
        let times = repeat(rounds, || {
            lookup_pass(&tokens, store, &mut counts).is_ok_and(|n| n == n_seen)
        })?;
        add(contender, "look up", times);
        let mut scorer = Scorer::default();
        for (text, answer) in texts.iter().zip(answers) {
            let mut report = Vec::new();
            scorer
                .score(text, store, &Params::bmf())?
                .write_report(&mut report)?;
            ensure!(report == answer.stdout, "a score is not the original's");
        }
        let sum = score_pass(&texts, store, &mut scorer)?;
        let times = repeat(rounds, || {
            score_pass(&texts, store, &mut scorer).is_ok_and(|n| n == sum)
        })?;
        add(contender, "all", times);
    }
    for (contender, bound) in [("memory store", 20.0), ("warm LMDB", 150.0)] {
        record.goal(Goal {
            workload: SCORE,
            quantity: "all",
            contender,
            peer: None,
            bound: Some(Bound::AtMost(bound)),
        });
    }
    Ok(())
}

/// All that a database holds, in memory.
pub(crate) fn in_memory(store: &impl TokenStore) -> anyhow::Result<Memory> {
    let mut lists = Vec::new();
    let trained = store.entries(&mut |Entry { token, ham, spam }| {
        lists.push((Box::<[u8]>::from(token), ham, spam));
        Ok(())
    })?;
    let mut memory = Memory::default();
    memory.replace(
        trained,
        &mut lists.iter().map(|(token, ham, spam)| Entry {
            token,
            ham: *ham,
            spam: *spam,
        }),
    )?;
    Ok(memory)
}

/// Times `pass`, which says whether its answer is right.
pub(crate) fn repeat(
    rounds: usize,
    mut pass: impl FnMut() -> bool,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = thread_time();
        let right = pass();
        times.push(thread_time() - start);
        ensure!(right, "the same work has another answer");
    }
    Ok(times)
}

/// How long this thread has run.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Number of words.
pub(crate) fn lex_pass(texts: &[&[u8]]) -> usize {
    texts
        .iter()
        .map(|text| Lexer::new(black_box(text)).count())
        .sum()
}

/// Number of distinct tokens.
pub(crate) fn tokens_pass(texts: &[&[u8]], tokens: &mut MessageTokens) -> usize {
    let mut n = 0;
    for text in texts {
        tokens.clear();
        for token in classic::words_as_tokens(text) {
            black_box(tokens.push(token));
        }
        n += tokens.tokens().len();
    }
    n
}

/// Sum of all counts.
pub(crate) fn lookup_pass(
    messages: &[MessageTokens],
    store: &dyn TokenLookup,
    counts: &mut Vec<TokenCounts>,
) -> anyhow::Result<u64> {
    let mut sum = 0;
    for message in messages {
        store.lookup(message.tokens(), counts)?;
        sum += counts
            .iter()
            .map(|c| u64::from(c.ham) + u64::from(c.spam))
            .sum::<u64>();
    }
    Ok(sum)
}

/// Sum of all hits.
pub(crate) fn score_pass(
    texts: &[&[u8]],
    store: &dyn TokenLookup,
    scorer: &mut Scorer,
) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for text in texts {
        sum += scorer.score(text, store, &Params::bmf())?.hits;
    }
    Ok(sum)
}
