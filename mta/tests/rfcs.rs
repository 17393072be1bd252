//! Every RFC that the code cites stands in the README's table.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn cited(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cited(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let numbers = text.split("RFC ").skip(1).filter_map(|rest| rest.get(..4));
        let is_number = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
        found.extend(numbers.filter(is_number).map(str::to_owned));
    }
}

#[test]
fn every_rfc_that_is_cited_is_in_the_table() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    cited(&crate_folder.join("src"), &mut found);
    assert!(found.len() > 15, "{found:?}");
    let readme = fs::read_to_string(crate_folder.join("../README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| RFC"));
    let table: String = rows.collect();
    for number in found {
        assert!(table.contains(&number), "RFC {number} is not in README.md");
    }
}
