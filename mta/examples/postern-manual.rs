//! Writes the man pages and shell completions of `postern` to a folder:
//! `postern-manual DIR`.

use clap::CommandFactory;
use mta::cli::Args;

#[path = "../../packaging/manual.rs"]
mod manual;

fn main() -> std::io::Result<()> {
    manual::run([Args::command()], "8")
}
