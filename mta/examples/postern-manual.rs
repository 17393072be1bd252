//! Writes the man page and shell completions of `postern` to a folder:
//! `postern-manual DIR`. They come from the same definitions as `--help`.

use std::path::PathBuf;
use std::{env, fs, io};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use mta::cli::Args;

fn main() -> io::Result<()> {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: postern-manual DIR"));
    };
    fs::create_dir_all(&dir)?;
    // Section 8: commands for those who run a host. Built first, so that
    // each subcommand knows the options of all.
    let mut command = Args::command();
    command.build();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let name = command.get_display_name().unwrap_or("postern");
        if command.get_name() != "help" {
            let page = clap_mangen::Man::new(command.clone()).section("8");
            page.title(name)
                .render(&mut fs::File::create(dir.join(format!("{name}.8")))?)?;
        }
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "postern", &dir)?;
    }
    Ok(())
}
