//! How the statistics of one layer predict those of the next, for [`crate::norm::kalman`]. A *state* is `[2, groups, channels]`: the means
//! of all groups and channels, then their variances; channels are taken as independent.
//!
//! - [`predict`]: through a linear layer, the layer's own weights or learned ones.
//! - [`rectify`]: through ReLU, as if the channels were Gaussian.
//! - [`normalized`]: what a normalization with these statistics puts out.
//!
//! States are small beside activations, so everything is computed in f64.

use super::normal_distribution::{LANES, Lanes, standard_normal};
use super::products::{Prediction, RowGradients};
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::norm::geometry::{Affine, AffineGradients, check_epsilon, check_optional};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// A linear layer, as a transition of states.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    /// Groups of samples.
    pub groups: usize,
    /// Channels of the state before.
    pub in_channels: usize,
    /// Channels of the state after.
    pub out_channels: usize,
    /// Groups of channels of the layer; must divide both.
    pub channel_groups: usize,
    /// The weights `[positions, in_channels / channel_groups, out_channels]`: a convolution's HWIO, a linear layer's, or a learned
    /// matrix.
    pub weight: &'a [f32],
    /// Added to the means, `[out_channels]`.
    pub bias: Option<&'a [f32]>,
    /// `softplus` of it is added to the variances, `[out_channels]`.
    pub noise: Option<&'a [f32]>,
}

impl Transition<'_> {
    /// Rows of one position of the weight.
    pub(super) fn rows(&self) -> usize {
        self.in_channels / self.channel_groups
    }

    /// Elements of one position of the weight.
    pub(super) fn matrix(&self) -> usize {
        self.rows() * self.out_channels
    }

    fn check(&self, before: &[f32]) -> Result {
        let Transition {
            groups,
            in_channels,
            out_channels,
            channel_groups,
            ..
        } = *self;
        if channel_groups == 0
            || !in_channels.is_multiple_of(channel_groups)
            || !out_channels.is_multiple_of(channel_groups)
        {
            return Err(KernelError::Invalid(format!(
                "{in_channels} and {out_channels} channels do not split into {channel_groups} groups"
            )));
        }
        checked_product("transition", &[2, groups, in_channels.max(out_channels)])?;
        checked_product("transition", &[2, in_channels, out_channels])?;
        check_length("state", before.len(), 2 * groups * in_channels)?;
        let empty = self.matrix() == 0 || self.weight.is_empty();
        if empty || !self.weight.len().is_multiple_of(self.matrix()) {
            return Err(KernelError::Invalid(format!(
                "a weight of {} elements has no whole number of {} by {out_channels} matrices",
                self.weight.len(),
                self.rows()
            )));
        }
        check_optional("bias", self.bias, out_channels)?;
        check_optional("noise", self.noise, out_channels)
    }

    /// Output channels that every channel reaches.
    pub(super) fn reach(&self) -> usize {
        self.out_channels / self.channel_groups
    }
}

/// Columns of a task: whole cache lines of every row.
const TASK_COLUMNS: usize = 64;
/// Groups of a task, each of which sums up the weight again.
const TASK_GROUPS: usize = 16;
/// Elements of one position of a task: its sums stay in the first-level cache.
const TASK_ELEMENTS: usize = 512;

/// `m' = Σ m K1 + bias`, `v' = Σ v K2 + softplus(noise)`, where K1 and K2 are the sums over positions of the weight and of its square:
/// the moments of the layer's output away from borders.
///
/// `before` is `[2, groups, in_channels]`, `after` `[2, groups, out_channels]`.
///
/// # Errors
/// Where a length does not fit.
pub fn predict(transition: Transition, before: &[f32], after: &mut [f32]) -> Result {
    transition.check(before)?;
    let Transition {
        groups,
        out_channels,
        ..
    } = transition;
    check_length("prediction", after.len(), 2 * groups * out_channels)?;
    let parts = DisjointMut::new(after);
    let strips = out_channels.div_ceil(TASK_COLUMNS);
    let blocks = groups.div_ceil(TASK_GROUPS);
    let work = blocks * transition.weight.len() + 2 * groups * transition.matrix();
    for_each_task(strips * blocks, work, |task| {
        let columns = piece(task % strips, TASK_COLUMNS, out_channels);
        let part = Prediction {
            transition,
            before,
            groups: piece(task / strips, TASK_GROUPS, groups),
            columns: columns.clone(),
        };
        part.run(|row, sums| {
            let start = row * out_channels;
            // SAFETY: every task has its own columns of its own rows of the state.
            let after = unsafe { parts.part(start + columns.start..start + columns.end) };
            let (of_variance, added) = if row < groups {
                (false, transition.bias)
            } else {
                (true, transition.noise)
            };
            for (index, (after, sum)) in after.iter_mut().zip(sums).enumerate() {
                let added = added.map_or(0.0, |added| {
                    let added = f64::from(added[columns.start + index]);
                    if of_variance { softplus(added) } else { added }
                });
                *after = (sum + added) as f32;
            }
        });
    });
    Ok(())
}

/// Where [`predict_backward`] writes; an absent gradient is not computed.
#[derive(Debug, Default)]
pub struct TransitionGradients<'a> {
    /// `[2, groups, in_channels]`.
    pub before: Option<&'a mut [f32]>,
    /// Of the weight's shape.
    pub weight: Option<&'a mut [f32]>,
    /// `[out_channels]`.
    pub bias: Option<&'a mut [f32]>,
    /// `[out_channels]`.
    pub noise: Option<&'a mut [f32]>,
}

/// The gradients of [`predict`]: `dm = dm' K1ᵀ`, `dv = dv' K2ᵀ`, `dK = mᵀ dm' + 2 K vᵀ dv'` at every position.
///
/// # Errors
/// Where a length does not fit.
pub fn predict_backward(
    transition: Transition,
    before: &[f32],
    gradient: &[f32],
    gradients: TransitionGradients,
) -> Result {
    transition.check(before)?;
    let Transition {
        groups,
        out_channels,
        ..
    } = transition;
    check_length("gradient", gradient.len(), 2 * groups * out_channels)?;
    check_optional("dstate", gradients.before.as_deref(), before.len())?;
    check_optional(
        "dweight",
        gradients.weight.as_deref(),
        transition.weight.len(),
    )?;
    check_optional("dbias", gradients.bias.as_deref(), out_channels)?;
    check_optional("dnoise", gradients.noise.as_deref(), out_channels)?;
    let target = gradients.before.map(DisjointMut::new);
    let weight = gradients.weight.map(DisjointMut::new);
    if target.is_some() || weight.is_some() {
        let rows = transition.rows();
        let height = (TASK_ELEMENTS / out_channels).max(1);
        let work = transition.weight.len() + 4 * groups * transition.matrix();
        for_each_task(rows.div_ceil(height), work, |task| {
            let part = RowGradients {
                transition,
                before,
                gradient,
                rows: piece(task, height, rows),
                target: target.as_ref(),
                weight: weight.as_ref(),
            };
            // SAFETY: every task has its own rows.
            unsafe { part.run() };
        });
    }
    let column_sum = |array: usize, channel: usize| -> f64 {
        let values = gradient[array * groups * out_channels..].iter();
        let column = values.skip(channel).step_by(out_channels).take(groups);
        column.map(|&g| f64::from(g)).sum()
    };
    if let Some(target) = gradients.bias {
        for (channel, target) in target.iter_mut().enumerate() {
            *target = column_sum(0, channel) as f32;
        }
    }
    if let (Some(target), Some(noise)) = (gradients.noise, transition.noise) {
        for (channel, target) in target.iter_mut().enumerate() {
            let slope = 1.0 / (1.0 + (-f64::from(noise[channel])).exp());
            *target = (slope * column_sum(1, channel)) as f32;
        }
    }
    Ok(())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Variances are at least this after ReLU, and as much is added before the root (the released code's constant).
const LEAST_VARIANCE: f64 = 1e-8;

/// The moments of ReLU of Gaussians, and what their gradients need.
struct Rectified {
    mean: Lanes,
    variance: Lanes,
    deviation: Lanes,
    density: Lanes,
    distribution: Lanes,
}

impl Rectified {
    /// Of Gaussians with these means and variances; lanes past their ends hold those of the standard normal.
    fn new(means: &[f32], variances: &[f32]) -> Self {
        let (mut mean, mut variance) = ([0.0; LANES], [1.0; LANES]);
        for lane in 0..means.len().min(LANES) {
            mean[lane] = f64::from(means[lane]);
            variance[lane] = f64::from(variances[lane]);
        }
        let deviation = variance.map(|variance| (variance + LEAST_VARIANCE).sqrt());
        let (density, distribution) =
            standard_normal(std::array::from_fn(|lane| mean[lane] / deviation[lane]));
        let (mut first, mut central) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (m, s) = (mean[lane], deviation[lane]);
            first[lane] = m * distribution[lane] + s * density[lane];
            let second = (m * m + variance[lane]) * distribution[lane] + m * s * density[lane];
            central[lane] = second - first[lane] * first[lane];
        }
        Rectified {
            mean: first,
            variance: central,
            deviation,
            density,
            distribution,
        }
    }
}

fn halves(what: &'static str, state: &[f32]) -> Result<usize> {
    if state.len().is_multiple_of(2) {
        Ok(state.len() / 2)
    } else {
        Err(KernelError::Invalid(format!(
            "{what}: a state of {} elements is no pair of means and variances",
            state.len()
        )))
    }
}

/// The mean and the variance of `max(x, 0)` for Gaussian `x` of every mean and variance of `before`; variances are at least 1e-8.
///
/// # Errors
/// Where the lengths differ or are odd.
pub fn rectify(before: &[f32], after: &mut [f32]) -> Result {
    let units = halves("rectify", before)?;
    check_length("rectified state", after.len(), before.len())?;
    let (means, variances) = before.split_at(units);
    let (mean_out, variance_out) = after.split_at_mut(units);
    let chunks = mean_out
        .chunks_mut(LANES)
        .zip(variance_out.chunks_mut(LANES));
    for (index, (mean_out, variance_out)) in chunks.enumerate() {
        let range = index * LANES..index * LANES + mean_out.len();
        let moments = Rectified::new(&means[range.clone()], &variances[range]);
        for (lane, (mean, variance)) in mean_out.iter_mut().zip(variance_out).enumerate() {
            *mean = moments.mean[lane] as f32;
            // `max` would hide a NaN.
            let small = moments.variance[lane] < LEAST_VARIANCE;
            *variance = if small {
                LEAST_VARIANCE as f32
            } else {
                moments.variance[lane] as f32
            };
        }
    }
    Ok(())
}

/// The gradient of [`rectify`]: `dm = da Φ + dva 2a (1 - Φ)`, `dv = da φ / 2s + dva (Φ - a φ / s)`.
///
/// # Errors
/// As [`rectify`].
pub fn rectify_backward(before: &[f32], gradient: &[f32], target: &mut [f32]) -> Result {
    let units = halves("rectify backward", before)?;
    check_length("gradient", gradient.len(), before.len())?;
    check_length("dstate", target.len(), before.len())?;
    for start in (0..units).step_by(LANES) {
        let end = (start + LANES).min(units);
        let moments = Rectified::new(&before[start..end], &before[units + start..units + end]);
        for (lane, unit) in (start..end).enumerate() {
            let (mean, deviation) = (moments.mean[lane], moments.deviation[lane]);
            let (density, distribution) = (moments.density[lane], moments.distribution[lane]);
            let of_mean = f64::from(gradient[unit]);
            let clamped = moments.variance[lane] < LEAST_VARIANCE;
            let of_variance = if clamped {
                0.0
            } else {
                f64::from(gradient[units + unit])
            };
            target[unit] =
                (of_mean * distribution + of_variance * 2.0 * mean * (1.0 - distribution)) as f32;
            target[units + unit] = (of_mean * density / (2.0 * deviation)
                + of_variance * (distribution - mean * density / deviation))
                as f32;
        }
    }
    Ok(())
}

/// The statistics of a normalized, scaled and shifted output: means `beta`, variances `gamma² v / (v + epsilon)`.
///
/// # Errors
/// Where a length does not fit or epsilon is not finite or negative.
pub fn normalized(
    before: &[f32],
    channels: usize,
    affine: Affine,
    epsilon: f32,
    after: &mut [f32],
) -> Result {
    let units = check_normalized(before, channels, &affine, epsilon)?;
    check_length("normalized state", after.len(), before.len())?;
    for unit in 0..units {
        let variance = f64::from(before[units + unit]);
        let gamma = f64::from(affine.gamma(unit % channels));
        after[unit] = affine.beta(unit % channels);
        after[units + unit] = (gamma * gamma * share(variance, epsilon)) as f32;
    }
    Ok(())
}

/// `v / (v + epsilon)`, 1 where both are 0.
fn share(variance: f64, epsilon: f32) -> f64 {
    let sum = variance + f64::from(epsilon);
    if sum == 0.0 { 1.0 } else { variance / sum }
}

fn check_normalized(
    before: &[f32],
    channels: usize,
    affine: &Affine,
    epsilon: f32,
) -> Result<usize> {
    let units = halves("normalized", before)?;
    affine.check(channels)?;
    check_epsilon(epsilon)?;
    if channels == 0 || !units.is_multiple_of(channels) {
        return Err(KernelError::Invalid(format!(
            "{units} units are no whole number of groups of {channels} channels"
        )));
    }
    Ok(units)
}

/// The gradients of [`normalized`]: of the state (its means have none), of `gamma` and of `beta`.
///
/// # Errors
/// As [`normalized`].
pub fn normalized_backward(
    before: &[f32],
    channels: usize,
    affine: Affine,
    epsilon: f32,
    gradient: &[f32],
    gradients: AffineGradients,
) -> Result {
    let units = check_normalized(before, channels, &affine, epsilon)?;
    check_length("gradient", gradient.len(), before.len())?;
    gradients.check(before.len(), channels)?;
    if let Some(target) = gradients.dx {
        target[..units].fill(0.0);
        for unit in 0..units {
            let sum = f64::from(before[units + unit]) + f64::from(epsilon);
            let gamma = f64::from(affine.gamma(unit % channels));
            let slope = gamma * gamma * f64::from(epsilon) / (sum * sum);
            let slope = if slope.is_finite() { slope } else { 0.0 };
            target[units + unit] = (slope * f64::from(gradient[units + unit])) as f32;
        }
    }
    let column =
        |offset: usize, channel: usize| (offset + channel..offset + units).step_by(channels);
    if let Some(target) = gradients.dgamma {
        for (channel, target) in target.iter_mut().enumerate() {
            let gamma = 2.0 * f64::from(affine.gamma(channel));
            let terms = column(units, channel)
                .map(|at| f64::from(gradient[at]) * gamma * share(f64::from(before[at]), epsilon));
            *target = terms.sum::<f64>() as f32;
        }
    }
    if let Some(target) = gradients.dbeta {
        for (channel, target) in target.iter_mut().enumerate() {
            let terms = column(0, channel).map(|at| f64::from(gradient[at]));
            *target = terms.sum::<f64>() as f32;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "transition_tests.rs"]
mod tests;
