//! Writes the man pages and shell completions of `bmfd` to a folder:
//! `bmfd-manual DIR`.

use clap::CommandFactory;
use trainer::cli::Args;

#[path = "../../packaging/manual.rs"]
mod manual;

fn main() -> std::io::Result<()> {
    manual::run([Args::command()], "8")
}
