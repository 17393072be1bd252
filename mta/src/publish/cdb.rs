//! D. J. Bernstein's constant database, as a file's bytes.
//!
//! 256 pairs of position and number of slots; the records, each with the
//! lengths of key and data before them; 256 hash tables with pairs of hash and
//! position. All numbers are 32 bits, the lowest byte first.

/// The database of these records, in their order: of those with one key the
/// first is found. `None` when it would be larger than 4 GiB.
pub(crate) fn write(records: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 256 * 8];
    let mut tables: Vec<Vec<(u32, u32)>> = vec![Vec::new(); 256];
    for (key, data) in records {
        let hash = hash(key);
        tables[(hash & 255) as usize].push((hash, u32::try_from(bytes.len()).ok()?));
        put(&mut bytes, u32::try_from(key.len()).ok()?);
        put(&mut bytes, u32::try_from(data.len()).ok()?);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(data);
    }
    for (n, table) in tables.iter().enumerate() {
        // Half of the slots stay empty, so that a search ends.
        let n_slots = 2 * table.len();
        let mut slots = vec![(0, 0); n_slots];
        for (hash, position) in table {
            let mut slot = (hash >> 8) as usize % n_slots;
            while slots[slot].1 != 0 {
                slot = (slot + 1) % n_slots;
            }
            slots[slot] = (*hash, *position);
        }
        let begin = u32::try_from(bytes.len()).ok()?.to_le_bytes();
        bytes[n * 8..][..4].copy_from_slice(&begin);
        let n_slots = u32::try_from(n_slots).ok()?.to_le_bytes();
        bytes[n * 8 + 4..][..4].copy_from_slice(&n_slots);
        for (hash, position) in slots {
            put(&mut bytes, hash);
            put(&mut bytes, position);
        }
    }
    u32::try_from(bytes.len()).ok()?;
    Some(bytes)
}

fn put(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn hash(key: &[u8]) -> u32 {
    let next = |hash: u32, b: &u8| hash.wrapping_mul(33) ^ u32::from(*b);
    key.iter().fold(5381, next)
}
