//! Some tokens looked up in a list that is read once and not kept.
//!
//! For the one message of a short process. Memory that a process never had
//! costs more than all else about a list: a system call and a page fault's
//! work for every 4 KiB. So the list goes through a buffer piece by piece.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use super::list::{parse_header, split};
use super::normal;
use crate::Token;

/// What a list says of some tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) messages: u32,
    /// In the order in which the tokens were given.
    pub(super) counts: Vec<u32>,
}

impl Found {
    /// In a list that is not there.
    pub(super) fn nothing(tokens: &[Token]) -> Self {
        Self {
            messages: 0,
            counts: vec![0; tokens.len()],
        }
    }
}

/// Bytes of a list that are looked at together: as many as stay in a
/// processor's nearest memory.
const PIECE_BYTES: usize = 32 << 10;

/// Looks `tokens` up in the list in `file`. `None`: the list is not, or may
/// not be, in normal form, so that it must be read as a whole.
///
/// # Errors
/// When `file` cannot be read.
pub(super) fn look_up(file: &File, tokens: &[Token]) -> io::Result<Option<Found>> {
    let mut wanted = Wanted::new(tokens);
    let mut messages = None;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut filled = 0;
    let mut at = 0;
    loop {
        let n_read = match file.read_at(&mut buffer[filled..], at) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            n_read => n_read?,
        };
        if n_read == 0 {
            break;
        }
        at += n_read as u64;
        filled += n_read;
        let mut start = 0;
        if messages.is_none() {
            let Ok((n, body)) = parse_header(&buffer[..filled]) else {
                return Ok(None);
            };
            (messages, start) = (Some(n), body);
        }
        let piece = &buffer[start..filled];
        let end = memchr::memrchr(b'\n', piece).map_or(0, |n| n + 1);
        if !normal::each_line(&piece[..end], |prefix, line| wanted.meet(prefix, line)) {
            return Ok(None);
        }
        // The last whole line stays, for the next one to be compared with.
        let last = memchr::memrchr(b'\n', &piece[..end.saturating_sub(1)]);
        let kept = start + last.map_or(0, |n| n + 1);
        buffer.copy_within(kept..filled, 0);
        filled -= kept;
    }
    // A line that was cut short, or that is longer than the buffer.
    if filled > 0 && buffer[filled - 1] != b'\n' {
        return Ok(None);
    }
    Ok(Some(Found {
        messages: messages.unwrap_or(0),
        counts: wanted.counts,
    }))
}

/// Tokens that wait for their line.
struct Wanted<'a> {
    tokens: &'a [Token],
    counts: Vec<u32>,
    /// Indexes of `tokens` in descending order of these; the last one is the
    /// next that is to come.
    waiting: Vec<u32>,
    /// [`normal::prefix_of`] of that one.
    next: u64,
}

impl<'a> Wanted<'a> {
    fn new(tokens: &'a [Token]) -> Self {
        let mut waiting: Vec<_> = (0..tokens.len() as u32).collect();
        waiting.sort_unstable_by(|a, b| tokens[*b as usize].cmp(&tokens[*a as usize]));
        let mut wanted = Self {
            tokens,
            counts: vec![0; tokens.len()],
            waiting,
            next: 0,
        };
        wanted.wait_for_next();
        wanted
    }

    /// To be called with all lines of a list in their order.
    #[inline]
    fn meet(&mut self, prefix: u64, line: &[u8]) {
        if prefix >= self.next {
            self.settle(line);
        }
    }

    /// Settles all tokens up to that of `line`.
    #[cold]
    fn settle(&mut self, line: &[u8]) {
        let (token, count) = split(line).unwrap_or((line, 0));
        while let Some(&index) = self.waiting.last() {
            let index = index as usize;
            match self.tokens[index].as_bytes().cmp(token) {
                Ordering::Greater => break,
                Ordering::Equal => self.counts[index] = count,
                Ordering::Less => {}
            }
            self.waiting.pop();
        }
        self.wait_for_next();
    }

    fn wait_for_next(&mut self) {
        self.next = self.waiting.last().map_or(u64::MAX, |index| {
            normal::prefix_of(self.tokens[*index as usize].as_bytes())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::list::List;
    use super::*;

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    fn tokens(words: &[String]) -> Vec<Token> {
        words
            .iter()
            .map(|word| Token::new(word.as_bytes()).unwrap())
            .collect()
    }

    #[test]
    fn finds_in_every_piece_what_the_whole_list_holds() {
        let words: Vec<_> = (0..20_000).map(|n| format!("word{n:05}")).collect();
        let lines = words.iter().enumerate();
        let lines = lines.filter(|(n, _)| n % 3 > 0);
        let lines = lines.map(|(n, word)| (word.as_bytes(), n as u32));
        let list = List::from_sorted(7, lines).unwrap();
        let mut text = Vec::new();
        list.write(&mut text).unwrap();
        let mut asked = tokens(&words);
        asked.reverse();
        let found = look_up(&file(&text), &asked).unwrap().unwrap();
        assert_eq!(found.messages, 7);
        for (token, count) in asked.iter().zip(found.counts) {
            assert_eq!(count, list.count(token.as_bytes()).unwrap_or(0));
        }
    }

    #[test]
    fn what_is_not_in_normal_form_is_left_to_others() {
        let header = "# bogofilter wordlist (format version A): 7\n";
        for (text, is_normal) in [
            (String::new(), true),
            (header.into(), true),
            (format!("{header}bar 1\nfoo 1\n"), true),
            (format!("{header}foo 1\nbar 1\n"), false),
            (format!("{header}bar 1\nfoo 1"), false),
            (format!("{header}bar 1\nfoo\n"), false),
            (format!("{header}{}", "x".repeat(PIECE_BYTES)), false),
            (header[..20].into(), false),
            ("foo 1\n".into(), false),
        ] {
            let found = look_up(&file(text.as_bytes()), &[]).unwrap();
            assert_eq!(found.is_some(), is_normal, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_finds_what_the_whole_list_holds(
            lines in "([ab]{0,9} [0-9]{1,2}\n){0,9}[ab \n]{0,3}",
            words in proptest::collection::vec("[ab]{1,9}", 0..9),
        ) {
            let text = format!("# bogofilter wordlist (format version A): 7\n{lines}");
            let asked = tokens(&words);
            if let Some(found) = look_up(&file(text.as_bytes()), &asked).unwrap() {
                let list = List::parse(text.into_bytes()).unwrap();
                let counts = asked.iter().map(|t| list.count(t.as_bytes()).unwrap_or(0));
                prop_assert_eq!(found.counts, counts.collect::<Vec<_>>());
            }
        }
    }
}
