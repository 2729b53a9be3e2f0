//! The forward pass: every group's own statistics, corrected by the prior.

use super::{
    CORRECTION, INVERSE, KalmanNorm, MEAN, Prior, REST, SAVED, SURPRISE, VARIANCE_SURPRISE,
};
use crate::activation::ActivationFunction;
use crate::error::{Result, check_length};
use crate::norm::affine::{FORWARD_PARAMETERS, Normalize, fill_forward};
use crate::norm::columns::map_columns;
use crate::norm::fused::with_fused;
use crate::norm::geometry::{check_epsilon, check_momentum};
use crate::norm::moments::{Saved, all_finite, blend, measure, merge_pieces};
use crate::norm::slab::{self, Passes, Slab};
use crate::parallel::DisjointMut;
use std::ops::Range;

/// The prior is dropped for a group where its variance is this many times the observed one, on average over the channels (the
/// released code's guard, there over all groups at once; here each group stands for itself).
const GUARD: f64 = 100.0;
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
/// `posterior` receives all `m`, then all `v`; `saved` (`[6, groups, channels]`) what [`super::backward()`] needs. The running statistics stay
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
