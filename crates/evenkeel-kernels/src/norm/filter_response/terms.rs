//! What filter response normalization does to every element.

use crate::activation::ActivationFunction;
use crate::isa::Simd;
use crate::norm::columns::{Place, Terms, load, store_output};

// Parameters, arrays of `padded` columns.
pub(super) const SCALE: usize = 0;
pub(super) const BETA: usize = 1;
pub(super) const TAU: usize = 2;
pub(super) const INVERSE: usize = 3;
pub(super) const OUTER: usize = 4;
pub(super) const ALONG: usize = 5;
pub(super) const FORWARD_PARAMETERS: usize = 3;
pub(super) const SUM_PARAMETERS: usize = 4;
pub(super) const GRADIENT_PARAMETERS: usize = 6;

/// What follows the affine part, as a type.
pub(super) trait EndingFunction: Copy + Send + Sync {
    fn apply<S: Simd>(self, simd: S, z: S::F32, tau: S::F32) -> S::F32;
    /// The gradients of `z` and of tau.
    fn gradient<S: Simd>(self, simd: S, z: S::F32, tau: S::F32, dy: S::F32) -> (S::F32, S::F32);
}

#[derive(Clone, Copy)]
pub(super) struct Threshold;

impl EndingFunction for Threshold {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, z: S::F32, tau: S::F32) -> S::F32 {
        // In this order equal values and NaN give z.
        simd.max(tau, z)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, z: S::F32, tau: S::F32, dy: S::F32) -> (S::F32, S::F32) {
        let below = simd.gt(tau, z);
        (
            simd.select(below, simd.zero(), dy),
            simd.select(below, dy, simd.zero()),
        )
    }
}

#[derive(Clone, Copy)]
pub(super) struct Function<A>(pub A);

impl<A: ActivationFunction> EndingFunction for Function<A> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, z: S::F32, _: S::F32) -> S::F32 {
        self.0.apply(simd, z)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, z: S::F32, _: S::F32, dy: S::F32) -> (S::F32, S::F32) {
        (self.0.gradient(simd, z, dy), simd.zero())
    }
}

/// Σ x².
pub(super) struct Squares<'a>(pub &'a [f32]);

// SAFETY: `length` is the slice's; nothing else is read.
unsafe impl Terms<1, 0> for Squares<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        _: &[S::F32; 0],
        sums: &mut [S::F32; 1],
    ) {
        // SAFETY: `place` is inside of `length`.
        let x = unsafe { load(simd, self.0, place) };
        sums[0] = simd.fma(x, x, sums[0]);
    }
}

/// `y = ending(x * scale + beta)`.
pub(super) struct Normalize<'a, E> {
    x: &'a [f32],
    y: &'a mut [f32],
    ending: E,
    stream: bool,
}

impl<'a, E> Normalize<'a, E> {
    /// `stream`: see [`streams`](crate::memory::streams).
    pub fn new(x: &'a [f32], y: &'a mut [f32], ending: E, stream: bool) -> Self {
        assert_eq!(x.len(), y.len());
        Normalize {
            x,
            y,
            ending,
            stream,
        }
    }
}

// SAFETY: `new` checked that both arrays have `length` elements.
unsafe impl<E: EndingFunction> Terms<0, FORWARD_PARAMETERS> for Normalize<'_, E> {
    fn length(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; FORWARD_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        // SAFETY: `place` is inside of `length`, and `streams` saw to it that what is streamed is aligned.
        unsafe {
            let x = load(simd, self.x, place);
            let z = simd.fma(x, p[SCALE], p[BETA]);
            let y = self.ending.apply(simd, z, p[TAU]);
            store_output(simd, y, self.y, place, self.stream);
        }
    }
}

/// What both gradient kernels read.
pub(super) struct Recompute<'a, E> {
    x: &'a [f32],
    dy: &'a [f32],
    ending: E,
}

impl<'a, E: EndingFunction> Recompute<'a, E> {
    pub fn new(x: &'a [f32], dy: &'a [f32], ending: E) -> Self {
        assert_eq!(x.len(), dy.len());
        Recompute { x, dy, ending }
    }

    /// `(normalized x, dz, dtau)` of the elements at `place`.
    ///
    /// # Safety
    /// `place` must be inside of `x`.
    #[inline(always)]
    unsafe fn values<S: Simd>(
        &self,
        simd: S,
        place: Place,
        p: &[S::F32],
    ) -> (S::F32, S::F32, S::F32) {
        // SAFETY: the caller's promise; `new` checked that both arrays have one length.
        let (x, dy) = unsafe { (load(simd, self.x, place), load(simd, self.dy, place)) };
        let z = simd.fma(x, p[SCALE], p[BETA]);
        let (dz, dtau) = self.ending.gradient(simd, z, p[TAU], dy);
        (simd.mul(x, p[INVERSE]), dz, dtau)
    }
}

/// Σ dz, Σ dz * normalized x, Σ dtau.
pub(super) struct GradientSums<'a, E>(pub Recompute<'a, E>);

// SAFETY: `Recompute::new` checked that both arrays have `length` elements.
unsafe impl<E: EndingFunction> Terms<3, SUM_PARAMETERS> for GradientSums<'_, E> {
    fn length(&self) -> usize {
        self.0.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; SUM_PARAMETERS],
        sums: &mut [S::F32; 3],
    ) {
        // SAFETY: `place` is inside of `length`.
        let (normalized, dz, dtau) = unsafe { self.0.values(simd, place, p) };
        sums[0] = simd.add(sums[0], dz);
        sums[1] = simd.fma(dz, normalized, sums[1]);
        sums[2] = simd.add(sums[2], dtau);
    }
}

/// `dx = gamma * r * (dz - normalized * mean(dz * normalized))`.
pub(super) struct GradientMap<'a, E> {
    recompute: Recompute<'a, E>,
    dx: &'a mut [f32],
    stream: bool,
}

impl<'a, E> GradientMap<'a, E> {
    /// `stream`: see [`streams`](crate::memory::streams).
    pub fn new(recompute: Recompute<'a, E>, dx: &'a mut [f32], stream: bool) -> Self {
        assert_eq!(recompute.x.len(), dx.len());
        GradientMap {
            recompute,
            dx,
            stream,
        }
    }
}

// SAFETY: `Recompute::new` and `new` checked that all arrays have `length` elements.
unsafe impl<E: EndingFunction> Terms<0, GRADIENT_PARAMETERS> for GradientMap<'_, E> {
    fn length(&self) -> usize {
        self.recompute.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; GRADIENT_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        // SAFETY: `place` is inside of `length`, and `streams` saw to it that what is streamed is aligned.
        unsafe {
            let (normalized, dz, _) = self.recompute.values(simd, place, p);
            let dx = simd.mul(p[OUTER], simd.fma(normalized, p[ALONG], dz));
            store_output(simd, dx, self.dx, place, self.stream);
        }
    }
}
