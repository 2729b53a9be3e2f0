//! Binary networks: signs, binary convolution and its gradients, latent weights. Packed bits are int32 tensors.

use super::Family;
use crate::arguments::Arguments;
use crate::buffer::{Buffer, DType};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::binary::clipping::clip_units;
use evenkeel_kernels::binary::rprelu::{
    Rprelu, RpreluGradients, rprelu_backward as rprelu_gradients, rprelu_forward,
};
use evenkeel_kernels::binary::standardize::{
    Standardization, standardize as standardize_weight,
    standardize_backward as standardize_gradients,
};
use evenkeel_kernels::binary::surrogate::{Surrogate, apply_derivative, store_derivative};
use evenkeel_kernels::binary::weights::{
    WeightGradient, binarize, binary_weight_gradient, mean_magnitude,
};
use evenkeel_kernels::binary::{
    BinaryConv2d, Epilogue, Layer, LayerActivation, LayerFunction, NextSigns, Normalize,
    PaddingValue, Residual, Thresholds, binary_conv2d, find_thresholds, pack_signs, pack_weights,
    threshold_words, unpack_signs, words_of,
};
use evenkeel_kernels::conv::{
    Conv2dGeometry, Conv2dOptions, conv2d_backward_data, conv2d_backward_weights,
};

pub const OPERATIONS: Family = &[
    ("binary_pack", pack),
    ("binary_unpack", unpack),
    ("binary_apply_derivative", derivative),
    ("binary_mean_magnitude", magnitude),
    ("binary_conv2d_forward", forward),
    ("binary_layer", layer),
    ("binary_layer_thresholds", layer_thresholds),
    ("binary_layer_signs", layer_signs),
    ("binary_conv2d_backward_data", backward_data),
    ("binary_conv2d_backward_weights", backward_weights),
    ("binary_weight_gradient", weight_gradient),
    ("standardize", standardize),
    ("standardize_backward", standardize_backward),
    ("rprelu", rprelu),
    ("rprelu_backward", rprelu_backward),
    ("clip_units", clip),
];

/// The next arguments: `batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, strideHeight, strideWidth,
/// paddingHeight, paddingWidth, dilationHeight, dilationWidth, paddingValue` (0 zero, 1 plus, 2 minus).
fn geometry(arguments: &mut Arguments) -> Outcome<BinaryConv2d> {
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
    let mut signs = heap.allocate_f32(rows * channels)?;
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

/// The next arguments: `scale, (center, factor, offset)?, activation (0 none, 1 ReLU, 2 PReLU, 3 RPReLU), shiftIn?, slope?, shiftOut?`.
fn layer_function<'a>(heap: &'a Heap, arguments: &mut Arguments) -> Outcome<LayerFunction<'a>> {
    let scale = heap.f32(arguments.slot()?)?;
    let mut next = || heap.optional_f32(arguments.optional_slot()?);
    let normalize = match (next()?, next()?, next()?) {
        (None, None, None) => None,
        (Some(center), Some(factor), Some(offset)) => Some(Normalize {
            center,
            factor,
            offset,
        }),
        _ => return Err(Failure::internal("center, factor and offset go together")),
    };
    let activation = arguments.usize()?;
    let mut next = || heap.optional_f32(arguments.optional_slot()?);
    let activation = match (activation, next()?, next()?, next()?) {
        (0, None, None, None) => LayerActivation::None,
        (1, None, None, None) => LayerActivation::Relu,
        (2, None, Some(slope), None) => LayerActivation::Prelu(slope),
        (3, Some(shift_in), Some(slope), Some(shift_out)) => LayerActivation::Rprelu(Rprelu {
            shift_in,
            slope,
            shift_out,
        }),
        _ => return Err(Failure::internal("unknown activation of a binary layer")),
    };
    Ok(LayerFunction {
        scale,
        normalize,
        activation,
    })
}

/// `[output?, signs?] binary_layer(bits, packedWeight, residual?, residualChannels, cut?, wantOutput, function …, geometry …)`: signs
/// where there is a cut, which come last.
fn layer(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (bits, weight) = (arguments.slot()?, arguments.slot()?);
    let (residual, channels) = (arguments.optional_slot()?, arguments.usize()?);
    let (cut, wants_output) = (arguments.optional_slot()?, arguments.bool()?);
    let function = layer_function(heap, arguments)?;
    let geometry = geometry(arguments)?;
    let plan = geometry.plan()?;
    let mut scratch = heap.allocate(DType::Int32, plan.scratch_words())?;
    let mut output = match wants_output {
        true => Some(heap.allocate_f32(plan.output_length())?),
        false => None,
    };
    let mut signs = match cut {
        Some(_) => Some(heap.allocate(DType::Int32, plan.output_words())?),
        None => None,
    };
    let residual = heap
        .optional_f32(residual)?
        .map(|values| Residual { values, channels });
    let next = match (heap.optional_f32(cut)?, &mut signs) {
        (Some(cut), Some(signs)) => Some(NextSigns {
            cut,
            output: signs.words_mut()?,
        }),
        _ => None,
    };
    binary_conv2d(
        &geometry,
        heap.get(bits)?.words()?,
        heap.get(weight)?.words()?,
        Epilogue::Layer(Layer {
            function,
            residual,
            output: output.as_mut().map(Buffer::f32_mut).transpose()?,
            signs: next,
        }),
        scratch.words_mut()?,
    )?;
    for (index, buffer) in output.into_iter().chain(signs).enumerate() {
        heap.put(arguments.output(index)?, buffer);
    }
    Ok(())
}

/// `[thresholds] binary_layer_thresholds(cut, limit, function …)`: for [`layer_signs`], of sums of up to `limit` products.
fn layer_thresholds(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let cut = heap.f32(arguments.slot()?)?;
    let limit = i32::try_from(arguments.usize()?)
        .map_err(|_| Failure::internal("too many products for a sum"))?;
    let function = layer_function(heap, arguments)?;
    let mut words = heap.allocate(DType::Int32, threshold_words(cut.len()))?;
    find_thresholds(function, cut, limit, words.words_mut()?)?;
    heap.put(arguments.output(0)?, words);
    Ok(())
}

/// `[signs] binary_layer_signs(bits, packedWeight, thresholds, geometry …)`.
fn layer_signs(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (bits, weight) = (arguments.slot()?, arguments.slot()?);
    let thresholds = arguments.slot()?;
    let geometry = geometry(arguments)?;
    let plan = geometry.plan()?;
    let mut scratch = heap.allocate(DType::Int32, plan.scratch_words())?;
    let mut signs = heap.allocate(DType::Int32, plan.output_words())?;
    let thresholds = heap.get(thresholds)?.words()?;
    binary_conv2d(
        &geometry,
        heap.get(bits)?.words()?,
        heap.get(weight)?.words()?,
        Epilogue::Signs {
            thresholds: Thresholds::from_words(geometry.out_channels, thresholds)?,
            output: signs.words_mut()?,
        },
        scratch.words_mut()?,
    )?;
    heap.put(arguments.output(0)?, signs);
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

/// The next arguments: `scaled, epsilon, gamma`.
fn standardization(arguments: &mut Arguments) -> Outcome<Standardization> {
    let scaled = arguments.bool()?;
    let (epsilon, gamma) = (arguments.f64()?, arguments.f64()?);
    Ok(if scaled {
        Standardization::Scaled { epsilon, gamma }
    } else {
        Standardization::Plain { epsilon }
    })
}

/// `[output] standardize(weight, gain?, outChannels, scaled, epsilon, gamma)`.
fn standardize(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (weight, gain) = (arguments.slot()?, arguments.optional_slot()?);
    let columns = arguments.usize()?;
    let form = standardization(arguments)?;
    let (weight, gain) = (heap.f32(weight)?, heap.optional_f32(gain)?);
    let mut output = heap.allocate_f32(weight.len())?;
    standardize_weight(form, weight, gain, columns, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[weightGradient, gainGradient?] standardize_backward(gradient, weight, gain?, outChannels, scaled, epsilon, gamma)`.
fn standardize_backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, weight) = (arguments.slot()?, arguments.slot()?);
    let gain = arguments.optional_slot()?;
    let columns = arguments.usize()?;
    let form = standardization(arguments)?;
    let (weight, gain) = (heap.f32(weight)?, heap.optional_f32(gain)?);
    let mut output = heap.allocate_f32(weight.len())?;
    let mut gain_gradient = gain.map(|gain| heap.allocate_f32(gain.len())).transpose()?;
    standardize_gradients(
        form,
        weight,
        gain,
        columns,
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

/// `[output] rprelu(x, shiftIn, slope, shiftOut)`.
fn rprelu(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let x = heap.f32(arguments.slot()?)?;
    let parameters = Rprelu {
        shift_in: heap.f32(arguments.slot()?)?,
        slope: heap.f32(arguments.slot()?)?,
        shift_out: heap.f32(arguments.slot()?)?,
    };
    let mut output = heap.allocate_f32(x.len())?;
    rprelu_forward(x, parameters, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient, shiftInGradient, slopeGradient, shiftOutGradient] rprelu_backward(gradient, x, shiftIn, slope, shiftOut)`.
fn rprelu_backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = heap.f32(arguments.slot()?)?;
    let x = heap.f32(arguments.slot()?)?;
    let parameters = Rprelu {
        shift_in: heap.f32(arguments.slot()?)?,
        slope: heap.f32(arguments.slot()?)?,
        shift_out: heap.f32(arguments.slot()?)?,
    };
    let channels = parameters.slope.len();
    let mut input_gradient = heap.allocate_f32(x.len())?;
    let mut shift_in = heap.allocate_f32(channels)?;
    let mut slope = heap.allocate_f32(channels)?;
    let mut shift_out = heap.allocate_f32(channels)?;
    rprelu_gradients(
        x,
        parameters,
        gradient,
        input_gradient.f32_mut()?,
        RpreluGradients {
            shift_in: shift_in.f32_mut()?,
            slope: slope.f32_mut()?,
            shift_out: shift_out.f32_mut()?,
        },
    )?;
    let outputs = [input_gradient, shift_in, slope, shift_out];
    for (index, output) in outputs.into_iter().enumerate() {
        heap.put(arguments.output(index)?, output);
    }
    Ok(())
}

/// `clip_units(gradient, weight, units, clipping, epsilon)`: the gradient is clipped in place.
fn clip(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, weight) = (arguments.slot()?, arguments.slot()?);
    let units = arguments.usize()?;
    let (clipping, epsilon) = (arguments.f64()?, arguments.f64()?);
    heap.update([gradient], |heap, [gradient]| {
        let weight = heap.f32(weight)?;
        Ok(clip_units(
            weight,
            gradient.f32_mut()?,
            units,
            clipping,
            epsilon,
        )?)
    })
}
