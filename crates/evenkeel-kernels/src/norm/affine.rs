//! Normalization by a mean and a deviation, scale, offset, residual and activation, forward and backward, over columns.

use super::columns::{Columns, Place, Terms, load, store_output};
use super::geometry::Affine;
use super::moments::Saved;
use crate::activation::ActivationFunction;
use crate::isa::Simd;
use crate::memory::streams;

/// Parameters of [`Normalize`]: arrays of `padded` columns, in this order.
pub(super) const FORWARD_PARAMETERS: usize = 3;
/// Parameters of [`GradientSums`]: those of [`Normalize`] and the inverse deviation.
pub(super) const SUM_PARAMETERS: usize = 4;
/// Parameters of [`GradientMap`]: those of [`GradientSums`], gamma, and the two means that are projected out.
pub(super) const GRADIENT_PARAMETERS: usize = 7;

pub(super) const CENTER: usize = 0;
pub(super) const SCALE: usize = 1;
pub(super) const OFFSET: usize = 2;
pub(super) const INVERSE: usize = 3;
const GAMMA: usize = 4;
const ALONG: usize = 5;
const ACROSS: usize = 6;

/// Fills the parameters of [`Normalize`] (and of [`GradientSums`] where `parameters` is longer): unit `unit(channel)` of
/// `saved` normalizes a channel. `z = (x - center) * scale + offset` with the mean's rest folded into the offset.
#[inline(always)]
pub(super) fn fill_forward(
    columns: Columns,
    affine: &Affine,
    saved: impl Fn(usize) -> Saved,
    parameters: &mut [f32],
) {
    let padded = columns.padded;
    let (center, rest) = parameters.split_at_mut(padded);
    let (scale, rest) = rest.split_at_mut(padded);
    let (offset, rest) = rest.split_at_mut(padded);
    let wanted = padded.min(rest.len());
    let inverse = &mut rest[..wanted];
    for channel in 0..columns.channels {
        // Once for each channel: called from two places it would not be inlined.
        let unit = saved(channel);
        let factor = affine.gamma(channel) * unit.inverse_deviation;
        center[channel] = unit.mean;
        scale[channel] = factor;
        offset[channel] = affine.beta(channel) - unit.mean_rest * factor;
        if let Some(inverse) = inverse.get_mut(channel) {
            *inverse = unit.inverse_deviation;
        }
    }
    columns.spread(center);
    columns.spread(scale);
    columns.spread(offset);
    if !inverse.is_empty() {
        columns.spread(inverse);
    }
}

/// Fills what [`GradientMap`] needs besides: `means(channel)` are the means over the unit of `gamma * dz` and of
/// `gamma * dz * normalized`, zeros where the statistics are constants.
#[inline(always)]
pub(super) fn fill_backward(
    columns: Columns,
    affine: &Affine,
    saved: impl Fn(usize) -> Saved,
    means: impl Fn(usize) -> (f64, f64),
    parameters: &mut [f32],
) {
    let projection = |channel| {
        let unit = saved(channel);
        let (first, second) = means(channel);
        let across = unit.mean_rest as f64 * unit.inverse_deviation as f64 * second - first;
        (-second, across)
    };
    fill_projection(columns, affine, projection, parameters);
}

/// As [`fill_backward`], from what is added to `gamma * dz` itself: `projection(channel)` is the factor of the normalized value (but
/// for the mean's rest) and a constant.
#[inline(always)]
pub(super) fn fill_projection(
    columns: Columns,
    affine: &Affine,
    mut projection: impl FnMut(usize) -> (f64, f64),
    parameters: &mut [f32],
) {
    let padded = columns.padded;
    let rest = &mut parameters[GAMMA * padded..];
    let (gamma, rest) = rest.split_at_mut(padded);
    let (along, rest) = rest.split_at_mut(padded);
    let across = &mut rest[..padded];
    for channel in 0..columns.channels {
        let (factor, constant) = projection(channel);
        gamma[channel] = affine.gamma(channel);
        along[channel] = factor as f32;
        across[channel] = constant as f32;
    }
    columns.spread(gamma);
    columns.spread(along);
    columns.spread(across);
}

/// `y = activation(normalized x * gamma + beta + residual)`.
pub(super) struct Normalize<'a, A, const RESIDUAL: bool> {
    x: &'a [f32],
    residual: &'a [f32],
    y: &'a mut [f32],
    activation: A,
    stream: bool,
}

impl<'a, A, const RESIDUAL: bool> Normalize<'a, A, RESIDUAL> {
    pub fn new(x: &'a [f32], residual: &'a [f32], y: &'a mut [f32], activation: A) -> Self {
        assert_eq!(x.len(), y.len());
        assert!(!RESIDUAL || residual.len() == x.len());
        Normalize {
            stream: false,
            x,
            residual,
            y,
            activation,
        }
    }

    /// As a part of an output of `elements` elements in rows of `width`, which may be too large for the caches.
    pub fn part_of(mut self, elements: usize, width: usize) -> Self {
        self.stream = streams(elements, self.y, width);
        self
    }
}

// SAFETY: `new` checked that all arrays have `length` elements.
unsafe impl<A: ActivationFunction, const RESIDUAL: bool> Terms<0, FORWARD_PARAMETERS>
    for Normalize<'_, A, RESIDUAL>
{
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
            let mut z = simd.fma(simd.sub(x, p[CENTER]), p[SCALE], p[OFFSET]);
            if RESIDUAL {
                z = simd.add(z, load(simd, self.residual, place));
            }
            let y = self.activation.apply(simd, z);
            store_output(simd, y, self.y, place, self.stream);
        }
    }
}

/// Inputs of a backward pass.
#[derive(Clone, Copy)]
pub(super) struct BackwardInputs<'a, A> {
    pub x: &'a [f32],
    pub residual: &'a [f32],
    pub dy: &'a [f32],
    pub activation: A,
}

impl<'a, A: ActivationFunction> BackwardInputs<'a, A> {
    /// The same for a range of elements.
    pub fn part(self, range: std::ops::Range<usize>) -> Self {
        BackwardInputs {
            x: &self.x[range.clone()],
            residual: if self.residual.is_empty() {
                self.residual
            } else {
                &self.residual[range.clone()]
            },
            dy: &self.dy[range],
            activation: self.activation,
        }
    }

    fn check(&self, residual: bool) {
        assert_eq!(self.x.len(), self.dy.len());
        assert!(!residual || self.residual.len() == self.x.len());
    }

    /// `(normalized x but for the mean's rest, dz)` of the elements at `place`.
    ///
    /// # Safety
    /// `place` must be inside of the arrays.
    #[inline(always)]
    unsafe fn recompute<S: Simd, const RESIDUAL: bool>(
        &self,
        simd: S,
        place: Place,
        p: &[S::F32],
    ) -> (S::F32, S::F32) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = load(simd, self.x, place);
            let dy = load(simd, self.dy, place);
            let centred = simd.sub(x, p[CENTER]);
            let mut z = simd.fma(centred, p[SCALE], p[OFFSET]);
            if RESIDUAL {
                z = simd.add(z, load(simd, self.residual, place));
            }
            (
                simd.mul(centred, p[INVERSE]),
                self.activation.gradient(simd, z, dy),
            )
        }
    }
}

/// Σ dz and Σ dz * normalized x (without the mean's rest: see [`finish_sum`]).
pub(super) struct GradientSums<'a, A, const RESIDUAL: bool> {
    inputs: BackwardInputs<'a, A>,
}

impl<'a, A: ActivationFunction, const RESIDUAL: bool> GradientSums<'a, A, RESIDUAL> {
    pub fn new(inputs: BackwardInputs<'a, A>) -> Self {
        inputs.check(RESIDUAL);
        GradientSums { inputs }
    }
}

// SAFETY: `new` checked that all arrays have `length` elements.
unsafe impl<A: ActivationFunction, const RESIDUAL: bool> Terms<2, SUM_PARAMETERS>
    for GradientSums<'_, A, RESIDUAL>
{
    fn length(&self) -> usize {
        self.inputs.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; SUM_PARAMETERS],
        sums: &mut [S::F32; 2],
    ) {
        // SAFETY: `place` is inside of `length`.
        let (normalized, dz) = unsafe { self.inputs.recompute::<S, RESIDUAL>(simd, place, p) };
        sums[0] = simd.add(sums[0], dz);
        sums[1] = simd.fma(dz, normalized, sums[1]);
    }
}

/// Takes the mean's rest, which [`GradientSums`] leaves out, into Σ dz * normalized x.
#[inline(always)]
pub(super) fn finish_sum(saved: Saved, sum: f64, sum_normalized: f64) -> f64 {
    sum_normalized - saved.mean_rest as f64 * saved.inverse_deviation as f64 * sum
}

/// `dx = inverse * (gamma * dz - mean(gamma * dz) - normalized * mean(gamma * dz * normalized))`, and `dresidual = dz`.
pub(super) struct GradientMap<'a, A, const RESIDUAL: bool> {
    inputs: BackwardInputs<'a, A>,
    /// Empty where it is not wanted, as `dresidual`.
    dx: &'a mut [f32],
    dresidual: &'a mut [f32],
    stream: bool,
}

impl<'a, A: ActivationFunction, const RESIDUAL: bool> GradientMap<'a, A, RESIDUAL> {
    pub fn new(inputs: BackwardInputs<'a, A>, dx: &'a mut [f32], dresidual: &'a mut [f32]) -> Self {
        inputs.check(RESIDUAL);
        assert!(dx.is_empty() || dx.len() == inputs.x.len());
        assert!(dresidual.is_empty() || dresidual.len() == inputs.x.len());
        GradientMap {
            stream: false,
            inputs,
            dx,
            dresidual,
        }
    }

    /// As [`Normalize::part_of`].
    pub fn part_of(mut self, elements: usize, width: usize) -> Self {
        self.stream = streams(elements, self.dx, width) && streams(elements, self.dresidual, width);
        self
    }
}

// SAFETY: `new` checked that all arrays have `length` elements.
unsafe impl<A: ActivationFunction, const RESIDUAL: bool> Terms<0, GRADIENT_PARAMETERS>
    for GradientMap<'_, A, RESIDUAL>
{
    fn length(&self) -> usize {
        self.inputs.x.len()
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
            let (normalized, dz) = self.inputs.recompute::<S, RESIDUAL>(simd, place, p);
            if !self.dx.is_empty() {
                let projected = simd.fma(normalized, p[ALONG], p[ACROSS]);
                let dx = simd.mul(p[INVERSE], simd.fma(p[GAMMA], dz, projected));
                store_output(simd, dx, self.dx, place, self.stream);
            }
            if RESIDUAL && !self.dresidual.is_empty() {
                store_output(simd, dz, self.dresidual, place, self.stream);
            }
        }
    }
}
