//! Bit vectors for every target: arrays of four words.

use super::Portable;
use super::bits::{BitSimd, BitTile};

/// Needs nothing of the processor.
#[derive(Clone, Copy, Default)]
pub struct PortableBits;

const LANES: usize = 4;
type Words = [u32; LANES];

impl BitSimd for PortableBits {
    type Words = Words;
    type Float = Portable;
    type Tally = Words;
    const LANES: usize = LANES;
    const CAPACITY: usize = usize::MAX;
    const TILE: BitTile = BitTile::Quarter;

    #[inline(always)]
    fn splat(self, word: u32) -> Words {
        [word; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> Words {
        // SAFETY: the caller promises LANES readable words; the read is unaligned.
        unsafe { p.cast::<Words>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, v: Words, p: *mut u32) {
        // SAFETY: the caller promises LANES writable words; the write is unaligned.
        unsafe { p.cast::<Words>().write_unaligned(v) }
    }
    #[inline(always)]
    fn add(self, a: Words, b: Words) -> Words {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub(self, a: Words, b: Words) -> Words {
        std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn less(self, a: Words, b: Words) -> u32 {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= u32::from((a[i] as i32) < b[i] as i32) << i;
        }
        bits
    }
    #[inline(always)]
    fn nothing(self) -> Words {
        [0; LANES]
    }
    #[inline(always)]
    fn differences(self, tally: Words, a: Words, b: Words) -> Words {
        std::array::from_fn(|i| tally[i] + (a[i] ^ b[i]).count_ones())
    }
    #[inline(always)]
    fn total(self, tally: Words) -> Words {
        tally
    }
    #[inline(always)]
    fn float(self) -> Portable {
        Portable::new()
    }
    #[inline(always)]
    fn to_float(self, v: Words) -> [f32; LANES] {
        std::array::from_fn(|i| v[i] as i32 as f32)
    }
    #[inline(always)]
    fn below(self, a: [f32; LANES], b: [f32; LANES]) -> u32 {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= u32::from(a[i] < b[i]) << i;
        }
        bits
    }
    #[inline(always)]
    unsafe fn signs(self, x: *const f32, shift: *const f32) -> u32 {
        let mut bits = 0;
        for i in 0..32 {
            // SAFETY: the caller promises 32 readable values.
            bits |= u32::from(unsafe { *x.add(i) + *shift.add(i) } < 0.0) << i;
        }
        bits
    }
}
