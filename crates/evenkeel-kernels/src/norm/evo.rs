//! EvoNorm-S0: a gated value divided by the deviation of its group, in place of normalization and activation.
//!
//! Liu, Brock, Simonyan, Le, "Evolving Normalization-Activation Layers", NeurIPS 2020.
//!
//! `y = x sigmoid(v x) / sqrt(variance + epsilon) * gamma + beta`: the statistics are those of [`super::group`], but the mean is not
//! subtracted. Only the variance carries a gradient between elements, along `x - mean`.

use super::centred::{add_pieces, sum_samples};
use super::columns::{Columns, Terms, load, map_columns, store, sum_columns};
use super::geometry::{Affine, Shape, check_epsilon, check_optional};
use super::group::check_groups;
use super::moments::{Saved, measure, merge_channels, merge_pieces};
use super::scratch::with_f64;
use super::slab::{self, Passes, Slab};
use crate::activation::math;
use crate::error::{Result, check_length};
use crate::isa::Simd;
use crate::parallel::DisjointMut;
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

    /// What was saved of the group of `channel`.
    fn saved(&self, saved: &[f32], sample: usize, channel: usize) -> Saved {
        let size = self.shape.channels / self.groups;
        Saved::read(saved, sample * self.groups + channel / size)
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
        let (columns, groups) = (self.slab.columns, self.norm.groups);
        let channels = columns.channels;
        let count = merge_pieces(measurements, channels, self.slab.piece_counts());
        let (mean, deviations) = measurements[..2 * channels].split_at(channels);
        let size = channels / groups;
        let units = self.slab.samples * groups;
        // SAFETY: every sample has its own units, and is finished once.
        let [means, rests, inverses] = [0, 1, 2].map(|array| unsafe {
            let start = array * units + sample * groups;
            self.saved.part(start..start + groups)
        });
        for group in 0..groups {
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
            affine.gamma(channel) * inverses[channel / size]
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
        at: usize,
        lanes: usize,
        p: &[S::F32; FORWARD_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        let [slope, scale, offset] = *p;
        // SAFETY: `at + lanes <= length`.
        unsafe {
            let x = load(simd, self.x.as_ptr().add(at), lanes);
            let gate = math::sigmoid(simd, gate_argument(simd, slope, x));
            let y = simd.fma(simd.mul(x, gate), scale, offset);
            store(simd, y, self.y.as_mut_ptr().add(at), lanes);
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
/// Parameters of the backward map: slope, `gamma / deviation`, the factor of x, and a constant.
const BACKWARD_PARAMETERS: usize = 4;

struct Backward<'a> {
    slab: Slab,
    norm: EvoNormS0<'a>,
    saved: &'a [f32],
    dy: &'a [f32],
    dx: Option<DisjointMut<'a, f32>>,
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
        fill(self.slab.columns, parameters, 0, |channel| slope[channel]);
        fill(self.slab.columns, parameters, 1, |channel| {
            let unit = self.norm.saved(self.saved, sample, channel);
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
        let (columns, groups) = (self.slab.columns, self.norm.groups);
        let channels = columns.channels;
        let size = channels / groups;
        add_pieces(measurements, SUMS * channels);
        let (_, own) = measurements[..SUMS * channels].split_at_mut(channels);
        let (gated, sloped) = own.split_at_mut(channels);
        let count = (self.slab.positions * size).max(1) as f64;
        with_f64(groups, |along| {
            for channel in 0..channels {
                let unit = self.norm.saved(self.saved, sample, channel);
                let inverse = f64::from(unit.inverse_deviation);
                let gamma = f64::from(self.norm.affine.gamma(channel));
                // With y = gated * gamma * inverse: d inverse / d variance = -inverse³ / 2, and d variance / dx = 2 (x - mean) / count.
                along[channel / size] -= gamma * gated[channel] * inverse.powi(3) / count;
                gated[channel] *= inverse;
                sloped[channel] *= gamma * inverse;
            }
            let along = &*along;
            fill(columns, parameters, 2, |channel| {
                along[channel / size] as f32
            });
            fill(columns, parameters, 3, |channel| {
                let unit = self.norm.saved(self.saved, sample, channel);
                let mean = f64::from(unit.mean) + f64::from(unit.mean_rest);
                (-along[channel / size] * mean) as f32
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
        at: usize,
        lanes: usize,
        [slope]: &[S::F32; 1],
        sums: &mut [S::F32; SUMS],
    ) {
        // SAFETY: `at + lanes <= length`.
        let (x, dy) = unsafe {
            (
                load(simd, self.x.as_ptr().add(at), lanes),
                load(simd, self.dy.as_ptr().add(at), lanes),
            )
        };
        let (gate, rest) = math::sigmoid_and_complement(simd, gate_argument(simd, *slope, x));
        let gated = simd.mul(dy, simd.mul(x, gate));
        sums[0] = simd.add(sums[0], dy);
        sums[1] = simd.add(sums[1], gated);
        sums[2] = simd.fma(gated, simd.mul(x, rest), sums[2]);
    }
}

/// `dx = dy * scale * (gate + slope x gate (1 - gate)) + along * x + constant`.
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
        at: usize,
        lanes: usize,
        p: &[S::F32; BACKWARD_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        let [slope, scale, along, constant] = *p;
        // SAFETY: `at + lanes <= length`.
        unsafe {
            let x = load(simd, self.x.as_ptr().add(at), lanes);
            let dy = load(simd, self.dy.as_ptr().add(at), lanes);
            let argument = gate_argument(simd, slope, x);
            let (gate, rest) = math::sigmoid_and_complement(simd, argument);
            let derivative = simd.fma(simd.mul(argument, gate), rest, gate);
            let shared = simd.fma(along, x, constant);
            let dx = simd.fma(simd.mul(dy, scale), derivative, shared);
            store(simd, dx, self.dx.as_mut_ptr().add(at), lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    const EPSILON: f32 = 1e-5;

    /// Slope, gamma, beta.
    fn parameters(channels: usize) -> [Vec<f32>; 3] {
        [2, 3, 5].map(|seed| {
            let values = coarse_values(channels, seed).into_iter();
            values.map(|value| value / 8.0).collect()
        })
    }

    /// `y`, `dx`, and the gradients of slope, gamma and beta.
    fn run(shape: Shape, groups: usize, x: &[f32]) -> Vec<Vec<f32>> {
        let channels = shape.channels;
        let [slope, gamma, beta] = parameters(channels);
        let norm = EvoNormS0 {
            shape,
            groups,
            x,
            slope: &slope,
            affine: Affine {
                gamma: Some(&gamma),
                beta: Some(&beta),
            },
        };
        let mut y = vec![f32::NAN; x.len()];
        let mut saved = vec![f32::NAN; 3 * shape.batch * groups];
        forward(norm, EPSILON, &mut y, &mut saved).unwrap();
        let mut dx = vec![f32::NAN; x.len()];
        let mut own = [(); 3].map(|()| vec![f32::NAN; channels]);
        let [dslope, dgamma, dbeta] = &mut own;
        let gradients = EvoNormGradients {
            dx: Some(&mut dx),
            dslope: Some(dslope),
            dgamma: Some(dgamma),
            dbeta: Some(dbeta),
        };
        backward(norm, &saved, &coarse_values(x.len(), 4), gradients).unwrap();
        [y, dx].into_iter().chain(own).collect()
    }

    /// The equation and its derivatives, in f64.
    fn oracle(shape: Shape, groups: usize, x: &[f32]) -> Vec<Vec<f64>> {
        let Shape {
            batch,
            positions,
            channels,
        } = shape;
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
        let [slope, gamma, beta] = parameters(channels).map(wide);
        let (x, dy) = (wide(x.to_vec()), wide(coarse_values(x.len(), 4)));
        let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let mut own = [(); 3].map(|()| vec![0.0; channels]);
        let size = channels / groups;
        for unit in 0..batch * groups {
            let (sample, group) = (unit / groups, unit % groups);
            let places: Vec<(usize, usize)> = (0..positions * size)
                .map(|index| {
                    let channel = group * size + index % size;
                    (
                        (sample * positions + index / size) * channels + channel,
                        channel,
                    )
                })
                .collect();
            let count = places.len() as f64;
            let mean = places.iter().map(|&(i, _)| x[i]).sum::<f64>() / count;
            let variance = places
                .iter()
                .map(|&(i, _)| (x[i] - mean).powi(2))
                .sum::<f64>()
                / count;
            let inverse = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            let gate = |i: usize, c: usize| 1.0 / (1.0 + (-slope[c] * x[i]).exp());
            let mut total = 0.0;
            for &(i, c) in &places {
                let gated = x[i] * gate(i, c);
                y[i] = gated * inverse * gamma[c] + beta[c];
                total += dy[i] * gamma[c] * gated;
                own[0][c] += dy[i] * gamma[c] * inverse * x[i] * gated * (1.0 - gate(i, c));
                own[1][c] += dy[i] * gated * inverse;
                own[2][c] += dy[i];
            }
            for &(i, c) in &places {
                let derivative = gate(i, c) * (1.0 + slope[c] * x[i] * (1.0 - gate(i, c)));
                dx[i] = dy[i] * gamma[c] * inverse * derivative
                    - total * inverse.powi(3) * (x[i] - mean) / count;
            }
        }
        [y, dx].into_iter().chain(own).collect()
    }

    const SHAPES: [(usize, usize, usize, usize); 11] = [
        (1, 9, 1, 1),
        (2, 12, 3, 3),
        (1, 50, 7, 1),
        (3, 25, 15, 5),
        (2, 4, 16, 4),
        (5, 1, 17, 1),
        (2, 300, 33, 3),
        (1, 1, 63, 1),
        (1, 64, 64, 8),
        (2, 1200, 65, 13),
        (0, 4, 3, 1),
    ];

    #[test]
    fn follows_the_equation_at_every_level() {
        at_every_level(|| {
            for (batch, positions, channels, groups) in SHAPES {
                let shape = Shape {
                    batch,
                    positions,
                    channels,
                };
                let x = coarse_values(shape.elements().unwrap(), 1);
                let actual = run(shape, groups, &x);
                let expected = oracle(shape, groups, &x);
                for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                    let largest = expected.iter().fold(1.0f64, |most, v| most.max(v.abs()));
                    for (actual, expected) in actual.iter().zip(expected) {
                        assert!(
                            (f64::from(*actual) - expected).abs() <= 5e-6 * largest,
                            "result {index} of {shape:?}: {actual}, expected {expected}"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn threads_do_not_change_bits() {
        let shape = Shape {
            batch: 3,
            positions: 1600,
            channels: 33,
        };
        let x = coarse_values(shape.elements().unwrap(), 1);
        assert_same_bits_at_any_thread_count(|| run(shape, 3, &x));
    }

    #[test]
    fn large_values_stay_finite() {
        at_every_level(|| {
            let norm = EvoNormS0 {
                shape: Shape {
                    batch: 1,
                    positions: 4,
                    channels: 1,
                },
                groups: 1,
                x: &[1e20, -1e20, 3e19, 0.0],
                slope: &[1.0],
                affine: Affine::default(),
            };
            let (mut y, mut saved) = ([0.0; 4], [0.0; 3]);
            forward(norm, EPSILON, &mut y, &mut saved).unwrap();
            assert!((y[0] - 1.0 / 0.516_875f32.sqrt()).abs() < 1e-5);
            assert_eq!([y[1], y[3]], [0.0, 0.0]);
        });
    }

    #[test]
    fn misfits_are_refused() {
        let attempt = |groups, slope: &[f32], saved: usize, epsilon| {
            let norm = EvoNormS0 {
                shape: Shape {
                    batch: 1,
                    positions: 2,
                    channels: 4,
                },
                groups,
                x: &[0.0; 8],
                slope,
                affine: Affine::default(),
            };
            forward(norm, epsilon, &mut [0.0; 8], &mut vec![0.0; saved])
        };
        assert!(attempt(2, &[1.0; 4], 6, 1e-5).is_ok());
        assert!(attempt(3, &[1.0; 4], 9, 1e-5).is_err());
        assert!(attempt(2, &[1.0; 3], 6, 1e-5).is_err());
        assert!(attempt(2, &[1.0; 4], 5, 1e-5).is_err());
        assert!(attempt(2, &[1.0; 4], 6, -1.0).is_err());
    }
}
