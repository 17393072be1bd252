//! The man pages and completions of `postern`: every command is in them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use clap::CommandFactory;
use mta::cli::Args;

#[path = "../../packaging/manual.rs"]
#[allow(dead_code)]
mod manual;

#[test]
fn every_command_has_its_page_or_section_and_the_shell_knows_it() {
    let dir = tempfile::tempdir().unwrap();
    manual::write(Args::command(), "8", dir.path()).unwrap();
    let mut all = Args::command();
    all.build();
    let page = fs::read_to_string(dir.path().join("postern.8")).unwrap();
    assert!(page.contains("\n.SH \"EXIT STATUS\"\n0 done, "), "{page}");
    let mut n_sections = 0;
    for command in all.get_subcommands() {
        let name = command.get_name();
        if name == "help" {
            continue;
        }
        let page = fs::read_to_string(dir.path().join(format!("postern-{name}.8"))).unwrap();
        // The page of another program would be looked for in vain.
        assert!(!page.contains(&format!("postern\\-{name}\\-")), "{page}");
        for below in command.get_subcommands() {
            let of = below.get_name();
            if of == "help" {
                continue;
            }
            n_sections += 1;
            let heading = format!(
                "\n.SH POSTERN {} {}\n",
                name.to_uppercase(),
                of.to_uppercase()
            );
            assert!(page.contains(&heading), "{heading} in {page}");
            for option in below.get_arguments().filter(|arg| !arg.is_global_set()) {
                let long = option.get_long().filter(|long| *long != "help");
                let shown = long.map(|long| format!("\\-\\-{}", long.replace('-', "\\-")));
                assert!(
                    shown.is_none_or(|shown| page.contains(&shown)),
                    "{of} {long:?}"
                );
            }
        }
        let said = completed(dir.path(), &["postern", name, ""]);
        for below in command.get_subcommands() {
            assert!(said.contains(below.get_name()), "{name}: {said}");
        }
    }
    assert!(n_sections > 20, "{n_sections}");
    let options = completed(dir.path(), &["postern", "user", "add", "--"]);
    assert!(options.contains("--quota-messages"), "{options}");
}

/// What bash offers for the last word.
fn completed(dir: &std::path::Path, words: &[&str]) -> String {
    let script = "source \"$1/postern.bash\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                  _postern \"$1\" \"${!#}\" x; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash"]).arg(dir).args(words);
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
