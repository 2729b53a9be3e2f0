//! EvoNorm-B0: a value divided by the larger of the batch's deviation and its sample's own one plus a multiple of the value, in place of
//! normalization and activation.
//!
//! Liu, Brock, Simonyan, Le, "Evolving Normalization-Activation Layers", NeurIPS 2020.
//!
//! `y = x / max(batch deviation, slope x + instance deviation) * gamma + beta`; the mean is not subtracted. Deviations are roots of a
//! biased variance plus epsilon; that of the batch counts as 1e-30 at least, so that zeros give `beta` also where epsilon is 0.

use super::centred::sum_samples;
use super::columns::{Columns, Place, Terms, load, map_columns, store_output, sum_columns};
use super::evo::{EvoNormGradients, fill};
use super::geometry::{Affine, Shape, check_epsilon, check_momentum, check_optional};
use super::instances::{Moments, map_pieces, with_moments, with_sums};
use super::moments::{all_finite, blend};
use super::slab::Slab;
use crate::error::{Result, check_length};
use crate::isa::Simd;
use crate::memory::streams;
use crate::parallel::DisjointMut;
use crate::scratch::with_f64;

/// What both passes read.
#[derive(Clone, Copy, Debug)]
pub struct EvoNormB0<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// The input.
    pub x: &'a [f32],
    /// The slope v of every channel.
    pub slope: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// Variances `[channels]` in place of the batch's: those of evaluation.
    pub given: Option<&'a [f32]>,
    /// Added to variances before the root.
    pub epsilon: f32,
}

/// The running variance, which a training pass moves towards that of its batch.
#[derive(Debug)]
pub struct RunningVariance<'a> {
    /// `[channels]`; moves towards the biased variance.
    pub variance: &'a mut [f32],
    /// The share of the batch, 0 to 1.
    pub momentum: f32,
}

/// Deviations of the batch are at least this: without epsilon, a channel of zeros has none, and nothing can be divided by 0.
const LEAST_DEVIATION: f32 = 1e-30;

/// The length of what the forward pass saves, for a shape whose sizes fit ([`Shape::elements`]): of every sample and channel the mean rounded to f32, what that lost, and the deviation; then
/// the same of every channel.
pub fn saved_length(shape: Shape) -> usize {
    3 * (shape.batch + 1) * shape.channels
}

impl EvoNormB0<'_> {
    fn check(&self) -> Result<Slab> {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        check_length("x", self.x.len(), self.shape.elements()?)?;
        check_length("slope", self.slope.len(), channels)?;
        check_optional("given variance", self.given, channels)?;
        self.affine.check(channels)?;
        check_epsilon(self.epsilon)?;
        Ok(Slab::new(batch, positions, channels))
    }
}

/// What was saved of one instance or channel.
#[derive(Clone, Copy)]
struct Unit {
    mean: f64,
    deviation: f32,
}

/// Reads what [`forward`] saved: unit `sample * channels + channel`, and after all samples the channels' own.
fn unit(saved: &[f32], at: usize) -> Unit {
    let units = saved.len() / 3;
    Unit {
        mean: f64::from(saved[at]) + f64::from(saved[units + at]),
        deviation: saved[2 * units + at],
    }
}

/// The equation above, with the variance of every channel over batch and positions, and over the positions of each sample. Where the
/// batch's is not given, `running` moves towards it, unless one is not finite or the batch is empty.
///
/// `saved` receives [`saved_length`] values.
///
/// # Errors
/// Where a length does not fit, epsilon is negative or not finite, or the momentum is not in 0 to 1.
pub fn forward(
    norm: EvoNormB0,
    running: Option<RunningVariance>,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let slab = norm.check()?;
    let channels = norm.shape.channels;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), saved_length(norm.shape))?;
    if let Some(RunningVariance { variance, momentum }) = &running {
        check_length("running variance", variance.len(), channels)?;
        check_momentum(*momentum)?;
    }
    if norm.x.is_empty() {
        saved.fill(0.0);
        return Ok(());
    }
    with_moments(slab, norm.x, norm.epsilon, |instances| {
        with_f64(2 * channels, |whole| {
            let (means, variances) = whole.split_at_mut(channels);
            match norm.given {
                None => {
                    instances.pool_samples(means, variances);
                    if let Some(running) = running {
                        move_running(running, variances);
                    }
                }
                Some(given) => {
                    for (variance, &given) in variances.iter_mut().zip(given) {
                        *variance = f64::from(given);
                    }
                }
            }
            save(instances, means, variances, norm.epsilon, saved);
        });
    });
    let columns = slab.columns;
    let (y, saved) = (DisjointMut::new(y), &*saved);
    map_pieces(
        slab,
        FORWARD_PARAMETERS * columns.padded,
        &|sample, parameters| norm.fill(columns, saved, sample, parameters),
        &|range, parameters| {
            // SAFETY: pieces do not overlap.
            let y = unsafe { y.part(range.clone()) };
            map_columns(columns, parameters, Divide::new(columns, norm.x, range, y));
        },
    );
    Ok(())
}

fn save(instances: Moments, means: &[f64], variances: &[f64], epsilon: f32, saved: &mut [f32]) {
    let units = saved.len() / 3;
    let (rounded, rest) = saved.split_at_mut(units);
    let (lost, deviations) = rest.split_at_mut(units);
    for (at, mean) in instances.means.iter().chain(means).enumerate() {
        rounded[at] = *mean as f32;
        lost[at] = (mean - f64::from(rounded[at])) as f32;
    }
    let all = instances.variances.iter().chain(variances);
    for (deviation, variance) in deviations.iter_mut().zip(all) {
        *deviation = (variance + f64::from(epsilon)).sqrt() as f32;
    }
    for deviation in &mut deviations[instances.variances.len()..] {
        // `max` would hide a NaN.
        if *deviation < LEAST_DEVIATION {
            *deviation = LEAST_DEVIATION;
        }
    }
}

fn move_running(running: RunningVariance, batch: &[f64]) {
    if !all_finite(batch) {
        return;
    }
    blend(running.variance, batch.iter().copied(), running.momentum);
}

/// Parameters of the forward map: deviation of the batch, slope, deviation of the instance, scale, offset.
const FORWARD_PARAMETERS: usize = 5;
/// Parameters of the backward map: the first four of the forward map, then the factor of `x - center`, the center, and a constant.
const BACKWARD_PARAMETERS: usize = 7;

impl EvoNormB0<'_> {
    fn fill(&self, columns: Columns, saved: &[f32], sample: usize, parameters: &mut [f32]) {
        let channels = columns.channels;
        fill(columns, parameters, 0, |channel| {
            unit(saved, self.shape.batch * channels + channel).deviation
        });
        fill(columns, parameters, 1, |channel| self.slope[channel]);
        fill(columns, parameters, 2, |channel| {
            unit(saved, sample * channels + channel).deviation
        });
        fill(columns, parameters, 3, |channel| self.affine.gamma(channel));
        fill(columns, parameters, 4, |channel| self.affine.beta(channel));
    }
}

/// `y = x / max(batch, slope x + own) * scale + offset`.
struct Divide<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    stream: bool,
}

impl<'a> Divide<'a> {
    fn new(
        columns: Columns,
        x: &'a [f32],
        range: std::ops::Range<usize>,
        y: &'a mut [f32],
    ) -> Self {
        let stream = streams(x.len(), y, columns.width);
        let x = &x[range];
        assert_eq!(x.len(), y.len());
        Divide { x, y, stream }
    }
}

// SAFETY: `new` checked that both arrays have `length` elements.
unsafe impl Terms<0, FORWARD_PARAMETERS> for Divide<'_> {
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
        let [batch, slope, own, scale, offset] = *p;
        // SAFETY: `place` is inside of `length`, and `streams` saw to it that what is streamed is aligned.
        unsafe {
            let x = load(simd, self.x, place);
            // A NaN of the batch's deviation stays.
            let divisor = simd.max(simd.fma(slope, x, own), batch);
            let y = simd.fma(simd.div(x, divisor), scale, offset);
            store_output(simd, y, self.y, place, self.stream);
        }
    }
}

/// Sums of an instance: Σ dy, Σ dy x / divisor, then of q = dy x / divisor²: Σ q where the divisor is the batch's, Σ q and Σ q x where it
/// is the sample's own.
const SUMS: usize = 5;

/// The gradients of [`forward`], given that of `y` and what it saved. At a tie of the maximum the gradient goes to the batch's part. A
/// given variance is a constant.
///
/// # Errors
/// As [`forward`].
pub fn backward(norm: EvoNormB0, saved: &[f32], dy: &[f32], gradients: EvoNormGradients) -> Result {
    let slab = norm.check()?;
    let columns = slab.columns;
    let channels = norm.shape.channels;
    let EvoNormGradients {
        dx,
        dslope,
        dgamma,
        dbeta,
    } = gradients;
    check_length("saved", saved.len(), saved_length(norm.shape))?;
    check_length("dy", dy.len(), norm.x.len())?;
    check_optional("dx", dx.as_deref(), norm.x.len())?;
    for gradient in [&dslope, &dgamma, &dbeta] {
        check_optional("a parameter's gradient", gradient.as_deref(), channels)?;
    }
    if norm.x.is_empty() {
        for gradient in [dslope, dgamma, dbeta] {
            gradient
                .into_iter()
                .flatten()
                .for_each(|value| *value = 0.0);
        }
        return Ok(());
    }
    let length = SUMS * channels;
    with_sums(
        slab,
        SUMS,
        FORWARD_PARAMETERS * columns.padded,
        &|sample, parameters| norm.fill(columns, saved, sample, parameters),
        &|range, parameters, sums| {
            let terms = DivideSums::new(&norm.x[range.clone()], &dy[range]);
            sum_columns(columns, parameters, terms, sums);
        },
        |sums| {
            sum_samples(sums, length, 0, dbeta);
            sum_samples(sums, length, channels, dgamma);
            if let Some(dslope) = dslope {
                sum_samples(sums, length, 4 * channels, Some(&mut *dslope));
                for (channel, value) in dslope.iter_mut().enumerate() {
                    *value *= -norm.affine.gamma(channel);
                }
            }
            let Some(dx) = dx else { return };
            let dx = DisjointMut::new(dx);
            with_f64(channels, |of_batch| {
                for own in sums.chunks_exact(length) {
                    for (sum, value) in of_batch.iter_mut().zip(&own[2 * channels..]) {
                        *sum += value;
                    }
                }
                let (sums, of_batch) = (&*sums, &*of_batch);
                map_pieces(
                    slab,
                    BACKWARD_PARAMETERS * columns.padded,
                    &|sample, parameters| {
                        norm.fill(columns, saved, sample, parameters);
                        let own = &sums[sample * length + 3 * channels..][..channels];
                        norm.fill_shared(columns, saved, sample, own, of_batch, parameters);
                    },
                    &|range, parameters| {
                        // SAFETY: pieces do not overlap.
                        let dx = unsafe { dx.part(range.clone()) };
                        let stream = streams(norm.x.len(), dx, columns.width);
                        let (x, dy) = (&norm.x[range.clone()], &dy[range]);
                        let terms = DivideGradient::new(x, dy, dx, stream);
                        map_columns(columns, parameters, terms);
                    },
                );
            });
        },
    );
    Ok(())
}

impl EvoNormB0<'_> {
    /// Fills the last three parameters of the backward map: what reaches an element through the two deviations, from Σ q of its
    /// instance and Σ q of its channel.
    fn fill_shared(
        &self,
        columns: Columns,
        saved: &[f32],
        sample: usize,
        own: &[f64],
        of_batch: &[f64],
        parameters: &mut [f32],
    ) {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        // d deviation / dx = (x - mean) / (deviation * count), and the divisor's gradient is -γ q. Without a deviation there is none.
        let along = |unit: Unit, sum: f64, count: f64| {
            if unit.deviation <= LEAST_DEVIATION {
                0.0
            } else {
                -sum / (f64::from(unit.deviation) * count)
            }
        };
        let parts = |channel: usize| {
            let gamma = f64::from(self.affine.gamma(channel));
            let instance = unit(saved, sample * channels + channel);
            let whole = unit(saved, batch * channels + channel);
            let first = along(instance, gamma * own[channel], positions as f64);
            let second = match self.given {
                Some(_) => 0.0,
                None => along(whole, gamma * of_batch[channel], (batch * positions) as f64),
            };
            let center = instance.mean as f32;
            let constant = first * (f64::from(center) - instance.mean)
                + second * (f64::from(center) - whole.mean);
            [(first + second) as f32, center, constant as f32]
        };
        for index in 0..3 {
            fill(columns, parameters, 4 + index, |channel| {
                parts(channel)[index]
            });
        }
    }
}

struct DivideSums<'a> {
    x: &'a [f32],
    dy: &'a [f32],
}

impl<'a> DivideSums<'a> {
    fn new(x: &'a [f32], dy: &'a [f32]) -> Self {
        assert_eq!(x.len(), dy.len());
        DivideSums { x, dy }
    }
}

// SAFETY: `new` checked that both arrays have `length` elements.
unsafe impl Terms<SUMS, 3> for DivideSums<'_> {
    fn length(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; 3],
        sums: &mut [S::F32; SUMS],
    ) {
        let [batch, slope, own] = *p;
        // SAFETY: `place` is inside of `length`.
        let (x, dy) = unsafe { (load(simd, self.x, place), load(simd, self.dy, place)) };
        let other = simd.fma(slope, x, own);
        let divisor = simd.max(other, batch);
        let inverse = simd.div(simd.splat(1.0), divisor);
        let normalized = simd.mul(dy, simd.mul(x, inverse));
        let q = simd.mul(normalized, inverse);
        let is_own = simd.gt(other, batch);
        let own_q = simd.select(is_own, q, simd.zero());
        sums[0] = simd.add(sums[0], dy);
        sums[1] = simd.add(sums[1], normalized);
        sums[2] = simd.add(sums[2], simd.select(is_own, simd.zero(), q));
        sums[3] = simd.add(sums[3], own_q);
        sums[4] = simd.fma(own_q, x, sums[4]);
    }
}

/// `dx = γ (dy / divisor - [own] q slope) + along (x - center) + constant`.
struct DivideGradient<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    stream: bool,
}

impl<'a> DivideGradient<'a> {
    fn new(x: &'a [f32], dy: &'a [f32], dx: &'a mut [f32], stream: bool) -> Self {
        assert!(x.len() == dy.len() && x.len() == dx.len());
        DivideGradient { x, dy, dx, stream }
    }
}

// SAFETY: `new` checked that all arrays have `length` elements.
unsafe impl Terms<0, BACKWARD_PARAMETERS> for DivideGradient<'_> {
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
        let [batch, slope, own, scale, along, center, constant] = *p;
        // SAFETY: `place` is inside of `length`, and `streams` saw to it that what is streamed is aligned.
        unsafe {
            let x = load(simd, self.x, place);
            let dy = load(simd, self.dy, place);
            let other = simd.fma(slope, x, own);
            let inverse = simd.div(simd.splat(1.0), simd.max(other, batch));
            let direct = simd.mul(dy, inverse);
            let through = simd.mul(simd.mul(direct, simd.mul(x, inverse)), slope);
            let through = simd.select(simd.gt(other, batch), through, simd.zero());
            let shared = simd.fma(along, simd.sub(x, center), constant);
            let dx = simd.fma(scale, simd.sub(direct, through), shared);
            store_output(simd, dx, self.dx, place, self.stream);
        }
    }
}

#[cfg(test)]
#[path = "evo_batch_tests.rs"]
mod tests;
