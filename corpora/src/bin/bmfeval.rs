//! Measures spam filters over labelled mail collections, in the way of the TREC
//! spam track.

use std::process::ExitCode;

fn main() -> ExitCode {
    corpora::cli::main()
}
