//! NEON: 4 f32 lanes, 32 registers. Every AArch64 processor has it.

use super::{Simd, SimdOp, put_together_in_memory, take_apart_in_memory};
use std::arch::aarch64::*;

/// Proof that the processor has NEON.
#[derive(Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// The token, for the bit vectors of the same processor.
    ///
    /// # Safety
    /// The processor must have these instructions.
    #[inline(always)]
    pub(super) unsafe fn token() -> Self {
        Neon(())
    }
}

/// Runs `op` compiled for NEON.
///
/// # Safety
/// The processor must have NEON.
#[target_feature(enable = "neon")]
pub unsafe fn run<O: SimdOp>(op: O) -> O::Output {
    op.call(Neon(()))
}

// SAFETY, for every block below: a `Neon` exists only inside `run`, whose contract is that the processor has these
// instructions; loads and stores pass on their caller's promise about the pointer.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Neon {
    type F32 = float32x4_t;
    type F64 = float64x2_t;
    type Mask = uint32x4_t;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(self, v: float32x4_t, p: *mut f32) {
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> float32x4_t {
        let mut lanes = [0.0f32; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            *lane = unsafe { *p.add(i) };
        }
        unsafe { vld1q_f32(lanes.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, v: float32x4_t, p: *mut f32, n: usize) {
        let mut lanes = [0.0f32; 4];
        unsafe { vst1q_f32(lanes.as_mut_ptr(), v) };
        for (i, lane) in lanes.into_iter().enumerate().take(n) {
            unsafe { *p.add(i) = lane };
        }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn fnma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmsq_f32(c, a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        unsafe { vsqrtq_f32(a) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // Not vmaxq_f32: that one returns NaN where either operand is NaN, and this trait's contract is `a > b ? a : b`.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        unsafe { vabsq_f32(a) }
    }
    #[inline(always)]
    fn neg(self, a: float32x4_t) -> float32x4_t {
        unsafe { vnegq_f32(a) }
    }
    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(a) }
    }
    #[inline(always)]
    fn exp2_integral(self, n: float32x4_t) -> float32x4_t {
        unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
    }
    #[inline(always)]
    fn decompose(self, a: float32x4_t) -> (float32x4_t, float32x4_t) {
        unsafe {
            let bits = vreinterpretq_s32_f32(a);
            let exponent = vsubq_s32(vshrq_n_s32::<23>(bits), vdupq_n_s32(127));
            let mantissa = vorrq_s32(
                vandq_s32(bits, vdupq_n_s32(0x007f_ffff)),
                vdupq_n_s32(0x3f80_0000),
            );
            (vreinterpretq_f32_s32(mantissa), vcvtq_f32_s32(exponent))
        }
    }
    #[inline(always)]
    fn gt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        unsafe { vcgtq_f32(a, b) }
    }
    #[inline(always)]
    fn ge(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        unsafe { vcgeq_f32(a, b) }
    }
    #[inline(always)]
    fn unpack(self, bits: u32) -> uint32x4_t {
        unsafe { vtstq_u32(vdupq_n_u32(bits), vld1q_u32([1, 2, 4, 8].as_ptr())) }
    }
    #[inline(always)]
    fn select(self, mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(mask, a, b) }
    }
    #[inline(always)]
    fn sum(self, a: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(a) }
    }
    #[inline(always)]
    fn splat64(self, x: f64) -> float64x2_t {
        unsafe { vdupq_n_f64(x) }
    }
    #[inline(always)]
    fn widen(self, a: float32x4_t) -> [float64x2_t; 2] {
        unsafe { [vcvt_f64_f32(vget_low_f32(a)), vcvt_high_f64_f32(a)] }
    }
    #[inline(always)]
    fn narrow(self, a: [float64x2_t; 2]) -> float32x4_t {
        unsafe { vcvt_high_f32_f64(vcvt_f32_f64(a[0]), a[1]) }
    }
    #[inline(always)]
    fn add64(self, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        unsafe { vaddq_f64(a, b) }
    }
    #[inline(always)]
    fn sub64(self, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        unsafe { vsubq_f64(a, b) }
    }
    #[inline(always)]
    fn mul64(self, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        unsafe { vmulq_f64(a, b) }
    }
    #[inline(always)]
    fn fma64(self, a: float64x2_t, b: float64x2_t, c: float64x2_t) -> float64x2_t {
        unsafe { vfmaq_f64(c, a, b) }
    }
    #[inline(always)]
    fn sum64(self, a: float64x2_t) -> f64 {
        unsafe { vaddvq_f64(a) }
    }
    #[inline(always)]
    unsafe fn load64(self, p: *const f64) -> float64x2_t {
        unsafe { vld1q_f64(p) }
    }
    #[inline(always)]
    unsafe fn store64(self, v: float64x2_t, p: *mut f64) {
        unsafe { vst1q_f64(p, v) }
    }
    #[inline(always)]
    fn take_apart<const COUNT: usize>(self, vectors: [float32x4_t; COUNT]) -> [float32x4_t; COUNT] {
        if COUNT != 2 {
            return take_apart_in_memory(self, vectors);
        }
        let mut result = vectors;
        unsafe {
            result[0] = vuzp1q_f32(vectors[0], vectors[1]);
            result[1] = vuzp2q_f32(vectors[0], vectors[1]);
        }
        result
    }
    #[inline(always)]
    fn put_together<const COUNT: usize>(
        self,
        vectors: [float32x4_t; COUNT],
    ) -> [float32x4_t; COUNT] {
        if COUNT != 2 {
            return put_together_in_memory(self, vectors);
        }
        let mut result = vectors;
        unsafe {
            result[0] = vzip1q_f32(vectors[0], vectors[1]);
            result[1] = vzip2q_f32(vectors[0], vectors[1]);
        }
        result
    }
}
