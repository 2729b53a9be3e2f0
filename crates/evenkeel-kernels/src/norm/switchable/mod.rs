//! Switchable normalization: mean and variance are learned mixtures of those of instance, layer and batch normalization.
//!
//! Luo, Ren, Peng, Zhang, Li, "Differentiable Learning-to-Normalize via Switchable Normalization", ICLR 2019.
//!
//! Mean and variance of every sample and channel are measured once; those of the sample and of the batch follow from them. So there
//! are as many passes over memory as in batch normalization.

mod backward;
mod forward;
mod mixture;

pub use backward::{LogitGradients, backward};
pub use forward::forward;

use super::geometry::{Affine, Shape, check_epsilon};
use super::instances::Moments;
use super::slab::Slab;
use crate::activation::Activation;
use crate::error::{Result, check_length};
use crate::scratch::with_f64;

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

#[cfg(test)]
mod tests;
