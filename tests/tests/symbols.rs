//! `bmf` starts once for each message: it must not carry RocksDB, also when the
//! whole workspace is built at once and cargo unites the features; nor may it
//! load libraries, which takes longer than a message (scripts/rustc).

use std::process::Command;

use tests::programs::built;
use tests::run::{Input, run};

fn output_of(tool: &str, option: &str, program: &str) -> String {
    let outcome = run(
        Command::new(tool).arg(option).arg(built(program)),
        Input::Empty,
    );
    assert_eq!(outcome.code(), 0, "{tool}: {}", outcome.stderr);
    String::from_utf8(outcome.stdout).unwrap()
}

#[test]
fn bmf_and_bmfconv_carry_no_rocksdb_and_need_no_libraries() {
    for program in ["bmf", "bmfconv"] {
        let symbols = output_of("nm", "--defined-only", program).to_lowercase();
        assert!(
            symbols.contains("mdb_env_open"),
            "{program}: no symbols to look at"
        );
        assert!(
            !symbols.contains("rocksdb"),
            "{program} holds symbols of RocksDB"
        );

        // Not even the C library, so that none is searched at each start.
        let dynamic = output_of("readelf", "--dynamic", program);
        assert!(dynamic.contains("FLAGS"), "{dynamic}");
        assert!(!dynamic.contains("NEEDED"), "{program} needs {dynamic}");
    }
}
