//! Layers of a packed binary network: from bits to bits, with what lies between two binary convolutions folded in.

use super::Family;
use super::binary::geometry;
use crate::arguments::Arguments;
use crate::buffer::{Buffer, DType};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::binary::rprelu::Rprelu;
use evenkeel_kernels::binary::{
    Epilogue, Layer, LayerActivation, LayerFunction, NextSigns, Normalize, Residual, Thresholds,
    binary_conv2d, find_thresholds, threshold_words,
};

pub const OPERATIONS: Family = &[
    ("binary_layer", layer),
    ("binary_layer_thresholds", thresholds),
    ("binary_layer_signs", signs),
];

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

/// `[thresholds] binary_layer_thresholds(cut, limit, function …)`: for [`signs`], of sums of up to `limit` products.
fn thresholds(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
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
fn signs(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
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
