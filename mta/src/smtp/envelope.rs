//! What is known of a message besides its content.

use std::net::SocketAddr;

use super::address::{ForwardPath, ReversePath};

/// One mail transaction: RFC 5321 §2.3.1, with the parameters of extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who gets reports.
    pub reverse_path: ReversePath,
    /// How many octets it will have, as the client says (RFC 1870 §6); 0 where
    /// it does not.
    pub size: u64,
    /// Those that were accepted, in the order of RCPT, perhaps one twice.
    /// Never empty when it is committed.
    pub recipients: Vec<Recipient>,
    /// What its lines hold: RFC 6152.
    pub body: Body,
    /// Whether addresses and header fields may be UTF-8: RFC 6531.
    pub smtputf8: bool,
    /// How much of the message a report gives back: RFC 3461 §4.3.
    pub ret: Option<Return>,
    /// What the sender calls this transaction, xtext decoded: RFC 3461 §4.4.
    pub envid: Option<String>,
    /// Who sent it.
    pub client: Client,
    /// What the gate found, a line each, for the story of the message.
    pub gate: Vec<String>,
}

/// One recipient of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where the message goes.
    pub forward_path: ForwardPath,
    /// When reports are wanted: RFC 3461 §4.1. `None` stands for the default,
    /// on failure and perhaps on delay.
    pub notify: Option<Notify>,
    /// The recipient that the sender named, `rfc822;anna@example.org`, xtext
    /// decoded: RFC 3461 §4.2.
    pub orcpt: Option<String>,
}

/// Whoever speaks to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; `None` for programs on this machine (`postern sendmail`)
    /// and Unix sockets.
    pub peer: Option<SocketAddr>,
    /// What it calls itself in HELO, EHLO or LHLO: printable ASCII, which may
    /// be anything.
    pub helo: Option<String>,
    /// How it speaks; for the trace field.
    pub protocol: Protocol,
    /// The TLS of its connection.
    pub tls: Option<Tls>,
    /// The account that has logged in.
    pub account: Option<String>,
    /// Whether it may send to other people's domains.
    pub may_relay: bool,
}

/// `BODY=` of MAIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// ASCII; also when nothing was said.
    #[default]
    SevenBit,
    /// 8BITMIME: RFC 6152.
    EightBitMime,
}

/// `RET=` of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// The whole message.
    Full,
    /// Its header section.
    Headers,
}

/// `NOTIFY=` of RCPT; all false is NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// When it has arrived.
    pub success: bool,
    /// When it will not arrive.
    pub failure: bool,
    /// When it takes long.
    pub delay: bool,
}

/// The `with` of a trace field: RFC 3848 and RFC 6531 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HELO.
    Smtp,
    /// EHLO.
    Esmtp,
    /// LHLO: RFC 2033.
    Lmtp,
    /// A program on this machine.
    Local,
}

/// What TLS was agreed upon, for the trace field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// What both ends know of this connection and nobody else can
    /// (`tls-exporter`, RFC 9266); with TLS 1.3.
    pub exporter: Option<[u8; 32]>,
}

impl Envelope {
    /// Whether each recipient is answered for itself (RFC 2033 §4.2).
    pub fn is_lmtp(&self) -> bool {
        self.client.protocol == Protocol::Lmtp
    }
}
