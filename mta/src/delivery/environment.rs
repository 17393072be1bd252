//! What programs of `.qmail` files find in their environment:
//! qmail-command(8). The values come from the network and stand in no command.

use std::path::Path;

use super::content::{delivered_to, return_path};
use super::local::Job;
use super::mbox::from_line;

/// The variables of a delivery; `default` is what `.qmail-default` stands
/// for, `new_sender` the sender of what is forwarded.
pub(super) fn of(
    job: &Job<'_>,
    home: &Path,
    default: Option<&str>,
    new_sender: &str,
) -> Vec<(&'static str, String)> {
    let extension = job
        .extension
        .map_or("", |extension| extension.text.as_str());
    let host = job.address.domain.to_string();
    let after = |n: usize| extension.splitn(n + 1, '-').nth(n).unwrap_or("").to_owned();
    let before = |n: usize| {
        let mut parts = host.rsplitn(n + 1, '.');
        parts.nth(n).unwrap_or("").to_owned()
    };
    let mut all = vec![
        ("SENDER", job.reverse_path.to_string()),
        ("NEWSENDER", new_sender.to_owned()),
        ("RECIPIENT", job.address.to_string()),
        ("LOCAL", job.address.local_part.as_str().to_owned()),
        ("HOST", host.clone()),
        ("HOST2", before(1)),
        ("HOST3", before(2)),
        ("HOST4", before(3)),
        ("USER", job.user.address.local_part.clone()),
        ("HOME", home.display().to_string()),
        ("EXT", extension.to_owned()),
        ("EXT2", after(1)),
        ("EXT3", after(2)),
        ("EXT4", after(3)),
        ("DTLINE", delivered_to(job.address)),
        ("RPLINE", return_path(job.reverse_path)),
        ("UFLINE", from_line(job.reverse_path, job.now)),
    ];
    all.extend(default.map(|default| ("DEFAULT", default.to_owned())));
    // A value with NUL could not be passed on, and none has one.
    all.retain(|(_, value)| !value.contains('\0'));
    all
}
