//! 2-D convolution for training: forward, gradient of the input, gradient of the weights, gradient of the bias.
//!
//! Everything is an implicit matrix product over the micro-kernels of [`crate::gemm`]; no pass builds an im2col matrix.
//! [`window`] describes a pass as windows over a zero-padded source, [`plan`] cuts it into tasks, [`sweep`] runs forward and
//! backward to the input, [`weights`] the gradient of the weights, [`depthwise`] the channel-by-channel case, [`planar`] few channels,
//! [`first`] first layers of 3×3 kernels, [`row`] those of others, [`winograd`] 3×3 kernels.

mod bias;
mod depthwise;
mod first;
mod geometry;
mod plan;
mod planar;
mod row;
mod sweep;
mod weights;
mod window;
mod winograd;

pub use crate::gemm::prepared::PreparedWeights;
pub use bias::bias_gradient;
pub use geometry::{Conv2dGeometry, Conv2dOptions};

use crate::error::{Result, check_length};
use plan::{Algorithm, RowTaps};
use winograd::{Double, Four, Half, Two};

/// `output = input * weight + bias`.
///
/// Input `[batch, height, width, inChannels]`, weight `[kernelHeight, kernelWidth, inChannels / groups, outChannels]`, bias
/// `[outChannels]`, output `[batch, outHeight, outWidth, outChannels]`; the output is overwritten.
///
/// # Errors
/// Where a length does not fit the geometry.
pub fn conv2d_forward(
    geometry: &Conv2dGeometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) -> Result {
    check_length("input", input.len(), geometry.input_length())?;
    check_length("weight", weight.len(), geometry.weight_length())?;
    if let Some(bias) = bias {
        check_length("bias", bias.len(), geometry.out_channels())?;
    }
    check_length("output", output.len(), geometry.output_length())?;
    if planar::is_planar_forward(geometry) {
        planar::forward(geometry, input, weight, bias, output);
        return Ok(());
    }
    if geometry.is_depthwise() {
        depthwise::forward(geometry, input, weight, bias, output);
        return Ok(());
    }
    if plan::is_first_forward(geometry) {
        first::forward(geometry, input, weight, bias, output);
        return Ok(());
    }
    match plan::row_taps_forward(geometry) {
        Some(RowTaps::Three) => {
            row::forward::<row::Three, 3, 6>(geometry, input, weight, bias, output);
            return Ok(());
        }
        Some(RowTaps::Four) => {
            row::forward::<row::Four, 4, 7>(geometry, input, weight, bias, output);
            return Ok(());
        }
        None => {}
    }
    match plan::algorithm(geometry, geometry.out_size()) {
        Algorithm::Direct => sweep::forward(geometry, input, weight, bias, output),
        Algorithm::Two => {
            winograd::forward::<Two, 4, 4, 4, 2>(geometry, input, weight, bias, output)
        }
        Algorithm::Four => {
            winograd::forward::<Four, 6, 6, 6, 4>(geometry, input, weight, bias, output)
        }
        Algorithm::Half => {
            winograd::forward::<Half, 9, 9, 5, 4>(geometry, input, weight, bias, output)
        }
    }
    Ok(())
}

/// Gradient of the input: `input_gradient = output_gradient * weightᵀ`, overwritten.
///
/// # Errors
/// Where a length does not fit the geometry.
pub fn conv2d_backward_data(
    geometry: &Conv2dGeometry,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) -> Result {
    check_length(
        "output_gradient",
        output_gradient.len(),
        geometry.output_length(),
    )?;
    check_length("weight", weight.len(), geometry.weight_length())?;
    check_length(
        "input_gradient",
        input_gradient.len(),
        geometry.input_length(),
    )?;
    if planar::is_planar_backward(geometry) {
        planar::backward_data(geometry, output_gradient, weight, input_gradient);
        return Ok(());
    }
    if geometry.is_depthwise() {
        depthwise::backward_data(geometry, output_gradient, weight, input_gradient);
        return Ok(());
    }
    match plan::algorithm(geometry, geometry.size()) {
        Algorithm::Direct => {
            sweep::backward_data(geometry, output_gradient, weight, input_gradient)
        }
        Algorithm::Two => winograd::backward_data::<Two, 4, 4, 4, 2>(
            geometry,
            output_gradient,
            weight,
            input_gradient,
        ),
        Algorithm::Four => winograd::backward_data::<Four, 6, 6, 6, 4>(
            geometry,
            output_gradient,
            weight,
            input_gradient,
        ),
        Algorithm::Half => winograd::backward_data::<Double, 5, 9, 9, 8>(
            geometry,
            output_gradient,
            weight,
            input_gradient,
        ),
    }
    Ok(())
}

/// Gradient of the weights, summed over the batch; overwritten. An empty batch gives zeros.
///
/// # Errors
/// Where a length does not fit the geometry.
pub fn conv2d_backward_weights(
    geometry: &Conv2dGeometry,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) -> Result {
    check_length("input", input.len(), geometry.input_length())?;
    check_length(
        "output_gradient",
        output_gradient.len(),
        geometry.output_length(),
    )?;
    check_length(
        "weight_gradient",
        weight_gradient.len(),
        geometry.weight_length(),
    )?;
    if planar::is_planar_gradient(geometry) {
        planar::backward_weights(geometry, input, output_gradient, weight_gradient);
        return Ok(());
    }
    if geometry.is_depthwise() {
        depthwise::backward_weights(geometry, input, output_gradient, weight_gradient);
        return Ok(());
    }
    let (x, dy, dw) = (input, output_gradient, &mut *weight_gradient);
    if plan::is_first_gradient(geometry) {
        first::backward_weights(geometry, x, dy, dw);
        return Ok(());
    }
    match plan::row_taps(geometry) {
        Some(RowTaps::Three) => {
            row::backward_weights::<row::Three, 3, 6>(geometry, x, dy, dw);
            return Ok(());
        }
        Some(RowTaps::Four) => {
            row::backward_weights::<row::Four, 4, 7>(geometry, x, dy, dw);
            return Ok(());
        }
        None => {}
    }
    match plan::algorithm(geometry, geometry.out_size()) {
        Algorithm::Direct => {
            weights::backward_weights(geometry, input, output_gradient, weight_gradient)
        }
        Algorithm::Two => winograd::backward_weights::<Two, 4, 4, 4, 2>(
            geometry,
            input,
            output_gradient,
            weight_gradient,
        ),
        Algorithm::Four => winograd::backward_weights::<Four, 6, 6, 6, 4>(
            geometry,
            input,
            output_gradient,
            weight_gradient,
        ),
        Algorithm::Half => winograd::backward_weights::<Half, 9, 9, 5, 4>(
            geometry,
            input,
            output_gradient,
            weight_gradient,
        ),
    }
    Ok(())
}
