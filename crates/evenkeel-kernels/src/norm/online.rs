//! Online normalization: every sample is normalized with running statistics of the samples before it.
//!
//! Chiley, Sharapov, Kosson, Koster, Reece, Samaniego de la Fuente, Subbiah, James, "Online Normalization for Training Neural
//! Networks", NeurIPS 2019.
//!
//! What runs from sample to sample is a handful of numbers for each channel. So all samples are measured first, together; then the
//! recurrence goes through their measurements; then all are mapped. The backward pass does the same with its sums and the control
//! variables, and layer scaling, which divides a sample by its root mean square, follows from the same measurements: there are as many
//! passes over memory as in instance normalization.

use super::affine::{
    BackwardInputs, FORWARD_PARAMETERS, GRADIENT_PARAMETERS, GradientMap, GradientSums, Normalize,
    SUM_PARAMETERS, fill_forward, fill_projection, finish_sum,
};
use super::columns::{map_columns, sum_columns};
use super::fused::with_fused;
use super::geometry::{Affine, AffineGradients, Shape, check_epsilon};
use super::instances::{Moments, map_pieces, with_moments, with_sums};
use super::moments::{Saved, all_finite};
use super::slab::Slab;
use crate::activation::{Activation, ActivationFunction};
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::parallel::DisjointMut;
use crate::scratch::{with_f32, with_f64};

/// Arrays of `[batch, channels]` that the forward pass saves: the mean that a sample is normalized with, rounded to f32, and what that
/// lost; the inverse deviation; the mean of the sample's normalized values, and their root mean square.
const ARRAYS: usize = 5;

/// What both passes read.
#[derive(Clone, Copy, Debug)]
pub struct OnlineNorm<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// Added to the variance, and to a sample's mean square, before the root.
    pub epsilon: f32,
    /// Whether every sample is divided by its root mean square, between the offset and the activation.
    pub layer_scaling: bool,
    /// Applied last.
    pub activation: Activation,
}

impl OnlineNorm<'_> {
    fn check(&self) -> Result<Slab> {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        check_length("x", self.x.len(), self.shape.elements()?)?;
        self.affine.check(channels)?;
        check_epsilon(self.epsilon)?;
        Ok(Slab::new(batch, positions, channels))
    }

    /// Elements of what [`forward`] saves for [`backward`], or an error where the product does not fit.
    pub fn saved_length(shape: Shape) -> Result<usize> {
        let instances = checked_product(
            "online normalization",
            &[ARRAYS, shape.batch, shape.channels],
        )?;
        Ok(instances + shape.batch)
    }
}

/// Two numbers of every channel that run from sample to sample.
#[derive(Debug)]
pub struct Running<'a> {
    /// The running mean, or the accumulated projection of the gradients on the normalized values, `[channels]`.
    pub first: &'a mut [f32],
    /// The running biased variance, or the accumulated sum of the input's gradients, `[channels]`.
    pub second: &'a mut [f32],
    /// The weight of what was there before a sample, 0 to 1.
    pub keep: f64,
}

impl Running<'_> {
    fn check(&self, channels: usize) -> Result {
        check_length("first running values", self.first.len(), channels)?;
        check_length("second running values", self.second.len(), channels)?;
        if (0.0..=1.0).contains(&self.keep) {
            Ok(())
        } else {
            Err(KernelError::Invalid(format!(
                "online normalization: the weight of the old must be in 0 to 1, got {}",
                self.keep
            )))
        }
    }

    /// Runs `body` with both in f64, and keeps what it leaves there where all of it is finite.
    fn advance<R>(self, body: impl FnOnce(&mut [f64], &mut [f64]) -> R) -> R {
        let channels = self.first.len();
        with_f64(2 * channels, |states| {
            let values = self.first.iter().chain(&*self.second);
            for (state, value) in states.iter_mut().zip(values) {
                *state = f64::from(*value);
            }
            let (first, second) = states.split_at_mut(channels);
            let result = body(first, second);
            // What overflows f32 could not be read back.
            if all_finite(states) && states.iter().all(|state| (*state as f32).is_finite()) {
                let targets = self.first.iter_mut().chain(self.second);
                for (target, state) in targets.zip(states) {
                    *target = *state as f32;
                }
            }
            result
        })
    }
}

/// What [`forward`] saves, in parts.
struct Kept<'a> {
    instances: &'a [f32],
    /// The factor of every sample: one over its root mean square.
    scales: &'a [f32],
    channels: usize,
}

impl<'a> Kept<'a> {
    fn new(saved: &'a [f32], shape: Shape) -> Self {
        let (instances, scales) = saved.split_at(saved.len() - shape.batch);
        Kept {
            instances,
            scales,
            channels: shape.channels,
        }
    }

    #[inline(always)]
    fn array(&self, array: usize, sample: usize, channel: usize) -> f32 {
        let units = self.instances.len() / ARRAYS;
        self.instances[array * units + sample * self.channels + channel]
    }

    #[inline(always)]
    fn unit(&self, sample: usize, channel: usize) -> Saved {
        Saved {
            mean: self.array(0, sample, channel),
            mean_rest: self.array(1, sample, channel),
            inverse_deviation: self.array(2, sample, channel),
        }
    }

    /// Mean and mean square of the normalized values.
    #[inline(always)]
    fn moments(&self, sample: usize, channel: usize) -> (f64, f64) {
        let root = f64::from(self.array(4, sample, channel));
        (f64::from(self.array(3, sample, channel)), root * root)
    }

    /// Runs `body` with scale and offset times the factor of `sample`.
    fn with_scaled<R>(&self, affine: &Affine, sample: usize, body: impl FnOnce(&Affine) -> R) -> R {
        let scale = self.scales[sample];
        with_f32(2 * self.channels, |values| {
            let (gamma, beta) = values.split_at_mut(self.channels);
            for channel in 0..self.channels {
                gamma[channel] = scale * affine.gamma(channel);
                beta[channel] = scale * affine.beta(channel);
            }
            body(&Affine {
                gamma: Some(gamma),
                beta: Some(beta),
            })
        })
    }

    /// Fills the parameters of [`Normalize`] (and of [`GradientSums`] where there is room) for a sample.
    fn fill(&self, slab: Slab, affine: &Affine, sample: usize, parameters: &mut [f32]) {
        self.with_scaled(affine, sample, |affine| {
            let unit = |channel| self.unit(sample, channel);
            fill_forward(slab.columns, affine, unit, parameters);
        });
    }
}

/// `y = activation(scale · ((x - mean) / sqrt(variance + epsilon) · gamma + beta))` with the `running` mean and variance before every sample,
/// and the scale 1 or, with layer scaling, one over the root of the mean over the sample of the square of what it multiplies, plus epsilon.
///
/// `running` moves with every sample: `variance ← keep · variance + (1 - keep) · (sample's variance + keep · (sample's mean - mean)²)` and
/// `mean ← keep · mean + (1 - keep) · sample's mean`. It stays where a sample is not finite.
///
/// `saved` receives [`OnlineNorm::saved_length`] values.
///
/// # Errors
/// Where a length does not fit, epsilon is negative or not finite, or the weight is not in 0 to 1.
pub fn forward(norm: OnlineNorm, running: Running, y: &mut [f32], saved: &mut [f32]) -> Result {
    let slab = norm.check()?;
    let Shape {
        batch, channels, ..
    } = norm.shape;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), OnlineNorm::saved_length(norm.shape)?)?;
    running.check(channels)?;
    if norm.x.is_empty() {
        saved.fill(0.0);
        return Ok(());
    }
    let (instances, scales) = saved.split_at_mut(ARRAYS * batch * channels);
    with_moments(slab, norm.x, norm.epsilon, |moments| {
        let keep = running.keep;
        running.advance(|mean, variance| {
            for sample in 0..batch {
                let mean_square = normalize(&norm, moments, sample, (mean, variance), instances);
                scales[sample] = if norm.layer_scaling {
                    Saved::new(0.0, mean_square, norm.epsilon).inverse_deviation
                } else {
                    1.0
                };
                move_statistics(moments, sample, keep, mean, variance);
            }
        });
    });
    let kept = Kept::new(saved, norm.shape);
    let y = DisjointMut::new(y);
    with_fused!(norm.activation, |activation| map_forward(
        &norm, slab, &kept, activation, &y
    ));
    Ok(())
}

/// Saves what one sample is normalized with, and the moments of its normalized values. Returns the mean square of what they become with
/// scale and offset.
fn normalize(
    norm: &OnlineNorm,
    moments: Moments,
    sample: usize,
    (mean, variance): (&[f64], &[f64]),
    saved: &mut [f32],
) -> f64 {
    let channels = mean.len();
    let units = saved.len() / ARRAYS;
    let mut squares = 0.0;
    for channel in 0..channels {
        let at = sample * channels + channel;
        let unit = Saved::new(mean[channel], variance[channel], norm.epsilon);
        let inverse = f64::from(unit.inverse_deviation);
        let first = (moments.means[at] - mean[channel]) * inverse;
        let spread = moments.variances[at] * inverse * inverse;
        let gamma = f64::from(norm.affine.gamma(channel));
        let middle = gamma * first + f64::from(norm.affine.beta(channel));
        squares += middle * middle + gamma * gamma * spread;
        let root = (first * first + spread).sqrt();
        let values = [
            unit.mean,
            unit.mean_rest,
            unit.inverse_deviation,
            first as f32,
            root as f32,
        ];
        for (array, value) in values.into_iter().enumerate() {
            saved[array * units + at] = value;
        }
    }
    squares / channels as f64
}

fn move_statistics(
    moments: Moments,
    sample: usize,
    keep: f64,
    mean: &mut [f64],
    variance: &mut [f64],
) {
    let channels = mean.len();
    for channel in 0..channels {
        let at = sample * channels + channel;
        let distance = moments.means[at] - mean[channel];
        let spread = moments.variances[at] + keep * distance * distance;
        variance[channel] = keep * variance[channel] + (1.0 - keep) * spread;
        mean[channel] += (1.0 - keep) * distance;
    }
}

fn map_forward<A: ActivationFunction>(
    norm: &OnlineNorm,
    slab: Slab,
    kept: &Kept,
    activation: A,
    y: &DisjointMut<f32>,
) {
    let columns = slab.columns;
    map_pieces(
        slab,
        FORWARD_PARAMETERS * columns.padded,
        &|sample, parameters| kept.fill(slab, &norm.affine, sample, parameters),
        &|range, parameters| {
            // SAFETY: pieces do not overlap.
            let y = unsafe { y.part(range.clone()) };
            let x = &norm.x[range];
            let terms = Normalize::<_, false>::new(x, &[], y, activation)
                .part_of(norm.x.len(), columns.width);
            map_columns(columns, parameters, terms);
        },
    );
}

/// What takes the place of the gradients of [`forward`]. With `u` the gradient of the normalized value
/// `n`, `r` the inverse deviation, `k = 1 - keep`, and the control variables `c` and `s` before a sample:
/// `a = u - k c n`, `dx = r a - k s`, then `c ← c + mean(a n)` and `s ← s + mean(dx)`, means over the sample's positions. The control
/// variables move with every call, unless something is not finite. The gradients of scale and offset, and that of layer scaling, are
/// true ones.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    norm: OnlineNorm,
    saved: &[f32],
    dy: &[f32],
    controls: Running,
    gradients: AffineGradients,
) -> Result {
    let slab = norm.check()?;
    let channels = norm.shape.channels;
    check_length("saved", saved.len(), OnlineNorm::saved_length(norm.shape)?)?;
    check_length("dy", dy.len(), norm.x.len())?;
    controls.check(channels)?;
    gradients.check(norm.x.len(), channels)?;
    if norm.x.is_empty() {
        let AffineGradients { dgamma, dbeta, .. } = gradients;
        for gradient in [dgamma, dbeta].into_iter().flatten() {
            gradient.fill(0.0);
        }
        return Ok(());
    }
    let kept = Kept::new(saved, norm.shape);
    with_fused!(norm.activation, |activation| {
        let inputs = BackwardInputs {
            x: norm.x,
            residual: &[],
            dy,
            activation,
        };
        run_backward(&norm, slab, &kept, inputs, controls, gradients);
    });
    Ok(())
}

fn run_backward<A: ActivationFunction>(
    norm: &OnlineNorm,
    slab: Slab,
    kept: &Kept,
    inputs: BackwardInputs<A>,
    controls: Running,
    gradients: AffineGradients,
) {
    let columns = slab.columns;
    let channels = columns.channels;
    with_sums(
        slab,
        2,
        SUM_PARAMETERS * columns.padded,
        &|sample, parameters| kept.fill(slab, &norm.affine, sample, parameters),
        &|range, parameters, sums| {
            let terms = GradientSums::<_, false>::new(inputs.part(range));
            sum_columns(columns, parameters, terms, sums);
        },
        |sums| {
            let AffineGradients { dx, dgamma, dbeta } = gradients;
            with_f64(2 * channels, |totals| {
                let control = 1.0 - controls.keep;
                controls.advance(|output, mean| {
                    for (sample, sums) in sums.chunks_exact_mut(2 * channels).enumerate() {
                        project(norm, kept, sample, control, (output, mean), sums, totals);
                    }
                });
                let targets = [dbeta, dgamma].into_iter();
                for (target, totals) in targets.zip(totals.chunks_exact(channels)) {
                    for (target, total) in target.into_iter().flatten().zip(totals) {
                        *target = *total as f32;
                    }
                }
            });
            if let Some(dx) = dx {
                let dx = DisjointMut::new(dx);
                map_backward(norm, slab, kept, inputs, sums, &dx);
            }
        },
    );
}

/// Moves the control variables by one sample, adds to the gradients of offset and scale, `[2, channels]`, and turns the sample's sums (Σ dw
/// and Σ dw n, w being what the activation is applied to) into what the map adds: a constant, and the factor of the normalized value.
fn project(
    norm: &OnlineNorm,
    kept: &Kept,
    sample: usize,
    control: f64,
    (output, mean): (&mut [f64], &mut [f64]),
    sums: &mut [f64],
    totals: &mut [f64],
) {
    let channels = kept.channels;
    let positions = norm.shape.positions as f64;
    let scale = f64::from(kept.scales[sample]);
    let affine = |channel| {
        (
            f64::from(norm.affine.gamma(channel)),
            f64::from(norm.affine.beta(channel)),
        )
    };
    let (first, second) = sums.split_at_mut(channels);
    // w is the scale times z, which was n · gamma + beta; with layer scaling dz = scale · (dw - w · mean(dw w)).
    let mut product = 0.0;
    for channel in 0..channels {
        let unit = kept.unit(sample, channel);
        second[channel] = finish_sum(unit, first[channel], second[channel]);
        let (gamma, beta) = affine(channel);
        product += scale * (gamma * second[channel] + beta * first[channel]);
    }
    let alignment = if norm.layer_scaling {
        product / (positions * channels as f64)
    } else {
        0.0
    };
    for channel in 0..channels {
        let unit = kept.unit(sample, channel);
        let (gamma, beta) = affine(channel);
        let (n, squares) = kept.moments(sample, channel);
        let inverse = f64::from(unit.inverse_deviation);
        // Means over the positions of dz and of dz · n.
        let w = scale * (gamma * n + beta);
        let products = scale * (gamma * squares + beta * n);
        let dz = scale * (first[channel] / positions - alignment * w);
        let dz_n = scale * (second[channel] / positions - alignment * products);
        totals[channel] += positions * dz;
        totals[channels + channel] += positions * dz_n;
        let along = control * output[channel];
        let offset = control * mean[channel];
        output[channel] += gamma * dz_n - along * squares;
        mean[channel] += inverse * (gamma * dz - along * n) - offset;
        // dx = inverse · (gamma · scale · dw + constant + factor · n)
        let scaling = gamma * scale * scale * alignment;
        let factor = -(gamma * scaling + along);
        let constant = -(beta * scaling + offset / inverse);
        let rest = f64::from(unit.mean_rest) * inverse;
        first[channel] = constant - factor * rest;
        second[channel] = factor;
    }
}

fn map_backward<A: ActivationFunction>(
    norm: &OnlineNorm,
    slab: Slab,
    kept: &Kept,
    inputs: BackwardInputs<A>,
    projections: &[f64],
    dx: &DisjointMut<f32>,
) {
    let columns = slab.columns;
    let channels = columns.channels;
    map_pieces(
        slab,
        GRADIENT_PARAMETERS * columns.padded,
        &|sample, parameters| {
            kept.with_scaled(&norm.affine, sample, |affine| {
                let unit = |channel| kept.unit(sample, channel);
                fill_forward(columns, affine, unit, parameters);
                let own = &projections[sample * 2 * channels..(sample + 1) * 2 * channels];
                let projection = |channel| (own[channels + channel], own[channel]);
                fill_projection(columns, affine, projection, parameters);
            });
        },
        &|range, parameters| {
            // SAFETY: pieces do not overlap.
            let dx = unsafe { dx.part(range.clone()) };
            let terms = GradientMap::<_, false>::new(inputs.part(range), dx, &mut [])
                .part_of(norm.x.len(), columns.width);
            map_columns(columns, parameters, terms);
        },
    );
}

#[cfg(test)]
#[path = "online_tests.rs"]
mod tests;
