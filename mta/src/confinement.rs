//! Landlock: what a thread, and the programs that it starts, can still do.
//!
//! All mail of a host is one system user's, so that file modes keep nobody's
//! program from another's mail. The kernel does, where it knows Landlock
//! (Linux 5.19, since earlier ones forbid every rename with it): a thread gives
//! rights up for good, and what it starts never had them.
//!
//! Deliberately absent: seccomp. Programs of users may be anything, and the
//! server's system calls are kept by systemd's unit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// Rights that are known here. Kernels that know fewer keep to those.
const KNOWN: ABI = ABI::V5;

/// From now on this thread and what it starts see nothing at and below
/// `hidden`, but `own`; and signals reach nobody outside. Folders above hidden
/// ones can be passed through and not listed. Whether the kernel keeps to it.
///
/// # Errors
/// When a folder cannot be found, or the kernel refuses.
pub fn hide(hidden: &[&Path], own: &Path) -> io::Result<bool> {
    let hidden: io::Result<Vec<PathBuf>> = hidden.iter().map(|path| path.canonicalize()).collect();
    let hidden = hidden?;
    let mut seen = vec![own.canonicalize()?];
    beside(Path::new("/"), &hidden, &mut seen);
    let all = AccessFs::from_all(KNOWN);
    let confine = || {
        let ruleset = renaming()?
            .handle_access(all)?
            .scope(Scope::Signal)?
            .create()?
            .add_rules(path_beneath_rules(&seen, all))?;
        ruleset.restrict_self()
    };
    is_kept(confine().map(|status| status.ruleset))
}

/// From now on this thread and what it starts write at and below `writable`
/// only, and listen at no further port. Whether the kernel keeps to it.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_writes_to(writable: &[PathBuf]) -> io::Result<bool> {
    let writing = AccessFs::from_write(KNOWN);
    let confine = || {
        let ruleset = renaming()?
            .handle_access(writing)?
            .handle_access(AccessNet::BindTcp)?
            .create()?
            .add_rules(path_beneath_rules(writable, writing))?;
        ruleset.restrict_self()
    };
    is_kept(confine().map(|status| status.ruleset))
}

/// Without this right nothing can be moved from one folder to another, and
/// then it is better not to begin.
fn renaming() -> Result<Ruleset, RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::SoftRequirement);
    let ruleset = ruleset.handle_access(AccessFs::Refer)?;
    Ok(ruleset.set_compatibility(CompatLevel::BestEffort))
}

fn is_kept(status: Result<RulesetStatus, RulesetError>) -> io::Result<bool> {
    let status = status.map_err(io::Error::other)?;
    Ok(status != RulesetStatus::NotEnforced)
}

/// Everything that is neither hidden nor above it. Links are left out: what
/// they lead to is there by its own name, or hidden.
fn beside(folder: &Path, hidden: &[PathBuf], seen: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if hidden.contains(&path) || entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            continue;
        }
        match hidden.iter().any(|one| one.starts_with(&path)) {
            true => beside(&path, hidden, seen),
            false => seen.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["data/mail", "data/queue", "lib/a", "lib/mail/x", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("data"), root.join("link")).unwrap();
        let hidden = [root.join("data"), root.join("lib/mail")];
        let mut seen = Vec::new();
        beside(root, &hidden, &mut seen);
        seen.sort();
        assert_eq!(seen, [root.join("etc"), root.join("lib/a")]);
    }
}
