//! `bmfeval fetch`.

use std::path::PathBuf;

use crate::fetch;

/// Download a public collection and check that it is the one it should be.
///
/// Needs the network and curl.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which.
    #[arg(value_enum)]
    collection: Collection,
    /// Where to; must not hold a collection yet.
    dir: PathBuf,
    /// A mirror, as a URL that curl knows.
    #[arg(long, default_value = fetch::SPAMASSASSIN_URL)]
    from: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Collection {
    /// The SpamAssassin public corpus: 4,150 ham, 1,896 spam, 2002 to 2005.
    Spamassassin,
}

#[allow(clippy::print_stderr)] // What is being fetched, for people who wait.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut note = |url: &str| eprintln!("bmfeval: fetching {url}");
    match arguments.collection {
        Collection::Spamassassin => {
            fetch::spamassassin(&arguments.from, &arguments.dir, &mut note)?;
        }
    }
    Ok(())
}
