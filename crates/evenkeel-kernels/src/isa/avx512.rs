//! AVX-512: 16 f32 lanes, 32 registers.

use super::{Simd, SimdOp};
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 F, BW, DQ, VL and AVX2, FMA.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The token, for the bit vectors of the same processor.
    ///
    /// # Safety
    /// The processor must have these instructions.
    #[inline(always)]
    pub(super) unsafe fn token() -> Self {
        Avx512(())
    }
}

/// Runs `op` compiled for AVX-512.
///
/// # Safety
/// The processor must have AVX-512 F, BW, DQ, VL and AVX2, FMA.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub unsafe fn run<O: SimdOp>(op: O) -> O::Output {
    op.call(Avx512(()))
}

#[inline(always)]
fn lanes(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY, for every block below: an `Avx512` exists only inside `run`, whose contract is that the processor has these
// instructions; loads and stores pass on their caller's promise about the pointer.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type F32 = __m512;
    type F64 = __m512d;
    type Mask = __mmask16;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, v: __m512, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(self, v: __m512, p: *mut f32) {
        unsafe { _mm512_stream_ps(p, v) }
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
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(lanes(n), p) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, v: __m512, p: *mut f32, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, lanes(n), v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        unsafe { _mm512_xor_ps(a, _mm512_set1_ps(-0.0)) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_integral(self, n: __m512) -> __m512 {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn decompose(self, a: __m512) -> (__m512, __m512) {
        unsafe {
            let bits = _mm512_castps_si512(a);
            let exponent = _mm512_sub_epi32(_mm512_srli_epi32::<23>(bits), _mm512_set1_epi32(127));
            let mantissa = _mm512_or_si512(
                _mm512_and_si512(bits, _mm512_set1_epi32(0x007f_ffff)),
                _mm512_set1_epi32(0x3f80_0000),
            );
            (_mm512_castsi512_ps(mantissa), _mm512_cvtepi32_ps(exponent))
        }
    }
    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    fn ge(self, a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b) }
    }
    #[inline(always)]
    fn unpack(self, bits: u32) -> __mmask16 {
        bits as __mmask16
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    fn splat64(self, x: f64) -> __m512d {
        unsafe { _mm512_set1_pd(x) }
    }
    #[inline(always)]
    fn widen(self, a: __m512) -> [__m512d; 2] {
        unsafe {
            [
                _mm512_cvtps_pd(_mm512_castps512_ps256(a)),
                _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(a)),
            ]
        }
    }
    #[inline(always)]
    fn narrow(self, a: [__m512d; 2]) -> __m512 {
        unsafe {
            _mm512_insertf32x8::<1>(
                _mm512_castps256_ps512(_mm512_cvtpd_ps(a[0])),
                _mm512_cvtpd_ps(a[1]),
            )
        }
    }
    #[inline(always)]
    fn add64(self, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_add_pd(a, b) }
    }
    #[inline(always)]
    fn sub64(self, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_sub_pd(a, b) }
    }
    #[inline(always)]
    fn mul64(self, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_mul_pd(a, b) }
    }
    #[inline(always)]
    fn fma64(self, a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        unsafe { _mm512_fmadd_pd(a, b, c) }
    }
    #[inline(always)]
    fn sum64(self, a: __m512d) -> f64 {
        unsafe { _mm512_reduce_add_pd(a) }
    }
    #[inline(always)]
    unsafe fn load64(self, p: *const f64) -> __m512d {
        unsafe { _mm512_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store64(self, v: __m512d, p: *mut f64) {
        unsafe { _mm512_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn load_quads(self, p: *const f32, stride: usize) -> __m512 {
        unsafe {
            let low = _mm512_castps128_ps512(_mm_loadu_ps(p));
            let low = _mm512_insertf32x4::<1>(low, _mm_loadu_ps(p.add(stride)));
            let low = _mm512_insertf32x4::<2>(low, _mm_loadu_ps(p.add(2 * stride)));
            _mm512_insertf32x4::<3>(low, _mm_loadu_ps(p.add(3 * stride)))
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
            // Squares of four by four inside each 128-bit lane ...
            let mut quads = [_mm512_setzero_ps(); 16];
            for k in (0..16).step_by(4) {
                let row = |i: usize| _mm512_loadu_ps(from.add((k + i) * from_stride));
                let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                let low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                let high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
                let low2 = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
                let high2 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
                quads[k] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
                quads[k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
                quads[k + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
                quads[k + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
            }
            // ... and then the lanes.
            for j in 0..4 {
                let (a, b, c, d) = (quads[j], quads[4 + j], quads[8 + j], quads[12 + j]);
                let ab = _mm512_shuffle_f32x4::<0x44>(a, b);
                let ab2 = _mm512_shuffle_f32x4::<0xEE>(a, b);
                let cd = _mm512_shuffle_f32x4::<0x44>(c, d);
                let cd2 = _mm512_shuffle_f32x4::<0xEE>(c, d);
                let to = to.add(j * to_stride);
                _mm512_storeu_ps(to, _mm512_shuffle_f32x4::<0x88>(ab, cd));
                _mm512_storeu_ps(to.add(4 * to_stride), _mm512_shuffle_f32x4::<0xDD>(ab, cd));
                _mm512_storeu_ps(
                    to.add(8 * to_stride),
                    _mm512_shuffle_f32x4::<0x88>(ab2, cd2),
                );
                _mm512_storeu_ps(
                    to.add(12 * to_stride),
                    _mm512_shuffle_f32x4::<0xDD>(ab2, cd2),
                );
            }
        }
    }
    #[inline(always)]
    fn take_apart<const COUNT: usize>(self, vectors: [__m512; COUNT]) -> [__m512; COUNT] {
        collect(&Sequences::<COUNT>::APART, vectors)
    }
    #[inline(always)]
    fn put_together<const COUNT: usize>(self, vectors: [__m512; COUNT]) -> [__m512; COUNT] {
        collect(&Sequences::<COUNT>::TOGETHER, vectors)
    }
}

/// For each of `COUNT` results and each source vector but the first, the lanes to take from what has been collected (0..16) and from
/// that source (16..32); the first source is where collecting begins.
type Permutations<const COUNT: usize> = [[[i32; 16]; COUNT]; COUNT];

/// Permutations for `COUNT` interleaved sequences.
struct Sequences<const COUNT: usize>;

impl<const COUNT: usize> Sequences<COUNT> {
    const APART: Permutations<COUNT> = Self::permutations(true);
    const TOGETHER: Permutations<COUNT> = Self::permutations(false);

    const fn permutations(apart: bool) -> Permutations<COUNT> {
        let mut table = [[[0; 16]; COUNT]; COUNT];
        let mut result = 0;
        while result < COUNT {
            let mut lane = 0;
            while lane < 16 {
                let (vector, from) = if apart {
                    let element = lane * COUNT + result;
                    (element / 16, element % 16)
                } else {
                    let element = result * 16 + lane;
                    (element % COUNT, element / COUNT)
                };
                let mut source = 1;
                while source < COUNT {
                    table[result][source][lane] = if vector == source {
                        16 + from as i32
                    } else if source == 1 {
                        from as i32
                    } else {
                        lane as i32
                    };
                    source += 1;
                }
                lane += 1;
            }
            result += 1;
        }
        table
    }
}

/// Permutes `vectors` into as many results.
#[inline(always)]
fn collect<const COUNT: usize>(
    permutations: &Permutations<COUNT>,
    vectors: [__m512; COUNT],
) -> [__m512; COUNT] {
    let mut results = vectors;
    for result in 0..COUNT {
        let mut lanes = vectors[0];
        for source in 1..COUNT {
            // SAFETY: an index vector is 16 values; a caller has an `Avx512`, so the processor has the instructions.
            lanes = unsafe {
                let index = _mm512_loadu_si512(permutations[result][source].as_ptr().cast());
                _mm512_permutex2var_ps(lanes, index, vectors[source])
            };
        }
        results[result] = lanes;
    }
    results
}
