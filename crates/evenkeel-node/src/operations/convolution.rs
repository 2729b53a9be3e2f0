//! 2-D convolution and its gradients.

use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::conv::{
    Conv2dGeometry, Conv2dOptions, conv2d_backward_data, conv2d_backward_weights, conv2d_forward,
};

pub const OPERATIONS: Family = &[
    ("conv2d_forward", forward),
    ("conv2d_backward_data", backward_data),
    ("conv2d_backward_weights", backward_weights),
];

pub const CUTS: Cuts = &[
    ("conv2d_forward", Cut::Images(cut_forward)),
    ("conv2d_backward_data", Cut::Images(cut_backward_data)),
    ("conv2d_backward_weights", Cut::Images(cut_backward_weights)),
];

/// The next arguments: `batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, strideHeight, strideWidth,
/// paddingHeight, paddingWidth, dilationHeight, dilationWidth, groups`.
fn geometry(arguments: &mut Arguments) -> Outcome<Conv2dGeometry> {
    let mut pair = || -> Outcome<[usize; 2]> { Ok([arguments.usize()?, arguments.usize()?]) };
    let [batch, height] = pair()?;
    let [width, in_channels] = pair()?;
    let [out_channels, kernel_height] = pair()?;
    let [kernel_width, stride_height] = pair()?;
    let [stride_width, padding_height] = pair()?;
    let [padding_width, dilation_height] = pair()?;
    let [dilation_width, groups] = pair()?;
    Ok(Conv2dGeometry::new(
        batch,
        [height, width],
        in_channels,
        out_channels,
        [kernel_height, kernel_width],
        Conv2dOptions {
            stride: [stride_height, stride_width],
            padding: [padding_height, padding_width],
            dilation: [dilation_height, dilation_width],
            groups,
        },
    )?)
}

/// `[output] conv2d_forward(input, weight, bias?, geometry …)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (input, weight) = (arguments.slot()?, arguments.slot()?);
    let bias = arguments.optional_slot()?;
    let geometry = geometry(arguments)?;
    let mut output = heap.output_f32(arguments.output(0)?, geometry.output_length())?;
    conv2d_forward(
        &geometry,
        heap.f32(input)?,
        heap.f32(weight)?,
        heap.optional_f32(bias)?,
        output.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] conv2d_backward_data(outputGradient, weight, geometry …)`.
fn backward_data(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, weight) = (arguments.slot()?, arguments.slot()?);
    let geometry = geometry(arguments)?;
    let mut input_gradient = heap.output_f32(arguments.output(0)?, geometry.input_length())?;
    conv2d_backward_data(
        &geometry,
        heap.f32(gradient)?,
        heap.f32(weight)?,
        input_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, input_gradient);
    Ok(())
}

/// `[weightGradient] conv2d_backward_weights(input, outputGradient, geometry …)`.
fn backward_weights(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (input, gradient) = (arguments.slot()?, arguments.slot()?);
    let geometry = geometry(arguments)?;
    let mut weight_gradient = heap.output_f32(arguments.output(0)?, geometry.weight_length())?;
    conv2d_backward_weights(
        &geometry,
        heap.f32(input)?,
        heap.f32(gradient)?,
        weight_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, weight_gradient);
    Ok(())
}

/// Bytes of weights beyond which a convolution is not cut: segments would each go through more weights than images.
const CUT_WEIGHT_BYTES: usize = 640 * 1024;

/// Bytes of a prepared weight: Winograd's F(4×4) makes 36 floats of 9.
const PREPARED_BYTES: usize = 16;

fn cut_geometry(cutter: &mut Cutter) -> Outcome<Conv2dGeometry> {
    cutter.batch()?;
    let geometry = geometry(cutter.arguments())?;
    cutter.only_if(geometry.weight_length() * 4 <= CUT_WEIGHT_BYTES);
    Ok(geometry)
}

fn cut_forward(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.wholes(2)?;
    let geometry = cut_geometry(cutter)?;
    cutter.reads(geometry.input_length());
    cutter.makes(geometry.output_length());
    cutter.prepares(PREPARED_BYTES * geometry.weight_length());
    Ok(())
}

fn cut_backward_data(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.whole()?;
    let geometry = cut_geometry(cutter)?;
    cutter.reads(geometry.output_length());
    cutter.makes(geometry.input_length());
    cutter.prepares(PREPARED_BYTES * geometry.weight_length());
    Ok(())
}

fn cut_backward_weights(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.images()?;
    let geometry = cut_geometry(cutter)?;
    cutter.reads(geometry.input_length());
    cutter.reads(geometry.output_length());
    cutter.sums(geometry.weight_length());
    Ok(())
}
