//! A look at the logs before RocksDB reads them.
//!
//! RocksDB 11.8 reads for ever when a log holds a record that is marked as
//! one of a recycled log, behind records that are not: its reader refuses the
//! record and stays where it is. One changed bit of the write-ahead log or of
//! the manifest is enough. This store never recycles logs, so that such a
//! mark is damage in any case.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use classifier::Error;

use crate::error::damaged;

/// Logs are written in blocks; a record never begins in the last six bytes
/// of one, and continues in the next block as another record.
const BLOCK_LEN: usize = 32 << 10;

/// Checksum (4 bytes), length (2, the least significant first), kind (1).
const HEADER_LEN: usize = 7;

/// The kinds of records in a recycled log (RocksDB, `db/log_format.h`).
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// Refuses the database in the folder `dir` when one of its `logs` would keep
/// RocksDB from ever opening it.
///
/// # Errors
/// `Damaged`, naming the file; `Io` when it cannot be read.
pub(crate) fn check(dir: &Path, logs: &[PathBuf]) -> Result<(), Error> {
    for log in logs {
        let recycled = match File::open(log) {
            Ok(file) => has_recycled_records(file).map_err(Error::io("read", log))?,
            // The owner of an open database deletes logs that have served.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::io("read", log)(error)),
        };
        if recycled {
            let log = log.display();
            return Err(damaged(dir, format!("{log} was changed by something else")));
        }
    }
    Ok(())
}

/// Follows the lengths in the headers as RocksDB does, and so sees at least
/// the records that it would see.
fn has_recycled_records(mut log: impl Read) -> io::Result<bool> {
    let mut block = Vec::with_capacity(BLOCK_LEN);
    loop {
        block.clear();
        log.by_ref()
            .take(BLOCK_LEN as u64)
            .read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(false);
        }
        let mut rest = &block[..];
        while let Some(([_, _, _, _, low, high, kind], behind)) = rest.split_first_chunk() {
            if RECYCLED.contains(kind) {
                return Ok(true);
            }
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            rest = behind.get(length..).unwrap_or_default();
        }
        debug_assert!(rest.len() < HEADER_LEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let mut record = vec![0; HEADER_LEN + usize::from(length)];
        record[4..6].copy_from_slice(&length.to_le_bytes());
        record[6] = kind;
        record
    }

    #[test]
    fn finds_recycled_records_wherever_they_are() {
        let check = |log: &[Vec<u8>], expected| {
            let log = log.concat();
            assert_eq!(has_recycled_records(&log[..]).unwrap(), expected);
        };
        check(&[], false);
        check(&[record(1, 0)], false);
        check(&[record(1, 100), record(9, 0), record(130, 7)], false);
        for kind in RECYCLED {
            check(&[record(1, 100), record(kind, 3)], true);
            // Only the header is left of it.
            check(&[record(1, 100), vec![0, 0, 0, 0, 9, 9, kind]], true);
        }
        // In the second block, behind a trailer, and behind a bad length.
        let full = BLOCK_LEN as u16 - HEADER_LEN as u16;
        check(&[record(1, full - 6), vec![5; 6], record(5, 0)], true);
        let mut wrong = record(1, full);
        wrong[4..6].fill(0xff);
        check(&[wrong.clone(), record(1, 0)], false);
        check(&[wrong, record(8, 0)], true);
        // Too short for a header.
        check(&[record(1, 0), vec![5; 6]], false);
    }
}
