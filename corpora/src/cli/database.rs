//! A database of `bmf`, of either engine, as a filter.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::filter::{Filter, classic_on, modern_on};
use classifier::Error;
use classifier::cli::{Engine, Format};
use classifier::store::Text;
use classifier::store::lmdb::{Lmdb, Options};

/// The database in the folder `dir`, to read only, whichever engine made it.
pub(super) fn open(dir: &Path, format: Format) -> Result<Box<dyn Filter>, Error> {
    if format == Format::Text {
        let text = Text::open(dir, Duration::from_secs(60))?;
        return Ok(classic_on(Box::new(text)));
    }
    let options = Options {
        engine: Engine::Classic.name(),
        other_engines: &["classic", "modern"],
        ..Options::read_only()
    };
    Ok(filter_on(Lmdb::open(dir, &options)?))
}

/// What its engine makes of it.
pub(super) fn filter_on(database: Lmdb) -> Box<dyn Filter> {
    if database.engine() == Engine::Modern.name() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        return modern_on(Box::new(database), now.map_or(0, |now| now.as_secs()));
    }
    classic_on(Box::new(database))
}
