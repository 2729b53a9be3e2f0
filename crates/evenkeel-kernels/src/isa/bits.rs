//! Vectors of bits: the second, smaller trait, for kernels that count differing bits, with its own dispatch.
//!
//! The levels are those of [`super`], and [`super::force_level`] holds here too. AVX-512 comes in two kinds: with an instruction
//! that counts the bits of a lane (VPOPCNTDQ: Ice Lake, Zen 4 and newer), and without (Skylake-X, Cascade Lake), where a table
//! of nibbles in a register does it, as on AVX2. [`set_vector_popcount`] turns the instruction off, so that a test can run both.

use super::{Level, Simd, level};
use std::sync::atomic::{AtomicU8, Ordering};

/// How many vectors and pixels a kernel keeps in registers; see [`BitSimd::TILE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitTile {
    /// 32 registers of 16 lanes and a counting instruction: 4 vectors by 6 pixels.
    Wide,
    /// 32 registers of 16 lanes, some of them taken by a table: 2 vectors by 6 pixels.
    Medium,
    /// 16 registers of 8 lanes: 2 vectors by 4 pixels.
    Narrow,
    /// Vectors of 4 lanes: 4 vectors by 4 pixels.
    Quarter,
}

/// One instruction set's vectors of u32, for counting the bits in which two words differ.
///
/// A value of an implementing type is a proof that the processor has the instruction set: only [`dispatch_bits`] makes one.
/// All methods are `#[inline(always)]`, so that they are compiled with the features of the kernel they are inlined into.
pub trait BitSimd: Copy + Send + Sync + 'static {
    /// A vector of [`Self::LANES`] u32.
    type Words: Copy;
    /// The f32 vectors of the same instruction set, with as many lanes.
    type Float: Simd;
    /// A running count for each lane, in whatever form is cheapest to add to. It holds [`Self::CAPACITY`] words.
    type Tally: Copy;

    /// Lanes of one vector; divides 16.
    const LANES: usize;
    /// Words that may be added to a [`Self::Tally`] before [`Self::total`] must be taken.
    const CAPACITY: usize;
    /// The register tile that suits this instruction set.
    const TILE: BitTile;

    /// A vector with `word` in every lane.
    fn splat(self, word: u32) -> Self::Words;
    /// Loads `LANES` words; no alignment is needed.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` u32.
    unsafe fn load(self, p: *const u32) -> Self::Words;
    /// Stores `LANES` words; no alignment is needed.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` u32.
    unsafe fn store(self, v: Self::Words, p: *mut u32);
    /// `a + b`, wrapping.
    fn add(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// `a - b`, wrapping.
    fn sub(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Bit i is set where lane i of `a` is less than that of `b`, both read as i32.
    fn less(self, a: Self::Words, b: Self::Words) -> u32;
    /// A count of zero.
    fn nothing(self) -> Self::Tally;
    /// `tally` plus the number of bits in which `a` and `b` differ, lane by lane.
    fn differences(self, tally: Self::Tally, a: Self::Words, b: Self::Words) -> Self::Tally;
    /// The counts as numbers.
    fn total(self, tally: Self::Tally) -> Self::Words;
    /// The f32 vectors of this processor.
    fn float(self) -> Self::Float;
    /// Each lane, read as i32, rounded to f32.
    fn to_float(self, v: Self::Words) -> <Self::Float as Simd>::F32;
    /// Bit i is set where lane i of `a` is less than that of `b`; clear where either is NaN.
    fn below(self, a: <Self::Float as Simd>::F32, b: <Self::Float as Simd>::F32) -> u32;
    /// Bit i is set where `x[i] + shift[i] < 0`, for 32 values. A NaN is not negative, nor is -0.
    ///
    /// # Safety
    /// `x` and `shift` must be valid for reading 32 f32.
    unsafe fn signs(self, x: *const f32, shift: *const f32) -> u32;
}

/// A kernel over [`BitSimd`]. Mark `call` `#[inline(always)]`.
pub trait BitOp {
    /// What the kernel returns.
    type Output;
    /// Runs the kernel with the vectors of `simd`.
    fn call<S: BitSimd>(self, simd: S) -> Self::Output;
}

/// Whether the instruction may be used: 0 until the first question, then 1 for no and 2 for yes.
static POPCOUNT: AtomicU8 = AtomicU8::new(0);

/// Whether this processor has VPOPCNTDQ.
pub fn has_vector_popcount() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vpopcntdq");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether [`dispatch_bits`] counts with VPOPCNTDQ where the level is AVX-512.
pub fn vector_popcount() -> bool {
    match POPCOUNT.load(Ordering::Relaxed) {
        0 => set_vector_popcount(true),
        state => state == 2,
    }
}

/// Lets AVX-512 kernels use VPOPCNTDQ, or not, from now on in every thread; returns whether they do. Where the processor lacks it,
/// they never do.
pub fn set_vector_popcount(allowed: bool) -> bool {
    let used = allowed && has_vector_popcount();
    POPCOUNT.store(if used { 2 } else { 1 }, Ordering::Relaxed);
    used
}

/// Runs `op` on the current [`level`].
#[inline]
pub fn dispatch_bits<O: BitOp>(op: O) -> O::Output {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => {
            if vector_popcount() {
                // SAFETY: `level` confirmed AVX-512, and `vector_popcount` VPOPCNTDQ.
                unsafe { super::bits_x86::run_avx512_popcount(op) }
            } else {
                // SAFETY: `level` only ever returns a level that this processor has.
                unsafe { super::bits_x86::run_avx512(op) }
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { super::bits_x86::run_avx2(op) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Level::Neon => unsafe { super::bits_neon::run(op) },
        _ => op.call(super::bits_portable::PortableBits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at_every_bit_level;

    struct Check;

    impl BitOp for Check {
        type Output = ();
        #[inline(always)]
        fn call<S: BitSimd>(self, s: S) {
            let lanes = S::LANES;
            assert_eq!(16 % lanes, 0);
            let a: Vec<u32> = (0..lanes as u32)
                .map(|i| i.wrapping_mul(0x9e37_79b9))
                .collect();
            let b: Vec<u32> = (0..lanes as u32)
                .map(|i| !i.wrapping_mul(0x85eb_ca6b))
                .collect();
            let read = |v: S::Words| {
                let mut out = vec![0u32; lanes];
                // SAFETY: `out` holds LANES words.
                unsafe { s.store(v, out.as_mut_ptr()) };
                out
            };
            let want = |f: &dyn Fn(u32, u32) -> u32| -> Vec<u32> {
                a.iter().zip(&b).map(|(&a, &b)| f(a, b)).collect()
            };
            // SAFETY: both hold LANES words.
            let (x, y) = unsafe { (s.load(a.as_ptr()), s.load(b.as_ptr())) };
            assert_eq!(read(s.add(x, y)), want(&|a, b| a.wrapping_add(b)));
            assert_eq!(read(s.sub(x, y)), want(&|a, b| a.wrapping_sub(b)));
            let less = s.less(x, y);
            for lane in 0..32 {
                let expected = lane < lanes && (a[lane] as i32) < b[lane] as i32;
                assert_eq!(less >> lane & 1 == 1, expected, "lane {lane}");
            }
            assert_eq!(s.less(x, x), 0);
            // Words that differ in every bit, as many as a tally holds: nothing may run over.
            let times = S::CAPACITY.min(100);
            let mut tally = s.nothing();
            for _ in 0..times {
                tally = s.differences(tally, s.splat(0), s.splat(u32::MAX));
            }
            assert_eq!(read(s.total(tally)), vec![32 * times as u32; lanes]);
            let once = s.total(s.differences(s.nothing(), x, y));
            assert_eq!(read(once), want(&|a, b| (a ^ b).count_ones()));
            let float = s.float();
            assert_eq!(S::Float::LANES, lanes);
            let mut out = [0.0f32; 17];
            // SAFETY: `out` holds more than LANES values.
            unsafe { float.store(s.to_float(x), out.as_mut_ptr()) };
            for lane in 0..17 {
                let expected = if lane < lanes {
                    a[lane] as i32 as f32
                } else {
                    0.0
                };
                assert_eq!(out[lane], expected);
            }
            let mut values = [0.0f32; 16];
            values[0] = -1.0;
            values[1] = f32::NAN;
            values[2] = -0.0;
            values[3] = f32::NEG_INFINITY;
            // SAFETY: `values` holds at least LANES values.
            let values = unsafe { float.load(values.as_ptr()) };
            assert_eq!(s.below(values, float.zero()), 0b1001);
            assert_eq!(s.below(float.zero(), values), 0);
            let mut values = [1.0f32; 32];
            values[3] = -1.0;
            values[7] = -0.0;
            values[12] = f32::NAN;
            values[20] = f32::NEG_INFINITY;
            values[31] = -1e-45;
            let mut shift = [0.0f32; 32];
            // SAFETY: both hold 32 values.
            let signs = unsafe { s.signs(values.as_ptr(), shift.as_ptr()) };
            assert_eq!(signs, 1 << 3 | 1 << 20 | 1 << 31);
            shift[0] = -1.5;
            shift[3] = 1.0;
            // SAFETY: both hold 32 values.
            let signs = unsafe { s.signs(values.as_ptr(), shift.as_ptr()) };
            assert_eq!(signs, 1 << 0 | 1 << 20 | 1 << 31);
        }
    }

    #[test]
    fn every_level_does_plain_arithmetic() {
        at_every_bit_level(|| dispatch_bits(Check));
    }
}
