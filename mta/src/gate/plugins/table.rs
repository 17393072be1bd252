//! The table of plugins: which run when.

/// Plugins by event, in the order in which they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    plugins: Vec<(Event, Plugin)>,
    /// What is passed over, for the log.
    pub warnings: Vec<String>,
}

/// When plugins run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client has connected.
    Connection,
    /// It has named itself.
    Helo,
    /// It has named a sender.
    Mail,
    /// It has named a recipient.
    Rcpt,
    /// It has sent the message.
    Data,
}

/// How a plugin is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// A program without arguments.
    Program(String),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

impl Table {
    /// Reads `[section]`s with a plugin a line. What qmail-spp would pass over
    /// is passed over, with a warning.
    pub fn parse(text: &str) -> Self {
        let mut table = Self::default();
        let mut section = Err("stands before the first section".to_owned());
        for (n, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                section = event(name);
                if let Err(reason) = &section {
                    table.warnings.push(format!("{}: {line} {reason}", n + 1));
                }
                continue;
            }
            let plugin = match line.strip_prefix(':') {
                Some(command) => Plugin::Shell(command.to_owned()),
                None => Plugin::Program(line.to_owned()),
            };
            match &section {
                Ok(event) => table.plugins.push((*event, plugin)),
                Err(reason) => table.warnings.push(format!("{}: {line} {reason}", n + 1)),
            }
        }
        table
    }

    /// Those of an event.
    pub fn of(&self, event: Event) -> impl Iterator<Item = &Plugin> {
        let of_event = self.plugins.iter().filter(move |(of, _)| *of == event);
        of_event.map(|(_, plugin)| plugin)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }
}

/// Only the first letter counts.
fn event(name: &str) -> Result<Event, String> {
    match name.chars().next() {
        Some('c') => Ok(Event::Connection),
        Some('h') => Ok(Event::Helo),
        Some('m') => Ok(Event::Mail),
        Some('r') => Ok(Event::Rcpt),
        Some('d') => Ok(Event::Data),
        Some('a') => Err("is not run: who logs in passes the gate".into()),
        _ => Err("is no section that is run".into()),
    }
}

impl Plugin {
    /// As it stands in the table.
    pub fn name(&self) -> &str {
        match self {
            Self::Program(name) | Self::Shell(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_qmail_spp_reads_it() {
        let table = Table::parse(
            "early\n[connection]\n# none\n\n[hello there]\n:plugins/badhelo x | cat  \n[rcpt]\n\
             plugins/one\n[auth]\nplugins/log\n[rcpt]\nplugins/two\n",
        );
        let names = |event| {
            table
                .of(event)
                .map(Plugin::name)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names(Event::Connection), "");
        assert_eq!(names(Event::Rcpt), "plugins/one plugins/two");
        let helo = Plugin::Shell("plugins/badhelo x | cat".into());
        assert_eq!(table.of(Event::Helo).collect::<Vec<_>>(), [&helo]);
        let lines: Vec<&str> = table.warnings.iter().map(|line| &line[..2]).collect();
        assert_eq!(lines, ["1:", "9:", "10"]);
    }
}
