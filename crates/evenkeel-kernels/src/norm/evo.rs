//! EvoNorm-S0: a gated value divided by the deviation of its group, in place of normalization and activation.
//!
//! Liu, Brock, Simonyan, Le, "Evolving Normalization-Activation Layers", NeurIPS 2020.
//!
//! `y = x sigmoid(v x) / sqrt(variance + epsilon) * gamma + beta`: the statistics are those of [`super::group`], but the mean is not
//! subtracted. Only the variance carries a gradient between elements, along `x - mean`.

use super::centred::{add_pieces, sum_samples};
use super::columns::{Columns, Place, Terms, load, map_columns, store, sum_columns};
use super::geometry::{Affine, Groups, Shape, check_epsilon, check_optional};
use super::group::check_groups;
use super::moments::{Saved, measure, merge_channels, merge_pieces};
use super::slab::{self, Passes, Slab};
use crate::activation::math;
use crate::error::{Result, check_length};
use crate::isa::Simd;
use crate::parallel::DisjointMut;
use crate::scratch::with_f64;
use std::ops::Range;

/// What both passes read.
#[derive(Clone, Copy, Debug)]
pub struct EvoNormS0<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// Groups of neighbouring channels that share their variance.
    pub groups: usize,
    /// The input.
    pub x: &'a [f32],
    /// The slope v of every channel's gate.
    pub slope: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
}

impl EvoNormS0<'_> {
    /// Checks the lengths; returns the slab and the length of what is saved.
    fn check(&self) -> Result<(Slab, usize)> {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        check_length("x", self.x.len(), self.shape.elements()?)?;
        check_length("slope", self.slope.len(), channels)?;
        self.affine.check(channels)?;
        let saved = check_groups(self.shape, self.groups)?;
        Ok((Slab::new(batch, positions, channels), saved))
    }

    fn grouping(&self) -> Groups {
        Groups::new(self.shape.channels, self.groups)
    }
}

/// `y = x sigmoid(slope x) / sqrt(variance + epsilon) * gamma + beta`, with the biased variance of every sample and group.
///
/// `saved` receives `[3, batch, groups]`, as from [`super::group::forward`].
///
/// # Errors
/// Where a length does not fit, `groups` does not divide the channels, or epsilon is negative or not finite.
pub fn forward(norm: EvoNormS0, epsilon: f32, y: &mut [f32], saved: &mut [f32]) -> Result {
    let (slab, saved_length) = norm.check()?;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), saved_length)?;
    check_epsilon(epsilon)?;
    if norm.shape.channels == 0 {
        saved.fill(0.0);
        return Ok(());
    }
    let passes = Forward {
        slab,
        norm,
        epsilon,
        y: DisjointMut::new(y),
        saved: DisjointMut::new(saved),
    };
    slab::run(slab, &passes, |_, _| {});
    Ok(())
}

/// Parameters of the forward map: slope, scale, offset.
const FORWARD_PARAMETERS: usize = 3;

/// Fills one array of column parameters.
pub(super) fn fill(
    columns: Columns,
    parameters: &mut [f32],
    index: usize,
    value: impl Fn(usize) -> f32,
) {
    let array = &mut parameters[index * columns.padded..][..columns.padded];
    for (channel, target) in array.iter_mut().enumerate().take(columns.channels) {
        *target = value(channel);
    }
    columns.spread(array);
}

struct Forward<'a> {
    slab: Slab,
    norm: EvoNormS0<'a>,
    epsilon: f32,
    y: DisjointMut<'a, f32>,
    saved: DisjointMut<'a, f32>,
}

impl Passes for Forward<'_> {
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        FORWARD_PARAMETERS * self.slab.columns.padded
    }

    fn measure(&self, range: Range<usize>, _: &[f32], measurement: &mut [f64]) {
        let x = &self.norm.x[range];
        measure(self.slab.columns, x, self.epsilon, measurement);
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let (columns, groups) = (self.slab.columns, self.norm.grouping());
        let (channels, size) = (columns.channels, groups.size);
        let count = merge_pieces(measurements, channels, self.slab.piece_counts());
        let (mean, deviations) = measurements[..2 * channels].split_at(channels);
        let units = self.slab.samples * groups.count;
        // SAFETY: every sample has its own units, and is finished once.
        let [means, rests, inverses] = [0, 1, 2].map(|array| unsafe {
            let start = array * units + sample * groups.count;
            self.saved.part(start..start + groups.count)
        });
        for group in 0..groups.count {
            let range = group * size..(group + 1) * size;
            let (mean, deviations) =
                merge_channels(&mean[range.clone()], &deviations[range], count);
            let variance = deviations / (count * size).max(1) as f64;
            let unit = Saved::new(mean, variance, self.epsilon);
            means[group] = unit.mean;
            rests[group] = unit.mean_rest;
            inverses[group] = unit.inverse_deviation;
        }
        let EvoNormS0 { slope, affine, .. } = self.norm;
        fill(columns, parameters, 0, |channel| slope[channel]);
        fill(columns, parameters, 1, |channel| {
            affine.gamma(channel) * inverses[groups.of(channel)]
        });
        fill(columns, parameters, 2, |channel| affine.beta(channel));
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        // SAFETY: ranges of different tasks do not overlap.
        let y = unsafe { self.y.part(range.clone()) };
        let columns = self.slab.columns;
        let x = &self.norm.x[range];
        assert_eq!(x.len(), y.len());
        let terms = Gate { x, y };
        map_columns(columns, parameters, terms);
    }
}

/// Beyond this the gate is 0 or 1 to the last bit.
const GATE_LIMIT: f32 = 200.0;

/// `slope * x` within limits that keep infinities out of products with 0.
#[inline(always)]
fn gate_argument<S: Simd>(simd: S, slope: S::F32, x: S::F32) -> S::F32 {
    let limit = simd.splat(GATE_LIMIT);
    simd.min(limit, simd.max(simd.neg(limit), simd.mul(slope, x)))
}

/// `y = x sigmoid(slope x) * scale + offset`.
struct Gate<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

// SAFETY: `Forward::map` checked that both arrays have `length` elements.
unsafe impl Terms<0, FORWARD_PARAMETERS> for Gate<'_> {
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
        let [slope, scale, offset] = *p;
        // SAFETY: `place` is inside of `length`.
        unsafe {
            let x = load(simd, self.x, place);
            let gate = math::sigmoid(simd, gate_argument(simd, slope, x));
            let y = simd.fma(simd.mul(x, gate), scale, offset);
            store(simd, y, self.y, place);
        }
    }
}

/// Where [`backward`] writes; an absent gradient is not computed.
#[derive(Debug, Default)]
pub struct EvoNormGradients<'a> {
    /// The gradient of the input, of its shape.
    pub dx: Option<&'a mut [f32]>,
    /// The gradient of the slope, `[channels]`, as the following ones.
    pub dslope: Option<&'a mut [f32]>,
    /// The gradient of the scale.
    pub dgamma: Option<&'a mut [f32]>,
    /// The gradient of the offset.
    pub dbeta: Option<&'a mut [f32]>,
}

/// The gradients of [`forward`], given that of `y` and what it saved.
///
/// # Errors
/// Where a length does not fit, or `groups` does not divide the channels.
pub fn backward(norm: EvoNormS0, saved: &[f32], dy: &[f32], gradients: EvoNormGradients) -> Result {
    let (slab, saved_length) = norm.check()?;
    let channels = norm.shape.channels;
    let EvoNormGradients {
        dx,
        dslope,
        dgamma,
        dbeta,
    } = gradients;
    check_length("saved", saved.len(), saved_length)?;
    check_length("dy", dy.len(), norm.x.len())?;
    check_optional("dx", dx.as_deref(), norm.x.len())?;
    for gradient in [&dslope, &dgamma, &dbeta] {
        check_optional("a parameter's gradient", gradient.as_deref(), channels)?;
    }
    if channels == 0 {
        return Ok(());
    }
    let passes = Backward {
        slab,
        norm,
        saved,
        dy,
        dx: dx.map(DisjointMut::new),
    };
    slab::run(slab, &passes, |sums, stride| {
        sum_samples(sums, stride, 0, dbeta);
        sum_samples(sums, stride, channels, dgamma);
        sum_samples(sums, stride, 2 * channels, dslope);
    });
    Ok(())
}

/// Sums of a channel: Σ dy, Σ dy x gate, Σ dy x² gate'.
const SUMS: usize = 3;
/// Parameters of the backward map: slope, `gamma / deviation`, the factor of `x - center`, the center, and a constant.
const BACKWARD_PARAMETERS: usize = 5;

struct Backward<'a> {
    slab: Slab,
    norm: EvoNormS0<'a>,
    saved: &'a [f32],
    dy: &'a [f32],
    dx: Option<DisjointMut<'a, f32>>,
}

impl Backward<'_> {
    /// What was saved of the group of `channel`.
    fn unit(&self, groups: Groups, sample: usize, channel: usize) -> Saved {
        Saved::read(self.saved, sample * groups.count + groups.of(channel))
    }
}

impl Passes for Backward<'_> {
    fn measurement_length(&self) -> usize {
        SUMS * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        BACKWARD_PARAMETERS * self.slab.columns.padded
    }

    fn prepare(&self, sample: usize, parameters: &mut [f32]) {
        let EvoNormS0 { slope, affine, .. } = self.norm;
        let groups = self.norm.grouping();
        fill(self.slab.columns, parameters, 0, |channel| slope[channel]);
        fill(self.slab.columns, parameters, 1, |channel| {
            let unit = self.unit(groups, sample, channel);
            affine.gamma(channel) * unit.inverse_deviation
        });
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        let columns = self.slab.columns;
        let (x, dy) = (&self.norm.x[range.clone()], &self.dy[range]);
        assert_eq!(x.len(), dy.len());
        let terms = GateSums { x, dy };
        columns.gathered(measurement, |sums| {
            sum_columns(columns, parameters, terms, sums)
        });
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let (columns, groups) = (self.slab.columns, self.norm.grouping());
        let channels = columns.channels;
        let unit = |channel| self.unit(groups, sample, channel);
        add_pieces(measurements, SUMS * channels);
        let (_, own) = measurements[..SUMS * channels].split_at_mut(channels);
        let (gated, sloped) = own.split_at_mut(channels);
        let count = (self.slab.positions * groups.size).max(1) as f64;
        with_f64(groups.count, |along| {
            for channel in 0..channels {
                let inverse = f64::from(unit(channel).inverse_deviation);
                let gamma = f64::from(self.norm.affine.gamma(channel));
                // With y = gated * gamma * inverse: d inverse / d variance = -inverse³ / 2, and d variance / dx = 2 (x - mean) / count.
                along[groups.of(channel)] -= gamma * gated[channel] * inverse.powi(3) / count;
                gated[channel] *= inverse;
                sloped[channel] *= gamma * inverse;
            }
            let along = &*along;
            fill(columns, parameters, 2, |channel| {
                along[groups.of(channel)] as f32
            });
            fill(columns, parameters, 3, |channel| unit(channel).mean);
            fill(columns, parameters, 4, |channel| {
                (-along[groups.of(channel)] * f64::from(unit(channel).mean_rest)) as f32
            });
        });
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        let Some(dx) = &self.dx else { return };
        // SAFETY: ranges of different tasks do not overlap.
        let dx = unsafe { dx.part(range.clone()) };
        let columns = self.slab.columns;
        let (x, dy) = (&self.norm.x[range.clone()], &self.dy[range]);
        assert!(x.len() == dy.len() && x.len() == dx.len());
        let terms = GateGradient { x, dy, dx };
        map_columns(columns, parameters, terms);
    }
}

struct GateSums<'a> {
    x: &'a [f32],
    dy: &'a [f32],
}

// SAFETY: `Backward::measure` checked that both arrays have `length` elements.
unsafe impl Terms<SUMS, 1> for GateSums<'_> {
    fn length(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        [slope]: &[S::F32; 1],
        sums: &mut [S::F32; SUMS],
    ) {
        // SAFETY: `place` is inside of `length`.
        let (x, dy) = unsafe { (load(simd, self.x, place), load(simd, self.dy, place)) };
        let (gate, rest) = math::sigmoid_and_complement(simd, gate_argument(simd, *slope, x));
        let gated = simd.mul(dy, simd.mul(x, gate));
        sums[0] = simd.add(sums[0], dy);
        sums[1] = simd.add(sums[1], gated);
        sums[2] = simd.fma(gated, simd.mul(x, rest), sums[2]);
    }
}

/// `dx = dy * scale * (gate + slope x gate (1 - gate)) + along * (x - center) + constant`.
struct GateGradient<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

// SAFETY: `Backward::map` checked that all arrays have `length` elements.
unsafe impl Terms<0, BACKWARD_PARAMETERS> for GateGradient<'_> {
    fn length(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; BACKWARD_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        let [slope, scale, along, center, constant] = *p;
        // SAFETY: `place` is inside of `length`.
        unsafe {
            let x = load(simd, self.x, place);
            let dy = load(simd, self.dy, place);
            let argument = gate_argument(simd, slope, x);
            let (gate, rest) = math::sigmoid_and_complement(simd, argument);
            let derivative = simd.fma(simd.mul(argument, gate), rest, gate);
            let shared = simd.fma(along, simd.sub(x, center), constant);
            let dx = simd.fma(simd.mul(dy, scale), derivative, shared);
            store(simd, dx, self.dx, place);
        }
    }
}

#[cfg(test)]
#[path = "evo_tests.rs"]
mod tests;
