//! The digits by which a program says that its response ends: nobody outside can know them before.
//!
//! Of the sixteen only the ten that text has few of are used: what is none is passed over at once (`search.rs`).
//!
//! They are the key stream of ChaCha20 (RFC 8439) under a key that the kernel gives each process once, with a block for each response.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many digits a program is given.
pub const LENGTH: usize = 32;

/// The digits of one response: hexadecimal ones, and of those the decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits([u8; LENGTH]);

impl Digits {
    fn new(secret: [u32; 4]) -> Self {
        let mut digits = [0; LENGTH];
        for (place, word) in digits.chunks_exact_mut(8).zip(secret) {
            place.copy_from_slice(&decimal(word).to_le_bytes());
        }
        Self(digits)
    }

    /// The digits as text.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// Digits of somebody's choice.
    #[cfg(any(test, fuzzing))]
    pub fn from_text(text: &str) -> Option<Self> {
        Some(Self(text.as_bytes().try_into().ok()?))
    }
}

/// Eight digits of a number, the lowest first, all at once: four bits each, where 10 to 15 are 4 to 9 again.
const fn decimal(word: u32) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut spread = word as u64;
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let above = (spread + 6 * ONES) >> 4 & ONES;
    spread + 0x30 * ONES - 6 * above
}

/// Makes digits: for all threads of a process.
pub struct Source {
    key: [u32; 8],
    next: AtomicU64,
}

/// What is left of a block, which is for one thread alone.
#[derive(Clone, Copy)]
pub struct Rest {
    words: [u32; 16],
    left: u8,
}

impl Rest {
    /// Nothing.
    pub const NONE: Self = Self { words: [0; 16], left: 0 };
}

impl Source {
    /// The length of a key, in bytes.
    pub const KEY: usize = 32;

    /// A source with this key, which nobody else may have or know.
    pub fn new(key: [u8; Self::KEY]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        Self { key: words, next: AtomicU64::new(0) }
    }

    /// Fresh digits. A block is enough for four; `rest` is the thread's own, and no other source's.
    pub fn digits(&self, rest: &mut Rest) -> Digits {
        if rest.left == 0 {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // The words of counter and nonce: a block is used once.
            *rest = Rest { words: block(&self.key, [number as u32, (number >> 32) as u32, 0, 0]), left: 4 };
        }
        rest.left -= 1;
        let words = rest.words.get(usize::from(rest.left) * 4..).and_then(<[u32]>::first_chunk);
        Digits::new(words.copied().unwrap_or_default())
    }
}

/// The ChaCha20 block function (RFC 8439, section 2.3), with the words of its counter and nonce.
fn block(key: &[u32; 8], [counter, nonce @ ..]: [u32; 4]) -> [u32; 16] {
    let [k0, k1, k2, k3, k4, k5, k6, k7] = *key;
    let [n0, n1, n2] = nonce;
    // "expand 32-byte k"
    let start =
        [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, k0, k1, k2, k3, k4, k5, k6, k7, counter, n0, n1, n2];
    let [mut a, mut b, mut c, mut d] =
        [0, 4, 8, 12].map(|row: usize| [0, 1, 2, 3].map(|column: usize| start.get(row + column).copied().unwrap_or(0)));
    for _ in 0..10 {
        rounds(&mut a, &mut b, &mut c, &mut d);
        // The diagonals, as columns.
        (b, c, d) = (turned(b, 1), turned(c, 2), turned(d, 3));
        rounds(&mut a, &mut b, &mut c, &mut d);
        (b, c, d) = (turned(b, 3), turned(c, 2), turned(d, 1));
    }
    let mut out = start;
    for (word, mixed) in out.iter_mut().zip(a.into_iter().chain(b).chain(c).chain(d)) {
        *word = word.wrapping_add(mixed);
    }
    out
}

/// A quarter round for each of the four columns.
fn rounds(a: &mut [u32; 4], b: &mut [u32; 4], c: &mut [u32; 4], d: &mut [u32; 4]) {
    let columns = a.iter_mut().zip(b).zip(c).zip(d);
    for (((a, b), c), d) in columns {
        *a = a.wrapping_add(*b);
        *d = (*d ^ *a).rotate_left(16);
        *c = c.wrapping_add(*d);
        *b = (*b ^ *c).rotate_left(12);
        *a = a.wrapping_add(*b);
        *d = (*d ^ *a).rotate_left(8);
        *c = c.wrapping_add(*d);
        *b = (*b ^ *c).rotate_left(7);
    }
}

fn turned(mut row: [u32; 4], by: usize) -> [u32; 4] {
    row.rotate_left(by);
    row
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// RFC 8439, section 2.3.2.
    #[test]
    fn the_block_of_the_standard() {
        let key: Vec<u8> = (0..32).collect();
        let source = Source::new(key.try_into().unwrap());
        let words = block(&source.key, [1, 0x0900_0000, 0x4a00_0000, 0]);
        let expected = [
            0xe4e7_f110,
            0x1559_3bd1,
            0x1fdd_0f50,
            0xc471_20a3,
            0xc7f4_d1c7,
            0x0368_c033,
            0x9aaa_2204,
            0x4e6c_d4c3,
            0x4664_82d2,
            0x09aa_9f07,
            0x05d7_c214,
            0xa202_8bd9,
            0xd19c_12b5,
            0xb94e_16de,
            0xe883_d0cb,
            0x4e3c_50a2,
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn digits_are_fresh() {
        let source = Source::new([7; Source::KEY]);
        let mut rests = [Rest::NONE; 2];
        let all: HashSet<Vec<u8>> = (0..1000).map(|at| source.digits(&mut rests[at % 2]).as_bytes().to_vec()).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().flatten().all(u8::is_ascii_digit));
        // Each of them stands at each place.
        for place in 0..LENGTH {
            let seen: HashSet<u8> = all.iter().map(|digits| digits[place]).collect();
            assert_eq!(seen.len(), 10);
        }
        rests = [Rest::NONE; 2];
        assert!(!all.contains(Source::new([8; Source::KEY]).digits(&mut rests[0]).as_bytes().as_slice()));
    }

    #[test]
    fn each_number_has_its_digits() {
        assert_eq!(Digits::new([0x0123_4567, 0x89ab_cdef, 0, !0]).as_bytes(), b"76543210987654980000000099999999");
    }
}
