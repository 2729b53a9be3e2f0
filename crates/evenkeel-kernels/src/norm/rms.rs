//! Root-mean-square normalization over the channels of every position: a scale without centring.
//!
//! Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019.

use super::geometry::{Affine, AffineGradients, Shape, check_epsilon};
use super::rows::{self, Inputs};
use crate::activation::Activation;
use crate::error::{Result, check_length, checked_product};

fn check<'a>(
    shape: Shape,
    x: &'a [f32],
    gamma: Option<&'a [f32]>,
    activation: Activation,
    saved: &[f32],
) -> Result<Inputs<'a>> {
    check_length("x", x.len(), shape.elements()?)?;
    let affine = Affine { gamma, beta: None };
    affine.check(shape.channels)?;
    let rows = checked_product("rows", &[shape.batch, shape.positions])?;
    check_length("saved", saved.len(), rows)?;
    Ok(Inputs {
        rows,
        channels: shape.channels,
        x,
        affine,
        activation,
    })
}

/// `y = activation(x / sqrt(mean(x²) + epsilon) * gamma)` with the mean over the channels of every position.
///
/// `saved` receives what [`backward`] needs: `1 / sqrt(mean(x²) + epsilon)`, `[batch * positions]`.
///
/// # Errors
/// Where a length does not fit the shape, or epsilon is negative or not finite.
pub fn forward(
    shape: Shape,
    x: &[f32],
    gamma: Option<&[f32]>,
    epsilon: f32,
    activation: Activation,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let inputs = check(shape, x, gamma, activation, saved)?;
    check_length("y", y.len(), x.len())?;
    check_epsilon(epsilon)?;
    rows::forward::<false>(inputs, epsilon, y, saved);
    Ok(())
}

/// The gradients of [`forward`], of `x` and gamma, given that of `y` and what `forward` saved.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: Shape,
    x: &[f32],
    gamma: Option<&[f32]>,
    activation: Activation,
    saved: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dgamma: Option<&mut [f32]>,
) -> Result {
    let inputs = check(shape, x, gamma, activation, saved)?;
    check_length("dy", dy.len(), x.len())?;
    let gradients = AffineGradients {
        dx,
        dgamma,
        dbeta: None,
    };
    gradients.check(x.len(), shape.channels)?;
    rows::backward::<false>(inputs, saved, dy, gradients);
    Ok(())
}
