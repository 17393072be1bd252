//! Writes the man pages and shell completions of `bmfeval` to a folder:
//! `bmfeval-manual DIR`.

use clap::CommandFactory;
use corpora::cli::Arguments;

#[path = "../../packaging/manual.rs"]
mod manual;

fn main() -> std::io::Result<()> {
    manual::run([Arguments::command()], "1")
}
