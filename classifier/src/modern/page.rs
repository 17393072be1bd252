//! Buckets as a store keeps them: in pages, small while the model is young.
//!
//! A page is read where it lies: finding a bucket copies nothing, so that a
//! message costs the pages that its features hit and not the whole model.
//!
//! # Layout
//!
//! A page holds [`PAGE_BUCKETS`] buckets, of which each has a gradient z and
//! squares q; one whose buckets are all 0 is not stored. Byte 0 is the form,
//! of which the shorter one is written:
//!
//! 1, coded: first, for each 32 buckets in turn, 2 bytes: where their codes
//! begin, counted from the first code of the page; 4 bytes: bit i set, bucket
//! i of them is not 0. Then the codes of these buckets. A code is the number
//! `4 z` or, where z is negative, `-4 z - 2`; plus 1 where q is not the square
//! of a single step of z, and then the number q follows.
//!
//! 2, whole: for each bucket 2 bytes z, 2 bytes q.
//!
//! 3, open, never written to a store: the map of form 1, but a block begins
//! behind so many buckets that are not 0; then for each of these 2 bytes z, 2
//! bytes q. What stays in memory lies like that ([`opened`]): half of the work
//! of judging by coded pages is to find where codes end.
//!
//! Bytes are little-endian; a number is written as in the ledger, 7 bits a
//! byte. Most buckets of a young model saw one step, most steps are small:
//! such a bucket takes 1 byte. Rejected: a table of the sums that occur in a
//! page, of which there are too many.

use super::encode::{number, push_number};
use super::record::square;
use super::weights::{Bucket, N_BUCKETS};

/// Buckets of a page. Whole, it fills an LMDB page of its own to 98 %; with
/// half as many, splits would leave a quarter of a full file empty.
pub const PAGE_BUCKETS: usize = 1_000;
/// Pages of a model.
pub const N_PAGES: u32 = N_BUCKETS / PAGE_BUCKETS as u32;

/// The sums of one bucket as the table keeps them.
pub(super) type Sums = (i16, u16);

const CODED: u8 = 1;
const WHOLE: u8 = 2;
const OPEN: u8 = 3;

const BLOCK_BUCKETS: usize = 32;
const BLOCK_BYTES: usize = 6;
const MAP_BYTES: usize = PAGE_BUCKETS.div_ceil(BLOCK_BUCKETS) * BLOCK_BYTES;
const SUM_BYTES: usize = 4;
const WHOLE_BYTES: usize = 1 + PAGE_BUCKETS * SUM_BYTES;

/// A page's bytes, of the right length.
#[derive(Clone, Copy, Debug)]
pub(super) enum Page<'a> {
    Coded { map: &'a [u8], codes: &'a [u8] },
    Open { map: &'a [u8], sums: &'a [u8] },
    Whole { sums: &'a [u8] },
}

impl<'a> Page<'a> {
    /// `None`: not what [`encode`] or [`opened`] writes. Only lengths are looked at; codes
    /// that make no sense are read as buckets that are 0.
    #[inline]
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        match *form {
            CODED => {
                let (map, codes) = rest.split_at_checked(MAP_BYTES)?;
                Some(Self::Coded { map, codes })
            }
            OPEN => {
                let (map, sums) = rest.split_at_checked(MAP_BYTES)?;
                Some(Self::Open { map, sums })
            }
            WHOLE => (bytes.len() == WHOLE_BYTES).then_some(Self::Whole { sums: rest }),
            _ => None,
        }
    }

    /// The sums of the bucket at this place of the page.
    #[inline]
    pub(super) fn bucket(&self, at: usize) -> Bucket {
        let (gradient, squares) = self.sums(at).unwrap_or_default();
        Bucket {
            gradient: gradient.into(),
            squares: squares.into(),
        }
    }

    #[inline]
    fn sums(&self, at: usize) -> Option<Sums> {
        match self {
            Self::Coded { map, codes } => {
                let (start, n_before) = place(map, at)?;
                let mut rest = codes.get(start..)?;
                for _ in 0..n_before {
                    match code_len(rest) {
                        Some(len) => rest = &rest[len..],
                        None => skip_code(&mut rest)?,
                    }
                }
                code(&mut rest)
            }
            Self::Open { map, sums } => {
                let (start, n_before) = place(map, at)?;
                whole(sums, start + n_before as usize)
            }
            Self::Whole { sums } => whole(sums, at),
        }
    }

    /// Writes all sums to `out`, which holds zeroes.
    pub(super) fn decode(&self, out: &mut [Sums]) {
        let Self::Coded { map, codes } = self else {
            for (at, out) in out.iter_mut().enumerate() {
                *out = self.sums(at).unwrap_or_default();
            }
            return;
        };
        for (n, out) in out.chunks_mut(BLOCK_BUCKETS).enumerate() {
            let (start, mut bits) = block(map, n).unwrap_or_default();
            let mut rest = codes.get(start..).unwrap_or_default();
            while let Some(out) = out.get_mut(bits.trailing_zeros() as usize) {
                *out = code(&mut rest).unwrap_or_default();
                bits &= bits - 1;
            }
        }
    }
}

fn whole(sums: &[u8], at: usize) -> Option<Sums> {
    let [z0, z1, q0, q1] = *sums.get(at * SUM_BYTES..)?.first_chunk()?;
    Some((i16::from_le_bytes([z0, z1]), u16::from_le_bytes([q0, q1])))
}

fn push_whole(out: &mut Vec<u8>, (gradient, squares): Sums) {
    out.extend_from_slice(&gradient.to_le_bytes());
    out.extend_from_slice(&squares.to_le_bytes());
}

/// Where the block of a bucket begins, and how many of its buckets come before
/// this one. `None`: it is 0.
#[inline]
fn place(map: &[u8], at: usize) -> Option<(usize, u32)> {
    let (start, bits) = block(map, at / BLOCK_BUCKETS)?;
    let bit = 1 << (at % BLOCK_BUCKETS);
    (bits & bit != 0).then(|| (start, (bits & (bit - 1)).count_ones()))
}

/// Where the codes of a block begin, and which of its buckets have one.
fn block(map: &[u8], n: usize) -> Option<(usize, u32)> {
    let (start, rest) = map.get(n * BLOCK_BYTES..)?.split_first_chunk()?;
    let bits = u32::from_le_bytes(*rest.first_chunk()?);
    Some((u16::from_le_bytes(*start).into(), bits))
}

fn push_code(out: &mut Vec<u8>, (gradient, squares): Sums) {
    let z = i32::from(gradient);
    let sign_last = if z < 0 { -2 * z - 1 } else { 2 * z } as u32;
    if squares == square(gradient) {
        push_number(out, 2 * sign_last);
    } else {
        push_number(out, 2 * sign_last + 1);
        push_number(out, squares.into());
    }
}

fn code(rest: &mut &[u8]) -> Option<Sums> {
    let n = number(rest)?;
    let half = i64::from(n / 4);
    let z = if n & 2 == 0 { half } else { -half - 1 };
    let gradient = i16::try_from(z).ok()?;
    let squares = match n & 1 {
        0 => square(gradient),
        _ => u16::try_from(number(rest)?).ok()?,
    };
    Some((gradient, squares))
}

/// Bytes of the code that `rest` begins with, where eight bytes hold it.
/// Without a branch: half of the work of scoring where a model lies is to find
/// where codes end.
#[inline]
fn code_len(rest: &[u8]) -> Option<usize> {
    let bytes = u64::from_le_bytes(*rest.first_chunk()?);
    let ends = !bytes & 0x8080_8080_8080_8080;
    let second_end = ends & ends.wrapping_sub(1);
    let end = if bytes & 1 == 0 { ends } else { second_end };
    (end != 0).then(|| end.trailing_zeros() as usize / 8 + 1)
}

fn skip_code(rest: &mut &[u8]) -> Option<()> {
    let mut skip = || {
        let first = *rest.first()?;
        let len = 1 + rest.iter().take_while(|byte| **byte & 0x80 != 0).count();
        *rest = rest.get(len..)?;
        Some(first)
    };
    if skip()? & 1 != 0 {
        skip()?;
    }
    Some(())
}

/// The bytes of a page of these sums, the same for the same sums. `None`: all
/// are 0.
pub(super) fn encode(buckets: &[Sums]) -> Option<Vec<u8>> {
    let is_touched = |sums: &Sums| *sums != Sums::default();
    if !buckets.iter().any(is_touched) {
        return None;
    }
    let mut out = vec![0; 1 + MAP_BYTES];
    out[0] = CODED;
    for (n, block) in buckets.chunks(BLOCK_BUCKETS).enumerate() {
        let start = out.len() - 1 - MAP_BYTES;
        let mut bits = 0u32;
        for (at, sums) in block.iter().enumerate() {
            if is_touched(sums) {
                bits |= 1 << at;
                push_code(&mut out, *sums);
            }
        }
        put_block(&mut out, n, start, bits);
    }
    if out.len() < WHOLE_BYTES {
        return Some(out);
    }
    out.clear();
    out.push(WHOLE);
    buckets.iter().for_each(|sums| push_whole(&mut out, *sums));
    Some(out)
}

/// Whether a store may hold this: an open page it never does.
pub(super) fn is_stored(page: &[u8]) -> bool {
    matches!(
        Page::parse(page),
        Some(Page::Coded { .. } | Page::Whole { .. })
    )
}

/// A page to be kept in memory and read often: an open one in place of a
/// coded one. What is not coded stays what it is.
pub(super) fn opened(page: &[u8]) -> Vec<u8> {
    let Some(Page::Coded { map, codes }) = Page::parse(page) else {
        return page.to_vec();
    };
    let mut out = Vec::with_capacity(1 + MAP_BYTES + SUM_BYTES * codes.len());
    out.resize(1 + MAP_BYTES, 0);
    out[0] = OPEN;
    let mut n_before = 0;
    for n in 0..MAP_BYTES / BLOCK_BYTES {
        let (start, bits) = block(map, n).unwrap_or_default();
        put_block(&mut out, n, n_before, bits);
        let mut rest = codes.get(start..).unwrap_or_default();
        for _ in 0..bits.count_ones() {
            push_whole(&mut out, code(&mut rest).unwrap_or_default());
            n_before += 1;
        }
    }
    out
}

/// Writes to a page's map where a block begins, and which of its buckets are
/// not 0.
fn put_block(page: &mut [u8], n: usize, start: usize, bits: u32) {
    let map = &mut page[1 + n * BLOCK_BYTES..][..BLOCK_BYTES];
    map[..2].copy_from_slice(&(start as u16).to_le_bytes());
    map[2..].copy_from_slice(&bits.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every `step`-th bucket touched, with these sums.
    fn page(step: usize, sums: Sums) -> Vec<Sums> {
        let mut page = vec![Sums::default(); PAGE_BUCKETS];
        for bucket in page.iter_mut().step_by(step) {
            *bucket = sums;
        }
        page
    }

    #[track_caller]
    fn reads_back(sums: &[Sums]) -> usize {
        let Some(bytes) = encode(sums) else {
            assert!(sums.iter().all(|sums| *sums == Sums::default()));
            return 0;
        };
        for bytes in [&bytes, &opened(&bytes)] {
            let page = Page::parse(bytes).unwrap();
            let mut out = vec![Sums::default(); PAGE_BUCKETS];
            page.decode(&mut out);
            assert!(out == sums);
            for (at, sums) in sums.iter().enumerate() {
                assert_eq!(page.sums(at).unwrap_or_default(), *sums);
            }
        }
        bytes.len()
    }

    #[test]
    fn a_young_page_is_short_and_none_exceeds_an_lmdb_page() {
        assert_eq!(reads_back(&page(1, (0, 0))), 0);
        for gradient in [-32, 31] {
            let one_step = (gradient, square(gradient));
            assert_eq!(reads_back(&page(4, one_step)), 1 + MAP_BYTES + 250);
        }
        assert_eq!(reads_back(&page(4, (100, 100))), 1 + MAP_BYTES + 3 * 250);
        assert_eq!(reads_back(&page(1, (i16::MIN, 60_000))), WHOLE_BYTES);
        assert_eq!(reads_back(&page(2, (i16::MAX, 0))), 1 + MAP_BYTES + 4 * 500);
    }

    #[test]
    fn an_open_page_is_for_memory_alone() {
        let stored = encode(&page(4, (100, 100))).unwrap();
        assert!(is_stored(&stored));
        assert!(!is_stored(&opened(&stored)));
        let whole = encode(&page(1, (i16::MIN, 60_000))).unwrap();
        assert!(is_stored(&opened(&whole)));
    }

    #[test]
    fn the_last_bucket_has_a_page() {
        assert_eq!(N_PAGES as usize * PAGE_BUCKETS, N_BUCKETS as usize);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_sums_are_read_back(
            touched in proptest::collection::vec((0..PAGE_BUCKETS, any::<i16>(), any::<u16>()), 0..1_500)
        ) {
            let mut page = vec![Sums::default(); PAGE_BUCKETS];
            for (at, gradient, squares) in touched {
                page[at] = (gradient, squares);
            }
            reads_back(&page);
        }

        #[test]
        fn any_bytes_will_do(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for bytes in [&bytes, &opened(&bytes)] {
                let Some(page) = Page::parse(bytes) else { continue };
                for at in 0..PAGE_BUCKETS {
                    page.bucket(at);
                }
            }
        }
    }
}
