//! What the import of another host says.

use std::path::Path;

use mta::import::Plan;
use mta::import::report::Outcome;

/// What the report says of a file, outcome and line.
pub fn found(plan: &Plan, file: &str) -> Vec<(Outcome, Option<usize>)> {
    let findings = plan.report.findings.iter();
    let of = findings.filter(|finding| finding.file == Path::new(file));
    of.map(|finding| (finding.outcome, finding.line)).collect()
}
