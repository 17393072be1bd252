//! Any bytes as bmf's text lists: they are read or refused, and what was read
//! is the same after it was written.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::Duration;

use classifier::store::{Entry, Text, TokenStore};
use classifier::{Error, TrainedMessages};
use libfuzzer_sys::fuzz_target;

type Lines = Vec<(Vec<u8>, Option<u32>, Option<u32>)>;

fn read(folder: &Path) -> Result<(TrainedMessages, Lines), Error> {
    let mut lines = Vec::new();
    let trained = Text::open(folder, Duration::ZERO)?.entries(&mut |entry| {
        lines.push((entry.token.to_vec(), entry.ham, entry.spam));
        Ok(())
    })?;
    Ok((trained, lines))
}

fuzz_target!(|lists: (&[u8], &[u8])| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    fs::write(folder.path().join("goodlist.txt"), lists.0).expect("room");
    fs::write(folder.path().join("spamlist.txt"), lists.1).expect("room");
    let Ok((trained, lines)) = read(folder.path()) else {
        return;
    };
    let mut text = Text::open(folder.path(), Duration::ZERO).expect("it was just read");
    let mut entries = lines.iter().map(|(token, ham, spam)| Entry {
        token,
        ham: *ham,
        spam: *spam,
    });
    text.replace(trained, &mut entries).expect("what was read can be written");
    assert_eq!(read(folder.path()).expect("it was just written"), (trained, lines));
});
