//! Writes the man pages and shell completions of the programs to a folder:
//! `manual DIR`.

use clap::CommandFactory;
use classifier::cli;

#[path = "../../packaging/manual.rs"]
mod manual;

fn main() -> std::io::Result<()> {
    let programs = [cli::Args::command(), cli::bmfconv::Args::command()];
    manual::run(programs, "1")
}
