//! `-p` on an mbox: there the original takes the body of one message for the
//! beginning of the next, so ours is compared with itself without `-p`.

use fastrand::Rng;

use tests::differential::{Format, Pair, lists};
use tests::messages;
use tests::run::{Input, run, scratch};

const N_MBOXES: u64 = 200;

#[test]
fn a_message_of_an_mbox_scores_and_registers_with_p_as_without() {
    for seed in 0..N_MBOXES {
        let mbox = messages::mbox(&mut Rng::with_seed(seed));
        let folder = scratch();
        let bmf = |options, database: &str| {
            let database = folder.path().join(database);
            let mut bmf = Pair::Ours.bmf();
            bmf.args(["-f", "text", options, "-d"]).arg(&database);
            let stdout = run(&mut bmf, Input::Bytes(&mbox)).stdout;
            (stdout, lists(Pair::Ours, Format::Text, &database))
        };
        let (report, _) = bmf("-t", "empty");
        let (report_and_mail, _) = bmf("-tp", "empty");
        assert_eq!(
            numbers_after(&report, "# Spamicity: "),
            numbers_after(&report_and_mail, "X-Spam-Status: No, hits="),
            "seed {seed}"
        );
        let (_, without) = bmf("-s", "without");
        let (_, with) = bmf("-sp", "with");
        assert!(with == without, "seed {seed}");
    }
}

/// The numbers of six decimals at the beginning of lines, behind `name`.
fn numbers_after(output: &[u8], name: &str) -> Vec<Vec<u8>> {
    output
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_prefix(name.as_bytes()))
        .map(|rest| rest[.."0.000000".len()].to_vec())
        .collect()
}
