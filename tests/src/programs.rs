//! Where the programs are: ours under `target/release`, peers under
//! `target/peers`, corpora under `target/corpora`.
//!
//! A missing program fails the test that asks for it, with the command that
//! gets it. Only the corpora may be missing, since few people have them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Our program of this name, as `make build` left it.
///
/// `CARGO_BIN_EXE_*` exists only for programs of the same package, so the
/// folder is found from who asks: a test, `target/release/deps/<test>`, or a
/// program, which lies beside.
pub fn built(name: &str) -> PathBuf {
    let asking = env::current_exe().unwrap();
    let mut folders = asking.ancestors().skip(1).take(2);
    folders
        .find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()))
        .unwrap_or_else(|| panic!("{name} is not built; run `make build`"))
}

/// A command for the peer program of this name, which finds its libraries.
pub fn peer(name: &str) -> Command {
    peer_in("usr/bin", name)
}

/// A command for the peer program of this name that administrators call.
pub fn peer_in_sbin(name: &str) -> Command {
    peer_in("usr/sbin", name)
}

/// A library among the peers, by its path in Debian's folder for libraries.
pub fn peer_library(name: &str) -> PathBuf {
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    let library = peers_root().join("usr/lib").join(triplet).join(name);
    assert!(
        library.is_file(),
        "no {}; run `make peers`, or set POSTERN_PEERS",
        library.display()
    );
    library
}

/// Python with the modules that lie among the peers.
pub fn python() -> Command {
    let root = peers_root();
    let modules = root.join("usr/lib/python3/dist-packages");
    assert!(
        modules.join("dkim").is_dir(),
        "no dkim in {}; run `make peers`, or set POSTERN_PEERS",
        modules.display()
    );
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", modules)
        .env("LD_LIBRARY_PATH", peer_libraries(&root));
    command
}

fn peer_in(folder: &str, name: &str) -> Command {
    let root = peers_root();
    let program = root.join(folder).join(name);
    assert!(
        program.is_file(),
        "no {name} in {}; run `make peers`, or set POSTERN_PEERS to a folder with {folder}/{name}",
        root.display()
    );
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", peer_libraries(&root));
    command
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The unpacked corpus of this name; `None`, and a note on standard error,
/// where it is not there.
pub fn corpus(name: &str) -> Option<PathBuf> {
    let folder = repository().join("target/corpora").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "skipped: no corpus {name}; set POSTERN_CORPORA to the folder with {name}.tar.xz and run `make test`"
    );
    None
}

/// The folder that stands for `/` of the peers.
pub(crate) fn peers_root() -> PathBuf {
    match env::var_os("POSTERN_PEERS") {
        Some(root) => root.into(),
        None => repository().join("target/peers/root"),
    }
}

/// Debian's folders for libraries below `root`, whatever the machine.
fn peer_libraries(root: &Path) -> String {
    let usr_lib = root.join("usr/lib");
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    // courier-authlib, which maildrop needs, lies in `usr/lib` itself, and
    // Postfix keeps its own.
    [
        usr_lib.join(&triplet),
        root.join("lib").join(&triplet),
        usr_lib.join("postfix"),
        usr_lib,
    ]
    .map(|folder| folder.display().to_string())
    .join(":")
}
