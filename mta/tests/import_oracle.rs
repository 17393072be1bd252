//! Where qmail would bring mail, by a reading of its rules that shares nothing
//! with ours, and where an imported host brings it: hosts are made at random,
//! and each address either ends at the same places or has its difference in
//! the report.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mta::accounts::{Accounts, Delivery, Resolved, resolve};
use mta::delivery::instructions::{self, Instruction};
use mta::import::apply::{Step, carry_out, missing};
use mta::import::report::{Outcome, Report};
use mta::import::source::Content;
use mta::import::{Places, Plan, plan};
use mta::smtp::Mailbox;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

type Tree = BTreeMap<PathBuf, Content>;

/// Where mail ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// In a mailbox, by its path on the old host.
    Mailbox(PathBuf),
    Program(String),
    Elsewhere(String),
    Nobody,
    /// qmail keeps it waiting.
    Waits,
}

/// A line that decided, or a whole file.
type Place = (PathBuf, Option<usize>);

/// qmail, as its documentation tells it: control files, users/assign,
/// /etc/passwd and .qmail files.
struct Qmail<'a> {
    tree: &'a Tree,
    ends: BTreeSet<End>,
    decided: BTreeSet<Place>,
    seen: BTreeSet<String>,
}

const ME: &str = "mx.example.org";

impl Qmail<'_> {
    fn lines(&self, path: &str) -> Option<Vec<(usize, String)>> {
        let bytes = &self.tree.get(Path::new(path))?.bytes;
        let text = String::from_utf8(bytes.clone()).unwrap();
        let lines = text.lines().map(str::trim_end).zip(1..);
        let said = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        Some(said.map(|(line, n)| (n, line.to_owned())).collect())
    }

    /// Of names, whose letters may be of either case.
    fn names(&self, path: &str) -> Option<Vec<(usize, String)>> {
        let lines = self.lines(path)?.into_iter();
        Some(lines.map(|(n, line)| (n, line.to_lowercase())).collect())
    }

    /// The local name of an address; `None` when it is for another host.
    fn local_name(&mut self, local_part: &str, domain: &str) -> Option<String> {
        let locals = self.names("/var/qmail/control/locals");
        let locals = locals.unwrap_or_else(|| vec![(0, ME.into())]);
        if locals.iter().any(|(_, name)| name == domain) {
            return Some(local_part.into());
        }
        let path = "/var/qmail/control/virtualdomains";
        let lines = self.names(path).unwrap_or_default();
        let mut keys = vec![format!("{local_part}@{domain}"), domain.to_owned()];
        let dots = domain.match_indices('.');
        keys.extend(dots.map(|(at, _)| domain[at..].to_owned()));
        keys.push(String::new());
        for key in keys {
            let line = lines.iter().rev().find_map(|(n, line)| {
                let (of, prepend) = line.split_once(':')?;
                (of == key).then_some((*n, prepend))
            });
            if let Some((n, prepend)) = line {
                self.decided.insert((path.into(), Some(n)));
                return (!prepend.is_empty()).then(|| format!("{prepend}-{local_part}"));
            }
        }
        None
    }

    /// Folder, dash and extension of a local name; `None` for root's.
    fn owner(&mut self, name: &str) -> Option<(String, String, String)> {
        let path = "/var/qmail/users/assign";
        let mut best: Option<(usize, usize, Vec<String>)> = None;
        for (n, line) in self.names(path).unwrap_or_default() {
            if line.starts_with('.') {
                break;
            }
            let fields: Vec<String> = line[1..].split(':').map(str::to_owned).collect();
            // An exact one counts more than any prefix.
            let weight = match line.starts_with('=') {
                true if fields[0] == name => usize::MAX,
                false if name.starts_with(&fields[0]) => fields[0].len(),
                _ => continue,
            };
            if best.as_ref().is_none_or(|(known, ..)| weight > *known) {
                best = Some((weight, n, fields));
            }
        }
        if let Some((_, n, fields)) = best {
            self.decided.insert((path.into(), Some(n)));
            let rest = name.get(fields[0].len()..).unwrap_or_default();
            let extension = format!("{}{rest}", fields[6]);
            return (fields[2] != "0").then(|| (fields[4].clone(), fields[5].clone(), extension));
        }
        let passwd = self.lines("/etc/passwd").unwrap_or_default();
        let home = |user: &str| {
            let mut lines = passwd.iter();
            let line = lines.find(|(_, line)| line.split(':').next() == Some(user))?;
            let home = line.1.split(':').nth(5).unwrap().to_owned();
            // Whose home is missing is no user.
            let is_there = self.tree.keys().any(|path| path.starts_with(&home));
            is_there.then_some(home)
        };
        if let Some(home) = home(name) {
            return Some((home, String::new(), String::new()));
        }
        for (at, _) in name.rmatch_indices('-') {
            if let Some(home) = home(&name[..at]) {
                return Some((home, "-".into(), name[at + 1..].into()));
            }
        }
        Some(("/var/qmail/alias".into(), "-".into(), name.into()))
    }

    fn bring(&mut self, address: &str) {
        let (local_part, domain) = address.rsplit_once('@').unwrap_or((address, ME));
        let address = format!("{local_part}@{domain}").to_lowercase();
        if !self.seen.insert(address.clone()) {
            return;
        }
        let (local_part, domain) = address.rsplit_once('@').unwrap();
        let Some(name) = self.local_name(local_part, domain) else {
            self.ends.insert(End::Elsewhere(address));
            return;
        };
        let Some((home, dash, extension)) = self.owner(&name) else {
            self.ends.insert(End::Waits);
            return;
        };
        let home = PathBuf::from(home);
        self.decided.insert((home.clone(), None));
        let safe = extension.replace('.', ":");
        let mut names = vec![format!(".qmail{dash}{safe}")];
        for (at, _) in safe.rmatch_indices('-') {
            names.push(format!(".qmail{dash}{}default", &safe[..=at]));
        }
        names.push(format!(".qmail{dash}default"));
        let mut paths = names.iter().map(|name| home.join(name));
        let found = paths.find(|path| self.tree.contains_key(path));
        let is_default = match &found {
            None => dash.is_empty(),
            Some(path) => self.tree[path].bytes.is_empty(),
        };
        if is_default {
            self.ends.insert(End::Mailbox(home.join("Maildir")));
        } else if found.is_none() {
            self.ends.insert(End::Nobody);
        }
        let Some(path) = found else { return };
        self.decided.insert((path.clone(), None));
        for (_, line) in self.lines(path.to_str().unwrap()).unwrap() {
            match line.as_bytes()[0] {
                b'|' => {
                    self.ends.insert(End::Program(line[1..].into()));
                }
                // Paths of this test stay below the folder.
                b'.' => {
                    let mailbox = home.join(line[2..].trim_end_matches('/'));
                    self.ends.insert(End::Mailbox(mailbox));
                }
                _ => self.bring(line.trim_start_matches('&')),
            }
        }
    }
}

/// An imported host.
struct Ours {
    plan: Plan,
    report: Report,
    accounts: Accounts,
    _dir: tempfile::TempDir,
}

impl Ours {
    fn of(tree: &Tree) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            qmail: "/var/qmail".into(),
            data: dir.path().into(),
            ..Places::default()
        };
        let plan = plan(tree, &places).unwrap();
        let accounts = mta::cli::accounts::Places::new(dir.path()).open().unwrap();
        let mut report = plan.report.clone();
        let mut steps = missing(&plan, dir.path(), Some(&accounts), &mut report).unwrap();
        // They take long, and lead nowhere.
        steps.retain(|step| !matches!(step, Step::Keys(_)));
        carry_out(&steps, dir.path(), &accounts, SystemTime::now()).unwrap();
        Self {
            plan,
            report,
            accounts,
            _dir: dir,
        }
    }

    fn bring(
        &self,
        address: &Mailbox,
        ends: &mut BTreeSet<End>,
        files: &mut BTreeSet<PathBuf>,
        seen: &mut BTreeSet<String>,
    ) {
        if !seen.insert(address.to_string().to_lowercase()) {
            return;
        }
        let plan = match resolve(address, &self.accounts).unwrap() {
            Resolved::Plan(plan) => plan,
            _ => {
                ends.insert(End::Nobody);
                return;
            }
        };
        for delivery in plan.deliveries {
            let (user, extension) = match delivery {
                Delivery::Remote(address) => {
                    let address = address.to_string().to_lowercase();
                    ends.insert(End::Elsewhere(address));
                    continue;
                }
                Delivery::Local {
                    user, extension, ..
                } => (user, extension),
            };
            let old = &self.plan.accounts.users[&user.address].home;
            let home = self.accounts.homes().home(&user.address).unwrap();
            let extension = extension.as_ref().map(|extension| &*extension.text);
            let found = instructions::find(&home, extension).unwrap();
            if let Some(found) = &found {
                let file = found.path.file_name().unwrap_or_default();
                files.insert(old.join(file));
            }
            let Some(found) = found.filter(|found| !found.text.is_empty()) else {
                ends.insert(End::Mailbox(old.join("Maildir")));
                continue;
            };
            for one in instructions::parse(&found, &user.address.domain).unwrap() {
                match one {
                    Instruction::Program(text) => {
                        ends.insert(End::Program(text));
                    }
                    Instruction::Maildir(path) | Instruction::Mbox(path) => {
                        ends.insert(End::Mailbox(old.join(path)));
                    }
                    Instruction::Forward(address) => self.bring(&address, ends, files, seen),
                }
            }
        }
    }

    /// Whether the report says that something is not as it was there: of what
    /// decided there, of a whole file that decides here, or that a catch-all gets
    /// what was refused.
    fn tells_of(
        &self,
        places: &BTreeSet<Place>,
        files: &BTreeSet<PathBuf>,
        domain: &str,
        is_refused: bool,
    ) -> bool {
        self.report.findings.iter().any(|finding| {
            let is_said = finding.outcome != Outcome::Carried;
            let catch_all = format!("as an alias of @{domain}");
            if is_said && is_refused && finding.why.starts_with(&catch_all) {
                return true;
            }
            let place = (finding.file.clone(), finding.line);
            let whole = (finding.file.clone(), None);
            let is_ours = finding.line.is_none() && files.contains(&finding.file);
            is_said && (places.contains(&place) || places.contains(&whole) || is_ours)
        })
    }
}

const VIRTUALS: &[&str] = &[
    "joe.example:joe",
    "shop.example:shop",
    "whole.example:whole",
    "Joe.example:SHOP",
    "bob@joe.example:shop",
    "x@part.example:shop",
    ".wild.example:shop",
    "out.wild.example:",
    "example.org:shop",
    "person.example:bob",
    "list.example:alias-list",
];
const ASSIGNED: &[&str] = &[
    "=bob:bob:1000:1000:/srv/bob:::",
    "=bob.x:bob:1000:1000:/srv/bob:-:x:",
    "+bob-:bob:1000:1000:/srv/bob:-::",
    "=eve:eve:1000:1000:/srv/eve:::",
    "=eve:bob:1000:1000:/srv/bob:::",
    "=Info:eve:1000:1000:/srv/eve:-:info:",
    "=admin:root:0:0:/root:::",
    "+shop-:vmail:1000:1000:/srv/shop:-::",
    "=shop-eve:eve:1000:1000:/srv/eve:::",
    "+shop-team-:vmail:1000:1000:/srv/shop:-:all-:",
    "+whole-:vmail:1000:1000:/srv/whole:::",
    "+news:eve:1000:1000:/srv/eve:::",
    "+:alias:1000:1000:/var/qmail/alias:-::",
];
const FOLDERS: &[&str] = &[
    "/srv/bob",
    "/srv/eve",
    "/srv/shop",
    "/home/joe",
    "/var/qmail/alias",
];
const FILES: &[&str] = &[
    ".qmail",
    ".qmail-x",
    ".qmail-eve",
    ".qmail-info",
    ".qmail-bob:x",
    ".qmail-team-a",
    ".qmail-all-a",
    ".qmail-team-default",
    ".qmail-list-info",
    ".qmail-default",
];
const CONTENTS: &[&str] = &[
    "",
    "./Maildir/\n",
    "./box/Maildir/\n",
    "./mbox\n",
    "./other/\n",
    "&x@remote.example\n",
    "&bob\n",
    "eve@example.org\n./Maildir/\n",
    "&info@shop.example\n&y@remote.example\n",
    "|program\n",
    "# nobody\n",
];
const LOCAL_PARTS: &[&str] = &[
    "bob",
    "Bob.X",
    "bob-x",
    "bob-none",
    "eve",
    "info",
    "joe",
    "joe-x",
    "joe-team-b",
    "x",
    "nobody",
    "admin",
    "news",
    "news5",
    "team-a",
    "team-b",
    "list-info",
];
const DOMAINS: &[&str] = &[
    ME,
    "example.org",
    "joe.example",
    "shop.example",
    "whole.example",
    "part.example",
    "a.wild.example",
    "out.wild.example",
    "person.example",
    "list.example",
    "remote.example",
];

/// Files of a host, with what stands in them.
fn hosts() -> impl Strategy<Value = BTreeMap<String, String>> {
    let locals = prop::option::of(subsequence(vec![ME, "example.org"], 0..=2));
    let received = prop::option::of(subsequence(DOMAINS.to_vec(), 0..=DOMAINS.len()));
    let lines = |all: &'static [&str]| subsequence(all, 0..=all.len()).prop_shuffle();
    let files: Vec<_> = FOLDERS
        .iter()
        .flat_map(|folder| FILES.iter().map(move |file| format!("{folder}/{file}")))
        .collect();
    let files = subsequence(files, 0..30).prop_flat_map(|paths| {
        let contents = prop::collection::vec(prop::sample::select(CONTENTS), paths.len());
        contents.prop_map(move |contents| {
            let contents = contents.into_iter().map(str::to_owned);
            paths.clone().into_iter().zip(contents).collect::<Vec<_>>()
        })
    });
    let all = (locals, received, lines(VIRTUALS), lines(ASSIGNED), files);
    all.prop_map(|(locals, received, virtuals, assigned, mut files)| {
        let mut add = |path: &str, text: String| files.push((path.to_owned(), text));
        let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect();
        let control = |name: &str| format!("/var/qmail/control/{name}");
        add(&control("me"), format!("{ME}\n"));
        add(&control("defaultdelivery"), "./Maildir/\n".into());
        if let Some(locals) = locals {
            add(&control("locals"), text(&locals));
        }
        if let Some(received) = received {
            add(&control("rcpthosts"), text(&received));
        }
        add(&control("virtualdomains"), text(&virtuals));
        let assigned: String = text(&assigned);
        add("/var/qmail/users/assign", assigned + ".\n");
        let joe = "joe:x:1000:1000::/home/joe:/bin/sh\n";
        add("/etc/passwd", joe.into());
        files.into_iter().collect()
    })
}

fn tree(files: &BTreeMap<String, String>) -> Tree {
    let content = |text: &String| Content {
        bytes: text.clone().into(),
        mode: 0o644,
    };
    let files = files.iter();
    files
        .map(|(path, text)| (path.into(), content(text)))
        .collect()
}

/// Whether mail of a virtual domain goes by this name inside: those are no
/// addresses here, as docs/moving-in.md says, unless a user of the system has
/// them as extensions.
fn is_inside(files: &BTreeMap<String, String>, local_part: &str, domain: &str) -> bool {
    let mut virtuals = files["/var/qmail/control/virtualdomains"].lines();
    [ME, "example.org"].contains(&domain)
        && virtuals.any(|line| {
            let (_, prepend) = line.split_once(':').unwrap();
            let begin = format!("{}-", prepend.to_lowercase());
            begin.len() > 1 && begin != "joe-" && local_part.to_lowercase().starts_with(&begin)
        })
}

/// What is refused beside what is delivered goes back to the sender, which
/// changes nothing for the others.
fn without_dead(mut ends: BTreeSet<End>) -> BTreeSet<End> {
    if ends.len() > 1 {
        ends.remove(&End::Nobody);
    }
    ends
}

#[test]
fn mail_ends_where_qmail_would_bring_it_or_the_report_says_why() {
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // The same each time; `IMPORT_SEED=any` looks at others.
    let mut seed = std::env::var("IMPORT_SEED")
        .unwrap_or_default()
        .into_bytes();
    seed.resize(32, 0);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let (same, told) = (Cell::new(0), Cell::new(0));
    let tried = runner.run(&hosts(), |files| {
        let tree = tree(&files);
        let ours = Ours::of(&tree);
        for domain in DOMAINS {
            for local_part in LOCAL_PARTS {
                let address = format!("{local_part}@{domain}");
                if is_inside(&files, local_part, domain) {
                    continue;
                }
                let mut qmail = Qmail {
                    tree: &tree,
                    ends: BTreeSet::new(),
                    decided: BTreeSet::new(),
                    seen: BTreeSet::new(),
                };
                qmail.bring(&address);
                let expected = without_dead(qmail.ends);
                let mut ends = BTreeSet::new();
                let mailbox = Mailbox::parse(address.as_bytes()).unwrap();
                let mut here = BTreeSet::new();
                ours.bring(&mailbox, &mut ends, &mut here, &mut BTreeSet::new());
                let found = without_dead(ends);
                if found == expected {
                    same.set(same.get() + 1);
                    continue;
                }
                told.set(told.get() + 1);
                let is_refused = expected.contains(&End::Nobody);
                prop_assert!(
                    ours.tells_of(&qmail.decided, &here, domain, is_refused),
                    "{address}: {found:?}, qmail: {expected:?} by {:?}\n{:?}\n{files:#?}",
                    qmail.decided,
                    ours.plan.accounts.aliases
                );
            }
        }
        Ok(())
    });
    if let Err(error) = tried {
        panic!("{error}");
    }
    let (same, told) = (same.get(), told.get());
    println!("{same} addresses as qmail has them, {told} told");
    assert!(told * 3 < same, "{told} of {same} differ");
}
