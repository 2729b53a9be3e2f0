//! How the statistics of one layer predict those of the next, for [`super::kalman`]. A *state* is `[2, groups, channels]`: the means
//! of all groups and channels, then their variances; channels are taken as independent.
//!
//! - [`predict`]: through a linear layer, the layer's own weights or learned ones.
//! - [`rectify`]: through ReLU, as if the channels were Gaussian.
//! - [`normalized`]: what a normalization with these statistics puts out.
//!
//! States are small beside activations, so everything is computed in f64.

use super::geometry::{Affine, check_epsilon, check_optional};
use super::kalman_products::{LANES, Lanes, Prediction, RowGradients, standard_normal};
use crate::error::{KernelError, Result, check_length, checked_product};
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
        if self.matrix() == 0 || !self.weight.len().is_multiple_of(self.matrix()) {
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
    gradients: super::geometry::AffineGradients,
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
mod tests {
    use super::*;
    use crate::norm::AffineGradients;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    fn positive_state(groups: usize, channels: usize, seed: u32) -> Vec<f32> {
        let mut state: Vec<f32> = coarse_values(2 * groups * channels, seed)
            .iter()
            .map(|v| v / 4.0)
            .collect();
        let half = groups * channels;
        state[half..].iter_mut().for_each(|v| *v = v.abs() + 0.5);
        state
    }

    /// Compares a gradient with central differences of `Σ weights · f(values)`.
    fn check(values: &[f32], gradient: &[f32], f: impl Fn(&[f32]) -> Vec<f32>, weights: &[f32]) {
        let objective = |values: &[f32]| -> f64 {
            let results = f(values);
            let pairs = results.iter().zip(weights);
            pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let largest = gradient.iter().fold(1e-3f32, |m, g| m.max(g.abs()));
        for index in (0..values.len()).step_by(3) {
            let mut changed = values.to_vec();
            changed[index] = values[index] + 0.0078125;
            let above = objective(&changed);
            changed[index] = values[index] - 0.0078125;
            let numeric = (above - objective(&changed)) / 0.015625;
            let error = (numeric - f64::from(gradient[index])).abs();
            assert!(
                error < 5e-3 * f64::from(largest),
                "{index}: {numeric} {}",
                gradient[index]
            );
        }
    }

    #[test]
    fn predictions_have_their_gradients() {
        for (groups, inputs, outputs, channel_groups, positions) in [
            (1, 1, 1, 1, 1),
            (2, 3, 5, 1, 9),
            (3, 16, 17, 1, 1),
            (2, 6, 4, 2, 9),
            (2, 33, 33, 33, 9),
        ] {
            let state = positive_state(groups, inputs, 1);
            let rows = inputs / channel_groups;
            let weight: Vec<f32> = coarse_values(positions * rows * outputs, 2)
                .iter()
                .map(|w| w / 8.0)
                .collect();
            let (bias, noise) = (coarse_values(outputs, 3), coarse_values(outputs, 4));
            let weights = coarse_values(2 * groups * outputs, 5);
            let run = |state: &[f32], weight: &[f32], bias: &[f32], noise: &[f32]| {
                let transition = Transition {
                    groups,
                    in_channels: inputs,
                    out_channels: outputs,
                    channel_groups,
                    weight,
                    bias: Some(bias),
                    noise: Some(noise),
                };
                let mut after = vec![f32::NAN; 2 * groups * outputs];
                predict(transition, state, &mut after).unwrap();
                after
            };
            let mut gradients = [
                vec![f32::NAN; state.len()],
                vec![f32::NAN; weight.len()],
                vec![f32::NAN; outputs],
                vec![f32::NAN; outputs],
            ];
            let [before, of_weight, of_bias, of_noise] = &mut gradients;
            predict_backward(
                Transition {
                    groups,
                    in_channels: inputs,
                    out_channels: outputs,
                    channel_groups,
                    weight: &weight,
                    bias: Some(&bias),
                    noise: Some(&noise),
                },
                &state,
                &weights,
                TransitionGradients {
                    before: Some(before),
                    weight: Some(of_weight),
                    bias: Some(of_bias),
                    noise: Some(of_noise),
                },
            )
            .unwrap();
            let [before, of_weight, of_bias, of_noise] = &gradients;
            check(&state, before, |s| run(s, &weight, &bias, &noise), &weights);
            check(
                &weight,
                of_weight,
                |w| run(&state, w, &bias, &noise),
                &weights,
            );
            check(
                &bias,
                of_bias,
                |b| run(&state, &weight, b, &noise),
                &weights,
            );
            check(
                &noise,
                of_noise,
                |n| run(&state, &weight, &bias, n),
                &weights,
            );
        }
    }

    /// What [`predict`] and [`predict_backward`] compute, from their definitions: prediction, gradient of the state, of the weight.
    fn naive(transition: Transition, before: &[f32], gradient: &[f32]) -> [Vec<f64>; 3] {
        let Transition {
            groups,
            in_channels,
            out_channels,
            weight,
            ..
        } = transition;
        let (rows, width) = (transition.rows(), transition.reach());
        let mut after = vec![0.0; 2 * groups * out_channels];
        let (mut of_state, mut of_weight) = (vec![0.0; before.len()], vec![0.0; weight.len()]);
        for (index, &w) in weight.iter().enumerate() {
            let (row, out) = (index / out_channels % rows, index % out_channels);
            let input = out / width * rows + row;
            let w = f64::from(w);
            for (array, (value, slope)) in [(w, 1.0), (w * w, 2.0 * w)].into_iter().enumerate() {
                for group in array * groups..(array + 1) * groups {
                    let (from, to) = (group * in_channels + input, group * out_channels + out);
                    let (state, outer) = (f64::from(before[from]), f64::from(gradient[to]));
                    after[to] += state * value;
                    of_state[from] += outer * value;
                    of_weight[index] += outer * state * slope;
                }
            }
        }
        [after, of_state, of_weight]
    }

    #[test]
    fn predictions_are_those_of_the_definition() {
        at_every_level(|| {
            for (groups, inputs, outputs, channel_groups, positions) in [
                (1, 1, 1, 1, 1),
                (1, 3, 16, 1, 9),
                (1, 64, 64, 1, 9),
                (2, 7, 15, 1, 9),
                (17, 16, 33, 1, 9),
                (35, 17, 65, 1, 1),
                (2, 5, 530, 1, 4),
                (3, 6, 40, 2, 9),
                (18, 33, 66, 33, 9),
            ] {
                let state = positive_state(groups, inputs, 1);
                let weight = coarse_values(positions * inputs / channel_groups * outputs, 2);
                let gradient = coarse_values(2 * groups * outputs, 3);
                let transition = Transition {
                    groups,
                    in_channels: inputs,
                    out_channels: outputs,
                    channel_groups,
                    weight: &weight,
                    bias: None,
                    noise: None,
                };
                let mut after = vec![f32::NAN; gradient.len()];
                predict(transition, &state, &mut after).unwrap();
                let mut both = [vec![f32::NAN; state.len()], vec![f32::NAN; weight.len()]];
                let mut alone = both.clone();
                let [before, of_weight] = &mut both;
                let gradients = TransitionGradients {
                    before: Some(before),
                    weight: Some(of_weight),
                    ..TransitionGradients::default()
                };
                predict_backward(transition, &state, &gradient, gradients).unwrap();
                let [before, of_weight] = &mut alone;
                for gradients in [
                    TransitionGradients {
                        before: Some(before),
                        ..TransitionGradients::default()
                    },
                    TransitionGradients {
                        weight: Some(of_weight),
                        ..TransitionGradients::default()
                    },
                ] {
                    predict_backward(transition, &state, &gradient, gradients).unwrap();
                }
                assert_eq!(both, alone, "one gradient without the other");
                let expected = naive(transition, &state, &gradient);
                let [before, of_weight] = both;
                for (actual, expected) in [after, before, of_weight].into_iter().zip(expected) {
                    let largest = expected.iter().fold(0.0f64, |most, e| most.max(e.abs()));
                    for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                        let error = (f64::from(*actual) - expected).abs();
                        assert!(
                            error <= 6e-8 * expected.abs() + 1e-14 * largest,
                            "{inputs} to {outputs} channels, {index}: {actual} {expected}"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn predictions_from_far_apart_values_are_right() {
        at_every_level(|| {
            let weight = [1e20f32, 1e-20, -1e20, 3e-20];
            let transition = Transition {
                groups: 1,
                in_channels: 1,
                out_channels: 2,
                channel_groups: 1,
                weight: &weight,
                bias: None,
                noise: None,
            };
            let mut after = [f32::NAN; 4];
            predict(transition, &[2.0, 1e-10], &mut after).unwrap();
            let expected = [0.0f32, 8e-20, 2e30, 0.0];
            for (actual, expected) in after.iter().zip(expected) {
                assert!((actual - expected).abs() <= 1e-6 * expected, "{after:?}");
            }
            predict(transition, &[2.0, 1e20], &mut after).unwrap();
            assert!((after[3] - 1e-19).abs() < 1e-24, "{after:?}");
        });
    }

    #[test]
    fn rectified_and_normalized_states_have_their_gradients() {
        let state = positive_state(2, 7, 1);
        let weights = coarse_values(state.len(), 2);
        let rectified = |state: &[f32]| {
            let mut after = vec![f32::NAN; state.len()];
            rectify(state, &mut after).unwrap();
            after
        };
        let mut gradient = vec![f32::NAN; state.len()];
        rectify_backward(&state, &weights, &mut gradient).unwrap();
        check(&state, &gradient, rectified, &weights);

        let (gamma, beta) = (coarse_values(7, 3), coarse_values(7, 4));
        let run = |state: &[f32], gamma: &[f32], beta: &[f32]| {
            let affine = Affine {
                gamma: Some(gamma),
                beta: Some(beta),
            };
            let mut after = vec![f32::NAN; state.len()];
            normalized(state, 7, affine, 0.5, &mut after).unwrap();
            after
        };
        let (mut dgamma, mut dbeta) = (vec![f32::NAN; 7], vec![f32::NAN; 7]);
        normalized_backward(
            &state,
            7,
            Affine {
                gamma: Some(&gamma),
                beta: Some(&beta),
            },
            0.5,
            &weights,
            AffineGradients {
                dx: Some(&mut gradient),
                dgamma: Some(&mut dgamma),
                dbeta: Some(&mut dbeta),
            },
        )
        .unwrap();
        check(&state, &gradient, |s| run(s, &gamma, &beta), &weights);
        check(&gamma, &dgamma, |g| run(&state, g, &beta), &weights);
        check(&beta, &dbeta, |b| run(&state, &gamma, b), &weights);
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (groups, inputs, outputs) = (17, 40, 130);
        let state = positive_state(groups, inputs, 1);
        let weight = coarse_values(9 * inputs * outputs, 2);
        assert_same_bits_at_any_thread_count(|| {
            let transition = Transition {
                groups,
                in_channels: inputs,
                out_channels: outputs,
                channel_groups: 1,
                weight: &weight,
                bias: None,
                noise: None,
            };
            let mut after = vec![0.0; 2 * groups * outputs];
            predict(transition, &state, &mut after).unwrap();
            let (mut before, mut gradient) = (vec![0.0; state.len()], vec![0.0; weight.len()]);
            let gradients = TransitionGradients {
                before: Some(&mut before),
                weight: Some(&mut gradient),
                ..TransitionGradients::default()
            };
            predict_backward(transition, &state, &after, gradients).unwrap();
            vec![after, before, gradient]
        });
    }

    #[test]
    fn misfits_are_refused() {
        assert!(rectify(&[0.0; 3], &mut [0.0; 3]).is_err());
        assert!(rectify(&[0.0; 4], &mut [0.0; 3]).is_err());
        assert!(normalized(&[0.0; 6], 2, Affine::default(), 1e-5, &mut [0.0; 6]).is_err());
        assert!(normalized(&[0.0; 4], 2, Affine::default(), -1.0, &mut [0.0; 4]).is_err());
        let transition = |weight| Transition {
            groups: 1,
            in_channels: 2,
            out_channels: 3,
            channel_groups: 1,
            weight,
            bias: None,
            noise: None,
        };
        assert!(predict(transition(&[0.0; 6]), &[0.0; 4], &mut [0.0; 6]).is_ok());
        assert!(predict(transition(&[0.0; 7]), &[0.0; 4], &mut [0.0; 6]).is_err());
        assert!(predict(transition(&[0.0; 6]), &[0.0; 3], &mut [0.0; 6]).is_err());
        assert!(predict(transition(&[0.0; 6]), &[0.0; 4], &mut [0.0; 5]).is_err());
    }
}
