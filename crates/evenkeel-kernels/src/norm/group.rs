//! Group normalization, and its two ends: layer normalization of a sample (one group) and instance normalization (every channel
//! a group).
//!
//! Wu, He, "Group Normalization", 2018; Ba, Kiros, Hinton, "Layer Normalization", 2016; Ulyanov, Vedaldi, Lempitsky, "Instance
//! Normalization", 2016.

use super::centred::{self, Inputs};
use super::geometry::{Affine, AffineGradients, Groups, Shape, check_epsilon};
use super::slab::Slab;
use crate::activation::Activation;
use crate::error::{KernelError, Result, check_length, checked_product};

/// Checks that groups divide the channels, and returns the length of `saved`.
pub(super) fn check_groups(shape: Shape, groups: usize) -> Result<usize> {
    if groups == 0 || !shape.channels.is_multiple_of(groups) {
        return Err(KernelError::Invalid(format!(
            "groups must divide the channels: {} channels, {groups} groups",
            shape.channels
        )));
    }
    checked_product("saved statistics", &[shape.batch, 3, groups])
}

/// `y = activation((x - mean) / sqrt(variance + epsilon) * gamma + beta)` with the mean and the biased variance of every sample
/// and group of `channels / groups` neighbouring channels, over all positions.
///
/// `saved` receives what [`backward`] needs: `[batch, 3, groups]`, the means rounded to f32, what the rounding lost, and
/// `1 / sqrt(variance + epsilon)`.
///
/// # Errors
/// Where a length does not fit the shape, `groups` does not divide the channels, or epsilon is negative or not finite.
pub fn forward(
    shape: Shape,
    groups: usize,
    x: &[f32],
    affine: Affine,
    epsilon: f32,
    activation: Activation,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let elements = shape.elements()?;
    check_length("saved", saved.len(), check_groups(shape, groups)?)?;
    check_length("x", x.len(), elements)?;
    check_length("y", y.len(), elements)?;
    affine.check(shape.channels)?;
    check_epsilon(epsilon)?;
    let inputs = Inputs {
        slab: Slab::new(shape.batch, shape.positions, shape.channels),
        groups: Groups::new(shape.channels, groups),
        x,
        residual: None,
        affine,
        activation,
    };
    centred::forward(inputs, epsilon, y, saved, |_, _| {});
    Ok(())
}

/// The gradients of [`forward`]: of `x`, gamma and beta, given that of `y` and what `forward` saved.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: Shape,
    groups: usize,
    x: &[f32],
    affine: Affine,
    activation: Activation,
    saved: &[f32],
    dy: &[f32],
    gradients: AffineGradients,
) -> Result {
    let elements = shape.elements()?;
    check_length("saved", saved.len(), check_groups(shape, groups)?)?;
    check_length("x", x.len(), elements)?;
    check_length("dy", dy.len(), elements)?;
    affine.check(shape.channels)?;
    gradients.check(elements, shape.channels)?;
    let inputs = Inputs {
        slab: Slab::new(shape.batch, shape.positions, shape.channels),
        groups: Groups::new(shape.channels, groups),
        x,
        residual: None,
        affine,
        activation,
    };
    centred::backward(inputs, false, saved, dy, gradients, None);
    Ok(())
}
