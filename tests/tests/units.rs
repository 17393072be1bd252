//! The units for systemd, as systemd itself reads them. It is laid over the
//! system, which needs root; none has to run.

use std::fs;

use tests::overlaid;
use tests::programs::{built, repository};
use tests::run::scratch;

/// Of ten, by `systemd-analyze security`, in tenths: less is better. What is
/// left is that both read and write mail, and listen.
const EXPOSURE: [(&str, u32); 2] = [("bmfd", 25), ("postern", 20)];

#[test]
fn units_are_understood_and_confined() {
    if !overlaid::is_possible() {
        tests::skip("only root can lay systemd over the system");
        return;
    }
    for (program, exposure) in EXPOSURE {
        let dir = scratch();
        let unit = repository().join(format!("packaging/{program}.service"));
        let text = fs::read_to_string(&unit).unwrap();
        let (_, runs) = text.split_once("\nExecStart=").unwrap();
        let installed = runs.split_whitespace().next().unwrap();
        fs::write(dir.path().join(format!("{program}.service")), &text).unwrap();
        fs::copy(built(program), dir.path().join(program)).unwrap();
        // Both fail when there is anything to complain of. The targets that
        // units name are systemd's, which need not be installed here.
        let script = format!(
            "install -D $DIR/{program} {installed} && cd $DIR && \
             export SYSTEMD_UNIT_PATH=$DIR:$ROOT/lib/systemd/system && \
             systemd-analyze verify --man=no {program}.service && \
             systemd-analyze security --offline=true --threshold={exposure} {program}.service"
        );
        let output = overlaid::run(dir.path(), &script);
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {wrong}{said}");
        let verdict = format!("Overall exposure level for {program}.service: ");
        assert!(said.contains(&verdict), "{said}");
        assert_eq!(wrong, "", "{program}");
    }
}
