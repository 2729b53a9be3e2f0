//! Standardization of weights.

use super::Family;
use crate::arguments::Arguments;
use crate::buffer::Buffer;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::binary::standardize::{
    Standardization, standardize as standardize_weight,
    standardize_backward as standardize_gradients,
};

pub const OPERATIONS: Family = &[
    ("standardize", standardize),
    ("standardize_backward", standardize_backward),
];

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
