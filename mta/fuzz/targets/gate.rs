//! What the gate reads from outside: rules with what clients say, what plugins
//! print, their table, and reverse names. Nothing panics, nothing takes long,
//! and no text becomes another reply.
#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../src/gate/plugins/command.rs"]
mod command;
#[path = "../../src/gate/decision.rs"]
mod decision;
#[path = "../../src/handover.rs"]
mod handover;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/config/network.rs"]
mod network;
#[path = "../../src/gate/reverse.rs"]
mod reverse;
#[path = "../../src/gate/rules/mod.rs"]
mod rules;
#[path = "../../src/smtp/mod.rs"]
mod smtp;
#[path = "../../src/gate/plugins/table.rs"]
mod table;

mod config {
    pub(crate) use crate::network;
}

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Rules, a blank line, and what a client says.
    let text = String::from_utf8_lossy(bytes);
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = rest.lines();
    let mut next = || lines.next().unwrap_or_default();
    let address: IpAddr = next().parse().unwrap_or(IpAddr::from([192, 0, 2, 7]));
    let (name, helo, sender, recipient) = (next(), next(), next(), next());
    if let Ok(rules) = rules::Rules::parse(first) {
        let subject = rules::Subject {
            address,
            names: &[(name, true), (helo, false)],
            helo,
            sender,
            recipients: &[recipient, sender],
        };
        let ruled = rules.ask(&subject);
        if rules.settles(address) {
            assert!(ruled.decides.is_some());
        }
        if let Some((_, line, field)) = rules.refuse_header(&subject, rest.as_bytes()) {
            assert!(line > 0 && !field.contains('\n'));
        }
    }
    reverse::holds(name, address);
    let table = table::Table::parse(first);
    for event in [table::Event::Connection, table::Event::Rcpt] {
        assert!(table.of(event).all(|plugin| !plugin.name().contains('\n')));
    }
    for command in command::commands(bytes) {
        if let command::Command::Refuse(said) | command::Command::Reject(said) = &command {
            let reply = command::reply(&["550-x".into(), said.clone()], said);
            assert!(!reply.code.is_positive() && !reply.code.is_intermediate());
            let mut out = Vec::new();
            reply.write(&mut out);
            let code = format!("{}", reply.code);
            let lines = out.split_inclusive(|b| *b == b'\n');
            lines.for_each(|line| assert!(line.starts_with(code.as_bytes()) && line.ends_with(b"\r\n")));
        }
        if let command::Command::Header(line) = &command {
            assert!(!line.contains(['\r', '\n', '\0']));
        }
    }
});
