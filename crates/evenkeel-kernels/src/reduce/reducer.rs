//! What is accumulated, apart from how the input is walked.

use crate::isa::{MAX_LANES, Simd};

/// One way of reducing: vectors of partial results, and how two results make one.
pub(super) trait Reducer: Copy + Send + Sync {
    /// A vector of partial results, one for each f32 lane.
    type Partial<S: Simd>: Copy;

    /// The result of nothing.
    const NOTHING: f64;

    /// A vector of [`Self::NOTHING`].
    fn start<S: Simd>(self, simd: S) -> Self::Partial<S>;

    /// Takes one number into each lane.
    fn step<S: Simd>(self, simd: S, partial: Self::Partial<S>, x: S::F32) -> Self::Partial<S>;

    /// The partial results of two vectors, lane by lane.
    fn merge<S: Simd>(self, simd: S, a: Self::Partial<S>, b: Self::Partial<S>) -> Self::Partial<S>;

    /// The partial results, one for each lane; the rest of the array is untouched.
    fn lanes<S: Simd>(self, simd: S, partial: Self::Partial<S>, lanes: &mut [f64; MAX_LANES]);

    /// What a missing lane is filled with, so that it changes nothing.
    fn filler(self) -> f32;

    /// One result of two, the earlier first.
    fn combine(self, a: f64, b: f64) -> f64;

    /// The output.
    fn finish(self, total: f64) -> f32;
}

/// Writes a pair of f64 vectors out.
#[inline(always)]
fn write_lanes<S: Simd>(simd: S, partial: [S::F64; 2], lanes: &mut [f64; MAX_LANES]) {
    // SAFETY: each half is LANES / 2 numbers, and the array holds MAX_LANES >= LANES.
    unsafe {
        simd.store64(partial[0], lanes.as_mut_ptr());
        simd.store64(partial[1], lanes.as_mut_ptr().add(S::LANES / 2));
    }
}

/// The sum in f64, divided at the end.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub divisor: f64,
}

impl Reducer for Sum {
    type Partial<S: Simd> = [S::F64; 2];
    const NOTHING: f64 = 0.0;

    #[inline(always)]
    fn start<S: Simd>(self, simd: S) -> [S::F64; 2] {
        [simd.splat64(0.0); 2]
    }
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, partial: [S::F64; 2], x: S::F32) -> [S::F64; 2] {
        let [low, high] = simd.widen(x);
        [simd.add64(partial[0], low), simd.add64(partial[1], high)]
    }
    #[inline(always)]
    fn merge<S: Simd>(self, simd: S, a: [S::F64; 2], b: [S::F64; 2]) -> [S::F64; 2] {
        [simd.add64(a[0], b[0]), simd.add64(a[1], b[1])]
    }
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, partial: [S::F64; 2], lanes: &mut [f64; MAX_LANES]) {
        write_lanes(simd, partial, lanes);
    }
    #[inline(always)]
    fn filler(self) -> f32 {
        0.0
    }
    #[inline(always)]
    fn combine(self, a: f64, b: f64) -> f64 {
        a + b
    }
    fn finish(self, total: f64) -> f32 {
        (total / self.divisor) as f32
    }
}

/// The sum of squares in f64.
#[derive(Clone, Copy)]
pub(super) struct SumOfSquares;

impl Reducer for SumOfSquares {
    type Partial<S: Simd> = [S::F64; 2];
    const NOTHING: f64 = 0.0;

    #[inline(always)]
    fn start<S: Simd>(self, simd: S) -> [S::F64; 2] {
        [simd.splat64(0.0); 2]
    }
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, partial: [S::F64; 2], x: S::F32) -> [S::F64; 2] {
        let [low, high] = simd.widen(x);
        [
            simd.fma64(low, low, partial[0]),
            simd.fma64(high, high, partial[1]),
        ]
    }
    #[inline(always)]
    fn merge<S: Simd>(self, simd: S, a: [S::F64; 2], b: [S::F64; 2]) -> [S::F64; 2] {
        [simd.add64(a[0], b[0]), simd.add64(a[1], b[1])]
    }
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, partial: [S::F64; 2], lanes: &mut [f64; MAX_LANES]) {
        write_lanes(simd, partial, lanes);
    }
    #[inline(always)]
    fn filler(self) -> f32 {
        0.0
    }
    #[inline(always)]
    fn combine(self, a: f64, b: f64) -> f64 {
        a + b
    }
    fn finish(self, total: f64) -> f32 {
        total as f32
    }
}

/// The largest (`LARGEST`) or the smallest; a NaN wins over everything.
#[derive(Clone, Copy)]
pub(super) struct Extremum<const LARGEST: bool>;

impl<const LARGEST: bool> Reducer for Extremum<LARGEST> {
    type Partial<S: Simd> = S::F32;
    const NOTHING: f64 = if LARGEST {
        f64::NEG_INFINITY
    } else {
        f64::INFINITY
    };

    #[inline(always)]
    fn start<S: Simd>(self, simd: S) -> S::F32 {
        simd.splat(Self::NOTHING as f32)
    }
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, partial: S::F32, x: S::F32) -> S::F32 {
        let better = if LARGEST {
            simd.gt(x, partial)
        } else {
            simd.gt(partial, x)
        };
        // A NaN in `partial` loses no comparison; one in `x` is taken explicitly.
        simd.select(simd.ge(x, x), simd.select(better, x, partial), x)
    }
    #[inline(always)]
    fn merge<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        self.step(simd, a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, partial: S::F32, lanes: &mut [f64; MAX_LANES]) {
        write_lanes(simd, simd.widen(partial), lanes);
    }
    #[inline(always)]
    fn filler(self) -> f32 {
        Self::NOTHING as f32
    }
    #[inline(always)]
    fn combine(self, a: f64, b: f64) -> f64 {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else if LARGEST == (b > a) {
            b
        } else {
            a
        }
    }
    fn finish(self, total: f64) -> f32 {
        total as f32
    }
}
