//! Cases with the original's recorded answers: these need no peer program.
//!
//! `POSTERN_UPDATE=1 cargo test --release -p tests --test bmf_fixtures` records
//! the answers again from the original; read the diff before committing it.

use std::env;
use std::fs;

use tests::differential::{Case, Pair};
use tests::programs::repository;

#[test]
fn recorded_cases_give_what_the_original_gave() {
    let data = repository().join("tests/data/bmf");
    let mut folders: Vec<_> = fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no cases in {}", data.display());

    let mut differing = Vec::new();
    for folder in folders {
        let case = Case::load(&folder).unwrap();
        if env::var_os("POSTERN_UPDATE").is_some() {
            let recorded = case.transcript(Pair::Original);
            case.save(&folder, &recorded).unwrap();
        }
        let expected = fs::read(folder.join("expected")).unwrap();
        let got = case.transcript(Pair::Ours).to_bytes();
        if got != expected {
            let beside = folder.join("got.orig");
            fs::write(&beside, got).unwrap();
            differing.push(beside);
        }
    }
    assert!(
        differing.is_empty(),
        "compare with `expected` beside: {differing:#?}"
    );
}
