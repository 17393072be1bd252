//! Little address space, no room on the disk, no permission to write.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use classifier::TrainedMessages;
use classifier::store::lmdb::{Lmdb, Options};
use classifier::store::{Durability, Entry, TokenStore};

use super::{child, child_of, learn, make, succeeded, whole_messages};

/// `command` as a child of a shell that first runs `script`.
fn child_after(script: &str, dir: &Path, command: &str) -> Command {
    let program = child(dir, command);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{script} && exec \"$@\""), "sh"])
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell
}

/// As [`child_after`], with mounts of its own. `None`: not permitted here.
fn child_with_mount(script: &str, dir: &Path, command: &str) -> Option<Command> {
    let shell = child_after(script, dir, command);
    let mut unshare = Command::new("unshare");
    unshare
        .arg("--mount")
        .arg(shell.get_program())
        .args(shell.get_args());
    for (name, value) in shell.get_envs() {
        unshare.env(name, value.unwrap());
    }
    let may_mount = Command::new("unshare").args(["--mount", "true"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: needs unshare --mount, which only the superuser may");
        return None;
    }
    unshare.env("DIR", dir);
    Some(unshare)
}

/// Mounts the folder so that it can only be read.
const READ_ONLY: &str = "mount --bind \"$DIR\" \"$DIR\" && mount -o remount,ro,bind \"$DIR\"";

#[test]
fn grows_in_64_mib_of_address_space() {
    let dir = tempfile::tempdir().unwrap();
    // 16 MiB, which doubled would just fit beside all else.
    make(dir.path(), 1, 400_000);
    let len = fs::metadata(Lmdb::path(dir.path())).unwrap().len();
    assert!(len > 12 << 20, "{len}");
    let limited = |command| {
        let output = child_after("ulimit -v 65536", dir.path(), command).output();
        succeeded(output.unwrap())
    };
    assert!(limited("score").contains("<1 1 0>"));
    limited("train 1 50");
    assert!(limited("score").contains("<51 51 0>"));
}

#[test]
fn grows_while_another_process_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1, 0);
    let open = Lmdb::open(dir.path(), &Options::read_only()).unwrap();
    let before = fs::metadata(Lmdb::path(dir.path())).unwrap().len();
    succeeded(child(dir.path(), "grow").output().unwrap());
    let after = fs::metadata(Lmdb::path(dir.path())).unwrap().len();
    assert!(after > before + (4 << 20), "{before} to {after}");
    let mut n_entries = 0;
    open.entries(&mut |_| {
        n_entries += 1;
        Ok(())
    })
    .unwrap();
    assert!(n_entries > 200_000, "{n_entries}");
}

#[test]
fn a_full_disk_refuses_a_message_and_keeps_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=900k none \"$DIR\"";
    if let Some(mut child) = child_with_mount(mount, dir.path(), "train-until-full") {
        let output = child.output().unwrap();
        let said = succeeded(output);
        let (held, rest) = said.split_once('<').unwrap().1.split_once(" of ").unwrap();
        let (tried, error) = rest.split_once(": ").unwrap();
        assert_eq!(held, tried);
        assert!(error.starts_with("cannot "), "{error}");
        assert!(error.contains("bmf.mdb"), "{error}");
        assert!(error.contains("No space left"), "{error}");
    }
    if let Some(mut child) = child_with_mount(mount, dir.path(), "fill-then-train") {
        let output = child.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("No space left"), "{errors}");
    }
}

#[test]
fn a_read_only_file_system_is_scored_from() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 2, 0);
    for lock in ["bmf.mdb-lock", "bmf.mdb-writer"] {
        if let Some(mut child) = child_with_mount(READ_ONLY, dir.path(), "score") {
            let output = child.output().unwrap();
            assert!(succeeded(output).contains("<2 2 0>"));
        }
        if let Some(mut child) = child_with_mount(READ_ONLY, dir.path(), "train 2 1") {
            let output = child.output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{errors}");
            assert!(errors.contains("Read-only file system"), "{errors}");
        }
        fs::remove_file(dir.path().join(lock)).unwrap();
    }
    assert_eq!(whole_messages(dir.path()), 2);
}

#[test]
fn a_reader_without_locks_sees_one_state_while_others_train() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1, 0);
    let Some(mut child) = child_with_mount(READ_ONLY, dir.path(), "score-until-killed") else {
        return;
    };
    let mut reader = child
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = reader.stdout.take().unwrap();
    let looks = thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).map(|_| said)
    });
    // Without syncs, so that as many transactions as possible pass a look.
    let options = Options {
        syncs: false,
        ..Options::default()
    };
    let mut store = Lmdb::open(dir.path(), &options).unwrap();
    for n in 1..1000 {
        learn(&mut store, n, Durability::Relaxed).unwrap();
    }
    reader.kill().unwrap();
    let said = looks.join().unwrap().unwrap();
    assert!(said.contains('+') && !said.contains('-'), "{said}");
    // Where three transactions passed one look, LMDB may have followed what
    // they wrote anywhere. That is said.
    let mut errors = String::new();
    let mut stderr = reader.stderr.take().unwrap();
    stderr.read_to_string(&mut errors).unwrap();
    assert!(
        errors.is_empty() || errors.contains("try again"),
        "{errors}"
    );
    reader.wait().unwrap();
}

#[test]
fn a_stopped_opener_keeps_no_reader_out() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1, 0);
    let opener = File::open(Lmdb::path(dir.path())).unwrap();
    opener.lock().unwrap();
    let scored = child(dir.path(), "score").output().unwrap();
    assert!(succeeded(scored).contains("<1 1 0>"));
    let output = child(dir.path(), "train-impatiently").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_foreign_database_is_scored_from() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("database");
    make(&folder, 2, 0);
    // The superuser may do all, so the child is somebody else then, who has
    // to reach the program and the folder.
    let program = dir.path().join("program");
    // By another process: what this one has open for writing is inherited by
    // the children of tests that run beside, and then cannot be executed.
    let mut copy = Command::new("cp");
    copy.arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(copy.status().unwrap().success());
    for (path, mode) in [(dir.path(), 0o755), (&program, 0o755), (&folder, 0o555)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    for file in fs::read_dir(&folder).unwrap() {
        fs::set_permissions(file.unwrap().path(), Permissions::from_mode(0o444)).unwrap();
    }
    let as_somebody_else = |command| {
        let mut child = child_of(&program, &folder, command);
        if chown(&program, Some(0), None).is_ok() {
            child.uid(65534).gid(65534);
        }
        child.output().unwrap()
    };
    assert!(succeeded(as_somebody_else("score")).contains("<2 2 0>"));
    let output = as_somebody_else("train 2 1");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("Permission denied"), "{errors}");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(folder.join("bmf.mdb-lock")).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o555)).unwrap();
    assert!(succeeded(as_somebody_else("score")).contains("<2 2 0>"));
}

#[test]
fn reading_only_makes_nothing_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let mut store = Lmdb::open(&missing, &Options::read_only()).unwrap();
    assert!(store.is_new().unwrap());
    let error = learn(&mut store, 0, Durability::Synced).unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
    assert!(!missing.exists());
}

#[test]
fn tokens_of_up_to_511_bytes_without_leading_nul() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Lmdb::open(dir.path(), &Options::default()).unwrap();
    let (longest, too_long) = ([b'a'; 511], [b'a'; 512]);
    let mut put = |token: &[u8]| {
        let entry = Entry {
            token,
            ham: Some(1),
            spam: None,
        };
        let replaced = store.replace(TrainedMessages::default(), &mut [entry].into_iter());
        replaced.map_err(|error| error.to_string())
    };
    put(&longest).unwrap();
    assert!(
        put(&too_long)
            .unwrap_err()
            .contains("longer than 511 bytes")
    );
    assert!(put(b"").unwrap_err().contains("empty"));
    assert!(put(b"\0bmf").unwrap_err().contains("NUL"));
    let mut found = Vec::new();
    store
        .entries(&mut |entry| {
            found.push(entry.token.to_vec());
            Ok(())
        })
        .unwrap();
    assert_eq!(found, [longest]);
}
