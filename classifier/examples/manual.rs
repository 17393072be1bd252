//! Writes the man pages and shell completions of the programs to a folder:
//! `manual DIR`. They come from the same definitions as `--help`.

use std::path::PathBuf;
use std::{env, fs, io};

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use classifier::cli;

fn main() -> io::Result<()> {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: manual DIR"));
    };
    fs::create_dir_all(&dir)?;
    write(cli::Args::command(), &dir)?;
    write(cli::bmfconv::Args::command(), &dir)
}

fn write(mut command: Command, dir: &PathBuf) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let page = clap_mangen::Man::new(command.clone());
    page.render(&mut fs::File::create(dir.join(format!("{name}.1")))?)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, &name, dir)?;
    }
    Ok(())
}
