//! D. J. Bernstein's constant database, read from its first record to its last.

/// A key with its data.
pub type Record<'a> = (&'a [u8], &'a [u8]);

/// The records in their order.
///
/// # Errors
/// With the reason when it is none, or ends too early.
pub fn records(bytes: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let number = |at: usize| -> Option<usize> {
        let four = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(four.try_into().ok()?)).ok()
    };
    let cut = || "it is no cdb, or was cut off".to_owned();
    // The hash tables follow the records.
    let begins = (0..256).map(|n| number(n * 8)).collect::<Option<Vec<_>>>();
    let end = begins.and_then(|all| all.into_iter().min());
    let end = end
        .filter(|end| (HEADER..=bytes.len()).contains(end))
        .ok_or_else(cut)?;
    let mut records = Vec::new();
    let mut at = HEADER;
    while at < end {
        let record = || {
            let key = at.checked_add(8)?;
            let data = key.checked_add(number(at)?)?;
            let next = data.checked_add(number(at + 4)?)?;
            (next <= end).then_some((bytes.get(key..data)?, bytes.get(data..next)?, next))
        };
        let (key, data, next) = record().ok_or_else(cut)?;
        records.push((key, data));
        at = next;
    }
    Ok(records)
}

const HEADER: usize = 256 * 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::cdb;

    #[test]
    fn what_is_written_is_read() {
        let all = [("a", "1"), ("", ""), ("a", "2")]
            .map(|(key, data)| (key.as_bytes().to_vec(), data.as_bytes().to_vec()));
        for n in 0..=all.len() {
            let bytes = cdb::write(&all[..n]).unwrap();
            let found = records(&bytes).unwrap();
            let expected: Vec<_> = all[..n].iter().map(|(k, d)| (&**k, &**d)).collect();
            assert_eq!(found, expected);
            for cut in 0..bytes.len() {
                // Without its hash tables it may still be whole for us.
                assert!(records(&bytes[..cut]).map_or(true, |found| found == expected));
            }
        }
    }
}
