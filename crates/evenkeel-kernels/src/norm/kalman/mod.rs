//! Batch Kalman normalization: the statistics of a small group of samples, corrected by a prediction from the layer before.
//!
//! Wang, Peng, Luo, Wang, Lin, "Batch Kalman Normalization: Towards Training Deep Neural Networks with Micro-Batches", 2018
//! (also "Kalman Normalization", NeurIPS 2018): the update rule, with the mean and the variance of every channel.
//!
//! [`transition`] takes the statistics of one layer to a prior for the next; [`link`] does that, the norm and what the next link needs
//! in one call.

mod backward;
mod forward;
mod normal_distribution;
mod products;

pub mod link;
pub mod transition;

pub use backward::{PriorGradients, backward};
pub use forward::{RunningStatistics, forward};

use super::geometry::{Affine, Shape, check_optional};
use super::slab::Slab;
use crate::activation::Activation;
use crate::error::{KernelError, Result, check_length, checked_product};

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

/// Checks that what has a value for each group and channel has a length: of no samples there may be any number of groups.
fn check_units(groups: usize, channels: usize) -> Result {
    checked_product("groups of channels", &[groups, channels.max(1)]).map(drop)
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
        check_units(self.groups, channels)?;
        if let Some(Prior { state, weight, .. }) = self.prior {
            check_length("prior", state.len(), 2 * self.units())?;
            if !(0.0..=1.0).contains(&weight) {
                return Err(KernelError::Invalid(format!(
                    "the weight of the prior must be in 0 to 1, got {weight}"
                )));
            }
        }
        let rows = batch / self.groups * positions;
        Ok(if self.groups == 1 {
            Slab::of_batch(rows, channels)
        } else {
            Slab::new(self.groups, rows, channels)
        })
    }
}

#[cfg(test)]
mod tests;
