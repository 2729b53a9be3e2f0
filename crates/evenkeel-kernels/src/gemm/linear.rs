//! Fully connected layers: `output = input·weight + bias` and its gradients.

use super::product::{matmul, product};
use crate::error::Result;

/// `output[batch, outputs] = input[batch, inputs]·weight[inputs, outputs] + bias[outputs]`.
///
/// # Errors
/// Where a length does not fit the sizes, or a product of sizes overflows.
pub fn linear_forward(
    batch: usize,
    inputs: usize,
    outputs: usize,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) -> Result {
    product(
        batch, outputs, inputs, input, false, weight, false, bias, false, output,
    )
}

/// `input_gradient[batch, inputs] = output_gradient[batch, outputs]·weightᵀ`.
///
/// # Errors
/// Where a length does not fit the sizes, or a product of sizes overflows.
pub fn linear_backward_input(
    batch: usize,
    inputs: usize,
    outputs: usize,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) -> Result {
    matmul(
        batch,
        inputs,
        outputs,
        output_gradient,
        false,
        weight,
        true,
        false,
        input_gradient,
    )
}

/// `weight_gradient[inputs, outputs] = inputᵀ·output_gradient`. An empty batch gives zeros.
///
/// # Errors
/// Where a length does not fit the sizes, or a product of sizes overflows.
pub fn linear_backward_weights(
    batch: usize,
    inputs: usize,
    outputs: usize,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) -> Result {
    matmul(
        inputs,
        outputs,
        batch,
        input,
        true,
        output_gradient,
        false,
        false,
        weight_gradient,
    )
}
