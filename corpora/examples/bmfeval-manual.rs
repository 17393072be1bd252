//! Writes the man pages and shell completions of `bmfeval` to a folder:
//! `bmfeval-manual DIR`. They come from the same definitions as `--help`.

use std::path::PathBuf;
use std::{env, fs, io};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use corpora::cli::Arguments;

fn main() -> io::Result<()> {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: bmfeval-manual DIR"));
    };
    fs::create_dir_all(&dir)?;
    // Built first, so that each subcommand knows its full name.
    let mut command = Arguments::command();
    command.build();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let name = command.get_display_name().unwrap_or("bmfeval");
        if command.get_name() != "help" {
            let page = clap_mangen::Man::new(command.clone());
            page.title(name)
                .render(&mut fs::File::create(dir.join(format!("{name}.1")))?)?;
        }
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "bmfeval", &dir)?;
    }
    Ok(())
}
