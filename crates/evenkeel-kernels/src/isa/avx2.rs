//! AVX2 with FMA: 8 f32 lanes, 16 registers.

use super::{Simd, SimdOp, put_together_in_memory, take_apart_in_memory};
use std::arch::x86_64::*;

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The token, for the bit vectors of the same processor.
    ///
    /// # Safety
    /// The processor must have these instructions.
    #[inline(always)]
    pub(super) unsafe fn token() -> Self {
        Avx2(())
    }
}

/// Runs `op` compiled for AVX2 with FMA.
///
/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn run<O: SimdOp>(op: O) -> O::Output {
    op.call(Avx2(()))
}

/// A sliding window over eight ones and eight zeros: from index `8 - n` on, the first `n` lanes are set.
static LANE_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The mask of the first `n <= 8` lanes.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn lanes(n: usize) -> __m256i {
    assert!(n <= 8);
    // SAFETY: 8 - n is in 0..=8, and 8 values from there on lie inside the 16 of the table.
    unsafe { _mm256_loadu_si256(LANE_MASKS.as_ptr().add(8 - n).cast()) }
}

// SAFETY, for every block below: an `Avx2` exists only inside `run`, whose contract is that the processor has these
// instructions; loads and stores pass on their caller's promise about the pointer.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type F32 = __m256;
    type F64 = __m256d;
    type Mask = __m256;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, v: __m256, p: *mut f32) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(self, v: __m256, p: *mut f32) {
        unsafe { _mm256_stream_ps(p, v) }
    }
    #[inline(always)]
    fn drain(self) {
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_far(self, p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[allow(
        clippy::pointers_in_nomem_asm_block,
        reason = "what is only asked for is neither read nor written"
    )]
    #[inline(always)]
    fn prefetch_write(self, p: *const f32) {
        // The intrinsic becomes a request to read where the compiler is not told of PREFETCHW, which all processors with AVX2 accept.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) p, options(nomem, nostack, preserves_flags));
        }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m256 {
        unsafe { _mm256_maskload_ps(p, lanes(n)) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, v: __m256, p: *mut f32, n: usize) {
        unsafe { _mm256_maskstore_ps(p, lanes(n), v) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn fnma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn neg(self, a: __m256) -> __m256 {
        unsafe { _mm256_xor_ps(a, _mm256_set1_ps(-0.0)) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_integral(self, n: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn decompose(self, a: __m256) -> (__m256, __m256) {
        unsafe {
            let bits = _mm256_castps_si256(a);
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
            let mantissa = _mm256_or_si256(
                _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)),
                _mm256_set1_epi32(0x3f80_0000),
            );
            (_mm256_castsi256_ps(mantissa), _mm256_cvtepi32_ps(exponent))
        }
    }
    #[inline(always)]
    fn gt(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    fn ge(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_cmp_ps::<_CMP_GE_OQ>(a, b) }
    }
    #[inline(always)]
    fn unpack(self, bits: u32) -> __m256 {
        unsafe {
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let own = _mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes);
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(own, lanes))
        }
    }
    #[inline(always)]
    fn select(self, mask: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(b, a, mask) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn max_lane(self, a: __m256) -> f32 {
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn splat64(self, x: f64) -> __m256d {
        unsafe { _mm256_set1_pd(x) }
    }
    #[inline(always)]
    fn widen(self, a: __m256) -> [__m256d; 2] {
        unsafe {
            [
                _mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(a)),
            ]
        }
    }
    #[inline(always)]
    fn narrow(self, a: [__m256d; 2]) -> __m256 {
        unsafe {
            _mm256_insertf128_ps::<1>(
                _mm256_castps128_ps256(_mm256_cvtpd_ps(a[0])),
                _mm256_cvtpd_ps(a[1]),
            )
        }
    }
    #[inline(always)]
    fn add64(self, a: __m256d, b: __m256d) -> __m256d {
        unsafe { _mm256_add_pd(a, b) }
    }
    #[inline(always)]
    fn sub64(self, a: __m256d, b: __m256d) -> __m256d {
        unsafe { _mm256_sub_pd(a, b) }
    }
    #[inline(always)]
    fn mul64(self, a: __m256d, b: __m256d) -> __m256d {
        unsafe { _mm256_mul_pd(a, b) }
    }
    #[inline(always)]
    fn fma64(self, a: __m256d, b: __m256d, c: __m256d) -> __m256d {
        unsafe { _mm256_fmadd_pd(a, b, c) }
    }
    #[inline(always)]
    fn sum64(self, a: __m256d) -> f64 {
        unsafe {
            let x = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd::<1>(a));
            _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
        }
    }
    #[inline(always)]
    unsafe fn load64(self, p: *const f64) -> __m256d {
        unsafe { _mm256_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store64(self, v: __m256d, p: *mut f64) {
        unsafe { _mm256_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn load_quads(self, p: *const f32, stride: usize) -> __m256 {
        unsafe {
            let low = _mm256_castps128_ps256(_mm_loadu_ps(p));
            _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(p.add(stride)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        unsafe {
            // Squares of four by four inside each 128-bit lane, and then the lanes.
            let mut quads = [_mm256_setzero_ps(); 8];
            for k in (0..8).step_by(4) {
                let row = |i: usize| _mm256_loadu_ps(from.add((k + i) * from_stride));
                let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                let low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                let high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
                let low2 = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
                let high2 = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
                quads[k] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, low2));
                quads[k + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, low2));
                quads[k + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, high2));
                quads[k + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, high2));
            }
            for j in 0..4 {
                let (a, b) = (quads[j], quads[4 + j]);
                let to = to.add(j * to_stride);
                _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(to.add(4 * to_stride), _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }
    #[inline(always)]
    fn take_apart<const COUNT: usize>(self, vectors: [__m256; COUNT]) -> [__m256; COUNT] {
        if COUNT != 2 {
            return take_apart_in_memory(self, vectors);
        }
        let (a, b) = (vectors[0], vectors[1]);
        let mut result = vectors;
        // Even and odd lanes of both, by halves of 128 bits; then the middle quarters change places.
        unsafe {
            let (even, odd) = (
                _mm256_shuffle_ps::<0x88>(a, b),
                _mm256_shuffle_ps::<0xDD>(a, b),
            );
            let even = _mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(even));
            let odd = _mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(odd));
            (result[0], result[1]) = (_mm256_castpd_ps(even), _mm256_castpd_ps(odd));
        }
        result
    }
    #[inline(always)]
    fn put_together<const COUNT: usize>(self, vectors: [__m256; COUNT]) -> [__m256; COUNT] {
        if COUNT != 2 {
            return put_together_in_memory(self, vectors);
        }
        let (a, b) = (vectors[0], vectors[1]);
        let mut result = vectors;
        unsafe {
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            result[0] = _mm256_permute2f128_ps::<0x20>(low, high);
            result[1] = _mm256_permute2f128_ps::<0x31>(low, high);
        }
        result
    }
}
