//! An IMAP client, as small as the tests of real servers need it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A session with a server that runs alone, as for a tunnel; it ends with the
/// value.
#[derive(Debug)]
pub struct Imap {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    n_commands: u32,
}

impl Imap {
    /// With what `command` starts, which knows already who it is.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut imap = Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            n_commands: 0,
        };
        // Courier says first what it thinks of its caller.
        while !imap.line("the greeting").starts_with("* PREAUTH") {}
        imap
    }

    fn line(&mut self, awaited: &str) -> String {
        let mut line = String::new();
        let n = self.output.read_line(&mut line).unwrap();
        assert!(n > 0, "closed before {awaited}");
        line.trim_end().to_owned()
    }

    /// Does what must succeed, and gives the lines that came.
    pub fn done(&mut self, command: &str) -> Vec<String> {
        let (result, lines) = self.command(command);
        assert!(result.starts_with("OK"), "{command}: {result} {lines:?}");
        lines
    }

    /// What a command came to, and the lines before.
    pub fn command(&mut self, command: &str) -> (String, Vec<String>) {
        self.n_commands += 1;
        let tag = format!("a{} ", self.n_commands);
        write!(self.input, "{tag}{command}\r\n").unwrap();
        let mut lines = Vec::new();
        loop {
            let line = self.line(command);
            match line.strip_prefix(&tag) {
                Some(result) => return (result.to_owned(), lines),
                None => lines.push(line),
            }
        }
    }

    /// Deletes from the folder that is selected.
    pub fn delete(&mut self, uids: &str) {
        self.done(&format!("UID STORE {uids} +FLAGS.SILENT (\\Deleted)"));
        self.done("EXPUNGE");
    }

    /// The UIDs in a folder, which is then selected, by the numbers in the
    /// subjects `number N`. None where there is no such folder.
    pub fn select(&mut self, folder: &str) -> BTreeMap<u32, String> {
        if !self
            .command(&format!("SELECT {folder}"))
            .0
            .starts_with("OK")
        {
            return BTreeMap::new();
        }
        let messages = self.fetch("").into_iter();
        messages.map(|(n, (uid, _))| (n, uid)).collect()
    }

    /// Of each message in the folder that is selected its UID and the
    /// attributes `what`.
    pub fn fetch(&mut self, what: &str) -> BTreeMap<u32, (String, String)> {
        let fetch = format!("UID FETCH 1:* ({what} BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
        let mut messages = BTreeMap::new();
        let mut message = (String::new(), String::new());
        for line in self.command(&fetch).1 {
            if let Some((_, rest)) = line.split_once("(UID ") {
                let (attributes, _) = rest.split_once(" BODY[").unwrap();
                let (uid, attributes) = attributes.split_once(' ').unwrap_or((attributes, ""));
                message = (uid.to_owned(), attributes.to_owned());
            } else if let Some(n) = line.strip_prefix("Subject: number ") {
                messages.insert(n.parse().unwrap(), message.clone());
            }
        }
        messages
    }
}

impl Drop for Imap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
