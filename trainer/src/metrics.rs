//! What the service has done, as Prometheus reads it.
//!
//! A dozen counters and their text, instead of an exporter that would bring a
//! web server along.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use classifier::cli::Mode;
use classifier_rocksdb::CacheUse;

use crate::live::Totals;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests of `bmf` about a message.
    pub messages: Counter,
    /// Requests of the spamd protocol.
    pub spamd: Counter,
    /// Messages of which something was learned or taken back over a socket;
    /// what moving mail taught is counted in [`Totals`].
    pub learned: Counter,
    /// Databases that were taken over.
    pub taken_over: Counter,
    /// Requests that were refused, or failed.
    pub refused: Counter,
    /// Connections that were turned away because there were too many.
    pub turned_away: Counter,
    /// Connections that were too slow, or broke off in the midst of a request.
    pub broken: Counter,
    spam: Counter,
    not_spam: Counter,
    open: AtomicU64,
    by_duration: [Counter; BOUNDS_US.len() + 1],
    microseconds: AtomicU64,
}

/// Upper bounds of the histogram, in microseconds.
const BOUNDS_US: [u64; 7] = [250, 1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000];

impl Metrics {
    /// A verdict was given; what a person says is none.
    pub fn verdict(&self, mode: Mode, is_spam: bool) {
        match (mode.label(), is_spam) {
            (Some(_), _) => self.learned.add(),
            (None, true) => self.spam.add(),
            (None, false) => self.not_spam.add(),
        }
    }

    /// A request was answered after so long.
    pub fn answered(&self, after: Duration) {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.partition_point(|bound| *bound < us);
        self.by_duration[place].add();
        self.microseconds.fetch_add(us, Ordering::Relaxed);
    }

    /// Counts a connection as open until the value is dropped.
    pub fn connection(&self) -> impl Drop + '_ {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(&self.open)
    }

    /// In Prometheus' text format, version 0.0.4.
    pub fn to_text(&self, cache: &CacheUse, totals: &Totals) -> String {
        let mut text = String::new();
        let mut counter = |name, n: u64| {
            let _ = writeln!(text, "# TYPE bmfd_{name} counter\nbmfd_{name} {n}");
        };
        counter("messages_total", self.messages.get());
        counter("spamd_requests_total", self.spamd.get());
        counter("learned_total", self.learned.get() + totals.learned);
        counter("rotated_total", totals.rotated);
        counter("taken_over_total", self.taken_over.get());
        counter("refused_total", self.refused.get());
        counter("connections_turned_away_total", self.turned_away.get());
        counter("connections_broken_total", self.broken.get());
        counter("verdicts_spam_total", self.spam.get());
        counter("verdicts_not_spam_total", self.not_spam.get());
        counter("model_cache_hits_total", cache.n_hits);
        counter("model_cache_misses_total", cache.n_misses);
        for (name, n) in [
            ("connections", self.open.load(Ordering::Relaxed)),
            ("model_cache_bytes", cache.n_bytes as u64),
            ("model_cache_models", cache.n_models as u64),
            ("mailboxes", totals.mailboxes as u64),
            ("mailboxes_polled", totals.polled as u64),
            ("mailboxes_failing", totals.failing as u64),
            ("messages_pending", totals.pending as u64),
        ] {
            let _ = writeln!(text, "# TYPE bmfd_{name} gauge\nbmfd_{name} {n}");
        }
        self.write_histogram(&mut text);
        text
    }

    fn write_histogram(&self, text: &mut String) {
        const NAME: &str = "bmfd_answer_seconds";
        let _ = writeln!(text, "# TYPE {NAME} histogram");
        let mut n = 0;
        for (place, counter) in self.by_duration.iter().enumerate() {
            n += counter.get();
            let bound = BOUNDS_US.get(place).map_or("+Inf".into(), |us| {
                (Duration::from_micros(*us).as_secs_f64()).to_string()
            });
            let _ = writeln!(text, "{NAME}_bucket{{le=\"{bound}\"}} {n}");
        }
        let sum = Duration::from_micros(self.microseconds.load(Ordering::Relaxed));
        let _ = writeln!(text, "{NAME}_sum {}\n{NAME}_count {n}", sum.as_secs_f64());
    }
}

struct Open<'a>(&'a AtomicU64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.messages.add();
        metrics.verdict(Mode::Test, true);
        metrics.answered(Duration::from_micros(1_000));
        metrics.answered(Duration::from_secs(9));
        let open = metrics.connection();
        let text = metrics.to_text(&CacheUse::default(), &Totals::default());
        for line in [
            "bmfd_messages_total 1",
            "bmfd_verdicts_spam_total 1",
            "bmfd_connections 1",
            "bmfd_answer_seconds_bucket{le=\"0.00025\"} 0",
            "bmfd_answer_seconds_bucket{le=\"0.001\"} 1",
            "bmfd_answer_seconds_bucket{le=\"+Inf\"} 2",
            "bmfd_answer_seconds_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(open);
        assert!(
            metrics
                .to_text(&CacheUse::default(), &Totals::default())
                .contains("bmfd_connections 0\n")
        );
    }
}
