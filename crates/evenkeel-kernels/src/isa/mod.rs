//! Instruction sets: the vector trait that kernels are generic over, and run-time dispatch.
//!
//! A kernel is a value that implements [`SimdOp`]: one generic algorithm, written once over [`Simd`]. [`dispatch`] picks the
//! best instruction set this machine has (or the one `EVENKEEL_ISA` names) and runs the kernel inside a function compiled for
//! it. Dispatch is per task, inside parallel loops: closures that rayon runs on other threads must dispatch again, because
//! a target feature does not cross a function boundary that is not inlined.
//!
//! This folder is the only place with `std::arch`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bits;
#[cfg(target_arch = "aarch64")]
mod bits_neon;
mod bits_portable;
#[cfg(target_arch = "x86_64")]
mod bits_x86;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;

use std::sync::atomic::{AtomicU8, Ordering};

/// The widest vector, in f32 lanes, of any instruction set here: the size for stack buffers of one vector.
pub const MAX_LANES: usize = 16;

/// One instruction set's vectors of f32, with the f64 vectors that statistics are accumulated in.
///
/// A value of an implementing type is a proof that the processor has the instruction set: only [`dispatch`] makes one.
/// All methods are `#[inline(always)]`, so that they are compiled with the features of the kernel they are inlined into.
///
/// `fma` is a fused multiply-add (one rounding) on AVX-512, AVX2 and NEON, and a multiplication followed by an addition on the
/// portable level, where a fused one would be a slow library call.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Self::LANES`] f32.
    type F32: Copy;
    /// A vector of `LANES / 2` f64.
    type F64: Copy;
    /// The result of a comparison of two [`Self::F32`], lane by lane.
    type Mask: Copy;

    /// Lanes of one f32 vector.
    const LANES: usize;
    /// Vector registers of the architecture, for choosing register tiles.
    const REGISTERS: usize;

    /// A vector with `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// Loads `LANES` values; no alignment is needed.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` f32.
    unsafe fn load(self, p: *const f32) -> Self::F32;
    /// Stores `LANES` values; no alignment is needed.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` f32.
    unsafe fn store(self, v: Self::F32, p: *mut f32);
    /// Stores `LANES` values past the caches where the instruction set can, so that a line that is overwritten whole is not read
    /// first. Other threads see them after [`Self::drain`].
    ///
    /// # Safety
    /// As [`Self::store`], and `p` must be aligned to the vector's size.
    #[inline(always)]
    unsafe fn stream(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.store(v, p) };
    }
    /// Orders what [`Self::stream`] stored before whatever this thread stores next.
    #[inline(always)]
    fn drain(self) {}
    /// Loads the first `n <= LANES` lanes; the rest are zero. Memory past `n` values is not touched.
    ///
    /// # Safety
    /// `p` must be valid for reading `n` f32.
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::F32;
    /// Stores the first `n <= LANES` lanes. Memory past `n` values is not touched.
    ///
    /// # Safety
    /// `p` must be valid for writing `n` f32.
    unsafe fn store_partial(self, v: Self::F32, p: *mut f32, n: usize);

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `c - a * b`.
    fn fnma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The square root, correctly rounded.
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// `a > b ? a : b`: where either is NaN the result is `b` (so `max(x, splat(k))` hides a NaN in x, and
    /// `max(splat(k), x)` keeps it).
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a < b ? a : b`: where either is NaN the result is `b`.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The absolute value.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// `-a`.
    fn neg(self, a: Self::F32) -> Self::F32;
    /// `a` rounded to the nearest integer, halves to even. `|a| < 2^22`, or the result is unspecified.
    fn round(self, a: Self::F32) -> Self::F32;
    /// `2^n` for integral `n` in -126..=127.
    fn exp2_integral(self, n: Self::F32) -> Self::F32;
    /// The mantissa `m` in `1.0..2.0` and the exponent `e` of `a = m * 2^e`. `a` must be positive, finite and normal, or both are
    /// unspecified.
    fn decompose(self, a: Self::F32) -> (Self::F32, Self::F32);
    /// `a > b`, false where either is NaN.
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a >= b`, false where either is NaN.
    fn ge(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// True in lane i where bit i of `bits` is 1; bits from `LANES` on are ignored.
    fn unpack(self, bits: u32) -> Self::Mask;
    /// `mask ? a : b`, lane by lane.
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The sum of all lanes, by halving: the same tree for every call.
    fn sum(self, a: Self::F32) -> f32;
    /// The largest lane.
    fn max_lane(self, a: Self::F32) -> f32;

    /// An f64 vector with `x` in every lane.
    fn splat64(self, x: f64) -> Self::F64;
    /// Both halves of `a` as f64: the lower lanes first.
    fn widen(self, a: Self::F32) -> [Self::F64; 2];
    /// Two f64 vectors rounded to one f32 vector, the inverse of `widen`.
    fn narrow(self, a: [Self::F64; 2]) -> Self::F32;
    /// `a + b`.
    fn add64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a - b`.
    fn sub64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a * b`.
    fn mul64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a * b + c`.
    fn fma64(self, a: Self::F64, b: Self::F64, c: Self::F64) -> Self::F64;
    /// The sum of all lanes, by halving.
    fn sum64(self, a: Self::F64) -> f64;
    /// Loads `LANES / 2` f64; no alignment is needed.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES / 2` f64.
    unsafe fn load64(self, p: *const f64) -> Self::F64;
    /// Stores `LANES / 2` f64; no alignment is needed.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES / 2` f64.
    unsafe fn store64(self, v: Self::F64, p: *mut f64);

    /// Transposes a square of `LANES` rows and columns: `to[j * to_stride + i] = from[i * from_stride + j]`.
    ///
    /// # Safety
    /// `from` must be valid for reading and `to` for writing `LANES` f32 at each of `LANES` multiples of their strides.
    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        for i in 0..Self::LANES {
            for j in 0..Self::LANES {
                // SAFETY: row and column lie in the square that the caller promises.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }

    /// Loads `LANES / 4` runs of four values, `stride` apart.
    ///
    /// # Safety
    /// `p` must be valid for reading four f32 at each of `LANES / 4` multiples of `stride`.
    #[inline(always)]
    unsafe fn load_quads(self, p: *const f32, stride: usize) -> Self::F32 {
        let mut values = [0.0; MAX_LANES];
        for i in 0..Self::LANES {
            // SAFETY: the caller's promise.
            values[i] = unsafe { *p.add(i / 4 * stride + i % 4) };
        }
        // SAFETY: there are at least LANES values.
        unsafe { self.load(values.as_ptr()) }
    }

    /// Takes `COUNT` interleaved sequences apart: lane i of result k is value `i * COUNT + k` of the `LANES * COUNT` values that
    /// `vectors` hold one after another. Two are the cheapest.
    #[inline(always)]
    fn take_apart<const COUNT: usize>(self, vectors: [Self::F32; COUNT]) -> [Self::F32; COUNT] {
        take_apart_in_memory(self, vectors)
    }

    /// The inverse of [`Self::take_apart`].
    #[inline(always)]
    fn put_together<const COUNT: usize>(self, vectors: [Self::F32; COUNT]) -> [Self::F32; COUNT] {
        put_together_in_memory(self, vectors)
    }

    /// Asks for the cache line at `p` before it is needed. Any address is allowed: nothing is read.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        let _ = p;
    }

    /// As [`Self::prefetch`], into the second-level cache alone.
    #[inline(always)]
    fn prefetch_far(self, p: *const f32) {
        let _ = p;
    }

    /// The same for a cache line that will be written.
    #[inline(always)]
    fn prefetch_write(self, p: *const f32) {
        let _ = p;
    }

    /// The zero vector.
    #[inline(always)]
    fn zero(self) -> Self::F32 {
        self.splat(0.0)
    }
}

/// [`Simd::take_apart`] where permutations of registers do not do it.
#[inline(always)]
fn take_apart_in_memory<S: Simd, const COUNT: usize>(
    s: S,
    vectors: [S::F32; COUNT],
) -> [S::F32; COUNT] {
    let (mut from, mut to) = ([[0.0; MAX_LANES]; COUNT], [[0.0; MAX_LANES]; COUNT]);
    let mut results = vectors;
    for k in 0..COUNT {
        // SAFETY: COUNT rows of MAX_LANES >= LANES values hold COUNT vectors one after another.
        unsafe {
            s.store(
                vectors[k],
                from.as_mut_ptr().cast::<f32>().add(k * S::LANES),
            )
        };
    }
    for k in 0..COUNT {
        for i in 0..S::LANES {
            to[k][i] = from.as_flattened()[i * COUNT + k];
        }
        // SAFETY: a row has at least LANES values.
        results[k] = unsafe { s.load(to[k].as_ptr()) };
    }
    results
}

/// [`Simd::put_together`] where permutations of registers do not do it.
#[inline(always)]
fn put_together_in_memory<S: Simd, const COUNT: usize>(
    s: S,
    vectors: [S::F32; COUNT],
) -> [S::F32; COUNT] {
    let (mut from, mut to) = ([[0.0; MAX_LANES]; COUNT], [[0.0; MAX_LANES]; COUNT]);
    let mut results = vectors;
    for k in 0..COUNT {
        // SAFETY: a row has at least LANES values.
        unsafe { s.store(vectors[k], from[k].as_mut_ptr()) };
        for i in 0..S::LANES {
            to.as_flattened_mut()[i * COUNT + k] = from[k][i];
        }
    }
    for k in 0..COUNT {
        // SAFETY: COUNT rows of MAX_LANES >= LANES values hold COUNT vectors one after another.
        results[k] = unsafe { s.load(to.as_ptr().cast::<f32>().add(k * S::LANES)) };
    }
    results
}

/// A kernel: one algorithm, generic over the instruction set. Mark `call` `#[inline(always)]`.
pub trait SimdOp {
    /// What the kernel returns.
    type Output;
    /// Runs the kernel with the vectors of `simd`.
    fn call<S: Simd>(self, simd: S) -> Self::Output;
}

/// A level of SIMD instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// No instruction beyond the target's baseline.
    Portable = 1,
    /// 128-bit NEON (every AArch64 processor).
    Neon = 2,
    /// 256-bit AVX2 with FMA.
    Avx2 = 3,
    /// 512-bit AVX-512 F, BW, DQ and VL.
    Avx512 = 4,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Level; 4] = [Level::Portable, Level::Neon, Level::Avx2, Level::Avx512];

    /// The name that `EVENKEEL_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Whether this processor can run this level.
    pub fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            Level::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => false,
        }
    }

    /// The levels this processor has, lowest first.
    pub fn available() -> Vec<Level> {
        Level::ALL
            .into_iter()
            .filter(|level| level.is_available())
            .collect()
    }

    fn from_repr(value: u8) -> Option<Level> {
        Level::ALL.into_iter().find(|level| *level as u8 == value)
    }
}

/// The level in use; 0 until the first question.
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// The level that [`dispatch`] uses: the best this processor has, unless the environment variable `EVENKEEL_ISA` (`portable`,
/// `neon`, `avx2`, `avx512`) or [`force_level`] names another. A name that is unknown, or that this processor cannot run, is
/// ignored here; callers that can report it use [`requested_level`].
pub fn level() -> Level {
    if let Some(level) = Level::from_repr(CURRENT.load(Ordering::Relaxed)) {
        return level;
    }
    let best = Level::available().pop().unwrap_or(Level::Portable);
    let level = match requested_level() {
        Ok(Some(level)) => level,
        _ => best,
    };
    // Another thread may have forced one meanwhile.
    let first = CURRENT.compare_exchange(0, level as u8, Ordering::Relaxed, Ordering::Relaxed);
    first.err().and_then(Level::from_repr).unwrap_or(level)
}

/// What `EVENKEEL_ISA` asks for: nothing, a level this processor has, or an error that says what is wrong with it.
pub fn requested_level() -> Result<Option<Level>, String> {
    let Ok(name) = std::env::var("EVENKEEL_ISA") else {
        return Ok(None);
    };
    if name.is_empty() {
        return Ok(None);
    }
    let names: Vec<_> = Level::available().into_iter().map(Level::name).collect();
    match Level::from_name(&name) {
        Some(level) if level.is_available() => Ok(Some(level)),
        Some(_) => Err(format!(
            "EVENKEEL_ISA={name}: this processor lacks it; it has {}",
            names.join(", ")
        )),
        None => Err(format!(
            "EVENKEEL_ISA={name}: unknown level; this processor has {}",
            names.join(", ")
        )),
    }
}

/// Makes [`dispatch`] use `level` from now on, in every thread; false (and no change) where this processor lacks it.
pub fn force_level(level: Level) -> bool {
    let available = level.is_available();
    if available {
        CURRENT.store(level as u8, Ordering::Relaxed);
    }
    available
}

/// Runs `op` on the current [`level`].
#[inline]
pub fn dispatch<O: SimdOp>(op: O) -> O::Output {
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` only ever returns a level that `is_available` has confirmed on this processor.
        Level::Avx512 => unsafe { avx512::run(op) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2::run(op) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Level::Neon => unsafe { neon::run(op) },
        _ => op.call(Portable::new()),
    }
}

#[cfg(test)]
mod tests;
