//! Switchable normalization: mean and variance are learned mixtures of those of instance, layer and batch normalization.
//!
//! Luo, Ren, Peng, Zhang, Li, "Differentiable Learning-to-Normalize via Switchable Normalization", ICLR 2019.
//!
//! Mean and variance of every sample and channel are measured once; those of the sample and of the batch follow from them. So there
//! are as many passes over memory as in batch normalization.

use super::affine::{
    BackwardInputs, FORWARD_PARAMETERS, GRADIENT_PARAMETERS, GradientMap, GradientSums, Normalize,
    SUM_PARAMETERS, fill_forward, fill_projection, finish_sum,
};
use super::batch::{RunningStatistics, check_running};
use super::centred::sum_samples;
use super::columns::{map_columns, sum_columns};
use super::fused::with_fused;
use super::geometry::{Affine, AffineGradients, Shape, check_epsilon, check_optional};
use super::instances::{Moments, map_pieces, with_moments, with_sums};
use super::moments::{Saved, all_finite, blend, inverse_root};
use super::scratch::with_f64;
use super::slab::Slab;
use crate::activation::{Activation, ActivationFunction};
use crate::error::{Result, check_length};
use crate::parallel::DisjointMut;

/// Arrays of `[batch, channels]` that the forward pass saves: the mean of every instance rounded to f32 and what that lost, then the
/// same of its standard deviation (whose square may not fit in f32).
pub const SAVED: usize = 4;

/// Statistics that are mixed: of the instance, of the sample, of the batch.
const KINDS: usize = 3;

/// What a switchable norm reads in every pass.
#[derive(Clone, Copy, Debug)]
pub struct SwitchableNorm<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// What the weights of the means of instance, layer and batch are the softmax of, `[3]`.
    pub mean_logits: &'a [f32],
    /// The same for the variances, `[3]`.
    pub variance_logits: &'a [f32],
    /// Mean and variance `[channels]` in place of the batch's: those of evaluation.
    pub given: Option<[&'a [f32]; 2]>,
    /// Added to the mixed variance before the root.
    pub epsilon: f32,
    /// Applied last.
    pub activation: Activation,
}

impl SwitchableNorm<'_> {
    fn check(&self) -> Result<Slab> {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        check_length("x", self.x.len(), self.shape.elements()?)?;
        check_length("mean logits", self.mean_logits.len(), KINDS)?;
        check_length("variance logits", self.variance_logits.len(), KINDS)?;
        for given in self.given.into_iter().flatten() {
            check_length("given statistics", given.len(), channels)?;
        }
        self.affine.check(channels)?;
        check_epsilon(self.epsilon)?;
        Ok(Slab::new(batch, positions, channels))
    }
}

/// The softmax.
fn softmax(logits: &[f32]) -> [f64; KINDS] {
    let most = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut weights = [0.0; KINDS];
    for (weight, &logit) in weights.iter_mut().zip(logits) {
        *weight = f64::from(logit - most).exp();
    }
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// The statistics of one pass and their weights.
struct Mixture<'a> {
    instances: Moments<'a>,
    /// Means and variances of every sample, `[2, batch]`.
    layers: &'a [f64],
    /// Means and variances of every channel, `[2, channels]`.
    batch: &'a [f64],
    mean_weights: [f64; KINDS],
    variance_weights: [f64; KINDS],
    channels: usize,
}

impl Mixture<'_> {
    /// Means of instance, layer and batch.
    #[inline(always)]
    fn means(&self, sample: usize, channel: usize) -> [f64; KINDS] {
        let own = self.instances.means[sample * self.channels + channel];
        [own, self.layers[sample], self.batch[channel]]
    }

    /// Variances of instance, layer and batch.
    #[inline(always)]
    fn variances(&self, sample: usize, channel: usize) -> [f64; KINDS] {
        let own = self.instances.variances[sample * self.channels + channel];
        let samples = self.layers.len() / 2;
        [
            own,
            self.layers[samples + sample],
            self.batch[self.channels + channel],
        ]
    }

    #[inline(always)]
    fn mean(&self, sample: usize, channel: usize) -> f64 {
        dot(self.mean_weights, self.means(sample, channel))
    }

    #[inline(always)]
    fn variance(&self, sample: usize, channel: usize) -> f64 {
        dot(self.variance_weights, self.variances(sample, channel))
    }

    #[inline(always)]
    fn saved(&self, epsilon: f32, sample: usize, channel: usize) -> Saved {
        let (mean, variance) = (self.mean(sample, channel), self.variance(sample, channel));
        Saved::new(mean, variance, epsilon)
    }
}

#[inline(always)]
fn dot(weights: [f64; KINDS], values: [f64; KINDS]) -> f64 {
    weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2]
}

/// Runs `body` with the statistics that follow from those of the instances.
fn with_mixture<R>(
    norm: &SwitchableNorm,
    instances: Moments,
    body: impl FnOnce(&Mixture) -> R,
) -> R {
    let Shape {
        batch, channels, ..
    } = norm.shape;
    with_f64(2 * batch + 2 * channels, |pooled| {
        let (layers, whole) = pooled.split_at_mut(2 * batch);
        let (means, variances) = layers.split_at_mut(batch);
        let width = channels as f64;
        for sample in 0..batch {
            let own = sample * channels..(sample + 1) * channels;
            let (own, spreads) = (&instances.means[own.clone()], &instances.variances[own]);
            let mean = own.iter().sum::<f64>() / width;
            let parts = own.iter().zip(spreads);
            let squares = parts.map(|(m, v)| v + (m - mean) * (m - mean));
            means[sample] = mean;
            variances[sample] = squares.sum::<f64>() / width;
        }
        let (means, variances) = whole.split_at_mut(channels);
        match norm.given {
            None => instances.pool_samples(means, variances),
            Some([mean, variance]) => {
                for channel in 0..channels {
                    means[channel] = f64::from(mean[channel]);
                    variances[channel] = f64::from(variance[channel]);
                }
            }
        }
        body(&Mixture {
            instances,
            layers,
            batch: whole,
            mean_weights: softmax(norm.mean_logits),
            variance_weights: softmax(norm.variance_logits),
            channels,
        })
    })
}

/// `y = activation((x - mean) / sqrt(variance + epsilon) * gamma + beta)`, mean and variance being the mixtures. Where statistics of
/// the batch are not given, `running` moves towards them (the variance being biased), unless one is not finite or the batch is empty.
///
/// `saved` receives [`SAVED`] arrays `[batch, channels]`.
///
/// # Errors
/// Where a length does not fit, epsilon is negative or not finite, or the momentum is not in 0 to 1.
pub fn forward(
    norm: SwitchableNorm,
    running: Option<RunningStatistics>,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let slab = norm.check()?;
    let Shape {
        batch, channels, ..
    } = norm.shape;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), SAVED * batch * channels)?;
    if let Some(running) = &running {
        check_running(running, channels)?;
    }
    if norm.x.is_empty() {
        saved.fill(0.0);
        return Ok(());
    }
    with_moments(slab, norm.x, norm.epsilon, |instances| {
        save(instances, saved);
        with_mixture(&norm, instances, |mixture| {
            if let (Some(running), None) = (running, norm.given) {
                move_running(running, mixture.batch);
            }
            let y = DisjointMut::new(y);
            with_fused!(norm.activation, |activation| map_forward(
                &norm, slab, mixture, activation, &y
            ));
        });
    });
    Ok(())
}

/// Splits means and deviations into two f32 each.
fn save(instances: Moments, saved: &mut [f32]) {
    let units = instances.means.len();
    let (means, deviations) = saved.split_at_mut(2 * units);
    for (at, mean) in instances.means.iter().enumerate() {
        means[at] = *mean as f32;
        means[units + at] = (mean - f64::from(means[at])) as f32;
    }
    for (at, variance) in instances.variances.iter().enumerate() {
        let deviation = variance.sqrt();
        deviations[at] = deviation as f32;
        deviations[units + at] = (deviation - f64::from(deviations[at])) as f32;
    }
}

/// Runs `body` with what [`save`] kept.
fn with_saved<R>(saved: &[f32], body: impl FnOnce(Moments) -> R) -> R {
    let units = saved.len() / SAVED;
    with_f64(2 * units, |moments| {
        let (means, variances) = moments.split_at_mut(units);
        for at in 0..units {
            let whole = |array: usize| {
                f64::from(saved[array * units + at]) + f64::from(saved[(array + 1) * units + at])
            };
            means[at] = whole(0);
            variances[at] = whole(2) * whole(2);
        }
        body(Moments { means, variances })
    })
}

fn move_running(running: RunningStatistics, batch: &[f64]) {
    if !all_finite(batch) {
        return;
    }
    let (means, variances) = batch.split_at(batch.len() / 2);
    blend(running.mean, means.iter().copied(), running.momentum);
    blend(
        running.variance,
        variances.iter().copied(),
        running.momentum,
    );
}

fn map_forward<A: ActivationFunction>(
    norm: &SwitchableNorm,
    slab: Slab,
    mixture: &Mixture,
    activation: A,
    y: &DisjointMut<f32>,
) {
    let columns = slab.columns;
    map_pieces(
        slab,
        FORWARD_PARAMETERS * columns.padded,
        &|sample, parameters| {
            let saved = |channel| mixture.saved(norm.epsilon, sample, channel);
            fill_forward(columns, &norm.affine, saved, parameters);
        },
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

/// Where [`backward`] writes besides the gradients of input, scale and offset.
#[derive(Debug, Default)]
pub struct LogitGradients<'a> {
    /// Of the means' logits, `[3]`.
    pub means: Option<&'a mut [f32]>,
    /// Of the variances' logits, `[3]`.
    pub variances: Option<&'a mut [f32]>,
}

/// The gradients of [`forward`], given that of `y` and what it saved. Given statistics are constants.
///
/// With A = Σ dz and B = Σ dz normalized of an instance, r its inverse deviation: its mean has the gradient `-r γ A`, its variance
/// `-r² γ B / 2`. Both go to the three statistics by weight, and from each to the values it was made from.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    norm: SwitchableNorm,
    saved: &[f32],
    dy: &[f32],
    gradients: AffineGradients,
    logits: LogitGradients,
) -> Result {
    let slab = norm.check()?;
    let Shape {
        batch, channels, ..
    } = norm.shape;
    check_length("saved", saved.len(), SAVED * batch * channels)?;
    check_length("dy", dy.len(), norm.x.len())?;
    gradients.check(norm.x.len(), channels)?;
    check_optional("dmean logits", logits.means.as_deref(), KINDS)?;
    check_optional("dvariance logits", logits.variances.as_deref(), KINDS)?;
    if norm.x.is_empty() {
        let AffineGradients { dgamma, dbeta, .. } = gradients;
        for gradient in [dgamma, dbeta, logits.means, logits.variances] {
            gradient
                .into_iter()
                .flatten()
                .for_each(|value| *value = 0.0);
        }
        return Ok(());
    }
    with_saved(saved, |instances| {
        with_mixture(&norm, instances, |mixture| {
            with_fused!(norm.activation, |activation| {
                let inputs = BackwardInputs {
                    x: norm.x,
                    residual: &[],
                    dy,
                    activation,
                };
                run_backward(&norm, slab, mixture, inputs, gradients, logits);
            });
        });
    });
    Ok(())
}

fn run_backward<A: ActivationFunction>(
    norm: &SwitchableNorm,
    slab: Slab,
    mixture: &Mixture,
    inputs: BackwardInputs<A>,
    gradients: AffineGradients,
    logits: LogitGradients,
) {
    let columns = slab.columns;
    let channels = columns.channels;
    let fill = |sample: usize, parameters: &mut [f32]| {
        let saved = |channel| mixture.saved(norm.epsilon, sample, channel);
        fill_forward(columns, &norm.affine, saved, parameters);
    };
    with_sums(
        slab,
        2,
        SUM_PARAMETERS * columns.padded,
        &fill,
        &|range, parameters, sums| {
            let terms = GradientSums::<_, false>::new(inputs.part(range));
            sum_columns(columns, parameters, terms, sums);
        },
        |sums| {
            for (sample, sums) in sums.chunks_exact_mut(2 * channels).enumerate() {
                let (first, second) = sums.split_at_mut(channels);
                for channel in 0..channels {
                    let unit = mixture.saved(norm.epsilon, sample, channel);
                    second[channel] = finish_sum(unit, first[channel], second[channel]);
                }
            }
            let AffineGradients { dx, dgamma, dbeta } = gradients;
            sum_samples(sums, 2 * channels, 0, dbeta);
            sum_samples(sums, 2 * channels, channels, dgamma);
            to_statistics(norm, mixture, sums);
            logit_gradients(mixture, sums, logits);
            if let Some(dx) = dx {
                let dx = DisjointMut::new(dx);
                map_backward(norm, slab, mixture, inputs, sums, &fill, &dx);
            }
        },
    );
}

/// Turns the sums of every instance into the gradients of its mixed mean and variance.
fn to_statistics(norm: &SwitchableNorm, mixture: &Mixture, sums: &mut [f64]) {
    let channels = mixture.channels;
    for (sample, sums) in sums.chunks_exact_mut(2 * channels).enumerate() {
        let (first, second) = sums.split_at_mut(channels);
        for channel in 0..channels {
            let inverse = inverse_root(mixture.variance(sample, channel), norm.epsilon.into());
            let inverse = f64::from(inverse);
            let scale = f64::from(norm.affine.gamma(channel)) * inverse;
            first[channel] *= -scale;
            second[channel] *= -0.5 * scale * inverse;
        }
    }
}

/// The derivative of the softmax takes out the weighed mean, which is the mixture itself.
fn logit_gradients(mixture: &Mixture, statistics: &[f64], logits: LogitGradients) {
    let channels = mixture.channels;
    let (mut of_means, mut of_variances) = ([0.0; KINDS], [0.0; KINDS]);
    for (sample, own) in statistics.chunks_exact(2 * channels).enumerate() {
        for channel in 0..channels {
            let (dm, dv) = (own[channel], own[channels + channel]);
            let (means, variances) = (
                mixture.means(sample, channel),
                mixture.variances(sample, channel),
            );
            let mean = dot(mixture.mean_weights, means);
            let variance = dot(mixture.variance_weights, variances);
            for kind in 0..KINDS {
                of_means[kind] += dm * (means[kind] - mean);
                of_variances[kind] += dv * (variances[kind] - variance);
            }
        }
    }
    for (target, sums, weights) in [
        (logits.means, of_means, mixture.mean_weights),
        (logits.variances, of_variances, mixture.variance_weights),
    ] {
        for (kind, target) in target.into_iter().flatten().enumerate() {
            *target = (weights[kind] * sums[kind]) as f32;
        }
    }
}

/// Writes `dx`, given the gradients of the mixed statistics.
fn map_backward<A: ActivationFunction>(
    norm: &SwitchableNorm,
    slab: Slab,
    mixture: &Mixture,
    inputs: BackwardInputs<A>,
    statistics: &[f64],
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    dx: &DisjointMut<f32>,
) {
    let columns = slab.columns;
    let channels = columns.channels;
    // Values that an instance's, a sample's and a channel's statistics are made from; given ones are made from none.
    let counts = [
        slab.positions as f64,
        (slab.positions * channels) as f64,
        (slab.positions * slab.samples) as f64,
    ];
    let shares = |weights: [f64; KINDS]| {
        let [own, layer, batch] = std::array::from_fn(|kind| weights[kind] / counts[kind]);
        [own, layer, if norm.given.is_some() { 0.0 } else { batch }]
    };
    let mean_shares = shares(mixture.mean_weights);
    let variance_shares = shares(mixture.variance_weights).map(|share| 2.0 * share);
    with_f64(2 * slab.samples + 2 * channels, |sums| {
        let (layers, batch) = sums.split_at_mut(2 * slab.samples);
        for (sample, own) in statistics.chunks_exact(2 * channels).enumerate() {
            layers[sample] = own[..channels].iter().sum();
            layers[slab.samples + sample] = own[channels..].iter().sum();
            for (sum, value) in batch.iter_mut().zip(own) {
                *sum += value;
            }
        }
        let (layers, batch) = (&*layers, &*batch);
        map_pieces(
            slab,
            GRADIENT_PARAMETERS * columns.padded,
            &|sample, parameters| {
                fill(sample, parameters);
                let own = &statistics[2 * sample * channels..2 * (sample + 1) * channels];
                let projection = |channel: usize| {
                    let of_means = [own[channel], layers[sample], batch[channel]];
                    let of_variances = [
                        own[channels + channel],
                        layers[slab.samples + sample],
                        batch[channels + channel],
                    ];
                    let unit = mixture.saved(norm.epsilon, sample, channel);
                    let (center, inverse) =
                        (f64::from(unit.mean), f64::from(unit.inverse_deviation));
                    let means = mixture.means(sample, channel);
                    // What is added to dx is `slope (x - center) + constant`.
                    let (mut slope, mut constant) = (0.0, 0.0);
                    for kind in 0..KINDS {
                        let along = variance_shares[kind] * of_variances[kind];
                        slope += along;
                        constant += along * (center - means[kind]);
                        constant += mean_shares[kind] * of_means[kind];
                    }
                    (slope / (inverse * inverse), constant / inverse)
                };
                fill_projection(columns, &norm.affine, projection, parameters);
            },
            &|range, parameters| {
                // SAFETY: pieces do not overlap.
                let dx = unsafe { dx.part(range.clone()) };
                let inputs = inputs.part(range);
                let terms = GradientMap::<_, false>::new(inputs, dx, &mut [])
                    .part_of(norm.x.len(), columns.width);
                map_columns(columns, parameters, terms);
            },
        );
    });
}

#[cfg(test)]
#[path = "switchable_tests.rs"]
mod tests;
