//! Keys of our configuration, to be set in its file.

use toml::{Table, Value};

/// What the configuration is to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Section, "" for none, key and value.
    pub keys: Vec<(&'static str, &'static str, Value)>,
    /// `[[route]]`.
    pub routes: Vec<Table>,
    /// `[[gate.dns_list]]`.
    pub dns_lists: Vec<Table>,
}

/// Where tables of lists stand in the commented file: before this line.
const LISTS: [(&str, &str); 2] = [("[[route]]", "[filter]"), ("[[gate.dns_list]]", "[tls]")];

impl Settings {
    /// Sets a key; what is said twice counts as it is said first.
    pub fn set(&mut self, section: &'static str, key: &'static str, value: impl Into<Value>) {
        if self.value(section, key).is_none() {
            self.keys.push((section, key, value.into()));
        }
    }

    /// What a key is set to.
    pub fn value(&self, section: &str, key: &str) -> Option<&Value> {
        let mut keys = self.keys.iter();
        keys.find(|(of, name, _)| (*of, *name) == (section, key))
            .map(|(.., value)| value)
    }

    /// The commented configuration `sample` with all this in it.
    pub fn in_sample(&self, sample: &str) -> String {
        let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
        for (section, key, value) in &self.keys {
            let said = format!("{key} = {value}");
            match find(&lines, section, key) {
                Some(at) => lines[at] = said,
                None => {
                    let header = format!("[{section}]");
                    let at = lines.iter().position(|line| *line == header);
                    lines.insert(at.map_or(0, |at| at + 1), said);
                }
            }
        }
        for ((header, before), tables) in LISTS.iter().zip([&self.routes, &self.dns_lists]) {
            let text: Vec<String> = tables
                .iter()
                .map(|table| format!("{header}\n{table}"))
                .collect();
            if text.is_empty() {
                continue;
            }
            // Before the comment that belongs to the section.
            let at = lines.iter().position(|line| line == before);
            let mut at = at.unwrap_or(lines.len());
            while at > 0 && lines[at - 1].starts_with('#') && !lines[at - 1].starts_with("#:") {
                at -= 1;
            }
            lines.insert(at, text.join("\n"));
        }
        lines.join("\n") + "\n"
    }

    /// What the configuration `text` does not say, each as it should stand
    /// there.
    pub fn missing_in(&self, text: &str) -> Vec<String> {
        let table: Table = text.parse().unwrap_or_default();
        let inner = |name: &str| table.get(name).and_then(Value::as_table);
        let mut missing = Vec::new();
        for (section, key, value) in &self.keys {
            let found = match *section {
                "" => table.get(*key),
                section => inner(section).and_then(|inner| inner.get(*key)),
            };
            if found != Some(value) {
                let of = match *section {
                    "" => String::new(),
                    section => format!("[{section}] "),
                };
                missing.push(format!("{of}{key} = {value}"));
            }
        }
        let routes = table.get("route");
        let dns_lists = inner("gate").and_then(|gate| gate.get("dns_list"));
        let wanted = [(&self.routes, routes), (&self.dns_lists, dns_lists)];
        for ((header, _), (wanted, found)) in LISTS.iter().zip(wanted) {
            let found = found.and_then(Value::as_array);
            let has =
                |table: &Table| found.is_some_and(|all| all.contains(&Value::Table(table.clone())));
            for table in wanted.iter().filter(|table| !has(table)) {
                let text = table.to_string();
                missing.push(format!("{header} {}", text.trim_end().replace('\n', ", ")));
            }
        }
        missing
    }
}

/// The line of a key in its section, set or as an example.
fn find(lines: &[String], section: &str, key: &str) -> Option<usize> {
    let mut within = "";
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("[[") {
            within = "[[";
        } else if let Some(name) = line.strip_prefix('[') {
            within = name.trim_end_matches(']');
        }
        let said = line.strip_prefix("#: ").unwrap_or(line);
        let is_key = said
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(" = "));
        if within == section && is_key {
            return Some(at);
        }
    }
    None
}
