//! Bit vectors of x86-64: AVX-512 with and without VPOPCNTDQ, and AVX2.
//!
//! Without the instruction, a table of 16 counts in a register is looked up for each half of each byte (Muła, Kurz and Lemire,
//! "Faster Population Counts Using AVX2 Instructions", 2018); bytes are added up and widened before they run over.

use super::bits::{BitOp, BitSimd, BitTile};
use super::{Avx2, Avx512};
use std::arch::x86_64::*;

/// Words whose counts a byte holds: up to 8 a word.
const BYTE_CAPACITY: usize = 31;

/// Proof that the processor has AVX-512 F, BW, DQ, VL and VPOPCNTDQ.
#[derive(Clone, Copy)]
pub struct Avx512PopcountBits(());

/// Runs `op` compiled for AVX-512 with VPOPCNTDQ.
///
/// # Safety
/// The processor must have AVX-512 F, BW, DQ, VL, VPOPCNTDQ and AVX2, FMA.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,fma,popcnt")]
pub unsafe fn run_avx512_popcount<O: BitOp>(op: O) -> O::Output {
    op.call(Avx512PopcountBits(()))
}

/// Proof that the processor has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub struct Avx512Bits(());

/// Runs `op` compiled for AVX-512.
///
/// # Safety
/// The processor must have AVX-512 F, BW, DQ, VL and AVX2, FMA.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
pub unsafe fn run_avx512<O: BitOp>(op: O) -> O::Output {
    op.call(Avx512Bits(()))
}

/// Proof that the processor has AVX2.
#[derive(Clone, Copy)]
pub struct Avx2Bits(());

/// Runs `op` compiled for AVX2.
///
/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma,popcnt")]
pub unsafe fn run_avx2<O: BitOp>(op: O) -> O::Output {
    op.call(Avx2Bits(()))
}

/// What both kinds of AVX-512 share.
macro_rules! avx512_words {
    () => {
        type Words = __m512i;
        type Float = Avx512;
        const LANES: usize = 16;

        #[inline(always)]
        fn splat(self, word: u32) -> __m512i {
            unsafe { _mm512_set1_epi32(word as i32) }
        }
        #[inline(always)]
        unsafe fn load(self, p: *const u32) -> __m512i {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, v: __m512i, p: *mut u32) {
            unsafe { _mm512_storeu_si512(p.cast(), v) }
        }
        #[inline(always)]
        fn add(self, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_add_epi32(a, b) }
        }
        #[inline(always)]
        fn sub(self, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_sub_epi32(a, b) }
        }
        #[inline(always)]
        fn less(self, a: __m512i, b: __m512i) -> u32 {
            unsafe { u32::from(_mm512_cmplt_epi32_mask(a, b)) }
        }
        #[inline(always)]
        fn nothing(self) -> __m512i {
            unsafe { _mm512_setzero_si512() }
        }
        #[inline(always)]
        fn float(self) -> Avx512 {
            unsafe { Avx512::token() }
        }
        #[inline(always)]
        fn to_float(self, v: __m512i) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(v) }
        }
        #[inline(always)]
        fn below(self, a: __m512, b: __m512) -> u32 {
            unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b)) }
        }
        #[inline(always)]
        unsafe fn signs(self, x: *const f32, shift: *const f32) -> u32 {
            unsafe {
                let half = |at: usize| {
                    let value =
                        _mm512_add_ps(_mm512_loadu_ps(x.add(at)), _mm512_loadu_ps(shift.add(at)));
                    u32::from(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(value, _mm512_setzero_ps()))
                };
                half(0) | half(16) << 16
            }
        }
    };
}

// SAFETY, for every block below: the token exists only inside its `run` function, whose contract is that the processor has
// these instructions; loads and stores pass on their caller's promise about the pointer.
#[allow(clippy::undocumented_unsafe_blocks)]
impl BitSimd for Avx512PopcountBits {
    type Tally = __m512i;
    const CAPACITY: usize = usize::MAX;
    const TILE: BitTile = BitTile::Wide;
    avx512_words!();

    #[inline(always)]
    fn differences(self, tally: __m512i, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(tally, _mm512_popcnt_epi32(_mm512_xor_si512(a, b))) }
    }
    #[inline(always)]
    fn total(self, tally: __m512i) -> __m512i {
        tally
    }
}

// SAFETY: as above.
#[allow(clippy::undocumented_unsafe_blocks)]
impl BitSimd for Avx512Bits {
    type Tally = __m512i;
    const CAPACITY: usize = BYTE_CAPACITY;
    const TILE: BitTile = BitTile::Medium;
    avx512_words!();

    #[inline(always)]
    fn differences(self, tally: __m512i, a: __m512i, b: __m512i) -> __m512i {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            ));
            let nibble = _mm512_set1_epi8(15);
            let differing = _mm512_xor_si512(a, b);
            let low = _mm512_shuffle_epi8(table, _mm512_and_si512(differing, nibble));
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(differing), nibble);
            let counts = _mm512_add_epi8(low, _mm512_shuffle_epi8(table, high));
            _mm512_add_epi8(tally, counts)
        }
    }
    #[inline(always)]
    fn total(self, tally: __m512i) -> __m512i {
        unsafe {
            let pairs = _mm512_maddubs_epi16(tally, _mm512_set1_epi8(1));
            _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))
        }
    }
}

// SAFETY: as above.
#[allow(clippy::undocumented_unsafe_blocks)]
impl BitSimd for Avx2Bits {
    type Words = __m256i;
    type Float = Avx2;
    type Tally = __m256i;
    const LANES: usize = 8;
    const CAPACITY: usize = BYTE_CAPACITY;
    const TILE: BitTile = BitTile::Narrow;

    #[inline(always)]
    fn splat(self, word: u32) -> __m256i {
        unsafe { _mm256_set1_epi32(word as i32) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, v: __m256i, p: *mut u32) {
        unsafe { _mm256_storeu_si256(p.cast(), v) }
    }
    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn less(self, a: __m256i, b: __m256i) -> u32 {
        unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a))) as u32 }
    }
    #[inline(always)]
    fn nothing(self) -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    fn differences(self, tally: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            ));
            let nibble = _mm256_set1_epi8(15);
            let differing = _mm256_xor_si256(a, b);
            let low = _mm256_shuffle_epi8(table, _mm256_and_si256(differing, nibble));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(differing), nibble);
            let counts = _mm256_add_epi8(low, _mm256_shuffle_epi8(table, high));
            _mm256_add_epi8(tally, counts)
        }
    }
    #[inline(always)]
    fn total(self, tally: __m256i) -> __m256i {
        unsafe {
            let pairs = _mm256_maddubs_epi16(tally, _mm256_set1_epi8(1));
            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
        }
    }
    #[inline(always)]
    fn float(self) -> Avx2 {
        unsafe { Avx2::token() }
    }
    #[inline(always)]
    fn to_float(self, v: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(v) }
    }
    #[inline(always)]
    fn below(self, a: __m256, b: __m256) -> u32 {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) as u32 }
    }
    #[inline(always)]
    unsafe fn signs(self, x: *const f32, shift: *const f32) -> u32 {
        let mut bits = 0;
        for part in 0..4 {
            unsafe {
                let value = _mm256_add_ps(
                    _mm256_loadu_ps(x.add(8 * part)),
                    _mm256_loadu_ps(shift.add(8 * part)),
                );
                let negative = _mm256_cmp_ps::<_CMP_LT_OQ>(value, _mm256_setzero_ps());
                bits |= (_mm256_movemask_ps(negative) as u32) << (8 * part);
            }
        }
        bits
    }
}
