//! Bit vectors of NEON: `vcnt` counts the bits of each byte; bytes are added up and widened before they run over.

use super::Neon;
use super::bits::{BitOp, BitSimd, BitTile};
use std::arch::aarch64::*;

/// Proof that the processor has NEON.
#[derive(Clone, Copy)]
pub struct NeonBits(());

/// Runs `op` compiled for NEON.
///
/// # Safety
/// The processor must have NEON.
#[target_feature(enable = "neon")]
pub unsafe fn run<O: BitOp>(op: O) -> O::Output {
    op.call(NeonBits(()))
}

// SAFETY, for every block below: a `NeonBits` exists only inside `run`, whose contract is that the processor has these
// instructions; loads and stores pass on their caller's promise about the pointer.
#[allow(clippy::undocumented_unsafe_blocks)]
impl BitSimd for NeonBits {
    type Words = uint32x4_t;
    type Float = Neon;
    type Tally = uint8x16_t;
    const LANES: usize = 4;
    /// A byte counts up to 8 a word.
    const CAPACITY: usize = 31;
    const TILE: BitTile = BitTile::Quarter;

    #[inline(always)]
    fn splat(self, word: u32) -> uint32x4_t {
        unsafe { vdupq_n_u32(word) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> uint32x4_t {
        unsafe { vld1q_u32(p) }
    }
    #[inline(always)]
    unsafe fn store(self, v: uint32x4_t, p: *mut u32) {
        unsafe { vst1q_u32(p, v) }
    }
    #[inline(always)]
    fn add(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        unsafe { vaddq_u32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        unsafe { vsubq_u32(a, b) }
    }
    #[inline(always)]
    fn less(self, a: uint32x4_t, b: uint32x4_t) -> u32 {
        const PLACES: [u32; 4] = [1, 2, 4, 8];
        unsafe {
            let less = vcltq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b));
            vaddvq_u32(vandq_u32(less, vld1q_u32(PLACES.as_ptr())))
        }
    }
    #[inline(always)]
    fn nothing(self) -> uint8x16_t {
        unsafe { vdupq_n_u8(0) }
    }
    #[inline(always)]
    fn differences(self, tally: uint8x16_t, a: uint32x4_t, b: uint32x4_t) -> uint8x16_t {
        unsafe { vaddq_u8(tally, vcntq_u8(vreinterpretq_u8_u32(veorq_u32(a, b)))) }
    }
    #[inline(always)]
    fn total(self, tally: uint8x16_t) -> uint32x4_t {
        unsafe { vpaddlq_u16(vpaddlq_u8(tally)) }
    }
    #[inline(always)]
    fn float(self) -> Neon {
        unsafe { Neon::token() }
    }
    #[inline(always)]
    fn to_float(self, v: uint32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(v)) }
    }
    #[inline(always)]
    fn below(self, a: float32x4_t, b: float32x4_t) -> u32 {
        const PLACES: [u32; 4] = [1, 2, 4, 8];
        unsafe { vaddvq_u32(vandq_u32(vcltq_f32(a, b), vld1q_u32(PLACES.as_ptr()))) }
    }
    #[inline(always)]
    unsafe fn signs(self, x: *const f32, shift: *const f32) -> u32 {
        const PLACES: [u32; 4] = [1, 2, 4, 8];
        let mut bits = 0;
        for part in 0..8 {
            unsafe {
                let value = vaddq_f32(vld1q_f32(x.add(4 * part)), vld1q_f32(shift.add(4 * part)));
                let negative = vandq_u32(vcltzq_f32(value), vld1q_u32(PLACES.as_ptr()));
                bits |= vaddvq_u32(negative) << (4 * part);
            }
        }
        bits
    }
}
