//! A million attempts are remembered in little memory, over a restart.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use mta::gate::greylist::{Greylist, Settings, Standing};

const N: u32 = 1_000_000;
const NOW: u64 = 1_800_000_000;

fn client(n: u32) -> (IpAddr, String, String) {
    // Neighbours in the file must not be neighbours in time.
    let address = Ipv4Addr::from(n.wrapping_mul(2_654_435_761) & 0xffff_ff00);
    (
        address.into(),
        format!("sender@d{n}.example.net"),
        format!("user{}@example.org", n % 1000),
    )
}

/// Of this process, in MiB.
fn memory(of: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(of));
    let kib = line
        .unwrap()
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}

#[test]
fn a_million_attempts_take_less_than_128_mib_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let settings = Settings::default();
    let begin = Instant::now();
    let greylist = Greylist::open(&path).unwrap();
    let wait = settings.wait.as_secs();
    for n in 0..N {
        let (address, from, to) = client(n);
        let standing = greylist.ask(&settings, (address, &from, &to), NOW).unwrap();
        assert_eq!(standing, Standing::Early { seconds: wait });
    }
    let per_ask = begin.elapsed() / N;
    drop(greylist);
    let greylist = Greylist::open(&path).unwrap();
    for n in (0..N).step_by(997) {
        let (address, from, to) = client(n);
        let standing = greylist
            .ask(&settings, (address, &from, &to), NOW + wait)
            .unwrap();
        assert_eq!(standing, Standing::CameAgain, "{n}");
    }
    greylist.tidy(&settings, NOW + wait).unwrap();
    let bytes = fs::metadata(&path).unwrap().len() / (1 << 20);
    let most = memory("VmHWM");
    eprintln!("{N} attempts: {per_ask:?} each, {bytes} MiB on disk, {most} MiB of memory at most");
    assert!(most < 128, "{most} MiB");
}
