//! Figures for people and programs.

mod html;
mod json;
mod svg;
mod table;

pub use html::html;
pub(crate) use json::VERSION;
pub use json::json_lines;
pub(crate) use table::aligned;
pub use table::{comparison, quality_table, table};

use crate::measure::Interval;

/// `value (low-high)` with as many digits as its size asks for, `-` in the
/// place of what cannot be told.
pub(crate) fn with_interval(interval: &Interval) -> String {
    let digits = digits(interval.value);
    if interval.value.is_nan() {
        return "-".to_owned();
    }
    if interval.low.is_nan() {
        return format!("{:.digits$} (-)", interval.value);
    }
    format!(
        "{:.digits$} ({:.digits$}-{:.digits$})",
        interval.value, interval.low, interval.high
    )
}

fn digits(percent: f64) -> usize {
    match percent {
        p if p == 0.0 || p >= 10.0 => 1,
        p if p >= 1.0 => 2,
        p if p >= 0.01 => 3,
        _ => 5,
    }
}

fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{} kB", n / 1000),
        _ => format!("{} MB", n / 1_000_000),
    }
}
