//! Man pages and shell completions of a program, from the same definitions as
//! its `--help`. Each command has a page of its own, as git's have, and the
//! commands below it are sections there: `postern user add` stands in
//! postern-user(8).
//!
//! The examples that `make manual` runs include this file.

use std::io::{self, Write};
use std::path::Path;
use std::{env, fs};

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// As a program: writes all of `command` to the folder that is named first.
pub(crate) fn run(commands: impl IntoIterator<Item = Command>, section: &str) -> io::Result<()> {
    let dir = env::args_os().nth(1);
    let dir = dir.ok_or_else(|| io::Error::other("a folder is to be named"))?;
    fs::create_dir_all(&dir)?;
    let mut commands = commands.into_iter();
    commands.try_for_each(|command| write(command, section, Path::new(&dir)))
}

/// Writes pages and completions of `command` to `dir`.
pub(crate) fn write(mut command: Command, section: &str, dir: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    // So that each subcommand knows its full name, and the options of all.
    command.build();
    for page in std::iter::once(&command).chain(command.get_subcommands()) {
        if page.get_name() != "help" {
            let name = page.get_display_name().unwrap_or(&name);
            let man = Man::new(page.clone()).section(section).title(name);
            let mut text = Vec::new();
            let is_program = std::ptr::eq(page, &command);
            match is_program || !page.has_subcommands() {
                true => man.render(&mut text)?,
                false => group(page, &man, &mut text)?,
            }
            // What our programs say behind their options is that.
            let text = String::from_utf8_lossy(&text);
            let text = text.replace(".SH EXTRA\nExit codes: ", ".SH \"EXIT STATUS\"\n");
            fs::write(dir.join(format!("{name}.{section}")), text)?;
        }
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, &name, dir)?;
    }
    Ok(())
}

/// A page with a section for each command below `page`.
fn group(page: &Command, man: &Man, out: &mut dyn Write) -> io::Result<()> {
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    for below in page.get_subcommands() {
        if below.get_name() == "help" {
            continue;
        }
        let name = below.get_bin_name().unwrap_or(below.get_name());
        writeln!(out, ".SH {}", name.to_uppercase())?;
        // What holds for all stands above.
        let own = below.clone().mut_args(|arg| {
            let is_common = arg.is_global_set() || arg.get_id() == "help";
            arg.hide(is_common)
        });
        let has_options = own.get_arguments().any(|arg| !arg.is_hide_set());
        let man = Man::new(own);
        let mut text = Vec::new();
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        if has_options {
            man.render_options_section(&mut text)?;
        }
        for line in String::from_utf8_lossy(&text).lines() {
            match line.starts_with(".SH ") {
                true => writeln!(out, ".PP")?,
                false => writeln!(out, "{line}")?,
            }
        }
    }
    Ok(())
}
