//! The gradients of the forward pass, those of the logits among them.

use super::mixture::{Mixture, dot, with_mixture};
use super::{KINDS, SAVED, SwitchableNorm, with_saved};
use crate::activation::ActivationFunction;
use crate::error::{Result, check_length};
use crate::norm::affine::{
    BackwardInputs, GRADIENT_PARAMETERS, GradientMap, GradientSums, SUM_PARAMETERS, fill_forward,
    fill_projection, finish_sum,
};
use crate::norm::centred::sum_samples;
use crate::norm::columns::{map_columns, sum_columns};
use crate::norm::fused::with_fused;
use crate::norm::geometry::{AffineGradients, Shape, check_optional};
use crate::norm::instances::{map_pieces, with_sums};
use crate::norm::moments::inverse_root;
use crate::norm::slab::Slab;
use crate::parallel::DisjointMut;
use crate::scratch::with_f64;

/// Where [`backward()`] writes besides the gradients of input, scale and offset.
#[derive(Debug, Default)]
pub struct LogitGradients<'a> {
    /// Of the means' logits, `[3]`.
    pub means: Option<&'a mut [f32]>,
    /// Of the variances' logits, `[3]`.
    pub variances: Option<&'a mut [f32]>,
}

/// The gradients of [`super::forward()`], given that of `y` and what it saved. Given statistics are constants.
///
/// With A = Σ dz and B = Σ dz normalized of an instance, r its inverse deviation: its mean has the gradient `-r γ A`, its variance
/// `-r² γ B / 2`. Both go to the three statistics by weight, and from each to the values it was made from.
///
/// # Errors
/// As [`super::forward()`].
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
