//! `postern model`: what a user has taught the filter, out and in.

use std::io::Write;
use std::path::PathBuf;

use anyhow::ensure;
use clap::Subcommand;

use super::accounts::{self, Places};
use crate::accounts::{Address, Directory};
use crate::models;

/// What is done with a model.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a user's model as text: bmf's two lists, or model.txt
    ///
    /// `bmfconv -i` makes either a database of bmf. The server must not run.
    Export {
        /// Whose
        #[arg(value_parser = accounts::user_address)]
        user: Address,
        /// The folder, which is made
        folder: PathBuf,
    },
    /// Make what bmf keeps in a folder, in any format, a user's model
    ///
    /// The folder, such as a ~/.bmf, is left as it is. A user who has a model keeps
    /// it. The server must not run.
    Import {
        /// Whose
        #[arg(value_parser = accounts::user_address)]
        user: Address,
        /// The folder
        folder: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// With the reason.
pub fn run(command: &Command, places: &Places, out: &mut dyn Write) -> anyhow::Result<()> {
    let data = std::path::absolute(places.data())?;
    let databases = models::databases(&data)?;
    let (user, engine) = match command {
        Command::Export { user, folder } => {
            let engine = models::export(&databases, &user.to_string(), folder)?;
            (user, engine)
        }
        Command::Import { user, folder } => {
            let known = places.open()?.user(user)?;
            ensure!(known.is_some(), "there is no user {user}");
            let engine = models::import(&databases, &user.to_string(), folder)?;
            (user, engine)
        }
    };
    writeln!(out, "{user}: a model of the engine {}", engine.name())?;
    Ok(())
}
