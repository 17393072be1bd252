//! `postern publish`: the accounts as files of other programs.

use std::io::{self, Write};

use anyhow::{Context, ensure};

use crate::accounts::Accounts;
use crate::config::Config;
use crate::publish;

/// Writes them, or prints what would change; the exit code is 1 when something
/// cannot be published.
///
/// # Errors
/// With the reason.
pub fn run(config: &Config, dry_run: bool, out: &mut dyn Write) -> anyhow::Result<i32> {
    ensure!(
        !config.publish.is_empty(),
        "nothing is published; [publish] in the configuration says what could be"
    );
    let accounts = open(config)?;
    let problems = if dry_run {
        let routes = &config.remote.routes;
        let plan = publish::plan(&config.publish, &accounts, routes, &config.data)?;
        for line in plan.differences()? {
            writeln!(out, "{line}")?;
        }
        plan.problems
    } else {
        let published = publish::publish(config, &accounts)?;
        for path in published.changed {
            writeln!(out, "{}", path.display())?;
        }
        published.problems
    };
    tell(&problems);
    Ok(i32::from(!problems.is_empty()))
}

/// Does `change` of the accounts, and publishes them afterwards, if `config` is
/// given and says so. Of what cannot be published only what is new is told, and
/// what is about the user in question.
///
/// # Errors
/// Those of `change`; with the reason, when it is done and is not published.
pub(super) fn changing(
    config: Option<&Config>,
    about: Option<String>,
    change: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(config) = config.filter(|config| !config.publish.is_empty()) else {
        return change();
    };
    let plan = open(config).and_then(|accounts| {
        let routes = &config.remote.routes;
        let plan = publish::plan(&config.publish, &accounts, routes, &config.data)?;
        Ok(plan.problems)
    });
    let known = plan.unwrap_or_default();
    change()?;
    let published = open(config)
        .and_then(|accounts| Ok(publish::publish(config, &accounts)?))
        .context("it is done, but could not be published (`postern publish` tries again)")?;
    let is_about = |problem: &String| about.as_ref().is_some_and(|name| problem.contains(name));
    let mut problems = published.problems;
    problems.retain(|problem| !known.contains(problem) || is_about(problem));
    tell(&problems);
    Ok(())
}

fn open(config: &Config) -> anyhow::Result<Accounts> {
    Ok(Accounts::of_host(&config.data)?)
}

fn tell(problems: &[String]) {
    for problem in problems {
        let _ = writeln!(io::stderr(), "postern: {problem}");
    }
}
