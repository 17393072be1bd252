//! Ascending slots in as few bits as random ones can take.
//!
//! The number of slots (7 bits a byte), then for each slot what it adds to the
//! one before, as a Rice code: its lower k bits, then the rest as so many set
//! bits and one that is not. k follows from the number of slots, for which the
//! table is as full as it is. Bits fill bytes from the lowest one on; the last
//! byte is filled up with 0.
//!
//! That is within 3 % of what slots at random places take at least; a number of 7
//! bits a byte takes a quarter more, and a general compressor finds nothing.

use super::encode::{number, push_number};
use super::weights::{N_BUCKETS, Slot};

/// Bits of a gap that are written as they are, where `n` slots are spread
/// over the table.
fn low_bits(n: usize) -> u32 {
    let mean = 2 * N_BUCKETS / (n as u32 + 1);
    // The least power of two that is not below ln 2 of the mean.
    (mean * 69 / 100).max(1).next_power_of_two().ilog2()
}

/// Writes `slots`, which are ascending.
pub(super) fn push_slots(out: &mut Vec<u8>, slots: &[Slot]) {
    push_number(out, slots.len() as u32);
    let low = low_bits(slots.len());
    let (mut bits, mut n_bits) = (0u64, 0);
    let mut push = |value: u64, n: u32| {
        bits |= value << n_bits;
        n_bits += n;
        while n_bits >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            n_bits -= 8;
        }
    };
    let mut last = 0;
    for Slot(slot) in slots {
        let gap = slot - last;
        last = *slot;
        push(u64::from(gap & ((1 << low) - 1)), low);
        let mut rest = gap >> low;
        while rest >= 32 {
            push(u64::from(u32::MAX), 32);
            rest -= 32;
        }
        push((1 << rest) - 1, rest + 1);
    }
    push(0, 7);
}

/// Reads slots off the front. `None`: not what [`push_slots`] writes.
pub(super) fn slots(rest: &mut &[u8]) -> Option<Vec<Slot>> {
    let n = number(rest)? as usize;
    // Each takes a bit at least.
    if n > rest.len() * 8 {
        return None;
    }
    let low = low_bits(n);
    let mut reader = Reader::new(rest);
    let mut slots = Vec::with_capacity(n);
    let mut last = 0u32;
    for _ in 0..n {
        let gap = match reader.code(low) {
            Some(gap) => gap,
            None => {
                let below = reader.take(low)?;
                reader.ones()?.checked_mul(1 << low)? | below
            }
        };
        last = last.checked_add(gap)?;
        slots.push(Slot::stored(last)?);
    }
    *rest = reader.rest();
    Some(slots)
}

/// Bits off the front of `bytes`.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    bits: u64,
    n_bits: u32,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            bits: 0,
            n_bits: 0,
        }
    }

    /// A whole code, where it is short and not at the end: nearly always.
    #[inline]
    fn code(&mut self, low: u32) -> Option<u32> {
        let chunk = self.bytes.get(self.at..)?.first_chunk()?;
        self.bits |= u64::from_le_bytes(*chunk) << self.n_bits;
        self.at += (63 - self.n_bits as usize) / 8;
        self.n_bits |= 56;
        let ones = (self.bits >> low).trailing_ones();
        let len = low + ones + 1;
        if len > 56 {
            return None;
        }
        let gap = ones << low | self.bits as u32 & ((1 << low) - 1);
        self.bits >>= len;
        self.n_bits -= len;
        Some(gap)
    }

    /// So many bits, at most 32.
    fn take(&mut self, n: u32) -> Option<u32> {
        while self.n_bits < n {
            self.fill()?;
        }
        let value = self.bits & ((1 << n) - 1);
        self.skip(n);
        Some(value as u32)
    }

    /// How many bits are set before one that is not.
    fn ones(&mut self) -> Option<u32> {
        let mut n = 0;
        loop {
            let found = self.bits.trailing_ones().min(self.n_bits);
            n += found;
            if found < self.n_bits {
                self.skip(found + 1);
                return Some(n);
            }
            self.skip(found);
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let (bits, n_bytes) = match rest.first_chunk() {
            Some(chunk) if self.n_bits <= 32 => (u32::from_le_bytes(*chunk), 4),
            _ => (u32::from(*rest.first()?), 1),
        };
        self.bits |= u64::from(bits) << self.n_bits;
        self.n_bits += 8 * n_bytes as u32;
        self.at += n_bytes;
        Some(())
    }

    fn skip(&mut self, n: u32) {
        self.bits = self.bits.checked_shr(n).unwrap_or(0);
        self.n_bits -= n;
    }

    /// What is behind the byte that was read last.
    fn rest(self) -> &'a [u8] {
        &self.bytes[self.at - self.n_bits as usize / 8..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(places: &[u32]) -> usize {
        let mut slots: Vec<_> = places.iter().map(|n| Slot(n % (2 * N_BUCKETS))).collect();
        slots.sort_unstable();
        let mut bytes = Vec::new();
        push_slots(&mut bytes, &slots);
        let len = bytes.len();
        bytes.push(77);
        let mut rest = &bytes[..];
        assert_eq!(super::slots(&mut rest), Some(slots));
        assert_eq!(rest, [77]);
        len
    }

    #[test]
    fn random_slots_take_what_they_must() {
        let mut place = 1u64;
        let places: Vec<_> = (0..1_500)
            .map(|_| {
                place = place
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (place >> 33) as u32
            })
            .collect();
        // log2 of 1,920,000 over 1,500 and 1 / ln 2 are 11.8 bits.
        let bits = read_back(&places) as f64 * 8.0 / 1_500.0;
        assert!(bits < 12.1, "{bits}");
    }

    #[test]
    fn uneven_slots_are_read_back() {
        read_back(&[]);
        read_back(&[0]);
        read_back(&[2 * N_BUCKETS - 1]);
        read_back(&[5; 300]);
        let mut far = vec![3; 5_000];
        far.push(2 * N_BUCKETS - 1);
        assert!(read_back(&far) < 7_000);
    }

    proptest! {
        #[test]
        fn any_slots_are_read_back(places in proptest::collection::vec(any::<u32>(), 0..300)) {
            read_back(&places);
        }

        #[test]
        fn any_bytes_will_do(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            slots(&mut &bytes[..]);
        }
    }
}
