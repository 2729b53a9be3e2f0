//! Batch renormalization: batch normalization corrected towards the running statistics.
//!
//! Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models", 2017.
//!
//! With the corrections `r = clip(deviation / running deviation)` and `d = clip((mean - running mean) / running deviation)`, which count as
//! constants, `(normalized x * r + d) * gamma + beta` is a batch normalization with the scale `gamma * r` and the offset
//! `gamma * d + beta`: so are its passes over the data.

use super::affine::{BackwardInputs, fill_forward};
use super::centred::{self, sum_samples};
use super::fused::with_fused;
use super::geometry::{Affine, AffineGradients, Groups, Shape, check_epsilon};
use super::moments::{Saved, all_finite};
use super::slab::{self, Passes, Slab};
use crate::activation::{Activation, ActivationFunction};
use crate::error::{KernelError, Result, check_length};
use crate::parallel::DisjointMut;
use crate::scratch::with_f32;
use std::ops::Range;

/// What both passes read.
#[derive(Clone, Copy, Debug)]
pub struct BatchRenorm<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// Applied last.
    pub activation: Activation,
}

impl BatchRenorm<'_> {
    fn check(&self) -> Result<Slab> {
        check_length("x", self.x.len(), self.shape.elements()?)?;
        self.affine.check(self.shape.channels)?;
        let rows = self.shape.batch * self.shape.positions;
        Ok(Slab::of_batch(rows, self.shape.channels))
    }
}

/// How far the corrections may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// r stays in `1 / scale..=scale`; at least 1.
    pub scale: f32,
    /// d stays in `-shift..=shift`; at least 0.
    pub shift: f32,
}

/// How the limits grow with the training steps: none for `plain` steps, then linearly up to their maxima.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Steps of plain batch normalization.
    pub plain: f64,
    /// The step at which the scale's limit is `maximum_scale`.
    pub scale_until: f64,
    /// The step at which the shift's limit is `maximum_shift`.
    pub shift_until: f64,
    /// The last limit of the scale; it starts at 1.
    pub maximum_scale: f64,
    /// The last limit of the shift; it starts at 0.
    pub maximum_shift: f64,
}

impl Schedule {
    /// The limits after so many steps.
    pub fn limits(&self, steps: f64) -> Limits {
        let share = |until: f64| {
            let duration = until - self.plain;
            if duration > 0.0 {
                ((steps - self.plain) / duration).clamp(0.0, 1.0)
            } else if steps >= self.plain {
                1.0
            } else {
                0.0
            }
        };
        // Infinity itself would make NaN of a share of 0.
        let least = |maximum: f64| maximum.min(3e38);
        let scale = 1.0 + share(self.scale_until) * (least(self.maximum_scale) - 1.0);
        Limits {
            scale: scale as f32,
            shift: (share(self.shift_until) * least(self.maximum_shift)) as f32,
        }
    }
}

/// Running statistics, which a training pass moves towards those of its batch.
#[derive(Debug)]
pub struct RunningDeviation<'a> {
    /// `[channels]`.
    pub mean: &'a mut [f32],
    /// `sqrt(variance + epsilon)`, `[channels]`.
    pub deviation: &'a mut [f32],
    /// The share of the batch, 0 to 1.
    pub momentum: f32,
}

/// Arrays that [`forward`] saves: those of a batch norm, r and d.
pub const SAVED: usize = 5;

/// `y = activation((normalized x * r + d) * gamma + beta)`, normalized with the batch's mean and biased variance of every channel, r and
/// d from the running statistics before they move. These move only where all statistics of the batch are finite.
///
/// `saved` receives what [`backward`] needs: `[5, channels]`.
///
/// # Errors
/// Where a length does not fit, or a number is out of its range.
pub fn forward(
    norm: BatchRenorm,
    epsilon: f32,
    limits: Limits,
    running: RunningDeviation,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let slab = norm.check()?;
    let channels = norm.shape.channels;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), SAVED * channels)?;
    check_length("running mean", running.mean.len(), channels)?;
    check_length("running deviation", running.deviation.len(), channels)?;
    check_epsilon(epsilon)?;
    if !(limits.scale >= 1.0 && limits.shift >= 0.0 && (0.0..=1.0).contains(&running.momentum)) {
        return Err(KernelError::Invalid(format!(
            "batch renormalization with {limits:?} and a momentum of {}: expected a scale of 1 or more, a shift of 0 or more, and a \
             momentum from 0 to 1",
            running.momentum
        )));
    }
    if channels == 0 {
        return Ok(());
    }
    let (statistics, corrections) = saved.split_at_mut(3 * channels);
    with_f32(2 * channels, |before| {
        before[..channels].copy_from_slice(running.mean);
        before[channels..].copy_from_slice(running.deviation);
        let (y, saved) = (DisjointMut::new(y), DisjointMut::new(statistics));
        let corrections = DisjointMut::new(corrections);
        with_fused!(norm.activation, |activation| slab::run(
            slab,
            &Forward {
                norm: centred::Forward::<_, false> {
                    slab,
                    groups: Groups::channels(channels),
                    x: norm.x,
                    residual: &[],
                    affine: norm.affine,
                    epsilon,
                    activation,
                    y,
                    saved,
                },
                limits,
                before,
                corrections,
            },
            |measured, _| move_running(running, measured, slab.positions, epsilon)
        ));
    });
    Ok(())
}

/// Moves the running statistics towards the means and squared deviations of a batch of `count` values a channel.
fn move_running(running: RunningDeviation, measured: &[f64], count: usize, epsilon: f32) {
    let channels = running.mean.len();
    let measured = &measured[..2 * channels];
    if count == 0 || !all_finite(measured) {
        return;
    }
    let momentum = f64::from(running.momentum);
    let blend = |old: &mut f32, new: f64| {
        *old = (f64::from(*old) + momentum * (new - f64::from(*old))) as f32;
    };
    let (means, squares) = measured.split_at(channels);
    for (old, mean) in running.mean.iter_mut().zip(means) {
        blend(old, *mean);
    }
    for (old, squares) in running.deviation.iter_mut().zip(squares) {
        blend(old, (squares / count as f64 + f64::from(epsilon)).sqrt());
    }
}

/// The scale and the offset in front of the activation, `[2, channels]`, with `corrections` (r, then d) in them.
fn corrected(affine: &Affine, corrections: &[f32], output: &mut [f32]) {
    let channels = corrections.len() / 2;
    let (scale, offset) = output.split_at_mut(channels);
    for channel in 0..channels {
        let gamma = affine.gamma(channel);
        scale[channel] = gamma * corrections[channel];
        offset[channel] = gamma * corrections[channels + channel] + affine.beta(channel);
    }
}

struct Forward<'a, A> {
    norm: centred::Forward<'a, A, false>,
    limits: Limits,
    /// The running mean and deviation, `[2, channels]`.
    before: &'a [f32],
    corrections: DisjointMut<'a, f32>,
}

impl<A: ActivationFunction> Passes for Forward<'_, A> {
    fn measurement_length(&self) -> usize {
        self.norm.measurement_length()
    }

    fn parameter_length(&self) -> usize {
        self.norm.parameter_length()
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        self.norm.measure(range, parameters, measurement);
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        self.norm.finish(sample, measurements, parameters);
        let slab = self.norm.slab;
        let channels = slab.columns.channels;
        // SAFETY: there is one sample, finished once, and nothing else looks at these while it is.
        let (saved, corrections) = unsafe {
            (
                self.norm.saved.part(0..3 * channels),
                self.corrections.part(0..2 * channels),
            )
        };
        let (means, squares) = measurements[..2 * channels].split_at(channels);
        let count = slab.positions.max(1) as f64;
        let Limits { scale, shift } = self.limits;
        for channel in 0..channels {
            let variance = squares[channel] / count + f64::from(self.norm.epsilon);
            let mut deviation = f64::from(self.before[channels + channel]);
            if deviation == 0.0 {
                // Without epsilon there may be none: a limit is then as far as the corrections go, and 0 stays 0.
                deviation = f64::MIN_POSITIVE;
            }
            let distance = means[channel] - f64::from(self.before[channel]);
            // `clamp` keeps a NaN.
            corrections[channel] = ((variance.sqrt() / deviation) as f32).clamp(1.0 / scale, scale);
            corrections[channels + channel] = ((distance / deviation) as f32).clamp(-shift, shift);
        }
        with_f32(2 * channels, |values| {
            corrected(&self.norm.affine, corrections, values);
            let (gamma, beta) = values.split_at(channels);
            let affine = Affine {
                gamma: Some(gamma),
                beta: Some(beta),
            };
            fill_forward(
                slab.columns,
                &affine,
                |channel| Saved::read(saved, channel),
                parameters,
            );
        });
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        self.norm.map(range, parameters);
    }
}

/// The gradients of [`forward`], where r and d are constants.
///
/// # Errors
/// Where a length does not fit.
pub fn backward(
    norm: BatchRenorm,
    saved: &[f32],
    dy: &[f32],
    gradients: AffineGradients,
) -> Result {
    let slab = norm.check()?;
    let channels = norm.shape.channels;
    check_length("saved", saved.len(), SAVED * channels)?;
    check_length("dy", dy.len(), norm.x.len())?;
    gradients.check(norm.x.len(), channels)?;
    if channels == 0 {
        return Ok(());
    }
    let (saved, corrections) = saved.split_at(3 * channels);
    let AffineGradients { dx, dgamma, dbeta } = gradients;
    with_f32(4 * channels, |scratch| {
        let (values, sums) = scratch.split_at_mut(2 * channels);
        corrected(&norm.affine, corrections, values);
        let (gamma, beta) = values.split_at(channels);
        let dx = dx.map(DisjointMut::new);
        with_fused!(norm.activation, |activation| slab::run(
            slab,
            &centred::Backward::<_, false> {
                slab,
                groups: Groups::channels(channels),
                constants: false,
                affine: Affine {
                    gamma: Some(gamma),
                    beta: Some(beta),
                },
                saved,
                inputs: BackwardInputs {
                    x: norm.x,
                    residual: &[],
                    dy,
                    activation,
                },
                dx,
                dresidual: None,
            },
            |all, stride| {
                for (index, sum) in sums.chunks_exact_mut(channels).enumerate() {
                    sum_samples(all, stride, index * channels, Some(sum));
                }
            }
        ));
        let (offsets, scales) = sums.split_at(channels);
        if let Some(dbeta) = dbeta {
            dbeta.copy_from_slice(offsets);
        }
        for (channel, dgamma) in dgamma.into_iter().flatten().enumerate() {
            *dgamma = corrections[channel] * scales[channel]
                + corrections[channels + channel] * offsets[channel];
        }
    });
    Ok(())
}

#[cfg(test)]
#[path = "renorm_tests.rs"]
mod tests;
