//! qmail's `users` and `control` folders.
//!
//! All our domains are virtual there: `example.org:example.org` turns
//! anna@example.org into the local name `example.org-anna`, which is assigned
//! to her folder. Aliases are `.qmail` files in a folder of ours.

use std::path::{Path, PathBuf};

use super::{Kind, Known, Plan, cdb};
use crate::Error;
use crate::accounts::Address;
use crate::remote::Route;

/// One line of `assign`.
struct Assignment {
    /// A local name, or how local names begin.
    key: String,
    is_prefix: bool,
    user: String,
    home: PathBuf,
    dash: &'static str,
    extension: String,
}

/// `assign` and `cdb` in `folder`.
pub(super) fn users(known: &Known, folder: &Path, plan: &mut Plan) -> Result<(), Error> {
    let aliases = known.data.join("published");
    let mut all = Vec::new();
    for (address, targets) in &known.aliases {
        let local = local(address);
        // qmail-local looks for a file in lower case, with colons for dots.
        let file = match address.is_catch_all() {
            true => format!(".qmail-{local}default"),
            false => format!(".qmail-{local}"),
        };
        let lines: String = targets
            .iter()
            .map(|to| instruction(known, address, to))
            .collect();
        plan.add(
            aliases.join(file.replace('.', ":").replacen(':', ".", 1)),
            Kind::Open,
            lines,
        );
        all.push(Assignment {
            key: local.clone(),
            is_prefix: address.is_catch_all(),
            user: "alias".into(),
            home: aliases.clone(),
            dash: "-",
            extension: local,
        });
    }
    for user in &known.users {
        let address = &user.address;
        let local = local(address);
        // A `+` before an extension stands in no name of a file: what is
        // not found there is delivered as without it.
        for (key, is_prefix, dash) in [
            (local.clone(), false, ""),
            (format!("{local}-"), true, "-"),
            (format!("{local}+"), true, ""),
        ] {
            all.push(Assignment {
                key,
                is_prefix,
                user: address.local_part.clone(),
                home: known.home(address),
                dash,
                extension: String::new(),
            });
        }
    }
    plan.only = Some(aliases);
    let mut text = String::new();
    let mut records = Vec::new();
    let mut ends: Vec<u8> = Vec::new();
    for one in &all {
        let (uid, gid) = (known.uid.to_string(), known.gid.to_string());
        let home = one.home.display().to_string();
        let fields = [&*one.user, &uid, &gid, &home, one.dash, &*one.extension];
        let mark = if one.is_prefix { '+' } else { '=' };
        text.push_str(&format!("{mark}{}:{}:\n", one.key, fields.join(":")));
        let mut key = format!("!{}", one.key).into_bytes();
        match (one.is_prefix, one.key.as_bytes().last()) {
            (true, Some(last)) if !ends.contains(last) => ends.push(*last),
            (true, _) => {}
            (false, _) => key.push(0),
        }
        records.push((key, fields.join("\0").into_bytes()));
    }
    text.push_str(".\n");
    // The characters with which prefixes end: qmail looks for no others.
    records.push((Vec::new(), ends));
    let cdb = cdb::write(&records).ok_or_else(|| {
        let reason = std::io::Error::other("a cdb holds 4 GiB");
        Error::io("publish to", folder)(reason)
    })?;
    plan.add(folder.join("assign"), Kind::Open, text);
    plan.add(folder.join("cdb"), Kind::Binary, cdb);
    Ok(())
}

/// `locals`, `rcpthosts`, `virtualdomains` and `smtproutes` in `folder`.
pub(super) fn control(known: &Known, routes: &[Route], folder: &Path, plan: &mut Plan) {
    let lines = |line: fn(&String) -> String| known.domains.iter().map(line).collect::<String>();
    // There and empty: no domain is local.
    plan.add(folder.join("locals"), Kind::Open, "");
    plan.add(
        folder.join("rcpthosts"),
        Kind::Open,
        lines(|name| format!("{name}\n")),
    );
    let domains = lines(|name| format!("{name}:{name}\n"));
    plan.add(folder.join("virtualdomains"), Kind::Open, domains);
    let mut text = String::new();
    for route in routes {
        if route.credentials.is_some() {
            plan.problems.push(format!(
                "the route for {} needs a password, which smtproutes cannot hold: qmail-remote has no route \
                 for it",
                route.domain
            ));
            continue;
        }
        let domain = if route.domain == "*" {
            ""
        } else {
            &route.domain
        };
        // An empty relay is by MX.
        text.push_str(&match &route.host {
            Some(host) => format!("{domain}:{host}:{}\n", route.port),
            None => format!("{domain}:\n"),
        });
    }
    plan.add(folder.join("smtproutes"), Kind::Open, text);
}

/// What qmail calls it: `example.org-anna`; `example.org-` for all others.
fn local(address: &Address) -> String {
    format!("{}-{}", address.domain, address.local_part)
}

/// A line for one target of an alias. One that names itself beside others
/// means the user of that name.
fn instruction(known: &Known, alias: &Address, target: &str) -> String {
    if Address::parse(target).is_ok_and(|target| target == *alias) {
        return format!("{}/Maildir/\n", known.home(alias).display());
    }
    format!("&{target}\n")
}
