//! Classes of bytes, 64 at a time.
//!
//! A loop that looks at one byte after the other mispredicts the end of every
//! word and of every gap, which costs more than all the rest of the lexer. So
//! each 64 bytes are classified at once, without branches, into sets of bits,
//! and the lexer asks for the number of trailing ones. On x86-64 sixteen bytes
//! at a time, with what each such processor has (SSE2); elsewhere by integer
//! arithmetic on eight, with four times the instructions.
//!
//! Rejected: 32 bytes at a time where the processor has AVX2, which would halve
//! what is a sixth of the lexer's instructions.

/// Sets of bytes: bit n stands for the n-th byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    /// Letters, digits and `$`: what can end a word.
    pub(super) alnum: u64,
    /// What can continue a word: these and `'`, `.`, `-`.
    pub(super) word: u64,
    /// Digits.
    pub(super) digit: u64,
    /// LF.
    pub(super) line_feed: u64,
}

impl Classes {
    /// Of the 64 bytes of `text` from `at` on. Behind its end bytes are of no
    /// class.
    #[inline]
    pub(super) fn at(text: &[u8], at: usize) -> Self {
        let rest = text.get(at..).unwrap_or_default();
        match rest.first_chunk() {
            Some(block) => Self::of(block),
            None => Self::of_last(rest),
        }
    }

    #[cold]
    fn of_last(rest: &[u8]) -> Self {
        let mut block = [0; 64];
        block[..rest.len()].copy_from_slice(rest);
        Self::of(&block)
    }

    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    fn of(block: &[u8; 64]) -> Self {
        // SAFETY: every x86-64 processor has SSE2; nothing else is asked for.
        unsafe { sse2::classes(block) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of(block: &[u8; 64]) -> Self {
        portable::classes(block)
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::Classes;

    #[target_feature(enable = "sse2")]
    pub(super) fn classes(block: &[u8; 64]) -> Classes {
        let mut classes = Classes::default();
        let (eights, _) = block.as_chunks::<8>();
        let (sixteens, _) = eights.as_chunks::<2>();
        for (n, [low, high]) in sixteens.iter().enumerate() {
            let x = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
            let letter = within(_mm_or_si128(x, each(0x20)), b'a', b'z');
            let digit = within(x, b'0', b'9');
            let letter_or_dollar = _mm_or_si128(letter, within(x, b'$', b'$'));
            let alnum = _mm_or_si128(letter_or_dollar, digit);
            let marks = _mm_or_si128(within(x, b'-', b'.'), within(x, b'\'', b'\''));
            classes.alnum |= bits(alnum) << (16 * n);
            classes.word |= bits(_mm_or_si128(alnum, marks)) << (16 * n);
            classes.digit |= bits(digit) << (16 * n);
            classes.line_feed |= bits(within(x, b'\n', b'\n')) << (16 * n);
        }
        classes
    }

    #[target_feature(enable = "sse2")]
    fn each(b: u8) -> __m128i {
        _mm_set1_epi8(b as i8)
    }

    /// All bits of each byte of `x` that lies in `first..=last`.
    #[target_feature(enable = "sse2")]
    fn within(x: __m128i, first: u8, last: u8) -> __m128i {
        if first == last {
            return _mm_cmpeq_epi8(x, each(first));
        }
        // Bytes below `first` wrap around.
        let from_first = _mm_sub_epi8(x, each(first));
        _mm_cmpeq_epi8(from_first, _mm_min_epu8(from_first, each(last - first)))
    }

    /// One bit for each byte.
    #[target_feature(enable = "sse2")]
    fn bits(bytes: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(bytes) as u16)
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::Classes;

    pub(super) fn classes(block: &[u8; 64]) -> Classes {
        let mut classes = Classes::default();
        let (eights, _) = block.as_chunks::<8>();
        for (n, eight) in eights.iter().enumerate() {
            let x = u64::from_le_bytes(*eight);
            let digit = within(x, b'0', b'9');
            let alnum = within(x | each(0x20), b'a', b'z') | digit | within(x, b'$', b'$');
            let marks = within(x, b'-', b'.') | within(x, b'\'', b'\'');
            classes.alnum |= pack(alnum) << (8 * n);
            classes.word |= pack(alnum | marks) << (8 * n);
            classes.digit |= pack(digit) << (8 * n);
            classes.line_feed |= pack(within(x, b'\n', b'\n')) << (8 * n);
        }
        classes
    }

    const fn each(b: u8) -> u64 {
        u64::from_le_bytes([b; 8])
    }

    /// The high bit of each byte of `x` that lies in `first..=last`, both ASCII.
    fn within(x: u64, first: u8, last: u8) -> u64 {
        let low = x & each(0x7f);
        // Without carries from byte to byte: at most 0x7f + 0x80.
        let not_below = low + each(0x80 - first);
        let above = low + each(0x7f - last);
        not_below & !above & !x & each(0x80)
    }

    /// The high bits of the eight bytes as the lowest eight bits.
    fn pack(high_bits: u64) -> u64 {
        (high_bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The slow, obvious version.
    fn classes(text: &[u8], at: usize) -> Classes {
        let set = |class: fn(u8) -> bool| {
            let bytes = text.iter().skip(at).take(64).enumerate();
            bytes.fold(0, |set, (n, b)| set | u64::from(class(*b)) << n)
        };
        Classes {
            alnum: set(|b| b.is_ascii_alphanumeric() || b == b'$'),
            word: set(|b| b.is_ascii_alphanumeric() || b"$'.-".contains(&b)),
            digit: set(|b| b.is_ascii_digit()),
            line_feed: set(|b| b == b'\n'),
        }
    }

    #[test]
    fn classifies_each_byte() {
        let text: Vec<u8> = (0..=255).collect();
        for at in 0..300 {
            assert_eq!(Classes::at(&text, at), classes(&text, at), "at {at}");
        }
        let (blocks, _) = text.as_chunks::<64>();
        for (n, block) in blocks.iter().enumerate() {
            assert_eq!(portable::classes(block), classes(&text, 64 * n));
        }
    }

    proptest! {
        #[test]
        fn classifies_any_bytes(
            text in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0usize..220,
        ) {
            prop_assert_eq!(Classes::at(&text, at), classes(&text, at));
        }
    }
}
