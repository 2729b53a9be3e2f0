//! Batch normalization.
//!
//! Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015.

use super::centred::{self, Inputs};
use super::geometry::{
    Affine, AffineGradients, Groups, Shape, check_epsilon, check_momentum, check_optional,
};
use super::moments::{Saved, all_finite, blend};
use super::slab::Slab;
use crate::activation::Activation;
use crate::error::{KernelError, Result, check_length};
use crate::scratch::with_f32;

/// Running statistics, which a training pass moves towards those of its batch.
#[derive(Debug)]
pub struct RunningStatistics<'a> {
    /// `[channels]`.
    pub mean: &'a mut [f32],
    /// `[channels]`; moves towards the unbiased variance, which divides by the count less one.
    pub variance: &'a mut [f32],
    /// The share of the batch, 0 to 1.
    pub momentum: f32,
}

/// What a batch norm reads in every pass: the geometry, the input, and what is fused after the normalization.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// Added before the activation, of the shape of `x`: the other branch of a residual block.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl<'a> BatchNorm<'a> {
    pub(super) fn check(&self) -> Result<Inputs<'a>> {
        let BatchNorm {
            shape, x, affine, ..
        } = *self;
        let elements = shape.elements()?;
        check_length("x", x.len(), elements)?;
        check_optional("residual", self.residual, elements)?;
        affine.check(shape.channels)?;
        Ok(Inputs {
            slab: Slab::of_batch(shape.batch * shape.positions, shape.channels),
            groups: Groups::channels(shape.channels),
            x,
            residual: self.residual,
            affine,
            activation: self.activation,
        })
    }

    fn check_given(&self, mean: &[f32], variance: &[f32], epsilon: f32) -> Result {
        check_length("running mean", mean.len(), self.shape.channels)?;
        check_length("running variance", variance.len(), self.shape.channels)?;
        check_epsilon(epsilon)
    }
}

/// `y = activation((x - mean) / sqrt(variance + epsilon) * gamma + beta + residual)` with the mean and the biased variance of
/// every channel over batch and positions.
///
/// `saved` receives what [`backward_training`] needs: `[3, channels]`, the means rounded to f32, what the rounding lost, and
/// `1 / sqrt(variance + epsilon)`. `running` moves to `(1 - momentum) * running + momentum * batch`, as PyTorch does it; its
/// variance stays where the batch has one value a channel, and nothing of it moves where a statistic of the batch is not finite.
/// A batch of 0 normalizes nothing and moves nothing.
///
/// # Errors
/// Where a length does not fit the shape, epsilon is negative or not finite, or the momentum is not in 0 to 1.
pub fn forward_training(
    norm: BatchNorm,
    epsilon: f32,
    running: Option<RunningStatistics>,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let inputs = norm.check()?;
    let channels = norm.shape.channels;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), 3 * channels)?;
    check_epsilon(epsilon)?;
    if let Some(running) = &running {
        check_running(running, channels)?;
    }
    let count = inputs.slab.positions;
    centred::forward(inputs, epsilon, y, saved, |measured, _| {
        if let (Some(running), true) = (running, count > 0) {
            move_running(running, &measured[..2 * channels], count);
        }
    });
    Ok(())
}

/// Checks the lengths of the running statistics and the momentum.
pub(super) fn check_running(running: &RunningStatistics, channels: usize) -> Result {
    check_length("running mean", running.mean.len(), channels)?;
    check_length("running variance", running.variance.len(), channels)?;
    check_momentum(running.momentum)
}

/// Moves the running statistics towards the means and squared deviations of a batch of `count` values a channel.
pub(super) fn move_running(running: RunningStatistics, measured: &[f64], count: usize) {
    if !all_finite(measured) {
        return;
    }
    let (means, deviations) = measured.split_at(measured.len() / 2);
    blend(running.mean, means.iter().copied(), running.momentum);
    if count > 1 {
        let variances = deviations.iter().map(|sum| sum / (count - 1) as f64);
        blend(running.variance, variances, running.momentum);
    }
}

/// As [`forward_training`], with a given mean and variance instead of the batch's.
///
/// # Errors
/// Where a length does not fit the shape, or epsilon is negative or not finite.
pub fn forward_inference(
    norm: BatchNorm,
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
    y: &mut [f32],
) -> Result {
    let inputs = norm.check()?;
    check_length("y", y.len(), norm.x.len())?;
    norm.check_given(mean, variance, epsilon)?;
    with_given(mean, variance, epsilon, |saved| {
        centred::forward_constants(inputs, saved, y);
    });
    Ok(())
}

/// Runs `body` with a given mean and variance in the form that a forward pass saves.
fn with_given(mean: &[f32], variance: &[f32], epsilon: f32, body: impl FnOnce(&[f32])) {
    let channels = mean.len();
    with_f32(3 * channels, |saved| {
        for channel in 0..channels {
            let unit = Saved::new(mean[channel] as f64, variance[channel] as f64, epsilon);
            saved[channel] = unit.mean;
            saved[2 * channels + channel] = unit.inverse_deviation;
        }
        body(saved);
    });
}

/// The gradients of [`forward_training`], given that of `y` and what it saved; `dresidual` is that of the residual.
///
/// # Errors
/// Where a length does not fit the shape, or `dresidual` is asked for and there is no residual.
pub fn backward_training(
    norm: BatchNorm,
    saved: &[f32],
    dy: &[f32],
    gradients: AffineGradients,
    dresidual: Option<&mut [f32]>,
) -> Result {
    let inputs = check_backward(&norm, dy, &gradients, dresidual.as_deref())?;
    check_length("saved", saved.len(), 3 * norm.shape.channels)?;
    centred::backward(inputs, false, saved, dy, gradients, dresidual);
    Ok(())
}

/// The gradients of [`forward_inference`]: the mean and the variance are constants.
///
/// # Errors
/// As [`forward_inference`] and [`backward_training`].
pub fn backward_inference(
    norm: BatchNorm,
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
    dy: &[f32],
    gradients: AffineGradients,
    dresidual: Option<&mut [f32]>,
) -> Result {
    let inputs = check_backward(&norm, dy, &gradients, dresidual.as_deref())?;
    norm.check_given(mean, variance, epsilon)?;
    with_given(mean, variance, epsilon, |saved| {
        centred::backward(inputs, true, saved, dy, gradients, dresidual);
    });
    Ok(())
}

pub(super) fn check_backward<'a>(
    norm: &BatchNorm<'a>,
    dy: &[f32],
    gradients: &AffineGradients,
    dresidual: Option<&[f32]>,
) -> Result<Inputs<'a>> {
    let inputs = norm.check()?;
    check_length("dy", dy.len(), norm.x.len())?;
    gradients.check(norm.x.len(), norm.shape.channels)?;
    check_optional("dresidual", dresidual, norm.x.len())?;
    if dresidual.is_some() && norm.residual.is_none() {
        return Err(KernelError::Invalid(
            "the gradient of a residual was asked for, but there is no residual".into(),
        ));
    }
    Ok(inputs)
}
