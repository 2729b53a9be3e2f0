//! The level every target has: arrays of four lanes, which the compiler turns into its baseline vectors (SSE2 on x86-64).

use super::Simd;

/// Needs nothing of the processor.
#[derive(Clone, Copy, Default)]
pub struct Portable(());

impl Portable {
    /// The token; any processor will do.
    pub fn new() -> Self {
        Portable(())
    }
}

const LANES: usize = 4;
type F32 = [f32; LANES];
type F64 = [f64; LANES / 2];

#[inline(always)]
fn map(a: F32, f: impl Fn(f32) -> f32) -> F32 {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: F32, b: F32, f: impl Fn(f32, f32) -> f32) -> F32 {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn zip64(a: F64, b: F64, f: impl Fn(f64, f64) -> f64) -> F64 {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F32 = F32;
    type F64 = F64;
    type Mask = [bool; LANES];
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> F32 {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> F32 {
        // SAFETY: the caller promises LANES readable values; the read is unaligned.
        unsafe { p.cast::<F32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, v: F32, p: *mut f32) {
        // SAFETY: the caller promises LANES writable values; the write is unaligned.
        unsafe { p.cast::<F32>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> F32 {
        // SAFETY: the caller promises n readable values.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_partial(self, v: F32, p: *mut f32, n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: the caller promises n writable values.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    fn add(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F32, b: F32, c: F32) -> F32 {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn fnma(self, a: F32, b: F32, c: F32) -> F32 {
        std::array::from_fn(|i| c[i] - a[i] * b[i])
    }
    #[inline(always)]
    fn sqrt(self, a: F32) -> F32 {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn max(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: F32) -> F32 {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn neg(self, a: F32) -> F32 {
        map(a, |a| -a)
    }
    #[inline(always)]
    fn round(self, a: F32) -> F32 {
        // Adding and taking away 1.5 * 2^23 leaves no bits for a fraction: the hardware rounds, halves to even.
        const MAGIC: f32 = 12_582_912.0;
        map(a, |a| (a + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn exp2_integral(self, n: F32) -> F32 {
        map(n, |n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn decompose(self, a: F32) -> (F32, F32) {
        (
            map(a, |a| {
                f32::from_bits((a.to_bits() & 0x007f_ffff) | 0x3f80_0000)
            }),
            map(a, |a| (a.to_bits() >> 23) as f32 - 127.0),
        )
    }
    #[inline(always)]
    fn gt(self, a: F32, b: F32) -> [bool; LANES] {
        std::array::from_fn(|i| a[i] > b[i])
    }
    #[inline(always)]
    fn ge(self, a: F32, b: F32) -> [bool; LANES] {
        std::array::from_fn(|i| a[i] >= b[i])
    }
    #[inline(always)]
    fn unpack(self, bits: u32) -> [bool; LANES] {
        std::array::from_fn(|i| bits >> i & 1 == 1)
    }
    #[inline(always)]
    fn select(self, mask: [bool; LANES], a: F32, b: F32) -> F32 {
        std::array::from_fn(|i| if mask[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn sum(self, a: F32) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn max_lane(self, a: F32) -> f32 {
        a[0].max(a[2]).max(a[1].max(a[3]))
    }
    #[inline(always)]
    fn splat64(self, x: f64) -> F64 {
        [x; LANES / 2]
    }
    #[inline(always)]
    fn widen(self, a: F32) -> [F64; 2] {
        [
            [f64::from(a[0]), f64::from(a[1])],
            [f64::from(a[2]), f64::from(a[3])],
        ]
    }
    #[inline(always)]
    fn narrow(self, a: [F64; 2]) -> F32 {
        [
            a[0][0] as f32,
            a[0][1] as f32,
            a[1][0] as f32,
            a[1][1] as f32,
        ]
    }
    #[inline(always)]
    fn add64(self, a: F64, b: F64) -> F64 {
        zip64(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub64(self, a: F64, b: F64) -> F64 {
        zip64(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul64(self, a: F64, b: F64) -> F64 {
        zip64(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn fma64(self, a: F64, b: F64, c: F64) -> F64 {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn sum64(self, a: F64) -> f64 {
        a[0] + a[1]
    }
    #[inline(always)]
    unsafe fn load64(self, p: *const f64) -> F64 {
        // SAFETY: the caller promises LANES / 2 readable values; the read is unaligned.
        unsafe { p.cast::<F64>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store64(self, v: F64, p: *mut f64) {
        // SAFETY: the caller promises LANES / 2 writable values; the write is unaligned.
        unsafe { p.cast::<F64>().write_unaligned(v) }
    }
}
