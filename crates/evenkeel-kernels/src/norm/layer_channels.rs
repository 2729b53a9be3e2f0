//! Layer normalization over the channels of every position, the form of transformers.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016. Layer normalization over a whole sample is [`super::group`] with one group.

use super::geometry::{Affine, AffineGradients, Shape, check_epsilon};
use super::rows::{self, Inputs};
use crate::activation::Activation;
use crate::error::{Result, check_length, checked_product};

fn check<'a>(
    shape: Shape,
    x: &'a [f32],
    affine: Affine<'a>,
    activation: Activation,
    saved: &[f32],
) -> Result<Inputs<'a>> {
    check_length("x", x.len(), shape.elements()?)?;
    affine.check(shape.channels)?;
    let rows = checked_product("rows", &[shape.batch, shape.positions, 3])? / 3;
    check_length("saved", saved.len(), 3 * rows)?;
    Ok(Inputs {
        rows,
        channels: shape.channels,
        x,
        affine,
        activation,
    })
}

/// `y = activation((x - mean) / sqrt(variance + epsilon) * gamma + beta)` with the mean and the biased variance over the channels
/// of every position.
///
/// `saved` receives what [`backward`] needs: `[batch * positions, 3]`, the means rounded to f32, what the rounding lost, and
/// `1 / sqrt(variance + epsilon)`.
///
/// # Errors
/// Where a length does not fit the shape, or epsilon is negative or not finite.
pub fn forward(
    shape: Shape,
    x: &[f32],
    affine: Affine,
    epsilon: f32,
    activation: Activation,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let inputs = check(shape, x, affine, activation, saved)?;
    check_length("y", y.len(), x.len())?;
    check_epsilon(epsilon)?;
    rows::forward::<true>(inputs, epsilon, y, saved);
    Ok(())
}

/// The gradients of [`forward`]: of `x`, gamma and beta, given that of `y` and what `forward` saved.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: Shape,
    x: &[f32],
    affine: Affine,
    activation: Activation,
    saved: &[f32],
    dy: &[f32],
    gradients: AffineGradients,
) -> Result {
    let inputs = check(shape, x, affine, activation, saved)?;
    check_length("dy", dy.len(), x.len())?;
    gradients.check(x.len(), shape.channels)?;
    rows::backward::<true>(inputs, saved, dy, gradients);
    Ok(())
}
