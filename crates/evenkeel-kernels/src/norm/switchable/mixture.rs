//! The statistics of switchable normalization: those of samples and of the batch follow from the instances', and all three are mixed.

use super::{KINDS, SwitchableNorm};
use crate::norm::geometry::Shape;
use crate::norm::instances::Moments;
use crate::norm::moments::Saved;
use crate::scratch::with_f64;

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
pub(super) struct Mixture<'a> {
    instances: Moments<'a>,
    /// Means and variances of every sample, `[2, batch]`.
    layers: &'a [f64],
    /// Means and variances of every channel, `[2, channels]`.
    pub(super) batch: &'a [f64],
    pub(super) mean_weights: [f64; KINDS],
    pub(super) variance_weights: [f64; KINDS],
    pub(super) channels: usize,
}

impl Mixture<'_> {
    /// Means of instance, layer and batch.
    #[inline(always)]
    pub(super) fn means(&self, sample: usize, channel: usize) -> [f64; KINDS] {
        let own = self.instances.means[sample * self.channels + channel];
        [own, self.layers[sample], self.batch[channel]]
    }

    /// Variances of instance, layer and batch.
    #[inline(always)]
    pub(super) fn variances(&self, sample: usize, channel: usize) -> [f64; KINDS] {
        let own = self.instances.variances[sample * self.channels + channel];
        let samples = self.layers.len() / 2;
        [
            own,
            self.layers[samples + sample],
            self.batch[self.channels + channel],
        ]
    }

    #[inline(always)]
    pub(super) fn mean(&self, sample: usize, channel: usize) -> f64 {
        dot(self.mean_weights, self.means(sample, channel))
    }

    #[inline(always)]
    pub(super) fn variance(&self, sample: usize, channel: usize) -> f64 {
        dot(self.variance_weights, self.variances(sample, channel))
    }

    #[inline(always)]
    pub(super) fn saved(&self, epsilon: f32, sample: usize, channel: usize) -> Saved {
        let (mean, variance) = (self.mean(sample, channel), self.variance(sample, channel));
        Saved::new(mean, variance, epsilon)
    }
}

#[inline(always)]
pub(super) fn dot(weights: [f64; KINDS], values: [f64; KINDS]) -> f64 {
    weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2]
}

/// Runs `body` with the statistics that follow from those of the instances.
pub(super) fn with_mixture<R>(
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
