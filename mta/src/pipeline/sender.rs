//! As whom an account may send: as every address whose mail it gets.

use mail_parser::{HeaderName, HeaderValue, MessageParser};

use super::{Inner, refusal, trouble};
use crate::Error;
use crate::accounts::{Address, Delivery, Directory, Resolved, local, resolve};
use crate::delivery::content::header_section;
use crate::handover::Refusal;
use crate::smtp::{Mailbox, Reply, ReversePath};

impl Inner {
    /// Whether `account` may get the reports of what it sends.
    pub(super) fn check_reverse_path(
        &self,
        account: &str,
        reverse_path: &ReversePath,
    ) -> Result<(), Refusal> {
        match reverse_path.mailbox() {
            // Receipts and reports of programs have none: RFC 5321 §4.5.5.
            None => Ok(()),
            Some(mailbox) => self.must_own(account, mailbox),
        }
    }

    /// Whether `message` says that it is from `account`, and from nobody else.
    pub(super) fn check_from(&self, account: &str, message: &[u8]) -> Result<(), Refusal> {
        // RFC 6409 §6.1 lets us refuse what is not from whom it says.
        let from = from(message).map_err(|reason| {
            let reply = Reply::new(550, (5, 7, 1), format!("the message has {reason}"));
            refusal(reply, format!("{account} sent a message with {reason}"))
        })?;
        from.iter()
            .try_for_each(|mailbox| self.must_own(account, mailbox))
    }

    fn must_own(&self, account: &str, mailbox: &Mailbox) -> Result<(), Refusal> {
        match owns(account, mailbox, self.accounts()) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = format!("{mailbox} is not yours to send as");
                let reason = format!("{account} sent as {mailbox}");
                Err(refusal(Reply::new(550, (5, 7, 1), text), reason))
            }
            Err(error) => Err(refusal(trouble(), error.to_string())),
        }
    }
}

/// Whether mail to `mailbox` goes to `account`: its own address, also when its
/// mail is sent on, an extension, or an alias that leads there.
fn owns(account: &str, mailbox: &Mailbox, directory: &impl Directory) -> Result<bool, Error> {
    let is_account = |delivery: &Delivery| {
        let user = delivery.user();
        user.is_some_and(|user| Address::parse(account).is_ok_and(|a| a == user.address))
    };
    if local(mailbox, directory)?.is_some_and(|delivery| is_account(&delivery)) {
        return Ok(true);
    }
    Ok(match resolve(mailbox, directory)? {
        Resolved::Plan(plan) => plan.deliveries.iter().any(is_account),
        Resolved::NoSuchUser | Resolved::Loop => false,
    })
}

/// Whom the one From field names, or what is wrong with it.
pub(super) fn from(message: &[u8]) -> Result<Vec<Mailbox>, &'static str> {
    let head = &message[..header_section(message)];
    let parsed = MessageParser::default().parse_headers(head);
    let headers = parsed.iter().flat_map(|message| message.headers());
    let mut fields = headers.filter(|header| header.name == HeaderName::From);
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => field,
        (None, _) => return Err("no From field"),
        // What people see would depend on their program.
        (Some(_), Some(_)) => return Err("more than one From field"),
    };
    let HeaderValue::Address(addresses) = &field.value else {
        return Err("a From field without an address");
    };
    let mailbox = |text: Option<&str>| Mailbox::parse(text?.as_bytes()).ok();
    let all: Option<Vec<Mailbox>> = addresses.iter().map(|one| mailbox(one.address())).collect();
    all.filter(|all| !all.is_empty())
        .ok_or("a From field that is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_message_is_from() {
        for (head, expected) in [
            ("From: anna@example.org\n", Ok("anna@example.org")),
            (
                "from : Anna <anna@Example.org>\nTo: x@y.org\n",
                Ok("anna@example.org"),
            ),
            (
                "From: =?utf-8?q?b=40c.org?= <anna@example.org>\n",
                Ok("anna@example.org"),
            ),
            (
                "From: \"b@c.org\" <anna@example.org>\n",
                Ok("anna@example.org"),
            ),
            (
                "From: Anna\n <anna@example.org>,\n b@c.org\n",
                Ok("anna@example.org b@c.org"),
            ),
            (
                "From: all: anna@example.org, b@c.org;\n",
                Ok("anna@example.org b@c.org"),
            ),
            (
                "To: x@y.org\n\nFrom: anna@example.org\n",
                Err("no From field"),
            ),
            ("", Err("no From field")),
            (
                "From: anna@example.org\nFROM: b@c.org\n",
                Err("more than one From field"),
            ),
            ("From: Anna\n", Err("a From field that is malformed")),
            (
                "From: anna@example.org, Bob\n",
                Err("a From field that is malformed"),
            ),
            ("From:\n", Err("a From field without an address")),
            ("From: <>\n", Err("a From field without an address")),
        ] {
            let found = from(head.as_bytes()).map(|all| {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                all.join(" ")
            });
            assert_eq!(found, expected.map(str::to_owned), "{head:?}");
        }
    }
}
