//! Binary networks in training: signs, binary convolution and its gradients, latent weights. Packed bits are int32 tensors.

use super::Family;
use crate::arguments::Arguments;
use crate::buffer::{Buffer, DType};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::binary::surrogate::{Surrogate, apply_derivative, store_derivative};
use evenkeel_kernels::binary::weights::{
    WeightGradient, binarize, binary_weight_gradient, mean_magnitude,
};
use evenkeel_kernels::binary::{
    BinaryConv2d, Epilogue, Layer, LayerActivation, LayerFunction, PaddingValue, binary_conv2d,
    pack_signs, pack_weights, unpack_signs, words_of,
};
use evenkeel_kernels::conv::{
    Conv2dGeometry, Conv2dOptions, conv2d_backward_data, conv2d_backward_weights,
};
use evenkeel_kernels::error::checked_product;

pub const OPERATIONS: Family = &[
    ("binary_pack", pack),
    ("binary_unpack", unpack),
    ("binary_apply_derivative", derivative),
    ("binary_mean_magnitude", magnitude),
    ("binary_conv2d_forward", forward),
    ("binary_conv2d_backward_data", backward_data),
    ("binary_conv2d_backward_weights", backward_weights),
    ("binary_weight_gradient", weight_gradient),
];

/// The next arguments: `batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, strideHeight, strideWidth,
/// paddingHeight, paddingWidth, dilationHeight, dilationWidth, paddingValue` (0 zero, 1 plus, 2 minus).
pub(super) fn geometry(arguments: &mut Arguments) -> Outcome<BinaryConv2d> {
    let mut pair = || -> Outcome<[usize; 2]> { Ok([arguments.usize()?, arguments.usize()?]) };
    let [batch, height] = pair()?;
    let [width, in_channels] = pair()?;
    let [out_channels, kernel_height] = pair()?;
    let [kernel_width, stride_height] = pair()?;
    let [stride_width, padding_height] = pair()?;
    let [padding_width, dilation_height] = pair()?;
    let [dilation_width, padding_value] = pair()?;
    Ok(BinaryConv2d {
        batch,
        size: [height, width],
        in_channels,
        out_channels,
        kernel: [kernel_height, kernel_width],
        stride: [stride_height, stride_width],
        padding: [padding_height, padding_width],
        dilation: [dilation_height, dilation_width],
        padding_value: match padding_value {
            0 => PaddingValue::Zero,
            1 => PaddingValue::Plus,
            2 => PaddingValue::Minus,
            _ => return Err(Failure::internal("unknown padding value")),
        },
    })
}

/// The float convolution of the same sizes, over images of `size` with `padding`.
fn float_geometry(
    geometry: &BinaryConv2d,
    size: [usize; 2],
    padding: [usize; 2],
) -> Outcome<Conv2dGeometry> {
    Ok(Conv2dGeometry::new(
        geometry.batch,
        size,
        geometry.in_channels,
        geometry.out_channels,
        geometry.kernel,
        Conv2dOptions {
            stride: geometry.stride,
            padding,
            dilation: geometry.dilation,
            groups: 1,
        },
    )?)
}

/// The next arguments: `surrogate, parameter`.
fn surrogate(arguments: &mut Arguments) -> Outcome<Surrogate> {
    let code = arguments.usize()?;
    Ok(Surrogate::from_code(code, arguments.f32()?)?)
}

fn rows(elements: usize, channels: usize) -> usize {
    elements / channels.max(1)
}

/// `[bits, stored?] binary_pack(x, shift?, channels, surrogate, parameter, keep)`: the signs of `x + shift`; with `keep` also what their
/// gradient needs.
fn pack(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (x, shift) = (arguments.slot()?, arguments.optional_slot()?);
    let channels = arguments.usize()?;
    let surrogate = surrogate(arguments)?;
    let keep = arguments.bool()?;
    let (x, shift) = (heap.f32(x)?, heap.optional_f32(shift)?);
    let rows = rows(x.len(), channels);
    let mut bits = heap.allocate(DType::Int32, rows * words_of(channels))?;
    pack_signs(x, shift, channels, bits.words_mut()?)?;
    let mut stored = None;
    if keep {
        let length = surrogate.stored_bytes(rows, channels);
        let mut buffer = heap.allocate(DType::Uint8, length)?;
        store_derivative(surrogate, x, shift, channels, buffer.u8_mut()?)?;
        stored = Some(buffer);
    }
    heap.put(arguments.output(0)?, bits);
    if let Some(stored) = stored {
        heap.put(arguments.output(1)?, stored);
    }
    Ok(())
}

/// `[signs] binary_unpack(bits, rows, channels)`: ±1 in float32.
fn unpack(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let bits = arguments.slot()?;
    let (rows, channels) = (arguments.usize()?, arguments.usize()?);
    let mut signs = heap.allocate_f32(checked_product("binary unpack", &[rows, channels])?)?;
    let geometry = BinaryConv2d::linear(rows, channels, 1);
    unpack_signs(&geometry, heap.get(bits)?.words()?, signs.f32_mut()?)?;
    heap.put(arguments.output(0)?, signs);
    Ok(())
}

/// `[inputGradient] binary_apply_derivative(gradient, stored, channels, surrogate, parameter)`.
fn derivative(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, stored) = (arguments.slot()?, arguments.slot()?);
    let channels = arguments.usize()?;
    let surrogate = surrogate(arguments)?;
    let gradient = heap.f32(gradient)?;
    let mut output = heap.allocate_f32(gradient.len())?;
    output.f32_mut()?.copy_from_slice(gradient);
    let stored = heap.get(stored)?.u8()?;
    apply_derivative(surrogate, stored, channels, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[scale] binary_mean_magnitude(weight, outChannels)`.
fn magnitude(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let weight = arguments.slot()?;
    let mut scale = heap.allocate_f32(arguments.usize()?)?;
    mean_magnitude(heap.f32(weight)?, scale.f32_mut()?)?;
    heap.put(arguments.output(0)?, scale);
    Ok(())
}

/// `scale · gain` for each output channel.
fn scale_and_gain(heap: &Heap, scale: usize, gain: Option<usize>) -> Outcome<Buffer> {
    let scale = heap.f32(scale)?;
    let mut product = heap.allocate_f32(scale.len())?;
    let values = product.f32_mut()?;
    values.copy_from_slice(scale);
    if let Some(gain) = heap.optional_f32(gain)? {
        for (value, gain) in values.iter_mut().zip(gain) {
            *value *= gain;
        }
    }
    Ok(product)
}

/// `[output] binary_conv2d_forward(bits, weight, scale, gain?, geometry …)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (bits, weight) = (arguments.slot()?, arguments.slot()?);
    let (scale, gain) = (arguments.slot()?, arguments.optional_slot()?);
    let geometry = geometry(arguments)?;
    let plan = geometry.plan()?;
    let mut packed = heap.allocate(DType::Int32, plan.weight_words())?;
    pack_weights(
        heap.f32(weight)?,
        plan.taps,
        geometry.in_channels,
        geometry.out_channels,
        packed.words_mut()?,
    )?;
    let scale = scale_and_gain(heap, scale, gain)?;
    let mut scratch = heap.allocate(DType::Int32, plan.scratch_words())?;
    let mut output = heap.allocate_f32(plan.output_length())?;
    binary_conv2d(
        &geometry,
        heap.get(bits)?.words()?,
        packed.words()?,
        Epilogue::Layer(Layer {
            function: LayerFunction {
                scale: scale.f32()?,
                normalize: None,
                activation: LayerActivation::None,
            },
            residual: None,
            output: Some(output.f32_mut()?),
            signs: None,
        }),
        scratch.words_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] binary_conv2d_backward_data(outputGradient, weight, scale, gain?, stored, surrogate, parameter, geometry …)`.
fn backward_data(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, weight) = (arguments.slot()?, arguments.slot()?);
    let (scale, gain) = (arguments.slot()?, arguments.optional_slot()?);
    let stored = arguments.slot()?;
    let surrogate = surrogate(arguments)?;
    let geometry = geometry(arguments)?;
    let float = float_geometry(&geometry, geometry.size, geometry.padding)?;
    let weight = heap.f32(weight)?;
    let scale = scale_and_gain(heap, scale, gain)?;
    let mut signs = heap.allocate_f32(weight.len())?;
    binarize(weight, scale.f32()?, signs.f32_mut()?)?;
    let mut input_gradient = heap.allocate_f32(float.input_length())?;
    conv2d_backward_data(
        &float,
        heap.f32(gradient)?,
        signs.f32()?,
        input_gradient.f32_mut()?,
    )?;
    apply_derivative(
        surrogate,
        heap.get(stored)?.u8()?,
        geometry.in_channels,
        input_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, input_gradient);
    Ok(())
}

/// `[gradient] binary_conv2d_backward_weights(bits, outputGradient, geometry …)`: of the product of gain, scale and signs.
fn backward_weights(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (bits, gradient) = (arguments.slot()?, arguments.slot()?);
    let geometry = geometry(arguments)?;
    let padded = geometry.plan()?.padded;
    let float = float_geometry(&geometry, padded, [0, 0])?;
    let mut images = heap.allocate_f32(float.input_length())?;
    unpack_signs(&geometry, heap.get(bits)?.words()?, images.f32_mut()?)?;
    let mut weight_gradient = heap.allocate_f32(float.weight_length())?;
    conv2d_backward_weights(
        &float,
        images.f32()?,
        heap.f32(gradient)?,
        weight_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, weight_gradient);
    Ok(())
}

/// `[weightGradient, gainGradient?] binary_weight_gradient(gradient, weight, scale, gain?, rule)`.
fn weight_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, weight) = (arguments.slot()?, arguments.slot()?);
    let (scale, gain) = (arguments.slot()?, arguments.optional_slot()?);
    let rule = WeightGradient::from_code(arguments.usize()?)?;
    let (weight, scale) = (heap.f32(weight)?, heap.f32(scale)?);
    let gain = heap.optional_f32(gain)?;
    let mut output = heap.allocate_f32(weight.len())?;
    let mut gain_gradient = gain.map(|gain| heap.allocate_f32(gain.len())).transpose()?;
    binary_weight_gradient(
        rule,
        weight,
        scale,
        gain,
        heap.f32(gradient)?,
        output.f32_mut()?,
        gain_gradient.as_mut().map(Buffer::f32_mut).transpose()?,
    )?;
    heap.put(arguments.output(0)?, output);
    if let Some(gain_gradient) = gain_gradient {
        heap.put(arguments.output(1)?, gain_gradient);
    }
    Ok(())
}
