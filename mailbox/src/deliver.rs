//! Delivery: `tmp`, sync, `new`, sync. When it returns, the message is kept.
//!
//! Source: D. J. Bernstein, "Using maildir format", "How a message is
//! delivered"; the size hints are written as Courier and Dovecot do.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use crate::mailbox::joined;
use crate::new_file::NewFile;
use crate::{Entry, Error, Folder, Half, MessageName, UniqueNames};

impl Folder {
    /// Delivers what `message` yields, byte for byte. Whatever fails before
    /// the end leaves no message; a kill may leave a file in `tmp`.
    ///
    /// # Errors
    /// When `message` cannot be read or the disk fails. After an error of the
    /// last sync the message may nevertheless be there: delivering it again
    /// may give it twice, never not at all.
    pub fn deliver(
        &self,
        names: &UniqueNames,
        now: SystemTime,
        message: &mut dyn Read,
    ) -> Result<Entry, Error> {
        let unique = names.next(now);
        let tmp_path = joined(&self.path.join("tmp"), unique.as_bytes());
        let mut file = NewFile::create(self.tmp()?, OsStr::new(&unique), self.owner)
            .map_err(Error::io("create", &tmp_path))?;
        let sizes = copy(message, &mut file).map_err(Error::io("write", &tmp_path))?;
        let raw = format!("{unique},S={},W={}", sizes.bytes, sizes.bytes_with_crlf);
        let name = MessageName::parse(raw.as_bytes())
            .expect("a unique name begins with a digit and has no slash");
        let entry = Entry {
            half: Half::New,
            name,
        };
        file.publish(
            self.half(Half::New),
            OsStr::from_bytes(entry.name.as_bytes()),
        )
        .map_err(Error::io("deliver", self.path_of(&entry)))?;
        self.sync_half(Half::New)?;
        Ok(entry)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sizes {
    bytes: u64,
    /// As IMAP and POP3 serve it: each line ended by CRLF.
    bytes_with_crlf: u64,
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<Sizes> {
    let mut sizes = Sizes::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut after_cr = false;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(sizes),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = &buffer[..n];
        to.write_all(piece)?;
        sizes.bytes += n as u64;
        sizes.bytes_with_crlf += n as u64;
        for byte in piece {
            sizes.bytes_with_crlf += u64::from(*byte == b'\n' && !after_cr);
            after_cr = *byte == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Fault, each_step};
    use crate::testing::{MAIL, TestMailbox};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let test = TestMailbox::new();
        let inbox = test.folder("INBOX");
        let entry = test.deliver(&inbox, MAIL);
        assert_eq!(
            test.messages(),
            [("new/".to_owned() + &entry.name.to_string(), MAIL.to_vec())]
        );
        assert_eq!(entry.name.bytes(), Some(MAIL.len() as u64));
        let lines = MAIL.iter().filter(|b| **b == b'\n').count();
        assert_eq!(
            entry.name.bytes_with_crlf(),
            Some((MAIL.len() + lines) as u64)
        );
        let file = inbox.open_message(&entry).unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn sizes_count_line_ends_over_any_cut() {
        for (text, expected) in [
            ("", 0),
            ("a", 1),
            ("a\n", 3),
            ("a\r\n", 3),
            ("\n\r\n\r\r\n", 7),
        ] {
            let mut out = Vec::new();
            let bytes: Vec<[u8; 1]> = text.bytes().map(|b| [b]).collect();
            let mut one_by_one = bytes
                .iter()
                .fold(Box::new(io::empty()) as Box<dyn Read>, |all, byte| {
                    Box::new(all.chain(&byte[..]))
                });
            let sizes = copy(&mut one_by_one, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
            assert_eq!(
                (sizes.bytes, sizes.bytes_with_crlf),
                (text.len() as u64, expected),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_fault_at_any_step_leaves_no_message_or_a_whole_one() {
        let test = TestMailbox::new();
        let inbox = test.folder("INBOX");
        let deliver = || test.try_deliver(&inbox, MAIL).is_ok();
        each_step(deliver, |fault, step, delivered| {
            let messages = test.messages();
            assert!(
                messages.iter().all(|(_, bytes)| bytes == MAIL),
                "{fault:?} at {step}"
            );
            assert!(!delivered || messages.len() == 1, "{fault:?} at {step}");
            if fault == Fault::Fails {
                let left = test.path("tmp").read_dir().unwrap().count();
                // Only where removing is what failed.
                assert!(left == 0 || delivered, "{fault:?} at {step}");
            }
            test.clear();
        });
    }
}
