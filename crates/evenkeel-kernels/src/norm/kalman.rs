//! Batch Kalman normalization: the statistics of a small group of samples, corrected by a prediction from the layer before.
//!
//! Wang, Peng, Luo, Wang, Lin, "Batch Kalman Normalization: Towards Training Deep Neural Networks with Micro-Batches", 2018
//! (also "Kalman Normalization", NeurIPS 2018): the update rule, with the mean and the variance of every channel.

use super::affine::{
    BackwardInputs, FORWARD_PARAMETERS, GRADIENT_PARAMETERS, GradientMap, GradientSums, Normalize,
    fill_forward, fill_projection, finish_sum,
};
use super::centred::{add_pieces, sum_samples};
use super::columns::{map_columns, sum_columns};
use super::fused::with_fused;
use super::geometry::{
    Affine, AffineGradients, Shape, check_epsilon, check_momentum, check_optional,
};
use super::moments::{Saved, all_finite, blend, measure, merge_pieces};
use super::slab::{self, Passes, Slab};
use crate::activation::{Activation, ActivationFunction};
use crate::error::{KernelError, Result, check_length};
use crate::parallel::DisjointMut;
use std::ops::Range;

/// Arrays of `[groups, channels]` that the forward pass saves.
pub const SAVED: usize = 6;

/// Where the mean, its rest and the inverse deviation lie in what is saved, then `observed - mean`, `observed - predicted` and
/// `predicted variance - observed variance`.
const MEAN: usize = 0;
const REST: usize = 1;
const INVERSE: usize = 2;
const CORRECTION: usize = 3;
const SURPRISE: usize = 4;
const VARIANCE_SURPRISE: usize = 5;

/// The prior is dropped for a group where its variance is this many times the observed one, on average over the channels (the
/// released code's guard, there over all groups at once; here each group stands for itself).
const GUARD: f64 = 100.0;

/// What is known about a layer's statistics before its batch is seen.
#[derive(Clone, Copy, Debug)]
pub struct Prior<'a> {
    /// Means `[groups, channels]`, then variances `[groups, channels]`.
    pub state: &'a [f32],
    /// The weight of the prior, 0 (batch normalization) to 1.
    pub weight: f64,
    /// Whether a group drops a prior whose variances are a hundred times those it observes.
    pub guarded: bool,
}

/// What a Kalman norm reads in every pass.
#[derive(Clone, Copy, Debug)]
pub struct KalmanNorm<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// Groups of neighbouring samples with statistics of their own; must divide the batch.
    pub groups: usize,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// The prediction from the layer before; without it this is batch normalization of every group.
    pub prior: Option<Prior<'a>>,
    /// Added before the activation, of the shape of `x`: the other branch of a residual block.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl KalmanNorm<'_> {
    fn units(&self) -> usize {
        self.groups * self.shape.channels
    }

    fn check(&self) -> Result<Slab> {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        check_length("x", self.x.len(), self.shape.elements()?)?;
        check_optional("residual", self.residual, self.x.len())?;
        self.affine.check(channels)?;
        if self.groups == 0 || !batch.is_multiple_of(self.groups) {
            return Err(KernelError::Invalid(format!(
                "a batch of {batch} does not split into {} groups",
                self.groups
            )));
        }
        if let Some(Prior { state, weight, .. }) = self.prior {
            check_length("prior", state.len(), 2 * self.units())?;
            if !(0.0..=1.0).contains(&weight) {
                return Err(KernelError::Invalid(format!(
                    "the weight of the prior must be in 0 to 1, got {weight}"
                )));
            }
        }
        Ok(Slab::new(
            self.groups,
            batch / self.groups * positions,
            channels,
        ))
    }
}

/// Running statistics, which a training pass moves towards the mean over the groups of its posterior.
#[derive(Debug)]
pub struct RunningStatistics<'a> {
    /// `[channels]`.
    pub mean: &'a mut [f32],
    /// `[channels]`.
    pub variance: &'a mut [f32],
    /// The share of the batch, 0 to 1.
    pub momentum: f32,
    /// Whether only the first group counts, as in the released code.
    pub first_group_only: bool,
}

/// `y = activation((x - m) / sqrt(v + epsilon) * gamma + beta + residual)` with `m` and `v` of every group and channel. Where x̄ and S are the
/// mean and the biased variance of the group, and m⁻, v⁻ the prior with weight q,
///
/// `m = q m⁻ + (1 - q) x̄`, `v = q v⁻ + (1 - q) S + q (1 - q) (x̄ - m⁻)²`.
///
/// `posterior` receives all `m`, then all `v`; `saved` (`[6, groups, channels]`) what [`backward`] needs. The running statistics stay
/// where anything of the posterior is not finite, and where the batch is empty.
///
/// # Errors
/// Where a length does not fit the shape, the groups do not divide the batch, or a number is out of its range.
pub fn forward(
    norm: KalmanNorm,
    epsilon: f32,
    running: Option<RunningStatistics>,
    y: &mut [f32],
    posterior: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let slab = norm.check()?;
    let (units, channels) = (norm.units(), norm.shape.channels);
    check_length("y", y.len(), norm.x.len())?;
    check_length("posterior", posterior.len(), 2 * units)?;
    check_length("saved", saved.len(), SAVED * units)?;
    check_epsilon(epsilon)?;
    if let Some(running) = &running {
        check_length("running mean", running.mean.len(), channels)?;
        check_length("running variance", running.variance.len(), channels)?;
        check_momentum(running.momentum)?;
    }
    if channels == 0 {
        return Ok(());
    }
    {
        let posterior = DisjointMut::new(posterior);
        let (y, saved) = (DisjointMut::new(y), DisjointMut::new(saved));
        let after = |posterior: &[f64], stride| {
            if let (Some(running), true) = (running, slab.positions > 0) {
                move_running(running, posterior, stride);
            }
        };
        macro_rules! run {
            ($activation:ident, $residual:literal) => {
                slab::run(
                    slab,
                    &Forward::<_, $residual> {
                        slab,
                        norm,
                        epsilon,
                        activation: $activation,
                        y,
                        posterior,
                        saved,
                    },
                    after,
                )
            };
        }
        with_fused!(norm.activation, |activation| {
            if norm.residual.is_some() {
                run!(activation, true)
            } else {
                run!(activation, false)
            }
        });
    }
    Ok(())
}

/// Moves the running statistics towards the mean over the groups; `posterior` holds a group's means and variances in each `stride`.
fn move_running(running: RunningStatistics, posterior: &[f64], stride: usize) {
    let channels = running.mean.len();
    let all = posterior.len() / stride.max(1);
    let groups = if running.first_group_only { 1 } else { all };
    let posterior = &posterior[..groups * stride];
    if !posterior
        .chunks_exact(stride)
        .all(|group| all_finite(&group[..2 * channels]))
    {
        return;
    }
    let average = |at: usize| -> f64 {
        let values = posterior.chunks_exact(stride).map(|group| group[at]);
        values.sum::<f64>() / groups as f64
    };
    let means = (0..channels).map(average);
    blend(running.mean, means, running.momentum);
    let variances = (channels..2 * channels).map(average);
    blend(running.variance, variances, running.momentum);
}

struct Forward<'a, A, const RESIDUAL: bool> {
    slab: Slab,
    norm: KalmanNorm<'a>,
    epsilon: f32,
    activation: A,
    y: DisjointMut<'a, f32>,
    posterior: DisjointMut<'a, f32>,
    saved: DisjointMut<'a, f32>,
}

impl<A: ActivationFunction, const RESIDUAL: bool> Passes for Forward<'_, A, RESIDUAL> {
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        FORWARD_PARAMETERS * self.slab.columns.padded
    }

    fn measure(&self, range: Range<usize>, _: &[f32], measurement: &mut [f64]) {
        measure(
            self.slab.columns,
            &self.norm.x[range],
            self.epsilon,
            measurement,
        );
    }

    fn finish(&self, group: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let channels = columns.channels;
        let units = self.norm.units();
        let count = merge_pieces(measurements, channels, self.slab.piece_counts());
        let (means, variances) = measurements[..2 * channels].split_at_mut(channels);
        let own = group * channels;
        // SAFETY: every group has its own units, and is finished once.
        let saved: [&mut [f32]; SAVED] = std::array::from_fn(|array| unsafe {
            self.saved
                .part(array * units + own..array * units + own + channels)
        });
        // SAFETY: as above.
        let posterior = [0, 1].map(|array| unsafe {
            self.posterior
                .part(array * units + own..array * units + own + channels)
        });
        for variance in variances.iter_mut() {
            *variance /= count.max(1) as f64;
        }
        let prior = self.norm.prior.filter(|prior| {
            let predicted = &prior.state[units + own..units + own + channels];
            !prior.guarded || is_plausible(predicted, variances)
        });
        for channel in 0..channels {
            let (observed, observed_variance) = (means[channel], variances[channel]);
            let mut surprises = [0.0; 2];
            if let Some(Prior { state, weight, .. }) = prior {
                let predicted = f64::from(state[own + channel]);
                let predicted_variance = f64::from(state[units + own + channel]);
                let surprise = observed - predicted;
                surprises = [surprise, predicted_variance - observed_variance];
                // Written so that a weight of 0 leaves the observed statistics to the bit.
                means[channel] = observed - weight * surprise;
                variances[channel] = observed_variance
                    + weight * surprises[1]
                    + weight * (1.0 - weight) * surprise * surprise;
            }
            let unit = Saved::new(means[channel], variances[channel], self.epsilon);
            saved[MEAN][channel] = unit.mean;
            saved[REST][channel] = unit.mean_rest;
            saved[INVERSE][channel] = unit.inverse_deviation;
            saved[CORRECTION][channel] = (observed - f64::from(unit.mean)) as f32;
            saved[SURPRISE][channel] = surprises[0] as f32;
            saved[VARIANCE_SURPRISE][channel] = surprises[1] as f32;
            posterior[0][channel] = means[channel] as f32;
            posterior[1][channel] = variances[channel] as f32;
        }
        let unit = |channel: usize| Saved {
            mean: saved[MEAN][channel],
            mean_rest: saved[REST][channel],
            inverse_deviation: saved[INVERSE][channel],
        };
        fill_forward(columns, &self.norm.affine, unit, parameters);
        if prior.is_none() && self.norm.prior.is_some() {
            // The backward pass learns from this that the group dropped its prior.
            saved[SURPRISE].fill(f32::NAN);
        }
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        // SAFETY: ranges of different tasks do not overlap.
        let y = unsafe { self.y.part(range.clone()) };
        let x = &self.norm.x[range.clone()];
        let residual = self.norm.residual.map_or(&[][..], |values| &values[range]);
        let columns = self.slab.columns;
        map_columns(
            columns,
            parameters,
            Normalize::<_, RESIDUAL>::new(x, residual, y, self.activation)
                .part_of(self.norm.x.len(), columns.width),
        );
    }
}

/// Whether predicted variances are less than [`GUARD`] times the observed ones, on average.
fn is_plausible(predicted: &[f32], observed: &[f64]) -> bool {
    let ratios = predicted.iter().zip(observed);
    let sum: f64 = ratios
        .map(|(&predicted, &observed)| f64::from(predicted) / (observed + 1e-8))
        .sum();
    sum < GUARD * observed.len() as f64
}

/// Where [`backward`] writes besides the gradients of input, scale and offset.
#[derive(Debug, Default)]
pub struct PriorGradients<'a> {
    /// The gradient of the prior's means and variances, `[2, groups, channels]`.
    pub state: Option<&'a mut [f32]>,
    /// The gradient of the prior's weight, `[1]`.
    pub weight: Option<&'a mut [f32]>,
}

/// The gradients of [`forward`], given what it saved, the gradient of `y`, and that of the posterior where another layer used it.
///
/// With A = Σ dz, B = Σ dz·normalized, r the inverse deviation and M the values of a group and channel:
/// `dv = dv_out - r² γ B / 2`, `dm = dm_out - r γ A`, `dx̄ = (1-q) dm + 2 q (1-q) δ dv`, `dS = (1-q) dv`,
/// `dx = r γ dz + dx̄ / M + 2 dS (x - x̄) / M`, `dm⁻ = q dm - 2 q (1-q) δ dv`, `dv⁻ = q dv`,
/// `dq = Σ -dm δ + dv (v⁻ - S + (1 - 2q) δ²)`.
///
/// # Errors
/// Where a length does not fit, or the gradient of a prior is asked for where there is none.
pub fn backward(
    norm: KalmanNorm,
    saved: &[f32],
    dy: &[f32],
    posterior_gradient: Option<&[f32]>,
    gradients: AffineGradients,
    dresidual: Option<&mut [f32]>,
    prior_gradients: PriorGradients,
) -> Result {
    let slab = norm.check()?;
    let (units, channels) = (norm.units(), norm.shape.channels);
    check_length("saved", saved.len(), SAVED * units)?;
    check_length("dy", dy.len(), norm.x.len())?;
    check_optional("posterior gradient", posterior_gradient, 2 * units)?;
    gradients.check(norm.x.len(), channels)?;
    check_optional("dresidual", dresidual.as_deref(), norm.x.len())?;
    let PriorGradients { state, weight } = prior_gradients;
    check_optional("prior gradient", state.as_deref(), 2 * units)?;
    check_optional("weight gradient", weight.as_deref(), 1)?;
    if norm.prior.is_none() && (state.is_some() || weight.is_some()) {
        return Err(KernelError::Invalid(
            "the gradient of a prior was asked for, but there is no prior".into(),
        ));
    }
    if dresidual.is_some() && norm.residual.is_none() {
        return Err(KernelError::Invalid(
            "the gradient of a residual was asked for, but there is no residual".into(),
        ));
    }
    if channels == 0 {
        return Ok(());
    }
    let AffineGradients { dx, dgamma, dbeta } = gradients;
    let (dx, dresidual) = (dx.map(DisjointMut::new), dresidual.map(DisjointMut::new));
    let state = state.map(DisjointMut::new);
    let after = |sums: &[f64], stride| {
        sum_samples(sums, stride, 0, dbeta);
        sum_samples(sums, stride, channels, dgamma);
        if let Some(weight) = weight {
            let groups = sums.chunks_exact(stride);
            weight[0] = groups.map(|group| group[2 * channels]).sum::<f64>() as f32;
        }
    };
    macro_rules! run {
        ($activation:ident, $residual:literal) => {
            slab::run(
                slab,
                &Backward::<_, $residual> {
                    slab,
                    norm,
                    saved,
                    posterior_gradient,
                    inputs: BackwardInputs {
                        x: norm.x,
                        residual: norm.residual.unwrap_or(&[]),
                        dy,
                        activation: $activation,
                    },
                    dx,
                    dresidual,
                    state,
                },
                after,
            )
        };
    }
    with_fused!(norm.activation, |activation| {
        if norm.residual.is_some() {
            run!(activation, true)
        } else {
            run!(activation, false)
        }
    });
    Ok(())
}

struct Backward<'a, A, const RESIDUAL: bool> {
    slab: Slab,
    norm: KalmanNorm<'a>,
    saved: &'a [f32],
    posterior_gradient: Option<&'a [f32]>,
    inputs: BackwardInputs<'a, A>,
    dx: Option<DisjointMut<'a, f32>>,
    dresidual: Option<DisjointMut<'a, f32>>,
    state: Option<DisjointMut<'a, f32>>,
}

impl<A, const RESIDUAL: bool> Backward<'_, A, RESIDUAL> {
    #[inline(always)]
    fn read(&self, array: usize, unit: usize) -> f32 {
        self.saved[array * self.norm.units() + unit]
    }

    #[inline(always)]
    fn unit(&self, unit: usize) -> Saved {
        Saved {
            mean: self.read(MEAN, unit),
            mean_rest: self.read(REST, unit),
            inverse_deviation: self.read(INVERSE, unit),
        }
    }
}

impl<'a, A: ActivationFunction, const RESIDUAL: bool> Passes for Backward<'a, A, RESIDUAL> {
    /// Two sums of every channel, then the group's part of the weight's gradient.
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels + 1
    }

    fn parameter_length(&self) -> usize {
        GRADIENT_PARAMETERS * self.slab.columns.padded
    }

    fn prepare(&self, group: usize, parameters: &mut [f32]) {
        let own = group * self.slab.columns.channels;
        let unit = |channel| self.unit(own + channel);
        fill_forward(self.slab.columns, &self.norm.affine, unit, parameters);
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        let columns = self.slab.columns;
        let terms = GradientSums::<_, RESIDUAL>::new(self.inputs.part(range));
        let sums = &mut measurement[..2 * columns.channels];
        columns.gathered(sums, |sums| sum_columns(columns, parameters, terms, sums));
    }

    fn finish(&self, group: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let channels = columns.channels;
        let units = self.norm.units();
        let own = group * channels;
        add_pieces(measurements, 2 * channels + 1);
        let (dbeta, rest) = measurements.split_at_mut(channels);
        let (dgamma, rest) = rest.split_at_mut(channels);
        let weight_gradient = &mut rest[0];
        *weight_gradient = 0.0;
        let inverse_count = 1.0 / self.slab.positions.max(1) as f64;
        let weight = match self.norm.prior {
            Some(prior) if !self.read(SURPRISE, own).is_nan() => prior.weight,
            _ => 0.0,
        };
        let mut state = self.state.as_ref().map(|state| {
            // SAFETY: every group has its own units, and is finished once.
            [0, 1].map(|array| unsafe {
                state.part(array * units + own..array * units + own + channels)
            })
        });
        let dropped = self.norm.prior.is_some() && self.read(SURPRISE, own).is_nan();
        let projection = |channel: usize| -> (f64, f64) {
            let unit = self.unit(own + channel);
            dgamma[channel] = finish_sum(unit, dbeta[channel], dgamma[channel]);
            let gamma = f64::from(self.norm.affine.gamma(channel)) * inverse_count;
            let (first, second) = (gamma * dbeta[channel], gamma * dgamma[channel]);
            let r = f64::from(unit.inverse_deviation);
            let correction = f64::from(self.read(CORRECTION, own + channel));
            let [mean_out, variance_out] = [0, 1].map(|array| {
                self.posterior_gradient
                    .map_or(0.0, |g| f64::from(g[array * units + own + channel]))
            });
            // Everything is divided by M. `pull` is -2 dv / (M r²) and `push` is -dm / (M r); signs and order are such that a weight of
            // 0 gives the bits of batch norm.
            let pull = second - 2.0 * variance_out * inverse_count / (r * r);
            let push = first - mean_out * inverse_count / r;
            let along = -((1.0 - weight) * pull);
            let surprise = if dropped {
                0.0
            } else {
                f64::from(self.read(SURPRISE, own + channel))
            };
            let across = correction * r * -along
                - ((1.0 - weight) * push + weight * (1.0 - weight) * surprise * r * pull);
            // Back from M r to the gradients themselves.
            let count = self.slab.positions as f64;
            let dm = -push * r * count;
            let dv = -0.5 * pull * r * r * count;
            if let Some([means, variances]) = &mut state {
                means[channel] =
                    (weight * dm - 2.0 * weight * (1.0 - weight) * surprise * dv) as f32;
                variances[channel] = (weight * dv) as f32;
            }
            if !dropped {
                let between = f64::from(self.read(VARIANCE_SURPRISE, own + channel))
                    + (1.0 - 2.0 * weight) * surprise * surprise;
                *weight_gradient += dv * between - dm * surprise;
            }
            (along, across)
        };
        fill_projection(columns, &self.norm.affine, projection, parameters);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        if self.dx.is_none() && self.dresidual.is_none() {
            return;
        }
        let part = |array: &Option<DisjointMut<'a, f32>>| -> &'a mut [f32] {
            match array {
                // SAFETY: ranges of different tasks do not overlap.
                Some(array) => unsafe { array.part(range.clone()) },
                None => &mut [],
            }
        };
        let columns = self.slab.columns;
        let inputs = self.inputs.part(range.clone());
        let (dx, dresidual) = (part(&self.dx), part(&self.dresidual));
        map_columns(
            columns,
            parameters,
            GradientMap::<_, RESIDUAL>::new(inputs, dx, dresidual)
                .part_of(self.norm.x.len(), columns.width),
        );
    }
}

#[cfg(test)]
#[path = "kalman_tests.rs"]
mod tests;
